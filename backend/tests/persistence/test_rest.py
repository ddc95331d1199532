"""A process that has nothing to do gives its connections' memory back."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from mus import rest
from mus.persistence.database import Database
from mus.rest import Rest
from waiting import until


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


async def idle_connections(database: Database) -> int:
    pool = database._reader.sync_engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedin()


async def test_connections_are_closed_when_work_ended_a_while_ago_and_not_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "AFTER_SECONDS", 0.02)
    looks = 0

    def is_busy() -> bool:
        nonlocal looks
        looks += 1
        return looks < 5

    async def has_rested() -> bool:
        return await idle_connections(database) == 0

    async with database.reading() as session:
        await session.execute(text("SELECT 1"))
    resting = Rest(database, is_busy)
    async with resting.kept():
        assert await idle_connections(database) == 1
        resting.worked()
        await until(has_rested, what="a rest")
        assert looks == 5
        async with database.reading() as session:
            assert await session.scalar(text("SELECT 1")) == 1
