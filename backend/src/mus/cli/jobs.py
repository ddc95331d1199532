"""`mus jobs`: what the ledger says of jobs, and cancel and retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mus.cli.options import DataOption, JsonOption, WrongUsageError, read_settings

if TYPE_CHECKING:
    from mus.cli.job_tables import JobAction

app = typer.Typer(rich_markup_mode=None)

StateOption = Annotated[
    list[str] | None, typer.Option("--state", metavar="STATE", help="queued, running, failed, …; again for more.")
]
QueueOption = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Only jobs of this queue.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, the newest first.")]
_LIMIT = 20
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its beginning if no other has that.")]


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    state: StateOption = None,
    queue: QueueOption = None,
    limit: LimitOption = _LIMIT,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, look at one, cancel or retry it.

    \b
    Examples:
      mus jobs
      mus jobs list --state failed --json
      mus jobs show 01a20034a58cb9da372d582c5879293b
      mus jobs cancel 01a20034a58cb9da372d582c5879293b
    """
    if context.invoked_subcommand is None:
        list_jobs(state, queue, limit, data, as_json)
    elif state or queue or data is not None or as_json or limit != _LIMIT:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus jobs {name} … --data DIR")


@app.command("list")
def list_jobs(
    state: StateOption = None,
    queue: QueueOption = None,
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

    wanted = job_tables.job_filter(state or (), queue)
    job_tables.print_list(run(job_tables.listed(settings, wanted, limit)), as_json=as_json)


@app.command("show")
def show_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a job with its result or error, and its history.

    \b
    Example:
      mus jobs show 01a20034a58cb9da372d582c5879293b --json
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
      mus jobs cancel 01a20034a58cb9da372d582c5879293b
    """
    from mus.cli.job_tables import cancelled

    _act(cancelled, job_id, data, as_json=as_json)


@app.command("retry")
def retry_job(job_id: JobId, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Run a failed or cancelled job again, as a new job.

    \b
    Example:
      mus jobs retry 01a20034a58cb9da372d582c5879293b
    """
    from mus.cli.job_tables import retried

    _act(retried, job_id, data, as_json=as_json)


def _act(action: JobAction, job_id: str, data: DataOption, *, as_json: bool) -> None:
    settings = read_settings(data_dir=data)
    import json
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run

    log_to_stderr(settings.log_level, settings.log_format, part="jobs", at_least=logging.WARNING)
    answer = run(action(settings, job_id))
    print(json.dumps(answer) if as_json else f"Job {answer['id']} is {answer['state']}")
