"""A scan's first part: walk and compare, and enqueue what is to be read while the walk goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue, follow_up_queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import LibraryGoneError, LibraryOfflineError, MusError, NotFoundError, SupersededError
from mus.jobs.compared_walk import ComparedWalk
from mus.jobs.library_jobs import give_way_to_follow
from mus.jobs.mount_guard import check_file_system, check_root, mark_offline
from mus.jobs.services import InStep, find_library, services
from mus.jobs.slow_phase import needs_renewed_looks
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.file_systems import has_stable_inodes
from mus.library.paths import escaped, shown
from mus.library.scan_plan import NOTHING_SETTLED, Conclusion, KnownRow, ScanPlan, Settled
from mus.library.second_look import SecondLook
from mus.library.walk import WalkReport
from mus.library.walk_ahead import is_read_ahead
from mus.persistence.batch_operations import ADOPTED_BATCH, adopt_numbers, hold_tracks
from mus.persistence.known_tracks import known_tracks, settled_tracks
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job, Library
from mus.persistence.track_identity import newest_id

#: Files of one `read_files` job: some 50 ms of reading, one short write transaction. With 250 a first scan of
#: 100,000 files took 24 to 28 s in place of 18 to 19, and a fifth more CPU.
CHUNK = 500
#: In a large library, whose first tracks have shown by then: the jobs themselves took a twentieth of a first scan.
_LARGE_CHUNK, _LARGE_LIBRARY = 1000, 2000
#: And of those that are read ahead, where a job has but to store them: another twentieth.
_READ_CHUNK = 2000
_SHOWN_AFTER_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A walk after which nothing is to be read, moved or judged: what else would be left in the job's checkpoint,
    and, for the next scan, that the library is in step."""

    checkpoint: dict[str, Any]
    in_step: InStep | None


async def walk_and_enqueue(
    job: RunningJob, library_id: int, *, mode: str, path: bytes, confirm: bool
) -> Unchanged | None:
    """Walk the library from `path`, enqueue chunks as files turn up, leave the rest in the job's checkpoint.

    Where all is as it was and nothing was enqueued, that is returned instead, for `finish_at_once`.

    Raises LibraryOfflineError when the root is gone, empty, or another one, and NotFoundError when `path` is
    nowhere in the library.
    """
    left = job.checkpoint or {}
    if "found" in left:
        return None  # an earlier attempt finished the walk; its chunks are enqueued
    library = await find_library(library_id)
    await give_way_to_follow(library)
    known = _Known(library_id)
    walker = ComparedWalk(library.root)
    try:
        start = await asyncio.to_thread(_start_of_walk, library.root, path, await known.rows()) if path else b""
        walker.begin(start)
        full = mode == "full"
        was = None if start or full or left else services().in_step.get(library_id)
        state = await _state_of(library_id, was)
        if state.settled is None:
            assert was is not None
            await asyncio.to_thread(_checked, library, has_live_tracks=was.walk.files > 0, confirmed=confirm)
            async with _shown_when_long(job):
                is_in_step = await walker.finds_just(was.walk)
            if is_in_step:
                found = was.walk.files
                return Unchanged(
                    _checkpoint(state, walker.report, start, Conclusion(), found=found, confirm=confirm), was
                )
            state = await _state_of(library_id, None)
        settled = state.settled
        assert settled is not None
        # Tracks with higher ids are new ones: an earlier attempt's chunks may have stored some already.
        state = replace(state, newest=left.get("newest", state.newest))
        has_live = settled.live > 0
        stable = await asyncio.to_thread(_checked, library, has_live_tracks=has_live, confirmed=confirm)
        # A scan of one folder may find nothing there; the others tell what this machine calls its file systems.
        look = SecondLook(library.root)
        same = await asyncio.to_thread(look.same_devices, reversed(await known.rows())) if start else ()
        # In a thread of its own, beside the walk: with many tracks it takes its time.
        plan = await asyncio.to_thread(
            ScanPlan,
            NOTHING_SETTLED if full else settled,
            known.rows_in_thread,
            full=full,
            stable_inodes=stable,
            same_devices=same,
        )
        walker.compare(plan)
        chunks = await _Chunks.begun(job, library, state.newest, full=full)
        async with _shown_when_long(job):
            async for paths in walker.to_read():
                await chunks.add(paths)
        if has_live and not start and not confirm and not plan.met_known:
            await asyncio.to_thread(check_file_system, library)
    except LibraryOfflineError as error:
        await mark_offline(job, library_id, error)
        raise
    finally:
        # The thread ends after the few folders it lists; on a disk that hangs nobody waits for that.
        walker.stop()
    end = await asyncio.to_thread(plan.conclude, walker.report, start, any_device=confirm)
    for batch in range(0, len(end.adopted), ADOPTED_BATCH):
        async with job.effect() as work:
            await hold_tracks(work.session, library_id)
            await adopt_numbers(work.session, end.adopted[batch : batch + ADOPTED_BATCH])
    doubtful = [change for change in end.changed if end.missing or change.is_suspect]
    sure = set(end.changed).difference(doubtful)
    await chunks.add([[*end.to_read, *(change.file.path for change in end.changed if change in sure)]])
    end = replace(end, changed=doubtful)
    checkpoint = _checkpoint(state, walker.report, start, end, found=plan.found, confirm=confirm)
    if chunks.is_empty and not any((end.moves, end.missing, doubtful, end.to_read_after_moves, end.renumbered)):
        in_step = None
        if plan.met_all_unchanged:
            in_step = InStep(state.created_at, state.track_changes, await walker.digest())
        return Unchanged(checkpoint, in_step)
    await chunks.flush(checkpoint)
    return None


