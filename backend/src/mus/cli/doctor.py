"""`mus doctor`: is everything there that mus needs, and what to do if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mus.cli.options import DataOption, JsonOption, MusicOption

if TYPE_CHECKING:
    from mus.cli.check import Check

_COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def doctor(music: MusicOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Check what mus needs, and say what to do. Exit status 1 when something fails.

    \b
    Example:
      mus doctor --data /srv/mus
    """
    # Not `read_settings`: a music folder that is gone is a finding here.
    import logging

    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.health_checks import all_checks
    from mus.cli.wrong_usage import WrongUsageError
    from mus.config import load_settings
    from mus.errors import ConfigurationError

    try:
        settings = load_settings(music_dir=music, data_dir=data)
    except ConfigurationError as error:
        raise WrongUsageError(error.user_message) from None
    log_to_stderr("WARNING", settings.log_format, part="doctor", at_least=logging.ERROR)
    checks = run(all_checks(settings))
    if as_json:
        _print_json(checks)
    else:
        for check in checks:
            # `echo` leaves the colours out where there is no terminal.
            status = typer.style(f"{check.status:<4}", fg=_COLOURS[check.status])
            typer.echo(f"{status}  {check.name}: {check.message}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _print_json(checks: list[Check]) -> None:
    import json
    from dataclasses import asdict

    worst = next((status for status in ("fail", "warn") if any(c.status == status for c in checks)), "ok")
    print(json.dumps({"status": worst, "checks": [asdict(check) for check in checks]}))
