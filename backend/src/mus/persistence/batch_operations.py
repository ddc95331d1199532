"""Many rows at once: what scans and watched changes do to the tracks table.

Every function works in the session of a unit of work and never commits. Batches are at most 500 rows, so that a
write transaction stays short (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from mus.errors import LibraryGoneError
from mus.library.file_reading import FileReading
from mus.library.paths import parked
from mus.library.scan_plan import KnownRow, KnownTrack, Move
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile
from mus.persistence.models import Library, Track, UtcTime, utc_now
from mus.persistence.search import indexed

#: Most variables in one statement: SQLite allows 32,766, but its query planner likes shorter lists.
LOOKUP_BATCH = 500

#: Past so many readings at once it is not looked up which tracks they are: nobody could use so many ids.
MOST_IDS = 100

#: Tracks of one transaction that get another machine's numbers replaced.
ADOPTED_BATCH = 500

#: Of a device, so many tracks are enough to ask; and so many may be left out of them by id (a statement's limit).
_SOME, _MOST_LEFT_OUT = 32, 5000

#: Columns that come from a reading under the same name, as it has them, and as JSON.
_PLAIN_COLUMNS = (
    "title", "artist", "album_artist", "album", "track_number", "track_total", "disc_number", "disc_total", "date",
    "year", "genre", "composer", "comment", "compilation", "lyrics", "duration_seconds", "bitrate_kbps",
    "sample_rate_hz", "channels", "format", "error_category", "error_message", "title_sort", "artist_sort",
    "album_artist_sort", "album_sort", "title_key", "artist_key", "album_key",
)  # fmt: skip
_JSON_COLUMNS = ("artists", "album_artists", "genres", "musicbrainz", "replaygain")
_plain_values: Callable[[FileReading], tuple[Any, ...]] = itemgetter(
    *map(FileReading._fields.index, _PLAIN_COLUMNS)
)
_json_values: Callable[[FileReading], tuple[Any, ...]] = itemgetter(*map(FileReading._fields.index, _JSON_COLUMNS))
#: In the order of KnownTrack.
_TRACKS = cast("Table", Track.__table__)
_NOW_STORED = UtcTime()
_KNOWN = tuple(_TRACKS.c[name] for name in KnownTrack._fields)
_NOT_TRASHED = _TRACKS.c.status != TrackState.TRASHED
#: What a new reading leaves as it is. Of the sound it tells nothing: its hash is that of the version before, until
#: it is heard again, and tells then whether only tags changed.
_KEPT_COLUMNS = frozenset({"library_id", "path", "added_at", "audio_hash"})
#: What a reading that failed changes of a known track: its tags stay as they were last seen.
_FAILURE_COLUMNS = (
    "size", "mtime_ns", "ctime_ns", "inode", "device", "status", "error_category", "error_message",
    "analysis_version", "analysis_attempts", "updated_at",
)  # fmt: skip
#: Every column that a reading sets, in the order of `_stored_row`.
_ROW_COLUMNS = (
    *_PLAIN_COLUMNS, *_JSON_COLUMNS, "words", "size", "mtime_ns", "ctime_ns", "inode", "device", "library_id",
    "path", "status", "analysis_version", "analysis_attempts", "audio_hash", "added_at", "updated_at",
)  # fmt: skip
#: Rows of one statement on SQLite.
_BLOCK = 50
#: What PostgreSQL's advisory locks on tracks have in common; the other number is the library's.
_TRACKS_LOCK = 770002


@dataclass(frozen=True, slots=True)
class Stored:
    """What `store_readings` did: how many rows were new, how many were known."""

    added: int = 0
    updated: int = 0
    #: New tracks, and those that were missing until now.
    appeared: int = 0
    #: Which ones appeared, and which others changed; None when many were stored at once.
    appeared_ids: list[int] | None = None
    changed_ids: list[int] | None = None


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


async def hold_tracks(session: AsyncSession, library_id: int) -> None:
    """Be the only one to write this library's tracks until the transaction ends; first thing in every transaction
    that does.

    On SQLite whoever writes is alone anyway, and much rests on it: that a place still has the track it had when it
    was compared, that tracks swap their paths unseen. On PostgreSQL two jobs would also wait for each other's rows
    in a circle. Whoever keeps something made of all tracks sees by `Library.track_changes` that they may have
    changed. Raises LibraryGoneError for a library that was removed, or is being removed.
    """
    library = await hold_tracks_of_removed(session, library_id)
    if library is None:
        raise LibraryGoneError(f"There is no library {library_id}")
    if library.removing_since is not None:
        raise LibraryGoneError(f"The library {library.name} is being removed")


async def hold_tracks_of_removed(session: AsyncSession, library_id: int) -> Any:
    """As `hold_tracks`, for who removes the library. Returns its `name` and `removing_since`, None without one."""
    if session.get_bind().dialect.name != "sqlite":
        await session.execute(select(func.pg_advisory_xact_lock(_TRACKS_LOCK, library_id)))
    held = await session.execute(_HOLD, {"held": library_id})
    return held.one_or_none()


_LIBRARIES = cast("Table", Library.__table__)
_HOLD = (
    update(_LIBRARIES)
    .where(_LIBRARIES.c.id == bindparam("held"))
    .values(track_changes=_LIBRARIES.c.track_changes + 1)
    .returning(_LIBRARIES.c.name, _LIBRARIES.c.removing_since)
)


async def store_readings(session: AsyncSession, library_id: int, readings: Sequence[FileReading]) -> Stored:
    """Insert or update the tracks that were read, at most 500 at a time."""
    present = [reading for reading in readings if reading.stat is not None and not reading.vanished]
    if not present:
        return Stored()
    asked = {"library": library_id, "paths": [reading.path for reading in present]}
    connection = await session.connection()
    known = {row.id: row.status for row in await connection.execute(_AT_PATHS, asked)}
    is_sqlite = connection.dialect.name == "sqlite"
    now = _NOW_STORED.process_bind_param(utc_now(), connection.dialect)
    for is_failure in (False, True):
        rows = [
            _stored_row(library_id, reading, now, is_sqlite=is_sqlite)
            for reading in present
            if (reading.error_message is not None) is is_failure
        ]
        await _upsert(connection, rows, is_failure=is_failure)
    added, updated = len(present) - len(known), len(known)
    returned = sum(status == TrackState.MISSING for status in known.values())
    if len(present) > MOST_IDS:
        return Stored(added=added, updated=updated, appeared=added + returned)
    stored = set((await connection.execute(_AT_PATHS, asked)).scalars())
    changed = {id_ for id_, status in known.items() if status != TrackState.MISSING}
    return Stored(
        added=added,
        updated=updated,
        appeared=added + returned,
        appeared_ids=sorted(stored - changed),
        changed_ids=sorted(changed),
    )


_AT_PATHS = select(_TRACKS.c.id, _TRACKS.c.status).where(
    _TRACKS.c.library_id == bindparam("library"), _TRACKS.c.path.in_(bindparam("paths", expanding=True))
)


async def _upsert(connection: AsyncConnection, rows: list[tuple[Any, ...]], *, is_failure: bool) -> None:
    """Insert rows (`_ROW_COLUMNS`) or update their tracks.

    As plain tuples: SQLAlchemy's conversions of a row's values took as long as the database does, with the write
    lock held.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    one, block = _upserts(is_sqlite=is_sqlite, is_failure=is_failure)
    if is_sqlite:
        # FTS5 writes what it holds to its tables before each statement that may fail halfway: 33 of the 42 us that
        # a row took. And Python lets go of its lock at each, which other threads then keep for milliseconds.
        while len(rows) >= _BLOCK:
            await connection.exec_driver_sql(block, tuple(chain.from_iterable(rows[:_BLOCK])))
            rows = rows[_BLOCK:]
    if rows:
        await connection.exec_driver_sql(one, rows)


