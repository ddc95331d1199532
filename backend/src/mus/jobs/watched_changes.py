"""Apply what is on disk now at paths where something happened. Events are hints; the disk is the truth."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import LibraryOfflineError
from mus.jobs.mount_guard import check_losses, check_root, mark_offline
from mus.jobs.scanning import CHUNK, find_library, look_again_later, read
from mus.jobs.services import services
from mus.jobs.slow_phase import request_analysis
from mus.library.file_reading import FileReading, signed_64
from mus.library.file_systems import has_stable_inodes
from mus.library.scan_plan import KnownTrack, Move
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile, WalkReport, look, skip_reason, walk
from mus.persistence.batch_operations import (
    mark_missing,
    move_tracks,
    store_readings,
    tracks_at,
    tracks_below,
    tracks_with_inodes,
)
from mus.persistence.models import Library

#: Analysis waits this long after a change, so that a burst becomes one job.
_ANALYSE_AFTER_SECONDS = 1.0


@dataclass
class _Disk:
    """What is at the paths now."""

    files: dict[bytes, FoundFile] = field(default_factory=dict)
    gone: list[bytes] = field(default_factory=list)
    skipped: int = 0


def _look_at(root: bytes, paths: Sequence[bytes]) -> _Disk:
    disk = _Disk()
    for path in paths:
        parts = path.split(b"/")
        if any(part in {b"", b".", b".."} for part in parts):
            disk.skipped += 1  # no path of ours: nothing outside the root is touched
            continue
        try:
            if os.path.isdir(os.path.join(root, path)) and not os.path.islink(os.path.join(root, path)):
                for files in walk(root, path, WalkReport()):
                    disk.files.update({file.path: file for file in files})
                continue
            found = look(root, path)
        except OSError:
            disk.skipped += 1  # cannot be told: the next scan looks again
            continue
        if found is None:
            disk.gone.append(path)
        elif _is_passed_over(parts):
            disk.skipped += 1
        else:
            disk.files[path] = found
    return disk


def _is_passed_over(parts: Sequence[bytes]) -> bool:
    return skip_reason(parts[-1], is_dir=False) is not None or any(
        skip_reason(part, is_dir=True) is not None for part in parts[:-1]
    )


async def apply_changes(job: RunningJob, library_id: int, paths: Sequence[bytes]) -> dict[str, Any]:
    """Read what is there, move what moved, mark missing what is gone. Returns counts.

    Raises LibraryOfflineError when the root is gone, or too much is gone at once.
    """
    if job.checkpoint is not None:
        return job.checkpoint
    library = await find_library(library_id)
    try:
        await asyncio.to_thread(check_root, library, has_live_tracks=True)
    except LibraryOfflineError as error:
        await mark_offline(job, library_id, error)
        raise
    disk = await asyncio.to_thread(_look_at, library.root, paths)
    async with services().database.reading() as session:
        at_paths = {track.path: track for track in await tracks_at(session, library_id, [*disk.files])}
        gone = await tracks_at(session, library_id, disk.gone)
        for path in disk.gone:
            gone += await tracks_below(session, library_id, path)
        by_inode = {
            track.inode: track
            for track in await tracks_with_inodes(session, library_id, [f.inode for f in disk.files.values()])
        }
    moves = await asyncio.to_thread(_moves, library.root, disk, at_paths, by_inode)
    moved = {move.track_id for move in moves}
    moved_to = {move.found.path for move in moves}
    missing = await asyncio.to_thread(
        _provably_gone, library.root, [track for track in gone if track.id not in moved]
    )
    try:
        async with services().database.reading() as session:
            await check_losses(session, library_id, len(missing))
    except LibraryOfflineError as error:
        await mark_offline(job, library_id, error)
        raise
    readings = await _read(library, [path for path in disk.files if path not in moved_to])
    return await _store(job, library, readings, moves, missing, disk.skipped)


def _moves(
    root: bytes, disk: _Disk, at_paths: dict[bytes, KnownTrack], by_inode: dict[int, KnownTrack]
) -> list[Move]:
    if not has_stable_inodes(root):
        return []
    moves: list[Move] = []
    for path, file in disk.files.items():
        origin = by_inode.get(file.inode)
        here = at_paths.get(path)
        if origin is None or origin.path == path or (here is not None and here.inode == file.inode):
            continue
        if (origin.size, origin.mtime_ns, origin.device) != (file.size, file.mtime_ns, file.device):
            continue
        old = look(root, origin.path.partition(b"\0")[0])
        if old is None or old.inode != file.inode:
            moves.append(Move(origin.id, file))
    return moves


def _provably_gone(root: bytes, tracks: Sequence[KnownTrack]) -> list[int]:
    """Ids of live tracks that a fresh look does not find, and whose folder lies where it lay."""
    gone: list[int] = []
    for track in tracks:
        try:
            if (
                track.status in LIVE_STATES
                and look(root, track.path) is None
                and _device_above(root, track.path) == track.device
            ):
                gone.append(track.id)
        except OSError:
            continue
    return gone


def _device_above(root: bytes, path: bytes) -> int | None:
    folder = path
    while folder:
        folder = folder.rpartition(b"/")[0]
        try:
            return signed_64(os.stat(os.path.join(root, folder)).st_dev)
        except FileNotFoundError:
            continue
    return None


async def _read(library: Library, paths: Sequence[bytes]) -> list[FileReading]:
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    return [reading for part in await asyncio.gather(*(read(library, part) for part in parts)) for reading in part]


async def _store(
    job: RunningJob,
    library: Library,
    readings: Sequence[FileReading],
    moves: Sequence[Move],
    missing: Sequence[int],
    skipped: int,
) -> dict[str, Any]:
    counts: dict[str, Any] = {"added": 0, "updated": 0, "moved": len(moves), "missing": 0, "skipped": skipped}
    for start in range(0, len(readings), CHUNK):
        part = readings[start : start + CHUNK]
        async with job.effect() as work:
            stored = await store_readings(work.session, library.id, part)
            await look_again_later(library.id, part)
        counts["added"] += stored.added
        counts["updated"] += stored.updated
    async with job.effect() as work:
        await move_tracks(work.session, library.id, moves)
        counts["missing"] = await mark_missing(work.session, missing)
        await request_analysis(work.session, in_seconds=_ANALYSE_AFTER_SECONDS)
        await job.keep(work, counts)
    return counts
