"""What was read of files goes into the tracks table.

As in `batch_operations`, every function works in the session of a unit of work and never commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from mus.library.file_reading import FileReading
from mus.library.scan_plan import KnownTrack
from mus.library.states import TrackState
from mus.library.track_rows import (
    JSON_COLUMNS,
    PLAIN_COLUMNS,
    RARE_JSON_COLUMNS,
    RARE_PLAIN_COLUMNS,
    ReadRow,
)
from mus.persistence.known_tracks import tracks_at
from mus.persistence.models import stored_time, utc_now
from mus.persistence.search import indexed
from mus.persistence.sqlite_driver import in_one_hop

#: What was read of a file, as it is or as a row already.
Reading = FileReading | ReadRow
#: What is written of a track: what is said of all (`_COMMON_COLUMNS`), and of few (`_RARE_COLUMNS`), or nothing.
Row = tuple[tuple[Any, ...], list[Any]]

#: Past so many readings at once it is not looked up which tracks they are: nobody could use so many ids.
MOST_IDS = 100

#: What a new reading leaves as it is. Of the sound it tells nothing: its hash is that of the version before, until
#: it is heard again, and tells then whether only tags changed.
_KEPT_COLUMNS = frozenset({"library_id", "path", "added_at", "audio_hash"})
#: What a reading that failed changes of a known track: its tags stay as they were last seen.
_FAILURE_COLUMNS = (
    "size", "mtime_ns", "ctime_ns", "inode", "device", "status", "error_category", "error_message",
    "analysis_version", "analysis_attempts", "updated_at",
)  # fmt: skip
_COMMON_COLUMNS = (
    *PLAIN_COLUMNS, *JSON_COLUMNS, "size", "mtime_ns", "ctime_ns", "inode", "device", "library_id", "path",
)  # fmt: skip
_WORDS = _COMMON_COLUMNS.index("words")
_RARE_COLUMNS = (*RARE_PLAIN_COLUMNS, *RARE_JSON_COLUMNS)
_TIMES = ("added_at", "updated_at")
_ROW_COLUMNS = (*_COMMON_COLUMNS, *_TIMES, *_RARE_COLUMNS)
#: And those that are alike for all, as SQL.
_CONSTANTS = {"analysis_version": "0", "analysis_attempts": "0", "audio_hash": "NULL"}
#: What the rare columns get of a reading that says nothing of them, when others of its statement do.
_NOTHING: list[Any] = [None] * len(_RARE_COLUMNS)
#: Rows of one statement on SQLite, whose values are 32,766 at most.
_BLOCKS = (500, 50, 1)


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


def rows_of(library_id: int, readings: Iterable[Reading], *, is_sqlite: bool) -> dict[bytes, Row]:
    """What `store_readings` will write of these, by path. To be made before the transaction, which others wait for:
    it is a tenth of what the whole takes."""
    return {
        reading.path: _stored_row(library_id, reading, is_sqlite=is_sqlite)
        for reading in readings
        if _is_storable(reading)
    }


def _is_storable(reading: Reading) -> bool:
    return reading.stat is not None and not reading.vanished


async def store_readings(
    session: AsyncSession,
    library_id: int,
    readings: Sequence[Reading],
    *,
    at_paths: Mapping[bytes, KnownTrack] | None = None,
    rows: Mapping[bytes, Row] | None = None,
) -> Stored:
    """Insert or update the tracks that were read.

    Who has them at hand gives the tracks that are at these paths in this transaction, among others, and what
    `rows_of` makes of the readings.
    """
    present = [reading for reading in readings if _is_storable(reading)]
    if not present:
        return Stored()
    connection = await session.connection()
    paths = [reading.path for reading in present]
    if at_paths is None:
        at_paths = {track.path: track for track in await tracks_at(session, library_id, paths)}
    known = {track.id: track.status for path in paths if (track := at_paths.get(path)) is not None}
    if rows is None:
        rows = rows_of(library_id, present, is_sqlite=connection.dialect.name == "sqlite")
    now = stored_time(utc_now())
    for is_failure in (False, True):
        chosen = [rows[reading.path] for reading in present if (reading.error_message is not None) is is_failure]
        await _upsert(connection, chosen, (now, now), is_failure=is_failure)
    added, updated = len(present) - len(known), len(known)
    returned = sum(status == TrackState.MISSING for status in known.values())
    if len(present) > MOST_IDS:
        return Stored(added=added, updated=updated, appeared=added + returned)
    stored = {track.id for track in await tracks_at(session, library_id, paths)}
    changed = {id_ for id_, status in known.items() if status != TrackState.MISSING}
    return Stored(
        added=added,
        updated=updated,
        appeared=added + returned,
        appeared_ids=sorted(stored - changed),
        changed_ids=sorted(changed),
    )


async def _upsert(
    connection: AsyncConnection, rows: Sequence[Row], times: tuple[int, int], *, is_failure: bool
) -> None:
    """Insert rows or update their tracks.

    As plain tuples: SQLAlchemy's conversions of a row's values took as long as the database does, with the write
    lock held.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        await in_one_hop(connection, lambda driver: _upsert_by(driver, rows, times, is_failure=is_failure))
    else:
        values = [(*common, *times, *(rare or _NOTHING)) for common, rare in rows]
        await connection.exec_driver_sql(_upsert_of(1, is_sqlite=False, is_failure=is_failure), values)


