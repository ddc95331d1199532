"""What the queues have done lately, step by step: for charts. It is read from the jobs' rows, and so reaches as far
back as these are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, and_, case, func, select, type_coerce, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from mus.ledger.job_states import JobState
from mus.persistence.models import Job, utc_now

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Have been started, and have not ended.
_UNDER_WAY = (JobState.RUNNING, JobState.WAITING, JobState.RETRYING)


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """One number for each step, the oldest first."""

    name: str
    started: list[int]
    succeeded: list[int]
    failed: list[int]
    cancelled: list[int]
    #: Seconds from when a job was due to its start; None where none was started.
    wait_median: list[float | None]
    wait_p95: list[float | None]


@dataclass(frozen=True, slots=True)
class History:
    first: datetime
    step: timedelta
    queues: list[QueueHistory]


async def queue_history(session: AsyncSession, names: list[str], *, steps: int, step: timedelta) -> History:
    """The last `steps` steps, which begin at whole multiples of `step`; the last of them is not over yet.

    A job counts as started where its last attempt was.
    """
    width = step // _MICROSECOND
    last = (utc_now() - _EPOCH) // _MICROSECOND // width * width
    begin = last - (steps - 1) * width
    first = _EPOCH + begin * _MICROSECOND
    queues = {name: _nothing(name, steps) for name in names}
    for row in await session.execute(_ended(first, begin, width)):
        if row.queue in queues and 0 <= row.step < steps:
            counts: list[int] = getattr(queues[row.queue], row.state)
            counts[row.step] = row.jobs
    for row in await session.execute(_started(first, begin, width)):
        if row.queue in queues and 0 <= row.step < steps:
            queue = queues[row.queue]
            queue.started[row.step] = row.jobs
            # A clock may have been set back in between.
            queue.wait_median[row.step] = max(0.0, row.median / 1_000_000)
            queue.wait_p95[row.step] = max(0.0, row.p95 / 1_000_000)
    return History(first, step, list(queues.values()))


def _nothing(name: str, steps: int) -> QueueHistory:
    none: list[float | None] = [None] * steps
    zero = [0] * steps
    return QueueHistory(name, [*zero], [*zero], [*zero], [*zero], [*none], [*none])


def _step_of(column: Any, begin: int, width: int) -> Any:
    return ((type_coerce(column, BigInteger) - begin) // width).label("step")


def _ended(first: datetime, begin: int, width: int) -> Any:
    step = _step_of(Job.finished_at, begin, width)
    return (
        select(Job.queue, step, Job.state, func.count().label("jobs"))
        .where(Job.finished_at >= first)
        .group_by(Job.queue, step, Job.state)
    )


def _started(first: datetime, begin: int, width: int) -> Any:
    step = _step_of(Job.started_at, begin, width)
    # A first delivery that was not for later was due when the job was made; of any other `published_at` says when
    # it was due, once it was started.
    due = case((and_(Job.delivery == 1, Job.delay_seconds.is_(None)), Job.created_at), else_=Job.published_at)
    wait = (type_coerce(Job.started_at, BigInteger) - type_coerce(due, BigInteger)).label("wait")
    # By two indexes: what was started since then has ended since then, or has not ended.
    starts = union_all(
        select(Job.queue, step, wait).where(Job.finished_at >= first, Job.started_at >= first),
        select(Job.queue, step, wait).where(Job.state.in_(_UNDER_WAY), Job.started_at >= first),
    ).subquery()
    of_step = (starts.c.queue, starts.c.step)
    ranked = select(
        *of_step,
        starts.c.wait,
        func.row_number().over(partition_by=of_step, order_by=starts.c.wait).label("place"),
        func.count().over(partition_by=of_step).label("jobs"),
    ).subquery()
    # The nearest ranks: values that some job really waited.
    return select(
        ranked.c.queue,
        ranked.c.step,
        func.max(ranked.c.jobs).label("jobs"),
        func.min(case((ranked.c.place * 2 >= ranked.c.jobs, ranked.c.wait))).label("median"),
        func.min(case((ranked.c.place * 100 >= ranked.c.jobs * 95, ranked.c.wait))).label("p95"),
    ).group_by(ranked.c.queue, ranked.c.step)
