"""A resumed queue starts everything at once, whatever became of the messages meanwhile (DESIGN §2).

Reconcile looks so seldom here that it would be seen if anything had to wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from fault_worker import failing, leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Connection, Options, broker
from mus.config import Settings
from mus.ledger import steering
from mus.persistence.models import Job, WorkerRow, utc_now
from waiting import until

Ended = Callable[..., Awaitable[Job]]
JobRow = Callable[[str], Awaitable[Job]]

RECONCILE_SECONDS = 60.0
#: Polls of delayed messages and waits of those held back by another are within it, reconcile is not.
AT_ONCE_SECONDS = 10.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"reconcile_seconds": RECONCILE_SECONDS})


@pytest.fixture
async def orphan(runtime: Runtime, worker_id: str) -> str:
    """A job that ran in a worker which is gone: the first reconcile takes it over."""
    job_id = await enqueue(runtime, "orphan", queue=Queue.HIGH)
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) is not None
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(state="dead"))
    return job_id


@pytest.fixture
async def listening(runtime: Runtime, orphan: str, worker: object, ended: Ended) -> Runtime:
    """With a worker that hears what is announced, and whose first look for paused queues is behind it."""
    connection = runtime.connection
    assert (await ended(orphan)).attempt == 2

    async def listens() -> bool:
        [(_, subscribers)] = await connection.redis.pubsub_numsub(connection.control_channel)
        return subscribers > 0

    await until(listens, what="the worker")
    return runtime


async def enqueue(runtime: Runtime, name: str, options: Options | None = None, *, queue: Queue = Queue.LOW) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(queue, leaf, options, name=name)


async def pause(runtime: Runtime) -> None:
    async with runtime.database.unit_of_work():
        await steering.pause(runtime.connection.ledger, Queue.LOW, paused_by="test")


async def resume(runtime: Runtime) -> None:
    async with runtime.database.unit_of_work():
        await steering.resume(runtime.connection.ledger, Queue.LOW)


async def message_is_gone(runtime: Runtime, job_id: str) -> None:
    await runtime.connection.ledger.publish_rest()  # it has come before it can go

    async def look() -> bool:
        return bool(await runtime.connection.missing([f"{job_id}.1.1"]))

    await until(look, what="the end of the message")


async def test_a_job_whose_message_was_dropped_by_the_pause_starts_with_the_resume(
    listening: Runtime, ended: Ended, job_row: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unheard(_self: Connection) -> None:
        return None

    with monkeypatch.context() as silent:
        # A worker that has not heard of the pause takes messages as before; the ledger starts nothing.
        silent.setattr(Connection, "announce_queues", unheard)
        await pause(listening)
    job_id = await enqueue(listening, "dropped")
    await message_is_gone(listening, job_id)
    assert (await job_row(job_id)).state == "queued"
    await resume(listening)
    job = await ended(job_id, seconds=AT_ONCE_SECONDS)
    assert (job.state, job.attempt) == ("succeeded", 1)


async def test_a_job_that_was_not_started_as_its_queue_is_being_resumed_starts_after_all(
    runtime: Runtime, worker_id: str
) -> None:
    await pause(runtime)
    job_id = await enqueue(runtime, "just before")
    ledger = runtime.connection.ledger
    async with runtime.database.unit_of_work() as work:
        await steering.resume(ledger, Queue.LOW)
        start = asyncio.create_task(ledger.start(f"{job_id}.1.1", worker_id), context=Context())
        if not runtime.database.is_sqlite:
            # It has seen the pause and comes upon the resume. SQLite has one writer: there it comes after it.
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            await until(lambda: work.session.scalar(waiting), what="the start to wait for the resume")
    started = await start
    assert started is not None
    assert started.id == job_id


async def test_a_resume_starts_delayed_exclusive_and_plain_jobs_alike(
    listening: Runtime, ended: Ended, job_row: JobRow
) -> None:
    await pause(listening)
    soon, later = (utc_now() + timedelta(seconds=seconds) for seconds in (0.3, 3.0))
    waiting = [
        *[await enqueue(listening, f"plain {number}") for number in range(20)],
        *[await enqueue(listening, f"scan {number}", Options(exclusive_key="library:1")) for number in range(3)],
        await enqueue(listening, "due meanwhile", Options(delay_until=soon)),
    ]
    not_yet = await enqueue(listening, "due later", Options(delay_until=later))
    # Enqueued after all of them and due after the delayed one: what could have started has.
    high = await enqueue(listening, "high", Options(delay_until=soon + timedelta(seconds=0.2)), queue=Queue.HIGH)
    await ended(high)
    assert {(await job_row(job_id)).state for job_id in [*waiting, not_yet]} == {"queued"}
    await resume(listening)
    for job_id in waiting:
        job = await ended(job_id, seconds=AT_ONCE_SECONDS)
        assert (job.state, job.attempt) == ("succeeded", 1)
    job = await ended(not_yet, seconds=AT_ONCE_SECONDS)
    assert job.started_at is not None
    assert job.started_at >= later


async def test_a_job_whose_next_attempt_comes_due_on_a_paused_queue_waits_for_the_resume(
    listening: Runtime, ended: Ended, job_row: JobRow
) -> None:
    async with listening.database.unit_of_work():
        job_id = await broker.enqueue(Queue.LOW, failing, how="temporary")

    async def at_attempt(number: int) -> bool:
        job = await job_row(job_id)
        return (job.state, job.attempt) == ("retrying", number)

    await until(lambda: at_attempt(2), what="the first failure")
    await pause(listening)
    due = (await job_row(job_id)).run_after
    assert due is not None
    later = Options(delay_until=due + timedelta(seconds=0.5))
    await ended(await enqueue(listening, "high", later, queue=Queue.HIGH))
    assert await at_attempt(2)
    await resume(listening)
    await until(lambda: at_attempt(3), seconds=AT_ONCE_SECONDS, what="the second failure")
