"""Walk a library's folder: what is there, what is passed over and why. Blocking: runs in a thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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


class FoundFile(NamedTuple):
    """An audio file and the version of it. `path` is relative to the root; see `FileStat` for the numbers."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


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
    if os.path.splitext(lower)[1] not in AUDIO_SUFFIXES:
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
        files: list[FoundFile] = []
        folders: list[bytes] = []
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                listed = list(entries)
            report.folder_devices[folder] = signed_64(os.stat(os.path.join(root, folder)).st_dev)
        except OSError as error:
            report.unlisted[folder] = error.strerror or str(error)
            continue
        if any(entry.name == NO_MEDIA for entry in listed):
            report.skipped[".nomedia folder"] += 1
            continue
        prefix = folder + b"/" if folder else b""
        for entry in listed:
            try:
                _sort(entry, prefix, files, folders, report)
            except OSError as error:
                # Gone since the listing, or on a failing disk: nothing is concluded from it.
                report.skipped[f"unreadable: {error.strerror}"] += 1
                report.unlisted[prefix + entry.name] = error.strerror or str(error)
        pending += folders
        if files:
            yield files


def _sort(
    entry: os.DirEntry[bytes],
    prefix: bytes,
    files: list[FoundFile],
    folders: list[bytes],
    report: WalkReport,
) -> None:
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
    elif len(prefix) + len(name) > MAX_PATH_BYTES:
        report.skipped["path too long"] += 1
    else:
        files.append(found_file(prefix + name, entry.stat(follow_symlinks=False)))


def found_file(path: bytes, stat: os.stat_result) -> FoundFile:
    return FoundFile(
        path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, signed_64(stat.st_ino), signed_64(stat.st_dev)
    )