@cache
def _upserts(*, is_sqlite: bool, is_failure: bool) -> tuple[str, str]:
    """The statement that inserts a row or updates its track, and the one for `_BLOCK` rows at once on SQLite."""
    columns = _FAILURE_COLUMNS if is_failure else _ROW_COLUMNS
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in _KEPT_COLUMNS)
    marks = ["?" if is_sqlite else f"${number}" for number in range(1, len(_ROW_COLUMNS) + 1)]
    if not is_sqlite:
        marks[_ROW_COLUMNS.index("words")] += "::text::tsvector"
    values = f"({', '.join(marks)})"
    one, block = (
        f"INSERT INTO tracks ({', '.join(_ROW_COLUMNS)}) VALUES {', '.join([values] * count)}"  # noqa: S608 - names of ours
        f" ON CONFLICT (library_id, path) DO UPDATE SET {changes}"
        for count in (1, _BLOCK)
    )
    return one, block


#: What of a reading is about the sound, which an edit of tags leaves as it is.
_SOUND_COLUMNS = frozenset(
    {"duration_seconds", "bitrate_kbps", "sample_rate_hz", "channels", "format", "error_category", "error_message"}
)
_TAG_COLUMNS = tuple(name for name in (*_PLAIN_COLUMNS, *_JSON_COLUMNS, "words") if name not in _SOUND_COLUMNS)


