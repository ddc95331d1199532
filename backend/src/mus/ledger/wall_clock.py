"""A wall clock that was set back must not prolong what jobs wait for.

`run_after` is an instant; `delay_seconds` is how far it lay ahead when it was written. One that lies further ahead
than that was written by a clock that ran ahead of this one: by this machine before it was set back, or by another.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
    type_coerce,
    update,
)

from mus.ledger.deliveries import Delivery
from mus.ledger.job_rows import jobs, one_of
from mus.ledger.job_states import STARTABLE_STATES
from mus.ledger.ledger import Ledger
from mus.persistence.models import utc_now
from mus.persistence.prepared import Prepared

#: Clocks of several machines differ a little.
_TOLERANCE = timedelta(seconds=2)
_BATCH = 500
_MICROSECONDS = 1_000_000
_MEANT = cast(jobs.c.delay_seconds * _MICROSECONDS, BigInteger)


def _microseconds(instant: ColumnElement[datetime]) -> ColumnElement[int]:
    return type_coerce(type_coerce(instant, jobs.c.run_after.type), BigInteger)


_TOO_LATE = and_(
    # Not by the index on states: few of those that wait do so for a moment.
    one_of(func.coalesce(jobs.c.state, None), STARTABLE_STATES),
    jobs.c.run_after > bindparam("now"),
    type_coerce(jobs.c.run_after, BigInteger) > _microseconds(bindparam("tolerated")) + _MEANT,
)
_THOSE_TOO_LATE = Prepared(select(jobs.c.id).where(_TOO_LATE).limit(_BATCH))


async def shorten_waits(ledger: Ledger) -> int:
    """Let no job wait longer from now on than it was to wait at first. Returns how many were corrected."""
    now = utc_now()
    values = {"now": now, "tolerated": now + _TOLERANCE}
    ids = [row.id for row in await ledger.database.look(lambda look: look.all(_THOSE_TOO_LATE, values))]
    if not ids:
        return 0
    async with ledger.database.unit_of_work() as work:
        corrected = (
            await work.session.execute(
                update(jobs)
                .where(jobs.c.id.in_(ids), _TOO_LATE)
                .values(
                    run_after=type_coerce(_microseconds(literal(now)) + _MEANT, jobs.c.run_after.type),
                    # The broker holds the old message back for as long as the old instant says.
                    delivery=jobs.c.delivery + 1,
                    published_at=now,
                )
                .returning(jobs.c.id, jobs.c.attempt, jobs.c.delivery, jobs.c.task, jobs.c.queue, jobs.c.run_after),
                values,
            )
        ).all()
        ledger.changed(work, [row.id for row in corrected])
        for row in corrected:
            ledger.hand_over(work, Delivery(*row))
    return len(corrected)
