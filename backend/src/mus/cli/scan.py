"""`mus scan` and `mus first-scan`, for the command line's parser."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from mus.cli.options import DataOption, JsonOption, MusicOption, read_settings
from mus.cli.scan_alone import scan_alone
from mus.cli.scan_terms import ScanRequest, tell
from mus.cli.wrong_usage import WrongUsageError


def scan(
    music: MusicOption = None,
    data: DataOption = None,
    library: Annotated[
        str | None, typer.Option("--library", metavar="NAME", help="Only this library, by name or id; else all.")
    ] = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="P", help="Only this folder of a library, or this file.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read every file again, not only the changed ones.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for its end (default), or only ask for it.")
    ] = True,
    as_json: JsonOption = False,
    confirm_missing: Annotated[
        bool,
        typer.Option(
            "--confirm-missing",
            help="Believe it when much of the library is gone at once; else mus takes the disk for offline.",
        ),
    ] = False,
) -> None:
    """Bring the libraries in step with the disk, once.

    \b
    Examples:
      mus scan --music ~/Music
      mus scan --library Talks
      mus scan --path "Nina Simone/Pastel Blues"
      mus scan --full --json

    Joins the mus that runs on the data folder; where none runs, it does the
    work itself. Exit status 0: the scans succeeded, files in ERROR included.
    With --music it is about the library in that folder alone.
    """
    if library is not None and music is not None:
        raise WrongUsageError("--music names a library already: leave out --library, or --music")
    request = ScanRequest(
        library=library,
        only_set=music is not None,
        path=path,
        full=full,
        confirm_missing=confirm_missing,
        wait=wait,
    )
    raise typer.Exit(scan_alone(request, music=music, data=data, as_json=as_json))


def first_scan(data: DataOption = None) -> None:
    """Follow the first scan of a library, for `mus up`: it never cancels it, and does no work itself."""
    settings = read_settings(data_dir=data)
    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run
    from mus.cli.parent_pipe import stop_with_parent
    from mus.cli.scan_request import load_scan_jobs, request_scan

    stop_with_parent(0.0)
    log_to_stderr(settings.log_level, settings.log_format, part="scan", at_least=logging.WARNING)
    load_scan_jobs()
    request = ScanRequest(only_set=True, requested_by="mus up", join=True, work=False)
    tell(run(request_scan(settings, request, on_terminal=sys.stdout.isatty())), as_json=False)
