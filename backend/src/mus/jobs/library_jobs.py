"""What takes long about a library: to forget it, and to know its files again in another folder."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select

from mus.broker.job_runner import RunningJob
from mus.broker.streaq_broker import broker
from mus.errors import ConflictError, Snooze
from mus.jobs.retention import give_way_to_shutdown
from mus.jobs.scan_requests import scan_job
from mus.jobs.services import find_library, services
from mus.jobs.telling import DELETED, tell_library_change, tell_tracks
from mus.ledger.families import cancel_open, hold_family
from mus.ledger.job_states import TERMINAL_STATES
from mus.ledger.ledger import Ledger
from mus.ledger.queries import is_about
from mus.persistence.batch_operations import hold_tracks_of_removed
from mus.persistence.libraries import LocalLibrary, hold_libraries
from mus.persistence.models import Job, Library, Track
from mus.persistence.moved_library import adopt_files_of
from mus.persistence.unit_of_work import UnitOfWork

REMOVE_TASK = "remove_library"
FOLLOW_TASK = "follow_moved_library"
#: Tracks of one transaction.
_BATCH = 500


async def remove(job: RunningJob, library_id: int) -> dict[str, Any]:
    """Delete the tracks, then the library's row; an attempt that died is gone on with. Files are left alone.

    Raises ConflictError for a library whose removal nobody has asked for.
    """
    async with services().database.reading() as session:
        library = await session.get(Library, library_id)
        left = await session.scalar(select(func.count()).where(Track.library_id == library_id)) or 0
    if library is None:
        return _removed(job)  # by an earlier attempt
    if library.removing_since is None:
        raise ConflictError(f"Nobody has asked to remove the library {library.name}")
    done: int = (job.checkpoint or {}).get("tracks", 0)
    total, more = done + left, True
    while more:
        give_way_to_shutdown(job)
        async with job.effect(stage="removing", units_total=total, units_done=done) as work:
            more = await _forget_some(work, library_id)
            done = done + _BATCH if more else total
            await job.keep(work, {"library": library.name, "tracks": done})
    async with job.effect() as work:
        # What was enqueued since the request. Before anything is locked that such a job may want.
        await cancel_jobs_of(broker.ledger, work, library_id, besides=job.id)
        await _forget_some(work, library_id)
        await hold_libraries(work.session)
        await work.session.execute(delete(Library).where(Library.id == library_id))
        tell_library_change(work, library_id, removed=True)
    return {"library": library.name, "tracks": done}


async def _forget_some(work: UnitOfWork, library_id: int) -> bool:
    """Whether there may be more."""
    await hold_tracks_of_removed(work.session, library_id)
    some = select(Track.id).where(Track.library_id == library_id).limit(_BATCH)
    gone = (
        await work.session.scalars(delete(Track).where(Track.id.in_(some.scalar_subquery())).returning(Track.id))
    ).all()
    tell_tracks(work, DELETED, library_id, len(gone), gone)
    return len(gone) == _BATCH


def _removed(job: RunningJob) -> dict[str, Any]:
    return dict(job.checkpoint or {"library": None, "tracks": 0})


async def cancel_jobs_of(ledger: Ledger, work: UnitOfWork, library_id: int, *, besides: str | None = None) -> None:
    """Cancel what is open about a library, as a person would."""
    open_jobs = await work.session.scalars(
        select(Job.id)
        .where(
            Job.state.not_in(TERMINAL_STATES),
            Job.parent_id.is_(None),
            is_about(library_id),
            Job.id != (besides or ""),
        )
        .order_by(Job.id)
    )
    for job_id in open_jobs.all():
        await hold_family(work, job_id)
        await cancel_open(ledger, work, job_id)


async def follow_move(job: RunningJob, library_id: int) -> dict[str, Any]:
    """Take the files that are as they were in the old folder for the same; a scan does the rest."""
    library = await find_library(library_id)
    adopted = await adopt_files_of(services().database, library, job.effect)
    async with job.effect():
        (scan,) = await broker.enqueue_many([scan_job(library_id, requested_by=job.started.requested_by or "mus")])
    return {"adopted": adopted, "scan": scan}


async def give_way_to_follow(library: LocalLibrary) -> None:
    """Raises Snooze while the files of a library that got another folder are yet to be known again.

    A scan that came first would read and analyse them all.
    """
    if library.device is not None:
        return
    async with services().database.reading() as session:
        following = select(Job.id).where(
            Job.task == FOLLOW_TASK, Job.state.not_in(TERMINAL_STATES), is_about(library.id)
        )
        if await session.scalar(following.limit(1)) is not None:
            raise Snooze(0.5, "the library's files in its other folder are looked at first")
