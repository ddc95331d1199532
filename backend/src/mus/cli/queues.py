"""`mus queues`: what waits, runs and failed; pause, resume, clear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.cli.queue_tables import QueueAction

app = typer.Typer(rich_markup_mode=None)

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="high_priority, medium_priority or low_priority.")]


@app.callback(invoke_without_command=True)
def queues(context: typer.Context, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the queues; pause or resume one; clear its failed jobs.

    \b
    Examples:
      mus queues
      mus queues pause low_priority
      mus queues resume low_priority
      mus queues clear low_priority
    """
    if context.invoked_subcommand is None:
        list_queues(data, as_json)
    elif data is not None or as_json:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus queues {name} … --data DIR")


@app.command("list")
def list_queues(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show what waits, runs and failed in each queue, and the workers that serve it.

    \b
    Example:
      mus queues list --json
    """
    settings = read_settings(data_dir=data)
    from mus.cli import queue_tables
    from mus.cli.event_loop import run

    queue_tables.print_queues(run(queue_tables.listed(settings)), as_json=as_json)


@app.command("pause")
def pause_queue(queue: QueueName, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Start no more jobs of a queue, on any worker, until it is resumed. Those that run go on.

    \b
    Example:
      mus queues pause low_priority
    """
    from mus.cli.queue_tables import paused

    _act(paused, queue, data, "{name} is paused: {depth} jobs wait, {running} still run", as_json=as_json)


@app.command("resume")
def resume_queue(queue: QueueName, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Let the jobs of a paused queue start again.

    \b
    Example:
      mus queues resume low_priority
    """
    from mus.cli.queue_tables import resumed

    _act(resumed, queue, data, "{name} goes on: {depth} jobs wait", as_json=as_json)


@app.command("clear")
def clear_queue(queue: QueueName, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take a queue's failed jobs off the lists. Their rows and histories stay (`mus jobs list --cleared`).

    \b
    Example:
      mus queues clear low_priority
    """
    from mus.cli.queue_tables import cleared

    _act(cleared, queue, data, "{name}: {cleared} failed jobs cleared", as_json=as_json)


def _act(action: QueueAction, queue: str, data: DataOption, text: str, *, as_json: bool) -> None:
    settings = read_settings(data_dir=data)
    import json
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.queue_tables import acted

    log_to_stderr(settings.log_level, settings.log_format, part="queues", at_least=logging.WARNING)
    answer: dict[str, Any] = run(acted(settings, action, queue))
    print(json.dumps(answer) if as_json else text.format(**answer))
