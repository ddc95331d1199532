"""Many write at once, each over a connection of its own: nothing is lost, doubled, or waits in a circle.

On SQLite one writes at a time; these tests are about PostgreSQL, where every conditional update has to be right by
itself (READ COMMITTED).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import func, select, text

from fault_worker import CREATE_EFFECTS, family
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.errors import ConflictError, TemporaryError
from mus.ledger import steering
from mus.ledger.job_rows import NewJob, StartedJob
from mus.ledger.job_states import TERMINAL_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent
from waiting import until
from worker_processes import worker_process

ROUNDS = 25


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


@pytest.fixture
async def no_deadlocks(runtime: Runtime) -> AsyncIterator[None]:
    """The server has resolved none, whatever became of them."""
    yield
    # A connection's figures are in when it is closed.
    await runtime.database.close()
    found = text(
        "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    async with runtime.database.reading() as session:
        assert (await session.execute(found)).one().deadlocks == 0


async def running_parent(ledger: Ledger, worker_id: str, children: int) -> tuple[StartedJob, list[StartedJob]]:
    """A job with a continuation, and children that run."""
    new = NewJob(task="test_family", queue=Queue.HIGH, continuation="test_reunion", continuation_queue=Queue.MEDIUM)
    async with ledger.database.unit_of_work():
        (parent_id,) = await ledger.add([new])
    parent = await ledger.start(f"{parent_id}.1.1", worker_id)
    assert parent is not None
    async with ledger.effect(parent):
        ids = await ledger.add([NewJob(task="test_leaf", queue=Queue.MEDIUM, parent_id=parent_id)] * children)
    started = [await ledger.start(f"{child}.1.1", worker_id) for child in ids]
    return parent, [child for child in started if child is not None]


async def parts(ledger: Ledger, parent_id: str) -> list[Job]:
    async with ledger.database.reading() as session:
        return list((await session.scalars(select(Job).where(Job.parent_id == parent_id))).all())


@pytest.mark.usefixtures("no_deadlocks")
async def test_the_last_of_many_children_that_end_at_once_goes_on_with_the_parent_exactly_once(
    ledger: Ledger, worker_id: str, job_row: Callable[[str], Awaitable[Job]]
) -> None:
    for _ in range(ROUNDS):
        parent, children = await running_parent(ledger, worker_id, 8)
        # The parent itself ends among them: either may come last.
        await asyncio.gather(*(ledger.finish(job, result=None) for job in (*children, parent)))
        row = await job_row(parent.id)
        (last,) = [part for part in await parts(ledger, parent.id) if part.task == "test_reunion"]
        assert (row.state, row.children_open, row.continuation_id) == ("waiting", 1, last.id)


@pytest.mark.usefixtures("no_deadlocks")
async def test_a_cancel_that_meets_the_ends_of_children_waits_in_no_circle_with_them(
    ledger: Ledger, worker_id: str, job_row: Callable[[str], Awaitable[Job]]
) -> None:
    async def cancel(job_id: str) -> None:
        async with ledger.database.unit_of_work():
            await steering.cancel(ledger, job_id)

    for _ in range(ROUNDS):
        parent, children = await running_parent(ledger, worker_id, 6)
        await ledger.finish(parent, result=None)
        ends = [ledger.finish(child, result=None) for child in children]
        await asyncio.gather(*ends[:3], cancel(parent.id), *ends[3:])
        for part in await parts(ledger, parent.id):
            assert part.state in TERMINAL_STATES or part.task == "test_reunion"
        assert (await job_row(parent.id)).state == "cancelled"


@pytest.mark.usefixtures("no_deadlocks")
async def test_equal_jobs_enqueued_at_once_over_many_connections_are_one_row(
    ledger: Ledger, worker_id: str
) -> None:
    async def enqueue(key: str) -> str:
        async with ledger.database.unit_of_work():
            (job_id,) = await ledger.add([NewJob(task="test_leaf", queue=Queue.LOW, dedupe_key=key)])
        return job_id

    for number in range(ROUNDS):
        answers = await asyncio.gather(*(enqueue(f"k{number}") for _ in range(8)))
        (only,) = set(answers)
        # One that starts among them: whoever comes after it is another job, and nobody fails.
        more = await asyncio.gather(
            *(enqueue(f"k{number}") for _ in range(4)), ledger.start(f"{only}.1.1", worker_id)
        )
        assert len({job_id for job_id in more if isinstance(job_id, str)} - {only}) <= 1
    async with ledger.database.reading() as session:
        counted = select(func.count()).select_from(JobEvent).where(JobEvent.event == "enqueued")
        assert (await session.scalar(counted)) == await session.scalar(select(func.count()).select_from(Job))


@pytest.mark.usefixtures("no_deadlocks")
async def test_one_delivery_that_many_want_to_start_is_started_once(ledger: Ledger, worker_id: str) -> None:
    async with ledger.database.unit_of_work():
        ids = await ledger.add([NewJob(task="test_leaf", queue=Queue.LOW)] * ROUNDS)
    for job_id in ids:
        started = await asyncio.gather(*(ledger.start(f"{job_id}.1.1", worker_id) for _ in range(8)))
        assert sum(job is not None for job in started) == 1


@pytest.mark.usefixtures("no_deadlocks")
async def test_of_jobs_that_exclude_each_other_one_runs_and_the_others_wait_their_turn(
    ledger: Ledger, worker_id: str
) -> None:
    for number in range(ROUNDS):
        async with ledger.database.unit_of_work():
            new = NewJob(task="test_leaf", queue=Queue.LOW, exclusive_key=f"one of {number}")
            ids = await ledger.add([new] * 6)
        started = await asyncio.gather(*(ledger.start(f"{job_id}.1.1", worker_id) for job_id in ids))
        assert sum(job is not None for job in started) == 1
        async with ledger.database.reading() as session:
            states = select(Job.state, Job.delivery).where(Job.id.in_(ids))
            rows = sorted((row.state, row.delivery) for row in await session.execute(states))
        assert rows == [("queued", 2)] * 5 + [("running", 1)]


async def test_a_transaction_that_a_deadlock_cost_is_a_temporary_error(runtime: Runtime, ledger: Ledger) -> None:
    async with runtime.database.unit_of_work():
        ids = await ledger.add([NewJob(task="test_leaf", queue=Queue.LOW)] * 2)
    both_hold_one = asyncio.Barrier(2)

    async def lock(*in_order: str) -> None:
        async with runtime.database.unit_of_work() as work:
            for job_id in in_order:
                await work.session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
                if job_id == in_order[0]:
                    await both_hold_one.wait()

    outcomes = await asyncio.gather(lock(*ids), lock(*reversed(ids)), return_exceptions=True)
    (failed,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(failed, TemporaryError)
    assert "deadlock" in failed.user_message


@pytest.mark.slow
@pytest.mark.usefixtures("no_deadlocks")
async def test_several_worker_processes_do_every_job_once_while_parents_are_cancelled(
    settings: Settings, runtime: Runtime
) -> None:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    with worker_process(settings), worker_process(settings), worker_process(settings):
        async with runtime.database.unit_of_work():
            kept = [await broker.enqueue(Queue.HIGH, family, name=f"kept {n}", children=8) for n in range(12)]
            doomed = [await broker.enqueue(Queue.HIGH, family, name=f"doomed {n}", children=8) for n in range(12)]
        for job_id in doomed:
            try:
                async with runtime.database.unit_of_work():
                    await steering.cancel(runtime.connection.ledger, job_id)
            except ConflictError:
                continue  # it was faster
        await until(lambda: all_ended(runtime.database), what="the end of every job")
    async with runtime.database.reading() as session:
        states = {row.id: row.state for row in await session.execute(select(Job.id, Job.state))}
        twice = text("SELECT job FROM effects GROUP BY job HAVING count(*) > 1")
        assert (await session.execute(twice)).all() == []
        traces = text("SELECT count(*) FROM effects WHERE name LIKE 'kept%'")
        assert await session.scalar(traces) == 12 * 8
    assert {states[job_id] for job_id in kept} == {"succeeded"}
    assert {states[job_id] for job_id in doomed} <= {"succeeded", "cancelled"}


async def all_ended(database: Database) -> bool:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(Job.state.not_in(TERMINAL_STATES))) == 0
