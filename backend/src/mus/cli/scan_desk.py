"""Where a worker takes the requests of `mus scan`: a socket in the data folder, for this user alone.

`scan_call` has the other side, and what both say to each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import mus
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.cli.scan_call import DECIDING, desk_socket
from mus.cli.scan_follower import SCAN_QUEUES, Follower
from mus.cli.scan_request import ask, ends_of, targets_of
from mus.cli.scan_terms import ScanRequest
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings, load_settings
from mus.errors import BadRequestError, ConfigurationError, MusError

logger = logging.getLogger(__name__)

_LONGEST_REQUEST_BYTES = 64 * 1024
#: A scan that did not begin for so long is left to the command: it may work itself.
_PATIENCE_SECONDS = 1.0


@asynccontextmanager
async def scan_desk(runtime: Runtime, queues: Collection[Queue]) -> AsyncIterator[None]:
    """Open for the block, where this worker does all that a scan needs and no other has opened one.

    Without it a scan takes the long way: what keeps it from opening is no reason to stop.
    """
    socket_path = desk_socket(runtime.settings.data_dir)
    if socket_path is None or not set(SCAN_QUEUES).issubset(queues):
        yield
        return
    path = Path(socket_path)
    async with AsyncExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.chmod(0o700)
            lock = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            desk = _Desk(runtime)
            server = await asyncio.start_unix_server(desk.serve, path, limit=_LONGEST_REQUEST_BYTES)
            stack.push_async_callback(desk.close)
            stack.callback(server.close)
            stack.callback(path.unlink, missing_ok=True)
        except OSError as error:
            logger.debug("no desk for scans: %s", error)
        yield


class _Desk:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._serving: set[asyncio.Task[Any]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave the commands that are still here to themselves."""
        for answering in self._answering:
            answering.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Handle one command's request, whatever comes of it."""
        serving = asyncio.current_task()
        assert serving is not None
        answering = asyncio.create_task(self._handle(reader, writer))
        self._serving.add(serving)
        self._answering.add(answering)
        try:
            await asyncio.wait({answering})
        finally:
            self._answering.discard(answering)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._serving.discard(serving)

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        def tell(**answer: Any) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(answer).encode() + b"\n")

        try:
            await self._answer(json.loads(await reader.readline()), reader, tell)
        except (WrongUsageError, BadRequestError) as error:
            tell(wrong_usage=error.user_message)
        except MusError as error:
            tell(error=error.user_message)
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.debug("a command's request was not understood: %r", error)
        except Exception:
            logger.exception("a command's request failed")

    async def _answer(self, call: dict[str, Any], reader: StreamReader, tell: Callable[..., None]) -> None:
        if call["version"] != mus.__version__ or not self._is_meant(call["settings"]):
            tell(elsewhere=True)
            return
        settings = self._settings_with(call["music_dir"])
        request = ScanRequest(**call["request"])
        targets = await targets_of(self._runtime.database, settings, request)
        asked = await ask(self._runtime.database, targets, request)
        names = [library.name for library, _ in targets]
        tell(asked=[[scan.job_id, scan.is_ours] for scan in asked], libraries=names)
        follower = Follower(self._runtime, asked, work=False, say=lambda text: tell(say=text))
        if not request.wait:
            ends = ends_of(targets, asked, await follower.rows(), interrupted=False)
            tell(ends=[end._asdict() for end in ends])
            return
        listening = asyncio.create_task(_listen(reader, follower))
        try:
            async with AsyncExitStack() as stack:
                followed = await follower.follow(stack, _Shown(tell), patience_seconds=_PATIENCE_SECONDS)
            if followed is None:
                tell(elsewhere=True)
            else:
                ends = ends_of(targets, asked, *followed)
                tell(ends=[end._asdict() for end in ends])
        finally:
            listening.cancel()

    def _is_meant(self, given: dict[str, str | None]) -> bool:
        """Whether the command, by its own settings, means this worker's database, broker and folders."""
        own = self._runtime.settings
        if given["dragonfly_url"] is None:  # below `mus up` it is the embedded one's
            given = given | {"dragonfly_url": own.dragonfly_url}
        return all((given[name] or Settings.model_fields[name].default) == getattr(own, name) for name in DECIDING)

    def _settings_with(self, music_dir: str | None) -> Settings:
        """The command's. Raises WrongUsageError."""
        own = self._runtime.settings
        if music_dir is None:
            return own.model_copy(update={"music_dir": None})
        try:
            return load_settings(music_dir=Path(os.fsdecode(bytes.fromhex(music_dir))), data_dir=own.data_dir)
        except ConfigurationError as error:
            raise WrongUsageError(error.user_message) from None


async def _listen(reader: StreamReader, follower: Follower) -> None:
    """Ctrl-C comes as a line. A command that is gone has left its scan to itself."""
    with contextlib.suppress(OSError, ValueError):
        while line := await reader.readline():
            if line == b"stop\n":
                follower.interrupt()


class _Shown:
    """A progress bar at the other end."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def show(self, stage: str, done: int, total: int) -> None:
        self._tell(show=[stage, done, total])
