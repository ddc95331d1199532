"""A Valkey of the harness's own, which may be killed, emptied, rolled back and frozen."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis.asyncio

from broker_rules import NO_FUNCTIONS
from mus.broker.embedded_server import find_binary

# Ends with the harness, also when that is killed. A `preexec_fn` may deadlock in a process with threads.
_LAUNCHER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


class OwnBroker:
    """One server, started again on the same socket after each death, with as much of its data as a fault leaves."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 's'}"

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(find_binary())),
                    *("--port", "0", "--unixsocket", str(self._folder / "s"), "--dir", str(self._folder)),
                    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                    *("--aof-load-truncated", "yes", "--maxmemory-policy", "noeviction"),
                    *NO_FUNCTIONS,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    async def ready(self, seconds: float = 10.0) -> None:
        """Raises RuntimeError when it does not answer in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                async with asyncio.timeout(1), redis.asyncio.from_url(self.url) as client:
                    await client.ping()
                    return
            except (redis.RedisError, OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the broker does not answer: {error!r}") from error
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def forget_everything(self) -> None:
        """To be called while it is dead: it comes back empty."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def forget_the_end(self, share: float) -> None:
        """To be called while it is dead: it comes back as it was a while ago, as from an older snapshot. Messages
        that were done are there again, and newer ones are not."""
        for file in (self._folder / "appendonlydir").glob("*.incr.aof"):
            os.truncate(file, int(file.stat().st_size * (1 - share)))

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
