"""What lies in folders: names, kinds, and the versions of audio files, as the system tells them.

Half of a scan that finds nothing new is spent here. So it is compiled, as `_listing.c`, where mus is installed with
a C compiler at hand: 20,000 files took 45 ms in place of 80, and nearly all of that leaves the interpreter to
others. Else it is this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

from mus.library.file_reading import FileStat

#: Which version of a file this is: the numbers of its `FileStat` in decimal, with commas between them. A scan that
#: finds nothing new compares no more than these.
Version = bytes
#: A folder, a link, a regular file, anything else.
Kind = Literal["d", "l", "f", "o"]
#: Of one folder: its device; the paths of its audio files and beside them their versions; the paths of what else
#: lies there, with its kind; and of what could not be looked at, with the errno.
Listing = tuple[int, list[bytes], list[Version], list[tuple[bytes, Kind]], list[tuple[bytes, int]]]

_DOT = ord(".")
_lstat: Callable[[os.DirEntry[bytes]], os.stat_result] = partial(os.DirEntry.stat, follow_symlinks=False)


def version_of(stat: FileStat) -> Version:
    return b"%d,%d,%d,%d,%d" % stat


def version_numbers(version: Version) -> FileStat:
    return FileStat._make(map(int, version.split(b",")))


def plainly_listed(
    root: bytes, prefixes: Sequence[bytes], suffixes: Sequence[bytes], most: int
) -> list[Listing | int]:
    """List folders below `root`, each given as its path with a slash, or as nothing. Of one that cannot be listed
    the errno is told.

    Audio files are regular files with a name that ends with one of `suffixes`, in upper or lower case, and does not
    begin with a dot, and a path no longer than `most` bytes. All paths are relative to `root`; links are not
    followed.
    """
    wanted = frozenset(suffixes)
    return [_listing(root, prefix, wanted, most) for prefix in prefixes]


def _listing(root: bytes, prefix: bytes, suffixes: frozenset[bytes], most: int) -> Listing | int:
    place = os.path.join(root, prefix)
    try:
        with os.scandir(place) as entries:
            found = list(entries)
        device = os.stat(place).st_dev
    except OSError as error:
        return error.errno or errno.EIO
    room = most - len(prefix)
    unreadable: list[tuple[bytes, int]] = []
    told: set[os.DirEntry[bytes]] = set()
    try:
        music, versions = _music(found, suffixes, room)
    except OSError:
        music, versions = [], []
        for entry in found:
            try:
                one, its_version = _music([entry], suffixes, room)
            except OSError as error:
                unreadable.append((prefix + entry.name, error.errno or errno.EIO))
                told.add(entry)
            else:
                music += one
                versions += its_version
    others: list[tuple[bytes, Kind]] = []
    if len(music) < len(found):
        told.update(music)
        for entry in found:
            if entry not in told:
                try:
                    others.append((prefix + entry.name, _kind(entry)))
                except OSError as error:
                    unreadable.append((prefix + entry.name, error.errno or errno.EIO))
    return device, [prefix + entry.name for entry in music], versions, others, unreadable


def _music(
    entries: Iterable[os.DirEntry[bytes]], suffixes: frozenset[bytes], room: int
) -> tuple[list[os.DirEntry[bytes]], list[Version]]:
    """What of a folder is audio files, and their versions: one pass of Python for all entries, of which nearly all
    are music, the rest in the interpreter's own loops."""
    music = [
        entry
        for entry in entries
        if (name := entry.name)[name.rfind(b".") :].lower() in suffixes
        and name[0] != _DOT
        and len(name) <= room
        and entry.is_file(follow_symlinks=False)
    ]
    return music, [version_of(FileStat.of(_lstat(entry))) for entry in music]


def _kind(entry: os.DirEntry[bytes]) -> Kind:
    if entry.is_symlink():
        return "l"
    if entry.is_dir(follow_symlinks=False):
        return "d"
    return "f" if entry.is_file(follow_symlinks=False) else "o"


try:
    from mus.library._listing import listed as listed  # for others
except ImportError:  # installed without a C compiler
    listed = plainly_listed
