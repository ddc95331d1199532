"""Upgrades of the schema: once, whole, never backwards, and with a copy of what was there."""

from __future__ import annotations

import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from mus.errors import AdminRequiredError
from mus.persistence import database as database_module
from mus.persistence.database import SCHEMA_REVISION, STATEMENT_END, Database
from mus.persistence.sqlite_copies import contents_of

_MIGRATIONS = Path(database_module.__file__).parent / "migrations"
_NEW_SQLITE = Path(database_module.__file__).parent / "new_sqlite.sql"


def old_database(folder: Path, revision: str = "0001") -> Path:
    """As a mus of that schema left it, with a job that waits."""
    folder.mkdir()
    file = folder / "mus.db"
    migrated(file, revision)
    with closing(sqlite3.connect(file)) as raw, raw:
        raw.execute(
            "INSERT INTO jobs (id, task, queue, arguments, state, attempt, delivery, progress, units_done, "
            "units_total, children_open, created_at) VALUES ('a', 't', 'low_priority', '{}', 'queued', 1, 1, 0, 0, "
            "0, 0, 0)"
        )
    return file


def migrated(file: Path, revision: str) -> None:
    """Make it by the migrations, up to this one."""
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


async def migrate(file: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{file}")
    try:
        await database.migrate()
    finally:
        await database.close()


def schema(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


async def test_an_upgrade_keeps_the_rows_and_a_copy_of_the_database_before_it(tmp_path: Path) -> None:
    file = old_database(tmp_path / "data")
    await migrate(file)
    assert schema(file) == SCHEMA_REVISION
    (copy,) = (tmp_path / "data" / "backups").iterdir()
    assert copy.name.startswith("before-upgrade-from-0001-")
    assert contents_of(copy).schema == "0001"
    assert contents_of(copy).jobs == 1
    # Up to date, and new ones: nothing to be kept.
    await migrate(file)
    await migrate(tmp_path / "new.db")
    assert len(list((tmp_path / "data" / "backups").iterdir())) == 1
    assert not (tmp_path / "backups").exists()


async def test_where_the_disk_has_no_room_for_a_copy_the_upgrade_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = old_database(tmp_path / "data")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with caplog.at_level(logging.WARNING):
        await migrate(file)
    assert schema(file) == SCHEMA_REVISION
    assert "without a copy beside it: There is not enough space" in caplog.text


async def test_a_damaged_database_is_not_upgraded(tmp_path: Path) -> None:
    file = old_database(tmp_path / "data")
    with file.open("r+b") as raw:
        raw.seek(5 * 4096)
        raw.write(b"\xff" * 4096 * 10)
    with pytest.raises(AdminRequiredError, match="damaged"):
        await migrate(file)
    assert schema(file) == "0001"


@pytest.mark.parametrize("statement", [1, 2, 3])
async def test_a_process_killed_in_a_migration_leaves_the_schema_before_it_and_the_next_start_completes(
    tmp_path: Path, statement: int
) -> None:
    file = old_database(tmp_path / "data")
    # The migrations there are, and one more that dies after so many statements.
    folder = tmp_path / "migrations"
    shutil.copytree(_MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_dies.py").write_text(
        f"revision, down_revision, branch_labels, depends_on = '9999', {SCHEMA_REVISION!r}, None, None\n"
        "import os, signal\n"
        "from alembic import op\n"
        "def upgrade():\n"
        "    statements = ['CREATE TABLE one (x)', 'ALTER TABLE jobs ADD COLUMN two', 'UPDATE jobs SET two = 2']\n"
        f"    for statement in statements[:{statement}]:\n"
        "        op.execute(statement)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "import mus.persistence.database as module\n"
        "module._MIGRATIONS, module.SCHEMA_REVISION = Path(sys.argv[1]), '9999'\n"
        "asyncio.run(module.Database('sqlite+aiosqlite:///' + sys.argv[2]).migrate())\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(folder), str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert schema(file) == SCHEMA_REVISION
    assert "one" not in tables(file)
    with closing(sqlite3.connect(file)) as connection:
        assert "two" not in {column[1] for column in connection.execute("PRAGMA table_info(jobs)")}
    mended = folder / "versions" / "9999_dies.py"
    mended.write_text(mended.read_text().replace("os.kill(os.getpid(), signal.SIGKILL)", "pass"))
    subprocess.run([sys.executable, "-c", program, str(folder), str(file)], check=True)
    assert schema(file) == "9999"
    assert "one" in tables(file)


@pytest.mark.parametrize("statements", [1, 20, len(_NEW_SQLITE.read_text(encoding="utf-8").split(STATEMENT_END))])
async def test_a_process_killed_while_it_makes_a_new_database_leaves_an_empty_one_for_the_next(
    tmp_path: Path, statements: int
) -> None:
    program = (
        "import asyncio, os, signal, sys\n"
        "import mus.persistence.database as module\n"
        "execute, done = module.Connection.exec_driver_sql, []\n"
        "def dies(self, statement, *more):\n"
        "    result = execute(self, statement, *more)\n"
        "    done.append(statement)\n"
        f"    if len(done) > {statements}:  # the first asks whether it is empty\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return result\n"
        "module.Connection.exec_driver_sql = dies\n"
        "asyncio.run(module.Database('sqlite+aiosqlite:///' + sys.argv[1]).migrate())\n"
    )
    file = tmp_path / "mus.db"
    killed = subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert tables(file) == set()
    await migrate(file)
    assert schema(file) == SCHEMA_REVISION


async def test_a_database_of_a_newer_mus_is_not_touched(tmp_path: Path) -> None:
    file = old_database(tmp_path / "data", "head")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(
        AdminRequiredError, match=r"newer version of mus: its schema is 9999, and mus \d.* knows those"
    ):
        await migrate(file)
    assert not (tmp_path / "data" / "backups").exists()


async def test_a_new_sqlite_database_is_what_the_migrations_come_to(tmp_path: Path) -> None:
    """What differs is written beside: `new_sqlite.sql` is made by no hand."""
    migrated(tmp_path / "migrated.db", "head")
    wanted = statements(tmp_path / "migrated.db")
    if _NEW_SQLITE.read_text(encoding="utf-8").split(STATEMENT_END) != wanted:
        made = Path(tempfile.gettempdir()) / "new_sqlite.sql"
        made.write_text(STATEMENT_END.join(wanted), encoding="utf-8")
        pytest.fail(f"the migrations come to something else now: put {made} in the place of {_NEW_SQLITE}")
    await migrate(tmp_path / "new.db")
    assert statements(tmp_path / "new.db") == wanted
    assert contents_of(tmp_path / "new.db").schema == SCHEMA_REVISION


def statements(file: Path) -> list[str]:
    """What makes an empty database like this one. Fails where it has rows."""
    with closing(sqlite3.connect(file)) as connection:
        named = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        # SQLite makes these by itself, of the others.
        own = {name for _, name, _ in named if name.startswith(("sqlite_", "tracks_fts_"))} - {
            name for kind, name, _ in named if kind == "trigger"
        }
        for kind, name, _ in named:
            if kind == "table" and name not in own | {"alembic_version"}:
                assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,), name
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    # Triggers last: they name the table of words, which is made after them.
    made = sorted(
        (kind == "trigger", order, sql) for order, (kind, name, sql) in enumerate(named) if name not in own
    )
    return [*(sql for *_, sql in made), f"INSERT INTO alembic_version VALUES ('{revision}')"]


def test_no_migration_goes_backwards() -> None:
    revisions = list(ScriptDirectory(str(_MIGRATIONS)).walk_revisions())
    assert revisions
    for revision in revisions:
        with pytest.raises(NotImplementedError, match="restore a backup instead"):
            revision.module.downgrade()
