"""Tracks: the list with search, single tracks, delete and restore."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import AfterValidator, WithJsonSchema
from sqlalchemy.ext.asyncio import AsyncSession

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import (
    CallerDep,
    CursorParam,
    FormatParam,
    GenreParam,
    LibraryParam,
    LimitParam,
    RuntimeDep,
    TrackId,
    YearParam,
    requested_by,
)
from mus.api.field_messages import names_in, names_schema
from mus.api.job_schemas import JobAccepted
from mus.api.problems import FieldError, problems
from mus.api.schemas import Page, RowId, TrackCount, TrackDetail, TrackItem, TrackTagsFound
from mus.api.track_requests import accepted, refuse_if_read_only
from mus.api.views import track_detail, track_list, track_tags
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options
from mus.errors import ConflictError
from mus.library.integrity import Integrity
from mus.library.states import LIVE_STATES, TrackState
from mus.persistence.libraries import library_named, library_names
from mus.persistence.models import Library
from mus.persistence.track_filter import SORT_FIELDS, Order, Position, TrackFilter
from mus.persistence.track_ids import track_count
from mus.persistence.track_list import track_page
from mus.persistence.track_repository import track_named, tracks_named
from mus.persistence.track_sounds import loudness_of, sound_of

router = APIRouter(prefix="/tracks", tags=["tracks"])

StatusParam = Annotated[
    list[Annotated[str, AfterValidator(names_in(TrackState)), WithJsonSchema(names_schema(TrackState))]],
    Query(
        max_length=20,
        description="Of these statuses; repeat it, or put commas between them. Without it: all but TRASHED",
    ),
]

IntegrityParam = Annotated[
    list[Annotated[str, AfterValidator(names_in(Integrity)), WithJsonSchema(names_schema(Integrity))]],
    Query(
        max_length=20,
        description="Whose sound was found to be so; repeat it, or put commas between them. "
        "Without it: those that were not checked yet as well",
    ),
]


def _sort(text: str) -> str:
    if text.removeprefix("-") not in SORT_FIELDS:
        raise ValueError(f"Must be one of {', '.join(SORT_FIELDS)}, with - before it for descending")
    return text


SortParam = Annotated[
    str,
    AfterValidator(_sort),
    Query(
        description="A field; `-` before it for descending. `track_number` goes by disc, then by track",
        json_schema_extra={"pattern": f"^-?({'|'.join(SORT_FIELDS)})$"},
    ),
]
NameParam = Annotated[
    str | None, Query(max_length=1000, description="The whole name; case and accents do not matter")
]


WordsParam = Annotated[
    str | None,
    Query(
        max_length=500,
        description="Words that title, artist, album artist, album, genre or composer contain; "
        "each may be the beginning of one",
    ),
]
FirstYearParam = Annotated[int | None, Query(ge=-(2**31), le=2**31 - 1, description="Of this year or later")]
LastYearParam = Annotated[int | None, Query(ge=-(2**31), le=2**31 - 1, description="Of this year or earlier")]


def _wanted(
    status: StatusParam = [],  # noqa: B006 - FastAPI copies it
    q: WordsParam = None,
    library: LibraryParam = None,
    artist: NameParam = None,
    album: NameParam = None,
    genre: GenreParam = None,
    of_format: FormatParam = None,
    year: YearParam = None,
    year_from: FirstYearParam = None,
    year_to: LastYearParam = None,
    integrity: IntegrityParam = [],  # noqa: B006 - FastAPI copies it
) -> tuple[TrackFilter, str | None]:
    """The filter without a library, and the library's name."""
    if year is not None and (year_from is not None or year_to is not None):
        raise FieldError("query", "year", "Give year, or year_from and year_to")
    wanted = TrackFilter(
        query=q,
        statuses=tuple(sorted({TrackState(name) for names in status for name in names.split(",")})),
        artist=artist,
        album=album,
        genre=genre,
        format=of_format,
        year_from=year if year is not None else year_from,
        year_to=year if year is not None else year_to,
        integrity=tuple(sorted({Integrity(name) for names in integrity for name in names.split(",")})),
    )
    return wanted, library


WantedDep = Annotated[tuple[TrackFilter, str | None], Depends(_wanted)]


