"""The real `mus`, as processes of their own."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from broker_rules import NAMED_BROKER, queue_of
from forked_process import run_forked

T = TypeVar("T")
#: The variable by which a test knows the processes that came out of its own.
MARK = "MUS_TEST_MARK"
#: Short enough to see workers die.
QUICK = {"beat_seconds": "0.2", "dead_after_seconds": "2", "reconcile_seconds": "0.2", "drain_seconds": "5"}


def environment(home: Path, **settings: str) -> dict[str, str]:
    """This environment without the settings of whoever runs the tests; the data folder is below `home`.

    `settings` in small letters become MUS_ variables; others are variables as they stand.
    """
    broker = {"MUS_DRAGONFLY_URL": NAMED_BROKER, "MUS_QUEUE_NAME": queue_of(str(home))} if NAMED_BROKER else {}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
        **broker,
        # No scan comes by itself, not even in a test that runs at 23 minutes past the hour.
        "MUS_SCAN_SCHEDULE": "0 0 1 1 *",
        "XDG_DATA_HOME": str(home),
        **{f"MUS_{name.upper()}" if name.islower() else name: value for name, value in settings.items()},
    }


#: Of tests that run on both databases; the others do on SQLite.
on_both_databases = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-P", "-m", "mus", *map(str, arguments)]


def mus(home: Path, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with its imports done, see `forked_process`."""
    return run_forked(command(*arguments), env=environment(home, **settings), timeout=90, cwd=home)


def started_mus(home: Path, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """As `mus`, by a process that imports what it needs by itself."""
    return subprocess.run(
        command(*arguments),
        env=environment(home, **settings),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=home,
    )


def until(condition: Callable[[], T], *, seconds: float = 60.0, what: str = "the condition") -> T:
    """Poll until the condition is true, and return what it gave. Fails the test when it never comes."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s; last: {value!r}"
        time.sleep(0.02)


class Up:
    """A `mus up`, its output so far, and every process that came out of it."""

    def __init__(self, process: subprocess.Popen[str], mark: str) -> None:
        self.process = process
        self._mark = f"{MARK}={mark}".encode()
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def output(self) -> str:
        if self.process.poll() is not None:
            # Its last words may still be in the pipe; who holds that open longer is not waited for.
            self._reader.join(5)
        return "".join(self._lines)

    def address(self) -> str:
        """Where it listens, once it says so."""

        def said() -> str | None:
            assert self.process.poll() is None, self.output
            match = re.search(r"mus is up: (\S+)", self.output)
            return match and match[1]

        return until(said, what="the address") or ""

    def said(self, text: str) -> None:
        until(lambda: text in self.output, what=repr(text))

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of it and all below it, orphans too: the environment is inherited."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        found[int(entry.name)] = line
                except OSError:
                    continue
        return found

    def part(self, name: str) -> int:
        """The process id of a part, once it runs."""

        def look() -> int | None:
            return next(
                (pid for pid, line in self.processes().items() if line.rstrip().endswith(f"-m mus {name}")), None
            )

        return until(look, what=f"a process of {name}") or 0

    def gone(self) -> None:
        until(lambda: not self.processes(), seconds=30, what="the end of every process")

    def close(self) -> None:
        for pid in [self.process.pid, *self.processes()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def mus_up(home: Path, *arguments: str | Path, **settings: str) -> Iterator[Up]:
    """`mus up` on a free port; nothing of it is left at the end."""
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        command("up", "--port", "0", *arguments),
        env={**environment(home, **{**QUICK, **settings}), MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=home,
        start_new_session=True,
    )
    up = Up(process, mark)
    try:
        yield up
    except BaseException:
        sys.stderr.write(up.output)
        raise
    finally:
        up.close()
