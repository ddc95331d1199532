"""Workers are rows with a counter that rises; who stands still too long is taken for dead (DESIGN §4)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import URL, bindparam, delete, select, update

from mus.ledger.deliveries import new_id
from mus.persistence.database import Database
from mus.persistence.models import WorkerRow, utc_now
from mus.persistence.prepared import Prepared
from mus.turns import until_turn

logger = logging.getLogger(__name__)


_LIVING = Prepared(select(WorkerRow.id, WorkerRow.beat).where(WorkerRow.state == "alive"))
_BEAT = Prepared(
    update(WorkerRow)
    .where(WorkerRow.id == bindparam("worker"))
    .values(beat=WorkerRow.beat + 1, beat_at=bindparam("now"), state=bindparam("as"))
    .returning(WorkerRow.beat)
)

#: No job blocks the event loop for so long.
LONGEST_TURN_SECONDS = 300.0


class Heartbeat:
    """Raises this worker's counter from a thread and a connection of its own.

    So a job that blocks the event loop does not look like a dead worker, while a stopped process does; and so does
    one whose loop has not turned for minutes, as where it writes its log to a pipe that nobody reads: it neither
    reads messages nor reconciles.
    """

    def __init__(self, database_url: URL, queues: Sequence[str], beat_seconds: float) -> None:
        self.worker_id = new_id()
        self._database_url = database_url
        self._queues = list(queues)
        self._beat_seconds = beat_seconds
        self._stopping = threading.Event()
        self._registered: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._loop_turned = time.monotonic()

    async def start(self) -> None:
        """Register the worker. Raises what the database raises."""
        loop = asyncio.get_running_loop()
        self._registered = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop,), name="mus-heartbeat", daemon=True)
        self._thread.start()
        await self._registered

    async def stop(self) -> None:
        """Leave in good order."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run(self._beat(loop))

    async def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._registered is not None
        database = Database(self._database_url)
        try:
            try:
                await self._write(database, state="alive")
            except Exception as error:  # noqa: BLE001 - handed to whoever starts the worker
                loop.call_soon_threadsafe(self._registered.set_exception, error)
                return
            loop.call_soon_threadsafe(self._registered.set_result, None)
            while not self._stopping.wait(until_turn(self._beat_seconds)):
                if time.monotonic() - self._loop_turned > LONGEST_TURN_SECONDS:
                    continue
                try:
                    loop.call_soon_threadsafe(self._note_turn)
                    await self._write(database, state="alive")
                except Exception as error:  # noqa: BLE001 - a database that is busy now may answer the next beat
                    logger.warning("a heartbeat could not be written: %s", error)
            try:
                await self._write(database, state="stopped")
            except Exception as error:  # noqa: BLE001 - others will take it for dead instead
                logger.warning("the worker could not sign off: %s", error)
        finally:
            await database.close()

    def _note_turn(self) -> None:
        self._loop_turned = time.monotonic()

    async def _write(self, database: Database, *, state: str) -> None:
        values = {"worker": self.worker_id, "now": utc_now(), "as": state}
        if await database.transact(lambda transaction: transaction.one(_BEAT, values)) is not None:
            return
        async with database.unit_of_work() as work:
            work.session.add(
                WorkerRow(
                    id=self.worker_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=self._queues,
                    state=state,
                    beat=1,
                )
            )


class DeadWorkerWatch:
    """Tells which workers died, by this process's own monotonic clock.

    Only time in which this process itself could read counts, in steps of at most twice the usual pause: an
    observer that was frozen does not take everybody else for dead when it wakes up. And only while its own worker's
    counter rises, where that is named: while somebody holds the database's lock nobody can count, and all live.
    """

    def __init__(self, dead_after_seconds: float, look_every_seconds: float, own_id: str | None = None) -> None:
        self._own_id = own_id
        self._own_beat: int | None = None
        self._kept = 0.0
        self._dead_after = dead_after_seconds
        self._longest_step = 2 * look_every_seconds
        self._last_look: float | None = None
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, beats: dict[str, int]) -> list[str]:
        """Take one reading of all living workers' counters; returns those that stood still too long."""
        now = time.monotonic()
        step = 0.0 if self._last_look is None else min(now - self._last_look, self._longest_step)
        self._last_look = now
        if self._own_id is not None:
            # Until the own counter rises what passes is kept, but no more than one step: a beat and a look may just
            # have missed each other.
            step = min(step + self._kept, self._longest_step)
            has_risen = beats.get(self._own_id) != self._own_beat
            self._own_beat = beats.get(self._own_id)
            step, self._kept = (step, 0.0) if has_risen else (0.0, step)
        dead: list[str] = []
        seen: dict[str, tuple[int, float]] = {}
        for worker_id, beat in beats.items():
            last_beat, stood_still = self._seen.get(worker_id, (beat, -step))
            stood_still = 0.0 if beat != last_beat else stood_still + step
            seen[worker_id] = (beat, stood_still)
            if stood_still >= self._dead_after:
                dead.append(worker_id)
        self._seen = seen
        return dead


async def living_beats(database: Database) -> dict[str, int]:
    """Counters of the workers that are taken for alive."""
    return {row.id: row.beat for row in await database.look(lambda look: look.all(_LIVING))}


async def declare_dead(database: Database, worker_id: str, *, at_beat: int | None = None) -> bool:
    """Mark a worker dead; with `at_beat` only if its counter still stands there."""
    async with database.unit_of_work() as work:
        statement = update(WorkerRow).where(WorkerRow.id == worker_id, WorkerRow.state == "alive")
        if at_beat is not None:
            statement = statement.where(WorkerRow.beat == at_beat)
        changed = await work.session.execute(statement.values(state="dead").returning(WorkerRow.id))
        return changed.one_or_none() is not None


async def declare_process_dead(database: Database, pid: int) -> list[str]:
    """Report a child process of this machine that its parent saw die. Returns its worker ids."""
    async with database.unit_of_work() as work:
        rows = await work.session.execute(
            update(WorkerRow)
            .where(WorkerRow.host == socket.gethostname(), WorkerRow.pid == pid, WorkerRow.state == "alive")
            .values(state="dead")
            .returning(WorkerRow.id)
        )
        return list(rows.scalars().all())


async def forget_gone_workers(database: Database, *, older_than_seconds: float = 86_400) -> int:
    """Drop the rows of workers that left long ago. Returns how many."""
    oldest = utc_now() - timedelta(seconds=older_than_seconds)
    async with database.unit_of_work() as work:
        gone = await work.session.execute(
            delete(WorkerRow).where(WorkerRow.state != "alive", WorkerRow.beat_at < oldest).returning(WorkerRow.id)
        )
        return len(gone.all())
