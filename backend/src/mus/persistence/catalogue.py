"""The catalogue: albums, artists and counts of all tracks, kept in this process's memory for lists and filters.

To group 100,000 tracks takes half a second, too long for a page of a list, and to keep sums in step in the
database would cost every writer of tracks, most of all the first scan. So whoever shows lists of albums makes a
catalogue (`built`), and another one when `version_of` says that tracks may have changed.

It is a SQLite database of its own, whatever the library's is: some 10,000 rows, which any filter and order goes
through in milliseconds. Nothing in it changes once it is built.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import URL

from mus.library.text import folded
from mus.library.track_words import found_by
from mus.persistence.catalogue_rows import (
    AlbumRow,
    ArtistRow,
    CatalogueRows,
    Spellings,
    Version,
    rows_of_server,
    rows_of_sqlite,
    spelt,
)
from mus.persistence.database import Database
from mus.persistence.search import search_for

T = TypeVar("T")

#: Around each value of several in one text; no folded name holds a control character that is no blank.
_MARK = "\x1f"
#: Stands for all libraries together.
_ALL = 0

_TABLES = """
CREATE TABLE albums (
    number INTEGER PRIMARY KEY, id TEXT, library INTEGER, title TEXT, artist TEXT, artist_id TEXT, year INTEGER,
    tracks INTEGER, seconds REAL, added INTEGER, cover INTEGER, words TEXT, genres TEXT, formats TEXT,
    years TEXT, by_title TEXT, by_artist TEXT, by_year TEXT, track_ids TEXT
);
CREATE TABLE artists (
    number INTEGER PRIMARY KEY, id TEXT, library INTEGER, name TEXT, key TEXT, albums INTEGER, tracks INTEGER,
    cover INTEGER, words TEXT
);
CREATE TABLE artist_albums (artist TEXT, album INTEGER, PRIMARY KEY (artist, album)) WITHOUT ROWID;
CREATE TABLE counts (library INTEGER, kind TEXT, name, tracks INTEGER);
"""
_INDEXES = """
CREATE UNIQUE INDEX album_ids ON albums (id);
CREATE INDEX artist_ids ON artists (id, library);
CREATE INDEX artist_keys ON artists (library, key, id);
"""


class ListedAlbum(NamedTuple):
    """What a list shows of an album."""

    id: str
    title: str
    album_artist: str | None
    year: int | None
    tracks: int
    seconds: float
    #: When its latest track came, in microseconds since the epoch.
    added: int
    cover_track_id: int | None
    library_id: int
    artist_id: str | None


class ListedArtist(NamedTuple):
    """What a list shows of an artist."""

    id: str
    name: str
    albums: int
    tracks: int
    cover_track_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbumFilter:
    """Which albums a list shows: those that all of these fit. Genre, format and year are of any of its tracks."""

    query: str | None = None
    library_id: int | None = None
    artist_id: str | None = None
    genre: str | None = None
    format: str | None = None
    year: int | None = None


@dataclass(frozen=True, slots=True)
class AlbumSort:
    """An order of albums, in which each has a place of its own. Those without a value come last either way."""

    column: str
    kind: type = str


#: Ties of artists and years go by title.
ALBUM_SORTS = {
    "title": AlbumSort("by_title"),
    "album_artist": AlbumSort("by_artist"),
    "year": AlbumSort("by_year"),
    "added_at": AlbumSort("added", int),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the last row's sort value and id."""

    value: Any
    id: str


