from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text

from fault_worker import CREATE_EFFECTS
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.ledger.job_states import TERMINAL_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.models import Job, WorkerRow
from mus.worker import WorkerProcess, load_job_modules, worker_running
from waiting import until


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """These tests run on both databases."""
    kind: str = request.param
    return kind


@pytest.fixture
def ledger(runtime: Runtime) -> Ledger:
    return runtime.connection.ledger


@pytest.fixture
async def worker_id(runtime: Runtime) -> str:
    """A worker that is in the table and alive, without a process: for tests that play its part."""
    async with runtime.database.unit_of_work() as work:
        work.session.add(WorkerRow(id="w1", host="here", pid=1, queues=[], state="alive"))
    return "w1"


@pytest.fixture
async def worker(runtime: Runtime) -> AsyncIterator[WorkerProcess]:
    """A real worker in this process, on all queues."""
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    load_job_modules([], list(Queue))
    # No test of this worker is about its death.
    patient = Runtime(
        runtime.settings.model_copy(update={"dead_after_seconds": 30.0}), runtime.database, runtime.connection
    )
    async with worker_running(patient, list(Queue)) as worker:
        yield worker


@pytest.fixture
def job_row(runtime: Runtime) -> Callable[[str], Awaitable[Job]]:
    """Read a job's row."""

    async def read(job_id: str) -> Job:
        async with runtime.database.reading() as session:
            return (await session.execute(select(Job).where(Job.id == job_id))).scalar_one()

    return read


@pytest.fixture
def ended(job_row: Callable[[str], Awaitable[Job]]) -> Callable[..., Awaitable[Job]]:
    """Wait for a job's end and return its row."""

    async def wait(job_id: str, **options: Any) -> Job:
        async def look() -> Job | None:
            job = await job_row(job_id)
            return job if job.state in TERMINAL_STATES else None

        return await until(look, what=f"the end of {job_id}", **options)

    return wait
