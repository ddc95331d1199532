"""Files that arrive together: each is checked and waits, hidden, until all are there; then all take their places.

They lie below the root as they are to lie in it, in a folder of their batch. Nothing else is stored about them.
Blocking.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from mus.library.beside import UPLOAD_FOLDER, UPLOAD_PREFIX, ChangedMeanwhileError, opened_folder
from mus.library.file_reading import FileStat
from mus.library.moves import move, name_in_the_way
from mus.library.paths import shown

#: Names of batches, as whoever uploads makes them up.
BATCH_PATTERN = r"^[A-Za-z0-9_-]{8,64}$"
#: Of one batch.
MOST_FILES = 5000
_PREFIX = UPLOAD_PREFIX + b"batch-"
_FOLDER = re.compile(re.escape(_PREFIX) + BATCH_PATTERN.strip("^$").encode())


class StagedFile(NamedTuple):
    place: bytes
    size: int


class NotPlacedError(Exception):
    """One of the files could not go to its place: which, and why, an OSError or a ChangedMeanwhileError."""

    def __init__(self, place: bytes, reason: Exception) -> None:
        super().__init__(shown(place))
        self.place, self.reason = place, reason


def staged_path(batch: str, place: bytes = b"") -> bytes:
    """Where a file of a batch waits, relative to the root; without a place, the folder of them all."""
    return os.path.join(UPLOAD_FOLDER, _PREFIX + batch.encode("ascii"), place).rstrip(b"/")


def staged_files(root: bytes, batch: str) -> list[StagedFile]:
    """Those of a batch that wait, by their places; none where there is no such batch. Raises OSError."""
    return sorted(_found(root, staged_path(batch), b""))


def _found(root: bytes, folder: bytes, place: bytes) -> Iterator[StagedFile]:
    try:
        with opened_folder(root, os.path.join(folder, place)) as descriptor:
            names = [
                (os.fsencode(name), os.stat(name, dir_fd=descriptor, follow_symlinks=False))
                for name in os.listdir(descriptor)
            ]
    except FileNotFoundError:
        return
    for name, found in names:
        if stat.S_ISDIR(found.st_mode):
            yield from _found(root, folder, os.path.join(place, name))
        elif stat.S_ISREG(found.st_mode):
            yield StagedFile(os.path.join(place, name), found.st_size)


def places_taken(root: bytes, places: Sequence[bytes]) -> list[bytes]:
    """Which of the places are taken, or have a name that some file systems take for a taken one."""
    return [place for place in places if name_in_the_way(root, place) is not None]


def place_all(root: bytes, batch: str, places: Sequence[bytes]) -> None:
    """Move all files of the batch to their places; those that an earlier attempt has moved are there already.

    Raises NotPlacedError when one cannot go: those before it have gone, until `take_back`.
    """
    for place in places:
        try:
            _place(root, staged_path(batch, place), place)
        except (OSError, ChangedMeanwhileError) as error:
            raise NotPlacedError(place, error) from error


def take_back(root: bytes, batch: str, places: Sequence[bytes]) -> None:
    """Move those that have gone to their places back to where they waited. Doing it again is harmless."""
    for place in reversed(places):
        with suppress(OSError, ChangedMeanwhileError):
            _place(root, place, staged_path(batch, place))


def _place(root: bytes, source: bytes, target: bytes) -> None:
    try:
        found = os.stat(os.path.join(root, source), follow_symlinks=False)
        move(root, source, target, FileStat.of(found))
    except (FileNotFoundError, ChangedMeanwhileError):
        # Gone there before, or just now by an attempt that was taken for dead, or for good.
        if os.path.lexists(os.path.join(root, source)):
            raise
        os.stat(os.path.join(root, target), follow_symlinks=False)


def renew_batch(root: bytes, batch: str) -> None:
    """Have it count as added to just now, so that no sweep takes it. Raises OSError."""
    with suppress(FileNotFoundError), opened_folder(root, staged_path(batch)) as folder:
        os.utime(folder)


def discard_batch(root: bytes, batch: str) -> None:
    """Remove all that waits of a batch. Raises OSError."""
    with suppress(FileNotFoundError), opened_folder(root, UPLOAD_FOLDER) as uploads:
        shutil.rmtree(os.path.basename(staged_path(batch)), dir_fd=uploads)


def discard_staged(root: bytes, batch: str, place: bytes) -> None:
    """Remove one file that waits. Raises OSError."""
    path = staged_path(batch, place)
    with suppress(FileNotFoundError), opened_folder(root, os.path.dirname(path)) as folder:
        os.unlink(os.path.basename(path), dir_fd=folder)


def sweep_batches(root: bytes, *, older_than_seconds: float, wanted: Collection[str]) -> int:
    """Remove batches that nothing was added to for so long and that are not `wanted`; returns how many."""
    removed = 0
    with suppress(OSError):
        for name in os.listdir(os.path.join(root, UPLOAD_FOLDER)):
            if not _FOLDER.fullmatch(name):
                continue
            batch = name.removeprefix(_PREFIX).decode("ascii")
            with suppress(OSError):
                if batch not in wanted and time.time() - _last_change(root, batch) > older_than_seconds:
                    discard_batch(root, batch)
                    removed += 1
    return removed


def _last_change(root: bytes, batch: str) -> float:
    folder = os.path.join(root, staged_path(batch))
    return max(os.lstat(place).st_mtime for place, _, _ in os.walk(folder))
