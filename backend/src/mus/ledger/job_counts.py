"""What happens to jobs, counted once its transaction stands: the ledger's share of `mus.metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select

from mus.ledger.job_rows import STARTABLE, StartedJob, jobs
from mus.ledger.job_states import JobState
from mus.metrics import (
    DELIVERIES_REPEATED,
    JOB_RETRIES,
    JOB_TAKEOVERS,
    JOBS_FINISHED,
    SCAN_DURATION,
    SCAN_FILES,
    SCANS,
    count,
    observe,
)
from mus.persistence.models import utc_now
from mus.persistence.unit_of_work import UnitOfWork

#: What a job's history says when an attempt ends and the job does not, and the outcome it is counted as.
_OUTCOMES = {"failed for now": "retrying", "snoozed": "snoozed", "handed back at shutdown": "handed_back"}
#: The one task with figures of its own: how scans went is what people ask first.
_SCAN_TASK = "scan_library"


def _after_commit(work: UnitOfWork, counting: Callable[[], None]) -> None:
    async def now() -> None:
        counting()

    work.after_commit(now)


async def count_end(work: UnitOfWork, job_id: str, task: str, queue: str, state: JobState) -> None:
    """A job has ended for good. This or `count_success` is called where a terminal state is written, and so once
    for each job."""
    _after_commit(work, lambda: count(JOBS_FINISHED, queue, task, state))
    if task == _SCAN_TASK:
        scan = (
            await work.session.execute(
                select(jobs.c.arguments, jobs.c.result, jobs.c.created_at).where(jobs.c.id == job_id)
            )
        ).one()
        ended = partial(_count_scan, scan.arguments, scan.result, scan.created_at, state)
        _after_commit(work, ended)


def count_success(work: UnitOfWork, job: StartedJob, result: dict[str, Any] | None) -> None:
    """As `count_end`, of a job that ends with its function, and of which all is known."""
    _after_commit(work, lambda: counted_success(job, result))


def counted_success(job: StartedJob, result: dict[str, Any] | None) -> None:
    """The same once that is committed."""
    count(JOBS_FINISHED, job.queue, job.task, JobState.SUCCEEDED)
    if job.task == _SCAN_TASK:
        _count_scan(job.arguments, result, job.created_at, JobState.SUCCEEDED)


def _count_scan(
    arguments: Mapping[str, Any], result: Mapping[str, Any] | None, created_at: datetime, state: JobState
) -> None:
    mode = "full" if arguments.get("mode") == "full" else "quick"
    count(SCANS, state, mode)
    if state is JobState.SUCCEEDED:
        observe(SCAN_DURATION, mode, value=(utc_now() - created_at).total_seconds())
        for outcome in SCAN_FILES.known[0]:
            count(SCAN_FILES, outcome, amount=(result or {}).get(outcome) or 0)


def count_requeue(work: UnitOfWork, event: str, task: str, queue: str) -> None:
    """An attempt has ended, and the job goes back to its queue."""
    outcome = _OUTCOMES.get(event)
    if outcome is not None:
        _after_commit(work, lambda: count(JOBS_FINISHED, queue, task, outcome))
    if outcome == "retrying":
        _after_commit(work, lambda: count(JOB_RETRIES, queue, task, "automatic"))


def count_manual_retry(work: UnitOfWork, task: str, queue: str) -> None:
    """A person asked for a failed or cancelled job once more."""
    _after_commit(work, lambda: count(JOB_RETRIES, queue, task, "manual"))


def count_takeover(work: UnitOfWork, task: str, queue: str) -> None:
    """A job was taken from a worker that is gone."""
    _after_commit(work, lambda: count(JOB_TAKEOVERS, queue, task))


async def count_repeat(work: UnitOfWork, fence: Mapping[str, Any]) -> None:
    """A message started nothing: a repeat, unless the job is held back, with a new message in this one's place, or
    still waits, as on a paused queue."""
    if work.outbox or (await work.session.execute(select(jobs.c.id).where(STARTABLE), fence)).first() is not None:
        return
    _after_commit(work, lambda: count(DELIVERIES_REPEATED))
