"""The list of tracks: which ones it shows, in which order, page by page. Nothing is written here.

Lists are paged by position, not by offset: a page begins after the last row's sort value and id, so rows that
come and go between two pages make no other row appear twice or not at all.

SQLite decides without knowing how many rows a condition leaves, and so we do. Few are gathered by the index of the
rarest condition, and sorted. Among many the index of the order is walked until the page is full; an order without
an index of its own is sorted from `ix_tracks_status`, which has all its columns: 100,000 entries in 6 ms, where the
table's rows take 25.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from mus.library.integrity import Integrity
from mus.library.states import TrackState
from mus.persistence.models import Library, Track, TrackSound
from mus.persistence.search import (
    Search,
    has_phrases,
    has_sign,
    hits,
    in_words,
    is_seen_in_words,
    search_for,
)
from mus.persistence.track_sounds import has_integrity

SortValue = str | int | float | bytes | datetime | None
Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class SortField:
    """A way to order tracks; ties go by id. Rows without a value come last in either direction."""

    name: str
    kind: type
    column: ColumnElement[Any] | InstrumentedAttribute[Any]
    value: Callable[[Any], SortValue]
    nullable: bool = False
    #: Whether an index has tracks in this order. For the others `ix_tracks_status` has the column.
    has_index: bool = False


def _by(
    name: str, kind: type, column: InstrumentedAttribute[Any], *, nullable: bool = False, has_index: bool = False
) -> SortField:
    return SortField(name, kind, column, lambda track: getattr(track, column.key), nullable, has_index)


# Discs before tracks, in one number: tags hold at most 99,999 of either (`tag_values.MAX_NUMBER`).
_TRACK_ORDER = func.coalesce(Track.disc_number, 1) * 100_000 + func.coalesce(Track.track_number, 99_999)


def _track_order(track: Any) -> int:
    disc = 1 if track.disc_number is None else track.disc_number
    return disc * 100_000 + (99_999 if track.track_number is None else track.track_number)


SORT_FIELDS: dict[str, SortField] = {
    field.name: field
    for field in (
        _by("title", str, Track.title_key, has_index=True),
        _by("artist", str, Track.artist_key, has_index=True),
        _by("album", str, Track.album_key, has_index=True),
        SortField("track_number", int, _TRACK_ORDER, _track_order),
        _by("year", int, Track.year, nullable=True),
        _by("duration", float, Track.duration_seconds, nullable=True),
        _by("size", int, Track.size),
        _by("path", bytes, Track.path, has_index=True),
        _by("added_at", datetime, Track.added_at, has_index=True),
        _by("updated_at", datetime, Track.updated_at),
        _by("id", int, Track.id, has_index=True),
    )
}


class ListedTrack(NamedTuple):
    """What a list shows of a track, by the names of its columns. A page of objects takes three times as long."""

    id: int
    path: bytes
    title: str
    artist: str | None
    album_artist: str | None
    album: str | None
    track_number: int | None
    disc_number: int | None
    year: int | None
    genre: str | None
    duration_seconds: float | None
    size: int
    format: str | None
    status: str
    error_category: str | None
    error_message: str | None
    added_at: datetime
    updated_at: datetime
    cover: str | None
    title_key: str
    artist_key: str
    album_key: str
    #: The library's name.
    library: str


_LISTED: tuple[Any, ...] = (*(getattr(Track, name) for name in ListedTrack._fields[:-1]), Library.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackFilter:
    """Which tracks a list shows; an empty one is every track that is not in the trash."""

    query: str | None = None
    #: Sorted, each once.
    statuses: tuple[TrackState, ...] = ()
    library_id: int | None = None
    artist: str | None = None
    album: str | None = None
    #: Sorted, each once; none is every track, checked or not.
    integrity: tuple[Integrity, ...] = ()
    #: Of the error that a track has.
    error_category: str | None = None

    @property
    def search(self) -> Search:
        return search_for(query=self.query, artist=self.artist, album=self.album)


@dataclass(frozen=True, slots=True)
class Order:
    field: SortField
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last row's sort value and id."""

    value: SortValue
    id: int


