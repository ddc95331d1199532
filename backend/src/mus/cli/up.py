"""`mus up`: all of mus on one machine, in the foreground. Its command line; `supervision` does the work."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mus.cli.options import DataOption, MusicOption
from mus.cli.parts import HostOption, PortOption


def up(
    music: MusicOption = None,
    data: DataOption = None,
    port: PortOption = None,
    host: HostOption = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = None,
) -> None:
    """Run all of mus in the foreground: broker, API, worker, watcher. Ctrl-C stops it.

    \b
    Examples:
      mus up --music ~/Music
      mus up --music /srv/music --data /srv/mus --port 8780

    What dies is started again, and no process is left behind.
    """
    given = {"MUS_MUSIC_DIR": music, "MUS_DATA_DIR": data, "MUS_HOST": host, "MUS_PORT": port}
    environment = dict(os.environ) | {name: str(value) for name, value in given.items() if value is not None}
    if log_level is not None:
        environment["MUS_LOG_LEVEL"] = log_level
    # An arena for each thread is memory that stays; the threads of mus take turns anyway.
    environment.setdefault("MALLOC_ARENA_MAX", "1")
    arguments = [sys.executable, "-P", "-m", "mus.cli.supervision", "mus", "up", *sys.argv[2:]]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - no shell is wanted
