"""How the tracks of a list are found: their ids, in order.

SQLite decides without knowing how many rows a condition leaves, and so we do. Few are gathered, and sorted. Among
many the index of the order is walked until the page is full, and whatever else is asked for is a set of ids that
the walk looks into: for an entry that takes 0.1 us, where a look at the track itself takes 1 to 5. An order without
an index of its own is sorted from `ix_tracks_status`, which has its columns and those of `_facts`: 100,000 entries
in 4 to 10 ms, where the table's rows take 25 and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from mus.library.states import TrackState
from mus.persistence.models import Library, Track, TrackSound
from mus.persistence.search import has_phrases, hits
from mus.persistence.track_filter import Order, Position, TrackFilter
from mus.persistence.track_sounds import has_integrity

Condition = ColumnElement[bool]

#: Fewer tracks than this are gathered and sorted.
_FEW = 2000
#: For each row of a page, so many of the first in an order are looked at.
_LOOKED_AT = 8
#: With more libraries than this, an order by path is sorted.
_MERGED_LIBRARIES = 20


async def page_ids(
    session: AsyncSession, wanted: TrackFilter, order: Order, after: Position | None, limit: int, offset: int = 0
) -> list[int]:
    """Ids of the tracks from `offset` on after the position, `limit` at most."""
    if session.get_bind().dialect.name != "sqlite":
        conditions = await _conditions_on_server(session, wanted)
        if order.field.nullable and order.field.has_index and order.descending and not offset:
            return await _with_value_first(session, conditions, order, after, limit)
        return await _in_order_or_merged(session, wanted, conditions, order, after, limit, offset)
    facts, costly = _facts(Track, wanted), _costly(wanted)
    if facts or wanted.search.phrases or wanted.integrity:
        candidates = await _found(session, _candidates(wanted), _FEW)
        if len(candidates) < _FEW:
            return await _found(session, among(candidates, wanted, order, after), limit, offset)
    if not order.field.has_index:
        scanned = [*(facts or [_unindexed(Track.status) != TrackState.TRASHED]), *_searched(wanted), *costly]
        return await _found(session, _in_order(scanned, order, after, sorts=True), limit, offset)
    if facts and not offset and order.field.name != "path":
        # As a rule what is common is common among the first too. A set of nearly all tracks takes 15 ms to make.
        first = _in_order([_NOT_TRASHED, *_searched(wanted)], order, after).limit(limit * _LOOKED_AT)
        query = _in_order([Track.id.in_(first), *facts, *costly], order, None, gathers=True)
        if len(ids := await _found(session, query, limit)) == limit:
            return ids
    walked = [_is_meant(wanted), *_searched(wanted), *costly]
    return await _in_order_or_merged(session, wanted, walked, order, after, limit, offset)


async def track_count(session: AsyncSession, wanted: TrackFilter) -> int:
    """How many tracks a list shows in all."""
    query: Select[Any]
    if session.get_bind().dialect.name != "sqlite":
        query = select(Track.id).where(*await _conditions_on_server(session, wanted))
    elif costly := _costly(wanted):
        query = select(Track.id).where(Track.id.in_(_candidates(wanted)), _NOT_TRASHED, *costly)
        if wanted.statuses:
            query = select(Track.id).where(Track.id.in_(_candidates(wanted)), *costly)
    elif wanted.search.phrases and not _facts(Track, wanted):
        found = hits(wanted.search)
        query = found.where(found.selected_columns[0].not_in(_TRASHED))
    else:
        query = _candidates(wanted)
    return (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()


def among(ids: Sequence[int], wanted: TrackFilter, order: Order, after: Position | None) -> Select[Any]:
    """Those of these tracks that the list shows, in order."""
    # In the statement's text: of parameters a server takes 32,767.
    chosen = Track.id.in_(bindparam("among", list(ids), expanding=True, literal_execute=True))
    facts = _facts(Track, wanted) or [_unindexed(Track.status) != TrackState.TRASHED]
    return _in_order([chosen, *facts, *_costly(wanted)], order, after, gathers=True)


def conditions_of(wanted: TrackFilter, *, is_sqlite: bool) -> list[Condition]:
    """The conditions on tracks, each by its own index."""
    conditions: list[Condition] = [Track.status != TrackState.TRASHED]
    if wanted.statuses:
        conditions = [Track.status.in_(wanted.statuses)]
    if wanted.library_id is not None:
        conditions.append(Track.library_id == wanted.library_id)
    conditions += _kinds(wanted)
    if wanted.search.phrases:
        conditions.append(Track.id.in_(hits(wanted.search)) if is_sqlite else has_phrases(wanted.search))
    return [*conditions, *_costly(wanted)]


# ------------------------------------------------------------------------------------------------ the conditions


def _kinds(wanted: TrackFilter, *, of_format: Any = Track.format, year: Any = Track.year) -> list[Condition]:
    conditions: list[Condition] = []
    if wanted.format is not None:
        conditions.append(of_format == wanted.format)
    if wanted.year_from is not None:
        conditions.append(year >= wanted.year_from)
    if wanted.year_to is not None:
        conditions.append(year <= wanted.year_to)
    return conditions


def _facts(track: Any, wanted: TrackFilter) -> list[Condition]:
    """What `ix_tracks_status` tells of a track; nothing where all are wanted but those in the trash."""
    conditions = _kinds(wanted, of_format=track.format, year=_unindexed(track.year))
    if wanted.library_id is not None:
        conditions.append(_unindexed(track.library_id) == wanted.library_id)
    if wanted.statuses:
        return [_unindexed(track.status).in_(wanted.statuses), *conditions]
    return [_unindexed(track.status) != TrackState.TRASHED, *conditions] if conditions else []


_OTHER = aliased(Track)
#: A few, as a rule; and as a set it spares the look at each track that a walk comes by.
_TRASHED = select(_OTHER.id).where(_OTHER.status == TrackState.TRASHED)
_NOT_TRASHED = Track.id.not_in(_TRASHED)


def _is_meant(wanted: TrackFilter) -> Condition:
    """Whether a track has these facts, by its id alone."""
    if wanted.library_id is None and not _kinds(wanted):
        # Of the tracks that are not meant there are fewer, as a rule, than of those that are.
        others = [status for status in TrackState if status not in wanted.statuses]
        return (
            Track.id.not_in(select(_OTHER.id).where(_OTHER.status.in_(others))) if wanted.statuses else _NOT_TRASHED
        )
    return _unindexed(Track.id).in_(_with_facts(wanted))


def _with_facts(wanted: TrackFilter, *others: Select[Any]) -> Select[Any]:
    """Ids of the tracks with these facts that are in all other sets, from that index alone.

    What comes in that index's order is read from it: with statistics SQLite would read the tracks. The limit, which
    is none, holds it to that.
    """
    facts = _facts(_OTHER, wanted) or [_unindexed(_OTHER.status) != TrackState.TRASHED]
    statuses = [_OTHER.status.in_(wanted.statuses)] if wanted.statuses else []
    query = select(_OTHER.id).where(*statuses, *facts, *(_unindexed(_OTHER.id).in_(other) for other in others))
    return query.order_by(_OTHER.status, _OTHER.id).limit(-1)


def _candidates(wanted: TrackFilter) -> Select[Any]:
    """Ids of tracks that are all that indexes can tell; of those in the trash too where only words are wanted."""
    sets: list[Select[Any]] = [hits(wanted.search)] if wanted.search.phrases else []
    if wanted.integrity:
        sets.append(select(TrackSound.track_id).where(TrackSound.integrity.in_(wanted.integrity)))
    if _facts(Track, wanted) or not sets:
        return _with_facts(wanted, *sets)
    first, *others = sets
    return first.where(*(first.selected_columns[0].in_(each) for each in others))


def _searched(wanted: TrackFilter) -> list[Condition]:
    return [_unindexed(Track.id).in_(hits(wanted.search))] if wanted.search.phrases else []


def _costly(wanted: TrackFilter) -> list[Condition]:
    """What only a track's row, or another table's, tells."""
    conditions: list[Condition] = []
    if wanted.error_category is not None:
        conditions.append(Track.error_category == wanted.error_category)
    if wanted.error_reason is not None:
        parts = (
            part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            for part in wanted.error_reason.split("…")
        )
        # What was cut off the end of a long one may be anything.
        conditions.append(Track.error_message.like("%".join(parts) + "%", escape="\\"))
    if wanted.integrity:
        conditions.append(has_integrity(wanted.integrity))
    return conditions


async def _conditions_on_server(session: AsyncSession, wanted: TrackFilter) -> list[Condition]:
    """For PostgreSQL, which knows how common everything is but a status, of which it takes the walk for cheap."""
    conditions = conditions_of(wanted, is_sqlite=False)
    if wanted.statuses:
        some = select(Track.id).where(Track.status.in_(wanted.statuses))
        if len(await _found(session, some, _FEW)) == _FEW:
            conditions[0] = _unindexed(Track.status).in_(wanted.statuses)
    return conditions


# ----------------------------------------------------------------------------------------------------- the order


async def _found(session: AsyncSession, query: Select[Any], limit: int, offset: int = 0) -> list[int]:
    query = query.limit(limit)
    return list((await session.scalars(query.offset(offset) if offset else query)).all())


async def _library_ids(session: AsyncSession, wanted: TrackFilter) -> Sequence[int]:
    if wanted.library_id is not None:
        return [wanted.library_id]
    return (await session.scalars(select(Library.id))).all()


async def _with_value_first(
    session: AsyncSession, conditions: Sequence[Condition], order: Order, after: Position | None, limit: int
) -> list[int]:
    """For PostgreSQL, which has the tracks without a value first when it walks an index backwards, and would sort
    all of them to have those last."""
    value: Any = order.field.column
    ids: list[int] = []
    if after is None or after.value is not None:
        query = select(Track.id).where(*conditions, value.is_not(None)).order_by(value.desc(), Track.id.desc())
        if after is not None:
            query = query.where(_row_beyond(order, after))
        ids = await _found(session, query, limit)
        after = None
    if len(ids) < limit:
        query = select(Track.id).where(*conditions, value.is_(None)).order_by(Track.id.desc())
        if after is not None:
            query = query.where(Track.id < after.id)
        ids += await _found(session, query, limit - len(ids))
    return ids


async def _in_order_or_merged(
    session: AsyncSession,
    wanted: TrackFilter,
    conditions: Sequence[Condition],
    order: Order,
    after: Position | None,
    limit: int,
    offset: int,
) -> list[int]:
    if order.field.name == "path":
        library_ids = await _library_ids(session, wanted)
        if len(library_ids) == 1 or (not offset and len(library_ids) <= _MERGED_LIBRARIES):
            return await _merged_by_path(session, library_ids, conditions, order, after, limit, offset)
    if offset and order.field.ties:
        begun = await _begun_at_value(session, conditions, order, after, offset)
        if begun is None:
            return []
        conditions, offset = begun
    return await _found(session, _in_order(conditions, order, after), limit, offset)


async def _begun_at_value(
    session: AsyncSession, conditions: Sequence[Condition], order: Order, after: Position | None, offset: int
) -> tuple[list[Condition], int] | None:
    """The conditions and offset by which the same tracks are found among those of the first one's value and later;
    None where there are none. What lies before is counted by the index alone: to walk it in order would sort the
    tracks of each value on the way, 60 ms for 99,000 in place of 8."""
    column: Any = order.field.column
    sought = select(column).where(*conditions)
    if after is not None:
        sought = sought.where(_beyond(order, after))
    in_order = sought.order_by(column.desc() if order.descending else column.asc())
    value = (await session.scalars(in_order.limit(1).offset(offset))).one_or_none()
    if value is None:
        return None
    earlier = sought.where(column > value if order.descending else column < value)
    passed = (await session.execute(select(func.count()).select_from(earlier.subquery()))).scalar_one()
    return [*conditions, column <= value if order.descending else column >= value], offset - passed


_PLACE = (Track.path, Track.id)


async def _merged_by_path(
    session: AsyncSession,
    library_ids: Sequence[int],
    conditions: Sequence[Condition],
    order: Order,
    after: Position | None,
    limit: int,
    offset: int,
) -> list[int]:
    """Each library is in this order by the index that makes its paths unique; an offset is for one library."""
    if after is not None:
        # Also by the path alone: of the two columns, that index has one.
        entered = Track.path <= after.value if order.descending else Track.path >= after.value
        conditions = [*conditions, entered]
    parts = [
        _in_order([Track.library_id == library_id, *conditions], order, after, columns=_PLACE)
        .limit(limit)
        .offset(offset)
        for library_id in library_ids
    ]
    places = [(row.path, row.id) for part in parts for row in await session.execute(part)]
    return [track_id for _, track_id in sorted(places, reverse=order.descending)[:limit]]


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
    ties: Sequence[Any] = order.field.ties
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
    by_value, *rest = ((each.desc() if order.descending else each.asc()) for each in (value, *ties, ids))
    return query.order_by(by_value.nulls_last() if order.field.nullable else by_value, *rest)


def _beyond(order: Order, after: Position) -> Condition:
    column, ids = order.field.column, Track.id
    if after.value is None:
        return and_(column.is_(None), ids < after.id if order.descending else ids > after.id)
    beyond = _row_beyond(order, after)
    return or_(beyond, column.is_(None)) if order.field.nullable else beyond


def _row_beyond(order: Order, after: Position) -> Condition:
    columns: list[Any] = [order.field.column, *order.field.ties, Track.id]
    values = after.value if isinstance(after.value, tuple) else (after.value,)
    row = tuple_(*columns)
    value = tuple_(*values, after.id, types=[column.type for column in columns])
    return row < value if order.descending else row > value


def _unindexed(column: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """The column where nearly every row has the value: its index would only cost the sort's own index.

    SQLite, without statistics, takes any equality for rare and would gather and sort the whole library.
    """
    return func.coalesce(column, None)
