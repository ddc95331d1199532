"""`mus jobs` and `mus queues`, as people type them, on a data folder that a scan has made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audio_files import write_library
from cli.mus_commands import command, environment, mus
from forked_process import ForkedProcess

QUEUES = ["high_priority", "medium_priority", "low_priority"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_library(home / "music", {"a.wav": None, "b.wav": None})
    done = mus(home, "scan", "--music", home / "music", "--json")
    assert done.returncode == 0, done.stderr
    return home


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def waiting_scan(home: Path) -> Iterator[str]:
    """A scan that nobody runs."""
    job_id = answer(mus(home, "scan", "--no-wait", "--json"))["job_id"]
    yield job_id
    mus(home, "jobs", "cancel", job_id)


def test_queues_are_shown_as_a_table_and_as_json(home: Path) -> None:
    table = mus(home, "queues").stdout.splitlines()
    assert table[0].split()[:3] == ["queue", "state", "waits"]
    assert [line.split()[0] for line in table[1:]] == QUEUES
    items = answer(mus(home, "queues", "list", "--json"))["items"]
    assert [item["name"] for item in items] == QUEUES
    assert items[0].keys() >= {"depth", "running", "failed", "paused_at", "oldest_wait_seconds", "workers"}


def test_a_queue_is_paused_and_resumed_and_says_so(home: Path) -> None:
    said = mus(home, "queues", "pause", "low_priority")
    assert said.stdout == said.stdout.splitlines()[0] + "\n"
    assert said.stdout.startswith("low_priority is paused: ")
    assert "paused since" in mus(home, "queues").stdout
    assert "mus queues resume low_priority" in mus(home, "doctor").stdout
    assert answer(mus(home, "queues", "resume", "low_priority", "--json"))["paused_at"] is None
    assert "paused" not in mus(home, "queues").stdout


def test_a_waiting_job_is_moved_watched_cancelled_and_retried(home: Path, waiting_scan: str) -> None:
    assert mus(home, "jobs", "move", waiting_scan, "low_priority").stdout == (
        f"Job {waiting_scan} is queued on low_priority\n"
    )
    assert answer(mus(home, "jobs", "cancel", waiting_scan[:20], "--json"))["state"] == "cancelled"
    watched = mus(home, "jobs", "watch", waiting_scan)
    assert watched.returncode == 1
    assert watched.stdout.rstrip().endswith("cancelled")
    again = answer(mus(home, "jobs", "retry", waiting_scan, "--json"))
    assert again["retry_of"] == waiting_scan
    shown = answer(mus(home, "jobs", "show", again["id"], "--json"))
    assert (shown["job"]["retry_number"], shown["job"]["attempt"]) == (1, 1)
    assert answer(mus(home, "jobs", "show", waiting_scan, "--json"))["job"]["retried_as"] == again["id"]
    mus(home, "jobs", "cancel", again["id"])


def test_a_job_is_watched_live_to_its_end(home: Path, waiting_scan: str) -> None:
    watching = ForkedProcess[str](
        command("jobs", "watch", waiting_scan, "--json"),
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert (first["type"], first["state"], first["job_id"]) == ("progress", "queued", waiting_scan)
    # The same request again: it joins the one that waits, and does the work.
    assert mus(home, "scan").returncode == 0
    rest, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    *_, last = rest.splitlines()
    assert (json.loads(last)["type"], json.loads(last)["result"]["found"]) == ("completed", 2)


def test_ctrl_c_ends_the_watching_and_not_the_job(home: Path, waiting_scan: str) -> None:
    watching = ForkedProcess[str](
        command("jobs", "watch", waiting_scan), env=environment(home), stdout=subprocess.PIPE, text=True, cwd=home
    )
    assert watching.stdout is not None
    assert "queued" in watching.stdout.readline()
    os.kill(watching.pid, signal.SIGINT)
    assert watching.wait(30) == 130
    watching.stdout.close()
    assert answer(mus(home, "jobs", "show", waiting_scan, "--json"))["job"]["state"] == "queued"


def test_failures_are_listed_by_reason_and_cleared(home: Path) -> None:
    os.rename(home / "music", home / "elsewhere")
    try:
        assert mus(home, "scan").returncode == 1
    finally:
        os.rename(home / "elsewhere", home / "music")
    [group] = answer(mus(home, "jobs", "failures", "--json"))["items"]
    assert (group["count"], group["task"], group["category"]) == (1, "scan_library", "admin_required")
    assert "…" in group["reason"]
    assert group["reason"] in mus(home, "jobs", "failures").stdout
    assert mus(home, "queues", "clear", "high_priority").stdout == "high_priority: 1 failed jobs cleared\n"
    assert mus(home, "jobs", "failures").stdout == "No failed jobs\n"
    assert answer(mus(home, "jobs", "list", "--state", "failed", "--json"))["items"] == []
    assert len(answer(mus(home, "jobs", "list", "--state", "failed", "--cleared", "--json"))["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (
            ("queues", "pause", "urgent"),
            2,
            "There is no queue 'urgent': there are high_priority, medium_priority, low_priority",
        ),
        (("queues", "pause"), 2, "Missing argument 'QUEUE'"),
        (("queues", "clear", "urgent"), 2, "There is no queue 'urgent'"),
        (("queues", "resume", "low_priority", "now"), 2, "Got unexpected extra argument"),
        (("jobs", "show", "nobody"), 1, "There is no job nobody"),
        (("jobs", "show", ""), 1, "There is no job ''"),
        (("jobs", "show", "0\udcff"), 1, "There is no job '0\\udcff'"),
        (("jobs", "show", "%"), 1, "There is no job %"),
        (("jobs", "show"), 2, "Missing argument 'ID'"),
        (("jobs", "retry", "nobody"), 1, "There is no job nobody"),
        (("jobs", "watch", "0"), 2, "several jobs begin with 0: give more of the id"),
        (("jobs", "watch", "nobody"), 1, "There is no job nobody"),
        (("jobs", "cancel", "0"), 2, "several jobs begin with 0: give more of the id"),
        (("jobs", "move", "nobody", "low_priority"), 1, "There is no job nobody"),
        (("jobs", "move", "nobody", "urgent"), 2, "There is no queue 'urgent'"),
        (("jobs", "list", "--state", "lost"), 2, "--state is one of queued, running"),
        (("jobs", "list", "--queue", "urgent"), 2, "There is no queue 'urgent'"),
        (("jobs", "list", "--task", "\udcff"), 2, "--task is no text"),
        (("jobs", "list", "--limit", "0"), 2, "Invalid value for '--limit'"),
        (("jobs", "failures", "--queue", "urgent"), 2, "There is no queue 'urgent'"),
        (("jobs", "--json", "failures"), 2, "options come after the subcommand"),
        (("queues", "--json", "pause", "low_priority"), 2, "options come after the subcommand"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_status(
    home: Path, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    done = mus(home, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"mus: {complaint}")
    assert done.stderr.count("\n") == 1


def test_a_data_folder_without_a_library_is_left_as_it_is(tmp_path: Path) -> None:
    for arguments in (
        ("queues",),
        ("queues", "pause", "low_priority"),
        ("queues", "clear", "low_priority"),
        ("jobs", "list"),
        ("jobs", "failures"),
        ("jobs", "show", "x"),
        ("jobs", "cancel", "x"),
        ("jobs", "retry", "x"),
        ("jobs", "move", "x", "low_priority"),
        ("jobs", "watch", "x"),
    ):
        done = mus(tmp_path, *arguments)
        assert done.returncode == 1
        assert "holds no library yet" in done.stderr
    assert list(tmp_path.iterdir()) == []
