"""What retention forgets: jobs that ended long ago, and the lines of their histories.

Each step is one short write transaction; what it may delete was found by reading beforehand and is checked again
by the delete itself. A job stays while somebody may still look for it: while its parent is open, while it has
children that are not forgotten yet, while an open job is its retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.models import Job, JobEvent

#: Rows that one transaction may delete, jobs and events together (DESIGN §4).
ROWS_PER_STEP = 500
#: A job leaves three events behind as a rule, so this many jobs fill a step.
_JOBS_READ = 150
#: Events looked at in one reading when histories without a job are searched for.
EVENTS_PER_LOOK = 20_000


@dataclass(frozen=True, slots=True)
class Position:
    """How far a pass over the ended jobs has come: they are taken in the order in which they ended."""

    finished_at: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to delete next: whole jobs, or a part of one long history."""

    job_ids: Sequence[str]
    #: Set when a single job's history does not fit into a step: its first events, and no job yet.
    event_ids: Sequence[int]
    position: Position


async def ended_before(session: AsyncSession, moment: datetime) -> int:
    """How many jobs ended before that moment."""
    statement = select(func.count()).select_from(Job).where(Job.finished_at < moment)
    return (await session.execute(statement)).scalar_one()


async def next_step(session: AsyncSession, moment: datetime, after: Position | None) -> Step | None:
    """The next jobs to forget among those that ended before `moment`; None at the end of the pass."""
    statement = (
        select(Job.id, Job.finished_at)
        .where(Job.finished_at < moment, _may_go())
        .order_by(Job.finished_at, Job.id)
        .limit(_JOBS_READ)
    )
    if after is not None:
        # Spelt so that the index on finished_at is entered at the position.
        statement = statement.where(
            Job.finished_at >= after.finished_at,
            or_(Job.finished_at > after.finished_at, Job.id > after.job_id),
        )
    jobs = (await session.execute(statement)).all()
    if not jobs:
        return None
    counts = await session.execute(
        select(JobEvent.job_id, func.count().label("events"))
        .where(JobEvent.job_id.in_([job.id for job in jobs]))
        .group_by(JobEvent.job_id)
    )
    events: dict[str, int] = {row.job_id: row.events for row in counts}
    if events.get(jobs[0].id, 0) >= ROWS_PER_STEP:
        event_ids = await session.scalars(
            select(JobEvent.id).where(JobEvent.job_id == jobs[0].id).order_by(JobEvent.id).limit(ROWS_PER_STEP)
        )
        # The position stays: the job itself is next, once the rest of its history fits.
        return Step((), event_ids.all(), after or Position(jobs[0].finished_at, ""))
    chosen: list[str] = []
    rows = 0
    last = jobs[0]
    for job in jobs:
        rows += 1 + events.get(job.id, 0)
        if rows > ROWS_PER_STEP:
            break
        chosen.append(job.id)
        last = job
    return Step(chosen, (), Position(last.finished_at, last.id))


async def forget(session: AsyncSession, step: Step) -> tuple[int, int]:
    """Delete a step in the current transaction; returns how many jobs and events went."""
    if step.event_ids:
        return 0, await delete_events(session, step.event_ids)
    gone = (await session.scalars(delete(Job).where(Job.id.in_(step.job_ids), _may_go()).returning(Job.id))).all()
    events = await session.execute(delete(JobEvent).where(JobEvent.job_id.in_(gone)).returning(JobEvent.id))
    return len(gone), len(events.all())


def _may_go() -> ColumnElement[bool]:
    other = aliased(Job)
    return and_(
        # Not the index on states: nearly every job has ended, and the order by `finished_at` comes from its own.
        func.coalesce(Job.state, None).in_(TERMINAL_STATES),
        ~exists().where(other.parent_id == Job.id),
        ~exists().where(other.id == Job.parent_id, other.state.not_in(TERMINAL_STATES)),
        ~exists().where(
            other.retry_of == Job.id, func.coalesce(other.state, None).not_in(TERMINAL_STATES)
        ),
    )  # fmt: skip


async def last_event_id(session: AsyncSession) -> int:
    return (await session.execute(select(func.max(JobEvent.id)))).scalar_one() or 0


async def events_without_job(session: AsyncSession, after: int) -> Sequence[int]:
    """Ids of events in the window of ids that follows whose job is gone."""
    window = and_(JobEvent.id > after, JobEvent.id <= after + EVENTS_PER_LOOK)
    statement = select(JobEvent.id).where(window, ~exists().where(Job.id == JobEvent.job_id))
    return (await session.scalars(statement)).all()


async def delete_events(session: AsyncSession, event_ids: Sequence[int]) -> int:
    """Delete events in the current transaction; returns how many there were."""
    gone = await session.execute(delete(JobEvent).where(JobEvent.id.in_(event_ids)).returning(JobEvent.id))
    return len(gone.all())
