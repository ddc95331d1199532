"""Retention: what ended long ago is forgotten, whatever somebody may still look for is not."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from music_library import result_of
from sqlalchemy import delete, event, func, insert, select, text
from upkeep_jobs import add_jobs, ended, enqueued, job_ids, low_worker, old_job, read_job, run

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.ledger import steering
from mus.ledger.history import ROWS_PER_STEP, forget, next_step
from mus.persistence.models import Job, JobEvent, utc_now
from mus.worker import load_job_modules
from waiting import until
from worker_processes import worker_process


async def count_events(runtime: Runtime, *jobs: Job) -> int:
    async with runtime.database.reading() as session:
        statement = select(func.count()).select_from(JobEvent).where(JobEvent.job_id.in_([job.id for job in jobs]))
        return (await session.execute(statement)).scalar_one()


async def test_jobs_that_ended_long_ago_go_with_their_events_and_others_stay(runtime: Runtime) -> None:
    old = [old_job(state=state) for state in ("succeeded", "failed", "cancelled")]
    kept = [old_job(days=89), old_job(state="running"), old_job(state="queued"), old_job(state="waiting")]
    await add_jobs(runtime, *old, *kept)
    async with low_worker(runtime):
        job = await run(runtime, "prune_history")
    assert result_of(job) == {"jobs": 3, "events": 6}
    assert await job_ids(runtime) == {job.id for job in kept}
    assert await count_events(runtime, *old) == 0
    assert await count_events(runtime, *kept) == 8


async def test_the_days_are_an_argument(runtime: Runtime) -> None:
    await add_jobs(runtime, old_job(days=11), old_job(days=9))
    async with low_worker(runtime):
        assert result_of(await run(runtime, "prune_history", days=10))["jobs"] == 1
        assert result_of(await run(runtime, "prune_history", days=10))["jobs"] == 0


async def test_a_job_stays_while_its_parent_is_open(runtime: Runtime) -> None:
    parent = old_job(state="waiting")
    child = old_job(parent_id=parent.id)
    await add_jobs(runtime, parent, child)
    async with low_worker(runtime):
        result_of(await run(runtime, "prune_history"))
    assert await job_ids(runtime) == {parent.id, child.id}


async def test_a_job_stays_while_a_child_is_open_or_young(runtime: Runtime) -> None:
    # A parent that ended before its child is none of ours; a clock that was set back makes it look so.
    parents = [old_job(), old_job()]
    await add_jobs(
        runtime,
        *parents,
        old_job(parent_id=parents[0].id, state="running"),
        old_job(parent_id=parents[1].id, days=1),
    )
    async with low_worker(runtime):
        result_of(await run(runtime, "prune_history"))
    assert {parent.id for parent in parents} <= await job_ids(runtime)
    assert len(await job_ids(runtime)) == 4


async def test_a_job_stays_while_an_open_job_is_its_retry_and_its_parent_with_it(runtime: Runtime) -> None:
    parent = old_job(state="failed")
    child = old_job(state="failed", parent_id=parent.id)
    retry = old_job(state="queued", retry_of=child.id)
    ended_retry_of = old_job(state="failed")
    await add_jobs(runtime, parent, child, retry, ended_retry_of, old_job(days=1, retry_of=ended_retry_of.id))
    async with low_worker(runtime):
        result_of(await run(runtime, "prune_history"))
    left = await job_ids(runtime)
    assert {parent.id, child.id, retry.id} <= left
    assert ended_retry_of.id not in left


async def test_families_go_as_a_whole_children_first(runtime: Runtime) -> None:
    scans = [old_job(days=100 + number, task="test") for number in range(40)]
    children = [
        old_job(days=100 + number, parent_id=scan.id) for number, scan in enumerate(scans) for _ in range(5)
    ]
    grandchildren = [old_job(days=100, parent_id=child.id) for child in children[::3]]
    await add_jobs(runtime, *scans, *children, *grandchildren)
    async with low_worker(runtime):
        result = result_of(await run(runtime, "prune_history"))
    assert result["jobs"] == len(scans) + len(children) + len(grandchildren)
    assert await job_ids(runtime) == set()


async def test_no_step_deletes_more_than_a_short_transaction_may(runtime: Runtime) -> None:
    long = old_job(days=200)
    await add_jobs(runtime, long, events=2 * ROWS_PER_STEP + 10)
    await add_jobs(runtime, *(old_job() for _ in range(300)), events=3)
    position = None
    jobs = events = 0
    while True:
        async with runtime.database.reading() as session:
            step = await next_step(session, utc_now(), position)
        if step is None:
            break
        async with runtime.database.unit_of_work() as work:
            gone = await forget(work.session, step)
        assert sum(gone) <= ROWS_PER_STEP
        jobs, events = jobs + gone[0], events + gone[1]
        position = step.position
    assert (jobs, events) == (301, 2 * ROWS_PER_STEP + 10 + 900)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_next_step_is_found_by_the_index_on_the_end_even_once_the_planner_knows_the_tables(
    runtime: Runtime,
) -> None:
    await add_jobs(runtime, *(old_job() for _ in range(500)), events=0)
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("ANALYZE"))
    sent: list[tuple[str, Any]] = []
    async with runtime.database.reading() as session:
        connection = await session.connection()
        event.listen(
            connection.sync_connection,
            "before_cursor_execute",
            lambda _c, _cursor, statement, parameters, _context, _many: sent.append((statement, parameters)),
        )
        await next_step(session, utc_now(), None)
        plans = [
            (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            for statement, parameters in list(sent)
        ]
    assert "USING INDEX ix_jobs_finished" in plans[0][0].detail
    assert not any(
        row.detail.startswith("SCAN") or "FOR ORDER BY" in row.detail for plan in plans for row in plan
    ), plans


async def test_events_whose_job_is_gone_are_forgotten_too(runtime: Runtime) -> None:
    lost, kept = old_job(days=1), old_job(days=1)
    await add_jobs(runtime, lost, kept, events=600)
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(delete(Job).where(Job.id == lost.id))
    async with low_worker(runtime):
        assert result_of(await run(runtime, "prune_history")) == {"jobs": 0, "events": 600}
    assert await count_events(runtime, kept) == 600


async def _many(runtime: Runtime, count: int) -> None:
    rows = [old_job() for _ in range(count)]
    async with runtime.database.unit_of_work() as work:
        columns = ("id", "task", "queue", "arguments", "state", "finished_at")
        await work.session.execute(insert(Job), [{name: getattr(row, name) for name in columns} for row in rows])


async def _has_begun(runtime: Runtime, job_id: str) -> bool:
    return (await read_job(runtime, job_id)).units_done > 0


async def test_it_tells_its_progress_and_stops_when_it_is_cancelled(runtime: Runtime) -> None:
    await _many(runtime, 20_000)
    async with low_worker(runtime):
        job_id = await enqueued(runtime, "prune_history")
        await until(lambda: _has_begun(runtime, job_id), what="the first step")
        async with runtime.database.unit_of_work():
            await steering.cancel(broker.ledger, job_id)
        job = await ended(runtime, job_id)
    assert job.state == "cancelled"
    assert job.units_total == 20_000
    assert 0 < len(await job_ids(runtime)) < 20_000


async def test_a_worker_that_stops_does_not_wait_for_it_and_the_next_one_goes_on(runtime: Runtime) -> None:
    await _many(runtime, 20_000)
    async with low_worker(runtime):
        job_id = await enqueued(runtime, "prune_history")
        await until(lambda: _has_begun(runtime, job_id), what="the first step")
    left = len(await job_ids(runtime))
    assert 0 < left < 20_000
    assert (await read_job(runtime, job_id)).state == "queued"
    async with low_worker(runtime):
        job = await ended(runtime, job_id)
    assert result_of(job)["jobs"] == 20_000
    assert await job_ids(runtime) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("no_schedules")
async def test_it_goes_on_after_its_worker_was_killed_and_counts_right(
    runtime: Runtime, settings: Settings
) -> None:
    load_job_modules([], [Queue.LOW])
    await _many(runtime, 20_000)
    with worker_process(settings) as doomed:
        job_id = await enqueued(runtime, "prune_history")
        await until(lambda: _has_begun(runtime, job_id), what="the first step")
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.wait()
    assert len(await job_ids(runtime)) > 0
    async with low_worker(runtime):
        job = await ended(runtime, job_id)
    assert result_of(job)["jobs"] == 20_000
    assert job.attempt == 2
    assert await job_ids(runtime) == set()
