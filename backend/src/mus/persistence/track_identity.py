"""Which track is whose: sketches of tracks to be compared, and two rows that turn out to be one track.

As in `batch_operations`, every function works in the session of a unit of work and never commits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from mus.library.recognition import Sketch, is_copy
from mus.library.states import LIVE_STATES, TrackState
from mus.persistence.known_tracks import LOOKUP_BATCH
from mus.persistence.models import Edit, Track, TrashEntry, utc_now

_TRACKS = cast("Table", Track.__table__)
_SKETCHED = tuple(_TRACKS.c[name] for name in Sketch._fields)
#: Of tracks that are missing, the last so many are looked for among new files.
_MOST_MISSING = 5000
#: A copy that is younger than this, when the file it was made from goes, was made to move it.
_MOVED_BY_COPY = timedelta(days=1)
#: What a track keeps when another row turns out to be its file.
_OWN_COLUMNS = frozenset({"id", "library_id", "added_at"})


async def newest_id(session: AsyncSession) -> int:
    """The highest id of a track so far; new tracks get higher ones."""
    return (await session.execute(select(func.max(Track.id)))).scalar() or 0


async def sketches_of(session: AsyncSession, track_ids: Sequence[int]) -> list[Sketch]:
    """Sketches of these tracks, unless they were trashed meanwhile."""
    found: list[Sketch] = []
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        found += await _sketches(session, Track.id.in_(track_ids[start : start + LOOKUP_BATCH]))
    return found


async def missing_sketches(session: AsyncSession, library_id: int) -> list[Sketch]:
    """Missing tracks of a library, those that went last first."""
    # By the index on the status: SQLite takes that of library and path for the better one, and went through all
    # tracks for the few, or none, that are missing.
    query = (
        select(*_SKETCHED)
        .where(Track.library_id + 0 == library_id, Track.status == TrackState.MISSING)
        .order_by(Track.updated_at.desc())
        .limit(_MOST_MISSING)
    )
    return [Sketch._make(row) for row in await session.execute(query)]


async def newcomers(session: AsyncSession, library_id: int, *, after_id: int) -> list[Sketch]:
    """Live tracks of a library with higher ids than that."""
    return await _sketches(
        session, Track.library_id == library_id, Track.id > after_id, Track.status.in_(LIVE_STATES)
    )


async def young_copies(session: AsyncSession, library_id: int, lost: Sequence[Sketch]) -> list[Sketch]:
    """Live tracks that may have been made, by copying, to move the lost ones: young, and made when those were
    known already. Two copies that were met together stay two tracks when one of them goes."""
    since = utc_now() - _MOVED_BY_COPY
    found: dict[int, Sketch] = {}
    for start in range(0, len(lost), LOOKUP_BATCH):
        batch = lost[start : start + LOOKUP_BATCH]
        added = await _added(session, batch)
        rows = await _sketches(
            session,
            Track.library_id == library_id,
            Track.added_at > since,
            Track.status.in_(LIVE_STATES),
            Track.id > min(one.id for one in batch),
            _may_sound_like(batch),
        )
        found.update(
            (copy.id, copy)
            for copy in rows
            if any(
                copy.id > one.id and is_copy(one, copy) and copy.ctime_ns > _nanoseconds(added[one.id])
                for one in batch
                if one.id in added
            )
        )
    return [copy for copy in found.values() if copy.id not in {one.id for one in lost}]


async def common_sounds(
    session: AsyncSession, library_id: int, sounds: Collection[bytes], *, besides: Collection[int]
) -> set[bytes]:
    """Those of the hashes that at least two tracks of the library have, missing ones too, `besides` these."""
    holders: dict[bytes, set[int]] = defaultdict(set)
    listed = list(sounds)
    for start in range(0, len(listed), LOOKUP_BATCH):
        query = select(Track.audio_hash, Track.id).where(
            Track.audio_hash.in_(listed[start : start + LOOKUP_BATCH]),
            Track.library_id == library_id,
            Track.status != TrackState.TRASHED,
        )
        for row in await session.execute(query):
            holders[row.audio_hash].add(row.id)
    return {sound for sound, ids in holders.items() if len(ids.difference(besides)) > 1}


async def missing_with_sounds_of(session: AsyncSession, track_ids: Sequence[int]) -> list[tuple[Sketch, Sketch]]:
    """Pairs of a missing track and one of these, live ones, that has the same sound and came after it.

    It came after if it was added when that was missing already, or its file was made when that was known already.
    """
    new, old = aliased(Track), aliased(Track)
    rows = await session.execute(
        select(old.id.label("old"), new.id.label("new"), old.updated_at, old.added_at, new.added_at.label("came"))
        .join(new, and_(new.audio_hash == old.audio_hash, new.library_id == old.library_id))
        .where(
            new.id.in_(track_ids),
            new.status.in_(LIVE_STATES),
            old.status == TrackState.MISSING,
            old.id < new.id,
        )
        .order_by(old.id)
    )
    pairs = rows.all()
    sketches = {
        one.id: one for one in await sketches_of(session, [id_ for row in pairs for id_ in (row.old, row.new)])
    }
    return [
        (sketches[row.old], sketches[row.new])
        for row in pairs
        if row.old in sketches
        and row.new in sketches
        and (row.came > row.updated_at or sketches[row.new].ctime_ns > _nanoseconds(row.added_at))
    ]


def _may_sound_like(lost: Iterable[Sketch]) -> ColumnElement[bool]:
    hashes = list({one.audio_hash for one in lost if one.audio_hash is not None})
    return or_(
        and_(Track.audio_hash.in_(hashes), Track.analysis_version > 0),
        and_(Track.title.in_({one.title for one in lost}), Track.analysis_version == 0),
    )


async def _added(session: AsyncSession, tracks: Sequence[Sketch]) -> dict[int, datetime]:
    rows = await session.execute(select(Track.id, Track.added_at).where(Track.id.in_([one.id for one in tracks])))
    return {row.id: row.added_at for row in rows}


def _nanoseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


async def _sketches(session: AsyncSession, *conditions: Any) -> list[Sketch]:
    rows = await session.execute(
        select(*_SKETCHED).where(Track.status != TrackState.TRASHED, *conditions).order_by(Track.id)
    )
    return [Sketch._make(row) for row in rows]


async def merge_tracks(session: AsyncSession, lost: Sketch, found: Sketch) -> str | None:
    """Make the lost track the one whose file the found one is: its id and dates stay, the found one's row goes.

    Returns the state in which the lost track was; None, and nothing happens, when one of the two is not as in its
    sketch any more, on its way to the trash, or edited just now.
    """
    rows = {
        row.id: row for row in await session.execute(select(_TRACKS).where(_TRACKS.c.id.in_([lost.id, found.id])))
    }
    old, new = rows.get(lost.id), rows.get(found.id)
    trashed = await session.execute(
        select(TrashEntry.id).where(TrashEntry.track_id.in_([lost.id, found.id])).limit(1)
    )
    edited = await session.execute(
        select(Edit.id).where(Edit.track_id.in_([lost.id, found.id]), Edit.state != "done").limit(1)
    )
    if (
        old is None
        or new is None
        or trashed.first() is not None
        or edited.first() is not None
        or old.status not in LIVE_STATES | {TrackState.MISSING}
        or new.status not in LIVE_STATES
        or (old.path, old.size, old.mtime_ns) != (lost.path, lost.size, lost.mtime_ns)
        or (new.path, new.size, new.mtime_ns) != (found.path, found.size, found.mtime_ns)
    ):
        return None
    values = {name: value for name, value in new._mapping.items() if name not in _OWN_COLUMNS}
    if new.analysis_version == 0:
        values |= {"audio_hash": old.audio_hash, "cover": old.cover}
    await session.execute(update(Edit).where(Edit.track_id == found.id).values(track_id=lost.id))
    await session.execute(delete(Track).where(Track.id == found.id))
    await session.execute(
        update(_TRACKS).where(_TRACKS.c.id == lost.id).values(**values | {"updated_at": utc_now()})
    )
    return str(old.status)
