"""Where mus keeps its things when nobody says where: known to who has no time for `mus.config`."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/mus`, or `~/.local/share/mus`."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "mus"


def absolute(folder: Path) -> Path:
    """A folder as settings have it, whether it exists or not."""
    return Path(os.path.abspath(folder.expanduser()))