async def _in_library(session: AsyncSession, wanted: tuple[TrackFilter, str | None]) -> TrackFilter:
    found, library = wanted
    return found if library is None else replace(found, library_id=(await library_named(session, library)).id)


@router.get("", response_model=Page[TrackItem], responses=problems(400, 404), summary="List and search tracks")
async def list_tracks(
    runtime: RuntimeDep,
    given: WantedDep,
    sort: SortParam = "title",
    cursor: CursorParam = None,
    offset: Annotated[
        int | None,
        Query(
            ge=0,
            le=2**31 - 1,
            description="Begin so many tracks down the list: for showing any part of it. Who reads all of it is "
            "better off with cursors, which no change of the library disturbs",
        ),
    ] = None,
    limit: LimitParam = 100,
) -> Response:
    if cursor is not None and offset is not None:
        raise FieldError("query", "offset", "Give cursor or offset, not both")
    order = Order(SORT_FIELDS[sort.removeprefix("-")], descending=sort.startswith("-"))
    async with runtime.database.reading() as session:
        wanted = await _in_library(session, given)
        scope = scope_of("tracks", sort, wanted)
        after = Position(*decoded(cursor, scope, order.field.kind)) if cursor is not None else None
        page = await track_page(session, wanted, order, after=after, offset=offset or 0, limit=limit)
    position = page.next_position
    return track_list(page.tracks, encoded(scope, position.value, position.id) if position else None)


@router.get("/count", responses=problems(404), summary="How many tracks such a list has")
async def count_tracks(runtime: RuntimeDep, given: WantedDep) -> TrackCount:
    async with runtime.database.reading() as session:
        return TrackCount(total=await track_count(session, await _in_library(session, given)))


@router.api_route("/count", methods=["HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"], include_in_schema=False)
async def refuse_other_methods_than_counting() -> None:
    """Else they were about a track of that id."""
    raise HTTPException(405)


@router.get("/tags", responses=problems(), summary="All tags of several tracks")
async def get_tags(
    runtime: RuntimeDep,
    track_ids: Annotated[
        list[RowId], Query(alias="id", min_length=1, max_length=500, description="Of a track; repeat it")
    ],
) -> TrackTagsFound:
    async with runtime.database.reading() as session:
        names = await library_names(session)
        return TrackTagsFound(items=[track_tags(track, names) for track in await tracks_named(session, track_ids)])


@router.api_route("/tags", methods=["HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"], include_in_schema=False)
async def refuse_other_methods_than_reading() -> None:
    """Else they were about a track of that id."""
    raise HTTPException(405)


@router.get("/{track_id}", responses=problems(404), summary="Everything known of a track")
async def get_track(runtime: RuntimeDep, track_id: TrackId) -> TrackDetail:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        sound, loudness = await sound_of(session, track), await loudness_of(session, track)
        return track_detail(track, await library_names(session), sound, loudness)


@router.delete(
    "/{track_id}", status_code=202, responses=problems(404, 409, 503), summary="Move a track's file to the trash"
)
async def delete_track(
    runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId
) -> JobAccepted:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        library = await session.get_one(Library, track.library_id)
    status = TrackState(track.status)
    if status not in LIVE_STATES:
        reason = "is in the trash already" if status is TrackState.TRASHED else "has no file any more"
        raise ConflictError(f"Track {track_id} {reason}", details={"status": status})
    await refuse_if_read_only(runtime, library, track)
    return await _enqueue(runtime, response, "delete_track_by_id", track_id, caller)


@router.post(
    "/{track_id}/restore",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Bring a track's file back from the trash",
)
async def restore_track(
    runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId
) -> JobAccepted:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        library = await session.get_one(Library, track.library_id)
    if track.status != TrackState.TRASHED:
        raise ConflictError(f"Track {track_id} is not in the trash", details={"status": track.status})
    await refuse_if_read_only(runtime, library, track)
    return await _enqueue(runtime, response, "restore_track_by_id", track_id, caller)


async def _enqueue(runtime: Runtime, response: Response, task: str, track_id: int, caller: str) -> JobAccepted:
    options = Options(dedupe_key=f"{task}:{track_id}", requested_by=requested_by(caller))
    return await accepted(runtime, response, Queue.HIGH, task, options, track_id=track_id)
