"""A process that has nothing to do gives its connections' memory back."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from mus import rest
from mus.persistence.database import Database
from mus.persistence.prepared import Transaction
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


async def test_a_rest_that_somebody_was_in_the_way_of_is_taken_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "AFTER_SECONDS", 0.02)
    answers: list[bool] = []
    take = database.rest

    async def noted() -> bool:
        answers.append(await take())
        return answers[-1]

    async def is_in_the_way() -> bool:
        return answers[:2] == [False, False]

    async def has_rested() -> bool:
        return answers[-1]

    monkeypatch.setattr(database, "rest", noted)
    resting = Rest(database)
    async with resting.kept():
        async with database.reading() as session:
            await session.execute(text("SELECT 1"))
            resting.worked()
            await until(is_in_the_way, what="two tries")
            assert await idle_connections(database) == 0
        await until(has_rested, what="a rest")
        assert await idle_connections(database) == 0


async def test_who_is_about_to_get_a_connection_gets_it_though_others_are_closed(database: Database) -> None:
    begun, gate = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        gate.wait()

    async def write_and_rest() -> None:
        await database.transact(hold)
        # The connection is in its pool, and who waits for it has been told, but has not come yet.
        await database.rest()

    async def write() -> None:
        async with database.unit_of_work() as work:
            await work.session.execute(text("SELECT 1"))

    async def is_held() -> bool:
        return begun.is_set()

    first = asyncio.create_task(write_and_rest())
    try:
        await until(is_held, what="the first transaction")
        second = asyncio.create_task(write())
        await asyncio.sleep(0)
    finally:
        gate.set()
    done, _ = await asyncio.wait({first, second}, timeout=10)
    for task in (first, second):
        task.cancel()
    assert done == {first, second}
