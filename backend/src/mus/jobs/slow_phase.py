"""The slow phase: what takes long and nobody waits for. The track rows are its work list.

The tracks are dealt out over a few parts by id; one job at a time works a part off, newest tracks first.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.jobs.services import services
from mus.library.analysis import ANALYSIS_VERSION, Analysis
from mus.library.states import TrackState
from mus.persistence.models import Library, Track, utc_now

PARTS = 4
#: Tracks between two commits.
BATCH = 24
#: A job that took this long makes room for others of its queue; another goes on where it ended.
LONGEST_SECONDS = 30.0
#: Looks at one version of a file that brought nothing (it vanished, it changed meanwhile, the disk was full).
MAX_LOOKS = 3


async def request_analysis(session: AsyncSession, *, in_seconds: float = 0.0) -> None:
    """Enqueue a job for each part of the work list that has work, in the current unit of work."""
    parts = await session.execute(select(Track.id % PARTS).where(_is_due()).distinct())
    later = utc_now() + timedelta(seconds=in_seconds) if in_seconds else None
    for part in parts.scalars().all():
        key = f"slow:{part}"
        await broker.enqueue(
            Queue.LOW,
            "process_slow_metadata",
            Options(dedupe_key=key, exclusive_key=key, delay_until=later),
            part=part,
        )


def _is_due() -> Any:
    # An ERROR comes from reading or from this very analysis: it changes when the file does, or by a retry.
    stale = (Track.status == TrackState.COMPLETE) & (Track.analysis_version < ANALYSIS_VERSION)
    fresh = (Track.status == TrackState.PENDING) & (Track.analysis_attempts < MAX_LOOKS)
    return or_(stale, fresh)


async def analyse_part(job: RunningJob, part: int) -> dict[str, Any]:
    """Analyse the newest pending tracks of a part until none is left or the time is up."""
    counts = {"analysed": 0, "failed": 0, "superseded": 0}
    began = time.monotonic()
    while time.monotonic() - began < LONGEST_SECONDS and not job.draining:
        async with services().database.reading() as session:
            rows = (
                await session.execute(
                    select(Track.id, Track.path, Library.root)
                    .join(Library, Library.id == Track.library_id)
                    .where(_is_due(), Track.id % PARTS == part, Library.online)
                    .order_by(Track.id.desc())
                    .limit(BATCH)
                )
            ).all()
        if not rows:
            return counts
        root = rows[0].root
        batch = [row for row in rows if row.root == root]
        found = await services().patient_readers.run(
            "analyse",
            root,
            [row.path for row in batch],
            thumbnails_dir=services().settings.thumbnails_dir,
            file_timeout_seconds=services().settings.file_timeout_seconds,
        )
        async with job.effect(stage="analysing") as work:
            for row, analysis in zip(batch, found, strict=True):
                counts[await _store(work.session, row.id, analysis)] += 1
    async with job.effect() as work:
        if await _left(work.session, part):
            await broker.enqueue(
                Queue.LOW,
                "process_slow_metadata",
                Options(
                    dedupe_key=f"slow:{part}",
                    exclusive_key=f"slow:{part}",
                    delay_until=utc_now() + timedelta(seconds=0.5),
                ),
                part=part,
            )
    return counts


async def _left(session: AsyncSession, part: int) -> int:
    query = select(func.count()).select_from(Track).where(_is_due(), Track.id % PARTS == part)
    return (await session.execute(query)).scalar_one()


async def _store(session: AsyncSession, track_id: int, analysis: Analysis) -> str:
    """Write what was found, if the row still is about the version that was analysed."""
    stat = analysis.stat
    if stat is None or analysis.changed_while_reading or analysis.error_category == "temporary":
        await session.execute(
            update(Track).where(Track.id == track_id).values(analysis_attempts=Track.analysis_attempts + 1)
        )
        return "superseded"
    values: dict[str, Any] = {"analysis_version": ANALYSIS_VERSION, "updated_at": utc_now()}
    if analysis.error_message is not None:
        values |= {
            "status": TrackState.ERROR,
            "error_category": analysis.error_category,
            "error_message": analysis.error_message,
        }
    else:
        values |= {"status": TrackState.COMPLETE, "cover": analysis.cover}
        if analysis.duration_seconds is not None:
            values["duration_seconds"] = analysis.duration_seconds
    stored = await session.execute(
        update(Track)
        .where(
            Track.id == track_id,
            Track.size == stat.size,
            Track.mtime_ns == stat.mtime_ns,
            Track.status.in_((TrackState.PENDING, TrackState.COMPLETE)),
        )
        .values(**values)
        .returning(Track.id)
    )
    if stored.one_or_none() is None:
        # The file changed since the row was written: the job that reads it again resets the count.
        await session.execute(
            update(Track).where(Track.id == track_id).values(analysis_attempts=Track.analysis_attempts + 1)
        )
        return "superseded"
    return "failed" if analysis.error_message is not None else "analysed"
