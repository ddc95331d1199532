"""Uploads: a file arrives beside the library, is checked, and is then renamed into its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.requests import ClientDisconnect

from mus.api.dependencies import CallerDep, LibraryParam, RuntimeDep, requested_by
from mus.api.edit_schemas import PatternText, UploadAccepted
from mus.api.problems import FieldError, problems
from mus.api.track_requests import accepted, inspector
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options
from mus.errors import AdminRequiredError, ConflictError, LibraryOfflineError, UserFixableError
from mus.jobs.edits import not_placed
from mus.jobs.mount_guard import check_root
from mus.jobs.renames import NAMING_TAGS
from mus.jobs.trash_files import free_name
from mus.library.arrivals import Arrival, refuse_odd_name
from mus.library.beside import arrive, name_in_the_way
from mus.library.file_names import NamePattern, UnnamableError, safe_path
from mus.library.file_reading import FileReading
from mus.library.file_systems import read_only_reason
from mus.library.paths import escaped, shown
from mus.persistence.batch_operations import live_count
from mus.persistence.libraries import all_libraries, library_named, on_this_machine
from mus.persistence.models import Library

router = APIRouter(prefix="/tracks", tags=["tracks"])

#: Bytes that are gathered before they are written.
_CHUNK = 1024 * 1024
_CHECK_SECONDS = 120.0
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/upload",
    status_code=202,
    responses=problems(400, 404, 409, 503),
    openapi_extra=_BODY,
    summary="Upload a file into a library",
)
async def upload_track(
    runtime: RuntimeDep,
    caller: CallerDep,
    request: Request,
    response: Response,
    path: Annotated[
        str,
        Query(
            min_length=1,
            max_length=2000,
            description="Where it goes, inside the library's folder: `Artist/Album/01 Title.mp3`. Signs that file "
            "systems forbid become `_`",
        ),
    ],
    library: LibraryParam = None,
    rename_pattern: Annotated[
        PatternText | None, Query(description="Name it by its tags instead; of `path` the suffix counts")
    ] = None,
    on_conflict: Annotated[
        Literal["refuse", "number"],
        Query(description="When there is a file at that place: 409, or another name, as `01 Title (2).mp3`"),
    ] = "refuse",
) -> UploadAccepted:
    """The body is the file. It is checked to be music, whole, and of the kind that its name says."""
    place = _place(path)
    pattern = None if rename_pattern is None else NamePattern(rename_pattern)
    row, root = await _library(runtime, library)
    if pattern is None and on_conflict == "refuse":
        await _refuse_taken(root, place)  # before so much is sent in vain
    arrival = await anyio.to_thread.run_sync(Arrival.begun, root, place)
    try:
        await _received(request, arrival)
        reading = await _checked(request, root, arrival)
        if pattern is not None:
            place = _named(pattern, reading, place)
        if on_conflict == "number":
            place = await anyio.to_thread.run_sync(free_name, root, place)
        await _refuse_taken(root, place)
        try:
            await anyio.to_thread.run_sync(arrive, root, arrival.part, place)
        except FileExistsError:
            raise _taken(place) from None
        except OSError as error:
            raise not_placed(error, shown(place)) from error
    except ClientDisconnect:
        raise UserFixableError("The upload was broken off") from None  # told to nobody, and no fault of mus
    finally:
        await anyio.to_thread.run_sync(arrival.end)
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


def _place(path: str) -> bytes:
    try:
        place = safe_path(path)
    except UnnamableError as error:
        raise FieldError("query", "path", f"Must be a path inside the library: {error}") from None
    problem = refuse_odd_name(place)
    if problem is not None:
        raise FieldError("query", "path", problem)
    return place


async def _library(runtime: Runtime, name: str | None) -> tuple[Library, bytes]:
    """The library and its folder here. Raises NotFoundError, ConflictError, LibraryOfflineError."""
    async with runtime.database.reading() as session:
        if name is not None:
            row = await library_named(session, name)
        else:
            rows = await all_libraries(session)
            if not rows:
                raise ConflictError("There is no library yet")
            row = rows[0]
        has_live = await live_count(session, row.id) > 0
    library = on_this_machine(row, runtime.settings.roots)
    root = library.root
    if not row.online:
        raise LibraryOfflineError(f"The library {row.name} is offline")
    # Into the folder below a disk that is away nothing is put: nobody would see it once the disk is back.
    await anyio.to_thread.run_sync(partial(check_root, library, has_live_tracks=has_live))
    reason = await anyio.to_thread.run_sync(read_only_reason, root)
    if reason is not None:
        raise ConflictError(f"Nothing can be added to the library {row.name}: {reason}")
    return row, root


async def _received(request: Request, arrival: Arrival) -> None:
    try:
        async for piece in _gathered(request.stream()):
            await anyio.to_thread.run_sync(arrival.write, piece)
        await anyio.to_thread.run_sync(arrival.complete)
    except OSError as error:
        raise AdminRequiredError(f"The file could not be stored: {error.strerror}") from error


async def _gathered(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in stream:
        waiting += piece
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _checked(request: Request, root: bytes, arrival: Arrival) -> FileReading:
    """What its tags say. Raises UserFixableError for what is no music, or not whole."""
    async with inspector(request) as readers:
        (reading,) = await readers.run("read", root, [arrival.path], file_timeout_seconds=_CHECK_SECONDS)
        if reading.error_message is not None:
            raise UserFixableError(f"This file cannot be taken: {reading.error_message}")
        problem = arrival.refuse_other_kind(reading)
        if problem is not None:
            raise UserFixableError(problem)
        (heard,) = await readers.run("hear", root, [arrival.path], file_timeout_seconds=_CHECK_SECONDS)
    if heard.audio_hash is None:
        raise UserFixableError("This file cannot be taken: its sound cannot be read")
    return reading


def _named(pattern: NamePattern, reading: FileReading, place: bytes) -> bytes:
    tags: dict[str, Any] = {name: getattr(reading, name) for name in NAMING_TAGS}
    try:
        return pattern.path_for(tags | {"album_artist": reading.album_artist or reading.artist}, place)
    except UnnamableError as error:
        raise UserFixableError(f"The pattern makes no name for this file: {error}") from None


async def _refuse_taken(root: bytes, place: bytes) -> None:
    if await anyio.to_thread.run_sync(name_in_the_way, root, place) is not None:
        raise _taken(place)


def _taken(place: bytes) -> ConflictError:
    return ConflictError(
        f"There is a file at {shown(place)} already",
        recovery_actions=("Give another path", "Ask for another name with on_conflict=number"),
    )
