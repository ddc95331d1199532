"""What is logged while a job runs says which job, whoever logs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.log_context import JobFields
from mus.persistence.models import Job
from mus.worker import WorkerProcess

Ended = Callable[..., Awaitable[Job]]
library = logging.getLogger("some.library")


@broker.task("test_talkative", timeout_seconds=60)
async def talkative(*, name: str) -> dict[str, Any]:
    library.warning("%s begins", name)
    await asyncio.to_thread(library.warning, "%s in a thread", name)
    await asyncio.create_task(asyncio.sleep(0.05))
    library.warning("%s ends", name)
    raise ZeroDivisionError(name)


async def test_every_line_of_a_job_carries_job_task_and_delivery(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, caplog: pytest.LogCaptureFixture
) -> None:
    fields = JobFields()
    caplog.handler.addFilter(fields)
    try:
        async with runtime.database.unit_of_work():
            ids = await broker.enqueue_many([broker.job(Queue.MEDIUM, talkative, name=f"n{n}") for n in range(3)])
        for job_id in ids:
            await ended(job_id)
        while worker._runner.running:
            await asyncio.sleep(0)
        library.warning("outside")
    finally:
        caplog.handler.removeFilter(fields)
    for number, job_id in enumerate(ids):
        said = [record for record in caplog.records if f"n{number}" in record.getMessage()]
        # The runner's own word about the end is the last of them.
        assert [record.name for record in said] == ["some.library"] * 3 + ["mus.broker.job_runner"]
        for record in said:
            assert (record.job, record.task, record.delivery) == (job_id, "test_talkative", f"{job_id}.1.1")  # type: ignore[attr-defined]
    assert caplog.records[-1].job is None  # type: ignore[attr-defined]
