"""A worker process: loads the job modules, runs a lane per queue, beats, reconciles, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import UTC

from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mus.broker.job_runner import JobRunner, StopReason
from mus.broker.lane import Lane
from mus.broker.queues import POLICIES, Queue, consumer_name, queue_named
from mus.broker.runtime import Runtime, opened
from mus.broker.streaq_broker import Connection, broker
from mus.broker_address import CONNECT_SECONDS
from mus.config import Settings, load_settings
from mus.errors import ConfigurationError, TemporaryError
from mus.jobs import JOB_MODULES, TASK_QUEUES
from mus.jobs.renewed_words import request_renewal
from mus.jobs.schedules import schedule_entries
from mus.jobs.services import job_services
from mus.ledger.queries import PAUSED_QUEUES
from mus.ledger.reconcile import Reconciler
from mus.ledger.schedules import ensure_schedules
from mus.ledger.workers import Heartbeat
from mus.library.reading_rules import ReadingRules
from mus.persistence.database import START_SECONDS
from mus.rest import Rest
from mus.turns import until_turn

logger = logging.getLogger(__name__)


def load_job_modules(modules: Sequence[str], queues: Sequence[Queue]) -> None:
    """Import the job modules (all by default; maintenance always).

    Raises ConfigurationError when a module cannot be imported, or when a task of a served queue is in none of
    them: its jobs would fail here while another worker could run them.
    """
    for name in [*(modules or JOB_MODULES), "mus.jobs.maintenance_jobs"]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(f"The job module {name!r} cannot be imported: {error}") from error
    missing = sorted(
        name for name, on in TASK_QUEUES.items() if name not in broker.tasks and not on.isdisjoint(queues)
    )
    if missing:
        raise ConfigurationError(
            f"The queues {', '.join(queues)} carry tasks that no loaded module has: {', '.join(missing)}. "
            f"Name their modules as well; all are: {', '.join(JOB_MODULES)}"
        )


class WorkerProcess:
    """The lanes of one process, with what keeps their jobs safe."""

    def __init__(self, settings: Settings, connection: Connection, queues: Sequence[Queue]) -> None:
        self._settings = settings
        self._connection = connection
        self._queues = list(queues)
        self._heartbeat = Heartbeat(
            connection.ledger.database.url,
            [queue.value for queue in queues],
            settings.beat_seconds,
        )
        self._runner = JobRunner(connection.ledger, broker.tasks, self._heartbeat.worker_id)
        self._lanes = [self._lane(queue) for queue in queues]
        self._look_again = asyncio.Event()
        self._rest = Rest(connection.ledger.database, is_busy=lambda: bool(self._runner.running))

    def _lane(self, queue: Queue) -> Lane:
        return Lane(
            self._connection.url,
            self._connection.queue_name,
            queue,
            slots=POLICIES[queue].slots,
            worker_id=consumer_name(self._heartbeat.worker_id, queue),
            idle_timeout_seconds=self._settings.dead_after_seconds,
            deliver=self._deliver,
        )

    async def _deliver(self, delivery_id: str) -> None:
        try:
            await self._runner.deliver(delivery_id)
        finally:
            self._rest.worked()

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then drain: running jobs end, or are handed back in time."""
        await self._join()
        try:
            async with self._rest.kept(), asyncio.TaskGroup() as loops:
                background = [
                    loops.create_task(self._reconcile(), name="mus-reconcile"),
                    loops.create_task(self._listen(), name="mus-control"),
                ]
                try:
                    await self._mind_paused_queues_from_the_begin()
                    lanes = [loops.create_task(lane.serve(), name=f"mus-lane {lane.id}") for lane in self._lanes]
                    logger.info("worker %s serves %s", self._heartbeat.worker_id, ", ".join(self._queues))
                    await stopping.wait()
                    await self._drain(lanes)
                finally:
                    await _cancelled(background)
        finally:
            await self._heartbeat.stop()

    async def _join(self) -> None:
        """Write the schedules and this worker's row; a database that went away just now is waited for."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                await ensure_schedules(self._connection.ledger, schedule_entries(self._settings.scan_schedule))
                await request_renewal(
                    self._connection.ledger.database,
                    ReadingRules.of(self._settings.tag_separators, self._settings.sort_articles),
                )
                return await self._heartbeat.start()
            except (DBAPIError, TemporaryError) as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("the worker waits for the database: %s", error)
            await asyncio.sleep(0.2)

    async def _drain(self, lanes: list[asyncio.Task[None]]) -> None:
        for lane in self._lanes:
            lane.stop()
        self._runner.begin_drain()
        _, late = await asyncio.wait(lanes, timeout=self._settings.drain_seconds)
        if late:
            logger.info("handing %d running jobs back", len(self._runner.running))
            self._runner.hand_all_back()
            await asyncio.wait(late)

    async def _reconcile(self) -> None:
        reconciler = Reconciler(
            self._connection.ledger,
            self._connection,
            dead_after_seconds=self._settings.dead_after_seconds,
            every_seconds=self._settings.reconcile_seconds,
            tasks=broker.tasks,
            worker_id=self._heartbeat.worker_id,
        )
        while True:
            self._look_again.clear()
            try:
                await self._mind_paused_queues()
                await reconciler.tick()
                await self._stop_lost(reconciler)
            except Exception:
                logger.exception("reconcile failed this time")
            with suppress(TimeoutError):
                async with asyncio.timeout(until_turn(self._settings.reconcile_seconds)):
                    await self._look_again.wait()

    async def _mind_paused_queues(self) -> None:
        """Take no messages of paused queues. The ledger starts none of their jobs either way."""
        rows = await self._connection.ledger.database.look(lambda look: look.all(PAUSED_QUEUES))
        paused = {row.name for row in rows}
        for queue, lane in zip(self._queues, self._lanes, strict=True):
            if queue in paused:
                lane.pause()
            else:
                lane.resume()

    async def _mind_paused_queues_from_the_begin(self) -> None:
        try:
            await self._mind_paused_queues()
        except (DBAPIError, PoolTimeoutError) as error:
            # A database that went away just now. Reconcile asks again, and the ledger starts no job meanwhile.
            logger.warning("which queues are paused is not known yet: %s", error)

    async def _stop_lost(self, reconciler: Reconciler) -> None:
        """Stop jobs whose cancel was not heard of, or that were moved on while this process stood still."""
        running = set(self._runner.running)
        for delivery_id in await reconciler.check_own(self._heartbeat.worker_id, running):
            self._runner.stop_delivery(delivery_id, StopReason.CANCEL)

    async def _listen(self) -> None:
        """Hear at once of cancels, of queues that were paused or resumed, and of jobs that are due soon."""
        while True:
            try:
                async with self._connection.redis.pubsub() as messages:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await messages.subscribe(self._connection.control_channel)
                    async for message in messages.listen():
                        if message["type"] == "message":
                            self._told(message["data"])
            except (RedisError, OSError) as error:
                logger.debug("listening was interrupted: %r", error)
            except Exception:
                # Anybody may say anything on a channel; what is missed here, reconcile sees.
                logger.exception("what was said on the control channel was not understood")
            await asyncio.sleep(0.2)

    def _told(self, message: str) -> None:
        what, _, job_id = message.partition(" ")
        if what == "cancel":
            self._runner.stop_job(job_id, StopReason.CANCEL)
        elif what == "queues":
            # What was resumed is published again by the same look.
            self._look_again.set()
        elif what == "delayed":
            for lane in self._lanes:
                lane.look_for_delayed()


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end: redis-py answers a cancel while it connects with an error of its own (seen on
    8.1.0), and a loop that bears errors would go on."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)


@asynccontextmanager
async def worker_running(runtime: Runtime, queues: Sequence[Queue]) -> AsyncIterator[WorkerProcess]:
    """A worker in this process for the block, drained at its end. The job modules are loaded already.

    A worker that fails ends the block, and what it failed of is raised.
    """
    stopping = asyncio.Event()
    async with job_services(runtime):
        serving = WorkerProcess(runtime.settings, runtime.connection, queues)
        process = asyncio.create_task(serving.run(stopping))
        body = asyncio.current_task()
        assert body is not None
        process.add_done_callback(lambda _: None if stopping.is_set() else body.cancel())
        try:
            yield serving
        except asyncio.CancelledError:
            if not process.done() or stopping.is_set():
                raise
            body.uncancel()  # not cancelled by anybody: the worker has failed
        finally:
            stopping.set()
            await process


async def run_worker(
    settings: Settings,
    modules: Sequence[str],
    queue_names: Sequence[str],
    *,
    beside: Callable[[Runtime, Sequence[Queue]], AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """`mus worker`: until SIGTERM or SIGINT. `beside` is open while it serves.

    Raises BadRequestError for an unknown queue and ConfigurationError for a missing task.
    """
    queues = [queue_named(name) for name in queue_names] or list(Queue)
    load_job_modules(modules, queues)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with (
        opened(settings) as runtime,
        job_services(runtime),
        beside(runtime, queues) if beside is not None else nullcontext(),
    ):
        await WorkerProcess(settings, runtime.connection, queues).run(stopping)


class _StreaqEntry:
    """What `streaq run mus.worker:worker` looks for: it runs a whole worker process of mus, all lanes of it."""

    tz = UTC
    burst = False

    def run_sync(self) -> None:
        if self.burst:
            raise ConfigurationError("A worker of mus waits for jobs and has no burst mode: leave --burst out")
        asyncio.run(run_worker(load_settings(), (), ()))


worker = _StreaqEntry()
