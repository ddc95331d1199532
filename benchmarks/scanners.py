"""The scanners that are measured: mus, MPD, beets and supysonic, each driven from outside as a person would.

Each keeps its database in a folder of its own on disk. `scan` brings it in step with the music, whatever it knew
before, and returns the seconds from the request until it said that it was done.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import peers
from process_trees import Run, cpu_seconds, memory_mib, run, running, wait_until

#: The command of this checkout.
MUS = (Path(sys.executable).with_name("mus"),)
_LONGEST_SCAN_SECONDS = 1500.0
_KEPT_OPEN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Scan:
    seconds: float
    cpu_seconds: float
    #: Tracks that it knows now; None if it does not say.
    tracks: int | None = None
    peak_mib: float | None = None


class Scanner(Protocol):
    name: str

    def scan(self, music: Path, *, with_memory: bool = False) -> Scan: ...

    def forget(self) -> None:
        """Everything: the next scan is a first one."""

    def close(self) -> None: ...


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's, without settings of mus; nothing is scheduled in between."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MUS_")}
    return {**plain, "MUS_SCAN_SCHEDULE": "0 0 1 1 *", "MUS_LOG_LEVEL": "WARNING", **settings}


class Mus:
    """`mus scan`, by itself or joined to what runs on the data folder."""

    name = "mus"

    def __init__(self, folder: Path) -> None:
        self.data = folder / "mus"

    def scan(self, music: Path, *, with_memory: bool = False) -> Scan:
        command = [*MUS, "scan", "--music", music, "--data", self.data, "--json"]
        done = run(command, environment=clean_environment(), with_memory=with_memory)
        result = json.loads(done.output)
        if result["state"] != "succeeded" or result["failed"]:
            raise RuntimeError(f"mus scan: {result}")
        return Scan(done.seconds, done.cpu_seconds, result["found"], done.peak_mib)

    def forget(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)

    def close(self) -> None: ...


class MusServer:
    """`mus up`, asked over HTTP on one connection that stays open."""

    def __init__(self, process: Any, port: int, ready_seconds: float) -> None:
        self.pid: int = process.pid
        self.ready_seconds = ready_seconds
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        # A caller may ask for five scans in five minutes: each request of ours comes from another address.
        self._callers = itertools.count()
        self._asked_at = 0.0

    def get(self, path: str) -> Any:
        return json.loads(self.body(path))

    def body(self, path: str, method: str = "GET", content: dict[str, Any] | None = None) -> bytes:
        # The server ends a connection that was idle for seconds.
        if time.monotonic() - self._asked_at > _KEPT_OPEN_SECONDS:
            self._connection.close()
        self._asked_at = time.monotonic()
        number = next(self._callers)
        caller = f"10.0.{number // 250 % 250}.{number % 250 + 1}"
        headers = {"Content-Type": "application/json", "X-Forwarded-For": caller}
        text = None if content is None else json.dumps(content)
        self._connection.request(method, f"/api/v1{path}", text, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {body[:500]!r}")
        return body

    def scan(self) -> float:
        began = time.perf_counter()
        job = json.loads(self.body("/scans", "POST", {"mode": "quick"}))["job_id"]
        while (state := self.get(f"/scans/{job}")["state"]) not in {"succeeded", "failed", "cancelled"}:
            if time.perf_counter() - began > _LONGEST_SCAN_SECONDS:
                raise TimeoutError("the scan does not end")
            time.sleep(0.005)
        if state != "succeeded":
            raise RuntimeError(f"the scan {state}")
        return time.perf_counter() - began

    def hold_slow_phase(self) -> None:
        """The analysis of each file waits from now on: what is measured next has the machine for itself."""
        self.body("/queues/low_priority/pause", "POST")
        wait_until(lambda: not self.get("/jobs?state=running&limit=1")["items"], "the running jobs", every=0.05)
        self.settle(60)

    def settle(self, seconds: float) -> bool:
        """Whether within the time nothing ran or waited any more, except in queues that are held."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self._busy(), "an end of all jobs", seconds=seconds, every=0.1)
            return True
        return False

    def _busy(self) -> bool:
        states = "running,queued,waiting,retrying"
        if self.get(f"/jobs?queue=low_priority&state={states}&limit=1")["items"]:
            held = any(
                queue["name"] == "low_priority" and queue["paused"] for queue in self.get("/queues")["items"]
            )
            if not held:
                return True
        return any(
            self.get(f"/jobs?queue={queue}&state={states}&limit=1")["items"]
            for queue in ("high_priority", "medium_priority")
        )

    def tracks(self) -> int:
        return sum(library["tracks"] for library in self.get("/libraries")["items"])

    def close(self) -> None:
        self._connection.close()


