"""`mus serve`, `mus worker`, `mus watch`, `mus broker`: one part of mus in the foreground."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from mus.cli import part_runs
from mus.cli.options import DataOption, MusicOption, read_settings

if TYPE_CHECKING:
    from mus.config import Settings

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Listen here; any but 127.0.0.1 needs MUS_API_TOKEN (else MUS_HOST).",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=0,
        max=65535,
        help="Port of the API; 0 takes a free one (else MUS_PORT, 8780).",
    ),
]


def _begin(settings: Settings, part: str) -> None:
    from mus.cli.console_logs import log_to_stderr
    from mus.cli.parent_pipe import stop_with_parent

    stop_with_parent(settings.drain_seconds)
    log_to_stderr(settings.log_level, settings.log_format, part=part)


def _know_the_music(settings: Settings) -> None:
    """Make the library's row, where the settings name a folder. Below `mus up` it is there."""
    if settings.music_dir is not None:
        from mus.cli.event_loop import run
        from mus.cli.prepared_library import prepared

        run(prepared(settings))


def serve(
    music: MusicOption = None, data: DataOption = None, host: HostOption = None, port: PortOption = None
) -> None:
    """Serve the API, and nothing else.

    \b
    Example:
      mus serve --data /srv/mus --port 8780
    """
    settings = read_settings(music_dir=music, data_dir=data, host=host, port=port)
    _begin(settings, "api")
    from mus.api.server import serve as serve_api
    from mus.cli.event_loop import run

    _know_the_music(settings)
    run(serve_api(settings))


def worker(
    modules: Annotated[
        list[str] | None, typer.Argument(metavar="[MODULE]...", help="Job modules to load; all by default.")
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="A queue to serve, most urgent first; again for more."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Run jobs. Any number of workers may run, on any number of machines.

    \b
    Examples:
      mus worker
      mus worker mus.jobs.metadata_jobs --queue low_priority
    """
    settings = read_settings(data_dir=data)
    _begin(settings, "worker")
    part_runs.work(settings, modules, queue)


def watch(music: MusicOption = None, data: DataOption = None) -> None:
    """Watch the music folders and enqueue what changes.

    \b
    Example:
      mus watch --data /srv/mus
    """
    settings = read_settings(music_dir=music, data_dir=data)
    _begin(settings, "watcher")
    from mus.cli.event_loop import run
    from mus.watcher.watcher import run_watcher

    _know_the_music(settings)
    run(run_watcher(settings))


def serve_and_watch(data: DataOption = None) -> None:
    """`mus serve` and `mus watch` in one process, for `mus up`."""
    settings = read_settings(data_dir=data)
    _begin(settings, "api")
    part_runs.serve_and_watch(settings)


def broker(data: DataOption = None) -> None:
    """Run the embedded Valkey of the data folder until SIGTERM: supervisord's program in DragonflyDB's place."""
    settings = read_settings(data_dir=data)
    _begin(settings, "broker")
    from mus.cli.event_loop import run

    run(_run_broker(settings))


async def _run_broker(settings: Settings) -> None:
    from mus.broker.embedded_server import embedded_server

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with embedded_server(settings.data_dir) as server:
        await server.ready()
        await stopping.wait()


def report_dead(
    process_id: Annotated[int, typer.Argument(help="Process id, on this machine, of a worker that died.")],
    data: DataOption = None,
) -> None:
    """Say that a worker's process is gone, so that its jobs move on at once."""
    settings = read_settings(data_dir=data)
    from mus.cli.event_loop import run

    run(tell_ledger_of_death(settings, process_id))


async def tell_ledger_of_death(settings: Settings, process_id: int) -> None:
    """Whatever process of this machine it was: only a worker's has jobs. Raises what the database raises."""
    from mus.ledger.workers import declare_process_dead
    from mus.persistence.database import Database

    database = Database(settings.sqlalchemy_url)
    try:
        await declare_process_dead(database, process_id)
    finally:
        await database.close()
