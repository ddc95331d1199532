"""Reading the ledger: jobs, their history, queues, workers. Nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, String, and_, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from mus.errors import NotFoundError
from mus.ledger.job_states import STARTABLE_STATES, JobState
from mus.persistence.models import Job, JobEvent, QueueRow, WorkerRow, utc_now
from mus.persistence.prepared import Prepared

#: Over how long the rate of a queue is measured.
RATE_WINDOW = timedelta(minutes=5)

# Without arguments: those of a job over hundreds of files are long.
_LISTED = load_only(
    Job.id,
    Job.task,
    Job.queue,
    Job.state,
    Job.attempt,
    Job.progress,
    Job.stage,
    Job.units_done,
    Job.units_total,
    Job.error_category,
    Job.error_message,
    Job.parent_id,
    Job.children_open,
    Job.retry_of,
    Job.retry_number,
    Job.max_attempts,
    Job.requested_by,
    Job.run_after,
    Job.cancel_requested_at,
    Job.created_at,
    Job.published_at,
    Job.started_at,
    Job.finished_at,
    Job.cleared_at,
    raiseload=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows; an empty one is all of them."""

    #: Sorted, each once.
    states: tuple[JobState, ...] = ()
    queue: str | None = None
    task: str | None = None
    parent_id: str | None = None
    #: With those that are parts of another.
    parts: bool = True
    #: Given to the task as `library_id`.
    library_id: int | None = None
    #: Failed for this reason (`FailureGroup.reason`).
    reason: str | None = None
    #: With the failures that a person cleared away.
    cleared: bool = False


@dataclass(frozen=True, slots=True)
class JobPage:
    jobs: Sequence[Job]
    #: The next page begins below this id; None on the last page.
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """A queue at this moment."""

    name: str
    #: Jobs that wait: for a worker, for their time, or for their next attempt.
    depth: int
    running: int
    #: Parents whose children run; they hold no slot.
    waiting: int
    #: How long the longest of those that are due has been due; None when none waits.
    oldest_wait_seconds: float | None
    finished_per_minute: float
    #: Failed jobs that nobody cleared away.
    failed: int
    #: Since when no job of it may start, and who said so.
    paused_at: datetime | None
    paused_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed jobs of one queue and task with one reason."""

    queue: str
    task: str
    category: str | None
    #: The message without what differs from case to case.
    reason: str | None
    count: int
    first_at: datetime | None
    last_at: datetime | None
    #: The newest of them.
    last: Job


async def job_page(
    session: AsyncSession, wanted: JobFilter, *, before: str | None, limit: int, whole: bool = False
) -> JobPage:
    """Jobs, the newest first: ids sort by time of creation. `whole` jobs come with arguments and result."""
    statement = select(Job).where(*_conditions(wanted)).order_by(Job.id.desc()).limit(limit + 1)
    if not whole:
        statement = statement.options(_LISTED)
    if before is not None:
        statement = statement.where(Job.id < before)
    rows = (await session.scalars(statement)).all()
    jobs = rows[:limit]
    return JobPage(jobs, jobs[-1].id if len(rows) > limit else None)


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if JobState.SUCCEEDED in wanted.states:
        # Nearly every job has: SQLite would gather and sort them all if it took the index on states.
        conditions.append(func.coalesce(Job.state, None).in_(wanted.states))
    elif wanted.states:
        conditions.append(Job.state.in_(wanted.states))
    if wanted.queue is not None:
        conditions.append(Job.queue == wanted.queue)
    if wanted.task is not None:
        conditions.append(Job.task == wanted.task)
    if wanted.parent_id is not None:
        conditions.append(Job.parent_id == wanted.parent_id)
    if not wanted.parts:
        # Not by the index on parents: the newest of all are wanted, and SQLite would sort all that have none.
        conditions.append(func.coalesce(Job.parent_id, None).is_(None))
    if wanted.library_id is not None:
        conditions.append(is_about(wanted.library_id))
    if wanted.reason is not None:
        conditions += [Job.error_reason == wanted.reason, Job.state == JobState.FAILED]
    if not wanted.cleared:
        conditions.append(Job.cleared_at.is_(None))
    return conditions


def is_about(library_id: int) -> ColumnElement[bool]:
    """Whether a job was given this library."""
    # As text: a job of another version may have been given anything, and PostgreSQL fails on what is no number.
    return cast(Job.arguments["library_id"].as_string(), String) == str(library_id)


async def job_named(session: AsyncSession, job_id: str) -> Job:
    """Raises NotFoundError."""
    job = await session.get(Job, job_id)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    return job


async def latest_retry(session: AsyncSession, job_id: str) -> str | None:
    """The job that is the newest retry by hand of this one."""
    return (
        await session.execute(select(Job.id).where(Job.retry_of == job_id).order_by(Job.id.desc()).limit(1))
    ).scalar_one_or_none()


async def failure_groups(
    session: AsyncSession, *, queue: str | None = None, task: str | None = None, limit: int
) -> list[FailureGroup]:
    """The failed jobs that nobody cleared away, grouped by queue, task and reason, the most frequent first."""
    columns = (Job.queue, Job.task, Job.error_category, Job.error_reason)
    conditions = _conditions(JobFilter(states=(JobState.FAILED,), queue=queue, task=task))
    count = func.count()
    rows = (
        await session.execute(
            select(
                *columns,
                count.label("jobs"),
                func.min(Job.finished_at, type_=Job.finished_at.type).label("first_at"),
                func.max(Job.finished_at, type_=Job.finished_at.type).label("last_at"),
                func.max(Job.id).label("last_id"),
            )
            .where(*conditions)
            .group_by(*columns)
            .order_by(count.desc(), func.max(Job.id).desc())
            .limit(limit)
        )
    ).all()
    newest = await session.scalars(select(Job).where(Job.id.in_([row.last_id for row in rows])))
    by_id = {job.id: job for job in newest}
    return [
        FailureGroup(
            queue=row.queue,
            task=row.task,
            category=row.error_category,
            reason=row.error_reason,
            count=row.jobs,
            first_at=row.first_at,
            last_at=row.last_at,
            last=by_id[row.last_id],
        )
        for row in rows
    ]


#: Names of the queues that are paused.
PAUSED_QUEUES = Prepared(select(QueueRow.name).where(QueueRow.paused_at.is_not(None)))


async def paused_queues(session: AsyncSession) -> dict[str, QueueRow]:
    """The rows of the queues that are paused, by name."""
    rows = await session.scalars(select(QueueRow).where(QueueRow.paused_at.is_not(None)))
    return {row.name: row for row in rows}


async def waiting_job(session: AsyncSession, dedupe_key: str) -> str | None:
    """The id of the queued job with this key: an equal request is answered with it."""
    return (
        await session.execute(
            select(Job.id).where(
                Job.dedupe_key == dedupe_key, Job.dedupe_key.is_not(None), Job.state == JobState.QUEUED
            )
        )
    ).scalar_one_or_none()


async def event_page(
    session: AsyncSession, job_id: str, *, after: int | None, limit: int
) -> tuple[Sequence[JobEvent], int | None]:
    """A job's history, the oldest first, and the id that the next page begins after. Raises NotFoundError."""
    await job_named(session, job_id)
    statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id).limit(limit + 1)
    if after is not None:
        statement = statement.where(JobEvent.id > after)
    rows = (await session.scalars(statement)).all()
    events = rows[:limit]
    return events, events[-1].id if len(rows) > limit else None