@contextmanager
def mus_up(music: Path, data: Path) -> Iterator[MusServer]:
    """Started, and ready when it answers; `ready_seconds` since the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data.mkdir(parents=True, exist_ok=True)
    command = [*MUS, "up", "--music", music, "--data", data, "--port", str(port)]
    began = time.perf_counter()
    with running(
        command, environment=clean_environment(MUS_TRUSTED_PROXIES="127.0.0.1"), log=data / "up.log"
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(port), "the API", seconds=60, every=0.002)
        except TimeoutError as error:
            raise RuntimeError(f"mus up: {error}") from error
        seconds = time.perf_counter() - began
        if process.poll() is not None:
            raise RuntimeError(f"mus up ended: {(data / 'up.log').read_text()[-1000:]}")
        server = MusServer(process, port, seconds)
        try:
            yield server
        finally:
            server.close()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v1/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Mpd:
    """Music Player Daemon on its own protocol, its database on disk, and without any output.

    Without a database it scans as soon as it starts: its first scan is timed from its start.
    """

    name = "MPD"

    def __init__(self, folder: Path, *, watching: bool = False) -> None:
        self._binary = peers.mpd_binary()
        self._folder = folder / "mpd"
        self._watching = watching
        self._stack = contextlib.ExitStack()
        self._process: Any = None
        self._client: Any = None
        self._socket = Path()
        self.ready_seconds = 0.0

    def start(self, music: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # A socket's path has at most 107 bytes.
        self._socket = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mpd-"))) / "socket"
        config = self._folder / "mpd.conf"
        config.write_text(
            f'music_directory "{music}"\n'
            f'db_file "{self._folder / "database"}"\n'
            f'state_file "{self._folder / "state"}"\n'
            f'bind_to_address "{self._socket}"\n'
            f'log_file "{self._folder / "log"}"\n'
            f'auto_update "{"yes" if self._watching else "no"}"\n'
            'audio_output {\n  type "null"\n  name "none"\n}\n'
        )
        began = time.perf_counter()
        command = [self._binary, "--no-daemon", config]
        self._process = self._stack.enter_context(running(command, log=self._folder / "said"))
        wait_until(self._connected, "MPD", seconds=30, every=0.002)
        self.ready_seconds = time.perf_counter() - began

    def _connected(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"mpd ended: {(self._folder / 'said').read_text()[-1000:]}")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._socket))
        except OSError:
            connection.close()
            return False
        connection.settimeout(60)
        self._client = self._stack.enter_context(connection.makefile("rw", encoding="utf-8"))
        self._stack.callback(connection.close)
        self._client.readline()
        return True

    def ask(self, command: str) -> dict[str, str]:
        self._client.write(command + "\n")
        self._client.flush()
        answer: dict[str, str] = {}
        while (line := self._client.readline().rstrip("\n")) != "OK":
            if not line or line.startswith("ACK"):
                raise RuntimeError(f"MPD answers {command!r} with {line!r}")
            name, _, value = line.partition(": ")
            answer[name] = value
        return answer

    def scan(self, music: Path, *, with_memory: bool = False) -> Scan:
        is_first = not (self._folder / "database").exists()
        began, cpu = time.perf_counter(), 0.0
        if self._process is None:
            self.start(music)
        if not is_first:
            began, cpu = time.perf_counter(), cpu_seconds(self._process.pid)
            self.ask("update")
        pid, peak, looked_at = self._process.pid, 0.0, 0.0
        while "updating_db" in self.ask("status"):
            if time.perf_counter() - began > _LONGEST_SCAN_SECONDS:
                raise TimeoutError("MPD's update does not end")
            if with_memory and time.perf_counter() - looked_at > 0.1:
                looked_at, peak = time.perf_counter(), max(peak, memory_mib(pid))
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        peak = max(peak, memory_mib(pid)) if with_memory else peak
        return Scan(seconds, cpu_seconds(pid) - cpu, self.tracks(), peak or None)

    def tracks(self) -> int:
        return int(self.ask("stats")["songs"])

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def forget(self) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        self._stack.close()
        self._process = None


class _Command:
    """A scanner that is a command: of several, where one alone does not notice all that may have changed."""

    name: ClassVar[str]

    def __init__(self, folder: Path, environments: Path) -> None:
        self._bin = peers.environment(environments, self.name)
        self._folder = folder / self.name

    def commands(self, music: Path) -> Iterator[list[str | Path]]:
        raise NotImplementedError

    def prepare(self, music: Path) -> None:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def scan(self, music: Path, *, with_memory: bool = False) -> Scan:
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
            self.prepare(music)
        runs: list[Run] = [
            run(command, environment=self.environment(), with_memory=with_memory)
            for command in self.commands(music)
        ]
        peaks = [each.peak_mib or 0.0 for each in runs]
        return Scan(
            sum(each.seconds for each in runs), sum(each.cpu_seconds for each in runs), None, max(peaks) or None
        )

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None: ...


class Beets(_Command):
    """`beet import` takes in new albums and passes over those it has taken in; `beet update` notices changes."""

    name = "beets"

    def prepare(self, music: Path) -> None:
        (self._folder / "config.yaml").write_text(
            f"directory: {json.dumps(str(music))}\n"
            f"library: {json.dumps(str(self._folder / 'library.db'))}\n"
            f"statefile: {json.dumps(str(self._folder / 'state.pickle'))}\n"
            "import: {copy: no, write: no, autotag: no, incremental: yes, quiet: yes}\n"
        )

    def environment(self) -> dict[str, str]:
        return {**os.environ, "BEETSDIR": str(self._folder)}

    def commands(self, music: Path) -> Iterator[list[str | Path]]:
        known = (self._folder / "state.pickle").exists()
        yield [self._bin / "beet", "import", "-q", music]
        if known:
            yield [self._bin / "beet", "update"]


class Supysonic(_Command):
    """`supysonic-cli folder scan`, in the foreground."""

    name = "supysonic"

    def prepare(self, music: Path) -> None:
        self._folder.joinpath("home").mkdir()
        self._folder.joinpath("home", ".supysonic").write_text(
            f"[base]\ndatabase_uri = sqlite:///{self._folder / 'supysonic.db'}\n"
            f"[webapp]\ncache_dir = {self._folder / 'cache'}\n"
            f"[daemon]\nsocket = {self._folder / 'socket'}\n"
        )
        run([self._bin / "supysonic-cli", "folder", "add", "music", music], environment=self.environment())

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self._folder / "home")}

    def commands(self, music: Path) -> Iterator[list[str | Path]]:
        yield [self._bin / "supysonic-cli", "folder", "scan", "--foreground", "music"]