@dataclass(frozen=True, slots=True)
class _State:
    """What the database has of a library at one moment."""

    created_at: datetime
    track_changes: int
    #: The highest id of a track.
    newest: int
    renews_looks: bool
    #: None: not asked for, as nothing changed since the library was found in step.
    settled: Settled | None


async def _state_of(library_id: int, was: InStep | None) -> _State:
    async with services().database.reading() as session:
        row = (
            await session.execute(select(Library.created_at, Library.track_changes).where(Library.id == library_id))
        ).one_or_none()
        if row is None:
            raise LibraryGoneError(f"There is no library {library_id}")
        created_at, changes = row
        newest = await newest_id(session)
        settled, most_looks = None, 0
        if was is None or (was.created_at, was.track_changes) != (created_at, changes):
            settled, most_looks = await settled_tracks(session, library_id, newest)
        # What is given up meanwhile, the next scan renews.
        renews = await needs_renewed_looks(session, most_looks)
    return _State(created_at, changes, newest, renews, settled)


def _checkpoint(
    state: _State, report: WalkReport, start: bytes, end: Conclusion, *, found: int, confirm: bool
) -> dict[str, Any]:
    """What the walk leaves to the scan's last part; of `end.changed`, what is doubtful."""
    return {
        "newest": state.newest,
        "path": escaped(start),
        "confirm": confirm,
        "found": found,
        "moves": [[move.track_id, escaped(move.found.path), *move.found[1:]] for move in end.moves],
        "missing": end.missing,
        "doubtful": [[change.track_id, escaped(change.file.path), *change.file[1:]] for change in end.changed],
        "after_moves": [escaped(path) for path in end.to_read_after_moves],
        "renumbered": [[old, new] for old, new in end.renumbered.items()],
        "same_devices": [[old, new] for old, new in end.same_devices],
        "skipped": dict(report.skipped),
        "renews_looks": state.renews_looks,
        "unlisted": {shown(folder): why for folder, why in report.unlisted.items()},
    }


@asynccontextmanager
async def _shown_when_long(job: RunningJob) -> AsyncIterator[None]:
    """Say that the job walks, where the block takes long: most scans find no change within moments, and that would
    be a tenth of their work."""
    showing = asyncio.create_task(_show_walking(job))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait({showing})


async def _show_walking(job: RunningJob) -> None:
    await asyncio.sleep(_SHOWN_AFTER_SECONDS)
    # It is no more than shown: what keeps it from being written meets the scan's next effect too, if it lasts.
    with suppress(MusError, SupersededError, SQLAlchemyError):
        async with job.effect(stage="walking"):
            pass


def _checked(library: LocalLibrary, *, has_live_tracks: bool, confirmed: bool) -> bool:
    """Whether inodes last there. Raises LibraryOfflineError."""
    check_root(library, has_live_tracks=has_live_tracks, confirmed=confirmed)
    return has_stable_inodes(library.root)


