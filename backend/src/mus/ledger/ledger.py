"""The ledger: the only writer of a job's state.

The queue can lose, repeat or reorder messages; these rows cannot. Each method below is one row of the table in
`job_states`, written so that the loser of any race changes nothing.

Writes that belong to a caller's transaction (`add`, `cancel`, `retry`) run in the current unit of work; those of
a worker (`start`, `effect`, `finish`) open their own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from mus.errors import (
    BrokerUnavailableError,
    ConflictError,
    ErrorCategory,
    NotFoundError,
    SupersededError,
)
from mus.ledger.deliveries import Delivery, Publisher, new_id, parse_delivery_id
from mus.ledger.job_states import STARTABLE_STATES, TERMINAL_STATES, JobState
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent, WorkerRow, utc_now
from mus.persistence.unit_of_work import UnitOfWork, current_unit_of_work

logger = logging.getLogger(__name__)

#: Attempts in all of a job whose failures are `temporary` (DESIGN §6), a worker's death included.
MAX_ATTEMPTS = 4
#: How long a job waits while another with the same `exclusive_key` runs.
EXCLUSIVE_RETRY = timedelta(seconds=0.5)
_BACKOFF_BASE_SECONDS = 2.0


def backoff_seconds(attempt: int) -> float:
    """Wait before attempt `attempt + 1`: 2, 8, 32 s, each with up to a quarter of jitter either way."""
    return _BACKOFF_BASE_SECONDS * float(4 ** (attempt - 1)) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be written. `arguments` is JSON-ready and was checked against the task's signature."""

    task: str
    queue: str
    arguments: dict[str, Any] = field(default_factory=dict)
    parent_id: str | None = None
    continuation: str | None = None
    continuation_queue: str | None = None
    dedupe_key: str | None = None
    exclusive_key: str | None = None
    run_after: datetime | None = None
    requested_by: str | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedJob:
    """A job that a worker owns as long as the fence (id, attempt, delivery, running) holds."""

    id: str
    task: str
    queue: str
    arguments: dict[str, Any]
    attempt: int
    delivery: int
    parent_id: str | None
    requested_by: str | None
    checkpoint: dict[str, Any] | None

    @property
    def log_context(self) -> dict[str, Any]:
        return {"job": self.id, "task": self.task, "delivery": f"{self.id}.{self.attempt}.{self.delivery}"}


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt went wrong."""

    category: ErrorCategory
    message: str
    details: dict[str, Any]


class Ledger:
    """Job rows of one database, with the broker that their messages go to."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self.database = database
        self._publisher = publisher

    # ---------------------------------------------------------------- enqueue

    async def add(self, jobs: Sequence[NewJob]) -> list[str]:
        """Write jobs in the current unit of work; they are published after its commit.

        Returns their ids in order. A job whose `dedupe_key` waits already is not written: the waiting one's id
        stands in its place.
        """
        work = current_unit_of_work()
        now = utc_now()
        ids: list[str] = []
        rows: list[dict[str, Any]] = []
        for job in jobs:
            row = _row(job, now)
            if job.dedupe_key is not None:
                waiting = await self._insert_unless_waiting(work, row)
                if waiting is not None:
                    ids.append(waiting)
                    continue
            else:
                rows.append(row)
            ids.append(row["id"])
            self._hand_over(work, Delivery(row["id"], 1, 1, job.task, job.queue, job.run_after))
        if rows:
            await work.session.execute(insert(Job), rows)
        written = {delivery.job_id for delivery in work.outbox} & set(ids)
        await self._record(work, [(job_id, "enqueued", 1, None) for job_id in ids if job_id in written])
        parents: dict[str, int] = {}
        for job, job_id in zip(jobs, ids, strict=True):
            if job.parent_id is not None and job_id in written:
                parents[job.parent_id] = parents.get(job.parent_id, 0) + 1
        for parent_id, count in parents.items():
            await work.session.execute(
                update(Job).where(Job.id == parent_id).values(children_open=Job.children_open + count)
            )
        return ids

    async def _insert_unless_waiting(self, work: UnitOfWork, row: dict[str, Any]) -> str | None:
        dialect_insert = sqlite_insert if self.database.is_sqlite else postgresql_insert
        statement = dialect_insert(Job).values(row).on_conflict_do_nothing().returning(Job.id)
        if (await work.session.execute(statement)).scalar_one_or_none() is not None:
            return None
        return (
            await work.session.execute(
                select(Job.id).where(Job.dedupe_key == row["dedupe_key"], Job.state == JobState.QUEUED)
            )
        ).scalar_one()

    def _hand_over(self, work: UnitOfWork, delivery: Delivery) -> None:
        if not work.outbox:
            work.after_commit(lambda: self._publish(work.outbox))
        work.outbox.append(delivery)

    async def _publish(self, deliveries: list[Delivery]) -> None:
        try:
            await self._publisher.publish(deliveries)
        except BrokerUnavailableError as error:
            # The rows stand; reconcile publishes them once the broker answers.
            logger.warning("%d jobs wait for the broker: %s", len(deliveries), error)
            async with self.database.unit_of_work() as work:
                for delivery in deliveries:
                    await work.session.execute(
                        update(Job)
                        .where(Job.id == delivery.job_id, Job.delivery == delivery.number)
                        .values(published_at=None)
                    )

    async def _record(
        self, work: UnitOfWork, events: Sequence[tuple[str, str, int, dict[str, Any] | None]]
    ) -> None:
        if events:
            now = utc_now()
            await work.session.execute(
                insert(JobEvent),
                [
                    {"job_id": job_id, "at": now, "event": event, "attempt": attempt, "details": details}
                    for job_id, event, attempt, details in events
                ],
            )

    # ------------------------------------------------------------ run and end

    async def start(self, delivery_id: str, worker_id: str) -> StartedJob | None:
        """Make the delivery's job this worker's own, by one conditional update.

        None is a repeat (or a job cancelled, moved on, or held back by another with its exclusive key): the
        caller drops the message.
        """
        job_id, attempt, number = parse_delivery_id(delivery_id)
        other = aliased(Job)
        free = or_(
            Job.exclusive_key.is_(None),
            ~exists().where(
                other.exclusive_key == Job.exclusive_key,
                other.state.in_((JobState.RUNNING, JobState.WAITING)),
            ),
        )
        statement = (
            update(Job)
            .where(
                Job.id == job_id,
                Job.attempt == attempt,
                Job.delivery == number,
                Job.state.in_(STARTABLE_STATES),
                Job.cancel_requested_at.is_(None),
                exists().where(WorkerRow.id == worker_id, WorkerRow.state == "alive"),
                free,
            )
            .values(state=JobState.RUNNING, worker_id=worker_id, started_at=utc_now(), run_after=None, stage=None)
            .returning(Job.task, Job.queue, Job.arguments, Job.parent_id, Job.requested_by, Job.checkpoint)
        )
        try:
            async with self.database.unit_of_work() as work:
                row = (await work.session.execute(statement)).one_or_none()
                if row is None:
                    await self._hold_back_if_exclusive(work, job_id, attempt, number)
                    return None
                await self._record(work, [(job_id, "started", attempt, {"worker": worker_id})])
        except IntegrityError:
            # Two jobs with one exclusive key started in the same instant (PostgreSQL): this one waits.
            async with self.database.unit_of_work() as work:
                await self._hold_back_if_exclusive(work, job_id, attempt, number)
            return None
        return StartedJob(
            id=job_id,
            task=row.task,
            queue=row.queue,
            arguments=row.arguments,
            attempt=attempt,
            delivery=number,
            parent_id=row.parent_id,
            requested_by=row.requested_by,
            checkpoint=row.checkpoint,
        )

    async def _hold_back_if_exclusive(self, work: UnitOfWork, job_id: str, attempt: int, number: int) -> None:
        row = (
            await work.session.execute(
                update(Job)
                .where(
                    Job.id == job_id,
                    Job.attempt == attempt,
                    Job.delivery == number,
                    Job.state.in_(STARTABLE_STATES),
                    Job.cancel_requested_at.is_(None),
                    Job.exclusive_key.is_not(None),
                )
                .values(
                    delivery=Job.delivery + 1,
                    run_after=utc_now() + EXCLUSIVE_RETRY,
                    published_at=utc_now(),
                    stage="waits for another like it",
                )
                .returning(Job.task, Job.queue, Job.delivery, Job.run_after)
            )
        ).one_or_none()
        if row is not None:
            self._hand_over(work, Delivery(job_id, attempt, row.delivery, row.task, row.queue, row.run_after))

    @asynccontextmanager
    async def effect(self, job: StartedJob, **progress: Any) -> AsyncIterator[UnitOfWork]:
        """A transaction that counts only while `job` is still this worker's.

        `progress` may set `progress`, `stage`, `units_done`, `units_total`. Raises SupersededError when the
        ledger moved on.
        """
        async with self.database.unit_of_work() as work:
            # An update even when nothing changes: on PostgreSQL it locks the row until the commit.
            await self._fenced_update(work, job, progress or {"state": JobState.RUNNING})
            yield work

    async def keep_checkpoint(self, work: UnitOfWork, job: StartedJob, checkpoint: dict[str, Any]) -> None:
        """Store what an effect leaves for a later attempt of the same job, with the effect."""
        await work.session.execute(update(Job).where(Job.id == job.id).values(checkpoint=checkpoint))

    async def _fenced_update(self, work: UnitOfWork, job: StartedJob, values: dict[str, Any]) -> Any:
        row = (
            await work.session.execute(
                update(Job)
                .where(_owned(job))
                .values(**values)
                .returning(Job.children_open, Job.continuation, Job.cancel_requested_at, Job.parent_id)
            )
        ).one_or_none()
        if row is None:
            raise SupersededError(job.id)
        return row

    async def add_parent_progress(self, work: UnitOfWork, job: StartedJob, units: int) -> None:
        """Count `units` of the parent's work as done, in the transaction of the effect that did them."""
        if job.parent_id is None:
            return
        await work.session.execute(
            update(Job)
            .where(Job.id == job.parent_id)
            .values(
                units_done=Job.units_done + units,
                # While the parent itself runs, its total still grows and a share would jump about.
                progress=case(
                    (
                        and_(Job.state == JobState.WAITING, Job.units_total > Job.units_done + units),
                        (Job.units_done + units) * 1.0 / Job.units_total,
                    ),
                    else_=Job.progress,
                ),
            )
        )

    async def finish(self, job: StartedJob, *, result: dict[str, Any] | None) -> JobState:
        """The job's function returned. A job with open children or a continuation now waits for them."""
        async with self.database.unit_of_work() as work:
            row = await self._fenced_update(
                work, job, {"result": result, "worker_id": None, "state": JobState.WAITING}
            )
            if row.cancel_requested_at is not None:
                await self._cancel_children(work, job.id)
            if row.children_open == 0:
                return await self._settle(work, job.id)
            await self._record(work, [(job.id, "waits for its children", job.attempt, None)])
            return JobState.WAITING

    async def fail(self, job: StartedJob, failure: Failure) -> JobState:
        """The attempt failed: again later if that may help and attempts are left, else for good."""
        again = failure.category is ErrorCategory.TEMPORARY and job.attempt < MAX_ATTEMPTS
        error = {
            "error_category": failure.category,
            "error_message": failure.message,
            "error_details": failure.details,
        }
        async with self.database.unit_of_work() as work:
            if again:
                wait = backoff_seconds(job.attempt)
                await self._requeue(
                    work,
                    _owned(job),
                    state=JobState.RETRYING,
                    attempt=Job.attempt + 1,
                    run_after=utc_now() + timedelta(seconds=wait),
                    event=("failed for now", {**error, "next_in_seconds": round(wait, 1)}),
                    **error,
                )
                return JobState.RETRYING
            row = await self._fenced_update(work, job, {**error, "worker_id": None, "state": JobState.WAITING})
            if row.children_open:
                await self._cancel_children(work, job.id)
                row = (await work.session.execute(select(Job.children_open).where(Job.id == job.id))).one()
            if row.children_open == 0:
                state = (await work.session.execute(select(Job.state).where(Job.id == job.id))).scalar_one()
                return JobState(state) if state in TERMINAL_STATES else await self._settle(work, job.id)
            return JobState.WAITING

    async def snooze(self, job: StartedJob, seconds: float, reason: str) -> None:
        """Run the job again later, without using an attempt."""
        async with self.database.unit_of_work() as work:
            await self._requeue(
                work,
                _owned(job),
                state=JobState.QUEUED,
                attempt=Job.attempt,
                run_after=utc_now() + timedelta(seconds=seconds),
                event=("snoozed", {"seconds": seconds, "reason": reason}),
            )

    async def hand_back(self, job: StartedJob) -> None:
        """The worker stops: somebody else runs the job, and no attempt is lost."""
        async with self.database.unit_of_work() as work:
            await self._requeue(
                work,
                _owned(job),
                state=JobState.QUEUED,
                attempt=Job.attempt,
                run_after=None,
                event=("handed back at shutdown", None),
            )

    async def stopped_after_cancel(self, job: StartedJob) -> JobState:
        """The job's function was stopped because somebody cancelled it."""
        async with self.database.unit_of_work() as work:
            await self._fenced_update(
                work,
                job,
                {"cancel_requested_at": utc_now(), "worker_id": None, "state": JobState.WAITING},
            )
            await self._cancel_children(work, job.id)
            row = (await work.session.execute(select(Job.children_open, Job.state).where(Job.id == job.id))).one()
            if row.state in TERMINAL_STATES or row.children_open:
                return JobState(row.state)
            return await self._settle(work, job.id)

    async def take_over(self, job_id: str, attempt: int, worker_id: str) -> None:
        """Grant a dead worker's job its next attempt, or end it when it has had them all."""
        async with self.database.unit_of_work() as work:
            mine = and_(
                Job.id == job_id,
                Job.attempt == attempt,
                Job.worker_id == worker_id,
                Job.state == JobState.RUNNING,
            )
            row = (
                await work.session.execute(
                    select(Job.cancel_requested_at, Job.children_open).where(mine).with_for_update()
                )
            ).one_or_none()
            if row is None:
                return
            if row.cancel_requested_at is None and attempt < MAX_ATTEMPTS:
                await self._requeue(
                    work,
                    mine,
                    state=JobState.QUEUED,
                    attempt=Job.attempt + 1,
                    run_after=None,
                    event=("its worker died", {"worker": worker_id}),
                )
                return
            values: dict[str, Any] = {"state": JobState.WAITING, "worker_id": None}
            if row.cancel_requested_at is None:
                values |= {
                    "error_category": ErrorCategory.ADMIN_REQUIRED,
                    "error_message": f"{attempt} workers died while they ran this job",
                    "error_details": {"worker": worker_id},
                }
            await work.session.execute(update(Job).where(mine).values(**values))
            if row.children_open:
                await self._cancel_children(work, job_id)
            state, children = (
                await work.session.execute(select(Job.state, Job.children_open).where(Job.id == job_id))
            ).one()
            if state == JobState.WAITING and children == 0:
                await self._settle(work, job_id)

    async def _requeue(
        self,
        work: UnitOfWork,
        condition: ColumnElement[bool],
        *,
        state: JobState,
        attempt: Any,
        run_after: datetime | None,
        event: tuple[str, dict[str, Any] | None],
        **values: Any,
    ) -> None:
        row = (
            await work.session.execute(
                update(Job)
                .where(condition)
                .values(
                    state=state,
                    attempt=attempt,
                    delivery=Job.delivery + 1,
                    run_after=run_after,
                    published_at=utc_now(),
                    worker_id=None,
                    # A newer job with this key may wait by now, and the key is unique among those.
                    dedupe_key=None,
                    **values,
                )
                .returning(Job.id, Job.task, Job.queue, Job.attempt, Job.delivery)
            )
        ).one_or_none()
        if row is None:
            raise SupersededError
        await self._record(work, [(row.id, event[0], row.attempt, event[1])])
        self._hand_over(work, Delivery(row.id, row.attempt, row.delivery, row.task, row.queue, run_after))

    # --------------------------------------------------------------- families

    async def _settle(self, work: UnitOfWork, job_id: str) -> JobState:
        """End a waiting job none of whose children is open, or enqueue its continuation first."""
        job = (await work.session.execute(select(Job).where(Job.id == job_id))).scalar_one()
        await work.session.refresh(job)
        if job.cancel_requested_at is not None:
            state = JobState.CANCELLED
        elif job.error_category is not None:
            state = JobState.FAILED
        elif job.continuation is not None and job.continuation_id is None:
            last = NewJob(task=job.continuation, queue=job.continuation_queue or job.queue, parent_id=job_id)
            ids = await self.add([last])
            await work.session.execute(update(Job).where(Job.id == job_id).values(continuation_id=ids[0]))
            return JobState.WAITING
        else:
            state = JobState.SUCCEEDED
        values: dict[str, Any] = {"state": state, "finished_at": utc_now(), "worker_id": None}
        if state is JobState.SUCCEEDED:
            values["progress"] = 1.0
        await work.session.execute(update(Job).where(Job.id == job_id).values(**values))
        await self._record(work, [(job_id, state, job.attempt, None)])
        if job.parent_id is not None:
            await self._child_ended(work, job.parent_id, job_id)
        return state

    async def _child_ended(self, work: UnitOfWork, parent_id: str, child_id: str) -> None:
        parent = (
            await work.session.execute(
                update(Job)
                .where(Job.id == parent_id)
                .values(children_open=Job.children_open - 1)
                .returning(Job.children_open, Job.state, Job.continuation_id)
            )
        ).one()
        if parent.continuation_id == child_id:
            child = (await work.session.execute(select(Job).where(Job.id == child_id))).scalar_one()
            await work.session.refresh(child)
            values: dict[str, Any] = {
                "result": child.result,
                "error_category": child.error_category if child.state == JobState.FAILED else None,
                "error_message": child.error_message if child.state == JobState.FAILED else None,
                "error_details": child.error_details if child.state == JobState.FAILED else None,
            }
            if child.state == JobState.CANCELLED:
                values["cancel_requested_at"] = child.cancel_requested_at or utc_now()
            await work.session.execute(update(Job).where(Job.id == parent_id).values(**values))
        if parent.children_open == 0 and parent.state == JobState.WAITING:
            await self._settle(work, parent_id)

    async def _cancel_children(self, work: UnitOfWork, parent_id: str) -> None:
        children = await work.session.execute(
            select(Job.id).where(Job.parent_id == parent_id, Job.state.not_in(TERMINAL_STATES)).order_by(Job.id)
        )
        for child_id in children.scalars().all():
            await self._cancel_open(work, child_id)

    async def _cancel_open(self, work: UnitOfWork, job_id: str) -> None:
        now = utc_now()
        row = (
            await work.session.execute(
                update(Job)
                .where(Job.id == job_id, Job.state.not_in(TERMINAL_STATES))
                .values(cancel_requested_at=now)
                .returning(Job.state, Job.attempt)
            )
        ).one_or_none()
        if row is None:
            return
        if row.state in STARTABLE_STATES:
            await work.session.execute(update(Job).where(Job.id == job_id).values(state=JobState.WAITING))
            await self._settle(work, job_id)
            return
        await self._record(work, [(job_id, "cancel requested", row.attempt, None)])
        if row.state == JobState.WAITING:
            await self._cancel_children(work, job_id)
        else:
            work.after_commit(lambda: self._publisher.announce_cancel(job_id))

    # ----------------------------------------------------------------- people

    async def cancel(self, job_id: str) -> JobState:
        """Cancel a job that waits or runs, and its children, in the current unit of work.

        Returns the state it is in now: one that runs stops soon. Raises NotFoundError, and ConflictError for
        one that has ended.
        """
        work = current_unit_of_work()
        state = (await work.session.execute(select(Job.state).where(Job.id == job_id))).scalar_one_or_none()
        if state is None:
            raise NotFoundError(f"There is no job {job_id}")
        if state in TERMINAL_STATES:
            raise ConflictError(f"The job has {state} already", details={"state": state})
        await self._cancel_open(work, job_id)
        return JobState((await work.session.execute(select(Job.state).where(Job.id == job_id))).scalar_one())

    async def retry(self, job_id: str, *, requested_by: str | None) -> str:
        """Enqueue a failed or cancelled job once more, as a new row linked to it.

        Raises NotFoundError, and ConflictError for a job that has not failed.
        """
        work = current_unit_of_work()
        job = (await work.session.execute(select(Job).where(Job.id == job_id))).scalar_one_or_none()
        if job is None:
            raise NotFoundError(f"There is no job {job_id}")
        if job.state not in {JobState.FAILED, JobState.CANCELLED}:
            raise ConflictError(f"Only a failed or cancelled job can be retried; this one is {job.state}")
        if job.parent_id is not None and job.task == "finish_scan":
            raise ConflictError("This job is a part of another: retry that one", details={"parent": job.parent_id})
        ids = await self.add(
            [
                NewJob(
                    task=job.task,
                    queue=job.queue,
                    arguments=job.arguments,
                    continuation=job.continuation,
                    continuation_queue=job.continuation_queue,
                    exclusive_key=job.exclusive_key,
                    requested_by=requested_by,
                    retry_of=job_id,
                )
            ]
        )
        return ids[0]


def _row(job: NewJob, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "task": job.task,
        "queue": job.queue,
        "arguments": job.arguments,
        "state": JobState.QUEUED,
        "parent_id": job.parent_id,
        "continuation": job.continuation,
        "continuation_queue": job.continuation_queue,
        "dedupe_key": job.dedupe_key,
        "exclusive_key": job.exclusive_key,
        "run_after": job.run_after,
        "requested_by": job.requested_by,
        "retry_of": job.retry_of,
        "created_at": now,
        # Published right after the commit; if that fails, reconcile finds the message missing.
        "published_at": now,
    }


def _owned(job: StartedJob) -> ColumnElement[bool]:
    return and_(
        Job.id == job.id,
        Job.attempt == job.attempt,
        Job.delivery == job.delivery,
        Job.state == JobState.RUNNING,
    )
