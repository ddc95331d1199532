"""Albums, artists and what filters offer, as they go over the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from mus.api.schemas import Page, T, TrackItem
from mus.library.states import TrackState

_COVER = "A track whose cover stands for it; null if none has one"


class CountedPage(Page[T]):
    """A part of a list of known length."""

    total: int = Field(description="Items of the whole list")


class AlbumItem(BaseModel):
    """Tracks of one library with one album title and one album artist, or else artist."""

    id: str = Field(description="Made of the library, the artist and the title: it stays as long as they do")
    title: str
    album_artist: str | None = Field(
        description="Without one in the tags: `Various Artists` for a compilation, else the tracks' artist"
    )
    year: int | None = Field(description="The latest of its tracks' years")
    tracks: int
    duration: float = Field(description="Seconds, of all its tracks")
    added_at: datetime = Field(description="When its latest track came")
    cover_track_id: int | None = Field(description=_COVER)
    library: str
    artist_id: str | None = Field(description="Of `album_artist`")


class AlbumDetail(AlbumItem, Page[TrackItem]):
    """An album with its tracks, by disc and track number."""


class ArtistItem(BaseModel):
    """A name that tracks have as artist, as one of several artists, or as album artist."""

    id: str = Field(description="Made of the name: it stays as long as that does")
    name: str
    albums: int = Field(description="Albums that go by this name, or on which it has a track")
    tracks: int
    cover_track_id: int | None = Field(description=_COVER)


class ArtistDetail(ArtistItem, CountedPage[AlbumItem]):
    """An artist with the albums that `albums` counts, the latest first."""


class GenreCount(BaseModel):
    name: str
    tracks: int


class FormatCount(BaseModel):
    name: str
    tracks: int


class YearCount(BaseModel):
    year: int
    tracks: int


class StatusCount(BaseModel):
    status: TrackState
    tracks: int


class Genres(BaseModel):
    items: list[GenreCount]


class Facets(BaseModel):
    """What filters can choose from, with the number of tracks for each."""

    genres: list[GenreCount] = Field(description="The most common first")
    formats: list[FormatCount] = Field(description="The most common first")
    years: list[YearCount] = Field(description="The latest first")
    statuses: list[StatusCount] = Field(description="The most common first")
