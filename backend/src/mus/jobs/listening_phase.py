"""Listening to whole sounds, behind everything else: loudness, integrity and waveform (`library.listening`).

The work list is what lacks in the table `track_sound`, in parts like the slow phase's, newest tracks first. A job
makes room as soon as the slow phase has work: exact lengths, hashes and covers come first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import ErrorCategory, Snooze, TemporaryError
from mus.jobs.mount_guard import check_still_there
from mus.jobs.services import find_library, services
from mus.jobs.telling import UPDATED, tell_tracks
from mus.jobs.under_way import UnderWay
from mus.ledger.job_states import JobState
from mus.library.listening import ASPECT_VERSIONS, Aspect, Listening
from mus.library.states import TrackState
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job, Library, Track, TrackSound, utc_now
from mus.persistence.track_sounds import OWN_SOUND, count_attempt, keep_listening, keep_unchecked
from mus.persistence.work_lists import PARTS, is_unheard, lacking

#: Tracks between two commits, and how long they last together: at a hundred times as fast as it sounds, on a slow
#: machine, the slow phase waits ten seconds for its slot, and so does whoever stops the worker.
_BATCH, _BATCH_SECONDS = 8, 1000.0
#: A job that took this long makes room for others of its queue; another goes on where it ended.
_LONGEST_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
#: How long it stands back for the slow phase.
_STAND_BACK_SECONDS = 5.0

_Unheard = Row[int, int, bytes, bytes | None, float | None, int, int, int]
_WorkList = Select[int, int, bytes, bytes | None, float | None, int, int, int]


def wanted_aspects() -> frozenset[Aspect]:
    """What the settings have on."""
    return frozenset(Aspect(name) for name in services().settings.aspects)


async def request_listening(session: AsyncSession, parts: Iterable[int] = range(PARTS)) -> None:
    """Enqueue a job for each of these parts of the work list that has work, in the current unit of work."""
    aspects = wanted_aspects()
    for part in parts if aspects else ():
        if (await session.execute(_work(part, aspects).limit(1))).first() is not None:
            await _enqueue(part, None)


async def _enqueue(part: int, later: datetime | None, *, done: int = 0) -> None:
    key = f"listen:{part}"
    await broker.enqueue(
        Queue.LOW,
        "listen_to_tracks",
        Options(dedupe_key=key, exclusive_key=key, delay_until=later),
        part=part,
        done=done,
    )


def _work(part: int, aspects: Collection[Aspect]) -> _WorkList:
    return (
        select(
            Track.id,
            Track.library_id,
            Track.path,
            Track.audio_hash,
            Track.duration_seconds,
            TrackSound.loudness_version,
            TrackSound.integrity_version,
            TrackSound.waveform_version,
        )
        .join(Library, Library.id == Track.library_id)
        .join(TrackSound, OWN_SOUND, isouter=True)
        .where(is_unheard(aspects), Track.id % PARTS == part, Library.online)
        .where(Library.removing_since.is_(None))
    )


async def listen_to_part(job: RunningJob, part: int, done: int) -> dict[str, Any]:
    """Listen to the newest tracks of a part until none is left, the time is up, or the slow phase has work.

    It counts on from the `done` ones of the jobs that it goes on for.

    Raises TemporaryError when nothing of a batch could be read now.
    """
    counts = {"heard": 0, "failed": 0, "superseded": 0}
    aspects = wanted_aspects()
    if not aspects:
        return counts
    under_way = UnderWay(job)
    async with services().database.reading() as session:
        left = await session.scalar(select(func.count()).select_from(_work(part, aspects).subquery())) or 0
    began = time.monotonic()
    stands_back = False
    while time.monotonic() - began < _LONGEST_SECONDS and not job.draining:
        async with services().database.reading() as session:
            if stands_back := await _slow_phase_waits(session):
                break
            work_list = _work(part, aspects).where(under_way.choice).order_by(Track.id.desc())
            rows = (await session.execute(work_list.limit(_BATCH))).all()
        if not rows:
            if under_way.go_on():
                continue
            return counts
        batch = _alike(rows, aspects)
        library = await find_library(batch[0].library_id)
        await under_way.begin([row.id for row in batch])
        found = await _heard(library, batch, aspects, under_way)
        if all(listening.vanished for listening in found):
            await under_way.nobody_died()
            await asyncio.to_thread(check_still_there, library)
        so_far = done + sum(counts.values()) + len(batch)
        units = {"units_done": so_far, "units_total": max(done + left, so_far)}
        async with job.effect(stage="listening", **units) as work:
            await hold_tracks(work.session, library.id)
            changed: list[int] = []
            for row, listening in zip(batch, found, strict=True):
                outcome = await _store(work.session, row, listening, _lacking(row, aspects))
                counts[outcome] += 1
                if outcome != "superseded":
                    changed.append(row.id)
            tell_tracks(work, UPDATED, library.id, len(changed), changed)
            await under_way.end(work)
        _raise_if_all_temporary(found)
    if stands_back and not any(counts.values()):
        raise Snooze(_STAND_BACK_SECONDS, "the slow phase comes first")
    async with job.effect() as work:
        if (await work.session.execute(_work(part, aspects).limit(1))).first() is not None:
            pause = _STAND_BACK_SECONDS if stands_back else _PAUSE_SECONDS
            await _enqueue(part, utc_now() + timedelta(seconds=pause), done=done + sum(counts.values()))
    return counts


async def _slow_phase_waits(session: AsyncSession) -> bool:
    """Whether one of its jobs is due and not started: this one's slot may be what it waits for."""
    due = or_(Job.run_after.is_(None), Job.run_after <= utc_now())
    waiting = select(Job.id).where(
        Job.state == JobState.QUEUED, Job.queue == Queue.LOW, Job.task == "process_slow_metadata", due
    )
    return (await session.execute(waiting.limit(1))).first() is not None


