"""Jobs of a backup that is put in the place of a database whose workers and messages go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text

from fault_worker import endless, family, leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.cli.restoration import Restored, restored
from mus.ledger import steering
from mus.ledger.deliveries import Delivery
from mus.persistence.models import Job, JobEvent, WorkerRow
from mus.persistence.sqlite_copies import write_copy
from mus.worker import WorkerProcess
from waiting import until

Ended = Callable[..., Awaitable[Job]]


@pytest.fixture
def database_kind() -> str:
    """Copies are SQLite's; PostgreSQL has tools of its own."""
    return "sqlite"


def back_up(runtime: Runtime, file: Path) -> Path:
    write_copy(runtime.settings.data_dir / "mus.db", file)
    return file


async def restore(runtime: Runtime, file: Path) -> Restored:
    # In a loop of its own, as the command is: it blocks, and a write that is under way in this one has to end.
    return await asyncio.to_thread(
        lambda: asyncio.run(restored(runtime.settings, file, lambda _stage, _done, _total: None))
    )


async def enqueue(runtime: Runtime, task: object, **arguments: object) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, task, **arguments)  # type: ignore[arg-type]


async def traces(runtime: Runtime) -> list[str]:
    async with runtime.database.reading() as session:
        return sorted((await session.execute(text("SELECT name FROM effects"))).scalars().all())


async def running(job_row: Ended, job_id: str) -> Job:
    async def look() -> Job | None:
        job = await job_row(job_id)
        return job if job.stage == "at it" else None

    return await until(look, what=f"the work of {job_id}")


async def test_a_job_that_runs_at_the_restore_is_stopped_and_begins_anew_without_losing_an_attempt(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended, tmp_path: Path
) -> None:
    job_id = await enqueue(runtime, endless)
    first = await running(job_row, job_id)
    file = back_up(runtime, tmp_path / "b.db")
    first_task = next(task for task in asyncio.all_tasks() if task.get_name() == f"test_endless {job_id}")
    assert (await restore(runtime, file)).jobs_begun_anew == 1
    assert (await job_row(job_id)).attempt == 1

    async def again() -> Job | None:
        job = await job_row(job_id)
        return job if job.state == "running" and job.delivery > first.delivery else None

    second = await until(again, what="its second life")
    await until(lambda: _done(first_task), what="the end of the first")
    assert second.attempt == 1
    async with runtime.database.reading() as session:
        events = (await session.scalars(select(JobEvent.event).where(JobEvent.job_id == job_id))).all()
        # The worker has put itself into the restored table again.
        assert (await session.scalars(select(WorkerRow.state))).all() == ["alive"]
    assert list(events) == ["enqueued", "started", "restored from a backup", "started"]
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, job_id)
    assert (await ended(job_id)).state == "cancelled"


async def _done(task: asyncio.Task[object]) -> bool:
    return task.done()


async def test_a_message_from_before_the_restore_starts_nothing(
    runtime: Runtime, ended: Ended, job_row: Ended, tmp_path: Path
) -> None:
    job_id = await enqueue(runtime, leaf, name="once")
    file = back_up(runtime, tmp_path / "b.db")
    numbers = set()
    for _ in range(3):
        await restore(runtime, file)
        job = await job_row(job_id)
        assert (job.state, job.published_at) == ("queued", None)
        numbers.add(job.delivery)
    # Each time from above all that were ever used, though the backup is the same.
    assert len(numbers) == 3
    assert min(numbers) > 1
    for number in (1, 2, *sorted(numbers)[:-1]):
        await runtime.connection.publish([Delivery(job_id, 1, number, "test_leaf", Queue.LOW)])
        assert await runtime.connection.ledger.start(f"{job_id}.1.{number}", "anybody") is None
    assert (await job_row(job_id)).state == "queued"


async def test_open_families_of_a_backup_come_to_their_end(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended, tmp_path: Path
) -> None:
    async with runtime.database.unit_of_work():
        await steering.pause(runtime.connection.ledger, Queue.MEDIUM, paused_by="test")
    parent = await enqueue(runtime, family, name="f", children=5)

    async def waits() -> bool:
        return (await job_row(parent)).state == "waiting"

    await until(waits)
    file = back_up(runtime, tmp_path / "b.db")
    async with runtime.database.unit_of_work():
        await steering.cancel(runtime.connection.ledger, parent)
    assert (await ended(parent)).state == "cancelled"
    # Also what was decided since then is undone.
    assert (await restore(runtime, file)).jobs_begun_anew == 6
    async with runtime.database.unit_of_work():
        await steering.resume(runtime.connection.ledger, Queue.MEDIUM)
    job = await ended(parent)
    assert (job.state, job.children_open, job.result) == ("succeeded", 0, {"reunited": True})
    assert await traces(runtime) == sorted([*(f"f/{number}" for number in range(5)), "reunion"])


async def test_a_job_that_was_to_be_cancelled_is_cancelled_and_not_run_again(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended, tmp_path: Path
) -> None:
    job_id = await enqueue(runtime, endless)
    await running(job_row, job_id)
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("UPDATE jobs SET cancel_requested_at = created_at"))
        # In the backup, its worker has not stopped it yet.
        await work.session.commit()
        file = back_up(runtime, tmp_path / "b.db")
    assert (await restore(runtime, file)).jobs_begun_anew == 1
    assert (await ended(job_id)).state == "cancelled"
