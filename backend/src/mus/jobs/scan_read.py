"""A scan's second part: read files and store what their tags say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import ErrorCategory
from mus.jobs.mount_guard import check_still_there
from mus.jobs.services import library_in, services
from mus.jobs.telling import tell_stored
from mus.library.file_reading import FileReading, FileStat
from mus.library.file_systems import has_stable_inodes
from mus.library.paths import escaped, is_parked
from mus.library.scan_plan import KnownTrack
from mus.library.second_look import SecondLook
from mus.library.states import TrackState
from mus.library.track_rows import ReadRow
from mus.library.walk_ahead import read_ahead
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.known_tracks import tracks_at, tracks_with_inodes
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import utc_now
from mus.persistence.stored_readings import Reading, Row, rows_of, store_readings, unsettled

Read = TypeVar("Read", FileReading, ReadRow)

#: A file that could not be read and is younger than this may still be written; it is looked at again later.
YOUNG_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 5.0
#: Files of one turn of the event loop: whoever stores another chunk meanwhile has its turn between them. In one go,
#: the database waited for that as long as it worked.
_AT_ONCE = 100
#: Files whose rows are much for SQLite's log. Of fewer it is not worth the two waits for the disk.
_MUCH = 500


async def read(library: LocalLibrary, paths: Sequence[bytes]) -> list[FileReading]:
    """Read files in a reader process, in order."""
    readings = await services().readers.run(
        "read",
        library.root,
        paths,
        thumbnails_dir=None,
        file_timeout_seconds=services().settings.file_timeout_seconds,
    )
    return await _seen(library, readings)


async def _rows_ahead(
    library: LocalLibrary, paths: Sequence[bytes], known: Mapping[bytes, KnownTrack]
) -> dict[bytes, ReadRow]:
    """What has been read ahead of these files. Of a `known` track's file it counts only if it is of the known
    version: it may be older."""
    # While others are being stored there is time.
    ahead = await read_ahead(library.root, paths, has_time=services().storing.locked)
    return {
        row.path: row
        for row in await _seen(library, ahead)
        if (track := known.get(row.path)) is None or _is_of_version(row, track)
    }


async def _seen(library: LocalLibrary, readings: list[Read]) -> list[Read]:
    if all(reading.stat is not None or reading.vanished for reading in readings):
        return readings
    return await asyncio.to_thread(_with_stats, library.root, readings)


def _with_stats(root: bytes, readings: Sequence[Read]) -> list[Read]:
    """Files that hung or crashed the reader have no stat: what is there now is the version that did."""
    look = SecondLook(root)
    completed: list[Read] = []
    for reading in readings:
        if reading.stat is None and not reading.vanished:
            with suppress(OSError):
                found = look.at(reading.path)
                reading = reading._replace(stat=FileStat(*found[1:]) if found else None, vanished=found is None)
        completed.append(reading)
    return completed


async def read_and_store(job: RunningJob, library_id: int, paths: Sequence[bytes], *, full: bool) -> dict[str, Any]:
    """Read a chunk and store it in one fenced transaction, with which the job ends.

    Its result are counts by outcome, and as `gone` the ids of the known tracks among those that vanished since the
    walk.
    """
    if job.checkpoint is not None:
        return job.checkpoint  # stored by an attempt of an older mus, which ended its jobs apart
    async with services().database.reading() as session:
        library = await library_in(session, library_id)
        before = await by_path(session, library_id, paths)
    ahead = await _rows_ahead(library, paths, before)
    rest = [path for path in paths if path not in ahead]
    others = {reading.path: reading for reading in await read(library, rest)} if rest else {}
    readings = [ahead[path] if path in ahead else others[path] for path in paths]
    if any(reading.vanished for reading in readings):
        await asyncio.to_thread(check_still_there, library)
    rows: dict[bytes, Row] = {}
    for start in range(0, len(readings), _AT_ONCE):
        part = readings[start : start + _AT_ONCE]
        rows |= rows_of(library_id, part, is_sqlite=services().database.is_sqlite)
        await asyncio.sleep(0)
    chunk = _Chunk(library, paths, readings, rows, before, full)
    try:
        counts = await chunk.store(job, elsewhere=None)
    except _LookFirst as unclear:
        elsewhere = await asyncio.to_thread(_moved_away, library.root, unclear.tracks)
        counts = await chunk.store(job, elsewhere=elsewhere)
    if len(paths) >= _MUCH:
        await services().database.write_back()
    return counts


class _LookFirst(Exception):  # noqa: N818 - the disk has to be looked at, and not in a transaction
    """Readings whose files the database has elsewhere: their paths, each with that track."""

    def __init__(self, tracks: Mapping[bytes, KnownTrack]) -> None:
        super().__init__(len(tracks))
        self.tracks = tracks


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What was read of a chunk, and what the database had at its paths before."""

    library: LocalLibrary
    paths: Sequence[bytes]
    readings: Sequence[Reading]
    rows: Mapping[bytes, Row]
    before: Mapping[bytes, KnownTrack]
    full: bool

    async def store(self, job: RunningJob, *, elsewhere: Mapping[bytes, bytes] | None) -> dict[str, Any]:
        """Store it, but for the files that `elsewhere` says to be another track's; returns the counts.

        None: it was not asked yet. Raises _LookFirst, and stores nothing, when there is something to ask.
        """
        library_id = self.library.id
        present = [reading for reading in self.readings if not reading.vanished]
        vanished = [reading.path for reading in self.readings if reading.vanished or reading.stat is None]
        # One at a time, as the one connection that writes is had in turn: the ends of chunks and the starts of the
        # next stood behind all the chunks to be stored, so that those came in waves and the readers waited for each
        # (a first scan of 20,000 files took a tenth longer).
        counts: dict[str, Any] = {}
        async with services().storing, job.last_effect(counts, parent_units=len(self.paths)) as work:
            await hold_tracks(work.session, library_id)
            now = await by_path(work.session, library_id, self.paths)
            if elsewhere is None:
                elsewhere = {}
                if unclear := await _known_elsewhere(work.session, library_id, present, now):
                    raise _LookFirst(unclear)
            is_new = self.full or not now
            fresh = [reading for reading in present if is_new or not _is_stored(reading, now.get(reading.path))]
            overtaken = overtaken_by_others(fresh, self.before, now) | elsewhere.keys()
            stored = await store_readings(
                work.session,
                library_id,
                [r for r in fresh if r.path not in overtaken],
                at_paths=now,
                rows=self.rows,
            )
            tell_stored(work, library_id, stored)
            counts |= {
                "added": stored.added,
                "updated": stored.updated,
                "vanished": len(vanished),
                "gone": [now[path].id for path in vanished if path in now],
            }
            await look_again_later(library_id, self.readings, or_if_temporary=True)
            await compare_again(library_id, overtaken | set(elsewhere.values()))
        return counts


