"""The processes: started, killed, frozen and started again, each with a control block and a log of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from chaos.control_block import ControlBlock
from mus.cli import parent_pipe

#: In the environment of every process of a run, also of readers and whatever else they start.
MARKER = "MUS_CHAOS_RUN"
#: SIGTERM ends a process that has only begun to start without further ado.
_GOOD_ENDS = (0, -signal.SIGTERM)


class Member:
    """One process of the fleet under a lasting name. A fault holds `lock` while it has its way with it."""

    def __init__(self, name: str, role: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self.role = name, role
        self.lock = asyncio.Lock()
        self.port = _free_port() if role == "serve" else 0
        self.log_path = folder / f"{name}.log"
        self.control_path = folder / f"{name}.control"
        self.control = ControlBlock(self.control_path)
        self.deaths: list[str] = []
        self._environment = {**environment, "MUS_PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        # Ends with the harness, as the parts of `mus up` do with that.
        reading, self._pipe = os.pipe()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.process", self.role, str(self.control_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, parent_pipe.VARIABLE: str(reading)},
                pass_fds=(reading,),
                start_new_session=True,
            )
        os.close(reading)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self.runs:
            os.kill(self._process.pid, number)

    async def wait(self, seconds: float) -> int | None:
        """The exit status; None when it still runs after so long."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        status = self._process.returncode
        if status is not None and self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        return status

    async def kill(self) -> None:
        """Only itself: its readers must notice."""
        self.send(signal.SIGKILL)
        await self.wait(10)

    async def stop(self, seconds: float) -> None:
        """In good order. What takes longer, or ends with an error, is noted."""
        if not self.runs:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        status = await self.wait(seconds)
        if status is None:
            self.deaths.append(f"{self.name} did not stop within {seconds:.0f} s of SIGTERM")
            self.send(signal.SIGUSR1)  # its stacks go to the log
            await asyncio.sleep(0.5)
            await self.kill()
        elif status not in _GOOD_ENDS:
            self.deaths.append(f"{self.name} ended with status {status} after SIGTERM")

    async def revive(self) -> None:
        """Start it if it does not run; a death that nobody ordered is noted."""
        if self.runs:
            self.send(signal.SIGCONT)
            return
        if self._process is not None and self._process.returncode not in {*_GOOD_ENDS, -signal.SIGKILL}:
            self.deaths.append(f"{self.name} died by itself, with status {self._process.returncode}")
        await self.wait(0)
        self.start()


def left_behind(token: str) -> list[str]:
    """Processes of the run with this marker that still live, without this one."""
    needle = f"{MARKER}={token}".encode()
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                # A zombie has no command line left, and is reaped by whoever started it.
                if command:
                    found.append(f"{folder.name} {command.strip()}"[:200])
    return found


def end(processes: list[str]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split()[0]), signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
