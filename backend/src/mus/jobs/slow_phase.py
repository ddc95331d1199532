"""The slow phase: what takes long and nobody waits for. The track rows are its work list.

The tracks are dealt out over a few parts by id; one job at a time works a part off, newest tracks first. When a
part is done, its tracks are listened to (`listening_phase`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import ErrorCategory, TemporaryError
from mus.jobs.listening_phase import request_listening
from mus.jobs.lost_tracks import reunite_heard
from mus.jobs.mount_guard import check_still_there
from mus.jobs.services import find_library, services
from mus.jobs.telling import UPDATED, tell_tracks
from mus.jobs.under_way import UnderWay
from mus.ledger.job_states import JobState
from mus.library.analysis import ANALYSIS_VERSION, Analysis
from mus.library.states import TrackState
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job, Library, Track, utc_now
from mus.persistence.track_sounds import forget_unchecked, has_attempts, renew_attempts
from mus.persistence.work_lists import MAX_LOOKS, PARTS, is_new, is_outdated

#: Tracks between two commits.
BATCH = 24
#: A job that took this long makes room for others of its queue; another goes on where it ended.
LONGEST_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
_ANALYSED_STATES = (TrackState.PENDING, TrackState.COMPLETE)


async def request_analysis(session: AsyncSession, *, in_seconds: float = 0.0, with_outdated: bool = False) -> None:
    """Enqueue a job for each part of the work list that has work, in the current unit of work.

    `with_outdated` also looks for what an older version of the analysis left, and so at every single track.
    """
    keys = {part: _key(part) for part in range(PARTS)}
    waiting = set(
        await session.scalars(
            select(Job.dedupe_key).where(Job.dedupe_key.in_(keys.values()), Job.state == JobState.QUEUED)
        )
    )
    others = [part for part, key in keys.items() if key not in waiting]
    if not others:
        return
    # In one statement: through a session each takes longer than what it asks for, and every scan ends with them.
    asked = [_has_work(part, with_outdated=with_outdated) for part in others]
    has_work = (await session.execute(select(*asked))).one()
    later = utc_now() + timedelta(seconds=in_seconds) if in_seconds else None
    for part, has in zip(others, has_work, strict=True):
        if has:
            await _enqueue(part, later)


def _has_work(part: int, *, with_outdated: bool) -> ColumnElement[bool]:
    works = (is_new(), is_outdated()) if with_outdated else (is_new(),)
    # Each by an index of its own.
    return or_(*(select(Track.id).where(work, Track.id % PARTS == part).exists() for work in works)).label(
        f"p{part}"
    )


async def renew_looks(session: AsyncSession, library_id: int) -> None:
    """Tracks that could not be analysed in `MAX_LOOKS` looks get as many again: whatever was wrong may be over."""
    await renew_attempts(session, library_id)
    given_up = (
        Track.library_id == library_id,
        Track.status == TrackState.PENDING,
        Track.analysis_attempts >= MAX_LOOKS,
    )
    await session.execute(update(Track).where(*given_up).values(analysis_attempts=0))


async def needs_renewed_looks(session: AsyncSession, most_looks: int) -> bool:
    """Whether `renew_looks` may have anything to do in a library of whose tracks none was looked at more often."""
    return most_looks >= MAX_LOOKS or await has_attempts(session)


def _key(part: int) -> str:
    return f"slow:{part}"


async def _enqueue(part: int, later: datetime | None, *, done: int = 0) -> None:
    key = _key(part)
    await broker.enqueue(
        Queue.LOW,
        "process_slow_metadata",
        Options(dedupe_key=key, exclusive_key=key, delay_until=later),
        part=part,
        done=done,
    )


async def analyse_part(job: RunningJob, part: int, done: int) -> dict[str, Any]:
    """Analyse the newest pending tracks of a part until none is left or the time is up.

    It counts on from the `done` ones of the jobs that it goes on for: to a person they are one piece of work.

    Raises TemporaryError when nothing of a batch could be analysed now, as on a full disk or without the music's.
    """
    counts = {"analysed": 0, "failed": 0, "superseded": 0}
    under_way = UnderWay(job)
    began = time.monotonic()
    total = 0
    while time.monotonic() - began < LONGEST_SECONDS and not job.draining:
        async with services().database.reading() as session:
            rows = (await session.execute(_next(part, under_way))).all()
            # Counting looks at every track of a library; of few the rows are the count.
            if not total and len(rows) == BATCH:
                total = done + (await session.scalar(select(func.count()).select_from(_work(part).subquery())) or 0)
        if not rows:
            if under_way.go_on():
                continue
            async with job.effect() as work:
                await request_listening(work.session, [part])
            return counts
        library = await find_library(rows[0].library_id)
        batch = [row for row in rows if row.library_id == library.id]
        await under_way.begin([row.id for row in batch])
        found = await _analysed(library, batch, under_way)
        if all(analysis.vanished for analysis in found):
            await under_way.nobody_died()
            await asyncio.to_thread(check_still_there, library)
        so_far = done + sum(counts.values()) + len(batch)
        total = max(total, so_far)
        async with job.effect(stage="analysing", units_done=so_far, units_total=total) as work:
            # In a fixed order, and each in one go: a batch may be of several libraries with one root.
            for library_id in sorted({row.library_id for row in batch}):
                await hold_tracks(work.session, library_id)
            changed: dict[int, list[int]] = {}
            first_heard: dict[int, list[int]] = {}
            for row, analysis in zip(batch, found, strict=True):
                outcome = await _store(work.session, row, analysis)
                counts[outcome] += 1
                if outcome != "superseded":
                    changed.setdefault(row.library_id, []).append(row.id)
                if outcome == "analysed" and row.audio_hash is None:
                    first_heard.setdefault(row.library_id, []).append(row.id)
            for library_id, track_ids in changed.items():
                tell_tracks(work, UPDATED, library_id, len(track_ids), track_ids)
                await forget_unchecked(work.session, track_ids)
            for library_id, track_ids in first_heard.items():
                await reunite_heard(work, library_id, track_ids)
            await under_way.end(work)
        _raise_if_all_temporary(found)
    async with job.effect() as work:
        if (await work.session.execute(_work(part).limit(1))).first() is not None:
            later = utc_now() + timedelta(seconds=_PAUSE_SECONDS)
            await _enqueue(part, later, done=done + sum(counts.values()))
        else:
            await request_listening(work.session, [part])
    return counts


async def _analysed(
    library: LocalLibrary, batch: Sequence[Row[int, bytes, int, int, int, bytes | None]], under_way: UnderWay
) -> list[Analysis]:
    if under_way.culprit is not None:
        return [
            Analysis(row.path, error_category=ErrorCategory.USER_FIXABLE, error_message=under_way.reason)
            for row in batch
        ]
    return await services().patient_readers.run(
        "analyse",
        library.root,
        [row.path for row in batch],
        thumbnails_dir=services().settings.thumbnails_dir,
        file_timeout_seconds=services().settings.file_timeout_seconds,
    )


def _work(part: int) -> Select[int, bytes, int, int, int, bytes | None]:
    return (
        select(Track.id, Track.path, Track.size, Track.mtime_ns, Track.library_id, Track.audio_hash)
        .join(Library, Library.id == Track.library_id)
        .where(or_(is_outdated(), is_new()), Track.id % PARTS == part, Library.online)
        .where(Library.removing_since.is_(None))
    )


def _next(part: int, under_way: UnderWay) -> Select[int, bytes, int, int, int, bytes | None]:
    return _work(part).where(under_way.choice).order_by(Track.id.desc()).limit(BATCH)


def _raise_if_all_temporary(found: Sequence[Analysis]) -> None:
    # One such file is its own trouble, and stands aside after MAX_LOOKS; all of them are the machine's.
    if all(analysis.error_category == ErrorCategory.TEMPORARY for analysis in found):
        raise TemporaryError(f"Nothing can be analysed now: {found[0].error_message}")


async def _store(
    session: AsyncSession, row: Row[int, bytes, int, int, int, bytes | None], analysis: Analysis
) -> str:
    """Write what was found, if the track still is about the version that was analysed."""
    brought_nothing = (
        analysis.vanished or analysis.changed_while_reading or analysis.error_category == ErrorCategory.TEMPORARY
    )
    # Without a stat it hung or crashed the reader: that is about the version that was to be analysed.
    size, mtime_ns = (row.size, row.mtime_ns) if (stat := analysis.stat) is None else (stat.size, stat.mtime_ns)
    if not brought_nothing:
        stored = await session.execute(
            update(Track)
            .where(
                Track.id == row.id,
                Track.size == size,
                Track.mtime_ns == mtime_ns,
                Track.status.in_(_ANALYSED_STATES),
            )
            .values(**_values(analysis))
            .returning(Track.id)
        )
        if stored.one_or_none() is not None:
            return "failed" if analysis.error_message is not None else "analysed"
    # It vanished, or changed since the row was written: the job that reads it again resets the count.
    await session.execute(
        update(Track).where(Track.id == row.id).values(analysis_attempts=Track.analysis_attempts + 1)
    )
    return "superseded"


def _values(analysis: Analysis) -> dict[str, Any]:
    values: dict[str, Any] = {
        "analysis_version": ANALYSIS_VERSION, "analysis_attempts": 0, "updated_at": utc_now(),
    }  # fmt: skip
    if analysis.error_message is not None:
        return values | {
            "status": TrackState.ERROR,
            "error_category": analysis.error_category,
            "error_message": analysis.error_message,
        }
    values |= {"status": TrackState.COMPLETE, "cover": analysis.cover}
    if analysis.audio_hash is not None:
        values["audio_hash"] = bytes.fromhex(analysis.audio_hash)
    if analysis.duration_seconds is not None:
        values["duration_seconds"] = analysis.duration_seconds
    return values
