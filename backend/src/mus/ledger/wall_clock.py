"""A wall clock that was set back must not prolong what jobs wait for.

`run_after` is an instant; `delay_seconds` is how far it lay ahead when it was written. One that lies further ahead
than that was written by a clock that ran ahead of this one: by this machine before it was set back, or by another.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import BigInteger, and_, cast, func, select, type_coerce, update

from mus.ledger.deliveries import Delivery
from mus.ledger.job_rows import jobs
from mus.ledger.job_states import STARTABLE_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.models import utc_now

#: Clocks of several machines differ a little.
_TOLERANCE = timedelta(seconds=2)
_BATCH = 500
_MICROSECONDS = 1_000_000


async def shorten_waits(ledger: Ledger) -> int:
    """Let no job wait longer from now on than it was to wait at first. Returns how many were corrected."""
    now = utc_now()
    meant = cast(jobs.c.delay_seconds * _MICROSECONDS, BigInteger)
    latest = type_coerce(type_coerce(now + _TOLERANCE, jobs.c.run_after.type), BigInteger) + meant
    too_late = and_(
        # Not by the index on states: few of those that wait do so for a moment.
        func.coalesce(jobs.c.state, None).in_(STARTABLE_STATES),
        jobs.c.run_after > now,
        type_coerce(jobs.c.run_after, BigInteger) > latest,
    )
    async with ledger.database.reading() as session:
        ids = (await session.scalars(select(jobs.c.id).where(too_late).limit(_BATCH))).all()
    if not ids:
        return 0
    as_meant = type_coerce(type_coerce(now, jobs.c.run_after.type), BigInteger) + meant
    async with ledger.database.unit_of_work() as work:
        corrected = (
            await work.session.execute(
                update(jobs)
                .where(jobs.c.id.in_(ids), too_late)
                .values(
                    run_after=type_coerce(as_meant, jobs.c.run_after.type),
                    # The broker holds the old message back for as long as the old instant says.
                    delivery=jobs.c.delivery + 1,
                    published_at=now,
                )
                .returning(jobs.c.id, jobs.c.attempt, jobs.c.delivery, jobs.c.task, jobs.c.queue, jobs.c.run_after)
            )
        ).all()
        ledger.changed(work, [row.id for row in corrected])
        for row in corrected:
            ledger.hand_over(work, Delivery(*row))
    return len(corrected)
