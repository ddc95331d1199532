"""Walk a library's folder: what is there, what is passed over and why. Blocking: runs in a thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

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


#: Numbers from here on are negative as signed ones (`signed_64`).
_SIGN = 1 << 63
_DOT = ord(".")


class FoundFile(NamedTuple):
    """An audio file and the version of it. `path` is relative to the root; see `FileStat` for the numbers."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


#: A FoundFile of a tuple of its fields, in a third of the time that its own constructor takes.
_found: Callable[[tuple[bytes, int, int, int, int, int]], FoundFile] = partial(tuple.__new__, FoundFile)


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
) -> Iterator[list[FoundFile]]:
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
            device = report.folder_devices[folder] = signed_64(os.stat(place).st_dev)
        except OSError as error:
            report.unlisted[folder] = error.strerror or str(error)
            continue
        prefix = folder + b"/" if folder else b""
        room = MAX_PATH_BYTES - len(prefix)
        files: list[FoundFile] = []
        others: list[os.DirEntry[bytes]] = []
        unreadable: list[tuple[bytes, OSError]] = []
        for entry in listed:
            name = entry.name
            try:
                # Nearly every entry is music: half of a scan without changes is spent in these lines. What ends as
                # audio files do is no partial download.
                if (
                    name[name.rfind(b".") :].lower() not in AUDIO_SUFFIXES
                    or name[0] == _DOT
                    or len(name) > room
                    or not entry.is_file(follow_symlinks=False)
                ):
                    others.append(entry)
                    continue
                found = entry.stat(follow_symlinks=False)
            except OSError as error:
                unreadable.append((name, error))
                continue
            inode, on = found.st_ino, found.st_dev
            files.append(
                _found(
                    (
                        prefix + name,
                        found.st_size,
                        found.st_mtime_ns,
                        found.st_ctime_ns,
                        inode if inode < _SIGN else signed_64(inode),
                        on if on == device else signed_64(on),
                    )
                )
            )
        if any(entry.name == NO_MEDIA for entry in others):
            report.skipped[".nomedia folder"] += 1
            continue
        for entry in others:
            try:
                _sort(entry, prefix, pending, report)
            except OSError as error:
                unreadable.append((entry.name, error))
        for name, trouble in unreadable:
            # Gone since the listing, or on a failing disk: nothing is concluded from it.
            report.skipped[f"unreadable: {trouble.strerror}"] += 1
            report.unlisted[prefix + name] = trouble.strerror or str(trouble)
        if files:
            yield files


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
