"""Tracks that are there more than once: of one sound, or with the same tags and length. Nothing is written here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from mus.library.states import LIVE_STATES
from mus.persistence.models import Track
from mus.persistence.track_repository import LISTED

#: Two encodings of one recording differ so much in length.
_SAME_LENGTH_SECONDS = 1.0


class DuplicateKind(StrEnum):
    SOUND = "sound"  # the same audio, byte for byte, whatever the tags say
    TAGS = "tags"  # the same title, artist and album, about as long, and not all of one sound


Key = tuple[Any, ...]


async def duplicate_groups(
    session: AsyncSession, kind: DuplicateKind, *, library_id: int | None, after: Key | None, limit: int
) -> tuple[list[list[Track]], Key | None]:
    """A page of groups of at least two tracks, and the key after which the next page begins.

    In the order of the hashes, or of titles, artists and albums. With `library_id` both are of that library.
    """
    columns = _COLUMNS[kind]
    conditions = [*_CONDITIONS[kind], Track.status.in_(LIVE_STATES)]
    if library_id is not None:
        conditions.append(Track.library_id == library_id)
    grouped = select(*columns).where(*conditions).group_by(*columns).having(func.count() > 1)
    if after is not None:
        types = tuple(column.type for column in columns)
        grouped = grouped.where(tuple_(*columns) > tuple_(*after, types=types))
    rows = (await session.execute(grouped.order_by(*columns).limit(limit + 1))).all()
    keys = [tuple(row) for row in rows[:limit]]
    members = await _members(session, columns, keys, conditions)
    groups = [group for key in keys for group in _split(kind, members[key])]
    return groups, keys[-1] if len(rows) > limit else None


_COLUMNS: dict[DuplicateKind, tuple[Any, ...]] = {
    DuplicateKind.SOUND: (Track.audio_hash,),
    DuplicateKind.TAGS: (Track.title_key, Track.artist_key, Track.album_key),
}
_CONDITIONS: dict[DuplicateKind, tuple[ColumnElement[bool], ...]] = {
    # Another version's hash is none of this file's.
    DuplicateKind.SOUND: (Track.audio_hash.is_not(None), Track.analysis_version > 0),
    # A title alone is a file's name: "Track 01".
    DuplicateKind.TAGS: (or_(Track.artist_key != "", Track.album_key != ""),),
}


#: Of the members, besides what lists show: which to keep is decided by the last three.
_TELLING = (Track.audio_hash, Track.analysis_version, Track.bitrate_kbps, Track.sample_rate_hz, Track.channels)


async def _members(
    session: AsyncSession, columns: Sequence[Any], keys: Collection[Key], conditions: Iterable[ColumnElement[bool]]
) -> dict[Hashable, list[Track]]:
    members: dict[Hashable, list[Track]] = defaultdict(list)
    if keys:
        types = tuple(column.type for column in columns)
        wanted = tuple_(*columns, types=types).in_(list(keys))
        options = (LISTED, *(undefer(column) for column in _TELLING))
        for track in await session.scalars(
            select(Track).options(*options).where(wanted, *conditions).order_by(Track.id)
        ):
            members[tuple(getattr(track, column.key) for column in columns)].append(track)
    return members


def _split(kind: DuplicateKind, tracks: list[Track]) -> Iterator[list[Track]]:
    """The groups among tracks of one key: by length, where the key is their tags."""
    if kind is DuplicateKind.SOUND:
        yield tracks
        return
    by_length = sorted(tracks, key=lambda track: track.duration_seconds or 0.0)
    group = by_length[:1]
    for one, other in pairwise(by_length):
        if (other.duration_seconds or 0.0) - (one.duration_seconds or 0.0) > _SAME_LENGTH_SECONDS:
            yield from _if_telling(group)
            group = []
        group.append(other)
    yield from _if_telling(group)


def _if_telling(group: list[Track]) -> Iterator[list[Track]]:
    sounds = {track.audio_hash if track.analysis_version else None for track in group}
    if len(group) > 1 and (len(sounds) > 1 or None in sounds):
        yield sorted(group, key=lambda track: track.id)
