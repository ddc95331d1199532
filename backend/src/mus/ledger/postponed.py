"""How a job comes to wait again: it could not start just now, or an attempt of it is over and is not the last."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select, update

from mus.errors import SupersededError
from mus.ledger.deliveries import Delivery
from mus.ledger.families import stop_family
from mus.ledger.job_counts import count_repeat, count_requeue
from mus.ledger.job_rows import DROP_PAUSED, HOLD_QUEUE, PAUSED, READY, STARTABLE, delay_until, jobs
from mus.ledger.job_states import JobState
from mus.persistence.models import utc_now
from mus.persistence.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from mus.ledger.ledger import Ledger

#: How long a job waits while another with the same `exclusive_key` runs: an eighth of its age, between these.
_SHORTEST_HOLD, _LONGEST_HOLD = timedelta(seconds=0.5), timedelta(seconds=5)
_BACKOFF_BASE_SECONDS, _LONGEST_BACKOFF_SECONDS = 2.0, 3600.0


def backoff_seconds(attempt: int, *, first_seconds: float = _BACKOFF_BASE_SECONDS) -> float:
    """Wait before attempt `attempt + 1`: 2, 8, 32 s, … or as many times `first_seconds`, an hour at most; each with
    up to a quarter of jitter either way."""
    jitter = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
    return min(first_seconds * float(4 ** (attempt - 1)), _LONGEST_BACKOFF_SECONDS) * jitter


async def hold_back(ledger: Ledger, fence: dict[str, Any], worker_id: str) -> bool:
    """What becomes of a delivery that could not start. True: its queue was resumed meanwhile, so it can."""
    async with ledger.database.unit_of_work() as work:
        # A resume has been committed by now, or comes after this transaction: the look that follows it then
        # finds a row without a message. One that came between would find one that was published just now.
        await work.session.execute(HOLD_QUEUE, fence)
        await _hold_back_if_exclusive(ledger, work, fence)
        await work.session.execute(DROP_PAUSED, fence)
        await count_repeat(work, fence)
        ready = (await work.session.execute(READY, {**fence, "worker": worker_id})).first()
        return ready is not None


async def _hold_back_if_exclusive(ledger: Ledger, work: UnitOfWork, fence: dict[str, Any]) -> None:
    now = utc_now()
    created = (
        await work.session.execute(
            select(jobs.c.created_at).where(STARTABLE, ~PAUSED, jobs.c.exclusive_key.is_not(None)), fence
        )
    ).scalar_one_or_none()
    if created is None:
        return
    hold = min(max((now - created) / 8, _SHORTEST_HOLD), _LONGEST_HOLD)
    row = (
        await work.session.execute(
            update(jobs)
            .where(STARTABLE, jobs.c.exclusive_key.is_not(None))
            .values(
                delivery=jobs.c.delivery + 1,
                run_after=now + hold,
                delay_seconds=hold.total_seconds(),
                published_at=now,
                stage="waits for another like it",
            )
            .returning(jobs.c.id, jobs.c.attempt, jobs.c.delivery, jobs.c.task, jobs.c.queue, jobs.c.run_after),
            fence,
        )
    ).one_or_none()
    if row is not None:
        ledger.changed(work, [row.id])
        ledger.hand_over(work, Delivery(row.id, row.attempt, row.delivery, row.task, row.queue, row.run_after))


async def requeue(
    ledger: Ledger,
    work: UnitOfWork,
    condition: ColumnElement[bool],
    parameters: dict[str, Any],
    *,
    state: JobState,
    next_attempt: bool,
    run_after: datetime | None,
    event: tuple[str, dict[str, Any] | None],
    **values: Any,
) -> JobState:
    """To be called with the job's family held. One that was to be cancelled meanwhile ends so instead."""
    now = utc_now()
    row = (
        await work.session.execute(
            update(jobs)
            .where(condition)
            .values(
                state=state,
                attempt=jobs.c.attempt + (1 if next_attempt else 0),
                delivery=jobs.c.delivery + 1,
                run_after=run_after,
                delay_seconds=delay_until(run_after, now),
                published_at=now,
                worker_id=None,
                # A newer job with this key may wait by now, and the key is unique among those.
                dedupe_key=None,
                **values,
            )
            .returning(
                jobs.c.id,
                jobs.c.attempt,
                jobs.c.delivery,
                jobs.c.task,
                jobs.c.queue,
                jobs.c.cancel_requested_at,
            ),
            parameters,
        )
    ).one_or_none()
    if row is None:
        raise SupersededError
    if row.cancel_requested_at is not None:
        # Nothing would ever start it again.
        return await stop_family(ledger, work, row.id)
    await ledger.record(work, [(row.id, event[0], row.attempt, event[1])])
    count_requeue(work, event[0], row.task, row.queue)
    ledger.hand_over(work, Delivery(row.id, row.attempt, row.delivery, row.task, row.queue, run_after))
    return state
