"""The first start of the parts of `mus up`, all at once: this side of `common_start`, which says why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from mus.cli.children import kill_group, started
from mus.cli.wrong_usage import WrongUsageError
from mus.errors import AdminRequiredError, MusError

_PR_SET_CHILD_SUBREAPER = 36
#: How long forks that run already may take to say so.
_LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What `mus up` itself needs to know. The settings as a whole take 10 MiB to read, which the parts do."""

    data_dir: str
    music_dir: str | None
    host: str
    port: int
    log_level: str
    log_format: str
    drain_seconds: float
    has_broker: bool


class Adopted:
    """A process that became this one's child when its parent ended; used like one of asyncio."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        # As asyncio does for its own where there is no pidfd.
        threading.Thread(target=self._wait, name=f"mus-wait-{pid}", daemon=True).start()

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, os.waitstatus_to_exitcode(status))

    def _end(self, status: int) -> None:
        self.returncode = status
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGTERM)


class StartTogether:
    """The steps of a start, in this order: `settings`, `prepare`, `processes`."""

    def __init__(self, process: asyncio.subprocess.Process, outputs: dict[str, int]) -> None:
        self._process = process
        self._outputs = outputs
        self._process_ids: dict[str, int] = {}
        self._adopted: dict[str, Adopted] = {}

    async def settings(self) -> UpSettings:
        """Raises WrongUsageError for what the settings ask for and cannot be."""
        return UpSettings(**(await self._message())["settings"])

    async def prepare(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Prepare the database, in the parts' environment; see `prepared_library.prepared`."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it says why, or is gone: that is seen next
            self._process.stdin.write(json.dumps({"environment": dict(environment)}).encode() + b"\n")
            await self._process.stdin.drain()
        prepared: dict[str, Any] = (await self._message())["prepared"]
        return prepared

    async def processes(self) -> dict[str, Adopted]:
        """The parts that were forked, by name: all of them, unless the process that forks was killed at it."""
        while message := await self._line():
            self._process_ids[message["part"]] = message["pid"]
        await self._process.wait()
        if self._outputs:
            _adopt_orphans(wanted=False)
        for part in list(self._process_ids):
            output = await self._output(part)
            self._adopted[part] = Adopted(self._process_ids.pop(part), output)
        return self._adopted

    async def _output(self, part: str) -> asyncio.StreamReader | None:
        descriptor = self._outputs.pop(part, None)
        if descriptor is None:
            return None
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        return reader

    async def _message(self) -> dict[str, Any]:
        message = await self._line()
        if message is None:
            status = await self._process.wait()
            raise AdminRequiredError(f"the parts do not start: what imports them ended (status {status})")
        return message

    async def _line(self) -> dict[str, Any] | None:
        """The next message, None after the last. Raises what was told instead of one."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            return None
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind: type[MusError] = WrongUsageError if message["status"] == 2 else AdminRequiredError
            raise kind(message["error"])
        return message

    async def end(self) -> None:
        """Kill whatever still lives."""
        kill_group(self._process.pid)
        with suppress(TimeoutError, MusError):
            # A fork says so first of all, and then closes its end: none is missed.
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.processes()
        for process in self._adopted.values():
            if process.returncode is None:
                kill_group(process.pid)
                await process.wait()
        for descriptor in self._outputs.values():
            os.close(descriptor)


@asynccontextmanager
async def starting_together(parts: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[StartTogether]:
    """Begin to start the parts, in an environment of MUS_* as the user gave it.

    They end, in good order, when the block does or this process is gone.
    """
    outputs: dict[str, tuple[int, int]] = {}
    if sys.platform == "linux" and _adopt_orphans(wanted=True):
        outputs = {part: os.pipe() for part in parts}
    writing = {part: ends[1] for part, ends in outputs.items()}
    stdout = os.dup(1)
    orders = json.dumps({"outputs": writing, "stdout": stdout})
    pipe = asyncio.subprocess.PIPE
    try:
        beginning = started(
            [orders],
            environment,
            module="mus.cli.common_start",
            keep=(*writing.values(), stdout),
            stdin=pipe,
            stdout=pipe,
        )
        process = await beginning.__aenter__()
    finally:
        for descriptor in (*writing.values(), stdout):
            os.close(descriptor)
    start = StartTogether(process, {part: ends[0] for part, ends in outputs.items()})
    try:
        yield start
    finally:
        try:
            await start.end()
        finally:
            await beginning.__aexit__(None, None, None)


def _adopt_orphans(*, wanted: bool) -> bool:
    """Whether the kernel now gives this process the children of its children that end. Else they are init's."""
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0)
