"""What requests that bring a file have in common: where it goes, how it is received, and that it is music."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Query, Request
from starlette.requests import ClientDisconnect

from mus.api.problems import FieldError
from mus.api.track_requests import inspectors
from mus.broker.runtime import Runtime
from mus.errors import ConflictError, LibraryOfflineError, UserFixableError, not_written
from mus.jobs.mount_guard import check_root
from mus.jobs.renames import NAMING_TAGS
from mus.library.arrivals import Arrival, refuse_odd_name
from mus.library.file_names import NamePattern, UnnamableError, safe_path
from mus.library.file_reading import FileReading
from mus.library.file_systems import read_only_reason
from mus.library.reader_pool import ReaderPool
from mus.persistence.known_tracks import live_count
from mus.persistence.libraries import all_libraries, library_named, on_this_machine
from mus.persistence.models import Library

#: Bytes that are gathered before they are written.
_CHUNK = 1024 * 1024
_CHECK_SECONDS = 120.0
#: For OpenAPI: the body is the file.
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

PlaceParam = Annotated[
    str,
    Query(
        min_length=1,
        max_length=2000,
        description="Where it goes, inside the library's folder: `Artist/Album/01 Title.mp3`. Signs that file "
        "systems forbid become `_`",
    ),
]


def place_of(path: str, *, with_companions: bool = False) -> bytes:
    """The path that was asked for, made safe: of music, or of what lies beside it. Raises FieldError."""
    try:
        place = safe_path(path)
    except UnnamableError as error:
        raise FieldError("query", "path", f"Must be a path inside the library: {error}") from None
    problem = refuse_odd_name(place, with_companions=with_companions)
    if problem is not None:
        raise FieldError("query", "path", problem)
    return place


async def open_library(runtime: Runtime, name: str | None) -> tuple[Library, bytes]:
    """The library, the first where none is named, and its folder here, which can be written to.

    Raises NotFoundError, ConflictError, LibraryOfflineError.
    """
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


@asynccontextmanager
async def arrived(
    request: Request, root: bytes, place: bytes, pattern: NamePattern | None
) -> AsyncIterator[tuple[Arrival, bytes]]:
    """The request's body as a checked, hidden file, and where it goes: `place`, or by the pattern. It is gone after
    the block, if it was not moved.

    Raises UserFixableError for what is not what its name says, or not whole, and AdminRequiredError, which may be a
    StorageFullError, when it cannot be written.
    """
    async with request.app.state.arrivals:
        try:
            arrival = await anyio.to_thread.run_sync(Arrival.begun, root, place)
        except OSError as error:
            raise not_written("The file", error) from error
        try:
            await _received(request, arrival)
            reading = await _checked(request, root, arrival)
            yield arrival, place if pattern is None else _named(pattern, reading, place)
        except ClientDisconnect:
            # Told to nobody, or to who sent nothing for too long; and no fault of mus.
            raise UserFixableError("The upload was broken off") from None
        finally:
            await anyio.to_thread.run_sync(arrival.end)


async def _received(request: Request, arrival: Arrival) -> None:
    try:
        async for piece in _gathered(request.stream()):
            await anyio.to_thread.run_sync(arrival.write, piece)
        await anyio.to_thread.run_sync(arrival.complete)
    except OSError as error:
        raise not_written("The file", error) from error


async def _gathered(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in stream:
        waiting += piece
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _checked(request: Request, root: bytes, arrival: Arrival) -> FileReading | None:
    """What its tags say; None for what has none. Raises UserFixableError for what is no music, or not whole."""
    readers = inspectors(request)
    if not arrival.is_music:
        # A picture of 32 MB is in memory three times while it is looked at: not those of all that come in at once.
        async with request.app.state.pictures:
            await _check_companion(readers, arrival)
        return None
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


async def _check_companion(readers: ReaderPool, arrival: Arrival) -> None:
    problem = await anyio.to_thread.run_sync(arrival.refuse_other_companion)
    if problem is None and arrival.is_picture:
        content = await anyio.to_thread.run_sync(arrival.content)
        problem = (await readers.usable_picture(content, timeout_seconds=_CHECK_SECONDS)).error_message
    if problem is not None:
        raise UserFixableError(f"This file cannot be taken: {problem}")


def _named(pattern: NamePattern, reading: FileReading | None, place: bytes) -> bytes:
    if reading is None:
        raise UserFixableError("This file has no tags that it could be named by")
    tags: dict[str, Any] = {name: getattr(reading, name) for name in NAMING_TAGS}
    try:
        return pattern.path_for(tags | {"album_artist": reading.album_artist or reading.artist}, place)
    except UnnamableError as error:
        raise UserFixableError(f"The pattern makes no name for this file: {error}") from None
