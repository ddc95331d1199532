"""Asks for a scan, sees to it that somebody runs it, and follows its row to the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime, opened
from mus.broker.streaq_broker import broker
from mus.cli.migrate import library_of
from mus.cli.options import WrongUsageError
from mus.config import Settings
from mus.errors import ConflictError, NotFoundError
from mus.jobs.scan_requests import scan_job
from mus.ledger import steering
from mus.ledger.job_states import TERMINAL_STATES, JobState
from mus.ledger.queries import paused_queues
from mus.library.paths import escaped, shown, unescaped
from mus.persistence.database import Database
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job, WorkerRow, utc_now
from mus.worker import load_job_modules, worker_running

_COUNTS = ("found", "added", "updated", "moved", "missing", "unchanged", "skipped", "failed")
#: How long a living worker may take to pick the scan up before this process works itself.
_PICK_UP_SECONDS = 1.0
_LOOK_SECONDS, _LOOK_AT_FIRST_SECONDS = 0.1, 0.01
#: After Ctrl-C: how long the scan may take to stop.
_CANCEL_SECONDS = 10.0
#: The lanes that a scan asked for by a person needs; its slow phase is for the next `mus up`.
#: How long a broker that does not answer is waited for.
_BROKER_SECONDS = 10.0
_SCAN_QUEUES = (Queue.HIGH, Queue.MEDIUM)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    path: str | None = None
    full: bool = False
    confirm_missing: bool = False
    wait: bool = True
    requested_by: str = "mus scan"
    #: Follow a scan that is under way instead of asking for another.
    join: bool = False
    #: Work in this process when nobody else does.
    work: bool = True


@dataclass(slots=True)
class ScanEnd:
    """How a scan ended, or where it stands when nobody waited."""

    job_id: str
    library: str
    state: str
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    interrupted: bool = False

    def counts(self) -> dict[str, int]:
        return {name: int(self.result.get(name) or 0) for name in _COUNTS}

    def skipped_reasons(self) -> dict[str, int]:
        return dict(self.result.get("skipped_reasons") or {})

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            **self.counts(),
            "seconds": round(self.seconds, 3),
            "state": self.state,
            "job_id": self.job_id,
            "library": self.library,
            "skipped_reasons": self.skipped_reasons(),
        }
        return answer if self.error is None else answer | {"error": self.error}


@dataclass(frozen=True, slots=True)
class _Row:
    """What is followed of a job."""

    state: str
    stage: str | None
    progress: float
    units_done: int
    units_total: int
    run_after: datetime | None
    result: dict[str, Any] | None
    error_category: str | None
    error_message: str | None
    error_details: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES


def load_scan_jobs() -> None:
    """Import the jobs: those that this process may run, and those that they enqueue for others."""
    load_job_modules([], list(Queue))


async def request_scan(settings: Settings, request: ScanRequest, *, on_terminal: bool) -> ScanEnd:
    """Enqueue a scan of the library that the settings mean, and follow it if `request.wait`.

    `load_scan_jobs` comes first.

    Raises WrongUsageError for a path outside the library, and MusError for what keeps mus from working at all.
    """
    async with opened(settings) as runtime, AsyncExitStack() as stack:
        library = await library_of(runtime.database, settings)
        began = time.monotonic()
        path = _path_in(library, request.path)
        job_id, is_ours = await _enqueue(runtime.database, library, request, path)
        follower = _Follower(runtime, job_id, work=request.work)
        if request.wait:
            bar = stack.enter_context(_shown_progress(library, on_terminal=on_terminal))
            row, interrupted = await follower.follow(stack, bar, cancels=is_ours)
        else:
            row, interrupted = await follower.row(), False
        return ScanEnd(
            job_id=job_id,
            library=library.name,
            state=row.state,
            seconds=time.monotonic() - began if is_ours else await _seconds_of(runtime.database, job_id),
            result=row.result or {},
            error=_error(row),
            interrupted=interrupted,
        )


async def _enqueue(database: Database, library: LocalLibrary, request: ScanRequest, path: str) -> tuple[str, bool]:
    """The job's id, and whether it was made here rather than found."""
    mode = "full" if request.full else "quick"
    if request.join:
        asked_for = await _newest_scan(database, library)
        if asked_for is not None:
            return asked_for, False
    asked_at = utc_now()
    async with database.unit_of_work():
        (job_id,) = await broker.enqueue_many(
            [
                scan_job(
                    library.id,
                    requested_by=request.requested_by,
                    mode=mode,
                    path=unescaped(path),
                    confirm_missing=request.confirm_missing,
                )
            ]
        )
    async with database.reading() as session:
        created_at = await session.scalar(select(Job.created_at).where(Job.id == job_id))
    return job_id, created_at is not None and created_at >= asked_at


