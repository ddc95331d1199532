"""The driver below SQLAlchemy: fewer hops to the connection's thread, the same transactions."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, cast

import aiosqlite
import pytest
from sqlalchemy import Table, bindparam, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import QueuePool

from mus.persistence.database import Database
from mus.persistence.models import Library
from mus.persistence.prepared import Prepared, Transaction
from mus.persistence.sqlite_driver import OneHopConnection, in_one_hop
from mus.persistence.unit_of_work import UnitOfWork
from waiting import until

_LIBRARIES = cast("Table", Library.__table__)


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def add(work: UnitOfWork, name: str) -> None:
    work.session.add(Library(name=name, root=name.encode()))


async def count(database: Database) -> int:
    async with database.reading() as session:
        return (await session.execute(select(func.count()).select_from(Library))).scalar_one()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """Every call that goes to a connection's thread from now on."""
    made: list[Callable[..., Any]] = []
    execute = aiosqlite.Connection._execute

    async def counting(
        self: aiosqlite.Connection, call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Any:
        made.append(call)
        return await execute(self, call, *arguments, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counting)
    return made


async def test_a_transaction_takes_a_hop_for_each_statement_and_one_for_the_commit(
    database: Database, hops: list[Callable[..., Any]]
) -> None:
    for round_ in ("opens the connections", "uses them"):
        hops.clear()
        async with database.unit_of_work() as work:
            add(work, round_)
            await work.session.flush()
            await work.session.execute(select(Library.id).where(Library.name == round_))
    assert len(hops) == 3
    hops.clear()
    async with database.unit_of_work():
        pass
    assert hops == []


async def test_a_reader_lets_go_of_its_snapshot(database: Database, hops: list[Callable[..., Any]]) -> None:
    assert await count(database) == 0
    async with database.unit_of_work() as work:
        add(work, "new")
    hops.clear()
    assert await count(database) == 1
    assert len(hops) == 2  # the query with its BEGIN, and the end


async def test_a_failed_statement_takes_its_whole_transaction_with_it(database: Database) -> None:
    async with database.unit_of_work() as work:
        add(work, "there")

    async def write_twice() -> None:
        async with database.unit_of_work() as work:
            add(work, "first")
            await work.session.flush()
            add(work, "there")

    with pytest.raises(IntegrityError):
        await write_twice()
    assert await count(database) == 1
    async with database.unit_of_work() as work:
        add(work, "later")
    assert await count(database) == 2


async def test_a_statement_whose_caller_was_cancelled_is_not_committed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: list[bool] = []
    run = OneHopConnection.run

    async def telling(self: OneHopConnection, statement: Callable[[sqlite3.Connection], None]) -> None:
        under_way.append(True)
        await run(self, statement)

    async def write() -> None:
        async with database.unit_of_work() as work:
            add(work, "cancelled")

    async def is_under_way() -> bool:
        return bool(under_way)

    assert database.url.database is not None
    blocker = sqlite3.connect(database.url.database, isolation_level=None)
    await count(database)
    monkeypatch.setattr(OneHopConnection, "run", telling)
    blocker.execute("BEGIN IMMEDIATE")
    writer = asyncio.create_task(write())
    await until(is_under_way, what="the statement, which waits for the lock")
    writer.cancel()
    # SQLAlchemy may wait for its connection to end, which waits for the lock.
    await asyncio.wait({writer}, timeout=0.1)
    blocker.execute("ROLLBACK")
    blocker.close()
    with contextlib.suppress(asyncio.CancelledError):
        await writer
    async with database.unit_of_work() as work:
        add(work, "next")
    assert await count(database) == 1


async def driver_of(session: AsyncSession) -> OneHopConnection:
    """The connection of a session, in a transaction."""
    await session.execute(text("SELECT 1"))
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert isinstance(driver, OneHopConnection)
    return driver


def in_use(database: Database) -> int:
    pools = [engine.sync_engine.pool for engine in (database._writer, database._reader)]
    return sum(pool.checkedout() for pool in pools if isinstance(pool, QueuePool))


@pytest.mark.parametrize("kind", ["reading", "writing", "one hop"])
async def test_however_often_a_caller_is_cancelled_its_connection_is_back_when_it_is_gone(
    database: Database, kind: str
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        begun.set()
        gate.wait()

    async def use() -> None:
        if kind == "one hop":
            await database.transact(wait)
        elif kind == "reading":
            async with database.reading() as session:
                await (await driver_of(session)).run(wait)
        else:
            async with database.unit_of_work() as work:
                await (await driver_of(work.session)).run(wait)

    async def has_begun() -> bool:
        return begun.is_set()

    user = asyncio.create_task(use())
    try:
        await until(has_begun, what="the connection in use")
        for _ in range(3):
            user.cancel()
            # Each is told of before the next.
            for _ in range(3):
                await asyncio.sleep(0)
        assert (user.done(), in_use(database)) == (False, 1)
    finally:
        gate.set()
    await asyncio.wait({user})
    assert (user.cancelled(), in_use(database)) == (True, 0)


async def test_a_rest_that_is_cancelled_closes_its_connections_first(database: Database) -> None:
    async with database.reading() as one, database.reading() as other:
        drivers = [await driver_of(session) for session in (one, other)]
    old_pool = database._reader.sync_engine.pool
    resting = asyncio.create_task(database.rest())
    while database._reader.sync_engine.pool is old_pool:
        await asyncio.sleep(0)
    resting.cancel()
    await asyncio.wait({resting})
    assert resting.cancelled()
    assert [driver._connection for driver in drivers] == [None, None]


async def test_statements_that_go_together_take_one_hop_and_are_part_of_the_transaction(
    database: Database, hops: list[Callable[..., Any]]
) -> None:
    def add_two(driver: sqlite3.Connection) -> int:
        for name in ("c", "d"):
            driver.execute(
                "INSERT INTO libraries (name, root, online, created_at, watch) VALUES (?, ?, 1, 0, 'auto')",
                (name, name.encode()),
            )
        return int(driver.execute("SELECT count(*) FROM libraries").fetchone()[0])

    async def add_three(name: str) -> int:
        async with database.unit_of_work() as work:
            add(work, name)
            await work.session.flush()
            hops.clear()
            return await in_one_hop(await work.session.connection(), add_two)

    assert await add_three("a") == 3
    assert len(hops) == 2, "and the commit"
    assert await count(database) == 3
    with pytest.raises(DBAPIError, match="UNIQUE"):
        await add_three("b")
    assert await count(database) == 3


async def test_prepared_statements_of_a_transaction_take_one_hop_after_what_its_session_is_to_write(
    database: Database, hops: list[Callable[..., Any]]
) -> None:
    rename = Prepared(
        update(_LIBRARIES)
        .where(_LIBRARIES.c.name == bindparam("before"))
        .values(name=bindparam("after"))
        .returning(_LIBRARIES.c.id)
    )

    def rename_twice(transaction: Transaction) -> list[Any]:
        names = ({"before": "a", "after": "b"}, {"before": "b", "after": "c"})
        return [transaction.one(rename, name) for name in names]

    async with database.unit_of_work() as work:
        add(work, "a")
        assert all(await work.run(rename_twice))
        hops.clear()
        assert await work.run(rename_twice) == [None, None]
        assert len(hops) == 1
    async with database.reading() as session:
        assert list(await session.scalars(select(Library.name))) == ["c"]
