"""`mus backup` and `mus restore`, beside a `mus up` that scans and works."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mus_commands import QUICK, command, environment, mus, mus_up, until

from audio_files import write_library

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FILES = 300


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Some hundred files, made by copying a few."""
    root = write_library(
        tmp_path / "music", {f"Artist/Album/{n}.mp3": {"title": f"Song {n}", "artist": "A"} for n in range(3)}
    )
    for number in range(3, FILES):
        folder = root / f"Artist {number % 20}" / "Album"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "Artist" / "Album" / f"{number % 3}.mp3", folder / f"{number}.mp3")
    return root


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/v1{path}", timeout=10) as answer:
        return json.load(answer)


def tracks(address: str) -> dict[str, tuple[int, str]]:
    """Of each path, the id and the date."""
    return {
        item["path"]: (item["id"], item["added_at"])
        for item in get(address, f"/tracks?limit={FILES + 50}")["items"]
    }


def sql(data: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / "mus.db")) as connection, connection:
        return connection.execute(query).fetchall()


def changes(data: Path) -> int:
    [(count,)] = sql(data, "SELECT track_changes FROM libraries")
    return int(count)


def test_a_backup_of_a_busy_mus_is_restored_elsewhere_and_nothing_is_read_again(
    tmp_path: Path, music: Path
) -> None:
    file, data = tmp_path / "backup.db", tmp_path / "mus"
    with mus_up(tmp_path, "--music", music) as up:
        address = up.address()
        up.said("Scanned Music")
        # Jobs of all kinds are under way.
        mus(tmp_path, "scan", "--full", "--no-wait")
        made = json.loads(mus(tmp_path, "backup", "--json", file).stdout)
        assert made["tracks"] == FILES
        before = tracks(address)
        assert len(before) == FILES
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
    # Another machine: other folders, other inodes; times are kept, as rsync and every backup program do.
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(music, elsewhere / "songs")
    shutil.rmtree(music)
    shutil.rmtree(data)
    done = json.loads(mus(tmp_path, "restore", "--json", file, "--music", elsewhere / "songs").stdout)
    assert (done["tracks"], done["files_adopted"], done["kept"]) == (FILES, FILES, None)
    assert (done["music"], done["music_is_there"]) == (str(elsewhere / "songs"), True)
    with mus_up(tmp_path, "--music", elsewhere / "songs") as up:
        address = up.address()
        assert tracks(address) == before
        scan = json.loads(mus(tmp_path, "scan", "--json").stdout)
        assert (scan["found"], scan["unchanged"]) == (FILES, FILES)
        assert tracks(address) == before

        def all_ended() -> bool:
            return not [job for state in ("queued", "running", "waiting", "retrying")
                        for job in get(address, f"/jobs?state={state}")["items"]]  # fmt: skip

        until(all_ended, what="the end of all jobs")
        assert get(address, "/jobs?state=failed")["items"] == []
        # What the backup's own scan has left to do was done to the end.
        assert {scan["state"] for scan in get(address, "/scans")["items"]} == {"succeeded"}


