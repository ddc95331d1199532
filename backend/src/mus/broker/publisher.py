"""Puts messages on streaQ's queues as `streaq.Worker.publish_task` does: its keys, its data, its own script.

By the `redis` package, which every process of mus has: streaQ and coredis, 8 MiB and 60 ms of a start, are for
those that serve a lane. Whose objects and tasks for each message also take longer than the broker does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from mus.broker.script_texts import RELOADS, shipped_scripts
from mus.broker_address import CLIENT_OPTIONS, lasting_options
from mus.ledger.deliveries import Delivery

#: What a broker that is gone, restarting or emptied makes `Publisher` raise.
PUBLISH_ERRORS = (RedisError, OSError, TimeoutError)
#: streaQ's name for the consumers of a queue's stream (`streaq.constants`, which comes with all of streaQ).
GROUP = "workers"
#: Entries of a queue that are worth 4 ms of a worker's thread at each look, which is what 200 take.
_FEW = 200


class Publisher:
    """One process's way onto the queues. The broker need not answer; nothing is asked of it before it is needed."""

    def __init__(self, url: str, queue_name: str) -> None:
        # Tried once more, and at once: a connection that broke while it lay idle is no broker that is gone.
        self._redis = redis.asyncio.from_url(
            url, **CLIENT_OPTIONS, **lasting_options(url), retry=Retry(NoBackoff(), 1)
        )
        prefix = f"streaq:{queue_name}"
        self.stream_key = f"{prefix}:queues:"
        self.queue_key = f"{prefix}:queues:delayed:"
        self.task_key = f"{prefix}:task:data:"
        self.dependents_key = f"{prefix}:task:dependents:"
        self.dependencies_key = f"{prefix}:task:dependencies:"
        self.results_key = f"{prefix}:task:results:"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Give its connection back at the end of the block."""
        try:
            yield
        finally:
            await self._redis.aclose()

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages on the queues' streams, or on their delayed sets. Raises PUBLISH_ERRORS."""
        now = datetime.now(UTC)
        calls = [self._call(delivery, now) for delivery in deliveries]
        script = shipped_scripts()["publish_task"]
        for _ in range(RELOADS):
            # Only those that the broker had forgotten the script for: the others have taken effect.
            calls = await self._unknown(calls)
            if not calls:
                return
            await self._redis.script_load(script.text)
        if await self._unknown(calls):
            raise NoScriptError("the broker forgets scripts as soon as they are loaded")

    def _call(self, delivery: Delivery, now: datetime) -> tuple[Any, ...]:
        """The data is what streaQ's own tools read; our lanes need the id alone."""
        moment = _milliseconds(now)
        later = delivery.run_after if delivery.run_after and delivery.run_after > now else None
        keys = (
            self.stream_key + delivery.queue,
            self.queue_key + delivery.queue,
            self.task_key + delivery.id,
            self.dependents_key,
            self.dependencies_key,
            self.results_key,
        )
        data = json.dumps({"f": delivery.task, "a": [], "k": {}, "t": moment})
        return (len(keys), *keys, delivery.id, data, _milliseconds(later) if later else 0, 0, moment)

    async def _unknown(self, calls: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Call the script, and return the calls that the broker did not know it for."""
        sha = shipped_scripts()["publish_task"].sha
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command("EVALSHA", sha, *call)
            answers = await pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
                raise answer
        return [call for call, answer in zip(calls, answers, strict=True) if isinstance(answer, NoScriptError)]

    async def missing(self, delivery_ids: Sequence[str]) -> set[str]:
        """Those whose message is no longer here. Raises PUBLISH_ERRORS."""
        if not delivery_ids:
            return set()
        keys = [self.task_key + delivery_id for delivery_id in delivery_ids]
        if await self._redis.exists(*keys) == len(keys):
            return set()
        found = await self._redis.mget(keys)
        return {id_ for id_, value in zip(delivery_ids, found, strict=True) if value is None}

    async def waiting(self, queue: str) -> set[str] | None:
        """All messages of a queue, those that are being worked on too; None when they are many. Raises
        PUBLISH_ERRORS.

        A message is data under a key of its own, which `missing` looks for, and an entry of the queue's stream or
        of its delayed set. Entries can be lost alone: by a person who trims the stream or deletes it.
        """
        stream, delayed = self.stream_key + queue, self.queue_key + queue
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(delayed)
            pipe.xlen(stream)
            if sum(await pipe.execute()) > _FEW:
                return None
            pipe.zrange(delayed, 0, -1)  # before the stream: what falls due meanwhile goes from here to there
            pipe.xrange(stream)
            later, now = await pipe.execute()
        return {*later, *(fields["task_id"] for _, fields in now if "task_id" in fields)}


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