@dataclass(frozen=True, slots=True)
class TrackPage:
    tracks: Sequence[ListedTrack]
    #: Where the next page begins; None on the last page.
    next_position: Position | None


async def track_page(
    session: AsyncSession, wanted: TrackFilter, order: Order, *, after: Position | None, limit: int
) -> TrackPage:
    """One page of the list, with the columns that a list shows."""
    # First the ids, as they are in the indexes. One more than the page holds tells whether another page follows.
    return await _with_tracks(session, await _page_ids(session, wanted, order, after, limit + 1), order, limit)


async def tracks_among(
    session: AsyncSession, ids: Sequence[int], order: Order, *, after: Position | None, limit: int
) -> TrackPage:
    """One page of these tracks, without those that are gone or in the trash by now."""
    # In the statement's text: of parameters a server takes 32,767.
    among = Track.id.in_(bindparam("among", list(ids), expanding=True, literal_execute=True))
    query = _in_order([among, Track.status != TrackState.TRASHED], order, after, gathers=True)
    found = (await session.scalars(query.limit(limit + 1))).all()
    return await _with_tracks(session, found, order, limit)


async def _with_tracks(session: AsyncSession, ids: Sequence[int], order: Order, limit: int) -> TrackPage:
    query = select(*_LISTED).join(Library, Library.id == Track.library_id).where(Track.id.in_(ids[:limit]))
    found = await (await session.connection()).execute(query)
    by_its_id = {row[0]: ListedTrack._make(row) for row in found}
    tracks = [by_its_id[track_id] for track_id in ids[:limit]]
    more = len(ids) > limit
    return TrackPage(tracks, Position(order.field.value(tracks[-1]), tracks[-1].id) if more else None)


async def error_page(
    session: AsyncSession, *, library_id: int | None, category: str | None, after: Position | None, limit: int
) -> TrackPage:
    """Tracks in ERROR, the latest first."""
    wanted = TrackFilter(statuses=(TrackState.ERROR,), library_id=library_id, error_category=category)
    return await track_page(
        session, wanted, Order(SORT_FIELDS["updated_at"], descending=True), after=after, limit=limit
    )


async def matching_ids(session: AsyncSession, wanted: TrackFilter, *, most: int) -> list[int]:
    """Ids of all the tracks that a list would show, at most so many and one more."""
    return await _page_ids(session, wanted, Order(SORT_FIELDS["id"]), None, most + 1)


def conditions_of(wanted: TrackFilter, *, is_sqlite: bool) -> list[Condition]:
    """The conditions on tracks, each by its own index."""
    return [*_conditions(wanted, _BY_ANY, is_sqlite=is_sqlite), *_costly(wanted, is_sqlite=is_sqlite)]


# ------------------------------------------------------------------------------------------- how they are found

#: Fewer tracks than this are gathered and sorted, where the order has an index, and where it has none.
_FEW, _FEW_UNSORTED = 2000, 8000
#: Of so many hits of a search, or more, it is tried whether enough are among the first in an order.
_MANY = 20_000
#: For each row of a page, so many of the first in an order are looked at.
_LOOKED_AT = 8
#: With more libraries than this, an order by path is sorted.
_MERGED_LIBRARIES = 20

_SEARCH, _STATUS, _LIBRARY, _INTEGRITY = "search", "status", "library", "integrity"
_BY_ANY = frozenset({_SEARCH, _STATUS, _LIBRARY, _INTEGRITY})


