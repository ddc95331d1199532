"""supervisord.conf as `make production` runs it: up, killed part by part, given up, and stopped without a trace."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from audio_files import write_library
from cli.mus_commands import MARK, QUICK, Up, environment, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PRODUCTION = Path(__file__).parents[3] / "docker" / "production"
TRACKS = 200


class Production(Up):
    """The entry point, which becomes supervisord, and what runs below it."""

    def __init__(self, process: subprocess.Popen[str], mark: str, port: int, data: Path) -> None:
        super().__init__(process, mark)
        self.port = port
        self._data = data

    def call(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": "Bearer secret"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def healthy(self) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self.output
            try:
                return bool(self.call("/health")["status"] == "ok")
            except OSError:
                return False

        until(look, what="good health")

    def program(self, command: str, *, other_than: int = 0) -> int:
        """The process id of the program with this `mus` command, once it runs."""

        def look() -> int | None:
            found = (pid for pid, line in self.processes().items() if f"/mus {command}" in line)
            return next((pid for pid in found if pid != other_than), None)

        return until(look, what=f"a process of {command}") or 0

    def kill(self, command: str) -> int:
        """SIGKILL a program, and wait until another has taken its place. Returns the process id that died."""
        killed = self.program(command)
        os.kill(killed, signal.SIGKILL)
        self.program(command, other_than=killed)
        return killed

    def scan(self) -> str:
        job_id: str = self.call("/scans", "POST", {"mode": "full"})["job_id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.call(f"/jobs/{job_id}")
        return job

    def scan_that_stands_still(self) -> str:
        """Start a scan, and return its id while its files are read: until `readers_go_on`, or the worker is killed.

        Only after a scan that ended: the readers it used are the ones that are stopped.
        """
        readers = self._readers()
        assert readers
        for reader in readers:
            os.kill(reader, signal.SIGSTOP)
        scan = self.scan()
        until(lambda: self.call("/jobs?state=running&task=read_files")["items"], what="a job that runs")
        return scan

    def readers_go_on(self) -> None:
        for reader in self._readers():
            with suppress(ProcessLookupError):
                os.kill(reader, signal.SIGCONT)

    def _readers(self) -> list[int]:
        return [pid for pid, line in self.processes().items() if "reader_process" in line]

    def scan_succeeds(self, job_id: str, *, found: int) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in {"succeeded", "failed", "cancelled"} else None

        job = until(ended, what="the end of the scan")
        assert job is not None
        assert (job["state"], job["result"]["found"], job["result"]["failed"]) == ("succeeded", found, 0), job
        return job

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._data / "mus.db", timeout=30)) as database:
            return database.execute(statement).fetchall()

    def was_reported(self, process_id: int) -> None:
        """Return once the ledger has been told that this worker is dead."""
        until(
            lambda: self.rows(f"SELECT 1 FROM workers WHERE pid = {process_id} AND state = 'dead'"),
            what="the report to the ledger",
        )


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_library(
        tmp_path / "music", {f"Artist {n % 9}/Album/{n:03}.mp3": {"title": f"Song {n}"} for n in range(TRACKS)}
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def production(home: Path, port: int = 0, **settings: str) -> Iterator[Production]:
    """All of mus under supervisord on a free port; nothing of it is left at the end."""
    mark, port, data = secrets.token_hex(8), port or free_port(), home / "data"
    given = {"data_dir": str(data), "port": str(port), "api_token": "secret", **QUICK, **settings}
    process = subprocess.Popen(
        [sys.executable, "-P", str(PRODUCTION / "entrypoint.py")],
        env={
            **environment(home, **given),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            MARK: mark,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=home,
        start_new_session=True,
    )
    running = Production(process, mark, port, data)
    try:
        yield running
    except BaseException:
        sys.stderr.write(running.output)
        raise
    finally:
        running.close()


def stopped(running: Production) -> None:
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert running.processes() == {}


def health_check(port: int) -> int:
    return subprocess.run(
        [sys.executable, "-P", PRODUCTION / "healthcheck.py"],
        env={"MUS_HOST": "0.0.0.0", "MUS_PORT": str(port)},
        capture_output=True,
        check=False,
    ).returncode


def test_every_program_that_is_killed_comes_back_and_nothing_is_lost(tmp_path: Path, music: Path) -> None:
    with production(tmp_path, music_dir=str(music)) as running:
        running.healthy()
        assert health_check(running.port) == 0
        running.scan_succeeds(running.scan(), found=TRACKS)

        # What runs jobs and what carries them, amid a scan each.
        for command in ("worker", "broker"):
            scan = running.scan_that_stands_still()
            running.kill(command)
            running.readers_go_on()
            running.scan_succeeds(scan, found=TRACKS)

        running.kill("serve")
        running.healthy()
        running.kill("watch")
        running.kill("supervisor-events")
        running.healthy()
        write_library(music, {"New/01.mp3": {"title": "New"}})
        until(lambda: running.call("/tracks?q=New")["items"], what="the new file")
        running.scan_succeeds(running.scan(), found=TRACKS + 1)

        # Nothing is left over, and each file has one track.
        until(
            lambda: not running.rows("SELECT 1 FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')"),
            what="the end of every job",
        )
        assert running.rows("SELECT 1 FROM jobs WHERE state != 'succeeded'") == []
        assert running.rows("SELECT status, count(*) FROM tracks GROUP BY 1") == [("COMPLETE", TRACKS + 1)]
        stopped(running)
        assert "Traceback" not in running.output
    assert health_check(running.port) == 1


def test_a_worker_that_is_killed_is_reported_to_the_ledger_at_once(tmp_path: Path, music: Path) -> None:
    # The ledger's own time-out is out of reach: what moves on does so because it was told.
    with production(tmp_path, music_dir=str(music), dead_after_seconds="600") as running:
        running.healthy()
        running.scan_succeeds(running.scan(), found=TRACKS)
        running.scan_that_stands_still()
        # Right after its start, which supervisord tells otherwise than the end of one that has settled.
        running.was_reported(running.kill("worker"))
        until(
            lambda: (
                not running.rows(
                    "SELECT 1 FROM jobs JOIN workers ON workers.id = worker_id"
                    " WHERE jobs.state = 'running' AND workers.state = 'dead'"
                )
            ),
            what="the next attempt of each job that ran",
        )
        running.said("success: streaq-worker entered RUNNING state")
        running.was_reported(running.kill("worker"))

        # One whose death is heard of while everything stops: nothing is asked then, and nothing is wrong.
        listener = running.program("supervisor-events")
        os.kill(listener, signal.SIGSTOP)
        running.kill("worker")
        running.process.terminate()
        running.said(" to die")
        os.kill(listener, signal.SIGCONT)
        assert running.process.wait(60) == 0
        assert running.processes() == {}
        assert "Traceback" not in running.output


def test_it_stops_while_a_job_runs_and_the_job_goes_on_at_the_next_start(tmp_path: Path, music: Path) -> None:
    # No time to finish: what runs is handed back.
    with production(tmp_path, music_dir=str(music), drain_seconds="0") as running:
        running.healthy()
        running.scan_succeeds(running.scan(), found=TRACKS)
        scan = running.scan_that_stands_still()
        stopped(running)
        assert running.rows(f"SELECT 1 FROM jobs WHERE id = '{scan}' AND state = 'waiting'")
        assert running.rows("SELECT 1 FROM jobs WHERE state = 'running'") == []
        assert running.rows("SELECT 1 FROM workers WHERE state != 'stopped'") == []
    with production(tmp_path, music_dir=str(music)) as running:
        running.healthy()
        running.scan_succeeds(scan, found=TRACKS)
        assert running.rows("SELECT 1 FROM jobs WHERE attempt > 1") == []
        stopped(running)


def test_a_program_that_does_not_start_ends_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with production(tmp_path, port, music_dir=str(tmp_path / "music")) as running:
            assert running.process.wait(90) == 0
            assert running.processes() == {}
            assert f"Port {port} is in use already" in running.output
            assert "api does not start, its last lines say why: everything is stopped" in running.output
            assert "is empty: is it mounted?" in running.output


def test_when_supervisord_is_killed_everything_ends(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    with production(tmp_path, music_dir=str(tmp_path / "music")) as running:
        running.healthy()
        running.process.kill()
        running.gone()


def test_another_broker_is_used_where_one_is_named(tmp_path: Path, broker_url: str, queue_name: str) -> None:
    music = write_library(tmp_path / "music", {"01.mp3": {"title": "Song"}})
    named = {"dragonfly_url": broker_url, "queue_name": queue_name}
    with production(tmp_path, music_dir=str(music), **named) as running:
        running.healthy()
        running.scan_succeeds(running.scan(), found=1)
        assert not any("broker" in line or "valkey" in line for line in running.processes().values())
        stopped(running)
