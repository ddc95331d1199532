"""`mus up`: everything comes up, what dies comes back, nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mus_commands import mus, mus_up, on_both_databases, until

from audio_files import write_library

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_library(tmp_path / "music", {f"Artist/Album/{n:02}.mp3": {"title": f"Song {n}"} for n in range(5)})


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/v1{path}", timeout=10) as answer:
        return json.load(answer)


@on_both_databases
def test_it_comes_up_scans_and_stops_without_a_trace(
    tmp_path: Path, music: Path, database_settings: dict[str, str]
) -> None:
    with mus_up(tmp_path, "--music", music, **database_settings) as up:
        address = up.address()
        assert get(address, "/health")["status"] in {"ok", "degraded"}
        up.said("Scanned Music: 5 files found")
        assert "5 added" in up.output or "5 unchanged" in up.output
        assert len(get(address, "/tracks")["items"]) == 5
        # A scan from the command line joins what runs.
        joined = json.loads(mus(tmp_path, "scan", "--json", **database_settings).stdout)
        assert (joined["found"], joined["unchanged"]) == (5, 5)
        assert "1 alive" in mus(tmp_path, "doctor", **database_settings).stdout
        until(
            lambda: "ok    watcher: on " in mus(tmp_path, "doctor", **database_settings).stdout, what="the watcher"
        )
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
        assert up.processes() == {}
        assert "Traceback" not in up.output
    # The second time there is nothing to wait for, and the folder is known.
    with mus_up(tmp_path, **database_settings) as up:
        assert len(get(up.address(), "/tracks")["items"]) == 5
        assert "Scanned" not in up.output
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(30) == 0
        assert up.processes() == {}


@pytest.mark.parametrize("part", ["worker", "serve-and-watch"])
def test_a_part_that_is_killed_comes_back(tmp_path: Path, music: Path, part: str) -> None:
    with mus_up(tmp_path, "--music", music) as up:
        address = up.address()
        up.said("Scanned Music")
        killed = up.part(part)
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in up.processes(), what="its end")
        assert up.part(part) != killed

        def healthy() -> bool:
            try:
                return bool(get(address, "/health")["status"] == "ok")
            except OSError:
                return False

        until(healthy, what="good health")
        write_library(music, {"New/Album/01.mp3": {"title": "New"}})
        until(lambda: len(get(address, "/tracks")["items"]) == 6, what="the new file")


def test_when_it_is_killed_everything_ends(tmp_path: Path, music: Path) -> None:
    with mus_up(tmp_path, "--music", music) as up:
        up.address()
        for part in ("worker", "serve-and-watch"):
            up.part(part)
        up.process.kill()
        up.process.wait()
        up.gone()


def test_it_can_be_stopped_while_it_comes_up(tmp_path: Path, music: Path) -> None:
    with mus_up(tmp_path, "--music", music) as up:
        until(lambda: (tmp_path / "mus" / "up.lock").exists(), what="the first sign of life")
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
        assert up.processes() == {}


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, music: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = mus(tmp_path, "up", "--music", music, "--port", str(port))
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert f"port {port} " in told.stderr


def test_a_second_one_on_the_same_data_folder_is_refused(tmp_path: Path, music: Path) -> None:
    with mus_up(tmp_path, "--music", music) as up:
        up.address()
        told = mus(tmp_path, "up", "--port", "0")
        assert told.returncode == 1
        assert f"process {up.process.pid}" in told.stderr


def test_a_part_that_cannot_start_ends_it_with_its_last_words(tmp_path: Path, music: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    # Both when it is forked, as at first, and when it is started anew.
    (site / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def refuse(*_):\n"
        "    if 'serve-and-watch' in (getattr(sys, 'argv', None) or sys.orig_argv)[-1:]:\n"
        "        os.write(2, b'there is no serving today\\n')\n"
        "        os._exit(3)\n"
        "refuse()\n"
        "sys.addaudithook(refuse)\n"
    )
    with mus_up(tmp_path, "--music", music, PYTHONPATH=str(site)) as up:
        assert up.process.wait(60) == 1
        assert up.output.splitlines()[-1] == "mus: the api does not start: there is no serving today"
        assert up.processes() == {}


def test_what_forks_the_parts_may_be_killed_at_it(tmp_path: Path, music: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    # The first fork is for the database, the second the API; the worker's does not come.
    (site / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'mus.cli.common_start' in sys.orig_argv:\n"
        "    forks = []\n"
        "    os.register_at_fork(before=lambda: forks.append(1) or\n"
        "                        len(forks) == 3 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    with mus_up(tmp_path, "--music", music, PYTHONPATH=str(site)) as up:
        address = up.address()
        up.said("Scanned Music: 5 files found")
        assert len(get(address, "/tracks")["items"]) == 5
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
        assert up.processes() == {}


def test_parts_have_nothing_open_but_their_own(tmp_path: Path, music: Path) -> None:
    with mus_up(tmp_path, "--music", music) as up:
        up.address()
        api, worker = up.part("serve-and-watch"), up.part("worker")

        def pipes(pid: int) -> dict[int, str]:
            found = {}
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if (target := os.readlink(entry)).startswith("pipe:"):
                        found[int(entry.name)] = target
            return found

        # Output, and the end of a pipe by which it learns of the parent's death: that is common to both.
        of_api, of_worker = pipes(api), pipes(worker)
        assert len(set(of_api.values()) & set(of_worker.values())) == 1
        assert of_api[1] == of_api[2] != of_worker[1]
        assert os.getsid(api) == api
        assert os.getsid(worker) == worker
        up.process.terminate()
        assert up.process.wait(30) == 0
