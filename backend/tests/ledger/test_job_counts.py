"""What happens to jobs is counted, once, whoever brings it about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from fault_worker import endless, failing, family, leaf
from metric_samples import forget_counts
from mus.broker.metrics_hash import flush, read_sums
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.ledger import steering
from mus.ledger.deliveries import Delivery
from mus.ledger.ledger import Ledger
from mus.metrics import Key
from mus.persistence.models import Job, utc_now
from mus.worker import WorkerProcess
from waiting import until

Ended = Callable[..., Awaitable[Job]]


@pytest.fixture(autouse=True)
def _fresh_counts() -> None:
    forget_counts()


async def enqueue(runtime: Runtime, task: object, **arguments: Any) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, task, **arguments)  # type: ignore[arg-type]


async def counted(runtime: Runtime, name: str) -> dict[Key, float]:
    """Amounts of a counter by the values of its labels, the queue left out."""
    assert await flush(runtime.connection)
    sums = await read_sums(runtime.connection)
    return {
        tuple(label for label in key[1:] if label not in {*Queue}): amount
        for key, amount in sums.items()
        if key[0] == name
    }


async def finished(runtime: Runtime) -> dict[Key, float]:
    return await counted(runtime, "mus_jobs_finished_total")


async def test_each_outcome_of_a_job_is_counted(runtime: Runtime, worker: WorkerProcess, ended: Ended) -> None:
    for how in ("fine", "person", "snooze"):
        await ended(await enqueue(runtime, failing, how=how))
    retried = await enqueue(runtime, failing, how="temporary")

    async def outcomes() -> bool:
        return await finished(runtime) == {
            ("test_failing", "succeeded"): 2,
            ("test_failing", "failed"): 1,
            ("test_failing", "snoozed"): 1,
            ("test_failing", "retrying"): 1,
        }

    await until(outcomes, what="the counts")
    assert await counted(runtime, "mus_job_retries_total") == {("test_failing", "automatic"): 1}
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, retried)
    assert (await finished(runtime))[("test_failing", "cancelled")] == 1
    async with runtime.database.unit_of_work():
        await steering.retry(runtime.connection.ledger, retried, requested_by="test")
    assert (await counted(runtime, "mus_job_retries_total"))[("test_failing", "manual")] == 1


async def test_a_family_counts_each_of_its_jobs_once(runtime: Runtime, worker: WorkerProcess, ended: Ended) -> None:
    await ended(await enqueue(runtime, family, name="f", children=3))
    assert await finished(runtime) == {
        ("test_leaf", "succeeded"): 3,
        ("test_reunion", "succeeded"): 1,
        ("test_family", "succeeded"): 1,
    }


async def test_a_cancelled_family_counts_each_of_its_jobs_once(runtime: Runtime, ledger: Ledger) -> None:
    parent = await enqueue(runtime, leaf, name="parent")
    async with runtime.database.unit_of_work():
        for number in range(2):
            await broker.enqueue(Queue.LOW, leaf, Options(parent_id=parent), name=str(number))
    async with runtime.database.unit_of_work():
        await steering.cancel(ledger, parent)
    assert await finished(runtime) == {("test_leaf", "cancelled"): 3}


async def test_what_is_rolled_back_is_not_counted(runtime: Runtime, ledger: Ledger) -> None:
    job_id = await enqueue(runtime, leaf, name="x")
    with suppress(ZeroDivisionError):
        async with runtime.database.unit_of_work():
            await steering.cancel(ledger, job_id)
            raise ZeroDivisionError
    assert await finished(runtime) == {}


async def test_waits_and_durations_are_measured(runtime: Runtime, worker: WorkerProcess, ended: Ended) -> None:
    await ended(await enqueue(runtime, leaf, name="x", seconds=0.3))

    async def durations() -> dict[Key, float]:
        return await counted(runtime, "mus_job_duration_seconds")

    found = await until(durations, what="the duration")
    assert 0.3 <= found["sum", "test_leaf"] < 30
    waits = await counted(runtime, "mus_job_wait_seconds")
    assert 0 < waits["sum", "test_leaf"] < 30


async def test_a_delayed_job_waits_from_the_time_it_is_due(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    job_id = await enqueue(runtime, leaf, name="x")
    long_ago, due = utc_now() - timedelta(hours=2), utc_now() - timedelta(seconds=100)
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).values(created_at=long_ago, published_at=long_ago, run_after=due))
    started = await ledger.start(f"{job_id}.1.1", worker_id)
    assert started is not None
    assert 100 <= started.waited_seconds < 160
    await ledger.snooze(started, 0.0, "later")
    again = await ledger.start(f"{job_id}.1.2", worker_id)
    assert again is not None
    assert again.waited_seconds < 60


async def test_a_repeat_is_counted_and_a_job_that_is_held_back_or_paused_is_none(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    options = Options(exclusive_key="one at a time")
    async with runtime.database.unit_of_work():
        first = await broker.enqueue(Queue.LOW, leaf, options, name="a")
        second = await broker.enqueue(Queue.LOW, leaf, options, name="b")
    assert await ledger.start(f"{first}.1.1", worker_id)
    assert await ledger.start(f"{second}.1.1", worker_id) is None
    assert await counted(runtime, "mus_deliveries_repeated_total") == {}
    assert await ledger.start(f"{first}.1.1", worker_id) is None
    assert await counted(runtime, "mus_deliveries_repeated_total") == {(): 1}
    third = await enqueue(runtime, leaf, name="c")
    async with runtime.database.unit_of_work():
        await steering.pause(ledger, Queue.LOW, paused_by=None)
    assert await ledger.start(f"{third}.1.1", worker_id) is None
    assert await counted(runtime, "mus_deliveries_repeated_total") == {(): 1}


async def test_takeovers_are_counted_up_to_the_last_attempt(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    job_id = await enqueue(runtime, endless)
    for attempt in range(1, 5):
        assert await ledger.start(f"{job_id}.{attempt}.{attempt}", worker_id)
        await ledger.take_over(job_id, attempt, worker_id)
        await ledger.take_over(job_id, attempt, worker_id)  # too late
    assert await counted(runtime, "mus_job_takeovers_total") == {("test_endless",): 4}
    assert await finished(runtime) == {("test_endless", "failed"): 1}


async def test_lost_messages_that_are_published_again_are_counted(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    async with runtime.database.unit_of_work() as work:
        job_id = await broker.enqueue(Queue.LOW, leaf, name="x")
        work.outbox.clear()  # as if the process had died before it published
    await ended(job_id)
    assert await counted(runtime, "mus_deliveries_republished_total") == {(): 1}
    for number in range(1, 3):
        await runtime.connection.publish([Delivery(job_id, 1, number, "test_leaf", Queue.LOW)])

    async def dropped() -> bool:
        return (await counted(runtime, "mus_deliveries_repeated_total")).get((), 0) >= 1

    await until(dropped, what="the repeats")
