"""`mus scan`, `mus jobs` and `mus doctor` on a small library, with nothing else running."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mus_commands import QUICK, command, environment, mus, on_both_databases, until

from audio_files import write_library
from forked_process import ForkedProcess
from mus.ledger.deliveries import new_id
from mus.persistence.database import Database
from mus.persistence.models import Job, WorkerRow

FILES = {
    "Nina Simone/Pastel Blues/01.mp3": {"title": "Be My Husband"},
    "Nina Simone/Pastel Blues/02.flac": {"title": "Nobody Knows You"},
    "Can/Tago Mago/01.mp3": {"title": "Paperhouse"},
}


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_library(tmp_path / "music", FILES)


def scanned(home: Path, *arguments: str | Path, **settings: str) -> dict[str, Any]:
    done = mus(home, "scan", "--json", *arguments, **settings)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def with_database(home: Path, action: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(f"sqlite+aiosqlite:///{home / 'mus' / 'mus.db'}")
        try:
            await action(database)
        finally:
            await database.close()

    asyncio.run(run())


def counts(answer: dict[str, Any]) -> dict[str, int]:
    return {
        name: answer[name]
        for name in ("found", "added", "updated", "moved", "missing", "unchanged", "skipped", "failed")
        if answer[name]
    }


@pytest.mark.parametrize("name", ["a#b", "c?d", "e%41", "jo sé", "x" * 120])
def test_a_data_folder_may_be_called_anything(tmp_path: Path, music: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert counts(scanned(home, "--music", music, "--data", tmp_path / name)) == {"found": 3, "added": 3}
    assert (tmp_path / name / "mus.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["home", "music", name])


@on_both_databases
def test_a_scan_by_itself_adds_what_is_there_and_then_finds_nothing_new(
    tmp_path: Path, music: Path, database_settings: dict[str, str]
) -> None:
    first = scanned(tmp_path, "--music", music, **database_settings)
    assert counts(first) == {"found": 3, "added": 3}
    assert first["state"] == "succeeded"
    assert first["seconds"] > 0
    # The data folder knows its music by now.
    assert counts(scanned(tmp_path, **database_settings)) == {"found": 3, "unchanged": 3}


def test_a_scan_of_one_folder_looks_at_no_other(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    shutil.rmtree(music / "Can" / "Tago Mago")
    assert counts(scanned(tmp_path, "--path", "Nina Simone")) == {"found": 2, "unchanged": 2}
    assert counts(scanned(tmp_path, "--path", music / "Can"))["missing"] == 1


def test_a_path_outside_the_library_is_wrong_usage(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    for outside in ("../elsewhere", "/etc"):
        told = mus(tmp_path, "scan", "--path", outside)
        assert told.returncode == 2
        assert "is not inside" in told.stderr


def test_other_music_on_the_same_data_folder_is_refused(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    (tmp_path / "other").mkdir()
    told = mus(tmp_path, "scan", "--music", tmp_path / "other")
    assert told.returncode == 1
    assert "another --data folder" in told.stderr


def test_a_link_to_the_same_music_is_the_same_library(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    (tmp_path / "link").symlink_to(music)
    assert counts(scanned(tmp_path, "--music", tmp_path / "link")) == {"found": 3, "unchanged": 3}


def test_a_failed_scan_has_status_1_and_says_why(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    shutil.rmtree(music)
    music.mkdir()
    done = mus(tmp_path, "scan", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["state"] == "failed"
    assert answer["error"]["category"] == "admin_required"


def test_a_worker_that_is_alive_by_its_row_only_does_not_make_the_scan_hang(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)

    async def leave_a_row(database: Database) -> None:
        async with database.unit_of_work() as work:
            queues = ["high_priority", "medium_priority", "low_priority"]
            work.session.add(WorkerRow(id=new_id(), host="elsewhere", pid=1, queues=queues, state="alive"))

    with_database(tmp_path, leave_a_row)
    assert counts(scanned(tmp_path)) == {"found": 3, "unchanged": 3}


def test_ctrl_c_cancels_the_scan_that_was_asked_for(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    worker_id, other_id = new_id(), new_id()

    async def let_another_scan_run(database: Database) -> None:
        async with database.unit_of_work() as work:
            work.session.add(
                WorkerRow(id=worker_id, host="elsewhere", pid=1, queues=["high_priority"], state="alive")
            )
            work.session.add(
                Job(
                    id=other_id,
                    task="scan_library",
                    queue="high_priority",
                    arguments={"library_id": 1, "path": ""},
                    state="running",
                    worker_id=worker_id,
                    exclusive_key="library:1",
                )
            )

    with_database(tmp_path, let_another_scan_run)
    scan = ForkedProcess[str](
        command("scan", "--json"),
        env=environment(tmp_path, **{**QUICK, "dead_after_seconds": "60"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def is_waiting() -> bool:
        shown = json.loads(mus(tmp_path, "jobs", "list", "--state", "queued", "--json").stdout)
        return any(job["task"] == "scan_library" and job["stage"] for job in shown["items"])

    until(is_waiting, what="the scan that waits for the other")
    scan.send_signal(signal.SIGINT)
    answer, complaint = scan.communicate(timeout=30)
    assert scan.returncode == 130, complaint
    assert json.loads(answer)["state"] == "cancelled"


def test_a_scan_that_nobody_waits_for_stands_in_the_ledger(tmp_path: Path, music: Path) -> None:
    asked = scanned(tmp_path, "--music", music, "--no-wait")
    assert asked["state"] == "queued"
    # The same request again, while it waits, is the same job; and whoever waits gets it done.
    assert scanned(tmp_path)["job_id"] == asked["job_id"]


def test_jobs_are_listed_shown_and_retried(tmp_path: Path, music: Path) -> None:
    done = scanned(tmp_path, "--music", music)
    listed = json.loads(mus(tmp_path, "jobs", "--json").stdout)["items"]
    assert {"scan_library", "read_files", "finish_scan"} <= {job["task"] for job in listed}
    shown = json.loads(mus(tmp_path, "jobs", "show", done["job_id"], "--json").stdout)
    assert shown["job"]["result"]["added"] == 3
    assert shown["events"][0]["event"] == "enqueued"
    assert done["job_id"] in mus(tmp_path, "jobs", "list", "--queue", "high_priority").stdout
    assert "succeeded" in mus(tmp_path, "jobs", "show", done["job_id"]).stdout
    asked = scanned(tmp_path, "--no-wait")
    assert "cancelled" in mus(tmp_path, "jobs", "cancel", asked["job_id"]).stdout
    again = json.loads(mus(tmp_path, "jobs", "retry", asked["job_id"], "--json").stdout)
    assert again["retry_of"] == asked["job_id"]
    assert mus(tmp_path, "jobs", "cancel", done["job_id"]).returncode == 1
    assert mus(tmp_path, "jobs", "show", "none").stderr == "mus: There is no job none\n"


def test_the_doctor_finds_all_well(tmp_path: Path, music: Path) -> None:
    before = mus(tmp_path, "doctor", "--music", music, "--json")
    assert before.returncode == 0, before.stdout
    assert not (tmp_path / "mus").exists(), "looking made a data folder"
    scanned(tmp_path, "--music", music)
    found = json.loads(mus(tmp_path, "doctor", "--json").stdout)
    by_name = {check["name"]: check for check in found["checks"]}
    assert {"python", "data folder", "database", "broker", "covers", "audio", "workers", "jobs"} <= set(by_name)
    assert "Valkey" in by_name["broker"]["message"]
    assert str(music) in by_name["music"]["message"]


def test_the_doctor_says_what_fails_and_what_to_do(tmp_path: Path, music: Path) -> None:
    scanned(tmp_path, "--music", music)
    shutil.rmtree(music)
    told = mus(tmp_path, "doctor", dragonfly_url="redis://127.0.0.1:1")
    assert told.returncode == 1
    assert "fail  music: " in told.stdout
    assert "fail  broker: does not answer" in told.stdout
    assert "\x1b" not in told.stdout
