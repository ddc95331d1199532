"""What people do with jobs and queues: cancel, retry, move; pause, resume, clear.

Everything but `clear_failed` runs in the current unit of work.
"""

from __future__ import annotations

from sqlalchemy import func, select, update

from mus.errors import ConflictError, NotFoundError
from mus.ledger.deliveries import Delivery
from mus.ledger.families import cancel_open, hold_family
from mus.ledger.job_counts import count_manual_retry
from mus.ledger.job_rows import NewJob
from mus.ledger.job_states import STARTABLE_STATES, TERMINAL_STATES, JobState
from mus.ledger.ledger import Ledger
from mus.persistence.conflicts import insert_into
from mus.persistence.models import Job, QueueRow, utc_now
from mus.persistence.unit_of_work import current_unit_of_work

#: Rows of one write transaction.
_BATCH = 500


async def cancel(ledger: Ledger, job_id: str) -> JobState:
    """Cancel a job that waits or runs, and its children.

    Returns the state it is in now: one that runs stops soon. To ask a second time changes nothing. Raises
    NotFoundError, and ConflictError for one that has ended.
    """
    work = current_unit_of_work()
    state = await state_of(job_id)
    if state in TERMINAL_STATES:
        ended = f"was {state}" if state is JobState.CANCELLED else f"has {state}"
        raise ConflictError(f"The job {ended} already", details={"state": state})
    asked = select(Job.cancel_requested_at).where(Job.id == job_id)
    if (await work.session.execute(asked)).scalar_one() is not None:
        # Its parts were asked with it. Perhaps its worker did not hear.
        work.after_commit(lambda: ledger.publisher.announce_cancel(job_id))
        return state
    await hold_family(work, job_id)
    await cancel_open(ledger, work, job_id)
    return await state_of(job_id)


async def retry(ledger: Ledger, job_id: str, *, requested_by: str | None) -> str:
    """Enqueue a failed or cancelled job once more, as a new row linked to it; returns the new job's id.

    While an earlier retry of the job is open, that one is the answer. Raises NotFoundError, and ConflictError for a
    job that has not failed, or that is a parent's last part.
    """
    work = current_unit_of_work()
    job = (await work.session.execute(select(Job).where(Job.id == job_id).with_for_update())).scalar_one_or_none()
    if job is None:
        raise NotFoundError(f"There is no job {job_id}")
    if job.state not in {JobState.FAILED, JobState.CANCELLED}:
        raise ConflictError(
            f"Only a failed or cancelled job can be retried; this one is {job.state}", details={"state": job.state}
        )
    if job.parent_id is not None:
        last_parts = select(Job.continuation_id).where(Job.id == job.parent_id)
        if (await work.session.execute(last_parts)).scalar_one_or_none() == job_id:
            message = "This job is the last part of another: retry that one"
            raise ConflictError(message, details={"parent": job.parent_id})
    open_retry = await work.session.execute(
        select(Job.id).where(Job.retry_of == job_id, Job.state.not_in(TERMINAL_STATES)).limit(1)
    )
    if (running := open_retry.scalar_one_or_none()) is not None:
        return running
    # Of this job, which may have been retried before, or be a retry itself.
    earlier = (
        await work.session.execute(select(func.max(Job.retry_number)).where(Job.retry_of == job_id))
    ).scalar_one()
    again = NewJob(
        task=job.task,
        queue=job.queue,
        arguments=job.arguments,
        continuation=job.continuation,
        continuation_queue=job.continuation_queue,
        exclusive_key=job.exclusive_key,
        requested_by=requested_by,
        retry_of=job_id,
        retry_number=max(job.retry_number, earlier or 0) + 1,
        max_attempts=job.max_attempts,
        version=job.version,
    )
    (new_id,) = await ledger.add([again])
    if job.state == JobState.FAILED:
        # What becomes of it is told by the new one: were both listed, a failure that was mended would stay.
        job.cleared_at = utc_now()
    count_manual_retry(work, again.task, again.queue)
    await ledger.record(work, [(job_id, "retried by hand", job.attempt, {"as": new_id, "by": requested_by})])
    return new_id