async def _page_ids(
    session: AsyncSession, wanted: TrackFilter, order: Order, after: Position | None, limit: int
) -> list[int]:
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    few = _FEW if order.field.has_index else _FEW_UNSORTED
    sizes = await _sizes(session, wanted, is_sqlite=is_sqlite)
    rarest = min(sizes, key=sizes.__getitem__, default=None)
    driver = frozenset({rarest} if rarest is not None and sizes[rarest] < few else ())
    conditions = _conditions(wanted, driver, is_sqlite=is_sqlite)
    costly = _costly(wanted, is_sqlite=is_sqlite)
    if order.field.name == "path" and not driver and not wanted.search.signs:
        library_ids = await _library_ids(session, wanted)
        if len(library_ids) <= _MERGED_LIBRARIES:
            return await _merged_by_path(session, library_ids, [*conditions, *costly], order, after, limit)
    if is_sqlite and not driver and _may_have_many(wanted, sizes):
        ids = await _among_the_first(session, wanted, order, after, limit)
        if len(ids) == limit:
            return ids
    query = _in_order(
        [*conditions, *costly],
        order,
        after,
        # Signs are in no index: whoever looks for them reads all rows, best as they lie on the disk.
        gathers=is_sqlite and not driver and bool(wanted.search.signs),
        sorts=is_sqlite and not driver and not wanted.search.signs and not order.field.has_index,
    )
    return list((await session.scalars(query.limit(limit))).all())


async def _sizes(session: AsyncSession, wanted: TrackFilter, *, is_sqlite: bool) -> dict[str, int]:
    """How many tracks each condition leaves that has an index, counted up to `_MANY`."""
    counted: dict[str, Select[Any]] = {}
    if wanted.statuses:
        counted[_STATUS] = select(Track.id).where(Track.status.in_(wanted.statuses)).limit(_MANY)
    if is_sqlite:  # PostgreSQL knows about the others
        if wanted.library_id is not None:
            counted[_LIBRARY] = select(Track.id).where(Track.library_id == wanted.library_id).limit(_MANY)
        if wanted.search.phrases:
            counted[_SEARCH] = hits(wanted.search).limit(_MANY)
        if wanted.integrity:
            counted[_INTEGRITY] = _candidates(wanted.integrity).limit(_MANY)
    if not counted:
        return {}
    row = (
        await session.execute(
            select(
                *(
                    select(func.count()).select_from(found.subquery()).scalar_subquery().label(name)
                    for name, found in counted.items()
                )
            )
        )
    ).one()
    return dict(zip(counted, row, strict=True))


def _conditions(wanted: TrackFilter, by_index: frozenset[str], *, is_sqlite: bool) -> list[Condition]:
    """What the indexes tell of tracks; those in `by_index` are where SQLite begins."""

    def column(name: str, itself: InstrumentedAttribute[Any]) -> Any:
        return itself if name in by_index else _unindexed(itself)

    conditions: list[Condition] = []
    if wanted.statuses:
        conditions.append(column(_STATUS, Track.status).in_(wanted.statuses))
    else:
        conditions.append(Track.status != TrackState.TRASHED)
    if wanted.library_id is not None:
        conditions.append(column(_LIBRARY, Track.library_id) == wanted.library_id)
    if wanted.search.phrases:
        conditions.append(
            column(_SEARCH, Track.id).in_(hits(wanted.search)) if is_sqlite else has_phrases(wanted.search)
        )
    if wanted.integrity and _INTEGRITY in by_index:
        conditions.append(Track.id.in_(_candidates(wanted.integrity)))
    return conditions


def _costly(wanted: TrackFilter, *, is_sqlite: bool) -> list[Condition]:
    """What only a track's row, or another table's, tells."""
    conditions = [has_sign(sign, is_sqlite=is_sqlite) for sign in wanted.search.signs]
    if wanted.error_category is not None:
        conditions.append(Track.error_category == wanted.error_category)
    if wanted.integrity:
        conditions.append(has_integrity(wanted.integrity))
    return conditions


def _candidates(states: Sequence[Integrity]) -> Select[Any]:
    """Tracks that have such a sound, or had."""
    return select(TrackSound.track_id).where(TrackSound.integrity.in_(states))


async def _library_ids(session: AsyncSession, wanted: TrackFilter) -> Sequence[int]:
    if wanted.library_id is not None:
        return [wanted.library_id]
    return (await session.scalars(select(Library.id))).all()


_PLACE = (Track.path, Track.id)


