"""Priority holds both ways: high never waits for low, and low is not starved by high."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from fault_worker import leaf
from mus.broker import lane
from mus.broker.job_runner import current_job
from mus.broker.publisher import Publisher
from mus.broker.queues import POLICIES, Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.ledger.deliveries import Delivery
from mus.ledger.job_states import JobState
from mus.persistence.models import Job, utc_now
from mus.worker import WorkerProcess
from waiting import until

Ended = Callable[..., Awaitable[Job]]
LOW_SLOTS = POLICIES[Queue.LOW].slots

let_go: asyncio.Event
running: list[str] = []


@broker.task("test_held", timeout_seconds=60)
async def held() -> dict[str, Any]:
    running.append(current_job().id)
    await let_go.wait()
    return {}


@broker.task("test_endless_line", timeout_seconds=60)
async def endless_line() -> dict[str, Any]:
    """Enqueues its successor before it ends, until it is let go."""
    if not let_go.is_set():
        async with current_job().effect():
            await broker.enqueue(Queue.HIGH, endless_line)
    return {}


@pytest.fixture(autouse=True)
def nobody_held() -> None:
    global let_go
    let_go = asyncio.Event()
    running.clear()


async def enqueue(runtime: Runtime, queue: Queue, task: Any, count: int, **arguments: Any) -> list[str]:
    async with runtime.database.unit_of_work():
        return await broker.enqueue_many([broker.job(queue, task, **arguments) for _ in range(count)])


async def states(runtime: Runtime, queue: Queue) -> dict[str, int]:
    async with runtime.database.reading() as session:
        rows = await session.execute(select(Job.state, func.count()).where(Job.queue == queue).group_by(Job.state))
        return {row.state: row[1] for row in rows}


async def test_a_high_priority_job_runs_while_low_ones_hold_every_slot_of_theirs(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    await enqueue(runtime, Queue.LOW, held, LOW_SLOTS + 20)

    async def all_slots_are_held() -> bool:
        return len(running) == LOW_SLOTS

    await until(all_slots_are_held, what="low jobs in all their slots")
    for queue in (Queue.HIGH, Queue.MEDIUM):
        (job_id,) = await enqueue(runtime, queue, leaf, 1, name=queue)
        assert (await ended(job_id)).state == JobState.SUCCEEDED
    assert await states(runtime, Queue.LOW) == {JobState.RUNNING: LOW_SLOTS, JobState.QUEUED: 20}
    let_go.set()

    async def low_is_done() -> bool:
        return await states(runtime, Queue.LOW) == {JobState.SUCCEEDED: LOW_SLOTS + 20}

    await until(low_is_done, what="the low jobs")
    assert len(running) == LOW_SLOTS + 20


async def test_low_priority_jobs_end_while_high_ones_never_run_out(runtime: Runtime, worker: WorkerProcess) -> None:
    high_slots = POLICIES[Queue.HIGH].slots
    await enqueue(runtime, Queue.HIGH, endless_line, 4 * high_slots)
    await enqueue(runtime, Queue.LOW, leaf, 5 * LOW_SLOTS, name="low")

    async def low_is_done() -> bool:
        return await states(runtime, Queue.LOW) == {JobState.SUCCEEDED: 5 * LOW_SLOTS}

    await until(low_is_done, seconds=60, what="the low jobs")
    high = await states(runtime, Queue.HIGH)
    # Each has a successor before it ends: there were so many all the time.
    assert high[JobState.QUEUED] >= 3 * high_slots
    assert high[JobState.SUCCEEDED] > 0
    let_go.set()

    async def high_is_done() -> bool:
        return set(await states(runtime, Queue.HIGH)) == {JobState.SUCCEEDED}

    await until(high_is_done, what="the high jobs")


@pytest.fixture
def lanes_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "DELAYED_LOOK_SECONDS", 3600.0)


async def test_a_job_that_is_due_soon_runs_though_its_lane_looks_for_delayed_ones_never_again(
    lanes_look_once: None, runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    await _hearing_worker(runtime, ended)
    due = utc_now() + timedelta(seconds=0.2)
    async with runtime.database.unit_of_work():
        delayed = await broker.enqueue(Queue.LOW, leaf, Options(delay_until=due), name="later")
    job = await ended(delayed)
    assert job.state == "succeeded"
    assert job.started_at is not None
    assert job.started_at >= due


async def test_a_job_that_falls_due_on_its_way_to_the_broker_is_not_overlooked(
    lanes_look_once: None,
    runtime: Runtime,
    worker: WorkerProcess,
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await _hearing_worker(runtime, ended)
    due = utc_now() + timedelta(seconds=0.2)
    publish = Publisher.publish

    async def slow_publish(self: Publisher, deliveries: Sequence[Delivery]) -> None:
        await publish(self, deliveries)
        while utc_now() <= due:
            await asyncio.sleep(0.01)

    monkeypatch.setattr(Publisher, "publish", slow_publish)
    async with runtime.database.unit_of_work():
        delayed = await broker.enqueue(Queue.LOW, leaf, Options(delay_until=due), name="later")
    assert (await ended(delayed)).state == "succeeded"


async def _hearing_worker(runtime: Runtime, ended: Ended) -> None:
    async def hears() -> bool:
        ((_, listeners),) = await runtime.connection.redis.pubsub_numsub(runtime.connection.control_channel)
        return bool(listeners)

    await until(hears, what="a worker that hears")
    (first,) = await enqueue(runtime, Queue.LOW, leaf, 1, name="first")
    await ended(first)
