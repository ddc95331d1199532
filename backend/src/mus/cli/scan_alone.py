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
from mus.data_folder import absolute, default_data_dir, environment
from mus.root_map import parsed_root_map

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
    with _ahead(request, music=music, data=data):
        settings = read_settings(music_dir=music, data_dir=data)
        require_music(settings)
        from mus.cli.console_logs import log_to_stderr

        log_to_stderr(settings.log_level, settings.log_format, part="scan", at_least=logging.WARNING)
        on_terminal = sys.stderr.isatty() and not as_json
        with _broker_starting(settings):
            from mus.cli.event_loop import run
            from mus.cli.scan_request import load_scan_jobs, request_scan

            load_scan_jobs()
            ends = run(request_scan(settings, request, on_terminal=on_terminal, asked=asked))
    return tell(ends, as_json=as_json)


@contextmanager
def _ahead(
    request: ScanRequest, *, music: str | os.PathLike[str] | None, data: str | os.PathLike[str] | None
) -> Iterator[None]:
    """Let the music folder be listed while the settings and the imports take their time, where the scan is of one
    that is named, and files be read where all are to be: by --full, and where there is no database yet."""
    given = environment()
    music = music or given.get("MUS_MUSIC_DIR")
    if not music or request.library or request.path or not request.wait:
        yield
        return
    from mus.library.walk_ahead import Reading, walking_ahead

    database = os.path.join(absolute(data or given.get("MUS_DATA_DIR", default_data_dir())), "mus.db")
    is_new = not given.get("MUS_DATABASE_URL") and not os.path.exists(database)
    reading = Reading(given.get("MUS_TAG_SEPARATORS"), given.get("MUS_SORT_ARTICLES"))
    with ExitStack() as stack:
        # No room for another process: the scan lists the folder itself. A map that is none: the settings say so.
        with suppress(OSError, ValueError):
            root = parsed_root_map(given.get("MUS_ROOT_MAP", "")).here(os.fsencode(absolute(music)))
            stack.enter_context(walking_ahead(root, reading if request.full or is_new else None))
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