def _start_of_walk(root: bytes, path: bytes, known: Iterable[KnownRow]) -> bytes:
    """`path`, or what is around it where it vanished or is passed over but has tracks. Raises NotFoundError."""
    look = SecondLook(root)
    folder = path
    try:
        while not look.is_walked(folder) and folder:
            folder = folder.rpartition(b"/")[0]
    except OSError as error:
        raise NotFoundError(f"{shown(path)} cannot be read: {error.strerror}") from None
    if folder != path and not (
        _has_file(look, path) or any(at == path or at.startswith(path + b"/") for _, at, *_ in known)
    ):
        raise NotFoundError(f"There is no folder {shown(path)} with music in this library")
    return folder


def _has_file(look: SecondLook, path: bytes) -> bool:
    try:
        return look.at(path) is not None
    except OSError:
        return False


class _Known:
    """The library's tracks, one by one: asked for once, when something is not as it was."""

    def __init__(self, library_id: int) -> None:
        self._library_id = library_id
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[list[KnownRow]] | None = None

    async def rows(self) -> list[KnownRow]:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await self._asking

    def rows_in_thread(self) -> list[KnownRow]:
        """As `rows`, for a thread that waits for them."""
        return asyncio.run_coroutine_threadsafe(self.rows(), self._loop).result()

    async def _ask(self) -> list[KnownRow]:
        async with services().database.reading() as session:
            return await known_tracks(session, self._library_id)


@dataclass
class _Chunks:
    """Gathers files into `read_files` jobs."""

    job: RunningJob
    library: LocalLibrary
    #: The highest id of a track before the first of them was enqueued.
    newest: int
    full: bool
    #: Escaped paths that are not to be enqueued again.
    _taken: set[str] = field(default_factory=set)
    _total: int = 0
    _waiting: list[str] = field(default_factory=list)

    @classmethod
    async def begun(cls, job: RunningJob, library: LocalLibrary, newest: int, *, full: bool) -> _Chunks:
        """Go on from the chunks that an earlier delivery of the job left when it stopped in the middle.

        What such a chunk has read already and is to be read again has changed since; but a full scan reads
        everything anyway.
        """
        chunks = cls(job, library, newest, full)
        if (job.started.attempt, job.started.delivery) == (1, 1):
            return chunks
        async with services().database.reading() as session:
            earlier = await session.execute(
                select(Job.arguments, Job.state).where(Job.parent_id == job.id, Job.task == "read_files")
            )
            for chunk in earlier:
                chunks._total += len(chunk.arguments["paths"])
                if full or chunk.state not in TERMINAL_STATES:
                    chunks._taken.update(chunk.arguments["paths"])
        return chunks

    @property
    def is_empty(self) -> bool:
        """Whether no file is to be read, by an earlier delivery's chunks either."""
        return not self._total and not self._waiting

    async def add(self, found: list[list[bytes]]) -> None:
        # By name, as people number what belongs together: new tracks get their ids so, and lists have tracks of one
        # album, or of one day, in the order of their ids. A folder's own order is none. Each part of the walk by
        # itself: in this order they are read ahead.
        for files in found:
            in_arguments = map(escaped, sorted(files))
            self._waiting += [path for path in in_arguments if path not in self._taken]
        if ready := self._whole():
            await self._enqueue(ready)

    def _size(self) -> int:
        if self._total < _LARGE_LIBRARY:
            return CHUNK
        return _READ_CHUNK if is_read_ahead(self.library.root) else _LARGE_CHUNK

    def _whole(self) -> list[list[str]]:
        ready: list[list[str]] = []
        taken = 0
        while len(self._waiting) - taken >= (size := self._size()):
            ready.append(self._waiting[taken : taken + size])
            taken += size
            self._total += size
        del self._waiting[:taken]
        return ready

    async def flush(self, checkpoint: dict[str, Any]) -> None:
        """The last of them, and in the same transaction the word that the walk is over."""
        rest, self._waiting = self._waiting, []
        size = self._size()
        self._total += len(rest)
        await self._enqueue([rest[start : start + size] for start in range(0, len(rest), size)], checkpoint)

    async def _enqueue(self, chunks: list[list[str]], checkpoint: dict[str, Any] | None = None) -> None:
        stage = "walking" if checkpoint is None else "reading"
        async with self.job.effect(units_total=self._total, stage=stage) as work:
            await self.job.keep(work, {"newest": self.newest} if checkpoint is None else checkpoint)
            await broker.enqueue_many(
                [
                    broker.job(
                        follow_up_queue(Queue(self.job.started.queue)),
                        "read_files",
                        Options(parent_id=self.job.id, requested_by=self.job.started.requested_by),
                        library_id=self.library.id,
                        paths=paths,
                        full=self.full,
                    )
                    for paths in chunks
                ]
            )
