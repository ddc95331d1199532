"""`mus`: one command line for everything. What a command needs is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import mus
from mus.cli import (
    backup,
    doctor,
    edit,
    jobs,
    libraries,
    migrate,
    parts,
    queues,
    scan,
    schedules,
    supervisor_events,
    trash,
    up,
)
from mus.cli.wrong_usage import WrongUsageError

#: What the parser of the command line raises: typer's public errors derive from it.
_ParserError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="mus",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mus {mus.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def mus_command(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A self-hosted music library that stays in step with the disk.

    \b
    Begin with:
      mus up --music ~/Music
    and open the address it prints. Every option is a setting as well:
    MUS_MUSIC_DIR, MUS_DATA_DIR, MUS_HOST, MUS_PORT, MUS_API_TOKEN,
    MUS_DRAGONFLY_URL, MUS_DATABASE_URL, MUS_LOG_LEVEL, MUS_LOG_FORMAT.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("up")(up.up)
app.command("scan")(scan.scan)
app.add_typer(libraries.app, name="libraries")
app.add_typer(jobs.app, name="jobs")
app.add_typer(queues.app, name="queues")
app.add_typer(schedules.app, name="schedules")
app.add_typer(trash.app, name="trash")
app.command("edit")(edit.edit)
app.command("edits")(edit.edits)
app.command("undo")(edit.undo)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("migrate")(migrate.migrate)
app.command("serve")(parts.serve)
app.command("worker")(parts.worker)
app.command("watch")(parts.watch)
app.command("first-scan", hidden=True)(scan.first_scan)
app.command("serve-and-watch", hidden=True)(parts.serve_and_watch)
app.command("report-dead", hidden=True)(parts.report_dead)
app.command("broker", hidden=True)(parts.broker)
app.command("supervisor-events", hidden=True)(supervisor_events.supervisor_events)


def run() -> int:
    """Run the command that was typed. Returns its exit status, or raises as it does."""
    try:
        status = app(prog_name="mus", standalone_mode=False)
    except _ParserError as error:
        raise WrongUsageError(error.format_message()) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0
