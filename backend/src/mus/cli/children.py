"""The parts of `mus up` as child processes: started again when they die, and none of them left behind.

Each child leads a session of its own, so Ctrl-C in the terminal reaches the parent alone, which then stops the
children in order; and its group can be killed as a whole, with the reader processes of a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mus.cli import parent_pipe
from mus.cli.console_logs import one_line
from mus.errors import AdminRequiredError

#: A child that lived this long had come up; its death is no failed start.
_YOUNG_SECONDS = 5.0
#: So many failed starts in a row: it will not come up by itself.
_HOPELESS_STARTS = 5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_WRONG_USAGE = 2
_HELD_LINES = 2_000
#: A log line as `console_logs` forms it, of a level that tells of nothing wrong.
_ROUTINE = re.compile(r"^\S+ \S+ (DEBUG|INFO) ")


class Output:
    """Where the children's lines go: stderr, each with its part's name before it.

    With JSON logs the lines name their part themselves and go on as they are; what came as plain text, such as a
    native library's complaint or this process's own words, is wrapped, so that each line is one object.
    """

    def __init__(self, log_format: str = "console") -> None:
        self._is_json = log_format == "json"
        self._held: list[str] | None = None

    def write(self, part: str, line: str, *, level: str = "WARNING") -> None:
        """`level` is that of a line which does not tell its own."""
        if self._is_json:
            text, is_routine, _ = _json_line(part, line, level)
        else:
            text, is_routine = f"{part:<7}| {one_line(line)}", _ROUTINE.search(line) is not None
        if self._held is None:
            self._print(text + "\n")
        elif len(self._held) < _HELD_LINES and not is_routine:
            self._held.append(text + "\n")

    def message_of(self, part: str, line: str) -> str:
        """What a line says, for people."""
        return _json_line(part, line)[2] if self._is_json else line

    def hold(self) -> None:
        """Keep lines back while a progress bar has the terminal, and drop those that it stands for."""
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        self._print("".join(held))

    @staticmethod
    def _print(text: str) -> None:
        # A terminal that was closed must not end the parts.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _json_line(part: str, line: str, level: str = "WARNING") -> tuple[str, bool, str]:
    """The line as an object, whether it tells of nothing wrong, and its message."""
    from mus.cli.json_logs import parsed, wrapped  # not for those who log as text

    members = parsed(line)
    if members is None:
        return wrapped(part, line, level), False, line
    return line, members["level"] in {"DEBUG", "INFO"}, str(members["message"])


@dataclass(frozen=True, slots=True)
class Part:
    """One child: the arguments of its `mus` command, and how long it may take to stop."""

    name: str
    arguments: tuple[str, ...]
    stop_seconds: float


@asynccontextmanager
async def started(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    module: str = "mus",
    keep: Sequence[int] = (),
    **options: Any,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `mus` command as a child that ends when this process dies; killed, with its group, when the block ends.

    `keep` are descriptors that it inherits; `options` are those of `asyncio.create_subprocess_exec`.
    """
    reading, writing = os.pipe()
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                # `-P`: what lies in the folder from which mus is called must not shadow modules.
                *(sys.executable, "-P", "-m", module, *arguments),
                env={**environment, parent_pipe.VARIABLE: str(reading)},
                pass_fds=(reading, *keep),
                start_new_session=True,
                **{"stdin": asyncio.subprocess.DEVNULL, **options},
            )
        finally:
            os.close(reading)
        try:
            yield process
        finally:
            kill_group(process.pid)
            await process.wait()
    finally:
        os.close(writing)


def kill_group(process_id: int) -> None:
    """Kill a child that leads a group, if it lives, and whatever it left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, signal.SIGKILL)


class Process(Protocol):
    """What is needed of one: asyncio's own, or one that was adopted (`started_together`)."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    async def wait(self) -> int: ...

    def terminate(self) -> None: ...


class Child:
    """One part, kept running from `keep` to `stop`."""

    def __init__(
        self,
        part: Part,
        environment: Mapping[str, str],
        output: Output,
        *,
        running: Process | None = None,
        on_death: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """`running` is its process, where that was started already; `on_death` is told the process id of each that
        died by itself."""
        self.part = part
        self._environment = dict(environment)
        self._output = output
        self._on_death = on_death
        self._running = running
        self._process: Process | None = running
        self._stopping = asyncio.Event()
        self._last_line = ""

    async def keep(self) -> None:
        """Start it, and start it again when it dies, until `stop`.

        Raises AdminRequiredError, with its last words, when it does not come up.
        """
        failed_starts = deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            status, process_id = await self._run_once()
            if self._stopping.is_set():
                return
            young = time.monotonic() - began < _YOUNG_SECONDS
            deaths = deaths + 1 if young else 0
            # By a signal (negative) somebody else ended it; it could start.
            failed_starts = failed_starts + 1 if young and status > 0 else 0
            if failed_starts >= _HOPELESS_STARTS or (young and status == _WRONG_USAGE):
                raise AdminRequiredError(
                    f"the {self.part.name} does not start: {self._last_line or f'it ended with status {status}'}"
                )
            self._output.write("up", f"the {self.part.name} ended ({_described(status)}); starting it again")
            if self._on_death is not None:
                await self._on_death(process_id)
            if deaths > 1:
                await self._pause(min(_FIRST_PAUSE_SECONDS * 2 ** (deaths - 2), _LONGEST_PAUSE_SECONDS))

    async def _run_once(self) -> tuple[int, int]:
        async with self._begun() as process:
            self._process = process
            forwarding = asyncio.create_task(self._forward(process))
            if self._stopping.is_set():
                process.terminate()
            status = await process.wait()
            kill_group(process.pid)
            # A process that left the group could hold the output open.
            await asyncio.wait({forwarding}, timeout=1.0)
            forwarding.cancel()
        return status, process.pid

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[Process]:
        running, self._running = self._running, None
        if running is not None:
            try:
                yield running
            finally:
                kill_group(running.pid)
                await running.wait()
        else:
            pipe, to_stdout = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
            async with started(self.part.arguments, self._environment, stdout=pipe, stderr=to_stdout) as process:
                yield process

    async def _forward(self, process: Process) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(line)
        if rest:
            self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_line = self._output.message_of(self.part.name, text).removeprefix("mus: ")
            self._output.write(self.part.name, text)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it in good order, or by force when that takes too long, or `hurry` is set."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended, hurried = asyncio.create_task(process.wait()), asyncio.create_task(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=self.part.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            self._output.write("up", f"the {self.part.name} does not stop; killing it")
            kill_group(process.pid)
        await ended


def _described(status: int) -> str:
    return f"by signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
