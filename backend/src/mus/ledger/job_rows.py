"""Job rows and the statements that the hot paths run, built once.

Building a SQLAlchemy statement costs several times what running it does; a job runs about six. So they are made
here, with named parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, case, exists, insert, literal, or_, select, update

import mus
from mus.errors import ErrorCategory
from mus.ledger.deliveries import new_id
from mus.ledger.job_states import STARTABLE_STATES, JobState
from mus.persistence.models import Job, JobEvent, QueueRow, WorkerRow, utc_now
from mus.persistence.prepared import Prepared

#: Attempts in all of a job whose failures are `temporary` (DESIGN §6), a worker's death included, unless its task
#: has a number of its own.
MAX_ATTEMPTS = 4
_LONGEST_REASON = 200
#: What differs between failures of one kind: quoted names, paths, ids, numbers.
_VARIABLE = re.compile(r"""'[^']*'|"[^"]*"|(?<!\w)/\S+|\b[0-9a-f]{12,}\b|(?<![A-Za-z])\d+(?:[.,]\d+)*""")


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
    retry_number: int = 0
    max_attempts: int = MAX_ATTEMPTS
    #: The mus that knows this task with these arguments; what follows from another job has that job's.
    version: str | None = mus.__version__


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedJob:
    """A job that a worker owns as long as the fence (id, attempt, delivery, running) holds."""

    id: str
    task: str
    queue: str
    arguments: dict[str, Any]
    attempt: int
    max_attempts: int
    delivery: int
    parent_id: str | None
    requested_by: str | None
    checkpoint: dict[str, Any] | None
    version: str | None
    created_at: datetime
    #: Between the moment it was due and its start.
    waited_seconds: float

    @property
    def fence(self) -> dict[str, Any]:
        """Parameters of the statements below that `OWNED` guards."""
        return {"f_id": self.id, "f_attempt": self.attempt, "f_delivery": self.delivery}

    @property
    def log_context(self) -> dict[str, str]:
        return {"job": self.id, "task": self.task, "delivery": f"{self.id}.{self.attempt}.{self.delivery}"}


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt went wrong."""

    category: ErrorCategory
    message: str
    details: dict[str, Any]

    @property
    def columns(self) -> dict[str, Any]:
        return {
            "error_category": self.category,
            "error_message": self.message,
            "error_reason": reason_of(self.message),
            "error_details": self.details,
        }


def is_newer(version: str | None) -> bool:
    """Whether it is of a mus newer than this one."""
    return version is not None and _numbers(version) > _numbers(mus.__version__)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def reason_of(message: str) -> str:
    """The message without what differs from case to case, so that failures with one cause group together."""
    return _VARIABLE.sub("…", message)[:_LONGEST_REASON]


def delay_until(moment: datetime | None, now: datetime) -> float | None:
    """Seconds from `now` to a moment that a job waits for; None without one."""
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def new_row(job: NewJob, now: datetime) -> dict[str, Any]:
    """The row that `job` begins as."""
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
        "delay_seconds": delay_until(job.run_after, now),
        "requested_by": job.requested_by,
        "retry_of": job.retry_of,
        "retry_number": job.retry_number,
        "max_attempts": job.max_attempts,
        "version": job.version,
        "attempt": 1,
        "delivery": 1,
        "progress": 0.0,
        "units_done": 0,
        "units_total": 0,
        "children_open": 0,
        "created_at": now,
        # Published right after the commit; if that fails, reconcile finds the message missing.
        "published_at": now,
    }


# The tables, not the mapped classes: the ORM's own handling of an update costs twice what the database does.
jobs = cast("Table", Job.__table__)
workers = cast("Table", WorkerRow.__table__)
queues = cast("Table", QueueRow.__table__)


def one_of(state: ColumnElement[str], states: Iterable[JobState]) -> ColumnElement[bool]:
    """`IN` for statements that are prepared."""
    # Each a parameter of its own: the text of the statement is then whole, and can be prepared.
    return state.in_([literal(one) for one in sorted(states)])


#: The fence: this attempt, this delivery, still running.
OWNED = and_(
    jobs.c.id == bindparam("f_id"),
    jobs.c.attempt == bindparam("f_attempt"),
    jobs.c.delivery == bindparam("f_delivery"),
    jobs.c.state == JobState.RUNNING,
)
#: This delivery of a job that may start.
STARTABLE = and_(
    jobs.c.id == bindparam("f_id"),
    jobs.c.attempt == bindparam("f_attempt"),
    jobs.c.delivery == bindparam("f_delivery"),
    one_of(jobs.c.state, STARTABLE_STATES),
    jobs.c.cancel_requested_at.is_(None),
)
#: The job's queue is paused.
PAUSED = exists().where(queues.c.name == jobs.c.queue, queues.c.paused_at.is_not(None))
#: Write jobs as `new_row` makes them.
ADD_JOBS = Prepared(insert(jobs), tuple(new_row(NewJob(task="", queue=""), utc_now())))
_WORKER_LIVES = exists().where(workers.c.id == bindparam("worker"), workers.c.state == "alive")
ACTIVE_STATES = (JobState.RUNNING, JobState.WAITING)
_other = jobs.alias()

#: Make a delivery's job the worker's own. No row: a repeat, held back, or its queue is paused.
START = Prepared(
    update(jobs)
    .where(
        STARTABLE,
        ~PAUSED,
        _WORKER_LIVES,
        or_(
            jobs.c.exclusive_key.is_(None),
            ~exists().where(_other.c.exclusive_key == jobs.c.exclusive_key, one_of(_other.c.state, ACTIVE_STATES)),
        ),
    )
    .values(
        state=JobState.RUNNING,
        worker_id=bindparam("worker"),
        started_at=bindparam("now"),
        # From here on the time it was due: a delayed message comes to its stream at `run_after`.
        published_at=case((jobs.c.run_after > jobs.c.published_at, jobs.c.run_after), else_=jobs.c.published_at),
        run_after=None,
        stage=None,
        # What an earlier attempt met is in the history; this one begins clean, and settles so.
        error_category=None,
        error_message=None,
        error_reason=None,
        error_details=None,
    )
    .returning(
        jobs.c.task,
        jobs.c.queue,
        jobs.c.arguments,
        jobs.c.parent_id,
        jobs.c.requested_by,
        jobs.c.checkpoint,
        jobs.c.version,
        jobs.c.max_attempts,
        jobs.c.published_at,
        jobs.c.created_at,
    )
)
#: Until the transaction ends nobody pauses or resumes the queue of a job that may start: PostgreSQL locks its row,
#: SQLite has one writer.
HOLD_QUEUE = (
    select(queues.c.name)
    .where(queues.c.name == select(jobs.c.queue).where(STARTABLE).scalar_subquery())
    .with_for_update(read=True)
)
#: A delivery's job that `START` would start now, whatever else runs.
READY = select(jobs.c.id).where(STARTABLE, ~PAUSED, jobs.c.exclusive_key.is_(None), _WORKER_LIVES)
#: The message of a job whose queue is paused is dropped, and the row says that it has none.
DROP_PAUSED = update(jobs).where(STARTABLE, PAUSED).values(published_at=None)
#: Lock the row and check the fence, changing nothing.
TOUCH = Prepared(update(jobs).where(OWNED).values(attempt=jobs.c.attempt).returning(jobs.c.id))
#: The common end: no children, no continuation (left), nobody cancelled.
FINISH = Prepared(
    update(jobs)
    .where(
        OWNED,
        jobs.c.children_open == 0,
        or_(jobs.c.continuation.is_(None), jobs.c.continuation_id == jobs.c.id),
        jobs.c.cancel_requested_at.is_(None),
    )
    .values(
        state=JobState.SUCCEEDED,
        finished_at=bindparam("now"),
        worker_id=None,
        progress=1.0,
        result=bindparam("b_result"),
    )
    .returning(jobs.c.id)
)
KEEP_CHECKPOINT = update(jobs).where(jobs.c.id == bindparam("b_id")).values(checkpoint=bindparam("b_checkpoint"))
#: A retry by hand has the continuation again, so its name stays.
SKIP_CONTINUATION = update(jobs).where(jobs.c.id == bindparam("b_id")).values(continuation_id=jobs.c.id)
CHILD_ENDED = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("b_parent"))
    .values(children_open=jobs.c.children_open - 1)
    .returning(jobs.c.children_open, jobs.c.state, jobs.c.continuation_id, jobs.c.cancel_requested_at)
)
_units_done = jobs.c.units_done + bindparam("units")
ADD_UNITS = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("b_parent"))
    .values(
        units_done=_units_done,
        # While the parent itself runs, its total still grows and a share would jump about.
        progress=case(
            (
                and_(jobs.c.state == JobState.WAITING, jobs.c.units_total > _units_done),
                _units_done * 1.0 / jobs.c.units_total,
            ),
            else_=jobs.c.progress,
        ),
    )
    .returning(jobs.c.id)
)
ADD_EVENTS = Prepared(insert(cast("Table", JobEvent.__table__)), ("job_id", "at", "event", "attempt", "details"))
#: What `families.settle` decides by.
SETTLING = select(
    jobs.c.cancel_requested_at,
    jobs.c.error_category,
    jobs.c.error_message,
    jobs.c.error_reason,
    jobs.c.task,
    jobs.c.continuation,
    jobs.c.continuation_queue,
    jobs.c.continuation_id,
    jobs.c.task,
    jobs.c.queue,
    jobs.c.attempt,
    jobs.c.parent_id,
    jobs.c.version,
).where(jobs.c.id == bindparam("b_id"))