async def _seconds_of(database: Database, job_id: str) -> float:
    """From the request of somebody else's scan to its end, or to now."""
    async with database.reading() as session:
        created, finished = (
            await session.execute(select(Job.created_at, Job.finished_at).where(Job.id == job_id))
        ).one()
    return float(((finished or utc_now()) - created).total_seconds())


async def _newest_scan(database: Database, library: LocalLibrary) -> str | None:
    """The newest scan of the whole library, unless it failed. The watcher asked for it at its start, and a small
    library is scanned before anybody can look."""
    async with database.reading() as session:
        jobs = await session.execute(
            select(Job.id, Job.arguments)
            .where(Job.task == "scan_library", Job.state.not_in((JobState.FAILED, JobState.CANCELLED)))
            .order_by(Job.id.desc())
        )
        return next(
            (job.id for job in jobs if job.arguments["library_id"] == library.id and not job.arguments["path"]),
            None,
        )


def _path_in(library: LocalLibrary, given: str | None) -> str:
    """The path for the job's arguments: relative to the root, escaped; "" is the root itself.

    It need not exist: a scan of what is gone finds it missing. Raises WrongUsageError for one outside.
    """
    if given is None:
        return ""
    root = os.path.realpath(library.root)
    names = (root, library.root.rstrip(b"/"), library.stored_root.rstrip(b"/"))
    wanted = os.path.normpath(os.path.join(root, os.fsencode(given)))
    if not wanted.startswith(tuple(name + b"/" for name in names)) and wanted != root:
        wanted = os.path.realpath(os.fsencode(Path(given).absolute()))
    for base in names:
        if wanted == base:
            return ""
        if wanted.startswith(base + b"/"):
            return escaped(wanted[len(base) + 1 :])
    raise WrongUsageError(f"--path {given!r} is not inside the library's folder {shown(library.root)!r}")


def _error(row: _Row) -> dict[str, Any] | None:
    if row.error_message is None or row.state == JobState.SUCCEEDED:
        return None
    return {
        "category": row.error_category,
        "message": row.error_message,
        "recovery_actions": (row.error_details or {}).get("recovery_actions", []),
    }


@contextmanager
def _shown_progress(library: LocalLibrary, *, on_terminal: bool) -> Iterator[Any]:
    if not on_terminal:
        yield None
        return
    from mus.cli.progress_bar import StageBar

    with StageBar(f"Scanning {library.name}") as bar:
        yield bar


