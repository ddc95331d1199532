"""Real worker processes for tests, ended however the test goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mus.config import Settings

PROGRAM = Path(__file__).parent / "fault_worker.py"


def environment(settings: Settings) -> dict[str, str]:
    """The settings of a test as the environment of its processes."""
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
        "PYTHONPATH": str(PROGRAM.parent),
        **{f"MUS_{name.upper()}": str(value) for name, value in given.items()},
    }


@contextmanager
def worker_process(settings: Settings, *stop_at: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `fault_worker`, stopped in good order at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *stop_at],
        env=environment(settings),
        stderr=subprocess.DEVNULL if not os.environ.get("SHOW") else None,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
