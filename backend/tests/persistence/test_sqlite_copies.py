"""Copies of a database in use, and their way back: whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from mus.errors import AdminRequiredError
from mus.persistence import sqlite_copies
from mus.persistence.database import Database
from mus.persistence.sqlite_copies import (
    APPLICATION_ID,
    NotACopyError,
    contents_of,
    keep_copy,
    put_in_place,
    write_copy,
)
from mus.persistence.sqlite_upkeep import DamagedDatabaseError


@pytest.fixture
def database_kind() -> str:
    """Copies are SQLite's; PostgreSQL has tools of its own."""
    return "sqlite"


@pytest.fixture
def live(database: Database) -> Path:
    """The file of a database that is open, with rows of some megabytes."""
    assert database.url.database is not None
    fill(Path(database.url.database), 2000)
    return Path(database.url.database)


def fill(file: Path, rows: int) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS pairs (a INTEGER, b INTEGER, filler BLOB)")
        connection.executemany("INSERT INTO pairs VALUES (0, 0, randomblob(4000))", [()] * rows)


def untold(stage: str, done: int, total: int) -> None:
    pass


@contextmanager
def busy_writer(file: Path) -> Iterator[Callable[[], int]]:
    """Another process's commits, one after the other: both columns of every row are always equal."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    c.execute('BEGIN IMMEDIATE')\n"
        "    c.execute('UPDATE pairs SET a = ? WHERE rowid <= 50', (n,))\n"
        "    c.execute('UPDATE pairs SET b = ? WHERE rowid <= 50', (n,))\n"
        "    c.execute('COMMIT')\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    committed = [0]

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            committed[0] = int(line)

    process.stdout.readline()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lambda: committed[0]
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def test_a_copy_is_whole_private_and_says_what_it_is(live: Path, tmp_path: Path) -> None:
    told: list[str] = []
    contents = write_copy(live, tmp_path / "copy.db", tell=lambda stage, _done, _total: told.append(stage))
    copy = tmp_path / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]
    assert told[-1] == "checking"
    assert "copying" in told
    assert contents_of(copy) == contents
    assert contents.made_at is not None
    assert contents.version == "0.1.0"
    header = copy.read_bytes()[:100]
    # As a file by itself it has no log, and can be opened where nothing may be written.
    assert header[18:20] == b"\x01\x01"
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM pairs").fetchone() == (2000,)


def test_a_busy_writer_neither_waits_for_a_copy_nor_keeps_it_from_its_end(live: Path, tmp_path: Path) -> None:
    with busy_writer(live) as committed:
        remaining: list[int] = []
        during: list[int] = []

        def tell(stage: str, done: int, total: int) -> None:
            if stage == "copying":
                remaining.append(total - done)
                # In the middle of the copy, others do commit.
                before = committed()
                while committed() == before:
                    pass
                during.append(committed())

        write_copy(live, tmp_path / "copy.db", tell=tell)
    assert remaining == sorted(remaining, reverse=True)
    assert len(set(during)) == len(during) > 1
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM pairs WHERE a != b").fetchone() == (0,)
        assert copy.execute("SELECT count(DISTINCT a) FROM pairs WHERE rowid <= 50").fetchone() == (1,)
        (number,) = copy.execute("SELECT a FROM pairs WHERE rowid = 1").fetchone()
    assert number <= during[0]


def test_a_file_that_is_there_is_replaced_only_if_asked_and_only_by_a_whole_one(live: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(AdminRequiredError, match="there already"):
        write_copy(live, target, tell=untold)
    damaged = tmp_path / "damaged.db"
    write_copy(live, damaged, tell=untold)
    with damaged.open("r+b") as file:
        file.seek(10 * 4096)
        file.write(b"\xff" * 4096 * 20)
    with pytest.raises(AdminRequiredError, match="damaged"):
        write_copy(damaged, target, tell=untold, overwrite=True)
    assert target.read_text() == "precious"
    write_copy(live, target, tell=untold, overwrite=True)
    assert contents_of(target).schema
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "damaged.db", "data"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("no/such/folder.db", "No such file or directory"), ("folder", "is a folder"), ("link.db", "there already")],
)
def test_a_place_that_cannot_be_written_is_one_clear_error(
    live: Path, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AdminRequiredError, match=message):
        write_copy(live, tmp_path / name, tell=untold)
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_in_the_way_of_the_unfinished_file_is_not_followed(live: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "copy.db.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(AdminRequiredError, match="cannot be written"):
        write_copy(live, tmp_path / "copy.db", tell=untold)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_disk_that_takes_no_more_leaves_nothing_behind(live: Path, tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from mus.errors import AdminRequiredError\n"
        "from mus.persistence.sqlite_copies import write_copy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: write_copy(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except AdminRequiredError as error: print(error)\n"
    )
    target = tmp_path / "copy.db"
    done = subprocess.run(
        [sys.executable, "-c", program, str(live), str(target)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{target} cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AdminRequiredError, match=r"not enough space in .*1,048,576,000\.0 MiB are needed"):
        sqlite_copies.require_space(tmp_path, 1000 << 40)


@pytest.mark.parametrize("stage", ["copying", "checking"])
def test_a_process_killed_in_a_copy_leaves_no_half_file_under_its_name(
    live: Path, tmp_path: Path, stage: str
) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mus.persistence.sqlite_copies import write_copy\n"
        f"def tell(stage, done, total):\n    if stage == {stage!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_copy(Path(sys.argv[1]), Path(sys.argv[2]), tell=tell)\n"
    )
    target = tmp_path / "copy.db"
    process = subprocess.run([sys.executable, "-c", program, str(live), str(target)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    write_copy(live, target, tell=untold)
    assert contents_of(target).tracks == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]


def test_what_is_no_copy_of_mus_is_told_from_one_that_is_damaged(live: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.db"
    noise.write_bytes(os.urandom(20_000))
    with pytest.raises(NotACopyError, match="no SQLite database"):
        contents_of(noise)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE tracks (x)")
    with pytest.raises(NotACopyError, match="none of the tables"):
        contents_of(other)
    copy = tmp_path / "copy.db"
    write_copy(live, copy, tell=untold)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedDatabaseError):
        contents_of(copy)


async def test_who_reads_while_a_copy_is_put_in_place_reads_to_its_end_and_then_sees_it(
    live: Path, tmp_path: Path, database: Database
) -> None:
    count = text("SELECT count(*) FROM pairs")
    copy = tmp_path / "copy.db"
    write_copy(live, copy, tell=untold)
    fill(live, 5)
    async with database.reading() as session:
        assert (await session.execute(count)).scalar_one() == 2005
        put_in_place(copy, live, tell=untold)
        assert (await session.execute(count)).scalar_one() == 2005
    async with database.reading() as session:
        assert (await session.execute(count)).scalar_one() == 2000
    async with database.unit_of_work() as work:
        await work.session.execute(text("DELETE FROM pairs"))
    with closing(sqlite3.connect(live)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_process_killed_while_it_puts_a_copy_in_place_changes_nothing(live: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    write_copy(live, copy, tell=untold)
    fill(live, 5)
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mus.persistence.sqlite_copies import put_in_place\n"
        "def tell(stage, done, total):\n    if done > total / 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "put_in_place(Path(sys.argv[1]), Path(sys.argv[2]), tell=tell)\n"
    )
    process = subprocess.run([sys.executable, "-c", program, str(copy), str(live)], check=False)
    assert process.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(live)) as connection:
        assert connection.execute("SELECT count(*) FROM pairs").fetchone() == (2005,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_of_the_copies_that_mus_makes_by_itself_the_last_are_kept(live: Path) -> None:
    made = [keep_copy(live, "before-restore") for _ in range(5)]
    other = keep_copy(live, "before-upgrade-from-0001")
    assert sorted(live.parent.joinpath("backups").iterdir()) == sorted([*made[-3:], other])
