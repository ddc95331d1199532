"""Reconcile: what makes it harmless that a process or the broker dies at any instant.

A loop in every worker runs `Reconciler.tick`; any number of them may run at once, because each step is a
conditional update that one of them wins.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container
from datetime import timedelta

from sqlalchemy import bindparam, or_, select

from mus.errors import SupersededError, TemporaryError
from mus.ledger.deliveries import Publisher
from mus.ledger.job_states import JobState
from mus.ledger.ledger import Ledger
from mus.ledger.lost_messages import LostMessages
from mus.ledger.schedules import fire_due
from mus.ledger.wall_clock import shorten_waits
from mus.ledger.workers import DeadWorkerWatch, declare_dead, living_beats
from mus.persistence.models import Job, WorkerRow, utc_now
from mus.persistence.prepared import Prepared

logger = logging.getLogger(__name__)

#: Between the ledger's start of a job and its worker's note of it, and the same at its end, lies a moment.
_UNTOLD_GRACE = timedelta(seconds=60)


_ORPHANS = Prepared(
    select(Job.id, Job.attempt, Job.worker_id)
    .outerjoin(WorkerRow, WorkerRow.id == Job.worker_id)
    .where(Job.state == JobState.RUNNING, or_(WorkerRow.id.is_(None), WorkerRow.state != "alive"))
)
_OWN = Prepared(
    select(Job.id, Job.attempt, Job.delivery, Job.cancel_requested_at, Job.started_at).where(
        Job.state == JobState.RUNNING, Job.worker_id == bindparam("worker")
    )
)


class Reconciler:
    """One worker's share of keeping rows and messages together."""

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        *,
        dead_after_seconds: float,
        every_seconds: float,
        tasks: Container[str],
        worker_id: str | None = None,
    ) -> None:
        """`tasks` are the names of those that this worker knows; `worker_id` is its own, where it beats."""
        self._ledger = ledger
        self._tasks = tasks
        self._lost_messages = LostMessages(ledger, publisher)
        self._watch = DeadWorkerWatch(dead_after_seconds, every_seconds, worker_id)

    async def tick(self) -> None:
        """Look once: dead workers, their jobs, rows without a message, schedules that are due."""
        for step in (
            self._declare_dead,
            self._take_over_orphans,
            self._lost_messages.publish_again,
            lambda: shorten_waits(self._ledger),
            lambda: fire_due(self._ledger, self._tasks),
        ):
            try:
                await step()
            except TemporaryError as error:
                logger.warning("a part of reconcile has to wait: %s", error)
            except Exception:
                # One that cannot be done now must not keep the others from being done.
                logger.exception("a part of reconcile failed this time")

    async def _declare_dead(self) -> None:
        beats = await living_beats(self._ledger.database)
        for worker_id in self._watch.look(beats):
            if await declare_dead(self._ledger.database, worker_id, at_beat=beats[worker_id]):
                logger.warning("worker %s has not been heard of; its jobs move on", worker_id)

    async def _take_over_orphans(self) -> None:
        orphans = await self._ledger.database.look(lambda look: look.all(_ORPHANS))
        for job_id, attempt, worker_id in orphans:
            assert worker_id is not None
            try:
                await self._ledger.take_over(job_id, attempt, worker_id)
            except SupersededError:
                continue  # another reconcile was first
            except TemporaryError as error:
                logger.warning("job %s could not be taken over yet: %s", job_id, error)

    async def check_own(self, worker_id: str, running: Collection[str]) -> set[str]:
        """Deliveries among `running` that this worker shall stop: cancelled, or no longer its own.

        A job that the ledger says this worker runs, but that it does not, is taken over like a dead worker's:
        how it ended could not be written.
        """
        rows = await self._ledger.database.look(lambda look: look.all(_OWN, {"worker": worker_id}))
        own = {f"{row.id}.{row.attempt}.{row.delivery}": row for row in rows}
        for delivery_id, row in own.items():
            if delivery_id not in running and row.started_at < utc_now() - _UNTOLD_GRACE:
                await self._ledger.take_over(row.id, row.attempt, worker_id)
        return {
            delivery_id
            for delivery_id in running
            if delivery_id not in own or own[delivery_id].cancel_requested_at is not None
        }
