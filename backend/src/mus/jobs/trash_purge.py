"""Out of the trash for good: by the daily schedule, or when a person says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import AdminRequiredError, ConflictError
from mus.jobs.services import services
from mus.jobs.telling import DELETED, tell_tracks
from mus.jobs.trash import change_state
from mus.jobs.trash_files import remove_for_good
from mus.ledger.job_states import JobState
from mus.library.file_systems import is_mounted_read_only
from mus.library.paths import shown
from mus.library.states import TrackState
from mus.persistence.libraries import on_this_machine
from mus.persistence.models import Job, Library, Track, TrashEntry, utc_now

#: A run that follows none of so many days leaves what is old to the next: a clock that has jumped, of a machine
#: without one of its own or by a wrong year, makes the whole trash old at once. A day later it is right again, or a
#: person has had a day to see it.
_GAP = timedelta(days=3)
_LEFT = "left_for_the_next_run"
#: An intent this old whose job has ended for good is taken up again, once a day.
_LEFT_BEHIND = timedelta(hours=1)


async def purge_old(job: RunningJob, *, older_than_days: float) -> dict[str, Any]:
    """Delete for good what has lain in the trash longer than that, and take up what was left half done.

    After a gap of days what is old is left to the next run. Raises AdminRequiredError at the end when files could
    not be deleted.
    """
    now = utc_now()
    is_old = TrashEntry.created_at < now - timedelta(days=older_than_days)
    is_half_done = TrashEntry.state != "trashed"
    async with services().database.reading() as session:
        old = (await session.scalars(select(func.count()).where(is_old, ~is_half_done))).one()
        is_left = old > 0 and await _follows_a_gap(session, job, now)
    if is_left:
        return await _purge_all(job, is_half_done) | {_LEFT: old}
    return await _purge_all(job, or_(is_old, is_half_done))


async def _follows_a_gap(session: AsyncSession, job: RunningJob, now: datetime) -> bool:
    """Whether the run before was too long ago, or not yet, by the clock; one that left it to this one aside."""
    before = (
        await session.execute(
            select(Job.finished_at, Job.result)
            .where(Job.task == job.started.task, Job.state == JobState.SUCCEEDED, Job.id != job.id)
            .order_by(Job.id.desc())
            .limit(1)
        )
    ).one_or_none()
    if before is None:
        return True
    return _LEFT not in (before.result or {}) and abs(now - before.finished_at) > _GAP


async def purge_chosen(
    job: RunningJob, *, library_id: int | None, track_ids: Collection[int] | None
) -> dict[str, Any]:
    """Delete for good what lay in the trash when that was asked for: of a library, or of tracks, where they are
    given. What was deleted since can be restored still, however long the job has waited.

    Raises AdminRequiredError at the end when files could not be deleted.
    """
    conditions: list[ColumnElement[bool]] = [
        TrashEntry.state.in_(["trashed", "purging"]),
        TrashEntry.created_at <= job.started.created_at,
    ]
    if library_id is not None:
        conditions.append(Track.library_id == library_id)
    if track_ids is not None:
        conditions.append(TrashEntry.track_id.in_(track_ids))
    return await _purge_all(job, and_(*conditions))


async def _purge_all(job: RunningJob, condition: ColumnElement[bool]) -> dict[str, Any]:
    now = utc_now()
    async with services().database.reading() as session:
        entries = (
            await session.execute(
                select(TrashEntry, Library)
                .join(Track, Track.id == TrashEntry.track_id)
                .join(Library, Library.id == Track.library_id)
                .where(condition)
                .order_by(TrashEntry.id)
            )
        ).all()
    purged = 0
    failures: list[str] = []
    for done, (entry, row) in enumerate(entries):
        await job.report(stage="deleting", units_done=done, units_total=len(entries))
        library = on_this_machine(row, services().settings.roots)
        try:
            if entry.state in {"trashed", "purging"}:
                purged += await _purge(job, entry, library.local_path(entry.trash_path))
            elif entry.created_at < now - _LEFT_BEHIND:
                await _take_up(job, entry)
        except OSError as error:
            failures.append(f"{shown(entry.original_path)}: {error.strerror}")
    if failures:
        raise AdminRequiredError(
            f"{len(failures)} files in the trash could not be deleted; the first: {failures[0]}",
            details={"purged": purged},
        )
    return {"purged": purged}


async def _purge(job: RunningJob, entry: TrashEntry, trash_path: bytes) -> bool:
    """Whether the file is gone for good now: not where its trash folder is away, or mounted read-only."""
    folder = os.path.dirname(trash_path)
    if not await asyncio.to_thread(os.path.isdir, folder) or await asyncio.to_thread(is_mounted_read_only, folder):
        return False  # it can be restored still, or purged another day or by another machine
    if entry.state == "trashed":
        try:
            async with job.effect() as work:
                await change_state(work.session, entry, "trashed", "purging")
        except ConflictError:
            return False  # restored in this moment
    if not await asyncio.to_thread(remove_for_good, trash_path):
        return False
    async with job.effect() as work:
        await work.session.execute(delete(TrashEntry).where(TrashEntry.id == entry.id))
        purged = await work.session.execute(
            delete(Track)
            .where(Track.id == entry.track_id, Track.status == TrackState.TRASHED)
            .returning(Track.library_id)
        )
        for library_id in purged.scalars():
            tell_tracks(work, DELETED, library_id, 1, [entry.track_id])
    return True


async def _take_up(job: RunningJob, entry: TrashEntry) -> None:
    task = "delete_track_by_id" if entry.state == "moving" else "restore_track_by_id"
    options = Options(dedupe_key=f"{task}:{entry.track_id}", requested_by="mus")
    async with job.effect():
        await broker.enqueue(Queue.HIGH, task, options, track_id=entry.track_id)
