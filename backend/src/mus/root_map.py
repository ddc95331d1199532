"""Where the libraries' folders are on this machine.

Machines that share a database may have the same music mounted in different places. The database has one root for
each library, the *stored* one; `MUS_ROOT_MAP` says where that is *here*:

    MUS_ROOT_MAP=/srv/music=/mnt/nas/music,/srv/talks=/mnt/nas/talks

A `,`, `=` or `%` inside a path is written `%2C`, `%3D` or `%25`; bytes that are not UTF-8 may be written so too,
as mus itself shows them.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from urllib.parse import unquote_to_bytes


class RootMap:
    """Stored roots with the folders that they are on this machine. What it does not name is itself."""

    def __init__(self, here: Mapping[bytes, bytes]) -> None:
        self._here = dict(here)
        self._stored = {folder: root for root, folder in self._here.items()}

    def here(self, stored: bytes) -> bytes:
        """The folder on this machine of a stored root."""
        return self._here.get(os.path.normpath(stored), stored)

    def stored(self, here: bytes) -> bytes:
        """The root as every machine knows it, of a folder on this one; links to the folder count as the folder."""
        for folder, root in self._stored.items():
            if os.path.realpath(folder) == os.path.realpath(here):
                return root
        return here

    @property
    def stored_roots(self) -> frozenset[bytes]:
        """The roots that the map names."""
        return frozenset(self._here)


@cache
def parsed_root_map(text: str) -> RootMap:
    """Read `STORED=HERE,STORED=HERE`; an empty text maps nothing. Raises ValueError that says what is wrong."""
    here: dict[bytes, bytes] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        if pair.count("=") != 1:
            raise ValueError(
                f"{pair!r} is not STORED=HERE; a comma, = or % inside a path is written %2C, %3D or %25"
            )
        stored, folder = (_path(part) for part in pair.split("="))
        if b"\0" in stored + folder:
            raise ValueError(f"{pair!r} has a NUL, which no path has")
        if not os.path.isabs(stored) or not os.path.isabs(folder):
            raise ValueError(f"{pair!r} must name two absolute paths")
        stored, folder = os.path.normpath(stored), os.path.normpath(folder)
        if stored in here or folder in here.values():
            raise ValueError(f"{pair!r} names a folder that another pair has named already")
        here[stored] = folder
    return RootMap(here)


def _path(text: str) -> bytes:
    return unquote_to_bytes(os.fsencode(text))
