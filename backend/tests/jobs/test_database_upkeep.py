"""Upkeep of the database: damage is told of, space given back, and nobody kept waiting."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from music_library import result_of
from sqlalchemy import text
from upkeep_jobs import ended, enqueued, low_worker, read_job, run

from api.rows import add_tracks, track
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.ledger import steering
from mus.persistence import sqlite_upkeep
from mus.persistence.models import Base, Library
from mus.persistence.sqlite_upkeep import DamagedDatabaseError, SqliteUpkeep
from waiting import until


@pytest.fixture
def database_kind() -> str:
    """On a PostgreSQL there is less to do; its test says so."""
    return "sqlite"


def file_of(runtime: Runtime) -> Path:
    return runtime.settings.data_dir / "mus.db"


@pytest.fixture
def upkeep(runtime: Runtime) -> Iterator[SqliteUpkeep]:
    upkeep = SqliteUpkeep(file_of(runtime))
    yield upkeep
    upkeep.close()


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_upkeep, "LEAST_FREE_BYTES", 1024 * 1024)


async def ballast(runtime: Runtime, megabytes: int) -> None:
    """So much is written and deleted again."""
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("CREATE TABLE IF NOT EXISTS ballast (data BLOB)"))
        for _ in range(megabytes):
            await work.session.execute(text("INSERT INTO ballast VALUES (randomblob(1000000))"))
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("DELETE FROM ballast"))


async def fragmented_index(runtime: Runtime, count: int = 60) -> Library:
    """Tracks written one at a time leave a segment each."""
    library = Library(name="Music", root=b"/music")
    async with runtime.database.unit_of_work() as work:
        work.session.add(library)
    for number in range(count):
        await add_tracks(runtime, track(library, title=f"Song {number} of many"))
    return library


async def test_a_sound_database_is_checked_analysed_and_its_search_index_merged(runtime: Runtime) -> None:
    library = await fragmented_index(runtime)
    async with low_worker(runtime):
        first = result_of(await run(runtime, "database_upkeep"))
        again = result_of(await run(runtime, "database_upkeep"))
    assert first["check"] == again["check"] == "ok"
    assert again["merges"] == 1, "there is nothing left to merge"
    assert (first["bytes_given_back"], first["not_shrunk"]) == (0, None)
    async with runtime.database.reading() as session:
        analysed = set((await session.scalars(text("SELECT DISTINCT tbl FROM sqlite_stat1"))).all())
        found = (
            await session.execute(text("SELECT count(*) FROM tracks_fts WHERE tracks_fts MATCH 'many'"))
        ).scalar()
    assert {"tracks", "jobs", "job_events"} <= analysed
    assert found == 60
    await add_tracks(runtime, track(library, title="Another one"))  # and everybody can still write


async def test_much_free_space_is_given_back_the_first_time_by_a_vacuum_then_in_steps(
    runtime: Runtime, upkeep: SqliteUpkeep, small_limits: None
) -> None:
    await ballast(runtime, 4)
    await runtime.database.write_back()
    before = os.path.getsize(file_of(runtime))
    assert not upkeep.shrinks_in_steps
    async with low_worker(runtime):
        result = result_of(await run(runtime, "database_upkeep"))
        assert (result["bytes_given_back"] > 3_000_000, result["not_shrunk"]) == (True, None)
        assert os.path.getsize(file_of(runtime)) < before
        # Connections that were open before must keep the new format's books, or they would damage the file.
        await ballast(runtime, 4)
        upkeep.check()
        assert upkeep.shrinks_in_steps
        result = result_of(await run(runtime, "database_upkeep"))
        assert result["bytes_given_back"] > 3_000_000
    assert upkeep.free_bytes == 0
    upkeep.check()


async def test_a_database_with_too_much_in_it_is_not_written_anew_but_its_room_is_told(
    runtime: Runtime, small_limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_upkeep, "MOST_VACUUMED_BYTES", 1000)
    await ballast(runtime, 4)
    async with low_worker(runtime):
        result = result_of(await run(runtime, "database_upkeep"))
    assert result["not_shrunk"].startswith("it would block all writers for long")
    assert (result["bytes_given_back"], result["bytes_free"] > 3_000_000) == (0, True)


async def test_a_vacuum_that_takes_too_long_is_given_up_and_the_database_stays_whole(
    runtime: Runtime, upkeep: SqliteUpkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_upkeep, "LONGEST_VACUUM_SECONDS", 0.03)  # an alarm before it begins is lost
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text("CREATE TABLE ballast (data BLOB)"))
        for _ in range(60):
            await work.session.execute(text("INSERT INTO ballast VALUES (randomblob(1000000))"))
    assert upkeep.vacuum() == "it could not be done now: interrupted"
    upkeep.check()


async def test_a_damaged_database_fails_the_job_and_says_what_to_do(runtime: Runtime) -> None:
    await fragmented_index(runtime, 200)
    async with runtime.database.reading() as session:
        page = (
            await session.execute(text("SELECT rootpage FROM sqlite_master WHERE name = 'ix_tracks_title'"))
        ).scalar()
    assert page is not None
    await runtime.database.close()  # what is in the log goes into the file
    with sqlite3.connect(file_of(runtime)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with open(file_of(runtime), "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with low_worker(runtime):
        job = await run(runtime, "database_upkeep")
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert "is damaged: " in str(job.error_message)
    assert job.error_details is not None
    assert job.error_details["findings"]
    assert any(".recover" in action for action in job.error_details["recovery_actions"])


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_on_postgresql_its_planner_learns_the_tables(runtime: Runtime) -> None:
    await fragmented_index(runtime)
    async with low_worker(runtime):
        assert result_of(await run(runtime, "database_upkeep")) == {"analysed": len(Base.metadata.tables)}
    known = text("SELECT reltuples FROM pg_class WHERE relname = 'tracks'")
    async with runtime.database.reading() as session:
        assert (await session.execute(known)).scalar_one() == 60


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / "mus.db").write_bytes(b"these are not the tracks you are looking for" * 200)
    with pytest.raises((DamagedDatabaseError, sqlite3.DatabaseError)):
        SqliteUpkeep(tmp_path / "mus.db").check()


async def test_it_stops_in_the_middle_of_the_check_when_it_is_cancelled(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(upkeep: SqliteUpkeep) -> None:
        upkeep._connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        ).fetchall()

    monkeypatch.setattr(SqliteUpkeep, "check", check)
    async with low_worker(runtime):
        job_id = await enqueued(runtime, "database_upkeep")

        async def checking() -> bool:
            return (await read_job(runtime, job_id)).stage == "checking the database"

        await until(checking)
        async with runtime.database.unit_of_work():
            await steering.cancel(broker.ledger, job_id)
        assert (await ended(runtime, job_id)).state == "cancelled"
