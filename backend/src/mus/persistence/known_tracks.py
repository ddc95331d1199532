"""What the database knows of tracks, for those that compare it with the disk: many rows at once.

As in `batch_operations`, every function works in the session of a unit of work, or of a reading, and never commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from mus.library.scan_plan import KnownRow, KnownTrack
from mus.library.states import LIVE_STATES, TrackState
from mus.persistence.models import Track

T = TypeVar("T")

#: Most variables in one statement: SQLite allows 32,766, but its query planner likes shorter lists.
LOOKUP_BATCH = 500

#: Of a device, so many tracks are enough to ask; and so many may be left out of them by id (a statement's limit).
_SOME, _MOST_LEFT_OUT = 32, 5000

#: In the order of KnownTrack.
_TRACKS = cast("Table", Track.__table__)
_KNOWN = tuple(_TRACKS.c[name] for name in KnownTrack._fields)
_NOT_TRASHED = _TRACKS.c.status != TrackState.TRASHED


async def known_tracks(session: AsyncSession, library_id: int) -> list[KnownRow]:
    """Every track of a library that a scan compares, all but the trashed, as rows with the fields of KnownTrack."""
    library: ColumnElement[int] = _TRACKS.c.library_id
    if session.get_bind().dialect.name == "sqlite":
        # Not by its index on paths, from which each row is looked up: it takes half as long again.
        library = library + 0
    # The driver's own tuples: with rows of SQLAlchemy's a scan that finds nothing new spent a quarter of its time.
    query = select(*_KNOWN).where(library == library_id, _NOT_TRASHED)
    connection = await session.connection()
    return list(await connection.run_sync(lambda sync: sync.execute(query).cursor.fetchall()))


async def tracks_at(session: AsyncSession, library_id: int, paths: Sequence[bytes]) -> list[KnownTrack]:
    """The known tracks at these paths."""
    return await _known_where(session, library_id, _TRACKS.c.path, paths)


async def tracks_with_inodes(session: AsyncSession, library_id: int, inodes: Sequence[int]) -> list[KnownTrack]:
    """The known tracks that had one of these inodes."""
    return await _known_where(session, library_id, _TRACKS.c.inode, inodes)


async def tracks_with_ids(session: AsyncSession, library_id: int, track_ids: Sequence[int]) -> list[KnownTrack]:
    """These tracks, unless they were trashed meanwhile."""
    return await _known_where(session, library_id, _TRACKS.c.id, track_ids)


async def _known_where(
    session: AsyncSession, library_id: int, column: ColumnElement[Any], values: Sequence[Any]
) -> list[KnownTrack]:
    found: list[KnownTrack] = []
    connection = await session.connection()
    for start in range(0, len(values), LOOKUP_BATCH):
        asked = {"library": library_id, "values": values[start : start + LOOKUP_BATCH]}
        found += map(KnownTrack._make, await connection.execute(_lookup(column), asked))
    return found


@cache
def _lookup(column: ColumnElement[Any]) -> Select[Any]:
    """Made once: to make it with each of 500 values in it took as long as the database did."""
    return select(*_KNOWN).where(
        _TRACKS.c.library_id == bindparam("library"),
        _NOT_TRASHED,
        column.in_(bindparam("values", expanding=True)),
    )


async def _known(session: AsyncSession, library_id: int, condition: ColumnElement[bool]) -> list[KnownTrack]:
    query = select(*_KNOWN).where(_TRACKS.c.library_id == library_id, _NOT_TRASHED, condition)
    return [KnownTrack._make(row) for row in await (await session.connection()).execute(query)]


async def tracks_below(session: AsyncSession, library_id: int, folder: bytes) -> list[KnownTrack]:
    """The known tracks in a folder and its subfolders."""
    return await _known(session, library_id, _is_below(folder))


def _is_below(folder: bytes) -> Any:
    return and_(Track.path > folder + b"/", Track.path < folder + b"0")  # the byte after "/"


async def other_tracks_on(
    session: AsyncSession, library_id: int, devices: Collection[int], besides: Collection[int]
) -> list[KnownTrack]:
    """Some live tracks on each of these devices, the newest first, without the ids `besides`."""
    found: list[KnownTrack] = []
    for device in devices:
        query = (
            select(*_KNOWN)
            .where(
                Track.library_id == library_id,
                Track.device == device,
                Track.status.in_(LIVE_STATES),
                Track.id.not_in(list(besides)[:_MOST_LEFT_OUT]),
            )
            .order_by(Track.id.desc())
            .limit(_SOME)
        )
        found += [KnownTrack._make(row) for row in await session.execute(query)]
    return found


async def paths_of(session: AsyncSession, track_ids: Sequence[int]) -> dict[int, bytes]:
    """Where these tracks are by the database; a parked one (`paths.parked`) by its parked path."""
    return await _values_of(session, track_ids, Track.path)


async def last_writes(session: AsyncSession, track_ids: Sequence[int]) -> dict[int, datetime]:
    """When these tracks were last written, to be read before the disk is looked at; see
    `batch_operations.mark_missing`."""
    return await _values_of(session, track_ids, Track.updated_at)


async def _values_of(
    session: AsyncSession, track_ids: Sequence[int], column: InstrumentedAttribute[T]
) -> dict[int, T]:
    values: dict[int, T] = {}
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        batch = track_ids[start : start + LOOKUP_BATCH]
        rows = await session.execute(select(Track.id, column).where(Track.id.in_(batch)))
        values.update((track_id, value) for track_id, value in rows)
    return values


async def live_count(session: AsyncSession, library_id: int) -> int:
    """Tracks of a library whose file is believed to be in its place."""
    return await _count(session, library_id, Track.status.in_(LIVE_STATES))


async def error_count(session: AsyncSession, library_id: int, below: bytes) -> int:
    """Tracks in ERROR in a folder and its subfolders; an empty path is the whole library."""
    folder = (_is_below(below),) if below else ()
    return await _count(session, library_id, Track.status == TrackState.ERROR, *folder)


async def missing_since_count(session: AsyncSession, library_id: int, since: datetime) -> int:
    """Tracks that went missing after that."""
    return await _count(session, library_id, Track.status == TrackState.MISSING, Track.updated_at > since)


async def _count(session: AsyncSession, library_id: int, *conditions: Any) -> int:
    return (
        await session.execute(
            select(func.count()).select_from(Track).where(Track.library_id == library_id, *conditions)
        )
    ).scalar_one()
