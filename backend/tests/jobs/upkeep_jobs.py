"""Old jobs put into the tables, and a worker for what looks after them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from music_library import worker_of
from sqlalchemy import select

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.ledger.deliveries import new_id
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.models import Job, JobEvent, utc_now
from mus.worker import load_job_modules
from waiting import until


def old_job(*, days: float = 100.0, **values: Any) -> Job:
    """One that ended so many days ago; one that is queued is not due yet, so that no worker takes it."""
    ended = None if values.get("state") in {"queued", "running", "waiting"} else utc_now() - timedelta(days=days)
    given = {"task": "test", "queue": "low_priority", "arguments": {}, "state": "succeeded", "finished_at": ended}
    if values.get("state") == "queued":
        given["run_after"] = utc_now() + timedelta(days=1)
    return Job(**{"id": new_id(), **given, **values})


async def add_jobs(runtime: Runtime, *jobs: Job, events: int = 2) -> None:
    """With so many events each."""
    async with runtime.database.unit_of_work() as work:
        work.session.add_all(jobs)
        work.session.add_all(
            JobEvent(job_id=job.id, event=f"event {number}", attempt=1) for job in jobs for number in range(events)
        )


async def job_ids(runtime: Runtime) -> set[str]:
    """Of the jobs that `old_job` made."""
    async with runtime.database.reading() as session:
        return set((await session.scalars(select(Job.id).where(Job.task == "test"))).all())


@asynccontextmanager
async def low_worker(runtime: Runtime) -> AsyncIterator[None]:
    load_job_modules([], list(Queue))
    async with worker_of(runtime, [Queue.LOW]):
        yield


async def enqueued(runtime: Runtime, task: str, **arguments: Any) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, task, **arguments)


async def read_job(runtime: Runtime, job_id: str) -> Job:
    async with runtime.database.reading() as session:
        return (await session.execute(select(Job).where(Job.id == job_id))).scalar_one()


async def ended(runtime: Runtime, job_id: str) -> Job:
    async def look() -> Job | None:
        job = await read_job(runtime, job_id)
        return job if job.state in TERMINAL_STATES else None

    return await until(look, what=f"the end of job {job_id}")


async def run(runtime: Runtime, task: str, **arguments: Any) -> Job:
    """Enqueue a job where a `low_worker` runs, and wait for its end."""
    return await ended(runtime, await enqueued(runtime, task, **arguments))
