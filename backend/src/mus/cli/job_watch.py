"""One job, live in the terminal: the same messages that a WebSocket carries."""

from __future__ import annotations

import json

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mus.broker.runtime import opened
from mus.cli.existing_database import require_database, whole_id
from mus.cli.terminal import local_time
from mus.config import Settings
from mus.events.hub import EventHub
from mus.events.messages import JobMessage
from mus.events.watch import Watch
from mus.ledger.job_states import JobState


async def watched(settings: Settings, job_id: str, *, as_json: bool, on_terminal: bool) -> bool:
    """Print how the job stands until it ends; whether it succeeded. Raises NotFoundError."""
    require_database(settings)
    async with opened(settings) as runtime:
        job_id = await whole_id(runtime.database, job_id)
        hub = EventHub(runtime.database, runtime.connection.url, runtime.connection.queue_name)
        async with hub.watching([job_id]) as watch:
            last = await (_drawn(watch) if on_terminal else _printed(watch, as_json=as_json))
    return last is not None and last.state is JobState.SUCCEEDED


async def _printed(watch: Watch, *, as_json: bool) -> JobMessage | None:
    message = None
    async for event in watch:
        for message in event.jobs:
            print(json.dumps(message.as_json()) if as_json else line(message), flush=True)
    return message


async def _drawn(watch: Watch) -> JobMessage | None:
    message = None
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(), transient=True) as bar:
        row = bar.add_task("", total=1.0, stage="")
        async for event in watch:
            for message in event.jobs:
                # Without progress so far it may not count any.
                bar.update(
                    row,
                    description=message.task,
                    total=1.0 if message.progress else None,
                    completed=message.progress,
                    stage=_standing(message),
                )
    if message is not None:
        print(line(message))
    return message


def line(message: JobMessage) -> str:
    """How a job stands, in one line."""
    return f"{local_time(message.timestamp)}  {message.task}  {message.progress:4.0%}  {_standing(message)}"


def _standing(message: JobMessage) -> str:
    parts = [str(message.state)]
    details = message.details
    if message.state is JobState.RETRYING:
        parts.append(f"attempt {details['attempt']} at {local_time(details['next_attempt_at'])}")
    elif message.stage and not message.is_last:
        parts.append(message.stage)
    if details["units_total"] and not message.is_last:
        parts.append(f"{details['units_done']:,} of {details['units_total']:,}")
    if message.user_message:
        # One line, whatever a file's name brought along.
        parts.append(" ".join(message.user_message.split()))
    if message.result:
        shown = {name: value for name, value in message.result.items() if isinstance(value, int | float | str)}
        parts.append(", ".join(f"{name} {value}" for name, value in shown.items()))
    return ": ".join((parts[0], ", ".join(parts[1:]))) if parts[1:] else parts[0]
