"""What a backup's jobs need before they run again: what it says of messages and workers holds no more."""

from __future__ import annotations

import time

from sqlalchemy import delete, func, insert, literal, select, update

from mus.ledger.job_rows import jobs
from mus.ledger.job_states import TERMINAL_STATES, JobState
from mus.persistence.database import Database
from mus.persistence.models import JobEvent, LeaseRow, Schedule, WorkerRow, utc_now

#: Messages that go out between the look at the highest number in use and the moment the backup is in its place.
_MARGIN = 1_000
_NOBODY = "restored"


async def begin_anew(database: Database, *, above_delivery: int, due_task: str) -> int:
    """Let open jobs begin anew in a database that nobody uses yet; returns how many there are.

    A job that ran is due again without losing an attempt; parents go on waiting for the children that the backup
    has open. Deliveries are numbered from above all that were ever used (`above_delivery` is the highest in the
    database that is replaced; the clock stands for those before it): a message still on its way, or a worker still
    at work, means a job's earlier life and changes nothing. Schedules of `due_task` are due now.
    """
    is_open = jobs.c.state.not_in(TERMINAL_STATES)
    async with database.unit_of_work() as work:
        session = work.session
        own = (await session.execute(select(func.coalesce(func.max(jobs.c.delivery), 0)))).scalar_one()
        number = max(own, above_delivery, int(time.time())) + _MARGIN
        await session.execute(
            insert(JobEvent).from_select(
                ["job_id", "at", "event", "attempt"],
                select(
                    jobs.c.id,
                    literal(utc_now(), JobEvent.at.type),
                    literal("restored from a backup"),
                    jobs.c.attempt,
                ).where(is_open),
            )
        )
        await session.execute(delete(WorkerRow))
        await session.execute(delete(LeaseRow))
        await session.execute(
            update(jobs)
            .where(jobs.c.state == JobState.RUNNING, jobs.c.cancel_requested_at.is_(None))
            # A newer job with its key may wait, and the key is unique among those.
            .values(state=JobState.QUEUED, worker_id=None, dedupe_key=None)
        )
        # What was to be cancelled is ended by any worker's next look, as it belongs to none that could be alive:
        # the one that had it may write itself into the table again at its next beat.
        await session.execute(update(jobs).where(jobs.c.state == JobState.RUNNING).values(worker_id=_NOBODY))
        renewed = await session.execute(
            update(jobs).where(is_open).values(delivery=number, published_at=None).returning(jobs.c.id)
        )
        await session.execute(update(Schedule).where(Schedule.task == due_task).values(next_due=utc_now()))
        return len(renewed.all())
