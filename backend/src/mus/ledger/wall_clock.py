"""A wall clock that was set back must not prolong what jobs wait for.

`run_after` is an instant; `delay_seconds` is how far it lay ahead when it was written. One that lies further ahead
than that was written by a clock that ran ahead of this one: by this machine before it was set back, or by another.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import BigInteger, select, type_coerce, update

from mus.ledger.deliveries import Delivery
from mus.ledger.job_states import STARTABLE_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.models import Job, utc_now

#: Clocks of several machines differ a little.
_TOLERANCE = timedelta(seconds=2)
_BATCH = 500


async def shorten_waits(ledger: Ledger) -> int:
    """Let no job wait longer from now on than it was to wait at first. Returns how many were corrected."""
    now = utc_now()
    longest = type_coerce(now + _TOLERANCE, Job.run_after.type)
    too_late = (
        type_coerce(Job.run_after, BigInteger) - type_coerce(longest, BigInteger) > Job.delay_seconds * 1_000_000
    )
    async with ledger.database.reading() as session:
        rows = (
            await session.execute(
                select(Job.id, Job.delivery, Job.delay_seconds)
                .where(Job.state.in_(STARTABLE_STATES), Job.run_after > now, too_late)
                .limit(_BATCH)
            )
        ).all()
    if not rows:
        return 0
    async with ledger.database.unit_of_work() as work:
        for row in rows:
            again = (
                await work.session.execute(
                    update(Job)
                    .where(Job.id == row.id, Job.delivery == row.delivery, Job.state.in_(STARTABLE_STATES))
                    .values(
                        run_after=now + timedelta(seconds=row.delay_seconds),
                        # The broker holds the old message back for as long as the old instant says.
                        delivery=Job.delivery + 1,
                        published_at=now,
                    )
                    .returning(Job.attempt, Job.delivery, Job.task, Job.queue, Job.run_after)
                )
            ).one_or_none()
            if again is not None:
                ledger.changed(work, [row.id])
                ledger.hand_over(
                    work, Delivery(row.id, again.attempt, again.delivery, again.task, again.queue, again.run_after)
                )
    return len(rows)
