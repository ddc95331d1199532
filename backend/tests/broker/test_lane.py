"""A lane on a real broker: its gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mus.broker.lane import Lane
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.ledger.deliveries import Delivery
from waiting import until

SLOTS = 2


class Recorded:
    """A lane whose one task notes its deliveries; those that are to be held run until `let_go` is set."""

    def __init__(self, runtime: Runtime) -> None:
        self._connection = runtime.connection
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.let_go = asyncio.Event()
        self.lane = Lane(
            runtime.connection.url,
            runtime.connection.queue_name,
            Queue.LOW,
            slots=SLOTS,
            worker_id="recorded",
            deliver=self._run,
        )

    async def _run(self, delivery_id: str) -> None:
        self.begun.append(delivery_id)
        if delivery_id.startswith("held"):
            await self.let_go.wait()
        self.ended.append(delivery_id)

    async def publish(self, *names: str) -> list[str]:
        deliveries = [Delivery(name, 1, 1, "t", Queue.LOW) for name in names]
        await self._connection.publish(deliveries)
        return [delivery.id for delivery in deliveries]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        serving = asyncio.create_task(self.lane.serve())
        try:
            yield
        finally:
            self.let_go.set()
            self.lane.stop()
            await serving

    async def stands_at_its_gate(self) -> bool:
        return bool(self.lane._open._waiters)


@pytest.fixture
def recorded(runtime: Runtime) -> Recorded:
    return Recorded(runtime)


async def test_a_paused_lane_takes_nothing_more_and_goes_on_where_it_was(
    runtime: Runtime, recorded: Recorded
) -> None:
    async def idle_reads() -> bool:
        return bool(recorded.ended)

    async with recorded.serving():
        (first,) = await recorded.publish("first")
        await until(idle_reads, what="the first job")
        recorded.lane.pause()
        later = await recorded.publish(*(f"later{number}" for number in range(10)))
        await until(recorded.stands_at_its_gate, what="the lane at its gate")
        # The read that was under way may have taken what its slots could hold.
        waiting = await runtime.connection.redis.xlen(f"streaq:{runtime.connection.queue_name}:queues:{Queue.LOW}")
        taken = set(recorded.begun) - {first}
        assert len(taken) <= SLOTS
        assert waiting >= len(later) - SLOTS

        async def all_ended() -> bool:
            return set(recorded.ended) == {first, *later}

        recorded.lane.resume()
        await until(all_ended, what="the jobs that waited")
    assert sorted(recorded.begun) == sorted([first, *later])


async def test_jobs_that_run_when_their_lane_is_paused_go_on(recorded: Recorded) -> None:
    async with recorded.serving():
        held = await recorded.publish("held")

        async def runs() -> bool:
            return recorded.begun == held

        async def has_ended() -> bool:
            return recorded.ended == held

        await until(runs, what="the job")
        recorded.lane.pause()
        recorded.let_go.set()
        await until(has_ended, what="its end")


async def test_a_lane_that_is_paused_before_it_serves_takes_nothing_and_can_be_stopped(recorded: Recorded) -> None:
    recorded.lane.pause()
    await recorded.publish("never")
    async with recorded.serving():
        await until(recorded.stands_at_its_gate, what="the lane at its gate")
    assert recorded.begun == []


async def test_what_is_no_message_is_taken_off_and_the_lane_goes_on(runtime: Runtime, recorded: Recorded) -> None:
    redis = runtime.connection.redis
    stream = f"streaq:{runtime.connection.queue_name}:queues:{Queue.LOW}"
    await recorded.publish("held")

    async def all_is_off() -> bool:
        return await redis.xlen(stream) == 1 and (await redis.xpending(stream, "workers"))["pending"] == 1

    async with recorded.serving():
        for _ in range(3 * SLOTS):
            await redis.xadd(stream, {"a": "b"})
            await redis.xadd(stream, {"task_id": "x", "enqueue_time": "yesterday"})
        await until(all_is_off, what="a stream with the held job alone")
        await recorded.publish("other")

        async def other_ended() -> bool:
            return "other.1.1" in recorded.ended

        await until(other_ended, what="another job beside the held one")
    assert recorded.begun == ["held.1.1", "other.1.1"]


async def test_the_broker_keeps_nothing_of_a_job_that_has_ended(runtime: Runtime, recorded: Recorded) -> None:
    redis, queue = runtime.connection.redis, runtime.connection.queue_name
    stream = f"streaq:{queue}:queues:{Queue.LOW}"

    async def left() -> list[str]:
        return sorted([key async for key in redis.scan_iter(f"*{queue}*task*")])

    async with recorded.serving():
        names = [f"job{number}" for number in range(5)]
        await recorded.publish(*names)

        async def nothing_is_left() -> bool:
            return len(recorded.ended) == len(names) and not await left() and await redis.xlen(stream) == 0

        await until(nothing_is_left, what="an empty broker")
        assert (await redis.xpending(stream, "workers"))["pending"] == 0
    assert sorted(recorded.ended) == sorted(f"{name}.1.1" for name in names)
