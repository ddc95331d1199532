"""Where mus keeps its things when nobody says where: known to who has no time for `mus.config`, or
for pathlib."""

from __future__ import annotations

import os


def default_data_dir() -> str:
    """`$XDG_DATA_HOME/mus`, or `~/.local/share/mus`."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(home, "mus")


def absolute(folder: str | os.PathLike[str]) -> str:
    """A folder as settings have it, whether it exists or not."""
    return os.path.abspath(os.path.expanduser(folder))
