"""Files that could not be read or analysed, and another try for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

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
from mus.api.job_schemas import ErrorsRetried, JobAccepted
from mus.api.problems import problems
from mus.api.schemas import ErrorItem, ErrorReason, Page
from mus.api.views import category_of, error_item
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import ConflictError, ErrorCategory
from mus.ledger.job_rows import NewJob, reason_of
from mus.ledger.job_states import JobState
from mus.library.paths import escaped
from mus.library.states import TrackState
from mus.persistence.libraries import library_named
from mus.persistence.track_filter import SORT_FIELDS, Position, TrackFilter
from mus.persistence.track_list import error_page
from mus.persistence.track_repository import error_messages, paths_in_error, track_named

router = APIRouter(prefix="/errors", tags=["errors"])

TASK = "process_file_modified"
#: Files of one job, and jobs of one transaction.
_FILES, _JOBS = 250, 200
_MOST_REASONS = 500


ReasonParam = Annotated[
    str | None, Query(max_length=300, description="Only those that failed for this reason of `/errors/reasons`")
]


@router.get("", responses=problems(400, 404), summary="Files in ERROR, the latest first")
async def list_errors(
    runtime: RuntimeDep,
    library: LibraryParam = None,
    category: ErrorCategory | None = None,
    reason: ReasonParam = None,
    cursor: CursorParam = None,
    limit: LimitParam = 100,
) -> Page[ErrorItem]:
    async with runtime.database.reading() as session:
        wanted = await _wanted(session, library, category, reason)
        scope = scope_of("errors", wanted)
        kind = SORT_FIELDS["updated_at"].kind
        after = Position(*decoded(cursor, scope, kind)) if cursor is not None else None
        page = await error_page(session, wanted, after=after, limit=limit)
    position = page.next_position
    return Page(
        items=[error_item(track) for track in page.tracks],
        next_cursor=encoded(scope, position.value, position.id) if position else None,
    )


@router.get("/reasons", responses=problems(404), summary="Why files are in ERROR, the most frequent reason first")
async def list_error_reasons(
    runtime: RuntimeDep, library: LibraryParam = None, category: ErrorCategory | None = None
) -> Page[ErrorReason]:
    """The files of one are `/errors?reason=…`, and `/errors/retry?reason=…` tries them again."""
    async with runtime.database.reading() as session:
        found = await error_messages(session, await _wanted(session, library, category, None))
    reasons: dict[tuple[str, str], ErrorReason] = {}
    for each in sorted(found, key=lambda each: each.latest, reverse=True):
        reason = reason_of(each.message)
        item = reasons.setdefault(
            (each.category, reason),
            ErrorReason(
                category=category_of(each.category),
                reason=reason,
                count=0,
                latest=each.latest,
                message=each.message,
            ),
        )
        item.count += each.tracks
    return Page(items=sorted(reasons.values(), key=lambda item: -item.count)[:_MOST_REASONS])


@router.post("/retry", status_code=202, responses=problems(404, 503), summary="Try all these files again")
async def retry_errors(
    runtime: RuntimeDep,
    caller: CallerDep,
    library: LibraryParam = None,
    category: ErrorCategory | None = None,
    reason: ReasonParam = None,
) -> ErrorsRetried:
    async with runtime.database.reading() as session:
        found = await paths_in_error(session, await _wanted(session, library, category, reason))
    jobs = [_job(library_id, paths, caller) for library_id, paths in _chunks(found)]
    job_ids: list[str] = []
    for start in range(0, len(jobs), _JOBS):
        async with runtime.database.unit_of_work():
            job_ids += await broker.enqueue_many(jobs[start : start + _JOBS])
    return ErrorsRetried(count=len(found), job_ids=job_ids)


async def _wanted(
    session: AsyncSession, library: str | None, category: ErrorCategory | None, reason: str | None
) -> TrackFilter:
    """Raises NotFoundError."""
    return TrackFilter(
        statuses=(TrackState.ERROR,),
        library_id=None if library is None else (await library_named(session, library)).id,
        error_category=category,
        error_reason=reason,
    )


@router.post("/{track_id}/retry", status_code=202, responses=problems(404, 409, 503), summary="Try a file again")
async def retry_error(runtime: RuntimeDep, caller: CallerDep, response: Response, track_id: TrackId) -> JobAccepted:
    async with runtime.database.reading() as session:
        track = await track_named(session, track_id)
    if track.status != TrackState.ERROR:
        raise ConflictError(f"Track {track_id} is not in ERROR", details={"status": track.status})
    async with runtime.database.unit_of_work():
        job_id = (await broker.enqueue_many([_job(track.library_id, [track.path], caller)]))[0]
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobAccepted(job_id=job_id, state=JobState.QUEUED)


def _chunks(found: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    by_library: dict[int, list[bytes]] = {}
    for library_id, path in found:
        by_library.setdefault(library_id, []).append(path)
    for library_id, paths in by_library.items():
        for start in range(0, len(paths), _FILES):
            yield library_id, paths[start : start + _FILES]


def _job(library_id: int, paths: list[bytes], caller: str) -> NewJob:
    # The same files asked for twice, while the first waits, are one job.
    files = hashlib.sha256(b"\0".join(paths)).hexdigest()[:32]
    options = Options(dedupe_key=f"retry:{library_id}:{files}", requested_by=requested_by(caller))
    return broker.job(Queue.MEDIUM, TASK, options, library_id=library_id, paths=[escaped(path) for path in paths])
