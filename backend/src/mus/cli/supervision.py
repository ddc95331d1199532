"""What `mus up` becomes: it keeps the broker and the parts of mus running, in the foreground.

`python -m mus.cli.supervision mus up …`: a process without the command line's libraries, which it would have for as
long as mus is up. The environment holds what the options said.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mus.cli.exit_status import leave, status_of
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import AdminRequiredError
from mus.put_off import put_off

# asyncio does without TLS where there is none (a megabyte and a half of it, for nothing here), as without uvloop.
sys.modules["ssl"] = None  # type: ignore[assignment]
put_off("asyncio.sslproto")
import asyncio  # noqa: E402

if TYPE_CHECKING:
    from mus.broker.embedded_server import EmbeddedServer
    from mus.cli.children import Child, Output
    from mus.cli.started_together import Adopted, StartTogether, UpSettings

#: How long the API, with the watcher, may take to stop; a worker has its own time to drain.
_STOP_SECONDS = 6.0
_PROBE_SECONDS = 0.05
_PARTS = ("api", "worker")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to show in place of them
_PR_SET_NAME = 15


def main() -> NoReturn:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"mus up")
    gc.freeze()
    leave(status_of(lambda: asyncio.run(_Up(dict(os.environ)).run())))


class _Up:
    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settings: UpSettings
        self._output: Output
        self._broker: EmbeddedServer | None = None
        #: In the order in which they stop: first what makes jobs and shows them, then what runs them.
        self._children: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until a signal, or until a part turns out not to start (MusError)."""
        from mus.cli.started_together import starting_together

        self._handle_signals()
        async with AsyncExitStack() as stack:
            start = await stack.enter_async_context(starting_together(_PARTS, self._environment))
            await self._unless_stopped(self._come_up(start, stack))
            if self._children:
                await self._unless_stopped(asyncio.Event().wait())
                self._output.write("up", "stopping", level="INFO")

    async def _come_up(self, start: StartTogether, stack: AsyncExitStack) -> None:
        from mus.cli.children import Output
        from mus.cli.console_logs import log_to_stderr

        settings = self._settings = await start.settings()
        log_to_stderr(settings.log_level, settings.log_format, part="up")
        self._output = Output(settings.log_format)
        port = _free_port(settings)
        self._own_data_folder(stack)
        if not settings.has_broker:
            from mus.broker.embedded_server import embedded_server

            self._broker = await stack.enter_async_context(embedded_server(Path(settings.data_dir)))
            self._environment["MUS_DRAGONFLY_URL"] = self._broker.url
        self._tell_parts(port)
        stack.push_async_callback(self._stop_children)
        if self._broker is not None:
            await self._broker.ready()
        prepared = await start.prepare(self._environment)
        running = await start.processes()
        self._keep_children(running)
        await _until_it_answers(settings.host, port)
        print(f"mus is up: {_address(settings.host, port)}", flush=True)
        print(f"  music: {prepared['root']}   data: {settings.data_dir}", flush=True)
        if not prepared["scanned"]:
            await self._show_first_scan(running)

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

        folder = Path(self._settings.data_dir)
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

    def _tell_parts(self, port: int) -> None:
        settings = self._settings
        self._environment |= {
            "MUS_DATA_DIR": settings.data_dir,
            "MUS_HOST": settings.host,
            "MUS_PORT": str(port),
            # What goes well is shown or kept in the ledger: a person's terminal is for what does not.
            "MUS_LOG_LEVEL": self._environment.get("MUS_LOG_LEVEL") or "WARNING",
        }
        if settings.music_dir is not None:
            self._environment["MUS_MUSIC_DIR"] = settings.music_dir

    async def _unless_stopped(self, doing: Coroutine[Any, Any, Any]) -> None:
        """Await `doing`, but no longer than until a signal. Raises what a part raises that gives up."""
        task = asyncio.create_task(doing)
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while not task.done() and not stopped.done():
                await asyncio.wait(
                    {task, stopped, *self._keepers},
                    return_when=asyncio.FIRST_COMPLETED,
                    timeout=None if self._keepers else 0.25,  # they begin in the middle of `doing`
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

    def _keep_children(self, running: dict[str, Adopted]) -> None:
        from mus.cli.children import Child, Part, started

        environment = self._environment

        async def report(process_id: int) -> None:
            async with started(["report-dead", str(process_id)], environment) as process:
                await process.wait()

        api = Part("api", ("serve-and-watch",), _STOP_SECONDS)
        worker = Part("worker", ("worker",), self._settings.drain_seconds + _STOP_SECONDS)
        self._children = [
            Child(api, environment, self._output, running=running.get("api")),
            Child(worker, environment, self._output, running=running.get("worker"), on_death=report),
        ]
        self._keepers = [asyncio.create_task(child.keep(), name=child.part.name) for child in self._children]

    async def _stop_children(self) -> None:
        for child in self._children:
            await child.stop(self._hurry)
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _show_first_scan(self, running: dict[str, Adopted]) -> None:
        from mus.cli.children import kill_group, started

        if sys.stdout.isatty():
            self._output.hold()
        try:
            if (forked := running.get("first-scan")) is not None:
                try:
                    await forked.wait()
                finally:
                    kill_group(forked.pid)
                    await forked.wait()
            else:
                async with started(["first-scan"], self._environment) as process:
                    await process.wait()
        finally:
            self._output.release()


# ------------------------------------------------------------ the address


def _free_port(settings: UpSettings) -> int:
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


if __name__ == "__main__":
    main()
