"""The trash: what lies in it, and out of it for good. Into it and back go tracks (`track_router`)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import (
    CallerDep,
    CursorParam,
    LibraryParam,
    LimitParam,
    RuntimeDep,
    TrackId,
    requested_by,
)
from mus.api.job_schemas import JobAccepted
from mus.api.problems import problems
from mus.api.schemas import Page, TrashItem
from mus.api.views import track_item
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import ConflictError
from mus.ledger.job_states import JobState
from mus.library.paths import shown
from mus.library.states import TrackState
from mus.persistence.libraries import library_named, library_names
from mus.persistence.track_repository import track_named
from mus.persistence.trash_list import latest_deletion, trash_page

router = APIRouter(prefix="/trash", tags=["trash"])


@router.get("", responses=problems(400, 404), summary="What lies in the trash, the latest first")
async def list_trash(
    runtime: RuntimeDep, library: LibraryParam = None, cursor: CursorParam = None, limit: LimitParam = 100
) -> Page[TrashItem]:
    async with runtime.database.reading() as session:
        library_id = None if library is None else (await library_named(session, library)).id
        scope = scope_of("trash", library_id)
        after = decoded(cursor, scope, datetime) if cursor is not None else None
        trashed, last = await trash_page(session, library_id=library_id, after=after, limit=limit)
        names = await library_names(session)
    return Page(
        items=[
            TrashItem(
                track=track_item(each.track, names),
                path=shown(each.original_path),
                deleted_at=each.deleted_at,
                state=each.state,
            )
            for each in trashed
        ],
        next_cursor=encoded(scope, *last) if last else None,
    )


@router.delete(
    "", status_code=202, responses=problems(404, 503), summary="Empty the trash: these files are gone for good"
)
async def empty_trash(
    runtime: RuntimeDep, caller: CallerDep, response: Response, library: LibraryParam = None
) -> JobAccepted:
    library_id = None
    if library is not None:
        async with runtime.database.reading() as session:
            library_id = (await library_named(session, library)).id
    return await _enqueue(runtime, caller, response, library_id=library_id)


@router.delete(
    "/{track_id}", status_code=202, responses=problems(404, 409, 503), summary="Delete a trashed file for good"
)
async def purge_track(runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId) -> JobAccepted:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
    if track.status != TrackState.TRASHED:
        raise ConflictError(f"Track {track_id} is not in the trash", details={"status": track.status})
    return await _enqueue(runtime, caller, response, track_ids=[track_id])


async def _enqueue(runtime: Runtime, caller: str, response: Response, **arguments: Any) -> JobAccepted:
    async with runtime.database.unit_of_work() as work:
        # A job that waits since before a deletion leaves that file alone: it is another request.
        asked = repr((arguments, await latest_deletion(work.session)))
        key = hashlib.sha256(asked.encode()).hexdigest()[:32]
        options = Options(dedupe_key=f"empty_trash:{key}", requested_by=requested_by(caller))
        job_id = await broker.enqueue(Queue.MEDIUM, "empty_trash", options, **arguments)
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobAccepted(job_id=job_id, state=JobState.QUEUED)
