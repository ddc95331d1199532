"""`mus up`: the broker and the parts, all of mus on one machine, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mus.cli.options import DataOption, MusicOption, read_settings, require_music
from mus.cli.parts import HostOption, PortOption
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import AdminRequiredError, MusError

if TYPE_CHECKING:
    from mus.broker.embedded_server import EmbeddedServer
    from mus.cli.children import Child, Output
    from mus.config import Settings

#: How long watcher and API may take to stop; a worker has its own time to drain.
_STOP_SECONDS = 6.0
_PROBE_SECONDS = 0.05
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to show in place of them


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
    settings = read_settings(music_dir=music, data_dir=data, host=host, port=port, log_level=log_level)
    require_music(settings)
    from mus.cli.console_logs import log_to_stderr
    from mus.cli.event_loop import run

    log_to_stderr(settings.log_level, settings.log_format, part="up")
    run(_Up(settings, log_level or os.environ.get("MUS_LOG_LEVEL") or "WARNING").run())


class _Up:
    def __init__(self, settings: Settings, log_level: str) -> None:
        from mus.cli.children import Output

        self._settings = settings
        #: Of the parts. What goes well is shown or kept in the ledger: a person's terminal is for what does not.
        self._log_level = log_level
        self._output: Output = Output(settings.log_format)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._broker: EmbeddedServer | None = None
        #: In the order in which they stop: first what makes jobs, then what shows them, last what runs them.
        self._children: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until a signal, or until a part turns out not to start (MusError)."""
        self._handle_signals()
        async with AsyncExitStack() as stack:
            port = _free_port(self._settings)
            self._own_data_folder(stack)
            environment = self._environment(port)
            if self._settings.dragonfly_url is None:
                from mus.broker.embedded_server import embedded_server

                server = await stack.enter_async_context(embedded_server(self._settings.data_dir))
                environment["MUS_DRAGONFLY_URL"] = server.url
                self._broker = server
            stack.push_async_callback(self._stop_children)
            await self._unless_stopped(self._come_up(environment, port))
            await self._unless_stopped(asyncio.Event().wait())
            self._output.write("up", "stopping", level="INFO")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            # The second time somebody is in a hurry.
            (self._hurry if self._stopping.is_set() else self._stopping).set()

        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: `nohup mus up`
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, stop)

    def _own_data_folder(self, stack: AsyncExitStack) -> None:
        import fcntl

        folder = self._settings.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise AdminRequiredError(f"The data folder {str(folder)!r} cannot be used: {error.strerror}") from error
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip()
            raise AdminRequiredError(
                f"Another `mus up` (process {owner or 'unknown'}) runs on the data folder {str(folder)!r}"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _environment(self, port: int) -> dict[str, str]:
        settings = self._settings
        environment = dict(os.environ)
        environment |= {
            "MUS_DATA_DIR": str(settings.data_dir),
            "MUS_HOST": settings.host,
            "MUS_PORT": str(port),
            "MUS_LOG_LEVEL": self._log_level,
        }
        if settings.music_dir is not None:
            environment["MUS_MUSIC_DIR"] = str(settings.music_dir)
        return environment

    async def _unless_stopped(self, doing: Coroutine[Any, Any, Any]) -> None:
        """Await `doing`, but no longer than until a signal. Raises what a part raises that gives up."""
        task = asyncio.create_task(doing)
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while not task.done() and not stopped.done():
                await asyncio.wait(
                    {task, stopped, *self._keepers}, return_when=asyncio.FIRST_COMPLETED, timeout=0.25
                )
                for keeper in self._keepers:
                    if keeper.done():
                        keeper.result()
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _come_up(self, environment: dict[str, str], port: int) -> None:
        prepared = await _prepare(environment)
        if self._broker is not None:
            await self._broker.ready()
        self._start_children(environment)
        await _until_it_answers(self._settings.host, port)
        print(f"mus is up: {_address(self._settings.host, port)}", flush=True)
        print(f"  music: {prepared['root']}   data: {self._settings.data_dir}", flush=True)
        if not prepared["scanned"]:
            await self._show_first_scan(environment)

    def _start_children(self, environment: dict[str, str]) -> None:
        from mus.cli.children import Child, Part, started

        async def report(process_id: int) -> None:
            async with started(["report-dead", str(process_id)], environment) as process:
                await process.wait()

        drain = self._settings.drain_seconds + _STOP_SECONDS
        self._children = [
            Child(Part("watcher", ("watch",), _STOP_SECONDS), environment, self._output),
            Child(Part("api", ("serve",), _STOP_SECONDS), environment, self._output),
            Child(Part("worker", ("worker",), drain), environment, self._output, on_death=report),
        ]
        self._keepers = [asyncio.create_task(child.keep(), name=child.part.name) for child in self._children]

    async def _stop_children(self) -> None:
        for child in self._children:
            await child.stop(self._hurry)
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _show_first_scan(self, environment: dict[str, str]) -> None:
        from mus.cli.children import started

        if sys.stdout.isatty():
            self._output.hold()
        try:
            async with started(["first-scan"], environment) as process:
                await process.wait()
        finally:
            self._output.release()


# ------------------------------------------------------------ short commands of its own
#
# Other processes because of what they import: the parent stays small for as long as mus is up.


async def _prepare(environment: dict[str, str]) -> dict[str, Any]:
    from mus.cli.children import started

    pipe = asyncio.subprocess.PIPE
    async with started(["prepare"], environment, stdout=pipe, stderr=pipe) as process:
        answer, complaint = await process.communicate()
    if process.returncode == 0:
        prepared: dict[str, Any] = json.loads(answer)
        return prepared
    lines = complaint.decode(errors="replace").strip().splitlines() or ["the database cannot be prepared"]
    kind: type[MusError] = WrongUsageError if process.returncode == 2 else AdminRequiredError
    raise kind(lines[-1].removeprefix("mus: "))


# ------------------------------------------------------------ the address


def _free_port(settings: Settings) -> int:
    """The port to listen on, which is free now. Raises AdminRequiredError when it is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise WrongUsageError(f"MUS_HOST: {settings.host!r} is no address of this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        # As the server does: a port whose last connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            raise AdminRequiredError(
                f"port {settings.port} of {settings.host} cannot be used ({error.strerror}): use another --port"
            ) from None
        port: int = probe.getsockname()[1]
    return port


def _address(host: str, port: int) -> str:
    shown = _WILDCARDS.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


async def _until_it_answers(host: str, port: int) -> None:
    """Return once the API gives any answer: what it says of its health is for whoever looks."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5.0):
                reading, writing = await asyncio.open_connection(_WILDCARDS.get(host, host), port)
                writing.write(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reading.read(5)
                writing.close()
                if answer == b"HTTP/":
                    return
        await asyncio.sleep(_PROBE_SECONDS)
