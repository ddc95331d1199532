"""Follows the rows of scans to their end, and works on them where nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.cli.scan_terms import AskedScan
from mus.errors import ConflictError, NotFoundError
from mus.ledger import steering
from mus.ledger.job_states import TERMINAL_STATES, JobState
from mus.ledger.queries import paused_queues
from mus.persistence.database import Database
from mus.persistence.models import Job, WorkerRow, utc_now
from mus.persistence.prepared import Prepared
from mus.worker import worker_running

#: How long a living worker may take to pick the scan up before this process works itself.
_PICK_UP_SECONDS = 1.0
_LOOK_SECONDS, _LOOK_AT_FIRST_SECONDS = 0.1, 0.01
#: After Ctrl-C: how long the scan may take to stop.
_CANCEL_SECONDS = 10.0
#: How long a broker that does not answer is waited for.
_BROKER_SECONDS = 10.0
#: The lanes that a scan asked for by a person needs; its slow phase is for the next `mus up`.
SCAN_QUEUES = (Queue.HIGH, Queue.MEDIUM)


class ScanRow(NamedTuple):
    """What is followed of a job."""

    state: str
    created_at: datetime
    finished_at: datetime | None
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

    @property
    def seconds(self) -> float:
        """From the request to the end, or to now."""
        return ((self.finished_at or utc_now()) - self.created_at).total_seconds()


_ROW = Prepared(select(*(getattr(Job, name) for name in ScanRow._fields)).where(Job.id == bindparam("wanted")))


async def scan_rows(database: Database, job_ids: Sequence[str]) -> list[ScanRow | None]:
    """As the database has them now."""
    found = await database.look(lambda look: [look.one(_ROW, {"wanted": job_id}) for job_id in job_ids])
    return [None if row is None else ScanRow(*row) for row in found]


class Follower:
    """Watches the rows of jobs; where nobody runs them, runs a worker beside.

    `say` tells a person why a job waits; without it that stands on the terminal, unless a bar shows it.
    """

    def __init__(
        self,
        runtime: Runtime,
        asked: Sequence[AskedScan],
        *,
        work: bool,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._asked = asked
        self._may_work = work
        self._works_here = False
        #: Why the scan does not begin, where its queue is paused.
        self._paused = ""
        self._say = say
        self._interrupted = asyncio.Event()
        #: Set when a job may have changed in this process, or to be looked at for another reason.
        self._news = asyncio.Event()

    def interrupt(self) -> None:
        """As by Ctrl-C."""
        self._interrupted.set()
        self._news.set()

    async def rows(self) -> list[ScanRow]:
        rows: list[ScanRow] = []
        job_ids = [scan.job_id for scan in self._asked]
        for job_id, row in zip(job_ids, await scan_rows(self._runtime.database, job_ids), strict=True):
            if row is None:
                raise NotFoundError(f"The job {job_id} is gone")
            rows.append(row)
        return rows

    async def follow(
        self, stack: AsyncExitStack, bar: Any, *, patience_seconds: float | None = None
    ) -> tuple[list[ScanRow], bool] | None:
        """Until the jobs have ended, or Ctrl-C: then those that are ours are cancelled. None when a job that is not
        paused has not begun for `patience_seconds`."""
        with self._runtime.connection.hearing(self._heard):
            return await self._follow(stack, bar, patience_seconds)

    def _heard(self, job_ids: Collection[str]) -> None:
        if any(scan.job_id in job_ids for scan in self._asked):
            self._news.set()

    async def _follow(
        self, stack: AsyncExitStack, bar: Any, patience_seconds: float | None
    ) -> tuple[list[ScanRow], bool] | None:
        began = time.monotonic()
        looked_for_workers = -1.0
        broker_seen = now = 0.0
        # `first-scan` ends by a signal as any process does: the scan goes on without it.
        with self._signals_caught() if self._may_work else contextlib.nullcontext():
            while True:
                self._news.clear()
                rows = await self.rows()
                now = time.monotonic() - began
                if bar is not None:
                    self._show(bar, rows)
                if all(row.ended for row in rows):
                    return rows, self._interrupted.is_set()
                if self._interrupted.is_set():
                    return await self._cancelled(rows), True
                waits = now >= _PICK_UP_SECONDS and any(row.state == JobState.QUEUED for row in rows)
                if waits:
                    await self._mind_pause(told=bar is not None and self._say is None)
                    if patience_seconds is not None and now >= patience_seconds and not self._paused:
                        return None
                if self._may_work and now - looked_for_workers >= _PICK_UP_SECONDS:
                    if waits or not await _somebody_works(self._runtime):
                        await stack.enter_async_context(worker_running(self._runtime, await self._queues()))
                        self._may_work, self._works_here = False, True
                    looked_for_workers = now
                if self._works_here and now - broker_seen > _BROKER_SECONDS:
                    # Nobody else would run the scan; its row stands, and whoever works next takes it up.
                    await self._runtime.connection.missing(["nothing"])
                    broker_seen = now
                # What runs in this process is heard of at once.
                is_heard = self._works_here or not self._may_work
                await self._pause(_LOOK_SECONDS if is_heard or now >= 1.0 or bar else _LOOK_AT_FIRST_SECONDS)

    def _show(self, bar: Any, rows: Sequence[ScanRow]) -> None:
        at_work = next((row for row in rows if not row.ended and row.stage), rows[0])
        done, total = sum(row.units_done for row in rows), sum(row.units_total for row in rows)
        bar.show(self._paused or at_work.stage or at_work.state, done, total)

    async def _mind_pause(self, *, told: bool) -> None:
        """Say why nothing happens when the scan's queue is paused; once, unless a bar says it all the time."""
        async with self._runtime.database.reading() as session:
            job_ids = [scan.job_id for scan in self._asked]
            waiting = select(Job.queue).where(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
            queue = await session.scalar(waiting.limit(1))
            is_paused = queue in await paused_queues(session)
        said, self._paused = self._paused, f"{queue} is paused: mus queues resume {queue}" if is_paused else ""
        if self._paused and not said and not told:
            what = f"the scan waits, {self._paused}"
            if self._say is not None:
                self._say(what)
            else:
                print(f"mus: {what}", file=sys.stderr, flush=True)

    async def _queues(self) -> list[Queue]:
        """The queues to serve: a scan's own, and all where a scan of the background stands in its way."""
        async with self._runtime.database.reading() as session:
            in_the_way = await session.execute(
                select(Job.id).where(
                    Job.task == "scan_library", Job.queue == Queue.LOW, Job.state.not_in(TERMINAL_STATES)
                )
            )
            return list(SCAN_QUEUES if in_the_way.first() is None else Queue)

    async def _cancelled(self, rows: list[ScanRow]) -> list[ScanRow]:
        ours = [number for number, scan in enumerate(self._asked) if scan.is_ours]
        for number in ours:
            with contextlib.suppress(ConflictError):  # it ended in this very moment
                async with self._runtime.database.unit_of_work():
                    await steering.cancel(broker.ledger, self._asked[number].job_id)
        for _ in range(round(_CANCEL_SECONDS / _LOOK_SECONDS) if ours else 0):
            rows = await self.rows()
            if all(rows[number].ended for number in ours):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return rows

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    @contextmanager
    def _signals_caught(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.interrupt)
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
    return served.issuperset(SCAN_QUEUES)


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
