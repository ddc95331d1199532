"""Messages vanish from a real broker; the rows are published again, within a bounded number of looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import update
from streaq.constants import REDIS_GROUP

from mus.broker.queues import Queue, consumer_name
from mus.broker.runtime import Runtime
from mus.ledger import lost_messages
from mus.ledger.job_rows import NewJob
from mus.ledger.ledger import Ledger
from mus.ledger.lost_messages import PAGE, PAGES_A_LOOK, LostMessages
from mus.ledger.steering import pause, resume
from mus.persistence.models import Job, WorkerRow, utc_now

JobRow = Callable[[str], Awaitable[Job]]
A_WHILE = timedelta(minutes=5)


@pytest.fixture
def search(runtime: Runtime) -> LostMessages:
    return LostMessages(runtime.connection.ledger, runtime.connection)


async def published(ledger: Ledger, count: int = 1, queue: Queue = Queue.LOW) -> list[str]:
    """Jobs whose messages went out a while ago."""
    ids: list[str] = []
    for begin in range(0, count, 500):
        async with ledger.database.unit_of_work():
            ids += await ledger.add([NewJob(task="t", queue=queue) for _ in range(min(500, count - begin))])
    await ledger.publish_rest()
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Job).values(published_at=utc_now() - A_WHILE))
    return ids


async def lose(runtime: Runtime, *job_ids: str) -> None:
    """The broker forgets the first messages of these jobs."""
    prefix = f"streaq:{runtime.connection.queue_name}:task:data:"
    gone: int = await runtime.connection.redis.delete(*(f"{prefix}{job_id}.1.1" for job_id in job_ids))
    assert gone == len(job_ids)


async def test_a_message_that_is_there_is_left_alone_and_a_lost_one_is_published_under_a_new_number(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    kept, lost = await published(ledger, 2)
    await lose(runtime, lost)
    await search.publish_again()
    assert [(await job_row(job)).delivery for job in (kept, lost)] == [1, 2]
    assert await runtime.connection.missing([f"{kept}.1.1", f"{lost}.1.1", f"{lost}.1.2"]) == {f"{lost}.1.1"}


async def test_a_message_of_which_only_the_data_is_left_is_published_again(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    kept, trimmed = await published(ledger, 2)
    redis, stream = runtime.connection.redis, f"streaq:{runtime.connection.queue_name}:queues:{Queue.LOW}"
    ((entry, _),) = await redis.xrevrange(stream, count=1)
    await redis.xdel(stream, entry)
    for _ in range(2):
        await search.publish_again()
        assert [(await job_row(job)).delivery for job in (kept, trimmed)] == [1, 2]


async def test_of_a_stream_that_is_gone_all_messages_are_published_again_however_many(
    runtime: Runtime, ledger: Ledger, search: LostMessages
) -> None:
    jobs = await published(ledger, PAGE * PAGES_A_LOOK + PAGE)
    await search.publish_again()
    stream = f"streaq:{runtime.connection.queue_name}:queues:{Queue.LOW}"
    await runtime.connection.redis.delete(stream)
    await search.publish_again()
    assert await runtime.connection.redis.xlen(stream) == len(jobs)
    assert await runtime.connection.missing([f"{job}.1.2" for job in jobs]) == set()


async def test_what_is_to_run_later_is_on_the_delayed_set_or_lost(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    redis, delayed = runtime.connection.redis, f"streaq:{runtime.connection.queue_name}:queues:delayed:{Queue.LOW}"
    async with ledger.database.unit_of_work():
        (job,) = await ledger.add([NewJob(task="t", queue=Queue.LOW, run_after=utc_now() + A_WHILE)])
    await ledger.publish_rest()
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Job).values(published_at=utc_now() - A_WHILE))
    await search.publish_again()
    assert (await job_row(job)).delivery == 1
    assert await redis.zrem(delayed, f"{job}.1.1") == 1
    await search.publish_again()
    assert (await job_row(job)).delivery == 2
    assert await redis.zrange(delayed, 0, -1) == [f"{job}.1.2"]


async def test_what_a_dead_broker_never_took_is_published_at_the_next_look(
    runtime: Runtime, ledger: Ledger, search: LostMessages
) -> None:
    jobs = await published(ledger, PAGE + 3)
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Job).values(published_at=None))
    await search.publish_again()
    assert await runtime.connection.missing([f"{job}.1.2" for job in jobs]) == set()


async def test_a_row_that_says_it_was_published_in_the_future_is_looked_at_all_the_same(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    (job,) = await published(ledger)
    await lose(runtime, job)
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Job).values(published_at=utc_now() + A_WHILE))
    await search.publish_again()
    assert (await job_row(job)).delivery == 2


async def test_a_row_that_somebody_is_publishing_right_now_is_left_to_them(
    runtime: Runtime,
    ledger: Ledger,
    search: LostMessages,
    job_row: JobRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (job,) = await published(ledger)
    await lose(runtime, job)
    monkeypatch.setattr(lost_messages, "PUBLISH_GRACE", 2 * A_WHILE)
    await search.publish_again()
    assert (await job_row(job)).delivery == 1


async def test_a_paused_queue_is_published_again_when_it_is_resumed_and_not_before(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    (job,) = await published(ledger)
    (unpublished,) = await published(ledger)
    await lose(runtime, job)
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == unpublished).values(published_at=None))
        await pause(ledger, Queue.LOW, paused_by=None)
    await search.publish_again()
    assert [(await job_row(each)).delivery for each in (job, unpublished)] == [1, 1]
    async with ledger.database.unit_of_work():
        await resume(ledger, Queue.LOW)
    await search.publish_again()
    assert [(await job_row(each)).delivery for each in (job, unpublished)] == [2, 2]


async def test_behind_a_long_queue_a_lost_message_is_found_within_a_bounded_number_of_looks(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    a_look = PAGE * PAGES_A_LOOK
    jobs = await published(ledger, a_look + PAGE)
    (urgent,) = await published(ledger, queue=Queue.HIGH)
    await search.publish_again()  # the first look of a new worker goes through all of them
    await lose(runtime, jobs[-1], urgent)
    await search.publish_again()
    # A short queue is looked through at each look, however long the others are.
    assert [(await job_row(job)).delivery for job in (jobs[-1], urgent)] == [1, 2]
    await search.publish_again()
    assert (await job_row(jobs[-1])).delivery == 2


async def test_when_many_messages_are_lost_one_look_publishes_all_of_them(
    runtime: Runtime, ledger: Ledger, search: LostMessages
) -> None:
    jobs = await published(ledger, PAGE * PAGES_A_LOOK + PAGE)
    await search.publish_again()
    await lose(runtime, *jobs)
    await search.publish_again()
    assert await runtime.connection.missing([f"{job}.1.2" for job in jobs]) == set()


async def test_two_looks_at_once_publish_a_lost_message_once(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow
) -> None:
    (job,) = await published(ledger)
    await lose(runtime, job)
    other = LostMessages(ledger, runtime.connection)
    await asyncio.gather(search.publish_again(), other.publish_again())
    assert (await job_row(job)).delivery == 2


async def test_what_a_worker_took_and_did_not_start_before_it_died_is_published_at_the_next_look(
    runtime: Runtime, ledger: Ledger, search: LostMessages, job_row: JobRow, worker_id: str
) -> None:
    kept, taken = await published(ledger, 2)
    connection = runtime.connection
    stream = f"streaq:{connection.queue_name}:queues:{Queue.LOW}"
    await connection.redis.xgroup_create(stream, REDIS_GROUP, id="0")
    for consumer in (consumer_name("living", Queue.LOW), consumer_name(worker_id, Queue.LOW)):
        await connection.redis.xreadgroup(REDIS_GROUP, consumer, {stream: ">"}, count=1)
    await search.publish_again()
    assert [(await job_row(job)).delivery for job in (kept, taken)] == [1, 1]
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(
            update(WorkerRow).where(WorkerRow.id == worker_id).values(state="dead", queues=list(Queue))
        )
    for _ in range(2):
        await search.publish_again()
    assert [(await job_row(job)).delivery for job in (kept, taken)] == [1, 2]
    assert await runtime.connection.missing([f"{taken}.1.2"]) == set()
