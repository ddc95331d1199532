"""A job that ends in the transaction of its last effect: both stand, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text

from fault_worker import CREATE_EFFECTS, leaf
from mus.broker.job_runner import current_job
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import SupersededError, UserFixableError
from mus.ledger import steering
from mus.ledger.job_rows import StartedJob
from mus.ledger.job_states import JobState
from mus.ledger.ledger import Ledger
from mus.persistence.models import Job, JobEvent
from mus.persistence.unit_of_work import UnitOfWork
from mus.worker import WorkerProcess

JobRow = Callable[[str], Awaitable[Job]]
Ended = Callable[..., Awaitable[Job]]

_LEAVE_TRACE = text("INSERT INTO effects (job, name) VALUES (:job, 'x')")


@broker.task("test_last_effect", timeout_seconds=60)
async def ends_itself(*, how: str) -> dict[str, Any]:
    job = current_job()
    result: dict[str, Any] = {}
    async with job.last_effect(result) as work:
        await work.session.execute(_LEAVE_TRACE, {"job": job.id})
        result["how"] = how
        if how == "fails before":
            raise UserFixableError("not now")
    if how == "fails after":
        raise UserFixableError("too late")
    if how == "hangs after":
        await asyncio.Event().wait()
    return {"told": "again"}


async def family_of(
    runtime: Runtime, ledger: Ledger, worker_id: str, children: int
) -> tuple[StartedJob, list[str]]:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
        parent_id = await broker.enqueue(Queue.LOW, leaf, name="parent")
        ids = [
            await broker.enqueue(Queue.LOW, leaf, Options(parent_id=parent_id), name=str(number))
            for number in range(children)
        ]
    parent = await ledger.start(f"{parent_id}.1.1", worker_id)
    assert parent is not None
    return parent, ids


async def traces(runtime: Runtime) -> list[str]:
    async with runtime.database.reading() as session:
        return list((await session.execute(text("SELECT job FROM effects"))).scalars())


async def leave_trace(work: UnitOfWork, job: StartedJob) -> None:
    await work.session.execute(_LEAVE_TRACE, {"job": job.id})


async def test_the_last_of_several_children_ends_their_parent_too(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    parent, ids = await family_of(runtime, ledger, worker_id, 2)
    await ledger.finish(parent, result={"walked": True})
    for job_id in ids:
        assert (await job_row(parent.id)).state == "waiting"
        job = await ledger.start(f"{job_id}.1.1", worker_id)
        assert job is not None
        result: dict[str, Any] = {}
        async with ledger.last_effect(job, result, parent_units=7) as work:
            await leave_trace(work, job)
            result["stored"] = 1
        row = await job_row(job_id)
        assert (row.state, row.result, row.progress, row.worker_id) == ("succeeded", {"stored": 1}, 1.0, None)
    row = await job_row(parent.id)
    assert (row.state, row.children_open, row.units_done) == ("succeeded", 0, 14)
    assert await traces(runtime) == ids
    async with runtime.database.reading() as session:
        events = await session.scalars(
            select(JobEvent.event).where(JobEvent.job_id == ids[0]).order_by(JobEvent.id)
        )
        assert list(events) == ["enqueued", "started", "succeeded"]


async def test_nothing_of_an_attempt_that_was_superseded_stands(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    _, (job_id,) = await family_of(runtime, ledger, worker_id, 1)
    old = await ledger.start(f"{job_id}.1.1", worker_id)
    assert old is not None
    await ledger.take_over(job_id, 1, worker_id)
    with pytest.raises(SupersededError):
        async with ledger.last_effect(old, {}) as work:
            await leave_trace(work, old)
    assert ((await job_row(job_id)).state, await traces(runtime)) == ("queued", [])


async def test_what_was_done_stands_though_somebody_cancelled_meanwhile(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    parent, (job_id,) = await family_of(runtime, ledger, worker_id, 1)
    await ledger.finish(parent, result=None)
    job = await ledger.start(f"{job_id}.1.1", worker_id)
    assert job is not None
    async with runtime.database.unit_of_work():
        assert await steering.cancel(ledger, parent.id) is JobState.WAITING
    async with ledger.last_effect(job, {}) as work:
        await leave_trace(work, job)
    assert [(await job_row(id_)).state for id_ in (job_id, parent.id)] == ["cancelled", "cancelled"]
    assert await traces(runtime) == [job_id]


@pytest.mark.parametrize(
    ("how", "state", "result", "left"),
    [
        ("is done", "succeeded", {"how": "is done"}, 1),
        ("fails after", "succeeded", {"how": "fails after"}, 1),
        ("fails before", "failed", None, 0),
    ],
)
async def test_what_its_function_says_afterwards_counts_no_more(
    runtime: Runtime,
    worker: WorkerProcess,
    ended: Ended,
    how: str,
    state: str,
    result: dict[str, Any] | None,
    left: int,
) -> None:
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(Queue.HIGH, ends_itself, how=how)
    job = await ended(job_id)
    assert (job.state, job.result) == (state, result)
    assert len(await traces(runtime)) == left


async def test_a_function_that_hangs_afterwards_is_stopped_with_its_worker(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(Queue.HIGH, ends_itself, how="hangs after")
    assert (await ended(job_id)).state == "succeeded"
    worker._runner.hand_all_back()
    async with runtime.database.reading() as session:
        events = await session.scalars(
            select(JobEvent.event).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        )
        assert list(events) == ["enqueued", "started", "succeeded"]
