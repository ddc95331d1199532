"""A scan's first part: walk and compare, and enqueue what is to be read while the walk goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue, follow_up_queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import LibraryOfflineError, NotFoundError
from mus.jobs.library_jobs import give_way_to_follow
from mus.jobs.mount_guard import check_file_system, check_root, mark_offline
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import needs_renewed_looks
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.file_systems import has_stable_inodes
from mus.library.paths import escaped, shown
from mus.library.scan_plan import NOTHING_SETTLED, KnownRow, ScanPlan
from mus.library.second_look import SecondLook
from mus.library.walk import FoundFiles, WalkReport
from mus.library.walk_ahead import is_read_ahead, walk_or_take
from mus.persistence.batch_operations import ADOPTED_BATCH, adopt_numbers, hold_tracks
from mus.persistence.known_tracks import known_tracks, settled_tracks
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job
from mus.persistence.track_identity import newest_id

#: Files of one `read_files` job: some 50 ms of reading, one short write transaction. With 250 a first scan of
#: 100,000 files took 24 to 28 s in place of 18 to 19, and a fifth more CPU.
CHUNK = 500
#: In a large library, whose first tracks have shown by then: the jobs themselves took a twentieth of a first scan.
_LARGE_CHUNK, _LARGE_LIBRARY = 1000, 2000
#: And of those that are read ahead, where a job has but to store them: another twentieth.
_READ_CHUNK = 2000
_SHOWN_AFTER_SECONDS = 0.25


async def walk_and_enqueue(
    job: RunningJob, library_id: int, *, mode: str, path: bytes, confirm: bool
) -> dict[str, Any] | None:
    """Walk the library from `path`, enqueue chunks as files turn up, leave the rest in the job's checkpoint.

    Where all is as it was and nothing was enqueued the checkpoint is returned instead, for `finish_at_once`.

    Raises LibraryOfflineError when the root is gone, empty, or another one, and NotFoundError when `path` is
    nowhere in the library.
    """
    left = job.checkpoint or {}
    if "found" in left:
        return None  # an earlier attempt finished the walk; its chunks are enqueued
    library = await find_library(library_id)
    await give_way_to_follow(library)
    known = _Known(library_id)
    walker = _Walker(library.root)
    try:
        start = await asyncio.to_thread(_start_of_walk, library.root, path, await known.rows()) if path else b""
        walker.begin(start)
        async with services().database.reading() as session:
            highest = await newest_id(session)
            settled, most_looks = await settled_tracks(session, library_id, highest)
            # What is given up meanwhile, the next scan renews.
            renews = await needs_renewed_looks(session, most_looks)
        # Tracks with higher ids are new ones: an earlier attempt's chunks may have stored some already.
        newest = left.get("newest", highest)
        has_live = settled.live > 0
        stable = await asyncio.to_thread(_checked, library, has_live_tracks=has_live, confirmed=confirm)
        # A scan of one folder may find nothing there; the others tell what this machine calls its file systems.
        look = SecondLook(library.root)
        same = await asyncio.to_thread(look.same_devices, reversed(await known.rows())) if start else ()
        full = mode == "full"
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
        chunks = await _Chunks.begun(job, library, newest, full=full)
        async with _shown_when_long(job):
            await walker.walked(chunks)
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
    checkpoint = {
        "newest": newest,
        "path": escaped(start),
        "confirm": confirm,
        "found": plan.found,
        "moves": [[move.track_id, escaped(move.found.path), *move.found[1:]] for move in end.moves],
        "missing": end.missing,
        "doubtful": [[change.track_id, escaped(change.file.path), *change.file[1:]] for change in doubtful],
        "after_moves": [escaped(path) for path in end.to_read_after_moves],
        "renumbered": [[old, new] for old, new in end.renumbered.items()],
        "same_devices": [[old, new] for old, new in end.same_devices],
        "skipped": dict(walker.report.skipped),
        "renews_looks": renews,
        "unlisted": {shown(folder): why for folder, why in walker.report.unlisted.items()},
    }
    if chunks.is_empty and not any((end.moves, end.missing, doubtful, end.to_read_after_moves, end.renumbered)):
        return checkpoint
    await chunks.flush(checkpoint)
    return None


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
    if not showing.cancelled():
        showing.result()


async def _show_walking(job: RunningJob) -> None:
    await asyncio.sleep(_SHOWN_AFTER_SECONDS)
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
class _Walker:
    """The walk and the comparison, in a thread; what is to be read crosses to the event loop in batches."""

    root: bytes
    report: WalkReport = field(default_factory=WalkReport)
    _walking: asyncio.Task[None] | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _to_read: list[list[bytes]] = field(default_factory=list)
    _plan: Future[ScanPlan] = field(default_factory=Future)

    def begin(self, start: bytes) -> None:
        """Walk from there. What is found waits until `compare` is called."""
        loop = asyncio.get_running_loop()
        wake = partial(loop.call_soon_threadsafe, self._arrived.set)
        self._walking = asyncio.create_task(asyncio.to_thread(self._run, start, wake))
        self._walking.add_done_callback(lambda _: self._arrived.set())

    def compare(self, plan: ScanPlan) -> None:
        """Compare what is found with that plan."""
        self._plan.set_result(plan)

    async def walked(self, chunks: _Chunks) -> None:
        """Until the walk is over and what it found to be read is in `chunks`."""
        assert self._walking is not None
        while not self._walking.done():
            await self._arrived.wait()
            self._arrived.clear()
            await chunks.add(self._take())
        await self._walking
        await chunks.add(self._take())

    def stop(self) -> None:
        self._stopped.set()
        self._plan.cancel()
        if self._walking is not None:
            self._walking.cancel()

    def _run(self, start: bytes, wake: Callable[[], Any]) -> None:
        found = walk_or_take(self.root, start, self.report, stopped=self._stopped.is_set)
        # The listing takes the interpreter's lock for moments only, and the database's text is made without it.
        early: list[FoundFiles] = []
        for files in found:
            early.append(files)
            if self._plan.done():
                break
        plan = self._plan.result()
        for files in chain(early, found):
            to_read = plan.consider(files)
            if to_read and not self._stopped.is_set():
                with self._lock:
                    self._to_read.append(to_read)
                wake()

    def _take(self) -> list[list[bytes]]:
        with self._lock:
            taken, self._to_read = self._to_read, []
        return taken


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
