"""Files that are uploaded together, as an album: each is checked as it comes, and none is in its place before all
are."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response

from mus.api.arriving import FILE_BODY, PlaceParam, arrived, open_library, place_of
from mus.api.dependencies import CallerDep, LibraryParam, RuntimeDep, requested_by
from mus.api.edit_schemas import PatternText, StagedUpload, StagedUploads, UploadsDiscarded
from mus.api.job_schemas import JobAccepted
from mus.api.problems import problems
from mus.api.track_requests import accepted
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options
from mus.errors import ConflictError, NotFoundError, not_written
from mus.jobs.upload_batches import batches_to_place, refuse_taken_places, taken_message
from mus.library.arrivals import Arrival
from mus.library.file_names import NamePattern
from mus.library.moves import arrive, name_in_the_way
from mus.library.paths import shown
from mus.library.staged_uploads import (
    BATCH_PATTERN,
    MOST_FILES,
    discard_batch,
    discard_staged,
    places_taken,
    renew_batch,
    staged_files,
    staged_path,
)

router = APIRouter(prefix="/uploads", tags=["tracks"])

BatchId = Annotated[
    str, Path(pattern=BATCH_PATTERN, description="A name that the uploader makes up, for these files")
]


@router.post(
    "/{batch}",
    status_code=201,
    responses=problems(400, 404, 409, 503, 507),
    openapi_extra=FILE_BODY,
    summary="Upload one of several files that belong together",
)
async def stage_upload(
    runtime: RuntimeDep,
    request: Request,
    batch: BatchId,
    path: PlaceParam,
    library: LibraryParam = None,
    rename_pattern: Annotated[
        PatternText | None, Query(description="Name it by its tags instead; of `path` the suffix counts")
    ] = None,
) -> StagedUpload:
    """The body is the file. It is checked to be music, whole, and of the kind that its name says, and waits then,
    seen by nobody, for `/uploads/{batch}/place`. What waits for a day is forgotten.

    What lies beside music is taken too: pictures (JPEG, PNG, WebP, GIF), PDF documents, and texts (`.cue`, `.log`,
    `.lrc`, `.m3u`, `.m3u8`, `.nfo`, `.txt`)."""
    asked_for = place_of(path, with_companions=True)
    pattern = None if rename_pattern is None else NamePattern(rename_pattern)
    _, root = await open_library(runtime, library)
    async with arrived(request, root, asked_for, pattern) as (arrival, place):
        target = staged_path(batch, place)
        size = os.fstat(arrival.descriptor).st_size
        try:
            if await anyio.to_thread.run_sync(name_in_the_way, root, target) is not None:
                raise FileExistsError
            await anyio.to_thread.run_sync(arrive, root, arrival.part, target)
        except FileExistsError:
            # Whoever heard no answer sends it again.
            if not await anyio.to_thread.run_sync(_is_there, arrival, target):
                raise ConflictError(f"There is another file for {shown(place)} in this batch already") from None
        except OSError as error:
            raise not_written("The file", error) from error
        taken = await anyio.to_thread.run_sync(places_taken, root, [place])
    return StagedUpload(path=shown(place), size=size, problem=taken_message(place) if taken else None)


def _is_there(arrival: Arrival, target: bytes) -> bool:
    with suppress(OSError):
        return arrival.is_same_as(target)
    return False


@router.get("/{batch}", responses=problems(404, 409, 503), summary="What waits of a batch")
async def get_staged_uploads(runtime: RuntimeDep, batch: BatchId, library: LibraryParam = None) -> StagedUploads:
    _, root = await open_library(runtime, library)
    files = await anyio.to_thread.run_sync(staged_files, root, batch)
    taken = set(await anyio.to_thread.run_sync(places_taken, root, [file.place for file in files]))
    return StagedUploads(
        files=[
            StagedUpload(
                path=shown(file.place),
                size=file.size,
                problem=taken_message(file.place) if file.place in taken else None,
            )
            for file in files
        ]
    )


@router.post(
    "/{batch}/place",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Move all files of a batch to their places",
)
async def place_uploads(
    runtime: RuntimeDep, caller: CallerDep, response: Response, batch: BatchId, library: LibraryParam = None
) -> JobAccepted:
    """All of them or none: 409 names each file whose place is taken, in `details.files`, and so does the job,
    should one be taken in the meantime; then all wait where they were. The job ends when the files are read."""
    row, root = await open_library(runtime, library)
    files = await anyio.to_thread.run_sync(staged_files, root, batch)
    if not files:
        raise NotFoundError("Nothing waits of this batch: it was placed, discarded or forgotten, or never came")
    if len(files) > MOST_FILES:
        raise ConflictError(f"A batch may have {MOST_FILES} files at most: this has {len(files)}")
    await anyio.to_thread.run_sync(refuse_taken_places, root, [file.place for file in files])
    await anyio.to_thread.run_sync(renew_batch, root, batch)
    key = f"place:{row.id}:{batch}"
    return await accepted(
        runtime,
        response,
        Queue.HIGH,
        "place_uploads",
        # One after another: of two at once, each would take away what the other has moved, or find it gone.
        Options(requested_by=requested_by(caller), dedupe_key=key, exclusive_key=key),
        library_id=row.id,
        batch=batch,
    )


@router.delete("/{batch}", responses=problems(404, 409, 503), summary="Forget what waits of a batch")
async def discard_uploads(
    runtime: RuntimeDep,
    batch: BatchId,
    path: Annotated[
        str | None, Query(min_length=1, max_length=8000, description="Only this file, as the batch names it")
    ] = None,
    library: LibraryParam = None,
) -> UploadsDiscarded:
    _, root = await open_library(runtime, library)
    async with runtime.database.reading() as session:
        if batch in await batches_to_place(session):
            raise ConflictError("The files of this batch are on their way to their places")
    files = await anyio.to_thread.run_sync(staged_files, root, batch)
    if path is None:
        await anyio.to_thread.run_sync(discard_batch, root, batch)
        return UploadsDiscarded(count=len(files))
    place = next((file.place for file in files if shown(file.place) == path), None)
    if place is None:
        raise NotFoundError(f"No file for {path} waits in this batch")
    await anyio.to_thread.run_sync(discard_staged, root, batch, place)
    return UploadsDiscarded(count=1)
