"""A lane: one streaQ worker with the single priority of one queue and slots of its own.

streaQ delivers, the ledger decides (DESIGN §2). A plain streaQ worker ends when its connection breaks, when its
streams vanish (`NOGROUP`) or when a task raises something it cannot encode; a lane does none of that. Its loops
repair what is missing and go on, and the jobs that run meanwhile are not disturbed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectSendStream
from coredis.exceptions import RedisError

from mus.broker import server_scripts
from mus.ledger.deliveries import Delivery

server_scripts.install()

from streaq import Worker  # noqa: E402 - after install(), which puts our classes in their modules
from streaq.constants import REDIS_GROUP  # noqa: E402
from streaq.types import Entries, StreamMessage  # noqa: E402
from streaq.worker import _lifespan  # noqa: E402

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: What a broker that is gone, restarting or emptied makes its clients raise.
BROKER_ERRORS = (RedisError, OSError, EOFError, TimeoutError)
#: How long a blocking read lasts before idle messages of dead workers are looked for again.
_BLOCK_MS = 2_000
_ANY_TASK = "mus"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0


def consumer_name(worker_id: str, queue: str) -> str:
    """What the broker knows a worker's lane by."""
    return f"{worker_id}-{queue}"


def encode(data: Any) -> str:
    """JSON, whatever comes: a result or exception that JSON has no form for becomes its repr."""
    return json.dumps(data, default=repr)