async def move(ledger: Ledger, job_id: str, queue: str, *, continuation_queue: str) -> JobState:
    """Move a waiting job to another queue; what is enqueued when its parts are over goes to `continuation_queue`.

    Raises NotFoundError, and ConflictError for a job that does not wait.
    """
    work = current_unit_of_work()
    state = await state_of(job_id)
    came_from = (await work.session.execute(select(Job.queue).where(Job.id == job_id))).scalar_one()
    if came_from == queue and state in STARTABLE_STATES:
        return state
    row = (
        await work.session.execute(
            update(Job)
            .where(Job.id == job_id, Job.state.in_(STARTABLE_STATES), Job.cancel_requested_at.is_(None))
            .values(
                queue=queue,
                continuation_queue=continuation_queue,
                # The message on the old queue becomes a repeat.
                delivery=Job.delivery + 1,
                published_at=utc_now(),
            )
            .returning(Job.state, Job.attempt, Job.delivery, Job.task, Job.run_after)
        )
    ).one_or_none()
    if row is None:
        raise ConflictError(
            f"Only a queued or retrying job can be moved; this one is {state}", details={"state": state}
        )
    moved = {"from": came_from, "to": queue}
    await ledger.record(work, [(job_id, "moved to another queue", row.attempt, moved)])
    ledger.hand_over(work, Delivery(job_id, row.attempt, row.delivery, row.task, queue, row.run_after))
    return JobState(row.state)


async def state_of(job_id: str) -> JobState:
    """How a job stands in the current unit of work. Raises NotFoundError."""
    session = current_unit_of_work().session
    state = (await session.execute(select(Job.state).where(Job.id == job_id))).scalar_one_or_none()
    if state is None:
        raise NotFoundError(f"There is no job {job_id}")
    return JobState(state)


async def pause(ledger: Ledger, queue: str, *, paused_by: str | None) -> None:
    """No job of the queue starts any more, on any worker, until `resume`. Those that run go on.

    A queue that is paused stays so, since when and by whom it was.
    """
    work = current_unit_of_work()
    insert = insert_into(QueueRow, is_sqlite=ledger.database.is_sqlite)
    statement = insert.values(name=queue, paused_at=utc_now(), paused_by=paused_by)
    await work.session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"paused_at": statement.excluded.paused_at, "paused_by": statement.excluded.paused_by},
            where=QueueRow.paused_at.is_(None),
        )
    )
    work.after_commit(ledger.publisher.announce_queues)


async def resume(ledger: Ledger, queue: str) -> None:
    """Let the queue's jobs start again; the workers publish those whose messages came while it was paused."""
    work = current_unit_of_work()
    await work.session.execute(
        update(QueueRow).where(QueueRow.name == queue).values(paused_at=None, paused_by=None)
    )
    work.after_commit(ledger.publisher.announce_queues)


async def clear_failed(ledger: Ledger, queue: str) -> int:
    """Take the failed jobs of a queue off the lists; their rows and histories stay. Returns how many.

    In transactions of its own, as there may be many; what fails meanwhile stays on the lists.
    """
    now = utc_now()
    failed = (
        select(Job.id)
        .where(Job.state == JobState.FAILED, Job.queue == queue, Job.cleared_at.is_(None), Job.finished_at <= now)
        .limit(_BATCH)
    )
    cleared = 0
    while True:
        async with ledger.database.unit_of_work() as work:
            rows = await work.session.execute(
                update(Job).where(Job.id.in_(failed.scalar_subquery())).values(cleared_at=now).returning(Job.id)
            )
            count = len(rows.all())
        cleared += count
        if count < _BATCH:
            return cleared
