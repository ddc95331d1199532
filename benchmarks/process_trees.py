"""What processes cost, seen from outside: seconds of the clock, of the cores, and memory of a whole tree."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
#: Looking at a process's memory holds it up for a moment: often enough to meet the height of some seconds.
_MEMORY_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """A command that ended well."""

    seconds: float
    #: User and system time of it and all it waited for.
    cpu_seconds: float
    output: str
    #: Most that the whole tree used at once, PSS; None if it was not looked at.
    peak_mib: float | None


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    with_memory: bool = False,
    limit_seconds: float = 1200.0,
) -> Run:
    """Run a command to its end. Raises RuntimeError, with what it said, if it fails or takes too long."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=environment, start_new_session=True,
        )  # fmt: skip
        late = threading.Timer(limit_seconds, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        try:
            with PeakMemory(process.pid) if with_memory else contextlib.nullcontext() as peak:
                _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            raise
        finally:
            late.cancel()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}: {said}")
        text = out.read().decode(errors="replace")
        return Run(seconds, usage.ru_utime + usage.ru_stime, text, peak.mib if peak else None)


@contextmanager
def running(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block runs; what it says goes to `log`."""
    with log.open("ab") as said:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    condition: Callable[[], object], what: str, *, seconds: float = 120.0, every: float = 0.005
) -> float:
    """Seconds until the condition was true. Raises TimeoutError."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(every)
    return time.perf_counter() - began


def tree(pid: int) -> list[int]:
    """The process and all below it that live now."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{member}/task"):
                found += map(int, Path(f"/proc/{member}/task/{thread}/children").read_text().split())
    return found


def memory_mib(pid: int) -> float:
    """Proportional set size of the whole tree: pages that processes share count once."""
    return sum(map(_pss, tree(pid))) / 1024


def own_memory_mib(pid: int) -> float:
    """Of the process alone, without those below it."""
    return _pss(pid) / 1024


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far, with those of its processes that ended and were waited for."""
    seconds = 0.0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            # Its own by its clock: whole ticks of seven processes at rest are up to a third of a per cent short.
            seconds += time.clock_gettime(_cpu_clock(member)) + sum(map(int, fields[13:15])) / _TICKS
    return seconds


def _cpu_clock(pid: int) -> int:
    """As clock_getcpuclockid(3) of Linux makes it, which Python does not have."""
    return (~pid << 3) | 2


class PeakMemory:
    """The height of a tree's memory while the block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_MEMORY_EVERY_SECONDS):
            self.mib = max(self.mib, memory_mib(self._pid))
