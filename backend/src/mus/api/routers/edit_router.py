"""Edits: tags, covers and names of files; their history, and a way back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import CallerDep, CursorParam, JobId, LimitParam, RuntimeDep, TrackId, requested_by
from mus.api.edit_schemas import EditItem, PictureItem, RenameItem, RenamePreviewRequest, TrackEdit, TracksEdit
from mus.api.edit_views import edit_item, rename_item
from mus.api.job_schemas import JobAccepted
from mus.api.problems import FieldError, problems
from mus.api.schemas import Page
from mus.api.track_requests import accepted, inspectors, refuse_if_read_only, selected_ids
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options
from mus.errors import ConflictError, UserFixableError
from mus.jobs.edits import refuse_unreadable
from mus.jobs.rename_preview import preview_names
from mus.ledger.queries import job_named
from mus.library.edit_order import picture_mime
from mus.library.file_names import NamePattern
from mus.library.reading_rules import ReadingRules
from mus.library.tag_changes import TagChanges
from mus.persistence.edit_repository import (
    edit_named,
    edits_of,
    edits_to_undo,
    has_picture,
    keep_picture,
    refuse_undo,
)
from mus.persistence.models import Library
from mus.persistence.track_repository import track_named

router = APIRouter(tags=["edits"])

EditId = Annotated[int, PathParameter(ge=1, le=2**63 - 1)]
_PICTURE_SECONDS = 30.0
_PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp", "image/gif")
        },
    }
}


@router.patch(
    "/tracks/{track_id}",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Change the tags in a track's file, and its name",
)
async def edit_track(
    runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId, edit: TrackEdit
) -> JobAccepted:
    _refuse_nothing(edit, edit.rename_pattern)
    await _check_cover(runtime, edit)
    await _check_track(runtime, track_id)
    return await _edit_one(runtime, response, caller, track_id, edit.changes(), edit.rename_pattern)


@router.patch(
    "/tracks",
    status_code=202,
    responses=problems(400, 404, 409, 503),
    summary="Change the tags in many tracks' files, and their names",
)
async def edit_tracks(runtime: RuntimeDep, caller: CallerDep, response: Response, edit: TracksEdit) -> JobAccepted:
    """One job. What cannot be done to one track does not stop the others; its result tells the failures."""
    _refuse_nothing(edit.changes, edit.rename_pattern)
    await _check_cover(runtime, edit.changes)
    async with runtime.database.reading() as session:
        track_ids = await selected_ids(session, edit)
    return await accepted(
        runtime,
        response,
        Queue.MEDIUM,
        "edit_tracks",
        Options(requested_by=requested_by(caller)),
        track_ids=track_ids,
        changes=edit.changes.as_json(),
        rename_pattern=edit.rename_pattern,
    )


@router.post(
    "/tracks/rename/preview",
    responses=problems(400, 404, 409),
    summary="What a pattern would call the files of tracks",
)
async def preview_rename(
    runtime: RuntimeDep, asked: RenamePreviewRequest, cursor: CursorParam = None, limit: LimitParam = 100
) -> Page[RenameItem]:
    """In the order in which the job goes; nothing is changed."""
    scope = scope_of("rename", asked)
    after = 0 if cursor is None else decoded(cursor, scope, str)[1]
    async with runtime.database.reading() as session:
        track_ids = await selected_ids(session, asked)
    found = await preview_names(
        runtime.database,
        runtime.settings.roots,
        track_ids,
        NamePattern(asked.rename_pattern),
        after_id=after,
        limit=limit,
        changes=asked.changes,
        rules=ReadingRules.of(runtime.settings.tag_separators, runtime.settings.sort_articles),
    )
    return Page(
        items=[rename_item(one, found.libraries[one.library_id]) for one in found.names],
        next_cursor=encoded(scope, None, found.names[-1].track_id) if found.more else None,
    )


# --------------------------------------------------------------------------------------------------- covers


@router.post(
    "/pictures",
    status_code=201,
    responses=problems(400, 503),
    openapi_extra=_PICTURE_BODY,
    summary="Hand in a picture, to be the cover of tracks",
)
async def add_picture(runtime: RuntimeDep, request: Request) -> PictureItem:
    """Its id is what `cover` of an edit takes. JPEG, PNG, WebP or GIF; the last two become JPEG or PNG."""
    return await _kept_picture(runtime, request)


@router.put(
    "/tracks/{track_id}/cover",
    status_code=202,
    responses=problems(400, 404, 409, 503),
    openapi_extra=_PICTURE_BODY,
    summary="Put a picture into a track's file as its front cover",
)
async def set_cover(
    runtime: RuntimeDep, caller: CallerDep, request: Request, response: Response, track_id: TrackId
) -> JobAccepted:
    """Pictures of other kinds, as of the back, stay."""
    await _check_track(runtime, track_id)
    picture = await _kept_picture(runtime, request)
    return await _edit_one(runtime, response, caller, track_id, {"cover": picture.id}, None)


@router.delete(
    "/tracks/{track_id}/cover",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Take every picture out of a track's file",
)
async def remove_cover(
    runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId
) -> JobAccepted:
    await _check_track(runtime, track_id)
    return await _edit_one(runtime, response, caller, track_id, {"cover": None}, None)


async def _kept_picture(runtime: Runtime, request: Request) -> PictureItem:
    data = await request.body()
    usable = await inspectors(request).usable_picture(data, timeout_seconds=_PICTURE_SECONDS)
    if usable.error_message is not None:
        raise UserFixableError(f"This picture cannot be used: {usable.error_message}")
    async with runtime.database.unit_of_work() as work:
        digest = await keep_picture(work.session, usable.data)
    return PictureItem(id=digest, mime=picture_mime(usable.data), width=usable.width, height=usable.height)


# -------------------------------------------------------------------------------------------------- history


@router.get(
    "/tracks/{track_id}/edits",
    responses=problems(400, 404),
    summary="What was changed in a track's file, the last first",
)
async def list_edits(
    runtime: RuntimeDep, track_id: TrackId, cursor: CursorParam = None, limit: LimitParam = 100
) -> Page[EditItem]:
    scope = scope_of("edits", track_id)
    before = None if cursor is None else decoded(cursor, scope, str)[1]
    async with runtime.database.reading() as session:
        await track_named(session, track_id)
        page = await edits_of(session, track_id, before=before, limit=limit)
    return Page(
        items=[edit_item(edit) for edit in page.edits],
        next_cursor=encoded(scope, None, page.next_before) if page.next_before else None,
    )


@router.post(
    "/edits/{edit_id}/undo", status_code=202, responses=problems(404, 409, 503), summary="Take an edit back"
)
async def undo_edit(runtime: RuntimeDep, caller: CallerDep, response: Response, edit_id: EditId) -> JobAccepted:
    """Refused when a later edit changed the same, or the file is not there. An undo is an edit of its own."""
    async with runtime.database.reading() as session:
        edit = await edit_named(session, edit_id)
        await refuse_undo(session, edit)
    await _check_track(runtime, edit.track_id)
    options = Options(
        requested_by=requested_by(caller),
        dedupe_key=f"undo:{edit_id}",
        exclusive_key=f"edit:{edit.track_id}",
    )
    return await accepted(runtime, response, Queue.HIGH, "undo_edits", options, edit_ids=[edit_id])


@router.post(
    "/jobs/{job_id}/undo",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Take back all that a job has edited",
)
async def undo_job(runtime: RuntimeDep, caller: CallerDep, response: Response, job_id: JobId) -> JobAccepted:
    async with runtime.database.reading() as session:
        edit_ids = await edits_to_undo(session, job_id)
        if not edit_ids:
            await job_named(session, job_id)
            raise ConflictError("There is nothing of this job to take back")
    options = Options(requested_by=requested_by(caller), dedupe_key=f"undo:{job_id}")
    return await accepted(runtime, response, Queue.MEDIUM, "undo_edits", options, edit_ids=edit_ids)


# -------------------------------------------------------------------------------------------------- checks


async def _edit_one(
    runtime: Runtime,
    response: Response,
    caller: str,
    track_id: int,
    changes: dict[str, Any],
    rename_pattern: str | None,
) -> JobAccepted:
    # Edits of one track are done one after the other, in the order in which they were asked for.
    options = Options(requested_by=requested_by(caller), exclusive_key=f"edit:{track_id}")
    return await accepted(
        runtime,
        response,
        Queue.HIGH,
        "edit_track",
        options,
        track_id=track_id,
        changes=changes,
        rename_pattern=rename_pattern,
    )


def _refuse_nothing(changes: TagChanges, rename_pattern: str | None) -> None:
    if changes.is_empty and rename_pattern is None:
        raise FieldError("body", "changes", "Name a tag to be changed, or give a rename_pattern")


async def _check_cover(runtime: Runtime, changes: TagChanges) -> None:
    if changes.cover is None:
        return
    async with runtime.database.reading() as session:
        if not await has_picture(session, changes.cover):
            raise FieldError("body", "cover", "There is no such picture: hand it in with POST /pictures first")


async def _check_track(runtime: Runtime, track_id: int) -> None:
    """Raises NotFoundError, and ConflictError where its file could not be written."""
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
        library = await session.get_one(Library, track.library_id)
    refuse_unreadable(track)
    await refuse_if_read_only(runtime, library, track)
