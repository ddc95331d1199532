"""A wall clock that is set back prolongs no wait, and one set forward loses nothing."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update

from mus.errors import ErrorCategory
from mus.ledger.job_rows import Failure, NewJob
from mus.ledger.ledger import Ledger
from mus.ledger.wall_clock import shorten_waits
from mus.persistence.models import Job, utc_now


async def delayed(ledger: Ledger, seconds: float, *, clock_ahead: float) -> str:
    """A job that was to wait so long, by a clock that ran so far ahead."""
    now = utc_now()
    async with ledger.database.unit_of_work():
        (job_id,) = await ledger.add(
            [NewJob(task="t", queue="low_priority", run_after=now + timedelta(seconds=seconds))]
        )
    async with ledger.database.unit_of_work() as work:
        moved = now + timedelta(seconds=seconds + clock_ahead)
        await work.session.execute(update(Job).where(Job.id == job_id).values(run_after=moved))
    return job_id


async def test_a_wait_written_by_a_clock_that_ran_ahead_is_shortened_to_what_was_meant(
    ledger: Ledger, worker_id: str
) -> None:
    ahead = await delayed(ledger, 30, clock_ahead=3600)
    right = await delayed(ledger, 7200, clock_ahead=0)
    assert await shorten_waits(ledger) == 1
    async with ledger.database.reading() as session:
        shortened, kept = await session.get_one(Job, ahead), await session.get_one(Job, right)
    assert shortened.run_after is not None
    assert kept.run_after is not None
    assert shortened.run_after - utc_now() <= timedelta(seconds=30)
    assert kept.run_after - utc_now() > timedelta(seconds=7000)
    # The broker holds the first message back for an hour: it is a repeat now.
    assert (shortened.delivery, kept.delivery) == (2, 1)
    assert await ledger.start(f"{ahead}.1.1", worker_id) is None
    assert await ledger.start(f"{ahead}.1.2", worker_id) is not None
    assert await shorten_waits(ledger) == 0


async def test_the_pause_before_another_attempt_is_among_them(ledger: Ledger, worker_id: str) -> None:
    async with ledger.database.unit_of_work():
        (job_id,) = await ledger.add([NewJob(task="t", queue="low_priority")])
    job = await ledger.start(f"{job_id}.1.1", worker_id)
    assert job is not None
    await ledger.fail(job, Failure(ErrorCategory.TEMPORARY, "later", {}), wait_seconds=8)
    async with ledger.database.unit_of_work() as work:
        an_hour = timedelta(hours=1)
        await work.session.execute(update(Job).values(run_after=utc_now() + an_hour))
    assert await shorten_waits(ledger) == 1
    async with ledger.database.reading() as session:
        row = await session.get_one(Job, job_id)
    assert row.run_after is not None
    assert (row.state, row.attempt) == ("retrying", 2)
    assert row.run_after - utc_now() <= timedelta(seconds=8)
