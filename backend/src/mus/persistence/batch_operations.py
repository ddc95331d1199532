"""Many rows at once: what scans and watched changes do to the tracks table.

Every function works in the session of a unit of work and never commits. Batches are at most 500 rows, so that a
write transaction stays short (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import ErrorCategory
from mus.library.file_reading import FileReading
from mus.library.paths import parked
from mus.library.scan_plan import KnownTrack, Move
from mus.library.states import LIVE_STATES, TrackState
from mus.library.text import sort_key
from mus.persistence.models import Track, utc_now

#: Most variables in one statement: SQLite allows 32,766, but its query planner likes shorter lists.
LOOKUP_BATCH = 500

#: Columns that come from a reading under the same name.
_READ_COLUMNS = (
    "title", "artist", "artists", "album_artist", "album_artists", "album", "track_number", "track_total",
    "disc_number", "disc_total", "date", "year", "genre", "genres", "composer", "comment", "compilation", "lyrics",
    "musicbrainz", "replaygain", "duration_seconds", "bitrate_kbps", "sample_rate_hz", "channels", "format",
    "error_category", "error_message",
)  # fmt: skip
#: In the order of KnownTrack.
_KNOWN = tuple(getattr(Track, name) for name in KnownTrack._fields)
#: What a new reading leaves as it is.
_KEPT_COLUMNS = frozenset({"library_id", "path", "added_at"})


@dataclass(frozen=True, slots=True)
class Stored:
    """What `store_readings` did: how many rows were new, how many were known."""

    added: int = 0
    updated: int = 0


async def known_tracks(session: AsyncSession, library_id: int) -> list[KnownTrack]:
    """Every track of a library that a scan compares: all but the trashed."""
    rows = await session.execute(
        select(*_KNOWN).where(Track.library_id == library_id, Track.status != TrackState.TRASHED)
    )  # fmt: skip
    return [KnownTrack._make(row) for row in rows.all()]


async def tracks_at(session: AsyncSession, library_id: int, paths: Sequence[bytes]) -> list[KnownTrack]:
    """The known tracks at these paths."""
    return await _known_where(session, library_id, Track.path, paths)


async def tracks_with_inodes(session: AsyncSession, library_id: int, inodes: Sequence[int]) -> list[KnownTrack]:
    """The known tracks that had one of these inodes."""
    return await _known_where(session, library_id, Track.inode, inodes)


async def _known_where(
    session: AsyncSession, library_id: int, column: Any, values: Sequence[Any]
) -> list[KnownTrack]:
    found: list[KnownTrack] = []
    for start in range(0, len(values), LOOKUP_BATCH):
        rows = await session.execute(
            select(*_KNOWN).where(
                Track.library_id == library_id,
                Track.status != TrackState.TRASHED,
                column.in_(values[start : start + LOOKUP_BATCH]),
            )
        )  # fmt: skip
        found += [KnownTrack._make(row) for row in rows.all()]
    return found


async def tracks_below(session: AsyncSession, library_id: int, folder: bytes) -> list[KnownTrack]:
    """The known tracks in a folder and its subfolders."""
    rows = await session.execute(
        select(*_KNOWN).where(
            Track.library_id == library_id,
            Track.status != TrackState.TRASHED,
            Track.path > folder + b"/",
            Track.path < folder + b"0",  # the byte after "/"
        )
    )  # fmt: skip
    return [KnownTrack._make(row) for row in rows.all()]


async def store_readings(session: AsyncSession, library_id: int, readings: Sequence[FileReading]) -> Stored:
    """Insert or update the tracks that were read, at most 500 at a time."""
    rows = [_row(library_id, reading, utc_now()) for reading in readings if reading.stat is not None]
    if not rows:
        return Stored()
    known = await session.execute(
        select(func.count())
        .select_from(Track)
        .where(Track.library_id == library_id, Track.path.in_([row["path"] for row in rows]))
    )
    updated = known.scalar_one()
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    statement = insert(Track)
    changes = {name: statement.excluded[name] for name in rows[0] if name not in _KEPT_COLUMNS}
    await session.execute(
        statement.on_conflict_do_update(index_elements=["library_id", "path"], set_=changes), rows
    )
    return Stored(added=len(rows) - updated, updated=updated)


def _row(library_id: int, reading: FileReading, now: datetime) -> dict[str, Any]:
    stat = reading.stat
    assert stat is not None
    row = {name: getattr(reading, name) for name in _READ_COLUMNS}
    row.update(
        library_id=library_id,
        path=reading.path,
        size=stat.size,
        mtime_ns=stat.mtime_ns,
        ctime_ns=stat.ctime_ns,
        inode=stat.inode,
        device=stat.device,
        status=TrackState.ERROR if reading.error_message else TrackState.PENDING,
        analysis_version=0,
        analysis_attempts=0,
        title_key=sort_key(reading.title),
        artist_key=sort_key(reading.artist),
        album_key=sort_key(reading.album),
        added_at=now,
        updated_at=now,
    )
    return row


async def mark_missing(session: AsyncSession, track_ids: Sequence[int]) -> int:
    """Live tracks whose file is gone. Everything known of them is kept. Returns how many changed."""
    changed = 0
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        result = await session.execute(
            update(Track)
            .where(Track.id.in_(track_ids[start : start + LOOKUP_BATCH]), Track.status.in_(LIVE_STATES))
            .values(status=TrackState.MISSING, updated_at=utc_now())
            .returning(Track.id)
        )
        changed += len(result.all())
    return changed


async def move_tracks(session: AsyncSession, library_id: int, moves: Sequence[Move]) -> None:
    """Give tracks their files' new paths, in one transaction: swaps and chains included.

    A track that has a new path's place and does not itself move gives way (`paths.parked`): its file was
    overwritten.
    """
    now = utc_now()
    moving = {move.track_id for move in moves}
    taken = await tracks_at(session, library_id, [move.found.path for move in moves])
    origins = {
        row.id: row.path
        for start in range(0, len(moves), LOOKUP_BATCH)
        for row in await session.execute(
            select(Track.id, Track.path).where(
                Track.id.in_([move.track_id for move in moves[start : start + LOOKUP_BATCH]])
            )
        )
    }
    aside = [(track.id, track.path) for track in taken if track.id not in moving] + list(origins.items())
    if not aside:
        return
    by_id = update(Track).where(Track.id == bindparam("track"))
    connection = await session.connection()
    await connection.execute(
        by_id.values(path=bindparam("parked")),
        [{"track": id_, "parked": parked(path, id_)} for id_, path in aside],
    )
    await connection.execute(
        by_id.values(
            path=bindparam("new_path"), ctime_ns=bindparam("new_ctime"), inode=bindparam("new_inode"),
            device=bindparam("new_device"), updated_at=now,
        ),
        [
            {
                "track": move.track_id, "new_path": move.found.path, "new_ctime": move.found.ctime_ns,
                "new_inode": move.found.inode, "new_device": move.found.device,
            }
            for move in moves
            if move.track_id in origins
        ],
    )  # fmt: skip
    # A track that was missing is back; its tags are as they were, its analysis goes on from where it was.
    for back, condition in (
        (TrackState.COMPLETE, Track.analysis_version > 0),
        (TrackState.PENDING, Track.id > 0),
    ):
        for start in range(0, len(moves), LOOKUP_BATCH):
            await session.execute(
                update(Track)
                .where(
                    Track.id.in_([move.track_id for move in moves[start : start + LOOKUP_BATCH]]),
                    Track.status == TrackState.MISSING,
                    condition,
                )
                .values(status=back)
            )


async def renumber_devices(session: AsyncSession, library_id: int, renumbered: dict[int, int]) -> None:
    """The same file system has another device number since it was mounted again."""
    for old, new in renumbered.items():
        await session.execute(
            update(Track).where(Track.library_id == library_id, Track.device == old).values(device=new)
        )


async def live_count(session: AsyncSession, library_id: int) -> int:
    """Tracks of a library whose file is believed to be in its place."""
    return await _count(session, library_id, Track.status.in_(LIVE_STATES))


async def error_count(session: AsyncSession, library_id: int) -> int:
    return await _count(session, library_id, Track.status == TrackState.ERROR)


async def lately_missing_count(session: AsyncSession, library_id: int, within: timedelta) -> int:
    """Tracks that went missing in the last while."""
    return await _count(
        session, library_id, Track.status == TrackState.MISSING, Track.updated_at > utc_now() - within
    )


async def _count(session: AsyncSession, library_id: int, *conditions: Any) -> int:
    return (
        await session.execute(
            select(func.count()).select_from(Track).where(Track.library_id == library_id, *conditions)
        )
    ).scalar_one()


def unsettled(readings: Iterable[FileReading], now_ns: int, *, settle_ns: int) -> list[FileReading]:
    """Readings of files that may still be written: they changed under the reader, or could not be read and are
    younger than `settle_ns`. Their turn comes again."""
    return [
        reading
        for reading in readings
        if reading.stat is not None
        and (
            reading.changed_while_reading
            or reading.error_category == ErrorCategory.TEMPORARY
            or (reading.error_message is not None and now_ns - reading.stat.mtime_ns < settle_ns)
        )
    ]
