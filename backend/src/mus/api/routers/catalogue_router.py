"""Albums, artists, genres, and what filters offer: from the catalogue, which may be a moment old."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator
from pydantic_core import to_json
from starlette.requests import HTTPConnection

from mus.api.catalogue_schemas import (
    AlbumDetail,
    AlbumItem,
    ArtistDetail,
    ArtistItem,
    CountedPage,
    Facets,
    FormatCount,
    GenreCount,
    Genres,
    StatusCount,
    YearCount,
)
from mus.api.current_catalogue import CurrentCatalogue
from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import (
    CursorParam,
    FormatParam,
    GenreParam,
    LibraryParam,
    LimitParam,
    RuntimeDep,
    YearParam,
)
from mus.api.problems import FieldError, problems
from mus.api.views import track_fields
from mus.errors import NotFoundError
from mus.library.states import TrackState
from mus.persistence.catalogue import (
    ALBUM_SORTS,
    AlbumFilter,
    Catalogue,
    ListedAlbum,
    ListedArtist,
    ListedPage,
    Place,
)
from mus.persistence.libraries import library_named, library_names
from mus.persistence.track_filter import SORT_FIELDS, Order, Position
from mus.persistence.track_list import tracks_among

router = APIRouter(tags=["albums and artists"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACK_ORDER = Order(SORT_FIELDS["track_number"])


async def _catalogue(request: HTTPConnection) -> Catalogue:
    current: CurrentCatalogue = request.app.state.catalogue
    return await current.get()


CatalogueDep = Annotated[Catalogue, Depends(_catalogue)]
IdPath = Annotated[str, Path(max_length=100)]


def _one_of(*names: str) -> Any:
    def check(text: str) -> str:
        if text.removeprefix("-") not in names:
            raise ValueError(f"Must be one of {', '.join(names)}, with - before it for descending")
        return text

    return AfterValidator(check)


def _sort_query(*names: str) -> Any:
    pattern = f"^-?({'|'.join(names)})$"
    return Query(description="A field; `-` before it for descending", json_schema_extra={"pattern": pattern})


def _words_query(of: str) -> Any:
    return Query(max_length=500, description=f"Words that {of} contains; each may be the beginning of one")


AlbumSortParam = Annotated[str, _one_of(*ALBUM_SORTS), _sort_query(*ALBUM_SORTS)]
ArtistSortParam = Annotated[str, _one_of("name"), _sort_query("name")]
AlbumWordsParam = Annotated[str | None, _words_query("its title or its album artist")]
OffsetParam = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="Begin so many items down the list, in place of a cursor")
]
ArtistWordsParam = Annotated[str | None, _words_query("the name")]


@router.get(
    "/albums", response_model=CountedPage[AlbumItem], responses=problems(400, 404), summary="List and search albums"
)
async def list_albums(
    runtime: RuntimeDep,
    catalogue: CatalogueDep,
    q: AlbumWordsParam = None,
    library: LibraryParam = None,
    artist: Annotated[
        str | None, Query(max_length=100, description="Id of an artist: albums that its `albums` counts")
    ] = None,
    genre: GenreParam = None,
    year: YearParam = None,
    of_format: FormatParam = None,
    sort: AlbumSortParam = "title",
    cursor: CursorParam = None,
    offset: OffsetParam = None,
    limit: LimitParam = 100,
) -> Response:
    async with runtime.database.reading() as session:
        library_id = None if library is None else (await library_named(session, library)).id
        names = await library_names(session)
    wanted = AlbumFilter(query=q, library_id=library_id, artist_id=artist, genre=genre, format=of_format, year=year)
    scope = scope_of("albums", sort, wanted)
    page = await _album_page(catalogue, names, wanted, sort, cursor, limit, scope, offset)
    return _json(page)


@router.get(
    "/albums/{album_id}",
    response_model=AlbumDetail,
    responses=problems(400, 404),
    summary="An album and its tracks, by disc and track number",
)
async def get_album(
    runtime: RuntimeDep,
    catalogue: CatalogueDep,
    album_id: IdPath,
    cursor: CursorParam = None,
    limit: LimitParam = 500,
) -> Response:
    found = await asyncio.to_thread(catalogue.album, album_id)
    if found is None:
        raise NotFoundError(f"There is no album {album_id}")
    album, track_ids = found
    scope = scope_of("album", album_id)
    after = Position(*decoded(cursor, scope, int)) if cursor is not None else None
    async with runtime.database.reading() as session:
        names = await library_names(session)
        page = await tracks_among(session, track_ids, _TRACK_ORDER, after=after, limit=limit)
    position = page.next_position
    return _json(
        {
            **_album_fields(album, names),
            "items": [track_fields(track, track.library) for track in page.tracks],
            "next_cursor": encoded(scope, position.value, position.id) if position else None,
        }
    )


@router.get(
    "/artists",
    response_model=CountedPage[ArtistItem],
    responses=problems(400, 404),
    summary="List and search artists",
)
async def list_artists(
    runtime: RuntimeDep,
    catalogue: CatalogueDep,
    q: ArtistWordsParam = None,
    library: LibraryParam = None,
    sort: ArtistSortParam = "name",
    cursor: CursorParam = None,
    offset: OffsetParam = None,
    limit: LimitParam = 100,
) -> Response:
    _refuse_both(cursor, offset)
    library_id = await _library_id(runtime, library)
    scope = scope_of("artists", sort, q, library_id)
    after = Place(*decoded(cursor, scope, str, str)) if cursor is not None else None
    page = await asyncio.to_thread(
        catalogue.artists,
        query=q,
        library_id=library_id,
        descending=sort.startswith("-"),
        after=after,
        offset=offset or 0,
        limit=limit,
    )
    return _json(_page_fields(page, [_artist_fields(artist) for artist in page.items], scope))


@router.get(
    "/artists/{artist_id}",
    response_model=ArtistDetail,
    responses=problems(400, 404),
    summary="An artist and the albums, the latest first",
)
async def get_artist(
    runtime: RuntimeDep,
    catalogue: CatalogueDep,
    artist_id: IdPath,
    cursor: CursorParam = None,
    limit: LimitParam = 100,
) -> Response:
    artist = await asyncio.to_thread(catalogue.artist, artist_id)
    if artist is None:
        raise NotFoundError(f"There is no artist {artist_id}")
    async with runtime.database.reading() as session:
        names = await library_names(session)
    wanted = AlbumFilter(artist_id=artist_id)
    page = await _album_page(catalogue, names, wanted, "-year", cursor, limit, scope_of("artist", artist_id))
    return _json({**_artist_fields(artist), **page})


@router.get("/genres", responses=problems(404), summary="Genres with the number of their tracks")
async def list_genres(runtime: RuntimeDep, catalogue: CatalogueDep, library: LibraryParam = None) -> Genres:
    counts = await asyncio.to_thread(catalogue.counts, await _library_id(runtime, library))
    return Genres(items=[GenreCount(name=name, tracks=tracks) for name, tracks in counts.genres])


@router.get("/facets", responses=problems(404), summary="What filters offer: genres, formats, years, statuses")
async def get_facets(runtime: RuntimeDep, catalogue: CatalogueDep, library: LibraryParam = None) -> Facets:
    counts = await asyncio.to_thread(catalogue.counts, await _library_id(runtime, library))
    return Facets(
        genres=[GenreCount(name=name, tracks=tracks) for name, tracks in counts.genres],
        formats=[FormatCount(name=name, tracks=tracks) for name, tracks in counts.formats],
        years=[YearCount(year=year, tracks=tracks) for year, tracks in counts.years],
        statuses=[StatusCount(status=TrackState(name), tracks=tracks) for name, tracks in counts.statuses],
    )


async def _library_id(runtime: Any, name: str | None) -> int | None:
    if name is None:
        return None
    async with runtime.database.reading() as session:
        return (await library_named(session, name)).id


async def _album_page(
    catalogue: Catalogue,
    names: Mapping[int, str],
    wanted: AlbumFilter,
    sort: str,
    cursor: str | None,
    limit: int,
    scope: str,
    offset: int | None = None,
) -> dict[str, Any]:
    _refuse_both(cursor, offset)
    order = ALBUM_SORTS[sort.removeprefix("-")]
    after = Place(*decoded(cursor, scope, order.kind, str)) if cursor is not None else None
    page = await asyncio.to_thread(
        catalogue.albums,
        wanted,
        order,
        descending=sort.startswith("-"),
        after=after,
        offset=offset or 0,
        limit=limit,
    )
    return _page_fields(page, [_album_fields(album, names) for album in page.items], scope)


def _refuse_both(cursor: str | None, offset: int | None) -> None:
    if cursor is not None and offset is not None:
        raise FieldError("query", "offset", "Give cursor or offset, not both")


def _page_fields(page: ListedPage[Any], items: list[dict[str, Any]], scope: str) -> dict[str, Any]:
    place = page.next_place
    return {
        "items": items,
        "next_cursor": encoded(scope, place.value, place.id) if place else None,
        "total": page.total,
    }


def _album_fields(album: ListedAlbum, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "id": album.id,
        "title": album.title,
        "album_artist": album.album_artist,
        "year": album.year,
        "tracks": album.tracks,
        "duration": round(album.seconds, 3),
        "added_at": _EPOCH + timedelta(microseconds=album.added),
        "cover_track_id": album.cover_track_id,
        "library": names.get(album.library_id, ""),
        "artist_id": album.artist_id,
    }


def _artist_fields(artist: ListedArtist) -> dict[str, Any]:
    return artist._asdict()


def _json(answer: Mapping[str, Any]) -> Response:
    """Past the models, as `views.track_list`."""
    return Response(to_json(answer), media_type="application/json")
