"""Apply what is on disk now at paths where something happened. Events are hints; the disk is the truth."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import ErrorCategory, LibraryOfflineError, TemporaryError
from mus.jobs.gone_files import provably_gone
from mus.jobs.lost_tracks import moves_among, reunite
from mus.jobs.mount_guard import check_losses, check_root, mark_offline
from mus.jobs.moved_tracks import apply_moves
from mus.jobs.scan_read import by_path, compare_again, look_again_later, overtaken_by_others, read
from mus.jobs.scan_walk import CHUNK
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import request_analysis
from mus.jobs.telling import DELETED, tell_stored, tell_tracks
from mus.library.file_reading import FileReading
from mus.library.file_systems import has_stable_inodes
from mus.library.scan_plan import NOTHING_SETTLED, Conclusion, KnownTrack, Move, ScanPlan
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile, FoundFiles, WalkReport, walk
from mus.persistence.batch_operations import hold_tracks, mark_missing
from mus.persistence.known_tracks import last_writes, live_count, tracks_at, tracks_below, tracks_with_inodes
from mus.persistence.libraries import LocalLibrary
from mus.persistence.stored_readings import store_readings
from mus.persistence.track_identity import newest_id

#: Analysis waits this long after a change, so that a burst becomes one job.
_ANALYSE_AFTER_SECONDS = 1.0


@dataclass(slots=True)
class _Disk:
    """What is at the paths now."""

    files: dict[bytes, FoundFile] = field(default_factory=dict)
    #: Where no file is: nothing at all, a folder, or what the walk passes over.
    others: list[bytes] = field(default_factory=list)
    skipped: int = 0


def _look_at(root: bytes, paths: Sequence[bytes]) -> _Disk:
    disk = _Disk()
    look = SecondLook(root)
    for path in dict.fromkeys(paths):
        if b"\0" in path or any(part in {b"", b".", b".."} for part in path.split(b"/")):
            disk.skipped += 1  # no path of ours: nothing outside the root is touched
            continue
        try:
            found = look.at(path)
            if found is not None and look.as_listed(path) == path:
                disk.files[path] = found
                continue
            disk.others.append(path)
            if look.is_walked(path) and look.as_listed(path) == path:
                for files in walk(root, path, WalkReport()):
                    disk.files.update({file.path: file for file in files})
            elif os.path.lexists(os.path.join(root, path)):
                disk.skipped += 1
        except OSError:
            disk.skipped += 1  # cannot be told: the next scan looks again
    return disk


async def apply_changes(job: RunningJob, library_id: int, paths: Sequence[bytes]) -> dict[str, Any]:
    """Read what is there, move what moved, mark missing what is gone. Returns counts.

    Raises LibraryOfflineError when the root is gone, or too much is gone at once, and TemporaryError when a
    file could not be read now.
    """
    if job.checkpoint is not None:
        return job.checkpoint
    library = await find_library(library_id)
    try:
        return await _apply(job, library, paths)
    except LibraryOfflineError as error:
        await mark_offline(job, library_id, error)
        raise


async def _apply(job: RunningJob, library: LocalLibrary, paths: Sequence[bytes]) -> dict[str, Any]:
    async with services().database.reading() as session:
        has_live = await live_count(session, library.id) > 0
        newest = await newest_id(session)
    await asyncio.to_thread(check_root, library, has_live_tracks=has_live)
    disk = await asyncio.to_thread(_look_at, library.root, paths)
    named, elsewhere = await _known(library.id, disk)
    stable = await asyncio.to_thread(has_stable_inodes, library.root)
    # Full: whoever names a file wants it read, as a person does who retries an error.
    plan = ScanPlan(NOTHING_SETTLED, lambda: [*(named | elsewhere).values()], full=True, stable_inodes=stable)
    to_read = plan.consider(FoundFiles.of(disk.files.values()))
    end = plan.conclude(WalkReport(), b"")
    moves = end.moves + await _recognised_moves(library, named, disk, end)
    moved = await apply_moves(job, library, moves)
    to_read += [*end.to_read, *(change.file.path for change in end.changed), *(link.path for link in moved.links)]
    moved_to = {move.found.path for move in end.moves}
    to_read += [path for path in end.to_read_after_moves if path not in moved_to]
    counts: dict[str, Any] = {
        "added": 0,
        "updated": 0,
        "moved": len(moved.confirmed),
        "missing": 0,
        "skipped": disk.skipped,
    }
    busy = await _read_and_store(job, library, to_read, counts)
    moved_ids = {move.track_id for move in moved.confirmed}
    unmet = [track for track in named.values() if track.path not in disk.files and track.id not in moved_ids]
    async with services().database.reading() as session:
        last_written = await last_writes(session, [track.id for track in unmet])
    gone = await provably_gone(library, unmet)
    reunited = await reunite(job, library, gone, newer_than=newest)
    gone = [track_id for track_id in gone if track_id not in reunited]
    counts["moved"] += len(reunited)
    counts["added"] = max(0, counts["added"] - sum(track_id > newest for track_id in reunited.values()))
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        await check_losses(work.session, library.id, len(gone))
        counts["missing"] = await mark_missing(work.session, gone, last_written=last_written)
        tell_tracks(work, DELETED, library.id, counts["missing"], gone)
        await request_analysis(work.session, in_seconds=_ANALYSE_AFTER_SECONDS)
        if not busy:
            await job.keep(work, counts)
    if busy:
        # The ledger tries again what is temporary, a few times.
        raise TemporaryError(f"{len(busy)} files cannot be read now; the first: {busy[0].error_message}")
    return counts


async def _recognised_moves(
    library: LocalLibrary, named: Mapping[int, KnownTrack], disk: _Disk, end: Conclusion
) -> list[Move]:
    """Moves among the changed files, where tracks are lost or files seem to have swapped places."""
    settled = [move.track_id for move in end.moves]
    lost = [
        track.id
        for track in named.values()
        if track.status in LIVE_STATES and track.path not in disk.files and track.id not in settled
    ]
    doubtful = [change for change in end.changed if lost or change.is_suspect]
    return await moves_among(library, doubtful, lost, settled_ids=settled) if doubtful else []


async def _known(library_id: int, disk: _Disk) -> tuple[dict[int, KnownTrack], dict[int, KnownTrack]]:
    """By id, the tracks at and below the paths, and those elsewhere whose inode one of the files has."""
    async with services().database.reading() as session:
        named = await tracks_at(session, library_id, [*disk.files, *disk.others])
        at_path = {track.path for track in named}
        for path in disk.others:
            if path not in at_path:
                named += await tracks_below(session, library_id, path)
        inodes = list({file.inode for file in disk.files.values()})
        elsewhere = await tracks_with_inodes(session, library_id, inodes)
    return {track.id: track for track in named}, {track.id: track for track in elsewhere}


async def _read_and_store(
    job: RunningJob, library: LocalLibrary, paths: Sequence[bytes], counts: dict[str, Any]
) -> list[FileReading]:
    """Adds to the counts; returns the readings of files that cannot be read just now."""
    busy: list[FileReading] = []
    for start in range(0, len(paths), CHUNK):
        part = paths[start : start + CHUNK]
        async with services().database.reading() as session:
            before = await by_path(session, library.id, part)
        readings = await read(library, part)
        async with job.effect() as work:
            await hold_tracks(work.session, library.id)
            present = [reading for reading in readings if not reading.vanished]
            now = await by_path(work.session, library.id, part)
            overtaken = overtaken_by_others(present, before, now)
            fresh = [reading for reading in present if reading.path not in overtaken]
            stored = await store_readings(work.session, library.id, fresh, at_paths=now)
            tell_stored(work, library.id, stored)
            await compare_again(library.id, overtaken)
            await look_again_later(library.id, readings)
        counts["added"] += stored.added
        counts["updated"] += stored.updated
        busy += [reading for reading in readings if reading.error_category == ErrorCategory.TEMPORARY]
    return busy
