"""Runs deliveries: the one middleware between streaQ and the job functions.

It asks the ledger whether a delivery counts, runs the function, and tells the ledger how it ended. It never
raises: to streaQ every message is simply done.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any

from anyio import CancelScope
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import mus
from mus.broker.streaq_broker import Task
from mus.errors import (
    AdminRequiredError,
    BadRequestError,
    ErrorCategory,
    MusError,
    Snooze,
    SupersededError,
    TemporaryError,
)
from mus.ledger.job_rows import Failure, StartedJob, is_newer
from mus.ledger.ledger import Ledger
from mus.log_context import logged_as
from mus.metrics import JOB_DURATION, JOB_WAIT, observe
from mus.persistence.database import as_temporary
from mus.persistence.models import utc_now
from mus.persistence.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

_current: ContextVar[RunningJob | None] = ContextVar("mus_running_job", default=None)
#: Progress is written at most this often for one job.
_PROGRESS_EVERY_SECONDS = 0.25
#: Pauses between tries to tell the ledger how a job ended, when the database does not take it.
_FINISH_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0)
#: How long a message that could not be started keeps its slot: a worker that has lost its database would take all
#: messages off the broker, as fast as it can read, from those that have not.
_UNSTARTED_SECONDS = 1.0
#: How long a job that this worker does not know is left for one that does: a quarter of its age, between these.
_SHORTEST_LEAVE_SECONDS, _LONGEST_LEAVE_SECONDS = 2.0, 600.0


class StopReason(Enum):
    CANCEL = "cancel"  # somebody asked; the ledger says so
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    SUPERSEDED = "superseded"


class RunningJob:
    """What a job function knows of its own job: `current_job()`."""

    def __init__(self, ledger: Ledger, started: StartedJob) -> None:
        self._ledger = ledger
        self.started = started
        self.stop_reason: StopReason | None = None
        #: The worker is about to end: a job that works in steps stops after this one.
        self.draining = False
        #: The ledger knows how it ended.
        self.has_ended = False
        self._task: asyncio.Task[Any] | None = None
        self._progress_written = 0.0

    @property
    def id(self) -> str:
        return self.started.id

    @property
    def parent_id(self) -> str | None:
        return self.started.parent_id

    @property
    def checkpoint(self) -> dict[str, Any] | None:
        """What an effect of an earlier attempt left."""
        return self.started.checkpoint

    @asynccontextmanager
    async def effect(self, *, parent_units: int = 0, **progress: Any) -> AsyncIterator[UnitOfWork]:
        """A transaction that counts only while this job is still ours; see `Ledger.effect`."""
        async with self._ledger.effect(self.started, **progress) as work:
            yield work
            if parent_units:
                await self._ledger.add_parent_progress(work, self.started, parent_units)

    @asynccontextmanager
    async def last_effect(self, result: dict[str, Any], *, parent_units: int = 0) -> AsyncIterator[UnitOfWork]:
        """An effect with which the job ends, with what is in `result` by then: both stand, or neither, and no later
        attempt has to be told. Its function returns soon after; what that returns, or raises, counts no more."""
        async with self._ledger.last_effect(self.started, result, parent_units=parent_units) as work:
            yield work
            work.after_commit(self._note_end)

    async def _note_end(self) -> None:
        self.has_ended = True

    async def keep(self, work: UnitOfWork, checkpoint: dict[str, Any]) -> None:
        """Leave word for a later attempt that this effect is there, in the effect's own transaction."""
        await self._ledger.keep_checkpoint(work, self.started, checkpoint)

    async def needs_no_continuation(self, work: UnitOfWork) -> None:
        """This effect did all that the task's continuation is for: the job ends with its function."""
        await self._ledger.skip_continuation(work, self.started)

    async def report(self, *, force: bool = False, **progress: Any) -> None:
        """Write `progress`, `stage`, `units_done` or `units_total`, at most four times a second."""
        now = time.monotonic()
        if force or now - self._progress_written >= _PROGRESS_EVERY_SECONDS:
            self._progress_written = now
            async with self.effect(**progress):
                pass

    def stop(self, reason: StopReason) -> None:
        if self.stop_reason is None and self._task is not None and not self._task.done():
            self.stop_reason = reason
            self._task.cancel()

    async def run(self, task: Task[Any], arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Run the job's function in a task that can be stopped by itself. Raises what it raises."""
        token = _current.set(self)
        try:
            self._task = asyncio.create_task(task.function(**arguments), name=f"{task.name} {self.id}")
        finally:
            _current.reset(token)
        try:
            await asyncio.wait({self._task}, timeout=task.timeout_seconds)
        except asyncio.CancelledError:
            # streaQ's lane goes down under us: give the job back.
            self.stop(StopReason.SHUTDOWN)
        if not self._task.done():
            self.stop(StopReason.TIMEOUT)
            with CancelScope(shield=True):
                await asyncio.wait({self._task})
        result: dict[str, Any] | None = self._task.result()
        if self.stop_reason is StopReason.SHUTDOWN:
            self.stop_reason = None  # it came to its end all the same
        return result


def current_job() -> RunningJob:
    """The job this code runs in. Raises RuntimeError outside of one."""
    job = _current.get()
    if job is None:
        raise RuntimeError("this runs inside a job only")
    return job


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, DBAPIError | PoolTimeoutError):
        # Of a job's reading; what its transactions raise has been through this.
        error = as_temporary(error)
    if isinstance(error, MusError):
        details = {**error.details, "recovery_actions": list(error.recovery_actions)}
        return Failure(error.category, error.user_message, details)
    return Failure(
        ErrorCategory.ADMIN_REQUIRED,
        f"Unexpected {type(error).__name__}: {error}"[:500],
        {"traceback": "".join(traceback.format_exception(error))[-8000:]},
    )