def tags_of(reading: FileReading, *, is_sqlite: bool) -> dict[str, Any]:
    """The columns that a file's tags fill, and nothing of its sound or its numbers."""
    tags = {name: getattr(reading, name) for name in _TAG_COLUMNS}
    return tags if is_sqlite else tags | {"words": indexed(reading.words)}


def _stored_row(library_id: int, reading: FileReading, now: Any, *, is_sqlite: bool) -> tuple[Any, ...]:
    """The values of `_ROW_COLUMNS`, as the database's driver takes them."""
    assert reading.stat is not None
    return (
        *_plain_values(reading),
        *[None if value is None else orjson.dumps(value).decode() for value in _json_values(reading)],
        reading.words if is_sqlite else indexed(reading.words),
        *reading.stat.as_json(),
        library_id,
        reading.path,
        TrackState.PENDING if reading.error_message is None else TrackState.ERROR,
        0,
        0,
        None,
        now,
        now,
    )


async def last_writes(session: AsyncSession, track_ids: Sequence[int]) -> dict[int, datetime]:
    """When these tracks were last written, to be read before the disk is looked at; see `mark_missing`."""
    writes: dict[int, datetime] = {}
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        rows = await session.execute(
            select(Track.id, Track.updated_at).where(Track.id.in_(track_ids[start : start + LOOKUP_BATCH]))
        )
        writes.update({row.id: row.updated_at for row in rows})
    return writes


async def mark_missing(
    session: AsyncSession, track_ids: Sequence[int], *, last_written: Mapping[int, datetime]
) -> int:
    """Live tracks whose file is gone. Everything known of them is kept. Returns how many changed.

    `last_written` is from `last_writes`, before the look at the tracks' places: one that was written since has come
    back meanwhile. The times are compared with themselves, never with a clock: a clock that was set back made every
    track look as if it had just come back, and nothing went missing until it had caught up.
    """
    changed = 0
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        batch = track_ids[start : start + LOOKUP_BATCH]
        rows = await session.execute(select(Track.id, Track.updated_at).where(Track.id.in_(batch)))
        unwritten = [row.id for row in rows if row.updated_at == last_written.get(row.id)]
        result = await session.execute(
            update(Track)
            .where(Track.id.in_(unwritten), Track.status.in_(LIVE_STATES))
            .values(status=TrackState.MISSING, updated_at=utc_now())
            .returning(Track.id)
        )
        changed += len(result.all())
    return changed


async def paths_of(session: AsyncSession, track_ids: Sequence[int]) -> dict[int, bytes]:
    """Where these tracks are by the database; a parked one (`paths.parked`) by its parked path."""
    paths: dict[int, bytes] = {}
    for start in range(0, len(track_ids), LOOKUP_BATCH):
        rows = await session.execute(
            select(Track.id, Track.path).where(Track.id.in_(track_ids[start : start + LOOKUP_BATCH]))
        )
        paths.update({row.id: row.path for row in rows})
    return paths