async def queue_figures(session: AsyncSession, names: Sequence[str]) -> list[QueueFigures]:
    """Depth, running, oldest wait, rate, failures and pauses of the queues, in the order given."""
    now = utc_now()
    open_states = [*STARTABLE_STATES, JobState.RUNNING, JobState.WAITING]
    counts = {
        (row.queue, row.state): row.jobs
        for row in await session.execute(
            select(Job.queue, Job.state, func.count().label("jobs"))
            .where(Job.state.in_(open_states))
            .group_by(Job.queue, Job.state)
        )
    }
    due_since = func.coalesce(Job.run_after, Job.created_at)
    oldest: dict[str, datetime] = {
        row.queue: row.since
        for row in await session.execute(
            select(Job.queue, func.min(due_since, type_=Job.created_at.type).label("since"))
            .where(Job.state.in_(STARTABLE_STATES), or_(Job.run_after.is_(None), Job.run_after <= now))
            .group_by(Job.queue)
        )
    }
    finished = {
        row.queue: row.jobs
        for row in await session.execute(
            select(Job.queue, func.count().label("jobs"))
            .where(Job.finished_at >= now - RATE_WINDOW)
            .group_by(Job.queue)
        )
    }
    failed = {
        row.queue: row.jobs
        for row in await session.execute(
            select(Job.queue, func.count().label("jobs"))
            .where(Job.state == JobState.FAILED, Job.cleared_at.is_(None))
            .group_by(Job.queue)
        )
    }
    paused = await paused_queues(session)
    return [
        QueueFigures(
            name=name,
            depth=sum(counts.get((name, state), 0) for state in STARTABLE_STATES),
            running=counts.get((name, JobState.RUNNING), 0),
            waiting=counts.get((name, JobState.WAITING), 0),
            oldest_wait_seconds=max(0.0, (now - oldest[name]).total_seconds()) if name in oldest else None,
            finished_per_minute=finished.get(name, 0) / (RATE_WINDOW.total_seconds() / 60),
            failed=failed.get(name, 0),
            paused_at=paused[name].paused_at if name in paused else None,
            paused_by=paused[name].paused_by if name in paused else None,
        )
        for name in names
    ]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    row: WorkerRow
    #: Whether it is taken for alive and was heard of lately.
    alive: bool
    last_beat_seconds: float
    running_jobs: int


async def workers(session: AsyncSession, *, dead_after_seconds: float) -> list[WorkerFigures]:
    """Every worker there is a row of, the latest started first.

    One whose beat is old is not alive, even if no other worker is left that would mark it dead.
    """
    now = utc_now()
    rows = await session.execute(
        select(WorkerRow, func.count(Job.id))
        .outerjoin(Job, and_(Job.worker_id == WorkerRow.id, Job.state == JobState.RUNNING))
        .group_by(WorkerRow.id)
        .order_by(WorkerRow.started_at.desc(), WorkerRow.id)
    )
    figures: list[WorkerFigures] = []
    for row, running in rows:
        age = max(0.0, (now - row.beat_at).total_seconds())
        figures.append(WorkerFigures(row, row.state == "alive" and age < dead_after_seconds, age, running))
    return figures