def _alike(rows: Sequence[_Unheard], aspects: Collection[Aspect]) -> list[_Unheard]:
    """The first rows that one reader can take: of one library, with the same lacking, not too long together."""
    batch: list[_Unheard] = []
    seconds = 0.0
    for row in rows:
        seconds += row.duration_seconds or 0.0
        is_alike = row.library_id == rows[0].library_id and _lacking(row, aspects) == _lacking(rows[0], aspects)
        if batch and (not is_alike or seconds > _BATCH_SECONDS):
            break
        batch.append(row)
    return batch


def _lacking(row: _Unheard, aspects: Collection[Aspect]) -> frozenset[Aspect]:
    versions = {aspect: getattr(row, f"{aspect}_version") for aspect in ASPECT_VERSIONS}
    return lacking(versions, aspects)


async def _heard(
    library: LocalLibrary, batch: Sequence[_Unheard], aspects: Collection[Aspect], under_way: UnderWay
) -> list[Listening]:
    if under_way.culprit is not None:
        return [Listening(row.path, unchecked=under_way.reason) for row in batch]
    return await services().patient_readers.run(
        "listen",
        library.root,
        [row.path for row in batch],
        aspects=_lacking(batch[0], aspects),
        file_timeout_seconds=services().settings.file_timeout_seconds,
    )


def _raise_if_all_temporary(found: list[Listening]) -> None:
    if all(listening.error_category == ErrorCategory.TEMPORARY for listening in found):
        raise TemporaryError(f"Nothing can be listened to now: {found[0].error_message}")


async def _store(session: AsyncSession, row: _Unheard, listening: Listening, aspects: Collection[Aspect]) -> str:
    """Write what was found, if the track still has the sound that was listened to."""
    assert row.audio_hash is not None
    is_same = Track.id == row.id, Track.audio_hash == row.audio_hash, Track.status == TrackState.COMPLETE
    still = select(Track.id).where(*is_same, Track.analysis_version > 0)
    if (await session.execute(still)).first() is None:
        return "superseded"
    if listening.unchecked is not None:
        await keep_unchecked(session, row.id, row.audio_hash, listening.unchecked, aspects)
        return "failed"
    if listening.audio_hash != row.audio_hash.hex():
        # Gone, busy, or another sound by now, of which nobody has told yet.
        await count_attempt(session, row.id, row.audio_hash)
        return "superseded"
    if listening.is_undecodable:
        await session.execute(
            update(Track)
            .where(*is_same)
            .values(
                status=TrackState.ERROR,
                error_category=listening.error_category,
                error_message=listening.error_message,
                updated_at=utc_now(),
            )
        )
        return "failed"
    await keep_listening(session, row.id, listening, aspects)
    return "heard"
