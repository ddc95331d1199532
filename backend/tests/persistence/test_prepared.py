"""Prepared statements, and units of work that need no session: the same rows as in SQLAlchemy's own ways."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import bindparam, func, literal_column, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from mus.ledger.job_rows import ADD_EVENTS, ADD_JOBS, NewJob, new_row
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent, utc_now
from mus.persistence.prepared import Prepared, Transaction, Values
from waiting import until


def row() -> Values:
    now = utc_now()
    job = NewJob(
        task="t",
        queue="low_priority",
        arguments={"paths": ["Björk/á.flac"], "none": None, "share": 0.5},
        run_after=now + timedelta(seconds=90),
        requested_by="me",
    )
    return new_row(job, now)


def line(job_id: str) -> Values:
    return {"job_id": job_id, "at": utc_now(), "event": "enqueued", "attempt": 1, "details": None}


async def jobs(database: Database) -> list[Job]:
    async with database.reading() as session:
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


async def test_rows_inserted_without_a_session_are_read_as_they_were_given(database: Database) -> None:
    rows = sorted((row() for _ in range(3)), key=lambda one: one["id"])
    async with database.unit_of_work() as work:
        await work.insert(ADD_JOBS, rows[:2])
        await work.insert(ADD_EVENTS, [line(rows[0]["id"])])
        await work.insert(ADD_JOBS, rows[2:])
    assert [{name: getattr(job, name) for name in rows[0]} for job in await jobs(database)] == rows
    async with database.reading() as session:
        (event,) = (await session.execute(select(JobEvent))).scalars()
    assert (event.job_id, event.details) == (rows[0]["id"], None)


async def test_a_session_that_is_used_afterwards_sees_them(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.insert(ADD_JOBS, [row()])
        assert (await work.session.execute(select(func.count()).select_from(Job))).scalar_one() == 1
        await work.insert(ADD_JOBS, [row()])
        assert (await work.session.execute(select(func.count()).select_from(Job))).scalar_one() == 2
    assert len(await jobs(database)) == 2


async def test_a_session_that_is_asked_for_nothing_does_not_keep_them_out(database: Database) -> None:
    async with database.unit_of_work() as work:
        await work.insert(ADD_JOBS, [row()])
        work.session.get_bind()
    assert len(await jobs(database)) == 1


@pytest.mark.parametrize("with_session", [False, True])
async def test_a_unit_of_work_that_raises_inserts_nothing(database: Database, with_session: bool) -> None:
    async def broken_off() -> None:
        async with database.unit_of_work() as work:
            await work.insert(ADD_JOBS, [row()])
            if with_session:
                await work.session.execute(select(Job.id))
            raise LookupError

    with pytest.raises(LookupError):
        await broken_off()
    assert await jobs(database) == []


async def test_a_transaction_that_fails_leaves_nothing_and_is_in_nobodys_way(database: Database) -> None:
    given = row()

    def twice(transaction: Transaction) -> None:
        transaction.insert(ADD_EVENTS, [line(given["id"])])
        transaction.insert(ADD_JOBS, [given, given])

    with pytest.raises(IntegrityError):
        await database.transact(twice)
    assert await jobs(database) == []
    await database.transact(lambda transaction: transaction.insert(ADD_JOBS, [given]))
    assert [job.id for job in await jobs(database)] == [given["id"]]


_BY_QUEUE = Prepared(
    select(Job.id, Job.arguments, Job.run_after).where(Job.queue == bindparam("on")).order_by(Job.id)
)


async def test_a_look_finds_what_a_session_finds(database: Database) -> None:
    rows = sorted((row() for _ in range(2)), key=lambda one: one["id"])
    other = {**row(), "queue": "high_priority"}
    await database.transact(lambda transaction: transaction.insert(ADD_JOBS, [*rows, other]))
    found = await database.look(lambda look: look.all(_BY_QUEUE, {"on": "low_priority"}))
    assert [(one.id, one.arguments, one.run_after) for one in found] == [
        (one["id"], one["arguments"], one["run_after"]) for one in rows
    ]
    assert await database.look(lambda look: look.all(_BY_QUEUE, {"on": "none"})) == []


async def test_a_look_that_fails_is_in_nobodys_way(database: Database) -> None:
    broken = Prepared(select(literal_column("no_such_column").label("x")).select_from(Job))
    for _ in range(5):
        with pytest.raises(DBAPIError):
            await database.look(lambda look: look.all(broken))
    assert await database.look(lambda look: look.all(_BY_QUEUE, {"on": "low_priority"})) == []


async def test_a_database_that_cannot_be_opened_is_told_of_as_any_other_error(tmp_path: Path) -> None:
    database, threads = Database(f"sqlite+aiosqlite:///{tmp_path}/none/mus.db"), set(threading.enumerate())
    with pytest.raises(DBAPIError):
        await database.look(lambda look: look.all(_BY_QUEUE, {"on": "low_priority"}))
    with pytest.raises(DBAPIError):
        await database.transact(lambda transaction: transaction.insert(ADD_JOBS, [row()]))
    await database.close()

    async def are_gone() -> bool:
        return set(threading.enumerate()) <= threads

    await until(are_gone, what="the end of the driver's threads, which nobody else waits for")


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_looks_that_are_cancelled_are_in_nobodys_way(database: Database) -> None:
    are_looking, may_end = threading.Barrier(5), threading.Event()

    def wait(look: Transaction) -> None:
        look.all(_BY_QUEUE, {"on": "low_priority"})
        are_looking.wait(20)
        assert may_end.wait(20)

    # As many as there are connections to read with.
    looking = [asyncio.create_task(database.look(wait)) for _ in range(4)]
    await asyncio.to_thread(are_looking.wait, 20)
    for task in looking:
        task.cancel()
    may_end.set()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*looking, return_exceptions=True)
    )
    for _ in range(8):
        assert await database.look(lambda look: look.all(_BY_QUEUE, {"on": "low_priority"})) == []


# PostgreSQL's look would wait in the event loop, in which the other writes.
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_look_sees_one_moment(database: Database) -> None:
    has_looked, has_written = threading.Event(), threading.Event()

    def twice(look: Transaction) -> list[int]:
        counts = [len(look.all(_BY_QUEUE, {"on": "low_priority"}))]
        has_looked.set()
        assert has_written.wait(20)
        return [*counts, len(look.all(_BY_QUEUE, {"on": "low_priority"}))]

    looking = asyncio.create_task(database.look(twice))
    assert await asyncio.to_thread(has_looked.wait, 20)
    await database.transact(lambda transaction: transaction.insert(ADD_JOBS, [row()]))
    has_written.set()
    assert await looking == [0, 0]
    assert len(await database.look(lambda look: look.all(_BY_QUEUE, {"on": "low_priority"}))) == 1
