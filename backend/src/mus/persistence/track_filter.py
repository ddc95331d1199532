"""What a list of tracks is asked for: which ones, in which order, after which position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func
from sqlalchemy.orm import InstrumentedAttribute

from mus.library.albums import VARIOUS, album_artist_of
from mus.library.integrity import Integrity
from mus.library.states import TrackState
from mus.persistence.models import Track
from mus.persistence.search import Search, search_for

SortValue = str | int | float | bytes | datetime | tuple[str | int, ...] | None


@dataclass(frozen=True, slots=True)
class SortField:
    """A way to order tracks; ties go by `ties`, then by id. Rows without a value come last in either direction."""

    name: str
    #: Of the value; with `ties` of all of them, and the value is a tuple.
    kind: type | tuple[type, ...]
    column: ColumnElement[Any] | InstrumentedAttribute[Any]
    value: Callable[[Any], SortValue]
    nullable: bool = False
    #: Whether an index has tracks in this order. For the others `ix_tracks_status` has the column.
    has_index: bool = False
    #: None of them is ever null. The tracks of one value are sorted by these as they are walked by.
    ties: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = ()


def _by(
    name: str, kind: type, column: InstrumentedAttribute[Any], *, nullable: bool = False, has_index: bool = False
) -> SortField:
    return SortField(name, kind, column, lambda track: getattr(track, column.key), nullable, has_index)


# Discs before tracks, in one number: tags hold at most 99,999 of either (`tag_values.MAX_NUMBER`).
_TRACK_ORDER = func.coalesce(Track.disc_number, 1) * 100_000 + func.coalesce(Track.track_number, 99_999)


def _track_order(track: Any) -> int:
    disc = 1 if track.disc_number is None else track.disc_number
    return disc * 100_000 + (99_999 if track.track_number is None else track.track_number)


#: Whose album it is (`library.albums.album_artist_of`), so that two of one title stay apart.
_ALBUM_ARTIST = func.coalesce(
    func.nullif(Track.album_artist, ""), case((Track.compilation, VARIOUS), else_=Track.artist), ""
)


def _album_artist(track: Any) -> str:
    return album_artist_of(track.album_artist, track.artist, compilation=track.compilation) or ""


SORT_FIELDS: dict[str, SortField] = {
    field.name: field
    for field in (
        _by("title", str, Track.title_key, has_index=True),
        SortField(
            "artist",
            (str, str, str, int),
            Track.artist_key,
            lambda track: (track.artist_key, track.album_key, _album_artist(track), _track_order(track)),
            has_index=True,
            ties=(Track.album_key, _ALBUM_ARTIST, _TRACK_ORDER),
        ),
        SortField(
            "album",
            (str, str, int),
            Track.album_key,
            lambda track: (track.album_key, _album_artist(track), _track_order(track)),
            has_index=True,
            ties=(_ALBUM_ARTIST, _TRACK_ORDER),
        ),
        SortField("track_number", int, _TRACK_ORDER, _track_order),
        _by("year", int, Track.year, nullable=True, has_index=True),
        _by("duration", float, Track.duration_seconds, nullable=True, has_index=True),
        _by("size", int, Track.size),
        _by("path", bytes, Track.path, has_index=True),
        _by("added_at", datetime, Track.added_at, has_index=True),
        _by("updated_at", datetime, Track.updated_at, has_index=True),
        _by("id", int, Track.id, has_index=True),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackFilter:
    """Which tracks a list shows; an empty one is every track that is not in the trash."""

    query: str | None = None
    #: Sorted, each once.
    statuses: tuple[TrackState, ...] = ()
    library_id: int | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    format: str | None = None
    #: Both included; a track without a year is in no range.
    year_from: int | None = None
    year_to: int | None = None
    #: Sorted, each once; none is every track, checked or not.
    integrity: tuple[Integrity, ...] = ()
    #: Of the error that a track has.
    error_category: str | None = None
    #: Its message, without what differs from file to file: `…` stands for that.
    error_reason: str | None = None

    @property
    def search(self) -> Search:
        return search_for(query=self.query, artist=self.artist, album=self.album, genre=self.genre)


@dataclass(frozen=True, slots=True)
class Order:
    field: SortField
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last row's sort value and id."""

    value: SortValue
    id: int
