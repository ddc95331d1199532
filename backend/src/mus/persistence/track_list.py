"""The list of tracks: pages of it, and how long it is. Nothing is written here.

Lists are paged by position: a page begins after the last row's sort value and id, so rows that come and go between
two pages make no other row appear twice or not at all. Whoever shows a part of a long list may begin at an offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.persistence.models import Library, Track
from mus.persistence.track_filter import SORT_FIELDS, Order, Position, TrackFilter
from mus.persistence.track_ids import among, page_ids


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
    library_id: int
    artists: list[str] | None
    compilation: bool
    title_key: str
    artist_key: str
    album_key: str
    #: The library's name.
    library: str


_LISTED: tuple[Any, ...] = (*(getattr(Track, name) for name in ListedTrack._fields[:-1]), Library.name)


@dataclass(frozen=True, slots=True)
class TrackPage:
    tracks: Sequence[ListedTrack]
    #: Where the next page begins; None on the last page.
    next_position: Position | None


async def track_page(
    session: AsyncSession,
    wanted: TrackFilter,
    order: Order,
    *,
    after: Position | None = None,
    offset: int = 0,
    limit: int,
) -> TrackPage:
    """One page of the list, with the columns that a list shows."""
    # First the ids, as they are in the indexes. One more than the page holds tells whether another page follows.
    return await _with_tracks(
        session, await page_ids(session, wanted, order, after, limit + 1, offset), order, limit
    )


async def tracks_among(
    session: AsyncSession, ids: Sequence[int], order: Order, *, after: Position | None, limit: int
) -> TrackPage:
    """One page of these tracks, without those that are gone or in the trash by now."""
    query = among(ids, TrackFilter(), order, after).limit(limit + 1)
    return await _with_tracks(session, (await session.scalars(query)).all(), order, limit)


async def _with_tracks(session: AsyncSession, ids: Sequence[int], order: Order, limit: int) -> TrackPage:
    query = select(*_LISTED).join(Library, Library.id == Track.library_id).where(Track.id.in_(ids[:limit]))
    found = await (await session.connection()).execute(query)
    by_its_id = {row[0]: ListedTrack._make(row) for row in found}
    tracks = [by_its_id[track_id] for track_id in ids[:limit]]
    more = len(ids) > limit
    return TrackPage(tracks, Position(order.field.value(tracks[-1]), tracks[-1].id) if more else None)


async def error_page(
    session: AsyncSession, wanted: TrackFilter, *, after: Position | None, limit: int
) -> TrackPage:
    """Tracks in ERROR, the latest first."""
    return await track_page(
        session, wanted, Order(SORT_FIELDS["updated_at"], descending=True), after=after, limit=limit
    )


async def matching_ids(session: AsyncSession, wanted: TrackFilter, *, most: int) -> list[int]:
    """Ids of all the tracks that a list would show, at most so many and one more."""
    return await page_ids(session, wanted, Order(SORT_FIELDS["id"]), None, most + 1)
