"""Each row of the job's state table, and each race that the ledger must win or lose without harm."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from fault_worker import family, leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import BadRequestError, ConflictError, ErrorCategory, NotFoundError, SupersededError
from mus.ledger import steering
from mus.ledger.deliveries import new_id, parse_delivery_id
from mus.ledger.job_rows import MAX_ATTEMPTS, Failure, StartedJob
from mus.ledger.job_states import TERMINAL_STATES, TRANSITIONS, JobState
from mus.ledger.ledger import Ledger
from mus.ledger.postponed import backoff_seconds
from mus.ledger.workers import DeadWorkerWatch
from mus.persistence.models import Job, JobEvent, utc_now

TEMPORARY = Failure(ErrorCategory.TEMPORARY, "later", {})
FOR_GOOD = Failure(ErrorCategory.USER_FIXABLE, "no", {})


async def enqueued(runtime: Runtime, **options: object) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, leaf, Options(**options), name="x")  # type: ignore[arg-type]


async def started(ledger: Ledger, job_id: str, worker_id: str, suffix: str = "1.1") -> StartedJob:
    job = await ledger.start(f"{job_id}.{suffix}", worker_id)
    assert job is not None
    return job


async def events(runtime: Runtime, job_id: str) -> list[str]:
    async with runtime.database.reading() as session:
        rows = await session.execute(select(JobEvent.event).where(JobEvent.job_id == job_id).order_by(JobEvent.id))
        return list(rows.scalars())


# ------------------------------------------------------------------- enqueue


async def test_enqueueing_outside_a_unit_of_work_is_an_error(runtime: Runtime) -> None:
    with pytest.raises(RuntimeError, match="unit_of_work"):
        await broker.enqueue(Queue.LOW, leaf, name="x")


async def test_a_rolled_back_enqueue_leaves_no_row_and_no_message(runtime: Runtime) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with runtime.database.unit_of_work():
            await broker.enqueue(Queue.LOW, leaf, name="x")
            raise ZeroDivisionError
    async with runtime.database.reading() as session:
        assert (await session.execute(select(Job.id))).all() == []
    assert await runtime.connection.redis.keys(f"streaq:{runtime.settings.queue_name}:task:*") == []


@pytest.mark.parametrize(
    ("queue", "task", "arguments", "said"),
    [
        ("urgent", "test_leaf", {"name": "x"}, "no queue 'urgent'"),
        ("low_priority", "no_such_task", {}, "no task 'no_such_task'"),
        ("low_priority", "test_leaf", {}, "'name': Field required"),
        ("low_priority", "test_leaf", {"name": "x", "color": 1}, "'color': Extra inputs"),
        ("low_priority", "test_leaf", {"name": 7}, "'name': Input should be a valid string"),
        (
            "low_priority",
            "test_leaf",
            {"name": "x", "seconds": "soon"},
            "'seconds': Input should be a valid number",
        ),
    ],
)
async def test_a_wrong_enqueue_fails_where_it_is_made(
    runtime: Runtime, queue: str, task: str, arguments: dict[str, object], said: str
) -> None:
    async with runtime.database.unit_of_work():
        with pytest.raises(BadRequestError, match=said):
            await broker.enqueue(queue, task, **arguments)


async def test_an_equal_job_that_waits_answers_for_a_second_one(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    first = await enqueued(runtime, dedupe_key="k")
    assert await enqueued(runtime, dedupe_key="k") == first
    assert await enqueued(runtime, dedupe_key="other") != first
    await started(ledger, first, worker_id)
    assert await enqueued(runtime, dedupe_key="k") != first, "one that runs no longer answers"


async def test_a_job_that_comes_back_to_its_queue_lets_a_newer_equal_one_wait_beside_it(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    first = await enqueued(runtime, dedupe_key="k")
    running = await started(ledger, first, worker_id)
    second = await enqueued(runtime, dedupe_key="k")
    await ledger.hand_back(running)
    assert (await job_row(first)).state == (await job_row(second)).state == JobState.QUEUED  # type: ignore[operator]


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(3)]
    assert len(set(ids)) == 3
    assert [len(id_) for id_ in ids] == [32, 32, 32]
    assert ids[0][:12] <= ids[1][:12] <= ids[2][:12]


@pytest.mark.parametrize("junk", ["", "a.b", "a.1.2.3", "a.x.1"])
def test_what_is_no_delivery_id_is_refused(junk: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int and unpacking say it in their own words
        parse_delivery_id(junk)


# ------------------------------------------------------------- start and end


async def test_a_delivery_starts_its_job_once(runtime: Runtime, ledger: Ledger, worker_id: str) -> None:
    job_id = await enqueued(runtime)
    jobs = await asyncio.gather(*(ledger.start(f"{job_id}.1.1", worker_id) for _ in range(5)))
    assert sum(job is not None for job in jobs) == 1
    assert await events(runtime, job_id) == ["enqueued", "started"]


async def test_a_worker_that_is_taken_for_dead_starts_nothing(runtime: Runtime, ledger: Ledger) -> None:
    job_id = await enqueued(runtime)
    assert await ledger.start(f"{job_id}.1.1", "a worker nobody knows") is None


async def test_a_finished_job_keeps_its_result_and_its_history(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    job = await started(ledger, job_id, worker_id)
    assert await ledger.finish(job, result={"n": 1}) is JobState.SUCCEEDED
    row = await job_row(job_id)  # type: ignore[operator]
    assert (row.state, row.result, row.progress, row.worker_id) == ("succeeded", {"n": 1}, 1.0, None)
    assert row.created_at <= row.started_at <= row.finished_at
    assert await events(runtime, job_id) == ["enqueued", "started", "succeeded"]


async def test_an_attempt_that_was_superseded_can_change_nothing(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    old = await started(ledger, job_id, worker_id)
    await ledger.take_over(job_id, 1, worker_id)
    new = await started(ledger, job_id, worker_id, "2.2")
    for late in (
        ledger.finish(old, result={}),
        ledger.fail(old, FOR_GOOD),
        ledger.fail(old, TEMPORARY),
        ledger.hand_back(old),
        ledger.snooze(old, 1, "later"),
        ledger.stopped_after_cancel(old),
    ):
        with pytest.raises(SupersededError):
            await late
    with pytest.raises(SupersededError):
        async with ledger.effect(old, stage="too late"):
            pytest.fail("the block of a superseded effect must not run")
    row = await job_row(job_id)  # type: ignore[operator]
    assert (row.state, row.attempt, row.stage) == ("running", 2, None)
    await ledger.finish(new, result=None)


async def test_a_temporary_failure_is_tried_four_times_in_all(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = await started(ledger, job_id, worker_id, f"{attempt}.{attempt}")
        state = await ledger.fail(job, TEMPORARY)
        row = await job_row(job_id)  # type: ignore[operator]
        if attempt < MAX_ATTEMPTS:
            assert state is JobState.RETRYING
            assert row.run_after > utc_now()
            assert row.error_message == "later"
    assert (row.state, row.attempt, row.error_category) == ("failed", MAX_ATTEMPTS, "temporary")


async def test_a_parent_that_failed_once_and_then_succeeded_still_gets_its_continuation(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    async with runtime.database.unit_of_work():
        parent_id = await broker.enqueue(Queue.HIGH, family, name="f", children=0)
    await ledger.fail(await started(ledger, parent_id, worker_id), TEMPORARY)
    assert (await job_row(parent_id)).error_message == "later"  # type: ignore[operator]
    again = await started(ledger, parent_id, worker_id, "2.2")
    assert await ledger.finish(again, result=None) is JobState.WAITING
    (last,) = await children_of(runtime, parent_id)
    await ledger.finish(await started(ledger, last.id, worker_id), result={"sum": 1})
    row = await job_row(parent_id)  # type: ignore[operator]
    assert (row.state, row.error_message, row.result) == ("succeeded", None, {"sum": 1})


@pytest.mark.parametrize("category", [ErrorCategory.USER_FIXABLE, ErrorCategory.ADMIN_REQUIRED])
async def test_other_failures_are_final_at_once(
    runtime: Runtime, ledger: Ledger, worker_id: str, category: ErrorCategory
) -> None:
    job = await started(ledger, await enqueued(runtime), worker_id)
    assert await ledger.fail(job, Failure(category, "no", {"why": 1})) is JobState.FAILED


def test_the_wait_before_an_attempt_grows_and_is_jittered() -> None:
    for attempt, middle in ((1, 2), (2, 8), (3, 32)):
        waits = {backoff_seconds(attempt) for _ in range(50)}
        assert len(waits) > 1
        assert all(0.75 * middle <= wait <= 1.25 * middle for wait in waits)


async def test_snoozing_and_handing_back_use_up_no_attempt(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    await ledger.snooze(await started(ledger, job_id, worker_id), 0.01, "rate limit")
    await ledger.hand_back(await started(ledger, job_id, worker_id, "1.2"))
    row = await job_row(job_id)  # type: ignore[operator]
    assert (row.state, row.attempt, row.delivery) == ("queued", 1, 3)


async def test_a_job_whose_workers_keep_dying_fails_in_the_end(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        await started(ledger, job_id, worker_id, f"{attempt}.{attempt}")
        await ledger.take_over(job_id, attempt, worker_id)
    row = await job_row(job_id)  # type: ignore[operator]
    assert (row.state, row.error_category) == ("failed", "admin_required")
    assert "4 workers died" in row.error_message


async def test_only_one_job_of_an_exclusive_key_runs_and_the_other_waits_its_turn(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    first = await enqueued(runtime, exclusive_key="library:1")
    second = await enqueued(runtime, exclusive_key="library:1")
    running = await started(ledger, first, worker_id)
    assert await ledger.start(f"{second}.1.1", worker_id) is None
    held = await job_row(second)  # type: ignore[operator]
    assert (held.state, held.attempt, held.delivery) == ("queued", 1, 2)
    assert held.run_after > utc_now() - timedelta(seconds=1)
    await ledger.finish(running, result=None)
    await started(ledger, second, worker_id, "1.2")


# ------------------------------------------------------------------ families


async def family_of(
    runtime: Runtime, ledger: Ledger, worker_id: str, children: int
) -> tuple[StartedJob, list[str]]:
    async with runtime.database.unit_of_work():
        parent_id = await broker.enqueue(Queue.HIGH, family, name="f", children=children)
    parent = await started(ledger, parent_id, worker_id)
    async with ledger.effect(parent):
        ids = [
            await broker.enqueue(Queue.MEDIUM, leaf, Options(parent_id=parent_id), name=str(n))
            for n in range(children)
        ]
    return parent, ids


async def children_of(runtime: Runtime, parent_id: str) -> list[Job]:
    async with runtime.database.reading() as session:
        return list((await session.execute(select(Job).where(Job.parent_id == parent_id))).scalars())


async def test_a_parent_waits_for_its_children_then_for_its_continuation_and_ends_like_it(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 2)
    await ledger.finish(await started(ledger, ids[0], worker_id), result=None)
    assert await ledger.finish(parent, result={"walk": 1}) is JobState.WAITING
    await ledger.fail(await started(ledger, ids[1], worker_id), FOR_GOOD)
    last = next(job for job in await children_of(runtime, parent.id) if job.task == "test_reunion")
    assert last.queue == Queue.MEDIUM, "what follows a person's job runs behind what persons wait for"
    assert (await job_row(parent.id)).state == "waiting"  # type: ignore[operator]
    await ledger.finish(await started(ledger, last.id, worker_id), result={"sum": 2})
    row = await job_row(parent.id)  # type: ignore[operator]
    assert (row.state, row.result, row.children_open) == ("succeeded", {"sum": 2}, 0)


async def test_a_parent_fails_when_its_continuation_fails(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    parent, _ = await family_of(runtime, ledger, worker_id, 0)
    await ledger.finish(parent, result=None)
    (last,) = await children_of(runtime, parent.id)
    await ledger.fail(await started(ledger, last.id, worker_id), FOR_GOOD)
    row = await job_row(parent.id)  # type: ignore[operator]
    assert (row.state, row.error_category, row.error_message) == ("failed", "user_fixable", "no")


async def test_last_children_that_end_in_the_same_instant_enqueue_one_continuation(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 8)
    jobs = [await started(ledger, id_, worker_id) for id_ in ids]
    await asyncio.gather(ledger.finish(parent, result=None), *(ledger.finish(job, result=None) for job in jobs))
    assert [job.task for job in await children_of(runtime, parent.id)].count("test_reunion") == 1


async def test_cancelling_a_parent_cancels_its_children_and_skips_its_continuation(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 3)
    running = await started(ledger, ids[0], worker_id)
    await ledger.finish(parent, result=None)
    async with runtime.database.unit_of_work():
        assert await steering.cancel(ledger, parent.id) is JobState.WAITING
    assert [(await job_row(id_)).state for id_ in ids] == ["running", "cancelled", "cancelled"]  # type: ignore[operator]
    assert await ledger.stopped_after_cancel(running) is JobState.CANCELLED
    row = await job_row(parent.id)  # type: ignore[operator]
    assert (row.state, row.children_open) == ("cancelled", 0)
    assert {job.task for job in await children_of(runtime, parent.id)} == {"test_leaf"}


async def test_a_parent_that_fails_takes_its_open_children_with_it(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 2)
    assert await ledger.fail(parent, FOR_GOOD) is JobState.FAILED
    assert [(await job_row(id_)).state for id_ in ids] == ["cancelled", "cancelled"]  # type: ignore[operator]


# -------------------------------------------------------------------- people


async def test_cancelling_what_waits_is_immediate_and_what_ended_is_a_conflict(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    job_id = await enqueued(runtime)
    async with runtime.database.unit_of_work():
        assert await steering.cancel(ledger, job_id) is JobState.CANCELLED
    assert await ledger.start(f"{job_id}.1.1", worker_id) is None
    async with runtime.database.unit_of_work():
        with pytest.raises(ConflictError, match="cancelled already"):
            await steering.cancel(ledger, job_id)
        with pytest.raises(NotFoundError):
            await steering.cancel(ledger, "nobody")


async def test_a_job_that_is_held_back_by_another_can_be_cancelled(
    runtime: Runtime, ledger: Ledger, worker_id: str
) -> None:
    running = await started(ledger, await enqueued(runtime, exclusive_key="library:1"), worker_id)
    held_back = await enqueued(runtime, exclusive_key="library:1")
    async with runtime.database.unit_of_work():
        assert await steering.cancel(ledger, held_back) is JobState.CANCELLED
    assert await ledger.finish(running, result=None) is JobState.SUCCEEDED


async def test_a_parent_cancelled_between_two_attempts_ends_with_its_last_child(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 1)
    child = await started(ledger, ids[0], worker_id)
    await ledger.take_over(parent.id, 1, worker_id)
    async with runtime.database.unit_of_work():
        assert await steering.cancel(ledger, parent.id) is JobState.QUEUED
    assert await ledger.start(f"{parent.id}.2.2", worker_id) is None, "nothing starts it any more"
    await ledger.stopped_after_cancel(child)
    row = await job_row(parent.id)  # type: ignore[operator]
    assert (row.state, row.children_open) == ("cancelled", 0)


async def test_a_retry_by_hand_is_a_new_job_linked_to_the_first(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: object
) -> None:
    job_id = await enqueued(runtime)
    async with runtime.database.unit_of_work():
        with pytest.raises(ConflictError, match="this one is queued"):
            await steering.retry(ledger, job_id, requested_by="me")
    await ledger.fail(await started(ledger, job_id, worker_id), FOR_GOOD)
    async with runtime.database.unit_of_work():
        again = await steering.retry(ledger, job_id, requested_by="me")
    row = await job_row(again)  # type: ignore[operator]
    assert (row.state, row.attempt, row.retry_of, row.requested_by) == ("queued", 1, job_id, "me")
    assert row.arguments == {"name": "x", "seconds": 0.0}


# ------------------------------------------------------------------- workers


def test_a_worker_is_dead_only_after_standing_still_for_time_that_the_observer_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    monkeypatch.setattr("mus.ledger.workers.time.monotonic", lambda: clock)
    watch = DeadWorkerWatch(dead_after_seconds=20, look_every_seconds=5)
    assert watch.look({"w": 7}) == []
    clock += 3600  # the observer itself was frozen: this hour counts as ten seconds
    assert watch.look({"w": 7}) == []
    clock += 5
    assert watch.look({"w": 7}) == []
    clock += 5
    assert watch.look({"w": 7}) == ["w"]
    clock += 5
    assert watch.look({"w": 8}) == [], "it beats again"


def test_while_an_observer_cannot_beat_itself_it_takes_nobody_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("mus.ledger.workers.time.monotonic", lambda: clock)
    watch = DeadWorkerWatch(dead_after_seconds=20, look_every_seconds=5, own_id="me")
    assert watch.look({"me": 1, "w": 7}) == []
    for _ in range(20):  # somebody holds the database's lock
        clock += 5
        assert watch.look({"me": 1, "w": 7}) == []
    for beat, dead in enumerate(([], [], ["w"]), 2):
        clock += 5
        assert watch.look({"me": beat, "w": 7}) == dead


def test_terminal_states_lead_nowhere_and_every_other_state_leads_somewhere() -> None:
    leaving = {row.source for row in TRANSITIONS}
    assert leaving & TERMINAL_STATES == set()
    assert leaving >= set(JobState) - TERMINAL_STATES
