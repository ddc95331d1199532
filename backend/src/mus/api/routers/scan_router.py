"""Scans: ask for one, look at those there were."""

from __future__ import annotations

from fastapi import APIRouter, Response

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import CallerDep, CursorParam, JobId, LibraryParam, LimitParam, RuntimeDep, requested_by
from mus.api.folders import folder_named
from mus.api.job_schemas import ScanAccepted, ScanItem, ScanRequest
from mus.api.problems import FieldError, problems
from mus.api.rate_limit import count_scan_request
from mus.api.schemas import Page
from mus.api.views import scan_item
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.errors import ConflictError, NotFoundError
from mus.jobs.scan_requests import TASK, scan_job
from mus.ledger.job_rows import NewJob
from mus.ledger.job_states import JobState
from mus.ledger.queries import JobFilter, job_named, job_page, waiting_job
from mus.persistence.libraries import all_libraries, library_named, library_names
from mus.persistence.track_repository import common_folders

router = APIRouter(prefix="/scans", tags=["scans"])

#: What a request without a body asks for.
_QUICK = ScanRequest()


@router.post("", status_code=202, responses=problems(400, 404, 409, 429, 503), summary="Ask for a scan")
async def request_scan(
    runtime: RuntimeDep, caller: CallerDep, response: Response, request: ScanRequest = _QUICK
) -> ScanAccepted:
    """The same request while it waits answers the same job, and does not count."""
    scans = await _planned(runtime, request, caller)
    async with runtime.database.reading() as session:
        waiting = [await waiting_job(session, scan.dedupe_key or "") for scan in scans]
    job_ids = [job_id for job_id in waiting if job_id is not None]
    if len(job_ids) < len(scans):
        response.headers.update(await count_scan_request(runtime.connection, caller))
        async with runtime.database.unit_of_work():
            job_ids = await broker.enqueue_many(scans)
    response.headers["Location"] = f"/api/v1/scans/{job_ids[0]}"
    return ScanAccepted(job_id=job_ids[0], state=JobState.QUEUED, job_ids=job_ids)


@router.get("", responses=problems(400, 404), summary="Scans, the newest first")
async def list_scans(
    runtime: RuntimeDep, library: LibraryParam = None, cursor: CursorParam = None, limit: LimitParam = 100
) -> Page[ScanItem]:
    async with runtime.database.reading() as session:
        library_id = None if library is None else (await library_named(session, library)).id
        scope = scope_of("scans", library_id)
        before = None if cursor is None else decoded(cursor, scope, str, str)[1]
        wanted = JobFilter(task=TASK, library_id=library_id)
        page = await job_page(session, wanted, before=before, limit=limit, whole=True)
        names = await library_names(session)
    return Page(
        items=[scan_item(job, names) for job in page.jobs],
        next_cursor=encoded(scope, None, page.next_before) if page.next_before else None,
    )


@router.get("/{job_id}", responses=problems(404), summary="A scan")
async def get_scan(runtime: RuntimeDep, job_id: JobId) -> ScanItem:
    async with runtime.database.reading() as session:
        job = await job_named(session, job_id)
        if job.task != TASK:
            raise NotFoundError(f"There is no scan {job_id}")
        return scan_item(job, await library_names(session))


async def _planned(runtime: Runtime, request: ScanRequest, caller: str) -> list[NewJob]:
    """One scan for each library concerned."""
    by_name = request.artist is not None or request.album is not None
    if request.path is not None and by_name:
        raise FieldError("body", "path", "give either a path, or an artist or album")
    async with runtime.database.reading() as session:
        if request.library is not None:
            libraries = [await library_named(session, request.library)]
            if libraries[0].removing_since is not None:
                raise ConflictError(f"The library {libraries[0].name} is being removed")
        else:
            libraries = [library for library in await all_libraries(session) if library.removing_since is None]
        if not libraries:
            raise ConflictError(
                "There is no library yet", recovery_actions=("Add one: POST /libraries, or mus libraries add",)
            )
        folders = {library.id: b"" for library in libraries}
        if by_name:
            library_id = libraries[0].id if request.library is not None else None
            folders = await common_folders(
                session, library_id=library_id, artist=request.artist, album=request.album
            )
            folders = {library.id: folders[library.id] for library in libraries if library.id in folders}
            if not folders:
                raise NotFoundError("There are no such tracks")
    if request.path is not None:
        if len(libraries) > 1:
            raise FieldError("body", "library", "with a path, the library must be named")
        folders = {libraries[0].id: await folder_named(runtime, libraries[0], request.path, field="body")}
    return [
        scan_job(
            library_id,
            requested_by=requested_by(caller),
            mode=request.mode,
            path=folder,
            confirm_missing=request.confirm_missing,
        )
        for library_id, folder in sorted(folders.items())
    ]
