"""What little of the settings is known to who has no time for `mus.config`, or for pathlib: what is in the
environment, and where mus keeps its things when nobody says where."""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """The environment, with names in capitals: those of settings may be written in any case."""
    return {name.upper(): value for name, value in os.environ.items()}


def default_data_dir() -> str:
    """`$XDG_DATA_HOME/mus`, or `~/.local/share/mus`."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(home, "mus")


def absolute(folder: str | os.PathLike[str]) -> str:
    """A folder as settings have it, whether it exists or not."""
    return os.path.abspath(os.path.expanduser(folder))
