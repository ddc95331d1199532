"""What the database knows of tracks, for those that compare it with the disk: many rows at once.

As in `batch_operations`, every function works in the session of a unit of work, or of a reading, and never commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Table, and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from mus.errors import ErrorCategory
from mus.library.scan_plan import KnownRow, KnownTrack, Settled
from mus.library.states import LIVE_STATES, TrackState
from mus.persistence.models import Track
from mus.persistence.sqlite_driver import in_one_hop

T = TypeVar("T")

#: Most variables in one statement: SQLite allows 32,766, but its query planner likes shorter lists.
LOOKUP_BATCH = 500
#: And in a lookup by the driver's own query, of which a chunk of a scan has three.
_LOOKED_UP = 1000

#: Of a device, so many tracks are enough to ask; and so many may be left out of them by id (a statement's limit).
_SOME, _MOST_LEFT_OUT = 32, 5000

#: A text of SQLite's holds a gigabyte at most; these are 180 MB where all paths are as long as they may be.
_IDS_OF_A_TEXT = 1 << 16

#: In the order of KnownTrack.
_TRACKS = cast("Table", Track.__table__)
_KNOWN = tuple(_TRACKS.c[name] for name in KnownTrack._fields)
_NOT_TRASHED = _TRACKS.c.status != TrackState.TRASHED


async def settled_tracks(session: AsyncSession, library_id: int, newest: int) -> tuple[Settled, int]:
    """What a scan compares first, of the tracks with ids up to `newest`; and how often at most one of them was
    looked at that still waits for its analysis."""
    connection = await session.connection()
    query = _SETTLED[connection.dialect.name]
    texts: list[bytes] = []
    live = most_looks = 0
    for start in range(0, newest + 1, _IDS_OF_A_TEXT):
        asked = {"library": library_id, "above": start - 1, "below": min(start + _IDS_OF_A_TEXT, newest + 1)}
        settled, count, looks = (await connection.execute(query, asked)).one()
        live += count
        most_looks = max(most_looks, looks or 0)
        if settled:
            texts.append(settled)
    return Settled(texts, live), most_looks


#: Not by the index on paths, from which each row is looked up: it takes half as long again.
_OF_SETTLED = f"""
    SELECT {{}}, count(*), max(CASE WHEN status = '{TrackState.PENDING}' THEN analysis_attempts END) FROM tracks
    WHERE library_id + 0 = :library AND id > :above AND id < :below
    AND status IN ({", ".join(f"'{state}'" for state in sorted(LIVE_STATES))})
"""  # noqa: S608 - names of ours
_IS_SETTLED = f"""
    (status <> '{TrackState.ERROR}' OR error_category IS NULL OR error_category <> '{ErrorCategory.TEMPORARY}')
"""
_SETTLED = {
    "sqlite": text(
        _OF_SETTLED.format(
            f"""CAST(group_concat(CASE WHEN instr(path, x'00') + instr(path, x'2f2f') = 0 AND {_IS_SETTLED} THEN
            printf('%s//%d,%d,%d,%d,%d', path, size, mtime_ns, ctime_ns, inode, device) END, '//') AS BLOB)"""
        )
    ),
    "postgresql": text(
        _OF_SETTLED.format(
            f"""string_agg(CASE WHEN position('\\x00'::bytea IN path) + position('//'::bytea IN path) = 0
            AND {_IS_SETTLED} THEN
            path || convert_to(concat('//', concat_ws(',', size, mtime_ns, ctime_ns, inode, device)), 'UTF8') END,
            '//'::bytea)"""
        )
    ),
}


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
    return await _known_where(session, library_id, "path", paths)


async def tracks_with_inodes(session: AsyncSession, library_id: int, inodes: Sequence[int]) -> list[KnownTrack]:
    """The known tracks that had one of these inodes."""
    return await _known_where(session, library_id, "inode", inodes)


async def tracks_with_ids(session: AsyncSession, library_id: int, track_ids: Sequence[int]) -> list[KnownTrack]:
    """These tracks, unless they were trashed meanwhile."""
    return await _known_where(session, library_id, "id", track_ids)


async def _known_where(
    session: AsyncSession, library_id: int, column: str, values: Sequence[bytes] | Sequence[int]
) -> list[KnownTrack]:
    connection = await session.connection()
    queries = [
        lookup(connection.dialect.name, KnownTrack._fields, library_id, column, values[start : start + _LOOKED_UP])
        for start in range(0, len(values), _LOOKED_UP)
    ]
    queries = [(f"{query} AND status <> '{TrackState.TRASHED}'", arguments) for query, arguments in queries]
    if connection.dialect.name == "sqlite":
        found = await in_one_hop(
            connection, lambda driver: [row for query in queries for row in driver.execute(*query).fetchall()]
        )
    else:
        found = [row for query in queries for row in await connection.exec_driver_sql(*query)]
    return list(map(KnownTrack._make, found))


def lookup(
    dialect: str, columns: Sequence[str], library_id: int, column: str, values: Sequence[bytes] | Sequence[int]
) -> tuple[str, tuple[Any, ...]]:
    """The query for a library's tracks with one of these values, 1,000 at most, in the driver's own form.

    SQLAlchemy makes each list of values anew into text, which took as long as the database did.
    """
    # By the index on the column itself: SQLite takes that of library and path for the better one, and went through
    # all tracks for each 500 inodes of a scan.
    library = "library_id" if column == "path" else "library_id + 0"
    query = f"SELECT {', '.join(columns)} FROM tracks WHERE {library}"  # noqa: S608 - names of ours
    if dialect == "sqlite":
        return f"{query} = ? AND {column} IN ({', '.join('?' * len(values))})", (library_id, *values)
    kind = "bytea" if column == "path" else "bigint"
    return f"{query} = $1 AND {column} = ANY($2::{kind}[])", (library_id, list(values))


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