class Lane(Worker[None]):
    """Serves one queue, or (never run, only opened) publishes to all."""

    def __init__(
        self,
        url: str,
        queue_name: str,
        queues: Sequence[str],
        *,
        slots: int,
        worker_id: str | None = None,
        idle_timeout_seconds: float = 20.0,
    ) -> None:
        super().__init__(
            redis_url=url,
            concurrency=slots,
            queue_name=queue_name,
            priorities=list(queues),  # streaQ reverses the list it is given
            serializer=encode,
            deserializer=json.loads,
            handle_signals=False,
            idle_timeout=idle_timeout_seconds,
            id=worker_id,
        )
        self._url = url
        # No read ahead: a message that waits in this process cannot be taken by an idle one.
        self.prefetch = slots
        self._stopping = asyncio.Event()
        self._available = asyncio.Event()
        self._consumers_run = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    # ------------------------------------------------------------- publishing

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the client open for `publish` and `missing`, in a task of its own.

        coredis binds its connections to the task that opened the client, and one that breaks can cancel it: so
        it must not be the caller's.
        """
        closing, tried = asyncio.Event(), asyncio.Event()
        keeper = asyncio.create_task(self._keep_open(closing, tried), name="mus-broker-client")
        await tried.wait()
        try:
            yield
        finally:
            closing.set()
            await keeper

    async def _keep_open(self, closing: asyncio.Event, tried: asyncio.Event) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not closing.is_set():
            try:
                async with self:
                    self._available.set()
                    tried.set()
                    await closing.wait()
            except (*BROKER_ERRORS, BaseExceptionGroup) as error:
                logger.debug("the broker's client is opened again: %r", _first(error))
            finally:
                self._available.clear()
                tried.set()
            if not closing.is_set():
                self._renew()
                await _pause(closing, pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _require_client(self) -> None:
        if not self._available.is_set():
            raise ConnectionError("not connected")

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages on the queues' streams, or on their delayed sets. Raises BROKER_ERRORS."""
        self._require_client()
        now = datetime.now(UTC)
        tasks = []
        for delivery in deliveries:
            task = self.enqueue_unsafe(delivery.task)
            task.id = delivery.id
            later = delivery.run_after if delivery.run_after and delivery.run_after > now else None
            tasks.append(task.start(priority=delivery.queue, schedule=later))
        await self.enqueue_many(tasks)

    async def missing(self, delivery_ids: Sequence[str]) -> set[str]:
        """Those whose message is no longer here. Raises BROKER_ERRORS."""
        if not delivery_ids:
            return set()
        self._require_client()
        keys = [self.task_key + delivery_id for delivery_id in delivery_ids]
        if await self.redis.exists(keys) == len(keys):
            return set()
        found = await self.redis.mget(keys)
        return {id_ for id_, value in zip(delivery_ids, found, strict=True) if value is None}

    # ---------------------------------------------------------------- serving

    def answer(self, deliver: Callable[[], Awaitable[None]]) -> None:
        """Run `deliver` for every message, whatever task it names: the ledger decides about each.

        streaQ drops a message whose task it does not know, and the row of a task that only another version of mus
        has would be published again at each look, for ever.
        """
        every = _EveryTask()
        self.task(name=_ANY_TASK, max_tries=None, timeout=None, expire=None, unique=False, ttl=0, silent=True)(
            deliver
        )
        every.update(self.registry)
        self.registry = every

    def stop(self) -> None:
        """Take no more messages; `serve` returns when the running jobs have ended."""
        self._stopping.set()

    def pause(self) -> None:
        """Take no more messages until `resume`; running jobs go on."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def serve(self) -> None:
        """Run until `stop`, whatever happens to the broker."""
        pause = _FIRST_PAUSE_SECONDS
        level = logging.WARNING
        while not self._stopping.is_set():
            try:
                await self.run_async(task_status=_Tells(self._consumers_run))
            except (*BROKER_ERRORS, BaseExceptionGroup) as error:
                logger.log(level, "%s: the broker is out of reach: %s", ", ".join(self.priorities), _first(error))
                level = logging.DEBUG  # said once; it is tried again until it answers
            if self._stopping.is_set():
                return
            await _pause(self._stopping, pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            self._renew()

    async def _check_xreadgroup_compatibility(self) -> None:
        """One read path on every broker: the script, never XREADGROUP's newer arguments."""

    async def signal_handler(self, scope: CancelScope) -> None:
        # The process owns the signals; running jobs end by themselves or are ended by their runner.
        await self._stopping.wait()
        # Cancelled before its consumers run, streaQ would never end: they are what ends the loop that renews
        # idle timeouts, which is shielded from everything else.
        await self._consumers_run.wait()
        scope.cancel()

    async def _read_streams_legacy(self, count: int, block: bool = False) -> Entries:  # noqa: FBT001, FBT002
        await self._open.wait()
        if not block:
            return await super()._read_streams_legacy(count)
        return await self.redis.xreadgroup(REDIS_GROUP, self.id, self._streams, block=_BLOCK_MS, count=count)

    async def producer(
        self,
        queue: MemoryObjectSendStream[StreamMessage],
        limiter: CapacityLimiter,
        scope: CancelScope,
    ) -> None:
        with queue:
            await self._persist("reading", lambda: super(Lane, self).producer(queue.clone(), limiter, scope))

    async def renew_idle_timeouts(self, scope: CancelScope) -> None:
        with scope:
            await self._persist("renewing", lambda: super(Lane, self).renew_idle_timeouts(CancelScope()))

    async def schedule_delayed_tasks(self) -> None:
        await self._persist("scheduling", super().schedule_delayed_tasks)

    async def run_task(self, msg: StreamMessage) -> None:
        try:
            await super().run_task(msg)
        except BROKER_ERRORS as error:
            # Before the start: the message comes again. After the end: the ledger knows, and drops the repeat.
            logger.info("message %s: the broker went away around it: %r", msg.task_id, error)

    async def _persist(self, doing: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run one of streaQ's endless loops again each time the broker ends it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await loop()
            except BROKER_ERRORS as error:
                logger.debug("queue %s: %s was interrupted: %r", self.priorities, doing, error)
            if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            try:
                # A broker that came back empty has no groups; where they are, this changes nothing.
                await self._lib.create_groups(self.stream_key, REDIS_GROUP, *self.priorities)
            except BROKER_ERRORS as error:
                logger.debug("queue %s: no groups yet: %r", self.priorities, error)

    def _renew(self) -> None:
        """A client and a lifespan serve once; take new ones for the next run."""
        self._redis = server_scripts.ScriptClient.from_url(self._url, decode_responses=True)
        self._consumers_run.clear()
        self.lifespan = _lifespan()


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return


class _EveryTask(dict[str, Any]):
    """streaQ's registry of one function that answers to every name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return self[_ANY_TASK]


class _Tells(TaskStatus[None]):
    """Sets an event when streaQ says that its consumers run."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def started(self, value: None = None) -> None:
        self._event.set()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
