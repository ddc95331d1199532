"""Jobs through a real worker: outcomes, cancel, timeout, lanes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from fault_worker import endless, failing, leaf, slow_to_answer
from mus.broker.job_runner import JobRunner
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import BadRequestError, ConfigurationError
from mus.ledger import steering
from mus.ledger.deliveries import Delivery
from mus.ledger.workers import Heartbeat, living_beats
from mus.persistence.database import Database
from mus.persistence.models import Job, utc_now
from mus.worker import WorkerProcess, load_job_modules, worker_running
from waiting import until

Ended = Callable[..., Awaitable[Job]]


async def enqueue(runtime: Runtime, task: object, queue: str = Queue.LOW, **arguments: object) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(queue, task, **arguments)  # type: ignore[arg-type]


async def test_a_job_runs_and_its_result_is_kept(runtime: Runtime, worker: WorkerProcess, ended: Ended) -> None:
    job = await ended(await enqueue(runtime, leaf, name="x"))
    assert (job.state, job.result) == ("succeeded", {"name": "x"})


@pytest.mark.parametrize(
    ("how", "state", "category", "message"),
    [
        ("person", "failed", "user_fixable", "your turn"),
        ("bug", "failed", "admin_required", "Unexpected ZeroDivisionError: a bug"),
        ("snooze", "succeeded", None, None),
        ("fine", "succeeded", None, None),
    ],
)
async def test_an_outcome_reaches_the_ledger(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, how: str, state: str, category: str, message: str
) -> None:
    job = await ended(await enqueue(runtime, failing, how=how))
    assert (job.state, job.error_category, job.error_message) == (state, category, message)
    assert job.attempt == 1
    if how == "bug":
        assert "ZeroDivisionError" in (job.error_details or {})["traceback"]
    if how == "person":
        assert (job.error_details or {})["recovery_actions"] == ["do something"]


async def test_a_temporary_failure_waits_for_its_next_attempt(
    runtime: Runtime, worker: WorkerProcess, job_row: Ended
) -> None:
    job_id = await enqueue(runtime, failing, how="temporary")

    async def retrying() -> Job | None:
        job = await job_row(job_id)
        return job if job.state == "retrying" else None

    job = await until(retrying)
    assert (job.attempt, job.error_category, job.error_message) == (2, "temporary", "the disk sulks")
    assert job.run_after is not None
    assert job.run_after > utc_now()


async def test_a_job_past_its_time_is_stopped_and_tried_again(
    runtime: Runtime, worker: WorkerProcess, job_row: Ended
) -> None:
    job_id = await enqueue(runtime, slow_to_answer)

    async def retrying() -> Job | None:
        job = await job_row(job_id)
        return job if job.state == "retrying" else None

    assert "longer than" in ((await until(retrying)).error_message or "")


async def test_cancelling_a_running_job_stops_it(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended
) -> None:
    job_id = await enqueue(runtime, endless)

    async def at_it() -> bool:
        return (await job_row(job_id)).stage == "at it"

    await until(at_it)
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, job_id)
    assert (await ended(job_id)).state == "cancelled"


async def test_a_cancel_that_was_not_announced_is_seen_all_the_same(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended
) -> None:
    job_id = await enqueue(runtime, endless)

    async def at_it() -> bool:
        return (await job_row(job_id)).stage == "at it"

    await until(at_it)
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == job_id).values(cancel_requested_at=utc_now()))
    assert (await ended(job_id)).state == "cancelled"


async def test_an_attempt_that_was_moved_on_is_stopped_and_its_successor_here_goes_on(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended
) -> None:
    job_id = await enqueue(runtime, endless)

    async def at_it() -> Job | None:
        job = await job_row(job_id)
        return job if job.stage == "at it" else None

    first = await until(at_it)
    assert first.worker_id is not None
    await runtime.connection.ledger.take_over(job_id, 1, first.worker_id)

    async def second_runs() -> bool:
        job = await job_row(job_id)
        return job.attempt == 2 and job.stage == "at it"

    await until(second_runs)
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, job_id)
    assert (await ended(job_id, seconds=5)).state == "cancelled"


async def test_a_worker_that_cannot_run_ends_the_block_that_relies_on_it(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"scan_schedule": "never"})
    broken = Runtime(settings, runtime.database, runtime.connection)
    with pytest.raises(BadRequestError, match="not a crontab"):
        async with worker_running(broken, list(Queue)):
            await asyncio.Event().wait()


async def test_a_delayed_job_does_not_start_before_its_time(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    due = utc_now() + timedelta(seconds=0.7)
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(Queue.LOW, leaf, Options(delay_until=due), name="later")
    job = await ended(job_id)
    assert job.started_at is not None
    assert job.started_at >= due


async def test_jobs_left_running_at_the_end_of_a_drain_go_back_without_losing_an_attempt(
    runtime: Runtime, job_row: Ended
) -> None:
    load_job_modules([], list(Queue))
    quick = Runtime(
        runtime.settings.model_copy(update={"drain_seconds": 0.1}), runtime.database, runtime.connection
    )
    async with worker_running(quick, [Queue.LOW]):
        job_id = await enqueue(runtime, endless)

        async def runs() -> bool:
            return (await job_row(job_id)).stage == "at it"

        await until(runs)
    job = await job_row(job_id)
    assert (job.state, job.attempt, job.worker_id) == ("queued", 1, None)


async def test_a_job_that_starts_while_the_others_are_handed_back_goes_back_too(
    runtime: Runtime, worker_id: str, job_row: Ended
) -> None:
    load_job_modules([], list(Queue))
    runner = JobRunner(runtime.connection.ledger, broker.tasks, worker_id)
    job_id = await enqueue(runtime, endless)
    runner.begin_drain()
    runner.hand_all_back()
    await runner.deliver(f"{job_id}.1.1")
    job = await job_row(job_id)
    assert (job.state, job.attempt, job.delivery, job.worker_id) == ("queued", 1, 2, None)


async def test_a_job_that_has_come_to_its_end_is_not_handed_back(
    runtime: Runtime, worker_id: str, job_row: Ended
) -> None:
    runner = JobRunner(runtime.connection.ledger, broker.tasks, worker_id)

    @broker.task("test_stubborn")
    async def stubborn() -> None:
        runner.hand_all_back()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    try:
        job_id = await enqueue(runtime, stubborn)
        await runner.deliver(f"{job_id}.1.1")
    finally:
        del broker.tasks["test_stubborn"]
    assert (await job_row(job_id)).state == "succeeded"


async def test_a_worker_whose_loop_stands_still_for_long_is_left_to_be_taken_for_dead(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mus.ledger.workers.LONGEST_TURN_SECONDS", 0.2)
    heartbeat = Heartbeat(runtime.database.url, [Queue.LOW], 0.02)

    async def beat() -> int:
        database = Database(runtime.database.url)
        try:
            return (await living_beats(database))[heartbeat.worker_id]
        finally:
            await database.close()

    def stood_still() -> bool:
        before = asyncio.run(beat())
        time.sleep(0.3)  # many beats
        return asyncio.run(beat()) == before

    await heartbeat.start()
    with ThreadPoolExecutor(1) as elsewhere:
        deadline = time.monotonic() + 20
        while not elsewhere.submit(stood_still).result():  # without a turn of this loop
            assert time.monotonic() < deadline
    last = await beat()

    async def beats_again() -> bool:
        return await beat() > last

    await until(beats_again, what="a beat of the loop that turns again")
    await heartbeat.stop()


async def test_enqueueing_never_waits_for_a_broker_that_is_down_and_the_job_runs_later(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    client = runtime.connection.redis
    await client.client_pause(1500, all=True)  # type: ignore[no-untyped-call]
    began = time.monotonic()
    job_id = await enqueue(runtime, leaf, name="x")
    assert time.monotonic() - began < 10
    assert (await ended(job_id)).state == "succeeded"


async def test_thousands_of_messages_for_one_job_run_it_once(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    job_id = await enqueue(runtime, leaf, name="once")
    await ended(job_id)
    for copy in range(20):
        await runtime.connection.publish([Delivery(job_id, 1, 1 + copy % 2, "test_leaf", Queue.LOW)])
    await ended(await enqueue(runtime, leaf, name="after"))
    async with runtime.database.reading() as session:
        traces = (await session.execute(text("SELECT name FROM effects"))).scalars().all()
    assert sorted(traces) == ["after", "once"]


@pytest.mark.parametrize("turns", range(0, 40, 2))
async def test_a_worker_that_is_stopped_while_it_starts_ends(runtime: Runtime, turns: int) -> None:
    load_job_modules([], list(Queue))
    async with worker_running(runtime, list(Queue)):
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_junk_in_a_stream_ends_no_worker(runtime: Runtime, worker: WorkerProcess, ended: Ended) -> None:
    stream = f"streaq:{runtime.settings.queue_name}:queues:{Queue.LOW}"
    key = f"streaq:{runtime.settings.queue_name}:task:data:junk"
    redis = runtime.connection.redis
    await redis.xadd(stream, {"task_id": "nobody", "enqueue_time": 0})
    await redis.set(key, '{"f": "test_leaf", "a": [], "k": {}, "t": 0}')
    await redis.xadd(stream, {"task_id": "junk", "enqueue_time": 0})
    await redis.set(f"{key}2", "not json")
    await redis.xadd(stream, {"task_id": "junk2", "enqueue_time": 0})
    assert (await ended(await enqueue(runtime, leaf, name="fine"))).state == "succeeded"


async def test_a_worker_says_which_task_of_its_queues_it_lacks() -> None:
    load_job_modules([], list(Queue))
    kept = broker.tasks.pop("process_slow_metadata")
    try:
        with pytest.raises(ConfigurationError, match="process_slow_metadata"):
            load_job_modules(["mus.jobs.file_system_jobs"], list(Queue))
        load_job_modules(["mus.jobs.file_system_jobs"], [Queue.HIGH, Queue.MEDIUM])
    finally:
        broker.tasks["process_slow_metadata"] = kept
    with pytest.raises(ConfigurationError, match=r"no\.such\.module"):
        load_job_modules(["no.such.module"], list(Queue))


async def test_all_jobs_of_a_burst_end(runtime: Runtime, worker: WorkerProcess) -> None:
    async with runtime.database.unit_of_work():
        await broker.enqueue_many([broker.job([*Queue][n % 3], leaf, name=str(n)) for n in range(300)])

    async def done() -> bool:
        async with runtime.database.reading() as session:
            states = (await session.execute(select(Job.state))).scalars().all()
        return set(states) == {"succeeded"}

    await until(done)
    async with runtime.database.reading() as session:
        traces = (await session.execute(text("SELECT DISTINCT name FROM effects"))).all()
    assert len(traces) == 300
