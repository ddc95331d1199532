"""The libraries: named root folders, each with its guard, its way of being watched and its schedule."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, cast

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from mus.api.dependencies import CallerDep, RuntimeDep, requested_by
from mus.api.folders import folder_named, folders_in
from mus.api.job_schemas import JobAccepted
from mus.api.problems import FieldError, problems
from mus.api.schemas import LibraryAdded, LibraryEdit, LibraryFolders, LibraryItem, LibraryNew, Page
from mus.broker.runtime import Runtime
from mus.jobs.libraries import (
    LibraryChange,
    LibraryFieldError,
    add_library,
    change_library,
    request_removal,
    shown_libraries,
    shown_library,
)
from mus.ledger.job_states import JobState
from mus.library.paths import shown
from mus.persistence.libraries import library_named

router = APIRouter(prefix="/libraries", tags=["libraries"])

LibraryName = Annotated[str, Path(max_length=200, description="Name or id")]


async def _item(runtime: Runtime, library_id: int | str) -> dict[str, Any]:
    async with runtime.database.reading() as session:
        return asdict(await shown_library(session, runtime.settings, str(library_id)))


def _change(body: BaseModel) -> LibraryChange:
    return cast("LibraryChange", body.model_dump(mode="json", include=body.model_fields_set))


@router.get("", responses=problems(), summary="The libraries")
async def list_libraries(runtime: RuntimeDep) -> Page[LibraryItem]:
    async with runtime.database.reading() as session:
        found = await shown_libraries(session, runtime.settings)
    return Page(items=[LibraryItem.model_validate(asdict(library)) for library in found])


@router.post("", status_code=201, responses=problems(409, 503), summary="Add a library")
async def add_a_library(
    runtime: RuntimeDep, caller: CallerDep, response: Response, new: LibraryNew
) -> LibraryAdded:
    """Its first scan is asked for at once, and the watcher takes it up within seconds."""
    try:
        library_id, scan = await add_library(
            runtime.database, runtime.settings, _change(new), requested_by=requested_by(caller)
        )
    except LibraryFieldError as error:
        raise FieldError("body", error.field, error.reason) from error
    response.headers["Location"] = f"/api/v1/libraries/{library_id}"
    return LibraryAdded.model_validate({**await _item(runtime, library_id), "scan_job_id": scan})


@router.get("/{library}", responses=problems(404), summary="A library")
async def get_library(runtime: RuntimeDep, library: LibraryName) -> LibraryItem:
    return LibraryItem.model_validate(await _item(runtime, library))


@router.get("/{library}/folders", responses=problems(400, 404), summary="The folders in one of a library's")
async def list_folders(
    runtime: RuntimeDep,
    library: LibraryName,
    path: Annotated[str, Query(max_length=4000, description="Inside the library; its own folder without it")] = "",
) -> LibraryFolders:
    """As they are on the disk just now: to choose one that is to be scanned."""
    async with runtime.database.reading() as session:
        row = await library_named(session, library)
    folder = await folder_named(runtime, row, path, field="query")
    found = await anyio.to_thread.run_sync(folders_in, runtime.settings.roots.here(row.root), folder)
    return LibraryFolders(path=shown(folder), items=found)


@router.patch("/{library}", responses=problems(404, 409, 503), summary="Change a library")
async def edit_library(
    runtime: RuntimeDep, caller: CallerDep, library: LibraryName, edit: LibraryEdit
) -> LibraryItem:
    """In another folder, which must have its files, its tracks keep their ids; what runs on it is cancelled, and a
    scan compares."""
    try:
        library_id = await change_library(
            runtime.database, runtime.settings, library, _change(edit), requested_by=requested_by(caller)
        )
    except LibraryFieldError as error:
        raise FieldError("body", error.field, error.reason) from error
    return LibraryItem.model_validate(await _item(runtime, library_id))


@router.delete("/{library}", status_code=202, responses=problems(404, 409, 503), summary="Forget a library")
async def remove_a_library(
    runtime: RuntimeDep,
    caller: CallerDep,
    response: Response,
    library: LibraryName,
    *,
    force: Annotated[
        bool, Query(description="Even with files in its trash, which stay there, or named by MUS_MUSIC_DIR")
    ] = False,
) -> JobAccepted:
    """The library and its tracks go, with all that is known of them; no file is touched. What runs on it ends."""
    job_id = await request_removal(
        runtime.database, runtime.settings, library, force=force, requested_by=requested_by(caller)
    )
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobAccepted(job_id=job_id, state=JobState.QUEUED)
