"""Pause, resume, move, clear, retry and cancel, with real workers (DESIGN §2, §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from fault_worker import CREATE_EFFECTS, failing, family, leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Connection, Options, broker
from mus.config import Settings
from mus.errors import ConflictError, ErrorCategory, NotFoundError
from mus.ledger import steering
from mus.ledger.job_rows import Failure, NewJob, reason_of
from mus.ledger.job_states import JobState
from mus.ledger.ledger import Ledger
from mus.ledger.queries import JobFilter, failure_groups, job_page, queue_figures
from mus.persistence.models import Job, JobEvent, utc_now
from mus.worker import load_job_modules, worker_running
from waiting import until
from worker_processes import worker_process

Ended = Callable[..., Awaitable[Job]]
JobRow = Callable[[str], Awaitable[Job]]


async def enqueue(
    runtime: Runtime, queue: str = Queue.LOW, options: Options | None = None, **arguments: Any
) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(queue, leaf, options, **{"name": "x", **arguments})


async def pause(runtime: Runtime, queue: str = Queue.LOW) -> None:
    async with runtime.database.unit_of_work():
        await steering.pause(runtime.connection.ledger, queue, paused_by="test")


async def resume(runtime: Runtime, queue: str = Queue.LOW) -> None:
    async with runtime.database.unit_of_work():
        await steering.resume(runtime.connection.ledger, queue)


async def traces(runtime: Runtime) -> list[str]:
    async with runtime.database.reading() as session:
        return list((await session.execute(text("SELECT name FROM effects ORDER BY name"))).scalars().all())


@pytest.fixture
async def ledgered(runtime: Runtime) -> Runtime:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    load_job_modules([], list(Queue))
    return runtime


# ------------------------------------------------------------------------ pause and resume


async def test_a_paused_queue_starts_nothing_the_others_go_on_and_resume_starts_all(
    runtime: Runtime, worker: object, ended: Ended, job_row: JobRow
) -> None:
    await pause(runtime)
    waiting = [await enqueue(runtime, name=f"low {number}") for number in range(20)]
    delayed = await enqueue(
        runtime, Queue.LOW, Options(delay_until=utc_now() + timedelta(seconds=0.2)), name="low later"
    )
    # Behind all of them in time: once it has run, they had their chance.
    for queue in (Queue.HIGH, Queue.MEDIUM):
        await ended(await enqueue(runtime, queue, name=f"a {queue}"))
    await asyncio.sleep(0)
    assert {(await job_row(job_id)).state for job_id in [*waiting, delayed]} == {"queued"}
    await resume(runtime)
    for job_id in [*waiting, delayed]:
        job = await ended(job_id)
        assert (job.state, job.attempt) == ("succeeded", 1)
    assert len(await traces(runtime)) == 23


async def test_a_running_job_of_a_paused_queue_goes_on_to_its_end(
    runtime: Runtime, worker: object, ended: Ended, job_row: JobRow
) -> None:
    job_id = await enqueue(runtime, seconds=0.5)
    await until(lambda: _in_state(job_row, job_id, "running"), what="the start")
    await pause(runtime)
    assert (await ended(job_id)).state == "succeeded"


async def _in_state(job_row: JobRow, job_id: str, state: str) -> bool:
    return (await job_row(job_id)).state == state


async def test_a_message_that_came_while_the_queue_was_paused_starts_nothing(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    job_id = await enqueue(runtime, Queue.LOW, Options(exclusive_key="one"))
    await pause(runtime)
    assert await ledger.start(f"{job_id}.1.1", worker_id) is None
    async with runtime.database.reading() as session:
        job = await session.get_one(Job, job_id)
    # Nor is it taken for one that is held back by another, and published again and again.
    assert (job.state, job.delivery, job.run_after) == ("queued", 1, None)
    await resume(runtime)
    assert await ledger.start(f"{job_id}.1.1", worker_id) is not None


@pytest.mark.slow
async def test_a_pause_holds_for_all_workers_and_across_their_restarts(
    settings: Settings, ledgered: Runtime, ended: Ended
) -> None:
    await pause(ledgered)
    jobs = [await enqueue(ledgered, name=f"j{number:02}") for number in range(10)]
    for _ in range(2):
        with worker_process(settings), worker_process(settings):
            await ended(await enqueue(ledgered, Queue.HIGH, name=f"h{utc_now()}"))
    assert not any(name.startswith("j") for name in await traces(ledgered))
    async with ledgered.database.reading() as session:
        [low] = await queue_figures(session, [Queue.LOW])
    assert (low.depth, low.paused_by) == (10, "test")
    with worker_process(settings), worker_process(settings):
        await ended(await enqueue(ledgered, Queue.HIGH, name="h again"))
        await resume(ledgered)
        for job_id in jobs:
            assert (await ended(job_id)).state == "succeeded"
    assert [name for name in await traces(ledgered) if name.startswith("j")] == [f"j{n:02}" for n in range(10)]


async def test_workers_that_did_not_hear_of_a_resume_see_it_all_the_same(
    runtime: Runtime, worker: object, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unheard(_self: Connection) -> None:
        return None

    monkeypatch.setattr(Connection, "announce_queues", unheard)
    await pause(runtime)
    job_id = await enqueue(runtime)
    await resume(runtime)
    assert (await ended(job_id)).state == "succeeded"


async def test_who_paused_first_stays_the_one_who_paused(runtime: Runtime, ledger: Ledger) -> None:
    await pause(runtime)
    async with runtime.database.unit_of_work():
        await steering.pause(ledger, Queue.LOW, paused_by="another")
    async with runtime.database.reading() as session:
        [low, high] = await queue_figures(session, [Queue.LOW, Queue.HIGH])
    assert (low.paused_by, high.paused_at) == ("test", None)


# ------------------------------------------------------------------------------------ move


async def test_a_job_that_was_moved_runs_once_on_its_new_queue(
    ledgered: Runtime, ended: Ended, ledger: Ledger
) -> None:
    job_id = await enqueue(ledgered, Queue.LOW, name="moved")
    async with ledgered.database.unit_of_work():
        await steering.move(ledger, job_id, Queue.HIGH, continuation_queue=Queue.MEDIUM)
    # The message on the low queue is still there.
    async with worker_running(ledgered, [Queue.LOW, Queue.HIGH]):
        job = await ended(job_id)
        await ended(await enqueue(ledgered, Queue.LOW, name="after"))
    assert (job.queue, job.state, job.delivery) == ("high_priority", "succeeded", 2)
    assert await traces(ledgered) == ["after", "moved"]


async def test_only_what_waits_can_be_moved(ledgered: Runtime, ledger: Ledger, worker_id: str) -> None:
    job_id = await enqueue(ledgered)
    async with ledgered.database.unit_of_work():
        same = await steering.move(ledger, job_id, Queue.LOW, continuation_queue=Queue.LOW)
    assert same is JobState.QUEUED
    assert await ledger.start(f"{job_id}.1.1", worker_id) is not None
    with pytest.raises(ConflictError, match="this one is running"):
        async with ledgered.database.unit_of_work():
            await steering.move(ledger, job_id, Queue.HIGH, continuation_queue=Queue.MEDIUM)
    with pytest.raises(NotFoundError):
        async with ledgered.database.unit_of_work():
            await steering.move(ledger, "nobody", Queue.HIGH, continuation_queue=Queue.MEDIUM)


async def test_a_job_that_is_retrying_keeps_its_wait_when_it_is_moved(
    ledgered: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    job_id = await enqueue(ledgered)
    started = await ledger.start(f"{job_id}.1.1", worker_id)
    assert started is not None
    await ledger.fail(started, Failure(ErrorCategory.TEMPORARY, "later", {}), wait_seconds=60)
    async with ledgered.database.unit_of_work():
        await steering.move(ledger, job_id, Queue.HIGH, continuation_queue=Queue.MEDIUM)
    job = await job_row(job_id)
    assert (job.state, job.queue, job.attempt) == ("retrying", "high_priority", 2)
    assert job.run_after is not None
    assert job.run_after > utc_now() + timedelta(seconds=50)


# ----------------------------------------------------------------------------------- clear


async def failed_job(ledger: Ledger, message: str, queue: str = Queue.LOW) -> str:
    async with ledger.database.unit_of_work():
        (job_id,) = await ledger.add([NewJob(task="t", queue=queue)])
    started = await ledger.start(f"{job_id}.1.1", "w1")
    assert started is not None
    await ledger.fail(started, Failure(ErrorCategory.USER_FIXABLE, message, {}))
    return job_id


async def test_failures_are_grouped_by_reason_and_cleared_from_the_lists_not_from_the_history(
    ledgered: Runtime, ledger: Ledger, worker_id: str
) -> None:
    for number in range(3):
        await failed_job(ledger, f"'Album {number}/1.mp3' has {number} of 12 frames")
    other = await failed_job(ledger, "The disk is full")
    elsewhere = await failed_job(ledger, "The disk is full", Queue.HIGH)
    async with ledgered.database.reading() as session:
        groups = await failure_groups(session, limit=10)
    assert [(group.queue, group.reason, group.count) for group in groups] == [
        (Queue.LOW, "… has … of … frames", 3),
        (Queue.HIGH, "The disk is full", 1),
        (Queue.LOW, "The disk is full", 1),
    ]
    assert groups[0].last.error_message == "'Album 2/1.mp3' has 2 of 12 frames"
    assert await steering.clear_failed(ledger, Queue.LOW) == 4
    later = await failed_job(ledger, "The disk is full")
    async with ledgered.database.reading() as session:
        shown = await job_page(session, JobFilter(states=(JobState.FAILED,)), before=None, limit=10)
        everything = await job_page(session, JobFilter(cleared=True), before=None, limit=10)
        lines = await session.scalar(select(func.count()).where(JobEvent.job_id == other))
    assert [job.id for job in shown.jobs] == [later, elsewhere]
    assert len(everything.jobs) == 6
    assert lines == 3


def test_a_reason_is_the_message_without_what_differs() -> None:
    assert reason_of("3 of 40 parts of the scan failed") == reason_of("1 of 2,000 parts of the scan failed")
    assert reason_of("/music/a b.mp3 is gone") == "… b.mp3 is gone"
    assert reason_of("x" * 1000) == "x" * 200


# ----------------------------------------------------------------------------------- retry


async def test_retries_by_hand_are_counted_apart_from_automatic_attempts(
    runtime: Runtime, worker: object, ended: Ended
) -> None:
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(Queue.LOW, failing, how="person")
    first = await ended(job_id)
    for number in (1, 2):
        async with runtime.database.unit_of_work():
            job_id = await steering.retry(runtime.connection.ledger, job_id, requested_by="me")
        again = await ended(job_id)
        assert (again.retry_number, again.attempt, again.requested_by) == (number, 1, "me")
    assert again.retry_of not in {None, first.id}


async def test_while_a_retry_is_open_it_is_the_answer_to_the_next_request(
    ledgered: Runtime, ledger: Ledger, worker_id: str
) -> None:
    job_id = await failed_job(ledger, "no")
    answers = set()
    for _ in range(3):
        async with ledgered.database.unit_of_work():
            answers.add(await steering.retry(ledger, job_id, requested_by="me"))
    [again] = answers
    assert await ledger.start(f"{again}.1.1", worker_id) is not None
    async with ledgered.database.unit_of_work():
        assert await steering.retry(ledger, job_id, requested_by="me") == again


# ---------------------------------------------------------------------------------- cancel


@pytest.mark.parametrize("state", ["waiting", "running"])
async def test_cancelling_a_parent_ends_hundreds_of_waiting_parts_with_it(
    state: str, ledgered: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    parent = await enqueue(ledgered)
    started = await ledger.start(f"{parent}.1.1", worker_id)
    assert started is not None
    async with ledger.effect(started):
        parts = await ledger.add([NewJob(task="t", queue=Queue.LOW, parent_id=parent) for _ in range(400)])
    if state == "waiting":
        await ledger.finish(started, result=None)
    async with ledgered.database.unit_of_work():
        await steering.cancel(ledger, parent)
    if state == "running":
        await ledger.stopped_after_cancel(started)
    job = await job_row(parent)
    assert (job.state, job.children_open) == ("cancelled", 0)
    async with ledgered.database.reading() as session:
        states = (await session.scalars(select(Job.state).where(Job.id.in_(parts)).distinct())).all()
        ends = await session.scalar(
            select(func.count()).where(JobEvent.event == "cancelled", JobEvent.job_id.in_([parent, *parts]))
        )
    assert (list(states), ends) == (["cancelled"], 401)


async def test_cancelling_a_family_at_work_ends_hundreds_of_parts_and_skips_the_last_one(
    runtime: Runtime, worker: object, ended: Ended, job_row: JobRow
) -> None:
    async with runtime.database.unit_of_work():
        parent = await broker.enqueue(Queue.HIGH, family, name="f", children=400)
    await until(lambda: _in_state(job_row, parent, "waiting"), what="the parts")
    await until(lambda: traces(runtime), what="the first part")
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, parent)
    job = await ended(parent)
    assert (job.state, job.children_open, job.continuation_id) == ("cancelled", 0, None)
    async with runtime.database.reading() as session:
        rows = await session.execute(
            select(Job.state, func.count()).where(Job.parent_id == parent).group_by(Job.state)
        )
        parts = {row[0]: row[1] for row in rows}
    assert sum(parts.values()) == 400
    assert parts.keys() == {"cancelled", "succeeded"}
    assert "reunion" not in await traces(runtime)


@pytest.mark.slow
async def test_a_worker_that_lacks_a_moved_jobs_task_leaves_it_to_one_that_has_it(
    settings: Settings, ledgered: Runtime, ended: Ended, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await enqueue(ledgered, Queue.LOW, name="moved")
    with monkeypatch.context() as few:
        few.delitem(broker.tasks, leaf.name)
        async with worker_running(ledgered, [Queue.HIGH]):
            async with ledgered.database.unit_of_work():
                await steering.move(ledger, job_id, Queue.HIGH, continuation_queue=Queue.MEDIUM)
            # It takes the message, can do nothing with it, and leaves the job for later.
            await until(lambda: _was_published_again(ledgered, job_id), what="another message")
            with worker_process(settings):
                assert (await ended(job_id)).state == "succeeded"
    assert await traces(ledgered) == ["moved"]


async def _was_published_again(runtime: Runtime, job_id: str) -> bool:
    async with runtime.database.reading() as session:
        return (await session.get_one(Job, job_id)).delivery > 2


@pytest.mark.parametrize("how", ["failed for now", "snoozed", "handed back"])
async def test_a_job_that_was_cancelled_while_it_stopped_for_another_reason_is_over(
    how: str, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    async with ledger.database.unit_of_work():
        (job_id,) = await ledger.add([NewJob(task="test_leaf", queue=Queue.LOW)])
    started = await ledger.start(f"{job_id}.1.1", worker_id)
    assert started is not None
    async with ledger.database.unit_of_work():
        assert await steering.cancel(ledger, job_id) is JobState.RUNNING
    if how == "failed for now":
        await ledger.fail(started, Failure(ErrorCategory.TEMPORARY, "the disk sulks", {}))
    elif how == "snoozed":
        await ledger.snooze(started, 1.0, "later")
    else:
        await ledger.hand_back(started)
    assert (await job_row(job_id)).state == "cancelled"
