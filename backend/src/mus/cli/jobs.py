"""`mus jobs`: what the ledger says of jobs; watch, cancel, retry, move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, queue_of, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.cli.job_tables import JobAction
    from mus.config import Settings

app = typer.Typer(rich_markup_mode=None)

StateOption = Annotated[
    list[str] | None, typer.Option("--state", metavar="STATE", help="queued, running, failed, …; again for more.")
]
QueueOption = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Only jobs of this queue.")]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="NAME", help="Only jobs of this task.")]
ClearedOption = Annotated[bool, typer.Option("--cleared", help="With failures that were cleared off the lists.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, the newest first.")]
_LIMIT = 20
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning if no other has that.")]


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    state: StateOption = None,
    queue: QueueOption = None,
    task: TaskOption = None,
    limit: LimitOption = _LIMIT,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, look at one, watch it, cancel, retry or move it.

    \b
    Examples:
      mus jobs
      mus jobs list --state failed --json
      mus jobs failures
      mus jobs show 01a20034a58c
      mus jobs watch 01a20034a58c
      mus jobs cancel 01a20034a58c

    The beginning of an id will do where no other job has it.
    """
    if context.invoked_subcommand is None:
        list_jobs(state, queue, task, False, limit, data, as_json)
    elif state or queue or task or data is not None or as_json or limit != _LIMIT:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus jobs {name} … --data DIR")


@app.command("list")
def list_jobs(
    state: StateOption = None,
    queue: QueueOption = None,
    task: TaskOption = None,
    cleared: ClearedOption = False,
    limit: LimitOption = _LIMIT,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first.

    \b
    Example:
      mus jobs list --queue low_priority --state running --state queued
    """
    settings = read_settings(data_dir=data)
    from mus.cli import job_tables
    from mus.cli.event_loop import run

    wanted = job_tables.job_filter(state or (), queue, task, cleared=cleared)
    job_tables.print_list(run(job_tables.listed(settings, wanted, limit)), as_json=as_json)


@app.command("show")
def show_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a job with its result or error, and its history.

    \b
    Example:
      mus jobs show 01a20034a58c --json
    """
    settings = read_settings(data_dir=data)
    from mus.cli import job_tables
    from mus.cli.event_loop import run

    job_tables.print_job(run(job_tables.found(settings, job_id)), as_json=as_json)


@app.command("cancel")
def cancel_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Cancel a job that waits or runs, with all its parts.

    \b
    Example:
      mus jobs cancel 01a20034a58c
    """
    settings = read_settings(data_dir=data)
    from mus.cli.job_tables import cancel

    answer = _act(settings, cancel, job_id)
    _tell(answer, f"Job {answer['id']} is {answer['state']}{', and stops soon' * answer['stops_soon']}", as_json)


@app.command("retry")
def retry_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Run a failed or cancelled job again, as a new job.

    \b
    Example:
      mus jobs retry 01a20034a58c
    """
    settings = read_settings(data_dir=data)
    from mus.cli.job_tables import retry

    answer = _act(settings, retry, job_id)
    _tell(answer, f"Job {answer['id']} is {answer['state']}: it does {answer['retry_of']} again", as_json)


@app.command("move")
def move_job(
    job_id: JobId,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="high_priority, medium_priority or low_priority.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a job that waits to another queue.

    \b
    Example:
      mus jobs move 01a20034a58c high_priority
    """
    settings = read_settings(data_dir=data)
    from mus.cli.job_tables import move_to

    answer = _act(settings, move_to(queue_of(queue)), job_id)
    _tell(answer, f"Job {answer['id']} is {answer['state']} on {answer['queue']}", as_json)


@app.command("watch")
def watch_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Follow a job live, to its end. Ctrl-C stops watching, not the job.

    \b
    Examples:
      mus jobs watch 01a20034a58c
      mus jobs watch 01a20034a58c --json      one message a line

    Exit status 0: it succeeded; 1: it failed or was cancelled.
    """
    settings = read_settings(data_dir=data)
    import logging
    import sys

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.job_watch import watched

    log_to_stderr(settings.log_level, settings.log_format, part="jobs", at_least=logging.WARNING)
    if not run(watched(settings, job_id, as_json=as_json, on_terminal=sys.stdout.isatty() and not as_json)):
        raise typer.Exit(1)


@app.command("failures")
def list_failures(
    queue: QueueOption = None, limit: LimitOption = _LIMIT, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Failed jobs grouped by reason, the most frequent first.

    \b
    Examples:
      mus jobs failures
      mus jobs failures --queue low_priority --json

    `mus queues clear QUEUE` takes them off this list.
    """
    settings = read_settings(data_dir=data)
    from mus.cli import job_tables
    from mus.cli.event_loop import run

    job_tables.print_failures(run(job_tables.failed(settings, queue, limit)), as_json=as_json)


def _act(settings: Settings, action: JobAction, job_id: str) -> dict[str, Any]:
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.job_tables import acted

    log_to_stderr(settings.log_level, settings.log_format, part="jobs", at_least=logging.WARNING)
    return run(acted(settings, action, job_id))


def _tell(answer: dict[str, Any], text: str, as_json: bool) -> None:
    import json

    print(json.dumps(answer) if as_json else text)