class _Follower:
    """Watches one job's row; where nobody runs the job, runs a worker beside."""

    def __init__(self, runtime: Runtime, job_id: str, *, work: bool) -> None:
        self._runtime = runtime
        self._job_id = job_id
        self._may_work = work
        self._works_here = False
        #: Why the scan does not begin, where its queue is paused.
        self._paused = ""
        self._interrupted = asyncio.Event()

    async def row(self) -> _Row:
        columns = [getattr(Job, name) for name in _Row.__slots__]
        async with self._runtime.database.reading() as session:
            found = (await session.execute(select(*columns).where(Job.id == self._job_id))).one_or_none()
        if found is None:
            raise NotFoundError(f"The job {self._job_id} is gone")
        return _Row(*found)

    async def follow(self, stack: AsyncExitStack, bar: Any, *, cancels: bool) -> tuple[_Row, bool]:
        """Until the job has ended, or Ctrl-C: then it is cancelled if it is ours."""
        began = time.monotonic()
        looked_for_workers = -1.0
        broker_seen = now = 0.0
        # `first-scan` ends by a signal as any process does: the scan goes on without it.
        with self._signals_caught() if self._may_work else contextlib.nullcontext():
            while True:
                row = await self.row()
                now = time.monotonic() - began
                if bar is not None:
                    bar.show(self._paused or row.stage or row.state, row.units_done, row.units_total)
                if row.ended:
                    return row, self._interrupted.is_set()
                if self._interrupted.is_set():
                    return await self._cancelled(row, cancels=cancels), True
                if row.state == JobState.QUEUED and now >= _PICK_UP_SECONDS:
                    await self._mind_pause(told=bar is not None)
                if self._may_work and now - looked_for_workers >= _PICK_UP_SECONDS:
                    waits = row.state == JobState.QUEUED and now >= _PICK_UP_SECONDS
                    if waits or not await _somebody_works(self._runtime):
                        await stack.enter_async_context(worker_running(self._runtime, await self._queues()))
                        self._may_work, self._works_here = False, True
                    looked_for_workers = now
                if self._works_here and now - broker_seen > _BROKER_SECONDS:
                    # Nobody else would run the scan; its row stands, and whoever works next takes it up.
                    await self._runtime.connection.missing(["nothing"])
                    broker_seen = now
                await self._pause(_LOOK_AT_FIRST_SECONDS if now < 1.0 and bar is None else _LOOK_SECONDS)

    async def _mind_pause(self, *, told: bool) -> None:
        """Say why nothing happens when the scan's queue is paused; once, unless a bar says it all the time."""
        async with self._runtime.database.reading() as session:
            queue = await session.scalar(select(Job.queue).where(Job.id == self._job_id))
            is_paused = queue in await paused_queues(session)
        said, self._paused = self._paused, f"{queue} is paused: mus queues resume {queue}" if is_paused else ""
        if self._paused and not said and not told:
            print(f"mus: the scan waits, {self._paused}", file=sys.stderr, flush=True)

    async def _queues(self) -> list[Queue]:
        """The queues to serve: a scan's own, and all where a scan of the background stands in its way."""
        async with self._runtime.database.reading() as session:
            in_the_way = await session.execute(
                select(Job.id).where(
                    Job.task == "scan_library", Job.queue == Queue.LOW, Job.state.not_in(TERMINAL_STATES)
                )
            )
            return list(_SCAN_QUEUES if in_the_way.first() is None else Queue)

    async def _cancelled(self, row: _Row, *, cancels: bool) -> _Row:
        if not cancels:
            return row
        with contextlib.suppress(ConflictError):  # it ended in this very moment
            async with self._runtime.database.unit_of_work():
                await steering.cancel(broker.ledger, self._job_id)
        for _ in range(round(_CANCEL_SECONDS / _LOOK_SECONDS)):
            row = await self.row()
            if row.ended:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return row

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._interrupted.wait()

    @contextmanager
    def _signals_caught(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted.set)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


async def _somebody_works(runtime: Runtime) -> bool:
    """Whether living workers serve the queues of a scan, as far as their rows and processes tell."""
    async with runtime.database.reading() as session:
        workers = (await session.execute(select(WorkerRow).where(WorkerRow.state == "alive"))).scalars().all()
    oldest_beat = utc_now() - timedelta(seconds=runtime.settings.dead_after_seconds)
    served = {
        queue
        for worker in workers
        if worker.beat_at > oldest_beat and _process_exists(worker)
        for queue in worker.queues
    }
    return served.issuperset(_SCAN_QUEUES)


def _process_exists(worker: WorkerRow) -> bool:
    if worker.host != socket.gethostname():
        return True  # out of sight: its beat has to do
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
