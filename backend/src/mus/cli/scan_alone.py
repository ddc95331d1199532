"""`mus scan` where no worker does it: opens everything that a scan takes, and works where nobody else does.

Without the command line's parser, whose import takes longer than a small library's scan.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from mus.cli.given_settings import read_settings, require_music
from mus.cli.scan_terms import AskedScan, ScanRequest, tell

if TYPE_CHECKING:
    from mus.config import Settings


def scan_alone(
    request: ScanRequest,
    *,
    music: str | os.PathLike[str] | None,
    data: str | os.PathLike[str] | None,
    as_json: bool,
    asked: Sequence[AskedScan] = (),
) -> int:
    """Do it, and tell how it ended. Returns the exit status. `asked` are scans that a worker has enqueued, but not
    followed to the end (`scan_call`).

    Raises WrongUsageError, and MusError for what keeps it from being done.
    """
    settings = read_settings(music_dir=music, data_dir=data)
    require_music(settings)
    from mus.cli.console_logs import log_to_stderr

    log_to_stderr(settings.log_level, settings.log_format, part="scan", at_least=logging.WARNING)
    on_terminal = sys.stderr.isatty() and not as_json
    with _listing_ahead(settings, request), _broker_starting(settings):
        from mus.cli.event_loop import run
        from mus.cli.scan_request import load_scan_jobs, request_scan

        load_scan_jobs()
        ends = run(request_scan(settings, request, on_terminal=on_terminal, asked=asked))
    return tell(ends, as_json=as_json)


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
