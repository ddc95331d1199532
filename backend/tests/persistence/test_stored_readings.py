"""Readings become rows, whatever they say and however many there are, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from mus.errors import ErrorCategory
from mus.json_text import decoded, encoded
from mus.library.file_reading import FileReading, FileStat, failed_reading
from mus.library.track_rows import ReadRow
from mus.persistence.database import Database
from mus.persistence.models import Library, Track
from mus.persistence.stored_readings import Reading, rows_of, store_readings

RARE: dict[str, Any] = {
    "composer": "C", "comment": "Hm", "lyrics": "La\nla", "title_sort": "T", "artist_sort": "A",
    "album_artist_sort": "B", "album_sort": "D", "musicbrainz": {"track": "1"}, "replaygain": {"track_gain": -1.5},
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "artist": "A", "artists": ["A", "Ä"], "album": "D", "genre": "G", "genres": ["G"], "track_number": 0,
    "year": 2001, "duration_seconds": 1.5, "compilation": True,
}  # fmt: skip


def reading(number: int, **said: Any) -> FileReading:
    stat = FileStat(number, 2, 3, -4, 5)
    return FileReading(b"%04d.mp3" % number, f"Song {number}", stat=stat, title_key="k", words="w", **said)


def says(track: Track, name: str) -> bool:
    value = getattr(track, name)
    return value is not None and value is not False  # 0 is said


@pytest.mark.parametrize("count", [3, 60, 560])
@pytest.mark.parametrize("made", ["by a reader", "before", "there"])
async def test_each_column_says_what_its_reading_says_and_nothing_where_that_says_nothing(
    database: Database, count: int, made: str
) -> None:
    readings = [reading(number) for number in range(count)]
    readings[1] = reading(1, **RARE)
    readings[2] = reading(2, **OTHERS)
    readings.append(
        failed_reading(b"bad.mp3", "No", category=ErrorCategory.TEMPORARY, stat=FileStat(9, 9, 9, 9, 9))
    )
    async with database.unit_of_work() as work:
        library = Library(name="Music", root=b"/music")
        work.session.add(library)
        await work.session.flush()
        told: list[Reading] = [*readings]
        if made == "by a reader":
            told = [ReadRow.from_json(each.path, decoded(encoded(ReadRow.of(each).as_json()))) for each in readings]
        rows = rows_of(library.id, told, is_sqlite=database.is_sqlite) if made == "before" else None
        stored = await store_readings(work.session, library.id, told, rows=rows)
    assert (stored.added, stored.updated) == (count + 1, 0)
    async with database.reading() as session:
        tracks = {track.path: track for track in (await session.scalars(select(Track))).all()}
        for name in (*RARE, *OTHERS):
            said = [track.path for track in tracks.values() if says(track, name)]
            assert said == [(readings[1] if name in RARE else readings[2]).path], name
            wanted = (RARE | OTHERS)[name]
            assert getattr(tracks[said[0]], name) == wanted
    bad = tracks[b"bad.mp3"]
    assert (bad.status, bad.error_category, bad.error_message) == ("ERROR", "temporary", "No")
    assert {track.status for track in tracks.values() if track is not bad} == {"PENDING"}
    assert all(track.added_at == track.updated_at for track in tracks.values())


async def test_what_was_said_before_goes_when_the_next_reading_does_not_say_it(database: Database) -> None:
    async with database.unit_of_work() as work:
        library = Library(name="Music", root=b"/music")
        work.session.add(library)
        await work.session.flush()
        await store_readings(work.session, library.id, [reading(1, **RARE, **OTHERS)])
        stored = await store_readings(work.session, library.id, [reading(1)])
    assert (stored.added, stored.updated) == (0, 1)
    async with database.reading() as session:
        track = (await session.scalars(select(Track))).one()
        assert [name for name in (*RARE, *OTHERS) if says(track, name)] == []
