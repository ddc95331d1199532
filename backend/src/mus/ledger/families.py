"""Parents and children: how a job that waits comes to its end, and how a cancel spreads.

A parent counts its open children. Each child's end lowers the count in the child's own transaction; whoever brings
it to zero settles the parent there and then, so no end is ever missed or made twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, literal, select, update

from mus.errors import ErrorCategory
from mus.ledger.job_counts import count_end
from mus.ledger.job_rows import CHILD_ENDED, SETTLING, NewJob, jobs
from mus.ledger.job_states import STARTABLE_STATES, TERMINAL_STATES, JobState
from mus.persistence.models import Job, utc_now
from mus.persistence.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from mus.ledger.ledger import Ledger


_family = select(jobs.c.id, literal(0).label("depth")).where(jobs.c.id == bindparam("b_id")).cte(recursive=True)
_family = _family.union_all(
    select(jobs.c.id, _family.c.depth + 1).where(
        jobs.c.parent_id == _family.c.id, jobs.c.state.not_in(TERMINAL_STATES)
    )
)
_FAMILY = (
    select(jobs.c.id)
    .join(_family, _family.c.id == jobs.c.id)
    .order_by(_family.c.depth.desc(), jobs.c.id)
    .with_for_update(of=jobs)
)


async def settle(ledger: Ledger, work: UnitOfWork, job_id: str) -> JobState:
    """End a waiting job none of whose children is open, or enqueue its continuation first."""
    job = (await work.session.execute(SETTLING, {"b_id": job_id})).one()
    if job.cancel_requested_at is not None:
        state = JobState.CANCELLED
    elif job.error_category is not None:
        state = JobState.FAILED
    elif job.continuation is not None and job.continuation_id is None:
        queue = job.continuation_queue or job.queue
        (last,) = await ledger.add(
            [NewJob(task=job.continuation, queue=queue, parent_id=job_id, version=job.version)]
        )
        await _set(work, job_id, continuation_id=last)
        return JobState.WAITING
    else:
        state = JobState.SUCCEEDED
    values: dict[str, Any] = {"state": state, "finished_at": utc_now(), "worker_id": None}
    if state is JobState.SUCCEEDED:
        values["progress"] = 1.0
    await _set(work, job_id, **values)
    await ledger.record(work, [(job_id, state, job.attempt, _reason(job) if state is JobState.FAILED else None)])
    await count_end(work, job_id, job.task, job.queue, state)
    if job.parent_id is not None:
        await child_ended(ledger, work, job.parent_id, job_id)
    elif (
        state is JobState.FAILED and job.error_category == ErrorCategory.ADMIN_REQUIRED and ledger.alert is not None
    ):
        # Of a part, its parent tells.
        alert = ledger.alert(job_id, job.task, job.error_reason or "")
        if alert is not None:
            await ledger.add([alert])
    return state


def _reason(job: Any) -> dict[str, Any]:
    return {"error_category": job.error_category, "error_message": job.error_message}


async def child_ended(ledger: Ledger, work: UnitOfWork, parent_id: str, child_id: str) -> None:
    """Count a child that came to its end; the last one settles the parent."""
    parent = await work.run(lambda transaction: transaction.one(CHILD_ENDED, {"b_parent": parent_id}))
    await child_counted(ledger, work, parent_id, child_id, parent)


async def child_counted(ledger: Ledger, work: UnitOfWork, parent_id: str, child_id: str, parent: Any) -> None:
    """What follows of it for the parent, of which `CHILD_ENDED` told."""
    if parent.continuation_id == child_id:
        await _end_like(work, parent_id, child_id)
    cancelled = parent.cancel_requested_at is not None and parent.state in STARTABLE_STATES
    if parent.children_open == 0 and (cancelled or parent.state == JobState.WAITING):
        await settle(ledger, work, parent_id)


async def _end_like(work: UnitOfWork, parent_id: str, child_id: str) -> None:
    child = (
        await work.session.execute(
            select(
                Job.state,
                Job.result,
                Job.error_category,
                Job.error_message,
                Job.error_reason,
                Job.error_details,
            ).where(Job.id == child_id)
        )
    ).one()
    values: dict[str, Any] = {"result": child.result}
    if child.state == JobState.FAILED:
        values |= {
            "error_category": child.error_category,
            "error_message": child.error_message,
            "error_reason": child.error_reason,
            "error_details": child.error_details,
        }
    elif child.state == JobState.CANCELLED:
        values["cancel_requested_at"] = utc_now()
    await _set(work, parent_id, **values)


async def hold_family(work: UnitOfWork, job_id: str) -> None:
    """Lock the rows of a job and of what is open below it, the deepest first.

    A child that ends locks its own row and then its parent's. Whoever stops a parent goes the other way, and the
    two would wait for each other until PostgreSQL rolled one of them back. SQLite has one writer at a time.
    """
    if work.session.get_bind().dialect.name != "sqlite":
        await work.session.execute(_FAMILY, {"b_id": job_id})


async def stop_family(ledger: Ledger, work: UnitOfWork, job_id: str) -> JobState:
    """Cancel the children of a job that failed or was cancelled, and end it if none is left running."""
    await _cancel_children(ledger, work, job_id)
    row = (await work.session.execute(select(Job.state, Job.children_open).where(Job.id == job_id))).one()
    if row.state in TERMINAL_STATES or row.children_open:
        return JobState(row.state)
    return await settle(ledger, work, job_id)


async def cancel_open(ledger: Ledger, work: UnitOfWork, job_id: str) -> None:
    """Cancel a job that has not ended: at once if it waits, else by asking its worker. Its children too."""
    row = (
        await work.session.execute(
            update(Job)
            .where(Job.id == job_id, Job.state.not_in(TERMINAL_STATES))
            .values(cancel_requested_at=utc_now())
            .returning(Job.state, Job.attempt)
        )
    ).one_or_none()
    if row is None:
        return
    if row.state in STARTABLE_STATES:
        # Nothing starts it any more. Children of an earlier attempt that still run are waited for.
        await stop_family(ledger, work, job_id)
        return
    await ledger.record(work, [(job_id, "cancel requested", row.attempt, None)])
    if row.state == JobState.WAITING:
        await stop_family(ledger, work, job_id)
    else:
        work.after_commit(lambda: ledger.publisher.announce_cancel(job_id))
        # What it still enqueues before it stops is cancelled when it has stopped.
        await _cancel_children(ledger, work, job_id)


async def _cancel_children(ledger: Ledger, work: UnitOfWork, parent_id: str) -> None:
    # A scan may have hundreds that wait: those end by one statement.
    now = utc_now()
    waiting = (
        await work.session.execute(
            update(Job)
            .where(Job.parent_id == parent_id, Job.state.in_(STARTABLE_STATES), Job.children_open == 0)
            .values(state=JobState.CANCELLED, cancel_requested_at=now, finished_at=now, worker_id=None)
            .returning(Job.id, Job.attempt, Job.task, Job.queue)
        )
    ).all()
    if waiting:
        await ledger.record(work, [(row.id, JobState.CANCELLED, row.attempt, None) for row in waiting])
        for row in waiting:
            await count_end(work, row.id, row.task, row.queue, JobState.CANCELLED)
        await work.session.execute(
            update(Job).where(Job.id == parent_id).values(children_open=Job.children_open - len(waiting))
        )
    children = await work.session.execute(
        select(Job.id).where(Job.parent_id == parent_id, Job.state.not_in(TERMINAL_STATES)).order_by(Job.id)
    )
    for child_id in children.scalars().all():
        await cancel_open(ledger, work, child_id)


async def _set(work: UnitOfWork, job_id: str, **values: Any) -> None:
    await work.session.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
