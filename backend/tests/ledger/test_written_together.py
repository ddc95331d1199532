"""Starts and ends of several jobs in one transaction: each counts, or does not, by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mus.broker.runtime import Runtime
from mus.errors import SupersededError
from mus.ledger.job_rows import NewJob, StartedJob
from mus.ledger.job_states import JobState
from mus.ledger.ledger import Ledger
from mus.persistence.models import Job
from mus.persistence.sqlite_driver import OneHopConnection

JobRow = Callable[[str], Awaitable[Job]]


async def enqueued(runtime: Runtime, count: int) -> list[str]:
    async with runtime.database.unit_of_work():
        return await runtime.connection.ledger.add([NewJob(task="t", queue="low_priority") for _ in range(count)])


async def running(runtime: Runtime, worker_id: str, count: int) -> list[StartedJob]:
    found = await asyncio.gather(
        *(runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) for job_id in await enqueued(runtime, count))
    )
    return [job for job in found if job is not None]


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_what_is_ready_at_the_same_time_shares_a_transaction(
    runtime: Runtime, ledger: Ledger, worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    transact = OneHopConnection.transact

    async def counting(self: OneHopConnection, write: Callable[[sqlite3.Connection], Any]) -> Any:
        made.append(write)
        return await transact(self, write)

    old = await running(runtime, worker_id, 3)
    new = await enqueued(runtime, 4)
    monkeypatch.setattr(OneHopConnection, "transact", counting)
    states = await asyncio.gather(
        *(ledger.finish(job, result=None) for job in old),
        *(ledger.start(f"{job_id}.1.1", worker_id) for job_id in new),
    )
    assert states[:3] == [JobState.SUCCEEDED] * 3
    assert None not in states
    assert len(made) == 1


async def test_each_of_a_group_is_fenced_by_itself(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    good, moved_on, again = await running(runtime, worker_id, 3)
    (new,) = await enqueued(runtime, 1)
    await ledger.take_over(moved_on.id, 1, worker_id)
    finished, superseded, repeat, dead_workers, started = await asyncio.gather(
        ledger.finish(good, result={"n": 1}),
        ledger.finish(moved_on, result={"n": 2}),
        ledger.start(f"{again.id}.1.1", worker_id),
        ledger.start(f"{moved_on.id}.2.2", "a worker nobody knows"),
        ledger.start(f"{new}.1.1", worker_id),
        return_exceptions=True,
    )
    assert finished is JobState.SUCCEEDED
    assert isinstance(superseded, SupersededError)
    assert (repeat, dead_workers) == (None, None)
    assert isinstance(started, StartedJob)
    assert [(await job_row(job.id)).state for job in (good, moved_on, again)] == ["succeeded", "queued", "running"]


async def test_a_result_that_cannot_be_written_keeps_no_other_job_from_its_end(
    runtime: Runtime, ledger: Ledger, worker_id: str, job_row: JobRow
) -> None:
    jobs = await running(runtime, worker_id, 3)
    ends = await asyncio.gather(
        *(
            ledger.finish(job, result={"what": object() if job is jobs[1] else "text"})
            for job in jobs
        ),
        return_exceptions=True,
    )  # fmt: skip
    assert [ends[0], ends[2]] == [JobState.SUCCEEDED] * 2
    assert "not JSON serializable" in str(ends[1])
    assert [(await job_row(job.id)).state for job in jobs] == ["succeeded", "running", "succeeded"]
