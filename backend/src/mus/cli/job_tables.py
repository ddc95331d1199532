"""The ledger read for people, as tables, and for programs, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from mus.broker.queues import queue_named
from mus.cli.existing_database import existing_database
from mus.cli.options import WrongUsageError
from mus.cli.terminal import local_time, table_console
from mus.config import Settings
from mus.errors import BadRequestError, NotFoundError
from mus.ledger.job_states import JobState
from mus.ledger.queries import JobFilter, event_page, job_named, job_page
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent

JobAction = Callable[[Settings, str], Coroutine[Any, Any, dict[str, Any]]]

_LISTED = [
    *("id", "task", "queue", "state", "attempt", "progress", "stage", "units_done", "units_total"),
    *("error_category", "error_message", "parent_id", "retry_of", "requested_by"),
    *("run_after", "created_at", "started_at", "finished_at"),
]
_SHOWN = [*_LISTED, "arguments", "result", "error_details", "children_open", "worker_id", "cancel_requested_at"]
_COLOURS = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.RETRYING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.WAITING: "cyan",
}
_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class ShownJob:
    job: dict[str, Any]
    events: list[dict[str, Any]]


def job_filter(states: Sequence[str], queue: str | None) -> JobFilter:
    """Raises WrongUsageError for a state or a queue that there is not."""
    try:
        wanted = tuple(sorted({JobState(state) for state in states}))
    except ValueError:
        raise WrongUsageError(f"--state is one of {', '.join(JobState)}") from None
    try:
        return JobFilter(states=wanted, queue=None if queue is None else queue_named(queue))
    except BadRequestError as error:
        raise WrongUsageError(f"{error.user_message}: {', '.join(error.details['queues'])}") from None


async def listed(settings: Settings, wanted: JobFilter, limit: int) -> list[dict[str, Any]]:
    """The newest jobs."""
    async with existing_database(settings) as database, database.reading() as session:
        page = await job_page(session, wanted, before=None, limit=limit)
        return [_record(job, _LISTED) for job in page.jobs]


async def found(settings: Settings, job_id: str) -> ShownJob:
    """One job and its history. Raises NotFoundError."""
    async with existing_database(settings) as database, database.reading() as session:
        whole_id = await _whole_id(database, job_id)
        events, _ = await event_page(session, whole_id, after=None, limit=_EVENTS)
        return ShownJob(_record(await job_named(session, whole_id), _SHOWN), [_event(event) for event in events])


async def cancelled(settings: Settings, job_id: str) -> dict[str, Any]:
    """Cancel; returns the id and the state it is in now. Raises NotFoundError and ConflictError."""
    from mus.broker.runtime import opened
    from mus.broker.streaq_broker import broker

    async with opened(settings) as runtime:
        whole_id = await _whole_id(runtime.database, job_id)
        async with runtime.database.unit_of_work():
            state = await broker.ledger.cancel(whole_id)
        return {"id": whole_id, "state": state if state is JobState.CANCELLED else f"{state}, and stops soon"}


async def retried(settings: Settings, job_id: str) -> dict[str, Any]:
    """Enqueue again; returns the new job's id. Raises NotFoundError and ConflictError."""
    from mus.broker.runtime import opened
    from mus.broker.streaq_broker import broker

    async with opened(settings) as runtime:
        whole_id = await _whole_id(runtime.database, job_id)
        async with runtime.database.unit_of_work():
            new_id = await broker.ledger.retry(whole_id, requested_by="mus jobs retry")
        return {"id": new_id, "state": JobState.QUEUED, "retry_of": whole_id}


async def _whole_id(database: Database, beginning: str) -> str:
    """The one id that begins so. Raises NotFoundError, and WrongUsageError when several do."""
    async with database.reading() as session:
        ids = (
            await session.scalars(select(Job.id).where(Job.id.startswith(beginning, autoescape=True)).limit(2))
        ).all()
    if not ids:
        raise NotFoundError(f"There is no job {beginning}")
    if len(ids) > 1:
        raise WrongUsageError(f"several jobs begin with {beginning}: give more of the id")
    return ids[0]


def _record(job: Job, names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(getattr(job, name)) for name in names}


def _event(event: JobEvent) -> dict[str, Any]:
    return {name: _plain(getattr(event, name)) for name in ("at", "event", "attempt", "details")}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


# ------------------------------------------------------------ printing


def print_list(jobs: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(jobs)}))
        return
    if not jobs:
        print("No jobs")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("id", "task", "queue", "state", "done", "created", "took"):
        table.add_column(name, no_wrap=name != "state")
    for job in jobs:
        state = f"[{_COLOURS.get(job['state'], 'default')}]{job['state']}[/]"
        if job["error_message"] and job["state"] in {JobState.FAILED, JobState.RETRYING}:
            state += f" {escape(job['error_message'])}"
        table.add_row(
            job["id"],
            job["task"],
            job["queue"],
            state,
            f"{job['progress']:.0%}",
            _local(job["created_at"]),
            _took(job),
        )
    table_console().print(table)


def print_job(shown: ShownJob, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(shown)))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in shown.job.items():
        if value not in (None, 0, [], {}):
            text = json.dumps(value, ensure_ascii=False, indent=1) if isinstance(value, dict) else str(value)
            table.add_row(f"[bold]{name}[/]", escape(_local(text) if name.endswith(("_at", "_after")) else text))
    table_console().print(table)
    for event in shown.events:
        details = f"  {json.dumps(event['details'], ensure_ascii=False)}" if event["details"] else ""
        print(f"  {_local(event['at'])}  attempt {event['attempt']}  {event['event']}{details}")


def _local(moment: str) -> str:
    return local_time(datetime.fromisoformat(moment))


def _took(job: dict[str, Any]) -> str:
    if job["started_at"] is None or job["finished_at"] is None:
        return ""
    seconds = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return f"{seconds.total_seconds():.1f} s"
