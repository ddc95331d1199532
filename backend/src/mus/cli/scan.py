"""`mus scan`: asks for a scan and follows it to its end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mus.cli.options import DataOption, JsonOption, MusicOption, read_settings, require_music
from mus.cli.scan_terms import AskedScan, ScanEnd, ScanRequest, tell
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.config import Settings


def scan(
    context: typer.Context,
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
    settings = read_settings(music_dir=music, data_dir=data)
    require_music(settings)
    request = ScanRequest(
        library=library,
        only_set=music is not None,
        path=path,
        full=full,
        confirm_missing=confirm_missing,
        wait=wait,
    )
    on_terminal = sys.stderr.isatty() and not as_json
    ends = _scan_here(settings, request, on_terminal=on_terminal, asked=context.obj or ())
    raise typer.Exit(tell(ends, as_json=as_json))


def _scan_here(
    settings: Settings, request: ScanRequest, *, on_terminal: bool, asked: Sequence[AskedScan]
) -> list[ScanEnd]:
    """Open everything that a scan takes, and work where nobody else does. `asked` are scans that a worker has
    enqueued, but not followed to the end (`scan_call`)."""
    from mus.cli.console_logs import log_to_stderr

    log_to_stderr(settings.log_level, settings.log_format, part="scan", at_least=logging.WARNING)
    with _listing_ahead(settings, request), _broker_starting(settings):
        from mus.cli.event_loop import run
        from mus.cli.scan_request import load_scan_jobs, request_scan

        load_scan_jobs()
        return run(request_scan(settings, request, on_terminal=on_terminal, asked=asked))


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


@contextmanager
def _listing_ahead(settings: Settings, request: ScanRequest) -> Iterator[None]:
    """Let the music folder be listed while the imports take their time, where the scan is of one that is named, and
    files be read where all are to be: by --full, and where there is no database yet."""
    if settings.music_dir is None or request.library or request.path or not request.wait:
        yield
        return
    from mus.library.walk_ahead import Reading, walking_ahead

    is_new = settings.database_url is None and not (settings.data_dir / "mus.db").exists()
    reading = Reading(settings.tag_separators, settings.sort_articles) if request.full or is_new else None
    with ExitStack() as stack:
        with suppress(OSError):  # no room for another process: the scan lists the folder itself
            stack.enter_context(walking_ahead(settings.roots.here(os.fsencode(settings.music_dir)), reading))
        yield


@contextmanager
def _broker_starting(settings: Settings) -> Iterator[None]:
    """Let the embedded broker start, if none runs, while the imports take their time."""
    if settings.dragonfly_url is not None:
        yield
        return
    from mus.broker.embedded_server import EmbeddedServer
    from mus.errors import ConfigurationError

    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {str(settings.data_dir)!r} cannot be used: {error.strerror}"
        ) from error
    server = EmbeddedServer(settings.data_dir)
    server.start()
    try:
        yield
    finally:
        server.stop()
