"""`mus schedules`, as people type it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mus_commands import QUICK, mus, mus_up, on_both_databases, until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a library is already, and nothing runs."""
    assert mus(tmp_path, "migrate").returncode == 0
    return tmp_path


def answered(home: Path, *arguments: str, **settings: str) -> dict[str, Any]:
    done = mus(home, "schedules", *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@on_both_databases
def test_schedules_are_listed_changed_shown_and_reset(home: Path, database_settings: dict[str, str]) -> None:
    on = database_settings
    listed = answered(home, "list", **on)["items"]
    assert [item["name"] for item in listed] == [
        "quick-scan", "retention", "workers", "trash", "thumbnails", "edits", "database"
    ]  # fmt: skip
    assert mus(home, "schedules", "--json", **on).stdout == mus(home, "schedules", "list", "--json", **on).stdout
    changed = answered(home, "set", "retention", "--argument", "days=60", "--crontab", "5 5 * * *", "--off", **on)
    assert (changed["arguments"], changed["crontab"], changed["enabled"]) == ({"days": 60}, "5 5 * * *", False)
    assert (changed["edited"], changed["next_due"]) == (True, None)
    assert answered(home, "show", "retention", **on) == changed
    table = mus(home, "schedules", **on).stdout
    assert [line.split() for line in table.splitlines() if line.startswith("retention")] == [
        ["retention", *["5", "5", "*", "*", "*"], "*", "days=60", "off"]
    ]
    assert "`mus schedules reset NAME`" in table
    shown = mus(home, "schedules", "show", "retention", **on).stdout
    assert "5 5 * * * (else 17 3 * * *)" in shown
    assert "Forgets jobs that ended so many days ago" in shown
    reset = answered(home, "reset", "retention", **on)
    assert reset == listed[1]
    assert "`mus schedules reset NAME`" not in mus(home, "schedules", **on).stdout


def test_the_setting_of_the_quick_scan_is_its_default(home: Path) -> None:
    found = answered(home, "show", "quick-scan", scan_schedule="*/7 * * * *")
    assert (found["crontab"], found["default_crontab"]) == ("*/7 * * * *", "*/7 * * * *")


def test_run_leaves_a_job_that_waits_for_a_worker(home: Path) -> None:
    first = answered(home, "run", "thumbnails")
    assert (first["state"], first["schedule"]) == ("queued", "thumbnails")
    assert answered(home, "run", "thumbnails")["id"] == first["id"]
    assert answered(home, "show", "thumbnails")["last_job"] == {"id": first["id"], "state": "queued"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["show", "nothing"], "quick-scan, retention"),
        (["run", "nothing"], "nothing"),
        (["reset", "nothing"], "nothing"),
        (["set", "nothing", "--on"], "nothing"),
        (["set", "retention"], "--crontab"),
        (["set", "retention", "--crontab", "now and then"], "crontab"),
        (["set", "retention", "--crontab", "0 0 31 2 *"], "never comes"),
        (["set", "retention", "--argument", "days"], "NAME=VALUE"),
        (["set", "retention", "--argument", "days=0"], "arguments.days"),
        (["set", "retention", "--argument", "days=many"], "arguments.days"),
        (["set", "retention", "--argument", "weeks=1"], "arguments.weeks"),
        (["set", "retention", "--on", "--off", "--argument"], "--argument"),
        (["--json", "show", "retention"], "after the subcommand"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(home: Path, arguments: list[str], named: str) -> None:
    told = mus(home, "schedules", *arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("mus: ")
    assert named in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["show", "trash"], ["set", "trash", "--off"], ["run", "trash"]])
def test_without_a_library_nothing_is_made(tmp_path: Path, arguments: list[str]) -> None:
    told = mus(tmp_path, "schedules", *arguments)
    assert told.returncode == 1
    assert told.stderr.startswith("mus: The data folder")
    assert not (tmp_path / "mus").exists()


@pytest.mark.slow
def test_every_schedules_job_succeeds_where_mus_is_up_and_one_runs_by_itself(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    with mus_up(tmp_path, "--music", music) as up:
        up.address()
        names = [item["name"] for item in answered(tmp_path, "list", **QUICK)["items"]]

        def states() -> dict[str, str | None]:
            items = answered(tmp_path, "list", **QUICK)["items"]
            return {item["name"]: item["last_job"] and item["last_job"]["state"] for item in items}

        for name in names:
            answered(tmp_path, "run", name, **QUICK)
        until(lambda: set(states().values()) == {"succeeded"}, what="every job's end")
        before = answered(tmp_path, "show", "workers", **QUICK)["last_job"]["id"]
        # As if everything had been down when it was due.
        with sqlite3.connect(tmp_path / "mus" / "mus.db") as connection:
            connection.execute("UPDATE schedules SET next_due = 0 WHERE name = 'workers'")
        connection.close()

        def fired() -> bool:
            return bool(answered(tmp_path, "show", "workers", **QUICK)["last_job"]["id"] != before)

        until(fired, what="a run by the clock")
