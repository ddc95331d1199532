"""A scan: walk and compare, read what is new or changed in chunks, then settle what moved and what is gone."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue, follow_up_queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import AdminRequiredError, LibraryOfflineError, NotFoundError
from mus.jobs.mount_guard import check_losses, check_root, mark_offline, mark_online
from mus.jobs.services import services
from mus.jobs.slow_phase import request_analysis
from mus.library.file_reading import FileReading
from mus.library.file_systems import has_stable_inodes
from mus.library.paths import escaped, shown, unescaped
from mus.library.scan_plan import KnownTrack, Move, ScanPlan
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile, WalkReport, look, walk
from mus.persistence.batch_operations import (
    error_count,
    known_tracks,
    mark_missing,
    move_tracks,
    renumber_devices,
    store_readings,
    tracks_at,
    unsettled,
)
from mus.persistence.models import Job, Library, Track, utc_now

#: Files of one `read_files` job: some 50 ms of reading, one short write transaction.
CHUNK = 250
#: A file that could not be read and is younger than this may still be written; it is looked at again later.
YOUNG_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 5.0


async def find_library(library_id: int) -> Library:
    """Raises NotFoundError."""
    async with services().database.reading() as session:
        library = await session.get(Library, library_id)
    if library is None:
        raise NotFoundError(f"There is no library {library_id}")
    return library


# ------------------------------------------------------------------------ walk


@dataclass
class _Walker:
    """The walk, in a thread; what it finds crosses to the event loop in batches."""

    root: bytes
    start: bytes
    plan: ScanPlan
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    report: WalkReport = field(default_factory=WalkReport)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _to_read: list[FoundFile] = field(default_factory=list)

    def run(self, wake: Callable[[], Any]) -> None:
        for files in walk(self.root, self.start, self.report, stopped=self._stop.is_set):
            to_read = self.plan.consider(files)
            if to_read:
                with self._lock:
                    self._to_read += to_read
                wake()

    def take(self) -> list[FoundFile]:
        with self._lock:
            taken, self._to_read = self._to_read, []
        return taken

    def stop(self) -> None:
        self._stop.set()


async def walk_and_enqueue(job: RunningJob, library_id: int, *, mode: str, path: bytes, confirm: bool) -> None:
    """Walk the library from `path`, enqueue chunks as files turn up, leave the rest in the job's checkpoint.

    Raises LibraryOfflineError when the root is gone or empty, NotFoundError when `path` is.
    """
    if job.checkpoint is not None:
        return  # an earlier attempt finished the walk; its chunks are enqueued
    library = await find_library(library_id)
    async with services().database.reading() as session:
        known = await known_tracks(session, library_id)
    try:
        await asyncio.to_thread(check_root, library, has_live_tracks=_has_live(known), confirmed=confirm)
    except LibraryOfflineError as error:
        await mark_offline(job, library_id, error)
        raise
    if path and not os.path.lexists(os.path.join(library.root, path)):
        if not any(track.path == path or track.path.startswith(path + b"/") for track in known):
            raise NotFoundError(f"There is no folder {shown(path)} in this library")
        path = path.rpartition(b"/")[0]  # it vanished: what is around it tells
    stable = await asyncio.to_thread(has_stable_inodes, library.root)
    plan = ScanPlan(known, full=mode == "full", stable_inodes=stable)
    walker = _Walker(library.root, path, plan)
    chunks = _Chunks(job, library_id, full=mode == "full")
    await job.report(force=True, stage="walking")
    loop = asyncio.get_running_loop()
    walking = asyncio.create_task(
        asyncio.to_thread(walker.run, lambda: loop.call_soon_threadsafe(walker.arrived.set))
    )
    walking.add_done_callback(lambda _: walker.arrived.set())
    try:
        while not walking.done():
            await walker.arrived.wait()
            walker.arrived.clear()
            await chunks.add(walker.take())
        await walking
    finally:
        walker.stop()
    await chunks.add(walker.take())
    end = plan.conclude(walker.report, path)
    await chunks.add(end.to_read)
    await chunks.flush(
        {
            "path": escaped(path),
            "confirm": confirm,
            "found": plan.found,
            "unchanged": plan.unchanged,
            "moves": [[move.track_id, escaped(move.found.path), *move.found[1:]] for move in end.moves],
            "missing": end.missing,
            "renumbered": [[old, new] for old, new in end.renumbered.items()],
            "skipped": dict(walker.report.skipped),
            "unlisted": {shown(folder): why for folder, why in walker.report.unlisted.items()},
        }
    )


def _has_live(known: Iterable[KnownTrack]) -> bool:
    return any(track.status in LIVE_STATES for track in known)


@dataclass
class _Chunks:
    """Gathers files into `read_files` jobs."""

    job: RunningJob
    library_id: int
    full: bool
    total: int = 0
    _waiting: list[FoundFile] = field(default_factory=list)

    async def add(self, files: list[FoundFile]) -> None:
        self._waiting += files
        whole = len(self._waiting) // CHUNK * CHUNK
        if whole:
            ready, self._waiting = self._waiting[:whole], self._waiting[whole:]
            await self._enqueue(ready)

    async def flush(self, checkpoint: dict[str, Any]) -> None:
        """The last of them, and in the same transaction the word that the walk is over."""
        ready, self._waiting = self._waiting, []
        await self._enqueue(ready, checkpoint)

    async def _enqueue(self, files: list[FoundFile], checkpoint: dict[str, Any] | None = None) -> None:
        self.total += len(files)
        stage = "walking" if checkpoint is None else "reading"
        async with self.job.effect(units_total=self.total, stage=stage) as work:
            if checkpoint is not None:
                await self.job.keep(work, checkpoint)
            await broker.enqueue_many(
                [
                    broker.job(
                        follow_up_queue(Queue(self.job.started.queue)),
                        "read_files",
                        Options(parent_id=self.job.id, requested_by=self.job.started.requested_by),
                        library_id=self.library_id,
                        paths=[escaped(file.path) for file in files[start : start + CHUNK]],
                        full=self.full,
                    )
                    for start in range(0, len(files), CHUNK)
                ]
            )


# ------------------------------------------------------------------------ read


async def read(library: Library, paths: Sequence[bytes]) -> list[FileReading]:
    """Read files in a reader process, in order."""
    pool = services().readers
    return await pool.run(
        "read",
        library.root,
        paths,
        thumbnails_dir=None,
        file_timeout_seconds=services().settings.file_timeout_seconds,
    )


async def read_and_store(job: RunningJob, library_id: int, paths: Sequence[bytes], *, full: bool) -> dict[str, Any]:
    """Read a chunk and store it in one fenced transaction. Returns counts by outcome."""
    if job.checkpoint is not None:
        return job.checkpoint  # stored by an earlier attempt that died before its end
    library = await find_library(library_id)
    readings = await read(library, paths)
    counts = {"added": 0, "updated": 0, "vanished": 0}
    present = [reading for reading in readings if reading.stat is not None]
    counts["vanished"] = sum(reading.vanished for reading in readings)
    async with services().database.reading() as session:
        stored_already = {
            track.path: track for track in await tracks_at(session, library_id, [r.path for r in present])
        }
    fresh = [r for r in present if full or not _is_stored(r, stored_already.get(r.path))]
    async with job.effect(parent_units=len(paths)) as work:
        stored = await store_readings(work.session, library_id, fresh)
        counts["added"], counts["updated"] = stored.added, stored.updated
        await job.keep(work, counts)
        await look_again_later(library_id, present)
    return counts


def _is_stored(reading: FileReading, track: KnownTrack | None) -> bool:
    stat = reading.stat
    return (
        track is not None
        and stat is not None
        and track.status in {"PENDING", "COMPLETE"}
        and (track.size, track.mtime_ns, track.ctime_ns, track.inode)
        == (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode)
    )


async def look_again_later(library_id: int, readings: Sequence[FileReading]) -> None:
    """Files that may still be written get another look soon, in the current unit of work."""
    again = unsettled(readings, time.time_ns(), settle_ns=int(YOUNG_SECONDS * 1e9))
    if again:
        await broker.enqueue(
            Queue.MEDIUM,
            "process_file_modified",
            Options(delay_until=utc_now() + timedelta(seconds=LOOK_AGAIN_SECONDS), requested_by="mus"),
            library_id=library_id,
            paths=[escaped(reading.path) for reading in again],
        )


# ---------------------------------------------------------------------- finish


async def finish(job: RunningJob) -> dict[str, Any]:
    """Moves, guard, missing, totals. Returns the scan's result.

    Raises LibraryOfflineError when too much is gone at once (nothing is marked missing then), and
    AdminRequiredError when a chunk failed.
    """
    if job.checkpoint is not None:
        return job.checkpoint
    database = services().database
    async with database.reading() as session:
        scan = (await session.execute(select(Job).where(Job.id == job.parent_id))).scalar_one()
        chunks = (
            await session.execute(
                select(Job.state, Job.result, Job.error_message).where(
                    Job.parent_id == scan.id, Job.task == "read_files"
                )
            )
        ).all()
    library = await find_library(scan.arguments["library_id"])
    walked: dict[str, Any] = scan.checkpoint or {}
    moves, hard_links = await asyncio.to_thread(
        _confirm_moves, library.root, await _origins(walked), _moves(walked)
    )
    moved_to = {move.found.path for move in moves}
    gone = await _still_gone(library, walked.get("missing", []), moved_to)
    extra = await _read_hard_links(library, hard_links)
    vanished = sum(result["vanished"] for _, result, _ in chunks if result)
    skipped = dict(walked.get("skipped", {})) | ({"vanished during the scan": vanished} if vanished else {})
    counts: dict[str, Any] = {
        "found": walked.get("found", 0),
        "added": sum(result["added"] for _, result, _ in chunks if result) + extra,
        "updated": sum(result["updated"] for _, result, _ in chunks if result),
        "moved": len(moves),
        "unchanged": walked.get("unchanged", 0),
        "skipped": sum(skipped.values()),
        "skipped_reasons": skipped,
        "unlisted_folders": walked.get("unlisted", {}),
    }
    offline: LibraryOfflineError | None = None
    async with database.reading() as session:
        try:
            await check_losses(session, library.id, len(gone), confirmed=walked.get("confirm", False))
        except LibraryOfflineError as error:
            offline = error
    async with job.effect(stage="finishing") as work:
        await move_tracks(work.session, library.id, moves)
        await renumber_devices(work.session, library.id, dict(walked.get("renumbered", [])))
        counts["missing"] = 0 if offline else await mark_missing(work.session, gone)
        counts["failed"] = await error_count(work.session, library.id)
        await request_analysis(work.session)
        if offline is None:
            await mark_online(work.session, library)
            await job.keep(work, counts)
    if offline is not None:
        await mark_offline(job, library.id, offline)
        raise offline
    failures = [message for state, _, message in chunks if state != "succeeded"]
    if failures:
        raise AdminRequiredError(
            f"{len(failures)} of {len(chunks)} parts of the scan failed; the first: {failures[0]}",
            details={"counts": counts},
        )
    return counts


def _moves(walked: dict[str, Any]) -> list[Move]:
    return [Move(id_, FoundFile(unescaped(path), *numbers)) for id_, path, *numbers in walked.get("moves", [])]


async def _origins(walked: dict[str, Any]) -> dict[int, bytes]:
    return await _paths_of([id_ for id_, *_ in walked.get("moves", [])])


async def _paths_of(track_ids: Sequence[int]) -> dict[int, bytes]:
    paths: dict[int, bytes] = {}
    async with services().database.reading() as session:
        for start in range(0, len(track_ids), 500):
            rows = await session.execute(
                select(Track.id, Track.path).where(Track.id.in_(track_ids[start : start + 500]))
            )
            paths.update(rows.tuples().all())
    return paths


def _confirm_moves(
    root: bytes, origins: dict[int, bytes], moves: Sequence[Move]
) -> tuple[list[Move], list[FoundFile]]:
    """Look once more: a file that is at its old place too is a hard link, not a moved one."""
    confirmed: list[Move] = []
    links: list[FoundFile] = []
    for move in moves:
        now = look(root, move.found.path)
        if now is None or now.inode != move.found.inode or move.track_id not in origins:
            continue  # it went on meanwhile; the next scan or the watcher sees where
        old = look(root, origins[move.track_id])
        if old is not None and old.inode == now.inode and old.path != now.path and not _same_entry(root, old, now):
            links.append(now)
        else:
            confirmed.append(Move(move.track_id, now))
    return confirmed, links


def _same_entry(root: bytes, old: FoundFile, now: FoundFile) -> bool:
    """On a file system that ignores case, the old spelling still finds a renamed file."""
    if old.path.lower() != now.path.lower():
        return False
    folder, _, name = old.path.rpartition(b"/")
    return name not in os.listdir(os.path.join(root, folder))


async def _still_gone(library: Library, track_ids: Sequence[int], moved_to: set[bytes]) -> list[int]:
    """Of tracks the walk did not meet, those that a fresh look does not find either."""
    paths = await _paths_of(track_ids)

    def look_at_all() -> list[int]:
        gone: list[int] = []
        for id_, path in paths.items():
            try:
                if path in moved_to or look(library.root, path) is None:
                    gone.append(id_)
            except OSError:
                continue  # cannot be told, so not gone
        return gone

    return await asyncio.to_thread(look_at_all)


async def _read_hard_links(library: Library, files: Sequence[FoundFile]) -> int:
    added = 0
    for start in range(0, len(files), CHUNK):
        readings = await read(library, [file.path for file in files[start : start + CHUNK]])
        async with services().database.unit_of_work() as work:
            added += (await store_readings(work.session, library.id, readings)).added
    return added
