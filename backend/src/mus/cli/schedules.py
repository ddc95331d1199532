"""`mus schedules`: what comes by itself, and when; change it, or have it now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mus.cli.options import DataOption, JsonOption, read_settings
from mus.cli.wrong_usage import WrongUsageError

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name, as `mus schedules` lists it.")]


@app.callback(invoke_without_command=True)
def schedules(context: typer.Context, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List what runs by itself, and when; change a schedule, or run it now.

    \b
    Examples:
      mus schedules
      mus schedules show retention
      mus schedules set quick-scan --crontab "*/15 * * * *"
      mus schedules set retention --argument days=60
      mus schedules set thumbnails --off
      mus schedules run database
      mus schedules reset retention

    A crontab has five fields: minute, hour, day of the month, month,
    weekday; in UTC. A time must fit all five.
    """
    if context.invoked_subcommand is None:
        list_schedules(data, as_json)
    elif data is not None or as_json:
        name = context.invoked_subcommand
        raise WrongUsageError(f"options come after the subcommand: mus schedules {name} … --data DIR")


@app.command("list")
def list_schedules(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the schedules.

    \b
    Example:
      mus schedules list --json
    """
    settings = read_settings(data_dir=data)
    from mus.cli import schedule_tables
    from mus.cli.event_loop import run

    schedule_tables.print_list(run(schedule_tables.listed(settings)), as_json=as_json)


@app.command("show")
def show_schedule(name: Name, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a schedule.

    \b
    Example:
      mus schedules show quick-scan
    """
    settings = read_settings(data_dir=data)
    from mus.cli import schedule_tables
    from mus.cli.event_loop import run

    schedule_tables.print_schedule(run(schedule_tables.found(settings, name)), as_json=as_json)


@app.command("set")
def set_schedule(
    name: Name,
    crontab: Annotated[
        str | None, typer.Option("--crontab", metavar="CRONTAB", help="When, as five fields in UTC.")
    ] = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Whether it runs by itself.")] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="NAME=VALUE", help="What its job is given; again for more."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change when a schedule runs, whether it does, or what its job is given.

    \b
    Examples:
      mus schedules set quick-scan --crontab "*/15 * * * *"
      mus schedules set retention --argument days=60
      mus schedules set thumbnails --off

    It stays so across restarts and updates, until `mus schedules reset`.
    What it missed while it was off it does not make up for.
    """
    settings = read_settings(data_dir=data)
    arguments = _arguments(argument or ())
    if crontab is None and on is None and not arguments:
        raise WrongUsageError("say what to change: --crontab, --on, --off or --argument")
    from mus.cli import schedule_tables
    from mus.cli.event_loop import run

    changed = run(schedule_tables.changed(settings, name, crontab=crontab, enabled=on, arguments=arguments))
    schedule_tables.print_schedule(changed, as_json=as_json)


@app.command("reset")
def reset_schedule(name: Name, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take a schedule back to its defaults, and turn it on.

    \b
    Example:
      mus schedules reset retention
    """
    settings = read_settings(data_dir=data)
    from mus.cli import schedule_tables
    from mus.cli.event_loop import run

    schedule_tables.print_schedule(run(schedule_tables.reset(settings, name)), as_json=as_json)


@app.command("run")
def run_schedule(name: Name, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Run a schedule's job now, even if the schedule is off. When it is due next stays as it was.

    \b
    Example:
      mus schedules run database
    """
    settings = read_settings(data_dir=data)
    import logging

    from mus.cli import schedule_tables
    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run

    log_to_stderr(settings.log_level, settings.log_format, part="schedules", at_least=logging.WARNING)
    answer = run(schedule_tables.enqueued(settings, name))
    print(json.dumps(answer) if as_json else f"Job {answer['id']} is {answer['state']}")


def _arguments(given: Sequence[str]) -> dict[str, Any]:
    """`days=60` is a number, as in JSON; what is no JSON is text. Raises WrongUsageError."""
    arguments: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WrongUsageError(f"--argument is NAME=VALUE, as days=60, not {text!a}")
        try:
            arguments[name] = json.loads(value)
        except (ValueError, RecursionError):
            arguments[name] = value
    return arguments
