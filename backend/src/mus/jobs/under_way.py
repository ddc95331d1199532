"""Which files a job is at: so that one which ends the whole worker, as memory that runs out does, is found.

A reader that dies is seen by its pool, which knows the file. When the worker dies with it, the job's next attempt
finds here what was under way, takes those files one by one, and sets aside the one at which it dies again.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, true

from mus.broker.job_runner import RunningJob
from mus.persistence.models import Track
from mus.persistence.unit_of_work import UnitOfWork


class UnderWay:
    """The files of a job that works in batches of tracks; written into its checkpoint before each batch."""

    reason = "The worker that opened this file died, and died again when it was alone"

    def __init__(self, job: RunningJob) -> None:
        self._job = job
        left = job.checkpoint or {}
        at: list[int] = left.get("at", [])
        suspects: list[int] = left.get("suspects", [])
        #: At which file this job died a second time.
        self.culprit: int | None = None
        if left.get("attempt", job.started.attempt) >= job.started.attempt:
            # Given back by a worker that ended in peace.
            self._suspects = suspects
        elif len(at) == 1 and at[0] in suspects:
            self.culprit = at[0]
            self._suspects = suspects
        else:
            self._suspects = sorted({*at, *suspects}, reverse=True)

    @property
    def choice(self) -> ColumnElement[bool]:
        """Which tracks of the work list come next: the suspects one by one, else any."""
        if self.culprit is not None:
            return Track.id == self.culprit
        return Track.id == self._suspects[0] if self._suspects else true()

    def go_on(self) -> bool:
        """Whether there is more to choose from, now that there was no work in what was chosen."""
        if self.culprit is None and not self._suspects:
            return False
        self._drop_first()
        return True

    async def begin(self, track_ids: Sequence[int]) -> None:
        if self.culprit is None:
            async with self._job.effect() as work:
                await self._keep(work, track_ids)

    async def end(self, work: UnitOfWork) -> None:
        """The batch is over, and stored in this transaction."""
        self._drop_first()
        await self._keep(work, [])

    async def nobody_died(self) -> None:
        """The batch failed for another reason, which is about to end this attempt."""
        async with self._job.effect() as work:
            await self._keep(work, [])

    def _drop_first(self) -> None:
        if self.culprit is not None:
            self._suspects = [suspect for suspect in self._suspects if suspect != self.culprit]
            self.culprit = None
        else:
            self._suspects = self._suspects[1:]

    async def _keep(self, work: UnitOfWork, track_ids: Sequence[int]) -> None:
        await self._job.keep(
            work,
            {"at": list(track_ids), "suspects": self._suspects, "attempt": self._job.started.attempt},
        )