async def move_tracks(
    session: AsyncSession, library_id: int, moves: Sequence[Move], origins: Mapping[int, bytes]
) -> int:
    """Give tracks their files' new paths, in one transaction: swaps and chains included. Returns how many.

    `origins` are their paths when the disk was looked at: a track that has another one by now stays. A track
    that has a new path's place and does not itself move was overwritten: it is missing, and parked
    (`paths.parked`).
    """
    now_at = await paths_of(session, [move.track_id for move in moves])
    moves = [
        move for move in moves if move.track_id in now_at and now_at[move.track_id] == origins.get(move.track_id)
    ]
    if not moves:
        return 0
    now = utc_now()
    moving = {move.track_id for move in moves}
    overwritten = [
        track
        for track in await tracks_at(session, library_id, [move.found.path for move in moves])
        if track.id not in moving
    ]
    by_id = update(Track).where(Track.id == bindparam("track"))
    connection = await session.connection()
    await connection.execute(
        by_id.values(path=bindparam("parked")),
        [{"track": track.id, "parked": parked(track.path, track.id)} for track in overwritten]
        + [{"track": id_, "parked": parked(now_at[id_], id_)} for id_ in moving],
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
        ],
    )  # fmt: skip
    for start in range(0, len(moves), LOOKUP_BATCH):
        # A track that was missing is back: its tags are as they were, its analysis is done once more.
        await session.execute(
            update(Track)
            .where(
                Track.id.in_([move.track_id for move in moves[start : start + LOOKUP_BATCH]]),
                Track.status == TrackState.MISSING,
            )
            .values(
                status=case((Track.error_message.is_(None), TrackState.PENDING), else_=TrackState.ERROR),
                analysis_attempts=0,
            )
        )
    for start in range(0, len(overwritten), LOOKUP_BATCH):
        await session.execute(
            update(Track)
            .where(
                Track.id.in_([track.id for track in overwritten[start : start + LOOKUP_BATCH]]),
                Track.status.in_(LIVE_STATES),
            )
            .values(status=TrackState.MISSING, updated_at=now)
        )
    return len(moves)


async def renumber_devices(session: AsyncSession, library_id: int, renumbered: Mapping[int, int]) -> None:
    """The same file systems have other device numbers since they were mounted again: all at once, as two may
    have swapped theirs."""
    if renumbered:
        await session.execute(
            update(Track)
            .where(Track.library_id == library_id, Track.device.in_(renumbered))
            .values(device=case(dict(renumbered), value=Track.device))
        )


async def adopt_numbers(session: AsyncSession, files: Sequence[tuple[int, FoundFile]]) -> None:
    """Tracks, by id, whose unchanged files have these inodes, devices and ctimes on this machine; at most
    `ADOPTED_BATCH`. One whose file was read in another version meanwhile is left alone."""
    same_version = update(Track).where(
        Track.id == bindparam("track"),
        Track.size == bindparam("seen_size"),
        Track.mtime_ns == bindparam("seen_mtime"),
    )
    connection = await session.connection()
    await connection.execute(
        same_version.values(
            ctime_ns=bindparam("new_ctime"), inode=bindparam("new_inode"), device=bindparam("new_device")
        ),
        [
            {
                "track": track_id, "seen_size": file.size, "seen_mtime": file.mtime_ns,
                "new_ctime": file.ctime_ns, "new_inode": file.inode, "new_device": file.device,
            }
            for track_id, file in files
        ],
    )  # fmt: skip


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


def unsettled(readings: Iterable[FileReading], now_ns: int, *, settle_ns: int) -> list[FileReading]:
    """Readings of files that may still be written: they changed under the reader, or could not be read and were
    touched less than `settle_ns` ago. Their turn comes again.

    The time of change (ctime) tells, which no program can set: a broken file that claims to be of tomorrow would
    be young for ever.
    """
    return [
        reading
        for reading in readings
        if reading.stat is not None
        and not reading.vanished
        and (
            reading.changed_while_reading
            or (reading.error_message is not None and abs(now_ns - reading.stat.ctime_ns) < settle_ns)
        )
    ]