async def _merged_by_path(
    session: AsyncSession,
    library_ids: Sequence[int],
    conditions: Sequence[Condition],
    order: Order,
    after: Position | None,
    limit: int,
) -> list[int]:
    """Each library is in this order by the index that makes its paths unique."""
    if after is not None:
        # Also by the path alone: of the two columns, that index has one.
        entered = Track.path <= after.value if order.descending else Track.path >= after.value
        conditions = [*conditions, entered]
    parts = [
        _in_order([Track.library_id == library_id, *conditions], order, after, columns=_PLACE).limit(limit)
        for library_id in library_ids
    ]
    places = [(row.path, row.id) for part in parts for row in await session.execute(part)]
    return [track_id for _, track_id in sorted(places, reverse=order.descending)[:limit]]


def _may_have_many(wanted: TrackFilter, sizes: Mapping[str, int]) -> bool:
    is_slow_otherwise = _SEARCH in sizes or _INTEGRITY in sizes or wanted.error_category is not None
    return is_slow_otherwise and min(sizes.values()) >= _MANY and is_seen_in_words(wanted.search)


async def _among_the_first(
    session: AsyncSession, wanted: TrackFilter, order: Order, after: Position | None, limit: int
) -> list[int]:
    """The page; less where too few of the first tracks in this order are wanted.

    A search for "the" hits half of a library. To gather those takes longer than to look at some hundred tracks
    themselves.
    """
    others = TrackFilter(statuses=wanted.statuses, library_id=wanted.library_id)
    first = _in_order(
        _conditions(others, frozenset(), is_sqlite=True), order, after, sorts=not order.field.has_index
    )
    conditions = [
        Track.id.in_(first.limit(limit * _LOOKED_AT)),
        *(in_words(phrase) for phrase in wanted.search.phrases),
        *_costly(wanted, is_sqlite=True),
    ]
    query = _in_order(conditions, order, None, gathers=True)
    return list((await session.scalars(query.limit(limit))).all())


def _in_order(
    conditions: Sequence[Condition],
    order: Order,
    after: Position | None,
    *,
    columns: Sequence[Any] = (Track.id,),
    gathers: bool = False,
    sorts: bool = False,
) -> Select[Any]:
    """`columns` of the tracks after a position.

    SQLite `gathers` them whatever index the order has, or `sorts` them from `ix_tracks_status`.
    """
    value: Any = order.field.column
    ids: Any = Track.id
    query: Select[Any] = select(*columns).where(*conditions)
    if after is not None:
        query = query.where(_beyond(order, after))
    if sorts:
        # What comes in that index's order is read from it: with statistics SQLite would read the tracks. The limit,
        # which is none, holds it to that. And so the largest values, as a rule of the newest tracks, come first
        # where they are wanted: the sorter has less to do, 9 ms, not 32, for the 1,000 that changed last.
        places = [column.desc() if order.descending else column for column in (Track.status, Track.id)]
        inner = query.add_columns(value.label("value")).order_by(*places).limit(-1).subquery()
        query = select(inner.c.id)
        value, ids = inner.c.value, inner.c.id
    elif gathers:
        value = _unindexed(value)
    by_value, by_id = (value.desc(), ids.desc()) if order.descending else (value.asc(), ids.asc())
    return query.order_by(by_value.nulls_last() if order.field.nullable else by_value, by_id)


def _beyond(order: Order, after: Position) -> Condition:
    column, ids = order.field.column, Track.id
    if after.value is None:
        return and_(column.is_(None), ids < after.id if order.descending else ids > after.id)
    row = tuple_(column, ids)
    value = tuple_(after.value, after.id, types=(column.type, ids.type))
    beyond = row < value if order.descending else row > value
    return or_(beyond, column.is_(None)) if order.field.nullable else beyond


def _unindexed(column: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """The column where nearly every row has the value: its index would only cost the sort's own index.

    SQLite, without statistics, takes any equality for rare and would gather and sort the whole library.
    """
    return func.coalesce(column, None)
