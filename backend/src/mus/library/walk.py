"""Walk a library's folder: what is there, what is passed over and why. Blocking: runs in a thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import NamedTuple, Self

from mus.library.audio_formats import AUDIO_SUFFIXES
from mus.library.file_reading import signed_64

#: A longer path does not fit into an index row of PostgreSQL (2,704 bytes); Linux itself ends at 4,096.
MAX_PATH_BYTES = 2600
#: Folder of deleted files, in each root that mus can write to.
TRASH_FOLDER = b".mus-trash"
#: A file of this name tells scanners to leave its folder alone (Android's convention).
NO_MEDIA = b".nomedia"
#: What NAS systems put beside music for themselves.
_SYSTEM_FOLDERS = frozenset({b"@eadir", b"#recycle", b"#snapshot", b"$recycle.bin", b"lost+found"})
#: Endings and beginnings that programs give a file while they still write it.
_PARTIAL_SUFFIXES = (
    b".part",
    b".partial",
    b".crdownload",
    b".download",
    b".tmp",
    b".temp",
    b".!qb",
    b".!ut",
    b".aria2",
    b"~",
)


_DOT = ord(".")
#: Size, mtime_ns, ctime_ns, inode and device of a file.
Version = tuple[int, int, int, int, int]
_version: Callable[[os.stat_result], Version] = attrgetter(
    "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev"
)
_lstat: Callable[[os.DirEntry[bytes]], os.stat_result] = partial(os.DirEntry.stat, follow_symlinks=False)


class FoundFile(NamedTuple):
    """An audio file and the version of it. `path` is relative to the root; see `FileStat` for the numbers."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The audio files of a folder: side by side their paths, and their versions as the system tells them.

    With thousands of files, of which few differ from what is known, most are never made a FoundFile: that, and to
    compare it, takes longer than to compare the two lists with what is known.
    """

    paths: list[bytes]
    #: Inode and device as unsigned numbers, unlike everywhere else.
    versions: list[Version]

    @classmethod
    def of(cls, files: Iterable[FoundFile]) -> Self:
        files = list(files)
        return cls([file.path for file in files], [file[1:] for file in files])

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[FoundFile]:
        for path, (size, mtime_ns, ctime_ns, inode, device) in zip(self.paths, self.versions, strict=True):
            yield FoundFile(path, size, mtime_ns, ctime_ns, signed_64(inode), signed_64(device))


@dataclass(slots=True)
class WalkReport:
    """What the walk noticed besides files."""

    #: Why how many files or folders were passed over.
    skipped: Counter[str] = field(default_factory=Counter)
    #: Folders that could not be listed, with the reason: nothing below them is known to be missing.
    unlisted: dict[bytes, str] = field(default_factory=dict)
    #: Device of each folder that was listed.
    folder_devices: dict[bytes, int] = field(default_factory=dict)


def skip_reason(name: bytes, *, is_dir: bool) -> str | None:
    """Why a file or folder of this name is passed over; None if it is not."""
    if name.startswith(b"."):
        return "hidden"
    lower = name.lower()
    if is_dir:
        return "system folder" if lower in _SYSTEM_FOLDERS else None
    if lower.endswith(_PARTIAL_SUFFIXES):
        return "partial download"
    if lower[lower.rfind(b".") :] not in AUDIO_SUFFIXES:
        return "not audio"
    return None


def walk(
    root: bytes, start: bytes, report: WalkReport, *, stopped: Callable[[], bool] = lambda: False
) -> Iterator[FoundFiles]:
    """Yield the audio files below `root`/`start`, a folder at a time; `report` fills up meanwhile.

    Links are never followed: what they lead to inside the root is listed in its own place, and what lies outside
    is none of ours. So no loop can catch the walk. Ends early once `stopped()`.
    """
    pending = [start]
    while pending and not stopped():
        folder = pending.pop()
        place = os.path.join(root, folder)
        try:
            with os.scandir(place) as entries:
                listed = list(entries)
            report.folder_devices[folder] = signed_64(os.stat(place).st_dev)
        except OSError as error:
            report.unlisted[folder] = error.strerror or str(error)
            continue
        prefix = folder + b"/" if folder else b""
        room = MAX_PATH_BYTES - len(prefix)
        unreadable: dict[os.DirEntry[bytes], OSError] = {}
        try:
            music, versions = _music(listed, room)
        except OSError:
            music, versions = _music_one_by_one(listed, room, unreadable)
        if len(music) < len(listed):
            told = {*music, *unreadable}
            others = [entry for entry in listed if entry not in told]
            if any(entry.name == NO_MEDIA for entry in others):
                report.skipped[".nomedia folder"] += 1
                continue
            for entry in others:
                try:
                    _sort(entry, prefix, pending, report)
                except OSError as error:
                    unreadable[entry] = error
            for entry, trouble in unreadable.items():
                # Gone since the listing, or on a failing disk: nothing is concluded from it.
                report.skipped[f"unreadable: {trouble.strerror}"] += 1
                report.unlisted[prefix + entry.name] = trouble.strerror or str(trouble)
        if music:
            yield FoundFiles([prefix + entry.name for entry in music], versions)


def _music(entries: Iterable[os.DirEntry[bytes]], room: int) -> tuple[list[os.DirEntry[bytes]], list[Version]]:
    """What of a folder is audio files whose names are no longer than `room`, and their versions.

    Nearly every entry is music, and half of a scan without changes is spent here: one pass of Python for all
    entries, the rest in the interpreter's own loops. What ends as audio files do is no partial download.
    """
    music = [
        entry
        for entry in entries
        if (name := entry.name)[name.rfind(b".") :].lower() in AUDIO_SUFFIXES
        and name[0] != _DOT
        and len(name) <= room
        and entry.is_file(follow_symlinks=False)
    ]
    return music, list(map(_version, map(_lstat, music)))


def _music_one_by_one(
    entries: Iterable[os.DirEntry[bytes]], room: int, unreadable: dict[os.DirEntry[bytes], OSError]
) -> tuple[list[os.DirEntry[bytes]], list[Version]]:
    """As `_music`, for a folder in which not all can be told: what cannot is `unreadable` then, with the reason."""
    music: list[os.DirEntry[bytes]] = []
    versions: list[Version] = []
    for entry in entries:
        try:
            one, its_version = _music([entry], room)
        except OSError as error:
            unreadable[entry] = error
        else:
            music += one
            versions += its_version
    return music, versions


def _sort(entry: os.DirEntry[bytes], prefix: bytes, folders: list[bytes], report: WalkReport) -> None:
    """What is no audio file: a folder to be walked, or something to be passed over."""
    name = entry.name
    if name == TRASH_FOLDER and not prefix:
        return  # our own: nothing that somebody put there was passed over
    is_dir = entry.is_dir(follow_symlinks=False)
    is_link = entry.is_symlink()
    reason = skip_reason(name, is_dir=is_dir or is_link)
    if reason is not None:
        report.skipped[reason] += 1
    elif is_link:
        report.skipped["link"] += 1
    elif is_dir:
        folders.append(prefix + name)
    elif not entry.is_file(follow_symlinks=False):
        report.skipped["not a regular file"] += 1
    else:
        report.skipped["path too long"] += 1


def found_file(path: bytes, stat: os.stat_result) -> FoundFile:
    return FoundFile(
        path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, signed_64(stat.st_ino), signed_64(stat.st_dev)
    )