def test_a_restore_into_a_running_mus_is_seen_by_all_its_processes(tmp_path: Path, music: Path) -> None:
    file = tmp_path / "backup.db"
    with mus_up(tmp_path, "--music", music) as up:
        address = up.address()
        up.said("Scanned Music")
        before = tracks(address)
        assert mus(tmp_path, "backup", file).returncode == 0
        gone = next(iter(before))
        (music / gone).unlink()
        write_library(music, {"New/Album/01.mp3": {"title": "New"}})
        until(lambda: "New/Album/01.mp3" in tracks(address), what="the new file")
        new = tracks(address)["New/Album/01.mp3"]
        parts = {part: up.part(part) for part in ("worker", "serve-and-watch")}
        mus(tmp_path, "scan", "--full", "--no-wait")
        ever = changes(tmp_path / "mus")
        told = mus(tmp_path, "restore", file)
        assert told.returncode == 0, told.stderr
        assert f"Restored {FILES} tracks" in told.stdout
        (kept,) = (tmp_path / "mus" / "backups").iterdir()
        assert f"what was there is kept: {kept}" in told.stdout
        # A quick scan comes by itself and finds what has happened since: the new file again, under a new date.
        until(lambda: tracks(address).get("New/Album/01.mp3", new) != new, what="the new file, found again")
        after = tracks(address)
        assert {path: after[path] for path in before} == before
        until(
            lambda: [item["path"] for item in get(address, "/tracks?status=MISSING")["items"]] == [gone],
            what="the file that is gone",
        )
        until(lambda: get(address, "/health")["status"] == "ok", what="good health")
        assert {part: up.part(part) for part in parts} == parts
        # By that number processes know what they made of the tracks: it never comes again.
        restored = changes(tmp_path / "mus")
        assert restored > ever
        # And undone: what was kept is a backup like any other.
        assert mus(tmp_path, "restore", kept).returncode == 0
        assert tracks(address)["New/Album/01.mp3"] == new
        assert changes(tmp_path / "mus") > restored
        assert sql(tmp_path / "mus", "PRAGMA integrity_check") == [("ok",)]
        assert "Traceback" not in up.output


