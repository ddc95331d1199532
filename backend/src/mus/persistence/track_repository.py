"""Reading tracks: single ones, where they lie, how many there are. Nothing is written here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from mus.errors import NotFoundError
from mus.library.states import TrackState
from mus.persistence.models import Track
from mus.persistence.track_filter import TrackFilter
from mus.persistence.track_ids import conditions_of

#: What lists show of a track that are not `track_list`'s.
LISTED = load_only(
    Track.id,
    Track.library_id,
    Track.path,
    Track.title,
    Track.artist,
    Track.album_artist,
    Track.album,
    Track.track_number,
    Track.disc_number,
    Track.year,
    Track.genre,
    Track.duration_seconds,
    Track.size,
    Track.format,
    Track.status,
    Track.error_category,
    Track.error_message,
    Track.added_at,
    Track.updated_at,
    Track.cover,
    Track.artists,
    Track.compilation,
    Track.title_key,
    Track.artist_key,
    Track.album_key,
    raiseload=True,
)


async def track_named(session: AsyncSession, track_id: int) -> Track:
    """Raises NotFoundError."""
    track = await session.get(Track, track_id)
    if track is None:
        raise NotFoundError(f"There is no track {track_id}")
    return track


async def tracks_named(session: AsyncSession, track_ids: Sequence[int]) -> list[Track]:
    """Those that are there, in this order, each once."""
    found = {track.id: track for track in await session.scalars(select(Track).where(Track.id.in_(track_ids)))}
    return [found[track_id] for track_id in dict.fromkeys(track_ids) if track_id in found]


async def paths_in_error(session: AsyncSession, wanted: TrackFilter) -> list[tuple[int, bytes]]:
    """Library and path of every such track, by library, in the order of their ids."""
    rows = await session.execute(
        select(Track.library_id, Track.path).where(*_fitting(session, wanted)).order_by(Track.library_id, Track.id)
    )
    return [(row.library_id, row.path) for row in rows]


class ErrorMessage(NamedTuple):
    """How many tracks have an error with this message, and since when the latest."""

    category: str
    message: str
    tracks: int
    latest: datetime


async def error_messages(session: AsyncSession, wanted: TrackFilter) -> list[ErrorMessage]:
    """Of all such tracks."""
    latest = func.max(Track.updated_at, type_=Track.updated_at.type)
    rows = await session.execute(
        select(Track.error_category, Track.error_message, func.count().label("tracks"), latest.label("latest"))
        .where(*_fitting(session, wanted))
        .group_by(Track.error_category, Track.error_message)
    )
    return [ErrorMessage(row.error_category or "", row.error_message or "", row.tracks, row.latest) for row in rows]


async def common_folders(
    session: AsyncSession, *, library_id: int | None, artist: str | None, album: str | None
) -> dict[int, bytes]:
    """For each library with such tracks, the deepest folder that all of them lie in; b"" is the root."""
    rows = await session.execute(
        select(Track.library_id, Track.path).where(
            *_fitting(session, TrackFilter(library_id=library_id, artist=artist, album=album))
        )
    )
    folders: dict[int, set[bytes]] = {}
    for row in rows:
        folders.setdefault(row.library_id, set()).add(os.path.dirname(row.path))
    return {library: os.path.commonpath(found) for library, found in folders.items()}


async def tracks_by_status(session: AsyncSession) -> dict[str, int]:
    """How many tracks there are, by status: from an index alone, 3 to 11 ms for 100,000 tracks on SQLite."""
    rows = await session.execute(select(Track.status, func.count().label("tracks")).group_by(Track.status))
    return dict.fromkeys(TrackState, 0) | {row.status: row.tracks for row in rows}


async def has_tracks_below(session: AsyncSession, library_id: int, folder: bytes) -> bool:
    """Whether any track, gone ones included, is known to lie in the folder."""
    # `0` is the byte after `/`: the range of all paths that begin with the folder and a slash.
    found = await session.execute(
        select(Track.id)
        .where(Track.library_id == library_id, Track.path >= folder + b"/", Track.path < folder + b"0")
        .limit(1)
    )
    return found.first() is not None


def _fitting(session: AsyncSession, wanted: TrackFilter) -> list[ColumnElement[bool]]:
    return conditions_of(wanted, is_sqlite=session.get_bind().dialect.name == "sqlite")
