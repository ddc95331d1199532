"""Jobs for people, as tables, and for programs, as JSON; and what is done with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from mus.broker.queues import Queue, follow_up_queue
from mus.cli.existing_database import existing_database, require_database, whole_id
from mus.cli.options import is_text, queue_of
from mus.cli.terminal import local_time, plain, table_console
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.ledger import steering
from mus.ledger.job_states import JobState
from mus.ledger.ledger import Ledger
from mus.ledger.queries import JobFilter, event_page, failure_groups, job_named, job_page, latest_retry
from mus.persistence.models import Job, JobEvent

JobAction = Callable[[Ledger, str], Coroutine[Any, Any, dict[str, Any]]]

_LISTED = [
    *("id", "task", "queue", "state", "attempt", "max_attempts", "progress", "stage", "units_done", "units_total"),
    *("error_category", "error_message", "parent_id", "retry_of", "retry_number", "requested_by"),
    *("run_after", "created_at", "started_at", "finished_at", "cleared_at"),
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


def job_filter(
    states: Sequence[str], queue: str | None, task: str | None = None, *, cleared: bool = False
) -> JobFilter:
    """Raises WrongUsageError for a state or a queue that there is not."""
    try:
        wanted = tuple(sorted({JobState(state) for state in states}))
    except ValueError:
        raise WrongUsageError(f"--state is one of {', '.join(JobState)}") from None
    if task is not None and not is_text(task):
        raise WrongUsageError("--task is no text")
    return JobFilter(states=wanted, queue=None if queue is None else queue_of(queue), task=task, cleared=cleared)


async def listed(settings: Settings, wanted: JobFilter, limit: int) -> list[dict[str, Any]]:
    """The newest jobs."""
    async with existing_database(settings) as database, database.reading() as session:
        page = await job_page(session, wanted, before=None, limit=limit)
        return [_record(job, _LISTED) for job in page.jobs]


async def found(settings: Settings, job_id: str) -> ShownJob:
    """One job and its history. Raises NotFoundError."""
    async with existing_database(settings) as database, database.reading() as session:
        job = await job_named(session, await whole_id(database, job_id))
        events, _ = await event_page(session, job.id, after=None, limit=_EVENTS)
        retried_as = await latest_retry(session, job.id)
        return ShownJob(_record(job, _SHOWN) | {"retried_as": retried_as}, [_event(event) for event in events])


async def failed(settings: Settings, queue: str | None, limit: int) -> list[dict[str, Any]]:
    """The failed jobs nobody cleared away, by reason."""
    wanted = None if queue is None else queue_of(queue)
    async with existing_database(settings) as database, database.reading() as session:
        groups = await failure_groups(session, queue=wanted, limit=limit)
    return [
        {
            "count": group.count,
            "queue": group.queue,
            "task": group.task,
            "category": group.category,
            "reason": group.reason,
            "first_at": plain(group.first_at),
            "last_at": plain(group.last_at),
            "last_job": group.last.id,
            "message": group.last.error_message,
            "attempts": group.last.attempt,
            "details": group.last.error_details,
        }
        for group in groups
    ]


# ------------------------------------------------------------ acting


async def acted(settings: Settings, action: JobAction, job_id: str) -> dict[str, Any]:
    """Do something with a job, through the broker that runs or one of our own; returns what `action` does.

    Raises NotFoundError and ConflictError.
    """
    from mus.broker.runtime import opened

    require_database(settings)
    async with opened(settings) as runtime:
        job_id = await whole_id(runtime.database, job_id)
        async with runtime.database.unit_of_work():
            return await action(runtime.connection.ledger, job_id)


async def cancel(ledger: Ledger, job_id: str) -> dict[str, Any]:
    """The id, and the state it is in now."""
    state = await steering.cancel(ledger, job_id)
    return {"id": job_id, "state": state, "stops_soon": state is not JobState.CANCELLED}


async def retry(ledger: Ledger, job_id: str) -> dict[str, Any]:
    """The new job's id."""
    new_id = await steering.retry(ledger, job_id, requested_by="mus jobs retry")
    # While an earlier retry runs, that one is the answer.
    return {"id": new_id, "state": await steering.state_of(new_id), "retry_of": job_id}


def move_to(queue: Queue) -> JobAction:
    """Moves a job to the queue."""

    async def move(ledger: Ledger, job_id: str) -> dict[str, Any]:
        state = await steering.move(ledger, job_id, queue, continuation_queue=follow_up_queue(queue))
        return {"id": job_id, "state": state, "queue": queue}

    return move


def _record(job: Job, names: Sequence[str]) -> dict[str, Any]:
    return {name: plain(getattr(job, name)) for name in names}


def _event(event: JobEvent) -> dict[str, Any]:
    return {name: plain(getattr(event, name)) for name in ("at", "event", "attempt", "details")}


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
        if job["state"] == JobState.RETRYING:
            state += f" (attempt {job['attempt']} of {job['max_attempts']} at {local_time(job['run_after'])})"
        table.add_row(
            job["id"],
            job["task"],
            job["queue"],
            state,
            f"{job['progress']:.0%}",
            local_time(job["created_at"]),
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
            table.add_row(
                f"[bold]{name}[/]", escape(local_time(text) if name.endswith(("_at", "_after")) else text)
            )
    table_console().print(table)
    for event in shown.events:
        details = f"  {json.dumps(event['details'], ensure_ascii=False)}" if event["details"] else ""
        print(f"  {local_time(event['at'])}  attempt {event['attempt']}  {event['event']}{details}")


def print_failures(groups: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(groups)}))
        return
    if not groups:
        print("No failed jobs")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("count", "task", "queue", "who acts", "last", "last job", "reason"):
        table.add_column(name, no_wrap=name != "reason", justify="right" if name == "count" else "left")
    for group in groups:
        table.add_row(
            f"{group['count']:,}",
            group["task"],
            group["queue"],
            group["category"] or "",
            local_time(group["last_at"]),
            group["last_job"],
            escape(group["reason"] or group["message"] or ""),
        )
    table_console().print(table)


def _took(job: dict[str, Any]) -> str:
    if job["started_at"] is None or job["finished_at"] is None:
        return ""
    seconds = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return f"{seconds.total_seconds():.1f} s"
