"""Jobs: the list, one, its history; cancel and retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, WithJsonSchema

from mus.api.cursor import decoded, encoded, scope_of
from mus.api.dependencies import CallerDep, CursorParam, JobId, LimitParam, RuntimeDep, requested_by
from mus.api.field_messages import names_in, names_schema
from mus.api.job_schemas import FailureItem, JobAccepted, JobDetail, JobEventItem, JobItem, QueueName
from mus.api.problems import problems
from mus.api.schemas import Page
from mus.api.views import failure_item, job_detail, job_item
from mus.broker.queues import Queue, follow_up_queue
from mus.ledger import steering
from mus.ledger.job_states import JobState
from mus.ledger.queries import JobFilter, event_page, failure_groups, job_named, job_page, latest_retry

router = APIRouter(tags=["jobs"])

StateParam = Annotated[
    list[Annotated[str, AfterValidator(names_in(JobState)), WithJsonSchema(names_schema(JobState))]],
    Query(max_length=20, description="In these states; repeat it, or put commas between them"),
]


@router.get("/jobs", responses=problems(400), summary="Jobs, the newest first")
async def list_jobs(
    runtime: RuntimeDep,
    state: StateParam = [],  # noqa: B006 - FastAPI copies it
    queue: Queue | None = None,
    task: Annotated[str | None, Query(max_length=100)] = None,
    parent: Annotated[str | None, Query(max_length=200, description="Parts of this job")] = None,
    parts: Annotated[bool, Query(description="With the parts of other jobs")] = True,  # noqa: FBT002
    reason: Annotated[
        str | None, Query(max_length=200, description="Failed for this reason of `/failures`")
    ] = None,
    cleared: Annotated[bool, Query(description="With failures that were cleared off the lists")] = False,  # noqa: FBT002
    cursor: CursorParam = None,
    limit: LimitParam = 100,
) -> Page[JobItem]:
    states = tuple(sorted({JobState(name) for names in state for name in names.split(",")}))
    wanted = JobFilter(
        states=states, queue=queue, task=task, parent_id=parent, parts=parts, reason=reason, cleared=cleared
    )
    scope = scope_of("jobs", wanted)
    before = None if cursor is None else decoded(cursor, scope, str, str)[1]
    async with runtime.database.reading() as session:
        page = await job_page(session, wanted, before=before, limit=limit)
    return Page(
        items=[job_item(job) for job in page.jobs],
        next_cursor=encoded(scope, None, page.next_before) if page.next_before else None,
    )


@router.get("/jobs/{job_id}", responses=problems(404), summary="A job")
async def get_job(runtime: RuntimeDep, job_id: JobId) -> JobDetail:
    async with runtime.database.reading() as session:
        job = await job_named(session, job_id)
        return job_detail(job, retried_as=await latest_retry(session, job_id))


@router.get("/jobs/{job_id}/events", responses=problems(400, 404), summary="What happened to a job, in order")
async def list_job_events(
    runtime: RuntimeDep, job_id: JobId, cursor: CursorParam = None, limit: LimitParam = 100
) -> Page[JobEventItem]:
    scope = scope_of("events", job_id)
    after = None if cursor is None else decoded(cursor, scope, str)[1]
    async with runtime.database.reading() as session:
        events, next_after = await event_page(session, job_id, after=after, limit=limit)
    return Page(
        items=[
            JobEventItem(at=event.at, event=event.event, attempt=event.attempt, details=event.details)
            for event in events
        ],
        next_cursor=encoded(scope, None, next_after) if next_after else None,
    )


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Run a failed or cancelled job again, as a new one",
)
async def retry_job(runtime: RuntimeDep, caller: CallerDep, response: Response, job_id: JobId) -> JobAccepted:
    async with runtime.database.unit_of_work():
        new_id = await steering.retry(runtime.connection.ledger, job_id, requested_by=requested_by(caller))
        # While an earlier retry runs, that one is the answer.
        state = await steering.state_of(new_id)
    response.headers["Location"] = f"/api/v1/jobs/{new_id}"
    return JobAccepted(job_id=new_id, state=state)


@router.post(
    "/jobs/{job_id}/move",
    responses=problems(404, 409, 503),
    summary="Move a job that waits to another queue",
)
async def move_job(runtime: RuntimeDep, job_id: JobId, target: QueueName) -> JobAccepted:
    async with runtime.database.unit_of_work():
        state = await steering.move(
            runtime.connection.ledger,
            job_id,
            target.queue,
            continuation_queue=follow_up_queue(target.queue),
        )
    return JobAccepted(job_id=job_id, state=state)


@router.delete(
    "/jobs/{job_id}",
    status_code=202,
    responses=problems(404, 409, 503),
    summary="Cancel a job that waits or runs, with its parts",
)
async def cancel_job(runtime: RuntimeDep, job_id: JobId) -> JobAccepted:
    """The state is `cancelled`, or still `running` or `waiting` for a moment."""
    async with runtime.database.unit_of_work():
        state = await steering.cancel(runtime.connection.ledger, job_id)
    return JobAccepted(job_id=job_id, state=state)


@router.get("/failures", responses=problems(), summary="Failed jobs by reason, the most frequent first")
async def list_failures(
    runtime: RuntimeDep,
    queue: Queue | None = None,
    task: Annotated[str | None, Query(max_length=100)] = None,
    limit: LimitParam = 100,
) -> Page[FailureItem]:
    """Those that nobody cleared away; the jobs of a group are `/jobs?state=failed&reason=…`."""
    async with runtime.database.reading() as session:
        groups = await failure_groups(session, queue=queue, task=task, limit=limit)
    return Page(items=[failure_item(group) for group in groups])
