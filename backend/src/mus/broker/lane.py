"""A lane: one streaQ worker with the single priority of one queue and slots of its own.

streaQ delivers, the ledger decides (DESIGN §2). A plain streaQ worker ends when its connection breaks, when its
streams vanish (`NOGROUP`) or when a task raises something it cannot encode; a lane does none of that. Its loops
repair what is missing and go on, and the jobs that run meanwhile are not disturbed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anyio import CancelScope, CapacityLimiter
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectSendStream
from coredis.exceptions import RedisError
from coredis.response.types import StreamEntry

from mus.broker import server_scripts
from mus.broker.queues import DELAYED_LOOK_SECONDS
from mus.gathering import Gathering
from mus.turns import until_turn

server_scripts.install()

from streaq import Worker  # noqa: E402 - after install(), which puts our classes in their modules
from streaq.constants import REDIS_GROUP  # noqa: E402
from streaq.types import Entries, StreamMessage, Streaq  # noqa: E402
from streaq.utils import now_ms  # noqa: E402
from streaq.worker import _lifespan  # noqa: E402

logger = logging.getLogger(__name__)

#: What a broker that is gone, restarting or emptied makes its clients raise.
BROKER_ERRORS = (RedisError, OSError, EOFError, TimeoutError)
#: How long a blocking read lasts at most before idle messages of dead workers are looked for again.
_BLOCK_SECONDS = 10.0
#: And how much later than it should an answer may come, until the connection is given up.
_ANSWER_SECONDS = 15.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0


def encode(data: Any) -> str:
    """JSON, whatever comes: a result or exception that JSON has no form for becomes its repr."""
    return json.dumps(data, default=repr)


class Lane(Worker[None]):
    """Serves one queue."""

    def __init__(
        self,
        url: str,
        queue_name: str,
        queue: str,
        *,
        slots: int,
        worker_id: str,
        deliver: Callable[[str], Awaitable[None]],
        idle_timeout_seconds: float = 20.0,
    ) -> None:
        """`deliver` is called with the id of each message that is read, and handles what comes of it."""
        super().__init__(
            redis_url=url,
            concurrency=slots,
            queue_name=queue_name,
            priorities=[queue],
            serializer=encode,
            deserializer=json.loads,
            handle_signals=False,
            idle_timeout=idle_timeout_seconds,
            id=worker_id,
        )
        self._url = url
        self._queue = queue
        # No read ahead: a message that waits in this process cannot be taken by an idle one.
        self.prefetch = slots
        self._deliver = deliver
        self._block_seconds = min(_BLOCK_SECONDS, idle_timeout_seconds)
        self._forget = Gathering[StreamMessage, None](self._forget_all)
        self._stopping = asyncio.Event()
        self._consumers_run = asyncio.Event()
        self._delayed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def stop(self) -> None:
        """Take no more messages; `serve` returns when the running jobs have ended."""
        self._stopping.set()

    def pause(self) -> None:
        """Take no more messages until `resume`; running jobs go on."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def look_for_delayed(self) -> None:
        """A message was put on the delayed set that may be due soon."""
        self._delayed.set()

    async def serve(self) -> None:
        """Run until `stop`, whatever happens to the broker."""
        pause = _FIRST_PAUSE_SECONDS
        level = logging.WARNING
        while not self._stopping.is_set():
            try:
                await self.run_async(task_status=_Tells(self._consumers_run))
            except (*BROKER_ERRORS, BaseExceptionGroup) as error:
                logger.log(level, "%s: the broker is out of reach: %s", self._queue, _first(error))
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
        seconds = until_turn(self._block_seconds) if block else 0.0
        async with asyncio.timeout(_ANSWER_SECONDS + seconds):
            if block:
                entries: Entries = await self.redis.xreadgroup(
                    REDIS_GROUP, self.id, self._streams, block=max(1, int(seconds * 1000)), count=count
                )
            else:
                entries = await super()._read_streams_legacy(count)
            return {stream: sound for stream, read in (entries or {}).items() if (sound := await self._sound(read))}

    async def _sound(self, entries: Sequence[StreamEntry]) -> tuple[StreamEntry, ...]:
        """Without what is no message, such as what a person put on the stream: that would end the lane each time it
        is read."""
        strange = [id_ for id_, fields, *_ in entries if not _is_message(fields)]
        if strange:
            logger.warning("%s: %d entries that are no messages are taken off", self._queue, len(strange))
            await self._take_off(strange)
        return tuple(entry for entry in entries if _is_message(entry[1]))

    async def _take_off(self, ids: Sequence[Any], task_ids: Sequence[str] = ()) -> None:
        stream = self.stream_key + self._queue
        async with self.redis.pipeline(transaction=False) as pipe:
            # In this order: a broker that stops between two of them has lost a message in a way that is seen.
            if task_ids:
                pipe.delete([self.task_key + task_id for task_id in task_ids])
            pipe.xdel(stream, ids)
            pipe.xack(stream, REDIS_GROUP, ids)

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
        await self._persist("scheduling", self._publish_delayed)

    async def _publish_delayed(self) -> None:
        """Put delayed messages on the stream when they are due.

        streaQ's own looks twice a second, for its cron tasks and aborts too, of which mus has none: with three
        lanes a third of what an idle worker did.
        """
        delayed, stream = self.queue_key + self._queue, self.stream_key + self._queue
        while True:
            self._delayed.clear()
            async with self.redis.pipeline(transaction=False) as pipe:
                Streaq(pipe).publish_delayed_tasks(delayed, stream, now_ms())
                asked = pipe.zrange(delayed, 0, 0, withscores=True)
            first = await asked
            seconds = until_turn(DELAYED_LOOK_SECONDS)
            if first:
                seconds = min(seconds, max(0.0, (first[0].score - now_ms()) / 1000))
            await _pause(self._delayed, seconds)

    async def run_task(self, msg: StreamMessage) -> None:
        """Deliver a message, whatever task it names, and have the broker forget it.

        streaQ's own asks the broker twice for each, in scripts and transactions, about retries, aborts, results and
        dependencies: 600 µs of a worker's CPU, for what the ledger decides by itself (DESIGN §2). A message that
        was given to another worker meanwhile starts nothing there.
        """
        running = self._running_tasks[msg.priority]  # renewed, so that no other worker takes them for a dead one's
        running.add(msg.message_id)
        try:
            # A lane that goes down leaves its jobs running: they end by themselves or are ended by their runner.
            with CancelScope(shield=True):
                await self._deliver(msg.task_id)
        finally:
            running.discard(msg.message_id)
        try:
            with CancelScope(shield=True):
                await self._forget(msg)
        except BROKER_ERRORS as error:
            # It comes again; the ledger knows, and drops the repeat.
            logger.info("message %s: the broker went away after it: %r", msg.task_id, error)

    async def _forget_all(self, messages: Sequence[StreamMessage]) -> Sequence[None]:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._take_off(
                [message.message_id for message in messages], [message.task_id for message in messages]
            )
        return [None] * len(messages)

    async def _persist(self, doing: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run one of streaQ's endless loops again each time the broker ends it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await loop()
            except BROKER_ERRORS as error:
                logger.debug("queue %s: %s was interrupted: %r", self._queue, doing, error)
            if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            try:
                # A broker that came back empty has no groups; where they are, this changes nothing.
                await self._lib.create_groups(self.stream_key, REDIS_GROUP, self._queue)
            except BROKER_ERRORS as error:
                logger.debug("queue %s: no groups yet: %r", self._queue, error)

    def _renew(self) -> None:
        """A client and a lifespan serve once; take new ones for the next run."""
        self._redis = server_scripts.ScriptClient.from_url(self._url, decode_responses=True)
        self._consumers_run.clear()
        self.lifespan = _lifespan()
        # What was read and not begun when the lane went down is read again; counted still, it would keep a slot.
        self._count = 0


def _is_message(fields: Any) -> bool:
    return "task_id" in fields and str(fields.get("enqueue_time", 0)).isdecimal()


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return


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