@dataclass(frozen=True, slots=True)
class ListedPage(Generic[T]):
    """A part of a list."""

    items: list[T]
    #: Where the next page begins; None after the last.
    next_place: Place | None
    #: Items of the whole list.
    total: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tracks have each genre, format, year and status; the most common first, years the latest first."""

    genres: Sequence[tuple[str, int]]
    formats: Sequence[tuple[str, int]]
    years: Sequence[tuple[int, int]]
    statuses: Sequence[tuple[str, int]]


class Catalogue:
    """Built once, read by any thread, one at a time. Its methods take milliseconds: not for an event loop."""

    def __init__(self, rows: CatalogueRows) -> None:
        self.version: Version = rows.version
        self._lock = threading.Lock()
        self._tables = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._tables.executescript(_TABLES)
        self._tables.execute("BEGIN")
        words = {name: _words(name) for artist in rows.artists.values() for name, _ in artist.name}
        # By their ids, which are in no order that lists have: SQLite keeps the first of an order so far while it
        # goes through the rows, and in the reverse order would exchange them with each one, 10 ms in place of 1.
        numbers = {id_: number for number, id_ in enumerate(sorted(rows.albums), 1)}
        _insert(self._tables, "albums", _album_values(rows.albums, numbers, words))
        _insert(self._tables, "artists", _artist_values(rows, words))
        _insert(
            self._tables,
            "artist_albums",
            {(id_, numbers[album]) for (_, id_), artist in rows.artists.items() for album in artist.albums},
        )
        _insert(self._tables, "counts", _count_values(rows))
        self._tables.execute("COMMIT")
        self._tables.executescript(_INDEXES)
        weakref.finalize(self, self._tables.close)

    def albums(
        self,
        wanted: AlbumFilter,
        sort: AlbumSort,
        *,
        descending: bool,
        after: Place | None,
        offset: int = 0,
        limit: int,
    ) -> ListedPage[ListedAlbum]:
        """A page of albums: behind `after`, or `offset` albums down the list."""
        conditions, values = _search(wanted.query)
        for condition, value in (
            ("library = ?", wanted.library_id),
            ("instr(genres, ?) > 0", None if wanted.genre is None else _marked([folded(wanted.genre)])),
            ("instr(formats, ?) > 0", None if wanted.format is None else _marked([wanted.format])),
            ("instr(years, ?) > 0", None if wanted.year is None else _marked([wanted.year])),
            ("number IN (SELECT album FROM artist_albums WHERE artist = ?)", wanted.artist_id),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        columns = "id, title, artist, year, tracks, seconds, added, cover, library, artist_id"
        return self._page(
            ListedAlbum,
            "albums",
            columns,
            sort.column,
            conditions,
            values,
            after,
            offset,
            limit,
            descending=descending,
        )

    def album(self, id_: str) -> tuple[ListedAlbum, list[int]] | None:
        """The album of this id, with the ids of its tracks."""
        rows = self._all(
            "SELECT id, title, artist, year, tracks, seconds, added, cover, library, artist_id, track_ids"
            " FROM albums WHERE id = ?",
            [id_],
        )
        if not rows:
            return None
        return ListedAlbum._make(rows[0][:-1]), [int(track_id) for track_id in rows[0][-1].split(",")]

    def artists(
        self,
        *,
        query: str | None,
        library_id: int | None,
        descending: bool,
        after: Place | None,
        offset: int = 0,
        limit: int,
    ) -> ListedPage[ListedArtist]:
        """A page of artists by their sort names: behind `after`, or `offset` artists down the list."""
        conditions, values = _search(query)
        conditions.append("library = ?")
        values.append(self._part(library_id))
        columns = "id, name, albums, tracks, cover"
        return self._page(
            ListedArtist, "artists", columns, "key", conditions, values, after, offset, limit, descending=descending
        )

    def artist(self, id_: str) -> ListedArtist | None:
        """The artist of this id, in all libraries."""
        query = "SELECT id, name, albums, tracks, cover FROM artists WHERE id = ? AND library = ?"
        rows = self._all(query, [id_, _ALL])
        return ListedArtist._make(rows[0]) if rows else None

    def counts(self, library_id: int | None) -> Counts:
        found: dict[str, list[Any]] = defaultdict(list)
        query = "SELECT kind, name, tracks FROM counts WHERE library = ? ORDER BY tracks DESC, name"
        for kind, name, tracks in self._all(query, [self._part(library_id)]):
            found[kind].append((name, tracks))
        return Counts(found["genre"], found["format"], sorted(found["year"], reverse=True), found["status"])

    def _part(self, library_id: int | None) -> int:
        """Of the rows that are there for each library and for all: where there is one, it is all."""
        return library_id if library_id is not None and len(self.version) > 1 else _ALL

    def _page(
        self,
        item: type[T],
        table: str,
        columns: str,
        by: str,
        conditions: list[str],
        values: list[Any],
        after: Place | None,
        offset: int,
        limit: int,
        *,
        descending: bool,
    ) -> ListedPage[T]:
        where = " AND ".join(conditions) or "TRUE"
        total = self._all(f"SELECT count(*) FROM {table} WHERE {where}", values)[0][0]  # noqa: S608 - ours
        direction, beyond = ("DESC", "<") if descending else ("ASC", ">")
        if after is not None and after.value is None:
            conditions = [*conditions, f"{by} IS NULL AND id {beyond} ?"]
            values = [*values, after.id]
        elif after is not None:
            conditions = [*conditions, f"(({by}, id) {beyond} (?, ?) OR {by} IS NULL)"]
            values = [*values, after.value, after.id]
        query = f"SELECT {columns}, {by} FROM {table} WHERE {' AND '.join(conditions) or 'TRUE'}"  # noqa: S608 - ours
        query += f" ORDER BY {by} {direction} NULLS LAST, id {direction} LIMIT ? OFFSET ?"
        # One more than the page holds tells whether another page follows; each has its sort value last.
        rows = self._all(query, [*values, limit + 1, offset])
        place = Place(rows[limit - 1][-1], rows[limit - 1][0]) if len(rows) > limit else None
        return ListedPage([item(*row[:-1]) for row in rows[:limit]], place, total)

    def _all(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._tables.execute(query, values).fetchall()


def built(url: URL, articles: tuple[str, ...]) -> Catalogue:
    """A catalogue of the library in this database. In a thread: it has connections of its own.

    Raises what reading the database does.
    """
    if url.get_backend_name() == "sqlite":
        return Catalogue(rows_of_sqlite(url, articles))

    async def read() -> CatalogueRows:
        database = Database(url)
        try:
            return await rows_of_server(database, articles)
        finally:
            await database.close()

    return Catalogue(asyncio.run(read()))


def _search(query: str | None) -> tuple[list[str], list[Any]]:
    """As tracks are found (`search.hits`)."""
    found = [f" {' '.join(phrase.words)}" for phrase in search_for(query=query).phrases]
    return ["instr(words, ?) > 0"] * len(found), list(found)


# ------------------------------------------------------------------------------------------------ what is stored


def _insert(tables: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    rows = iter(rows)
    for first in rows:
        statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(first))})"  # noqa: S608 - names of ours
        tables.executemany(statement, chain([first], rows))


def _album_values(
    albums: Mapping[str, AlbumRow], numbers: Mapping[str, int], words: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    for id_, number in numbers.items():
        album = albums[id_]
        title, title_key = spelt(album.title)
        artist, artist_key = spelt(album.artist) if album.artist else (None, "")
        found = _words(title) + ("" if artist is None else words[artist])
        by_title = f"{title_key}{_MARK}{artist_key}"
        year = None if album.year is None else f"{album.year:010}"
        yield (
            number, id_, album.library_id, title, artist, album.artist_id, album.year, album.tracks,
            album.seconds, album.added, album.cover, found,
            _marked(sorted(album.genres)), _marked(sorted(album.formats)), _marked(sorted(album.years)), by_title,
            f"{artist_key}{_MARK}{year or _MARK}{_MARK}{title_key}", year and f"{year}{_MARK}{by_title}",
            ",".join(album.ids),
        )  # fmt: skip


def _artist_values(rows: CatalogueRows, words: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    everywhere: dict[str, list[ArtistRow]] = defaultdict(list)
    for (library_id, id_), artist in rows.artists.items():
        everywhere[id_].append(artist)
        if len(rows.version) > 1:
            yield (None, id_, library_id, *_artist_fields([artist], words))
    for id_, parts in everywhere.items():
        yield (None, id_, _ALL, *_artist_fields(parts, words))


def _artist_fields(parts: Sequence[ArtistRow], words: Mapping[str, str]) -> tuple[Any, ...]:
    name, key = spelt(*(part.name for part in parts))
    cover = min((part.cover for part in parts if part.cover is not None), default=None)
    # An album is of one library.
    albums = sum(len(part.albums) for part in parts)
    return name, key, albums, sum(part.tracks for part in parts), cover, words[name]


def _count_values(rows: CatalogueRows) -> Iterator[tuple[Any, ...]]:
    counted: dict[tuple[int, str, Any], int] = defaultdict(int)
    genres: dict[str, list[Spellings]] = defaultdict(list)
    for (_, key), spellings in rows.genres.items():
        genres[key].append(spellings)
    found: list[tuple[str, int, Any, int]] = [
        *(
            ("genre", library, spelt(*genres[key])[0], sum(spellings.values()))
            for (library, key), spellings in rows.genres.items()
        ),
        *(("format", library, name, tracks) for (library, name), tracks in rows.formats.items()),
        *(("year", library, year, tracks) for (library, year), tracks in rows.years.items()),
        *(("status", library, status, tracks) for (library, status), tracks in rows.statuses.items()),
    ]
    for kind, library, name, tracks in found:
        for of in (library, _ALL) if len(rows.version) > 1 else (_ALL,):
            counted[of, kind, name] += tracks
    for (library, kind, name), tracks in counted.items():
        yield library, kind, name, tracks


def _words(text: str) -> str:
    """With a blank before each word, so that the beginning of one is found by it."""
    words, joined = found_by(text)
    return f" {' '.join([words, *joined])} {_MARK}"


def _marked(values: Sequence[Any]) -> str:
    return f"{_MARK}{_MARK.join(map(str, values))}{_MARK}" if values else ""