class JobRunner:
    """The jobs of one worker process."""

    def __init__(self, ledger: Ledger, tasks: Mapping[str, Task[Any]], worker_id: str) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._worker_id = worker_id
        #: By delivery: an attempt that was moved on while this process stood still may run beside its successor.
        self.running: dict[str, RunningJob] = {}
        self._draining = self._handing_back = False

    async def deliver(self, delivery_id: str) -> None:
        """Handle one message, whatever comes of it."""
        try:
            started = await self._ledger.start(delivery_id, self._worker_id)
        except TemporaryError as error:
            # The message is spent, the row is not: reconcile publishes it again.
            logger.warning("delivery %s could not be started: %s", delivery_id, error)
            await asyncio.sleep(_UNSTARTED_SECONDS)
            return
        except Exception:
            logger.exception("delivery %s could not be started", delivery_id)
            await asyncio.sleep(_UNSTARTED_SECONDS)
            return
        if started is None:
            logger.debug("delivery %s is a repeat", delivery_id)
            return
        job = RunningJob(self._ledger, started)
        job.draining = self._draining
        self.running[delivery_id] = job
        if self._handing_back:  # it was being started when the others were told
            job.stop_reason = StopReason.SHUTDOWN
        observe(JOB_WAIT, started.queue, started.task, value=started.waited_seconds)
        try:
            with logged_as(started.log_context):
                await self._run(job)
        finally:
            del self.running[delivery_id]

    async def _run(self, job: RunningJob) -> None:
        began = time.monotonic()
        failure: Failure | None = None
        result: dict[str, Any] | None = None
        snoozed: Snooze | None = None
        try:
            if job.stop_reason is None:
                task, arguments = self._fitting(job.started)
                result = await job.run(task, arguments)
        except asyncio.CancelledError:
            if job.stop_reason is StopReason.TIMEOUT:
                failure = Failure(
                    ErrorCategory.TEMPORARY,
                    f"The job took longer than {task.timeout_seconds:.0f} s",
                    {"timeout_seconds": task.timeout_seconds},
                )
            elif job.stop_reason is None:
                failure = Failure(ErrorCategory.ADMIN_REQUIRED, "The job cancelled itself", {})
        except Snooze as later:
            snoozed = later
        except SupersededError:
            job.stop_reason = StopReason.SUPERSEDED
        except Exception as error:  # noqa: BLE001 - a job's bug must not end the worker; the ledger keeps it
            failure = _failure_of(error)
        if not job.has_ended:
            with CancelScope(shield=True):
                await self._tell(job, result, failure, snoozed)
        observe(JOB_DURATION, job.started.queue, job.started.task, value=time.monotonic() - began)
        ended = failure.message if failure else (job.stop_reason.value if job.stop_reason else "done")
        logger.log(
            # What went well is in the ledger; a person's terminal need not scroll for it.
            logging.WARNING if failure else logging.DEBUG,
            "%s: %s",
            job.started.task,
            ended,
            extra={**job.started.log_context, "seconds": round(time.monotonic() - began, 3)},
        )

    def _fitting(self, started: StartedJob) -> tuple[Task[Any], dict[str, Any]]:
        """The job's task, and what its function is called with.

        Another mus may have enqueued it. Raises Snooze for a job that is none of ours, of a newer mus (workers of
        several versions run side by side while an upgrade is under way) or of a module of this mus that is not
        loaded here, and AdminRequiredError for one that nobody will ever run: it must not keep waiting, nor keep
        waiting who waits for it.
        """
        task = self._tasks.get(started.task)
        try:
            if task is None:
                raise BadRequestError(f"there is no task {started.task!a}")
            return task, task.called_with(started.arguments)
        except BadRequestError as unfit:
            maker = f"mus {started.version}" if started.version else "an older mus"
            if is_newer(started.version) or (task is None and started.version == mus.__version__):
                age_seconds = (utc_now() - started.created_at).total_seconds()
                pause = min(max(age_seconds / 4, _SHORTEST_LEAVE_SECONDS), _LONGEST_LEAVE_SECONDS)
                raise Snooze(pause, f"left for a worker of {maker}: {unfit.user_message}") from None
            raise AdminRequiredError(
                f"This job was made by {maker}, and mus {mus.__version__} cannot run it: {unfit.user_message}",
                recovery_actions=("Ask anew for what it was to do", "Reset the schedule, if it came from one"),
            ) from None

    async def _tell(
        self, job: RunningJob, result: dict[str, Any] | None, failure: Failure | None, snoozed: Snooze | None
    ) -> None:
        """Tell the ledger, again and again while its database is busy."""
        ledger, started = self._ledger, job.started
        for pause in (*_FINISH_PAUSES_SECONDS, None):
            try:
                if job.stop_reason is StopReason.CANCEL:
                    await ledger.stopped_after_cancel(started)
                elif job.stop_reason is StopReason.SUPERSEDED:
                    pass
                elif failure is not None:
                    task = self._tasks.get(started.task)
                    wait = task.wait_seconds(started.attempt) if task else None
                    await ledger.fail(started, failure, wait_seconds=wait)
                elif snoozed is not None:
                    await ledger.snooze(started, snoozed.seconds, snoozed.reason)
                elif job.stop_reason is StopReason.SHUTDOWN:
                    await ledger.hand_back(started)
                else:
                    await ledger.finish(started, result=result)
            except SupersededError:
                logger.info("job %s belongs to another attempt by now", started.id)
            except TemporaryError as error:
                if pause is None:
                    # The row says running: this worker's own reconcile finds that nobody runs it.
                    logger.error("how job %s ended could not be written: %s", started.id, error)
                    return
                await asyncio.sleep(pause)
                continue
            except Exception:
                logger.exception("how job %s ended could not be written", started.id)
            return

    def stop_job(self, job_id: str, reason: StopReason) -> None:
        """Stop every attempt of a job that runs here."""
        for job in self.running.values():
            if job.id == job_id:
                job.stop(reason)

    def stop_delivery(self, delivery_id: str, reason: StopReason) -> None:
        """Stop one attempt."""
        job = self.running.get(delivery_id)
        if job is not None:
            job.stop(reason)

    def begin_drain(self) -> None:
        """Tell the running jobs that the worker is about to end, and those that start yet."""
        self._draining = True
        for job in self.running.values():
            job.draining = True

    def hand_all_back(self) -> None:
        """Stop what still runs, or starts yet; each job goes back to its queue without losing an attempt."""
        self._handing_back = True
        for job in list(self.running.values()):
            job.stop(StopReason.SHUTDOWN)
