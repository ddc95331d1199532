"""Schedules read and changed for the command line: as tables for people, as JSON for programs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from mus.cli.existing_database import existing_database
from mus.cli.terminal import local_time, table_console
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.errors import NotFoundError
from mus.jobs import JOB_MODULES
from mus.jobs.schedules import (
    ScheduleChange,
    ShownSchedule,
    all_schedule_entries,
    change_schedule,
    entry_named,
    reset_schedule,
    run_schedule,
    shown_schedule,
    shown_schedules,
)
from mus.ledger.job_states import JobState
from mus.ledger.schedules import ScheduleEntry
from mus.persistence.database import Database


async def _entries(database: Database, settings: Settings, name: str | None = None) -> list[ScheduleEntry]:
    """All entries. Raises WrongUsageError when there is none of that name."""
    entries = await all_schedule_entries(database, settings.scan_schedule)
    if name is not None:
        try:
            entry_named(entries, name)
        except NotFoundError as error:
            raise WrongUsageError(f"{error.user_message}: {', '.join(error.details['schedules'])}") from None
    return entries


async def listed(settings: Settings) -> list[ShownSchedule]:
    """All schedules."""
    async with existing_database(settings) as database:
        return await shown_schedules(database, await _entries(database, settings))


async def found(settings: Settings, name: str) -> ShownSchedule:
    """One schedule. Raises WrongUsageError."""
    async with existing_database(settings) as database:
        return await shown_schedule(database, await _entries(database, settings, name), name)


async def changed(
    settings: Settings, name: str, *, crontab: str | None, enabled: bool | None, arguments: Mapping[str, Any]
) -> ShownSchedule:
    """Change it; how it is then. Raises WrongUsageError, and BadRequestError for what cannot be."""
    _load_tasks()
    async with existing_database(settings) as database:
        entries = await _entries(database, settings, name)
        change = ScheduleChange(crontab=crontab, enabled=enabled, arguments=arguments)
        await change_schedule(database, entries, name, change)
        return await shown_schedule(database, entries, name)


async def reset(settings: Settings, name: str) -> ShownSchedule:
    """Take it back to its defaults; how it is then. Raises WrongUsageError."""
    async with existing_database(settings) as database:
        entries = await _entries(database, settings, name)
        await reset_schedule(database, entries, name)
        return await shown_schedule(database, entries, name)


async def enqueued(settings: Settings, name: str) -> dict[str, Any]:
    """Enqueue its job; returns the id. Raises WrongUsageError."""
    from mus.broker.runtime import opened

    _load_tasks()
    async with existing_database(settings) as database:
        entries = await _entries(database, settings, name)  # looked for first: what follows would make one
    async with opened(settings) as runtime:
        job_id = await run_schedule(runtime.connection.ledger, entries, name, requested_by="mus schedules run")
    return {"id": job_id, "state": JobState.QUEUED, "schedule": name}


def _load_tasks() -> None:
    """Arguments are checked against the tasks' signatures."""
    for module in JOB_MODULES:
        importlib.import_module(module)


# ------------------------------------------------------------ printing


def print_list(schedules: Sequence[ShownSchedule], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": [_record(schedule) for schedule in schedules]}))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("name", "crontab (UTC)", "given", "next", "last", "job"):
        table.add_column(name, no_wrap=True)
    for schedule in schedules:
        table.add_row(
            schedule.name,
            escape(schedule.crontab) + (" *" if schedule.edited else ""),
            escape(_given(schedule)),
            local_time(schedule.next_due) if schedule.enabled else "off",
            local_time(schedule.last_fired_at),
            schedule.last_job.state if schedule.last_job else "",
        )
    table_console().print(table)
    if any(schedule.edited for schedule in schedules):
        print("* changed; `mus schedules reset NAME` brings the defaults back")


def print_schedule(schedule: ShownSchedule, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_record(schedule)))
        return
    by_default = "" if schedule.crontab == schedule.default_crontab else f" (else {schedule.default_crontab})"
    job = f"{schedule.last_job.id} {schedule.last_job.state}" if schedule.last_job else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("name", schedule.name),
        ("does", schedule.description),
        ("job", f"{schedule.task} on {schedule.queue}"),
        ("given", _given(schedule)),
        ("crontab (UTC)", f"{schedule.crontab}{by_default}"),
        ("changed", "yes" if schedule.edited else ""),
        ("next", local_time(schedule.next_due) if schedule.enabled else "off"),
        ("last", local_time(schedule.last_fired_at)),
        ("last job", job),
    ):
        if value:
            table.add_row(f"[bold]{name}[/]", escape(value))
    table_console().print(table)


def _given(schedule: ShownSchedule) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in schedule.arguments.items())


def _record(schedule: ShownSchedule) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(schedule).items()
    }
