"""Walk a library's folder: what is there, what is passed over and why. Blocking: runs in a thread."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from mus.library.audio_formats import AUDIO_SUFFIXES
from mus.library.file_reading import FileStat, signed_64
from mus.library.listing import Kind, Version, listed, version_numbers, version_of

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


#: Folders of one listing: enough that what it costs to begin one does not show, few enough to stop soon.
_AT_ONCE = 64
_SUFFIXES = tuple(AUDIO_SUFFIXES)


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
    """The audio files of some folders: side by side their paths and their versions.

    With thousands of files, of which few differ from what is known, most are never made a FoundFile: that, and to
    compare it, takes longer than to compare the two lists with what is known.
    """

    paths: list[bytes]
    versions: list[Version]

    @classmethod
    def of(cls, files: Iterable[FoundFile]) -> Self:
        files = list(files)
        return cls([file.path for file in files], [version_of(FileStat(*file[1:])) for file in files])

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[FoundFile]:
        return map(_found, self.paths, self.versions)


def _found(path: bytes, version: Version) -> FoundFile:
    return FoundFile(path, *version_numbers(version))


class WalkDigest(NamedTuple):
    """All that a walk found, told from any other by digests of the paths and versions, in the walk's order."""

    #: Of each of the walk's parts, one after the other: 25 kB for a million files.
    digests: bytes
    files: int


class Digested:
    """Passes on what a walk finds; at its end `digest` tells it from others. A twentieth of the walk's time."""

    def __init__(self, found: Iterable[FoundFiles]) -> None:
        self._found = found
        self._digests = bytearray()
        self._count = 0

    def __iter__(self) -> Iterator[FoundFiles]:
        for files in self._found:
            # No path and no version has a NUL in it, nor is one empty.
            text = b"\0".join((*files.paths, b"", *files.versions))
            self._digests += hashlib.blake2b(text, digest_size=24).digest()
            self._count += len(files)
            yield files

    def digest(self) -> WalkDigest:
        """Of what was passed on so far."""
        return WalkDigest(bytes(self._digests), self._count)

    def begins(self, whole: WalkDigest) -> bool:
        """Whether what was passed on so far is how `whole` begins."""
        return whole.digests.startswith(self._digests)


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
    """Yield the audio files below `root`/`start`, those of some folders at a time, of the same ones each time;
    `report` fills up meanwhile.

    Links are never followed: what they lead to inside the root is listed in its own place, and what lies outside
    is none of ours. So no loop can catch the walk. Ends early once `stopped()`.
    """
    pending = [start]
    while pending and not stopped():
        folders, pending = pending[-_AT_ONCE:], pending[:-_AT_ONCE]
        prefixes = [folder + b"/" if folder else b"" for folder in folders]
        listings = listed(root, prefixes, _SUFFIXES, MAX_PATH_BYTES)
        found = FoundFiles([], [])
        for folder, prefix, listing in zip(folders, prefixes, listings, strict=True):
            if isinstance(listing, int):
                report.unlisted[folder] = os.strerror(listing)
                continue
            device, music, versions, others, unreadable = listing
            report.folder_devices[folder] = signed_64(device)
            if others and any(path == prefix + NO_MEDIA for path, _ in others):
                report.skipped[".nomedia folder"] += 1
                continue
            for path, kind in others:
                _sort(path, kind, prefix, pending, report)
            for path, error in unreadable:
                # Gone since the listing, or on a failing disk: nothing is concluded from it.
                report.skipped[f"unreadable: {os.strerror(error)}"] += 1
                report.unlisted[path] = os.strerror(error)
            found.paths.extend(music)
            found.versions.extend(versions)
        if found:
            yield found


def _sort(path: bytes, kind: Kind, prefix: bytes, folders: list[bytes], report: WalkReport) -> None:
    """What is no audio file: a folder to be walked, or something to be passed over."""
    if path == TRASH_FOLDER:
        return  # our own: nothing that somebody put there was passed over
    reason = skip_reason(path[len(prefix) :], is_dir=kind in {"d", "l"})
    if reason is not None:
        report.skipped[reason] += 1
    elif kind == "l":
        report.skipped["link"] += 1
    elif kind == "d":
        folders.append(path)
    elif kind != "f":
        report.skipped["not a regular file"] += 1
    else:
        report.skipped["path too long"] += 1


def found_file(path: bytes, stat: os.stat_result) -> FoundFile:
    return FoundFile(path, *FileStat.of(stat))