@pytest.mark.parametrize("stage", ["reading", "checking", "comparing with the disk", "copying"])
def test_a_restore_that_is_killed_leaves_the_database_as_it_was(tmp_path: Path, music: Path, stage: str) -> None:
    data, file = tmp_path / "mus", tmp_path / "backup.db"
    assert mus(tmp_path, "scan", "--music", music).returncode == 0
    assert mus(tmp_path, "backup", file).returncode == 0
    sql(data, "UPDATE tracks SET title = 'since'")
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from mus.config import load_settings\n"
        "from mus.cli.restoration import restored\n"
        "def tell(stage, done, total):\n"
        f"    if stage == {stage!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(restored(load_settings(), Path(sys.argv[1]), tell))\n"
    )
    killed = subprocess.run(
        [command()[0], "-c", program, str(file)], env=environment(tmp_path), cwd=tmp_path, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert sql(data, "SELECT DISTINCT title FROM tracks") == [("since",)]
    assert sql(data, "PRAGMA integrity_check") == [("ok",)]
    # The next one is not in its way.
    assert mus(tmp_path, "restore", file).returncode == 0
    assert ("since",) not in sql(data, "SELECT DISTINCT title FROM tracks")
    assert not [path for path in data.iterdir() if "restoring" in path.name]


def test_a_file_that_is_no_whole_backup_of_this_or_an_older_mus_is_refused(tmp_path: Path, music: Path) -> None:
    data, file = tmp_path / "mus", tmp_path / "backup.db"
    assert mus(tmp_path, "scan", "--music", music).returncode == 0
    assert mus(tmp_path, "backup", file).returncode == 0
    before = sql(data, "SELECT id, state FROM jobs ORDER BY id")
    whole = file.read_bytes()
    bad = tmp_path / "bad.db"

    def refused(reason: str) -> None:
        told = mus(tmp_path, "restore", bad)
        assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1), told
        assert reason in told.stderr
        assert sql(data, "SELECT id, state FROM jobs ORDER BY id") == before
        assert not (data / "backups").exists()

    refused("is not there")
    bad.write_bytes(b"no music here" * 1000)
    refused("is no backup of mus: it is no SQLite database")
    bad.write_bytes(whole[: len(whole) // 2])
    refused("is damaged, and nothing was changed")
    bad.write_bytes(whole[:40_960] + b"\xff" * 40_960 + whole[81_920:])
    refused("is damaged, and nothing was changed")
    bad.write_bytes(whole)
    with closing(sqlite3.connect(bad)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused("was written by a newer mus (0.1.0, schema 9999;")
    bad.unlink()
    with closing(sqlite3.connect(bad)) as connection, connection:
        connection.execute("CREATE TABLE songs (x)")
    refused("has none of the tables of mus")


def test_a_damaged_database_is_replaced_once_nobody_works_on_it(tmp_path: Path, music: Path) -> None:
    data, file = tmp_path / "mus", tmp_path / "backup.db"
    with mus_up(tmp_path, "--music", music) as up:
        up.address()
        up.said("Scanned Music")
        assert mus(tmp_path, "backup", file).returncode == 0
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
        up.gone()
    (data / "mus.db").write_bytes(b"lightning has struck" * 5000)
    (data / "mus.db-wal").unlink(missing_ok=True)
    with closing(open(data / "up.lock", "r+b")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = mus(tmp_path, "restore", file)
        assert told.returncode == 1
        assert "stop mus, and restore again" in told.stderr
    told = mus(tmp_path, "restore", file)
    assert told.returncode == 0, told.stderr
    assert sql(data, "SELECT count(*) FROM tracks") == [(FILES,)]
    (kept,) = (data / "backups").iterdir()
    assert kept.read_bytes().startswith(b"lightning")


def test_a_backup_of_an_older_mus_is_restored_with_the_schema_of_this_one(tmp_path: Path) -> None:
    from persistence.test_migrations import old_database

    old = old_database(tmp_path / "old")
    told = mus(tmp_path, "restore", old)
    assert told.returncode == 0, told.stderr
    assert sql(tmp_path / "mus", "SELECT id, state FROM jobs") == [("a", "queued")]
    assert "already" not in mus(tmp_path, "jobs").stderr
    # The backup itself is as it was.
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "message"),
    [
        (["backup", "b.db"], {}, 1, "holds no library yet"),
        (["restore", "b.db"], {}, 1, "is not there: name a file that `mus backup` wrote"),
        (["backup"], {}, 2, "Missing argument 'FILE'"),
        (["backup", "b.db"], {"database_url": "postgresql+asyncpg://x/y"}, 2, "use its own pg_dump"),
        (["restore", "b.db"], {"database_url": "postgresql+asyncpg://x/y"}, 2, "use its own pg_restore"),
        (["backup", "b.db"], {"database_url": "sqlite+aiosqlite://"}, 2, "in memory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], status: int, message: str
) -> None:
    told = mus(tmp_path, *arguments, **settings)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (status, "", 1)
    assert message in told.stderr
    assert not (tmp_path / "mus").exists()


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of a newer mus, and a backup of this one."""
    home = tmp_path_factory.mktemp("newer")
    music = write_library(home / "music", {"one.wav": None})
    assert mus(home, "scan", "--music", music).returncode == 0
    assert mus(home, "backup", "old.db").returncode == 0
    sql(home / "mus", "UPDATE alembic_version SET version_num = '9999'")
    sql(home / "mus", "PRAGMA wal_checkpoint(TRUNCATE)")
    return home


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--port", "0"],
        ["serve", "--port", "0"],
        ["worker"],
        ["watch"],
        ["scan"],
        ["jobs"],
        ["queues"],
        ["schedules"],
        ["migrate"],
        ["backup", "b.db"],
        ["restore", "old.db"],
    ],
)
def test_no_command_touches_the_database_of_a_newer_mus(tmp_path: Path, newer: Path, arguments: list[str]) -> None:
    shutil.copytree(newer, tmp_path, dirs_exist_ok=True)
    data = tmp_path / "mus"
    before = (data / "mus.db").read_bytes()
    told = mus(tmp_path, *arguments, **QUICK)
    assert told.returncode == 1, told
    lines = told.stderr.splitlines()
    assert lines[-1].startswith("mus: The database was written by a newer version of mus: its schema is 9999")
    assert len(lines) == 1
    assert (data / "mus.db").read_bytes() == before
    assert not (tmp_path / "b.db").exists()
    doctor = mus(tmp_path, "doctor")
    assert doctor.returncode == 1
    assert "fail  database: it was written by a newer mus: its schema is 9999" in doctor.stdout
