"""The database: migrations, transactions, and what happens when it is busy."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, text

from mus.errors import AdminRequiredError, TemporaryError
from mus.persistence import database as database_module
from mus.persistence.database import SCHEMA_REVISION, Database
from mus.persistence.models import Base, Library
from mus.persistence.unit_of_work import current_unit_of_work
from postgresql_server import PostgresqlServer

sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])


def file_of(database: Database) -> str:
    assert database.url.database is not None
    return database.url.database


@pytest.fixture
async def new_database_url(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> AsyncIterator[str]:
    """An empty database, or none yet."""
    if database_kind == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/new/mus.db"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    url = await server.new_database(migrated=False)
    yield url.render_as_string(hide_password=False)
    await server.drop(url)


async def names(database: Database) -> list[str]:
    async with database.reading() as session:
        return list((await session.execute(select(Library.name).order_by(Library.name))).scalars())


def test_the_revision_that_spares_the_import_of_alembic_is_the_newest_one() -> None:
    folder = Path(database_module.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == SCHEMA_REVISION


async def test_the_migrations_make_the_tables_of_the_models(database: Database) -> None:
    def compare(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)

    async with database.reading() as session:
        differences = await (await session.connection()).run_sync(compare)
        if database.is_sqlite:
            # By ALTER TABLE: what that says of deletion, SQLAlchemy does not read.
            differences = [difference for difference in differences if not difference[0].endswith("_fk")]
            key = (await session.execute(text("PRAGMA foreign_key_list(schedules)"))).one()
            assert (key.table, key[3], key.on_delete) == ("libraries", "library_id", "CASCADE")
    # Each database has a search index of its own, which no model tells of.
    assert all(
        item.name == "ix_tracks_words" or (what == "remove_table" and item.name.startswith("tracks_fts"))
        for what, item in differences
    )


@pytest.mark.slow
def test_processes_that_start_together_migrate_once_and_all_go_on(new_database_url: str) -> None:
    program = (
        "import asyncio; from mus.persistence.database import Database;"
        f"asyncio.run(Database({new_database_url!r}).migrate())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4


async def test_a_database_of_a_newer_mus_is_refused_and_left_alone(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(AdminRequiredError, match="newer version"):
        await database.migrate()


async def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mus.db").write_bytes(b"these are not the tracks you are looking for" * 100)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/mus.db")
    with pytest.raises(AdminRequiredError, match=r"mus\.db.*file is not a database"):
        await database.migrate()
    await database.close()


async def test_a_unit_of_work_commits_at_its_end_and_rolls_back_when_it_raises(database: Database) -> None:
    async with database.unit_of_work() as work:
        work.session.add(Library(name="kept", root=b"/a"))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with database.unit_of_work() as work:
            work.session.add(Library(name="dropped", root=b"/b"))
            await work.session.flush()
            raise ZeroDivisionError
    assert await names(database) == ["kept"]


async def test_what_follows_a_commit_runs_after_it_and_never_after_a_rollback(database: Database) -> None:
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(await names(database))

    async with database.unit_of_work() as work:
        work.session.add(Library(name="one", root=b"/a"))
        work.after_commit(look)
        assert seen == []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with database.unit_of_work() as work:
            work.after_commit(look)
            raise ZeroDivisionError
    assert seen == [["one"]]


async def test_units_of_work_do_not_nest_and_do_not_leak_into_other_tasks(database: Database) -> None:
    async with database.unit_of_work() as work:
        assert current_unit_of_work() is work
        with pytest.raises(RuntimeError, match="open already"):
            async with database.unit_of_work():
                pytest.fail("it must not open")
    with pytest.raises(RuntimeError, match="must run inside"):
        current_unit_of_work()


async def test_writers_of_one_process_queue_up_instead_of_failing(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.unit_of_work() as work:
            work.session.add(Library(name=f"{number:02}", root=b"/%d" % number))

    await asyncio.gather(*(write(number) for number in range(30)))
    assert await names(database) == [f"{number:02}" for number in range(30)]


@sqlite_only
async def test_a_database_locked_by_another_process_is_a_temporary_error_and_readable_meanwhile(
    database: Database,
) -> None:
    impatient = Database(database.url.render_as_string(), busy_timeout_seconds=0.05)
    other = sqlite3.connect(file_of(database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(TemporaryError, match="busy"):
            async with impatient.unit_of_work() as work:
                work.session.add(Library(name="before", root=b"/b"))
        assert await names(impatient) == []
    finally:
        other.execute("ROLLBACK")
        other.close()
    async with impatient.unit_of_work() as work:
        work.session.add(Library(name="after", root=b"/a"))
    assert await names(database) == ["after"]
    await impatient.close()


@sqlite_only
async def test_a_full_disk_is_a_temporary_error_and_the_database_stays_whole(database: Database) -> None:
    async with database.unit_of_work() as work:
        pages = (await work.session.execute(text("PRAGMA page_count"))).scalar_one()
        await work.session.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(TemporaryError, match="full"):  # noqa: PT012 - the block is what is tested
        async with database.unit_of_work() as work:
            work.session.add_all(Library(name=f"{n}", root=b"x" * 4000) for n in range(50))
            await work.session.flush()
    assert await names(database) == []


async def test_instants_come_back_as_they_went_in_whatever_their_zone(database: Database) -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=timezone(timedelta(hours=9)))
    async with database.unit_of_work() as work:
        work.session.add(Library(name="x", root=b"/", created_at=moment))
    async with database.reading() as session:
        stored = (await session.execute(select(Library.created_at))).scalar_one()
    assert stored == moment
    assert stored.tzinfo is UTC


@sqlite_only
async def test_what_was_committed_is_in_the_file_itself_once_it_was_written_back(
    database: Database, tmp_path: Path
) -> None:
    for number in range(3):
        async with database.unit_of_work() as work:
            work.session.add(Library(name=str(number), root=b"/%d" % number))

    def in_the_file_alone() -> list[str]:
        alone = tmp_path / "alone.db"
        alone.write_bytes(Path(file_of(database)).read_bytes())
        with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM libraries ORDER BY name")]

    assert in_the_file_alone() == []
    async with database.unit_of_work() as work:  # nobody waits for one who writes
        work.session.add(Library(name="3", root=b"/3"))
        await work.session.flush()
        await asyncio.gather(database.write_back(), database.write_back())
        assert in_the_file_alone() == ["0", "1", "2"]
    await database.write_back()
    assert in_the_file_alone() == ["0", "1", "2", "3"]


async def test_writing_back_hinders_nobody_and_wants_nothing_of_other_databases(database: Database) -> None:
    async with database.reading() as session:
        await session.execute(select(Library))
        await database.write_back()
    async with database.unit_of_work() as work:
        work.session.add(Library(name="a", root=b"/a"))
    assert await names(database) == ["a"]