async def by_path(session: AsyncSession, library_id: int, paths: Sequence[bytes]) -> dict[bytes, KnownTrack]:
    """The tracks at these paths."""
    return {track.path: track for track in await tracks_at(session, library_id, paths)}


def overtaken_by_others(
    readings: Sequence[Reading], before: Mapping[bytes, KnownTrack], now: Mapping[bytes, KnownTrack]
) -> set[bytes]:
    """Paths where there is another track now, in the transaction that stores, than before the reading, none any
    more, or one that holds another version of the file than it did and than was read.

    Another job has moved it, deleted it, brought it back or edited it meanwhile. Stored all the same, a file that a
    person deleted while a scan read it came back as a track of its own, which then was missing for good; and one
    that a person edited said what it had said before, until the next scan.
    """
    if not before and not now:
        return set()
    return {
        reading.path
        for reading in readings
        if not _is_stored(reading, now.get(reading.path))
        and _is_overtaken(reading, before.get(reading.path), now.get(reading.path))
    }


def _is_overtaken(reading: Reading, before: KnownTrack | None, now: KnownTrack | None) -> bool:
    if before is None or now is None:
        return before is not now
    # Sizes, times and inodes. A device changes for all tracks at once when a disk is mounted anew.
    held, holds = before[2:6], now[2:6]
    return before.id != now.id or (held != holds and (reading.stat is None or reading.stat[:4] != holds))


async def _known_elsewhere(
    session: AsyncSession, library_id: int, readings: Sequence[Reading], now: Mapping[bytes, KnownTrack]
) -> dict[bytes, KnownTrack]:
    """Files that the database has, but not where they were read: their paths, each with its track.

    Stored under its path alone, such a file's tags would go to the other's track: two files that swapped their
    names between walk and reading had swapped their ids, for good, because nothing could tell afterwards (seen with
    full scans). A hard link, whose other path still holds it, is a file of its own.

    In the transaction that stores, whose connection has the index at hand: a reader's own cache of it took 36 MiB
    and a tenth of a first scan's time.
    """
    strange = {
        (stat.inode, stat.device, stat.size, stat.mtime_ns): reading.path
        for reading in readings
        if (stat := reading.stat) is not None
        and ((track := now.get(reading.path)) is None or track.inode != stat.inode)
    }
    tracks = await tracks_with_inodes(session, library_id, [inode for inode, *_ in strange])
    return {
        path: track
        for track in tracks
        if (path := strange.get((track.inode, track.device, track.size, track.mtime_ns))) not in {None, track.path}
    }


def _moved_away(root: bytes, found: Mapping[bytes, KnownTrack]) -> dict[bytes, bytes]:
    if not has_stable_inodes(root):
        return {}
    look = SecondLook(root)
    moved: dict[bytes, bytes] = {}
    for path, track in found.items():
        with suppress(OSError):
            now = look.at(track.path)
            if now is None or now.inode != track.inode:
                moved[path] = track.path
    return moved


async def compare_again(library_id: int, paths: Collection[bytes]) -> None:
    """Have places compared with the disk where jobs were in each other's way, in the current unit of work."""
    places = sorted(path for path in paths if not is_parked(path))
    if places:
        await broker.enqueue(
            Queue.MEDIUM,
            "process_file_move",
            Options(requested_by="mus"),
            library_id=library_id,
            paths=[escaped(path) for path in places],
        )


def _is_stored(reading: Reading, track: KnownTrack | None) -> bool:
    """Whether another job, which saw the same change, was faster."""
    return (
        track is not None
        and track.status in {TrackState.PENDING, TrackState.COMPLETE}
        and _is_of_version(reading, track)
    )


def _is_of_version(reading: Reading, track: KnownTrack) -> bool:
    numbers = (track.size, track.mtime_ns, track.ctime_ns, track.inode, track.device)
    return reading.stat is not None and tuple(reading.stat) == numbers


async def look_again_later(library_id: int, readings: Sequence[Reading], *, or_if_temporary: bool = False) -> None:
    """Files that may still be written get another look soon, in the current unit of work."""
    again = {reading.path for reading in unsettled(readings, time.time_ns(), settle_ns=int(YOUNG_SECONDS * 1e9))}
    if or_if_temporary:
        again |= {reading.path for reading in readings if reading.error_category == ErrorCategory.TEMPORARY}
    if again:
        await broker.enqueue(
            Queue.MEDIUM,
            "process_file_modified",
            Options(delay_until=utc_now() + timedelta(seconds=LOOK_AGAIN_SECONDS), requested_by="mus"),
            library_id=library_id,
            paths=[escaped(path) for path in sorted(again)],
        )
