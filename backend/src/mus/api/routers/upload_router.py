"""Uploads: a file arrives beside the library, is checked, and is then renamed into its place."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response

from mus.api.arriving import FILE_BODY, PlaceParam, arrived, open_library, place_of
from mus.api.dependencies import CallerDep, LibraryParam, RuntimeDep, requested_by
from mus.api.edit_schemas import PatternText, UploadAccepted
from mus.api.problems import problems
from mus.api.track_requests import accepted
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options
from mus.errors import ConflictError
from mus.jobs.edits import not_placed
from mus.jobs.trash_files import free_name
from mus.library.file_names import NamePattern
from mus.library.moves import arrive, name_in_the_way
from mus.library.paths import escaped, shown

router = APIRouter(prefix="/tracks", tags=["tracks"])


@router.post(
    "/upload",
    status_code=202,
    responses=problems(400, 404, 409, 503, 507),
    openapi_extra=FILE_BODY,
    summary="Upload a file into a library",
)
async def upload_track(
    runtime: RuntimeDep,
    caller: CallerDep,
    request: Request,
    response: Response,
    path: PlaceParam,
    library: LibraryParam = None,
    rename_pattern: Annotated[
        PatternText | None, Query(description="Name it by its tags instead; of `path` the suffix counts")
    ] = None,
    on_conflict: Annotated[
        Literal["refuse", "number"],
        Query(description="When there is a file at that place: 409, or another name, as `01 Title (2).mp3`"),
    ] = "refuse",
) -> UploadAccepted:
    """The body is the file. It is checked to be music, whole, and of the kind that its name says. Files that belong
    together, as an album, come through `/uploads`."""
    asked_for = place_of(path)
    pattern = None if rename_pattern is None else NamePattern(rename_pattern)
    row, root = await open_library(runtime, library)
    if pattern is None and on_conflict == "refuse":
        await _refuse_taken(root, asked_for)  # before so much is sent in vain
    async with arrived(request, root, asked_for, pattern) as (arrival, place):
        if on_conflict == "number":
            place = await anyio.to_thread.run_sync(free_name, root, place)
        await _refuse_taken(root, place)
        try:
            await anyio.to_thread.run_sync(arrive, root, arrival.part, place)
        except FileExistsError:
            raise _taken(place) from None
        except OSError as error:
            raise not_placed(error, shown(place)) from error
    job = await accepted(
        runtime,
        response,
        Queue.HIGH,
        "add_uploaded_file",
        Options(requested_by=requested_by(caller)),
        library_id=row.id,
        path=escaped(place),
    )
    return UploadAccepted(**job.model_dump(), library=row.name, path=shown(place))


@router.api_route("/upload", methods=["GET", "HEAD", "PATCH", "PUT", "DELETE", "OPTIONS"], include_in_schema=False)
async def refuse_other_methods() -> None:
    """Else they were about a track of that id."""
    raise HTTPException(405)


async def _refuse_taken(root: bytes, place: bytes) -> None:
    if await anyio.to_thread.run_sync(name_in_the_way, root, place) is not None:
        raise _taken(place)


def _taken(place: bytes) -> ConflictError:
    return ConflictError(
        f"There is a file at {shown(place)} already",
        recovery_actions=("Give another path", "Ask for another name with on_conflict=number"),
    )