def _upsert_by(
    driver: sqlite3.Connection, rows: Sequence[Row], times: tuple[int, int], *, is_failure: bool
) -> None:
    # FTS5 writes what it holds to its tables before each statement that may fail halfway: 33 of the 42 us that a
    # row took. And Python lets go of its lock at each, which other threads then keep for milliseconds.
    for size in _BLOCKS:
        while len(rows) >= size:
            block, rows = rows[:size], rows[size:]
            has_rare = any(rare for _, rare in block)
            nothing = _NOTHING if has_rare else ()
            values = tuple(chain.from_iterable((*common, *times, *(rare or nothing)) for common, rare in block))
            query = _upsert_of(size, is_sqlite=True, is_failure=is_failure, has_rare=has_rare)
            driver.execute(query, values).close()


@cache
def _upsert_of(count: int, *, is_sqlite: bool, is_failure: bool, has_rare: bool = True) -> str:
    """The statement that inserts so many rows or updates their tracks."""
    columns = _FAILURE_COLUMNS if is_failure else (*_ROW_COLUMNS, "status", *_CONSTANTS)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in _KEPT_COLUMNS)
    if is_sqlite:
        marks = ["?"] * len((*_COMMON_COLUMNS, *_TIMES))
        # Python's driver looks for an adapter of each None, as of all that is no plain text or number.
        marks += ["?" if has_rare else "NULL"] * len(_RARE_COLUMNS)
    else:
        marks = [f"${number}" for number in range(1, len(_ROW_COLUMNS) + 1)]
        marks[_ROW_COLUMNS.index("words")] += "::text::tsvector"
    status = TrackState.ERROR if is_failure else TrackState.PENDING
    row = ", ".join([*marks, f"'{status}'", *_CONSTANTS.values()])
    rows = ", ".join([f"({row})"] * count)
    names = ", ".join((*_ROW_COLUMNS, "status", *_CONSTANTS))
    return (
        f"INSERT INTO tracks ({names}) VALUES {rows}"  # noqa: S608 - names of ours
        f" ON CONFLICT (library_id, path) DO UPDATE SET {changes}"
    )


#: What of a reading is about the sound, which an edit of tags leaves as it is.
_SOUND_COLUMNS = frozenset(
    {"duration_seconds", "bitrate_kbps", "sample_rate_hz", "channels", "format", "error_category", "error_message"}
)
_TAG_COLUMNS = tuple(name for name in (*PLAIN_COLUMNS, *JSON_COLUMNS, *_RARE_COLUMNS) if name not in _SOUND_COLUMNS)


def tags_of(reading: FileReading, *, is_sqlite: bool) -> dict[str, Any]:
    """The columns that a file's tags fill, and nothing of its sound or its numbers."""
    tags = {name: getattr(reading, name) for name in _TAG_COLUMNS}
    return tags if is_sqlite else tags | {"words": indexed(reading.words)}


def _stored_row(library_id: int, reading: Reading, *, is_sqlite: bool) -> Row:
    """The row as the database's driver takes it."""
    row = reading if isinstance(reading, ReadRow) else ReadRow.of(reading)
    assert row.stat is not None
    common = row.common
    if not is_sqlite:
        common = [*common]
        common[_WORDS] = indexed(common[_WORDS])
    return (*common, *row.stat, library_id, row.path), row.rare


def unsettled(readings: Iterable[Reading], now_ns: int, *, settle_ns: int) -> list[Reading]:
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
