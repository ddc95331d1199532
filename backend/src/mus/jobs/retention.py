"""Retention: jobs that ended long ago are forgotten, in steps between which others write."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import Snooze
from mus.jobs.services import services
from mus.ledger.history import (
    EVENTS_PER_LOOK,
    ROWS_PER_STEP,
    Position,
    Step,
    delete_events,
    ended_before,
    events_without_job,
    forget,
    last_event_id,
    next_step,
)
from mus.persistence.models import utc_now

#: The shortest pause between two steps; otherwise as long as the step took, so that half the time is others'.
_PAUSE_SECONDS = 0.002


def give_way_to_shutdown(job: RunningJob) -> None:
    """Raises Snooze when the worker is about to end: what is left is done later, by whoever comes."""
    if job.draining:
        raise Snooze(1.0, "the worker stops")


class HistoryRetention:
    """One attempt at it. What earlier attempts deleted is in the job's checkpoint, and counts."""

    def __init__(self, job: RunningJob, *, days: int) -> None:
        self._job = job
        self._moment = utc_now() - timedelta(days=days)
        found = job.checkpoint or {}
        self._jobs: int = found.get("jobs", 0)
        self._events: int = found.get("events", 0)
        self._total = 0

    async def run(self) -> dict[str, Any]:
        """Delete all of it; returns the counts."""
        async with services().database.reading() as session:
            self._total = self._jobs + await ended_before(session, self._moment)
        # Children go before their parents, which may be in the same step: parents whose children went along in one
        # pass go in the next.
        while await self._pass():
            pass
        await self._forget_lost_events()
        return self._counts

    @property
    def _counts(self) -> dict[str, Any]:
        return {"jobs": self._jobs, "events": self._events}

    async def _pass(self) -> bool:
        """Whether anything was deleted."""
        before = self._jobs
        position: Position | None = None
        while True:
            async with services().database.reading() as session:
                step = await next_step(session, self._moment, position)
            if step is None:
                return self._jobs > before
            await self._take(step)
            position = step.position

    async def _take(self, step: Step) -> None:
        give_way_to_shutdown(self._job)
        began = time.monotonic()
        done = min(self._jobs, self._total)
        async with self._job.effect(stage="forgetting old jobs", units_done=done, units_total=self._total) as work:
            jobs, events = await forget(work.session, step)
            self._jobs += jobs
            self._events += events
            await self._job.keep(work, self._counts)
        await asyncio.sleep(max(_PAUSE_SECONDS, time.monotonic() - began))

    async def _forget_lost_events(self) -> None:
        """Events whose job is gone: no job of mus leaves any, but a hand that deletes rows does."""
        async with services().database.reading() as session:
            last = await last_event_id(session)
        for after in range(0, last, EVENTS_PER_LOOK):
            give_way_to_shutdown(self._job)
            async with services().database.reading() as session:
                lost = await events_without_job(session, after)
            for start in range(0, len(lost), ROWS_PER_STEP):
                async with self._job.effect(stage="forgetting events of jobs that are gone") as work:
                    self._events += await delete_events(work.session, lost[start : start + ROWS_PER_STEP])
                    await self._job.keep(work, self._counts)
            await asyncio.sleep(_PAUSE_SECONDS)
