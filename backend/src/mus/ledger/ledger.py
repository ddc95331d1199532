"""The ledger: the only writer of a job's state.

The queue can lose, repeat or reorder messages; these rows cannot. Each method below is one row of the table in
`job_states`, written so that the loser of any race changes nothing.

`add`, and what people do in `steering`, run in the caller's unit of work; what a worker does (`start`, `effect`,
`finish`, …) opens its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.exc import IntegrityError

from mus.errors import ErrorCategory, SupersededError
from mus.ledger.deliveries import Delivery, Publisher, parse_delivery_id
from mus.ledger.families import child_counted, hold_family, settle, stop_family
from mus.ledger.job_counts import count_success, count_takeover, counted_success
from mus.ledger.job_rows import (
    ADD_EVENTS,
    ADD_JOBS,
    ADD_UNITS,
    CHILD_ENDED,
    FINISH,
    KEEP_CHECKPOINT,
    OWNED,
    SKIP_CONTINUATION,
    START,
    TOUCH,
    Failure,
    NewJob,
    StartedJob,
    jobs,
    new_row,
)
from mus.ledger.job_states import JobState
from mus.ledger.outgoing_messages import OutgoingMessages
from mus.ledger.postponed import backoff_seconds, hold_back, requeue
from mus.ledger.written_together import WrittenTogether
from mus.persistence.conflicts import insert_into
from mus.persistence.database import Database
from mus.persistence.models import Job, utc_now
from mus.persistence.prepared import Prepared, Transaction, Values
from mus.persistence.unit_of_work import UnitOfWork, current_unit_of_work

#: (job id, event, attempt, details) of a line in a job's history.
Event = tuple[str, str, int, dict[str, Any] | None]
#: Makes the job that tells an admin of a failed job, from its id, task and reason; None for one nobody is told of.
Alert = Callable[[str, str, str], NewJob | None]


def _lines(events: Sequence[Event]) -> list[dict[str, Any]]:
    now = utc_now()
    return [
        {"job_id": job_id, "at": now, "event": event, "attempt": attempt, "details": details}
        for job_id, event, attempt, details in events
    ]


def _conditionally(transaction: Transaction, update: Prepared, values: Values, event: Event) -> Any | None:
    """The row that a conditional update changed, with its line of history; None where it changed none."""
    row = transaction.one(update, values)
    if row is not None:
        transaction.insert(ADD_EVENTS, _lines([event]))
    return row


def _succeeded(job: StartedJob) -> Event:
    return (job.id, JobState.SUCCEEDED, job.attempt, None)


def _add_units(transaction: Transaction, job: StartedJob, units: int) -> None:
    if job.parent_id is not None:
        transaction.one(ADD_UNITS, {"b_parent": job.parent_id, "units": units})


def _ended(job: StartedJob, result: dict[str, Any] | None) -> Values:
    return {**job.fence, "now": utc_now(), "b_result": result}


class Ledger:
    """Job rows of one database, with the broker that their messages go to."""

    def __init__(self, database: Database, publisher: Publisher, alert: Alert | None = None) -> None:
        self.database = database
        self.publisher = publisher
        self.alert = alert
        self._outgoing = OutgoingMessages(database, publisher)
        self._write = WrittenTogether(database)

    # ---------------------------------------------------------------- enqueue

    async def add(self, new_jobs: Sequence[NewJob]) -> list[str]:
        """Write jobs in the current unit of work; they are published after its commit.

        Returns their ids in order. A job whose `dedupe_key` waits already is not written: the waiting one's id
        stands in its place.
        """
        work = current_unit_of_work()
        now = utc_now()
        ids: list[str] = []
        plain: list[dict[str, Any]] = []
        written: list[Event] = []
        new_children: dict[str, int] = {}
        for job in new_jobs:
            row = new_row(job, now)
            if job.dedupe_key is None:
                plain.append(row)
            elif (waiting := await self._insert_unless_waiting(work, row)) is not None:
                ids.append(waiting)
                continue
            ids.append(row["id"])
            written.append((row["id"], "enqueued", 1, None))
            if job.parent_id is not None:
                new_children[job.parent_id] = new_children.get(job.parent_id, 0) + 1
            self.hand_over(work, Delivery(row["id"], 1, 1, job.task, job.queue, job.run_after))
        await work.insert(ADD_JOBS, plain)
        await self.record(work, written)
        for parent_id, count in new_children.items():
            await work.session.execute(
                update(Job).where(Job.id == parent_id).values(children_open=Job.children_open + count)
            )
        return ids

    async def _insert_unless_waiting(self, work: UnitOfWork, row: dict[str, Any]) -> str | None:
        insert = insert_into(Job, is_sqlite=self.database.is_sqlite)
        statement = insert.values(row).on_conflict_do_nothing().returning(Job.id)
        waiting = select(Job.id).where(Job.dedupe_key == row["dedupe_key"], Job.state == JobState.QUEUED)
        while (await work.session.execute(statement)).scalar_one_or_none() is None:
            if (found := (await work.session.execute(waiting)).scalar_one_or_none()) is not None:
                return found
            # It was started between the two (PostgreSQL): this one is a new job after all.
        return None

    def hand_over(self, work: UnitOfWork, delivery: Delivery) -> None:
        """Publish a delivery after the commit, together with the transaction's others."""
        self._outgoing.hand_over(work, delivery)

    async def publish_rest(self) -> None:
        """Wait until all that was committed is published, or known not to be."""
        await self._outgoing.idle()

    async def record(self, work: UnitOfWork, events: Sequence[Event]) -> None:
        """Add lines to jobs' histories, and tell after the commit that these jobs have changed."""
        if events:
            self.changed(work, [event[0] for event in events])
            await work.insert(ADD_EVENTS, _lines(events))

    def changed(self, work: UnitOfWork, job_ids: Iterable[str]) -> None:
        """Tell after the commit that the rows of these jobs have changed."""
        if not work.changed_jobs:
            work.after_commit(lambda: self._tell(work))
        work.changed_jobs.update(dict.fromkeys(job_ids))

    async def _tell(self, work: UnitOfWork) -> None:
        self.publisher.jobs_changed(work.changed_jobs)

    # ----------------------------------------------------------------- start

    async def start(self, delivery_id: str, worker_id: str) -> StartedJob | None:
        """Make the delivery's job this worker's own, by one conditional update.

        None is a repeat (or a job cancelled, moved on, held back by another with its exclusive key, or on a queue
        that is paused: it is published again on resume): the caller drops the message. Raises ValueError for what
        is no delivery id.
        """
        job_id, attempt, number = parse_delivery_id(delivery_id)
        fence = {"f_id": job_id, "f_attempt": attempt, "f_delivery": number}
        taken = {**fence, "worker": worker_id, "now": utc_now()}
        event: Event = (job_id, "started", attempt, {"worker": worker_id})
        while (row := await self._started(taken, event)) is None:
            if not await hold_back(self, fence, worker_id):
                return None
        self.publisher.jobs_changed([job_id])
        return StartedJob(
            id=job_id,
            task=row.task,
            queue=row.queue,
            arguments=row.arguments,
            attempt=attempt,
            max_attempts=row.max_attempts,
            delivery=number,
            parent_id=row.parent_id,
            requested_by=row.requested_by,
            checkpoint=row.checkpoint,
            version=row.version,
            created_at=row.created_at,
            waited_seconds=(utc_now() - (row.published_at or row.created_at)).total_seconds(),
        )

    async def _started(self, taken: dict[str, Any], event: Event) -> Any | None:
        try:
            return await self._write(lambda transaction: _conditionally(transaction, START, taken, event))
        except IntegrityError:
            # Two jobs with one exclusive key started in the same instant (PostgreSQL): this one waits.
            return None

    # ---------------------------------------------------------------- effects

    @asynccontextmanager
    async def effect(self, job: StartedJob, **progress: Any) -> AsyncIterator[UnitOfWork]:
        """A transaction that counts only while `job` is still this worker's.

        `progress` may set `progress`, `stage`, `units_done`, `units_total`. Raises SupersededError when the
        ledger moved on.
        """
        async with self.database.unit_of_work() as work:
            if progress:
                await self._fenced_update(work, job, progress)
                self.changed(work, [job.id])
            else:
                await self._touch(work, job)
            yield work

    async def _touch(self, work: UnitOfWork, job: StartedJob) -> None:
        if await work.run(lambda transaction: transaction.one(TOUCH, job.fence)) is None:
            raise SupersededError(job.id)

    async def keep_checkpoint(self, work: UnitOfWork, job: StartedJob, checkpoint: dict[str, Any]) -> None:
        """Store what an effect leaves for a later attempt of the same job, with the effect."""
        await work.session.execute(KEEP_CHECKPOINT, {"b_id": job.id, "b_checkpoint": checkpoint})

    async def skip_continuation(self, work: UnitOfWork, job: StartedJob) -> None:
        """Let the job be its own last part, with the effect that makes it so."""
        await work.session.execute(SKIP_CONTINUATION, {"b_id": job.id})

    async def add_parent_progress(self, work: UnitOfWork, job: StartedJob, units: int) -> None:
        """Count `units` of the parent's work as done, in the transaction of the effect that did them."""
        if job.parent_id is not None:
            await work.run(lambda transaction: _add_units(transaction, job, units))
            self.changed(work, [job.parent_id])

    async def _fenced_update(self, work: UnitOfWork, job: StartedJob, values: dict[str, Any]) -> Any:
        row = (
            await work.session.execute(
                update(jobs)
                .where(OWNED)
                .values(**values)
                .returning(jobs.c.children_open, jobs.c.cancel_requested_at),
                job.fence,
            )
        ).one_or_none()
        if row is None:
            raise SupersededError(job.id)
        return row

    # ------------------------------------------------------------------- ends

    async def finish(self, job: StartedJob, *, result: dict[str, Any] | None) -> JobState:
        """The job's function returned. A job with open children or a continuation now waits for them."""
        if job.parent_id is None and await self._finish_together(job, result):
            return JobState.SUCCEEDED
        async with self.database.unit_of_work() as work:
            await hold_family(work, job.id)
            return await self._end(work, job, result)

    @asynccontextmanager
    async def last_effect(
        self, job: StartedJob, result: dict[str, Any], *, parent_units: int = 0
    ) -> AsyncIterator[UnitOfWork]:
        """An effect with which the job ends as well, with what `result` is by then: both stand, or neither.

        `parent_units` of the parent's work are counted as done. Raises SupersededError when the ledger moved on, as
        a rule before the block.
        """
        async with self.database.unit_of_work() as work:
            await hold_family(work, job.id)
            await self._touch(work, job)
            yield work
            await self._end(work, job, result, parent_units=parent_units)

    async def _end(
        self, work: UnitOfWork, job: StartedJob, result: dict[str, Any] | None, *, parent_units: int = 0
    ) -> JobState:
        """With the job's family held."""

        def end(transaction: Transaction) -> tuple[Any, Any]:
            if parent_units:
                _add_units(transaction, job, parent_units)
            row = _conditionally(transaction, FINISH, _ended(job, result), _succeeded(job))
            if row is None or job.parent_id is None:
                return row, None
            return row, transaction.one(CHILD_ENDED, {"b_parent": job.parent_id})

        row, parent = await work.run(end)
        if job.parent_id is not None and parent_units:
            self.changed(work, [job.parent_id])
        if row is not None:
            self.changed(work, [job.id])
            count_success(work, job, result)
            if job.parent_id is not None:
                await child_counted(self, work, job.parent_id, job.id, parent)
            return JobState.SUCCEEDED
        row = await self._let_go(work, job, {"result": result})
        if row.cancel_requested_at is not None:
            return await stop_family(self, work, job.id)
        if row.children_open == 0:
            return await settle(self, work, job.id)
        await self.record(work, [(job.id, "waits for its children", job.attempt, None)])
        return JobState.WAITING

    async def _finish_together(self, job: StartedJob, result: dict[str, Any] | None) -> bool:
        """The common end, together with those of others. False: nothing was changed, there is more to do."""
        row = await self._write(
            lambda transaction: _conditionally(transaction, FINISH, _ended(job, result), _succeeded(job))
        )
        if row is None:
            return False
        self.publisher.jobs_changed([job.id])
        counted_success(job, result)
        return True

    async def fail(self, job: StartedJob, failure: Failure, *, wait_seconds: float | None = None) -> JobState:
        """The attempt failed: again later if that may help and attempts are left, else for good.

        `wait_seconds` is the pause before the next attempt, else that of `backoff_seconds`.
        """
        again = failure.category is ErrorCategory.TEMPORARY and job.attempt < job.max_attempts
        async with self.database.unit_of_work() as work:
            await hold_family(work, job.id)
            if not again:
                await self._let_go(work, job, failure.columns)
                return await stop_family(self, work, job.id)
            wait = backoff_seconds(job.attempt) if wait_seconds is None else wait_seconds
            return await requeue(
                self,
                work,
                OWNED,
                job.fence,
                state=JobState.RETRYING,
                next_attempt=True,
                run_after=utc_now() + timedelta(seconds=wait),
                event=("failed for now", {**failure.columns, "next_in_seconds": round(wait, 1)}),
                **failure.columns,
            )

    async def stopped_after_cancel(self, job: StartedJob) -> JobState:
        """The job's function was stopped because somebody cancelled it."""
        async with self.database.unit_of_work() as work:
            await hold_family(work, job.id)
            await self._let_go(work, job, {"cancel_requested_at": utc_now()})
            return await stop_family(self, work, job.id)

    async def _let_go(self, work: UnitOfWork, job: StartedJob, values: dict[str, Any]) -> Any:
        return await self._fenced_update(work, job, {**values, "worker_id": None, "state": JobState.WAITING})

    async def snooze(self, job: StartedJob, seconds: float, reason: str) -> None:
        """Run the job again later, without using an attempt."""
        await self._back_to_queue(
            job,
            utc_now() + timedelta(seconds=seconds),
            ("snoozed", {"seconds": seconds, "reason": reason}),
        )

    async def hand_back(self, job: StartedJob) -> None:
        """The worker stops: somebody else runs the job, and no attempt is lost."""
        await self._back_to_queue(job, None, ("handed back at shutdown", None))

    async def _back_to_queue(
        self, job: StartedJob, run_after: datetime | None, event: tuple[str, dict[str, Any] | None]
    ) -> None:
        async with self.database.unit_of_work() as work:
            await hold_family(work, job.id)
            await requeue(
                self,
                work,
                OWNED,
                job.fence,
                state=JobState.QUEUED,
                next_attempt=False,
                run_after=run_after,
                event=event,
            )

    async def take_over(self, job_id: str, attempt: int, worker_id: str) -> None:
        """Grant a dead worker's job its next attempt, or end it when it has had them all."""
        held = and_(
            jobs.c.id == job_id,
            jobs.c.attempt == attempt,
            jobs.c.worker_id == worker_id,
            jobs.c.state == JobState.RUNNING,
        )
        async with self.database.unit_of_work() as work:
            await hold_family(work, job_id)
            row = (
                await work.session.execute(
                    select(jobs.c.cancel_requested_at, jobs.c.max_attempts, jobs.c.task, jobs.c.queue).where(held)
                )
            ).one_or_none()
            if row is None:
                return
            count_takeover(work, row.task, row.queue)
            if row.cancel_requested_at is None and attempt < row.max_attempts:
                await requeue(
                    self,
                    work,
                    held,
                    {},
                    state=JobState.QUEUED,
                    next_attempt=True,
                    run_after=None,
                    event=("its worker died", {"worker": worker_id}),
                )
                return
            values: dict[str, Any] = {"state": JobState.WAITING, "worker_id": None}
            if row.cancel_requested_at is None:
                message = f"{attempt} workers died while they ran this job"
                values |= Failure(ErrorCategory.ADMIN_REQUIRED, message, {"worker": worker_id}).columns
            await work.session.execute(update(jobs).where(held).values(**values))
            await stop_family(self, work, job_id)
