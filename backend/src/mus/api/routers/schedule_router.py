"""Schedules: what comes by itself, when, and a way to change it or to have it now."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Response

from mus.api.dependencies import CallerDep, RuntimeDep, requested_by
from mus.api.job_schemas import JobAccepted, ScheduleEdit, ScheduleItem
from mus.api.problems import FieldError, problems
from mus.api.schemas import Page
from mus.broker.runtime import Runtime
from mus.jobs.schedules import (
    ScheduleChange,
    ScheduleFieldError,
    all_schedule_entries,
    change_schedule,
    reset_schedule,
    run_schedule,
    shown_schedule,
    shown_schedules,
)
from mus.ledger.job_states import JobState
from mus.ledger.schedules import ScheduleEntry

router = APIRouter(prefix="/schedules", tags=["schedules"])

ScheduleName = Annotated[str, Path(max_length=100)]


async def _entries(runtime: Runtime) -> list[ScheduleEntry]:
    return await all_schedule_entries(runtime.database, runtime.settings.scan_schedule)


async def _item(runtime: Runtime, name: str) -> ScheduleItem:
    return ScheduleItem.model_validate(
        asdict(await shown_schedule(runtime.database, await _entries(runtime), name))
    )


@router.get("", responses=problems(503), summary="All schedules")
async def list_schedules(runtime: RuntimeDep) -> Page[ScheduleItem]:
    found = await shown_schedules(runtime.database, await _entries(runtime))
    return Page(items=[ScheduleItem.model_validate(asdict(schedule)) for schedule in found])


@router.get("/{name}", responses=problems(404, 503), summary="A schedule")
async def get_schedule(runtime: RuntimeDep, name: ScheduleName) -> ScheduleItem:
    return await _item(runtime, name)


@router.patch("/{name}", responses=problems(400, 404, 409, 503), summary="Change a schedule")
async def edit_schedule(runtime: RuntimeDep, name: ScheduleName, edit: ScheduleEdit) -> ScheduleItem:
    """From then on changed defaults and settings do not reach it. Enabling makes up for nothing."""
    change = ScheduleChange(crontab=edit.crontab, enabled=edit.enabled, arguments=edit.arguments)
    try:
        await change_schedule(runtime.database, await _entries(runtime), name, change)
    except ScheduleFieldError as error:
        raise FieldError("body", error.field, error.reason) from error
    return await _item(runtime, name)


@router.post("/{name}/reset", responses=problems(404, 409, 503), summary="Back to the defaults")
async def set_schedule_back(runtime: RuntimeDep, name: ScheduleName) -> ScheduleItem:
    await reset_schedule(runtime.database, await _entries(runtime), name)
    return await _item(runtime, name)


@router.post(
    "/{name}/run", status_code=202, responses=problems(400, 404, 409, 503), summary="Run a schedule's job now"
)
async def run_schedule_now(
    runtime: RuntimeDep, caller: CallerDep, response: Response, name: ScheduleName
) -> JobAccepted:
    """Its times stay as they are, and a disabled one runs too. While such a job waits, this answers with it."""
    job_id = await run_schedule(
        runtime.connection.ledger, await _entries(runtime), name, requested_by=requested_by(caller)
    )
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobAccepted(job_id=job_id, state=JobState.QUEUED)
