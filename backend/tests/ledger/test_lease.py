"""Who of several holds a lease. Each `Lease` stands for a process, with connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import delete

from mus.errors import TemporaryError
from mus.ledger.lease import Lease, lease_row
from mus.ledger.restored_jobs import begin_anew
from mus.persistence.database import Database
from mus.persistence.models import LeaseRow
from waiting import until

Candidate = Callable[..., Lease]
#: Longer than any test: who takes it over in one does so for another reason.
NEVER = 1000.0


@pytest.fixture
async def candidate(database: Database, tmp_path: Path) -> AsyncIterator[Candidate]:
    """Makes candidates that have a data folder each, as on machines of their own."""
    databases: list[Database] = []

    def make(*, dead_after_seconds: float = NEVER) -> Lease:
        databases.append(Database(database.url))
        return Lease(
            databases[-1],
            "test",
            beat_seconds=0.02,
            dead_after_seconds=dead_after_seconds,
            data_dir=tmp_path / f"machine {len(databases)}",
        )

    async with AsyncExitStack() as stack:
        yield make
        for own in databases:
            stack.push_async_callback(own.close)


async def row_of(database: Database) -> LeaseRow | None:
    async with database.reading() as session:
        return await lease_row(session, "test")


async def writes(lease: Lease) -> bool:
    try:
        async with lease.unit_of_work():
            return True
    except TemporaryError:
        return False


@asynccontextmanager
async def leading(lease: Lease, terms: list[Lease]) -> AsyncIterator[asyncio.Task[None]]:
    """Each of its terms of office is noted in `terms`."""

    async def work() -> None:
        terms.append(lease)
        await asyncio.Event().wait()

    task = asyncio.create_task(lease.lead(work))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_many_that_want_it_at_once_get_it_one_after_the_other(candidate: Candidate) -> None:
    leases = [candidate() for _ in range(5)]
    takers = {asyncio.create_task(lease.acquire()): lease for lease in leases}
    while takers:
        done, _ = await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
        (holder,) = [takers.pop(task) for task in done]
        assert [lease for lease in leases if await writes(lease)] == [holder]
        await holder.release()


async def test_one_that_is_released_is_the_next_ones_at_once(candidate: Candidate) -> None:
    first, second = candidate(), candidate()
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await first.release()
    await waiting
    assert (await writes(first), await writes(second)) == (False, True)


async def test_a_holder_that_stands_still_is_followed_and_writes_nothing_more(candidate: Candidate) -> None:
    frozen, other = candidate(), candidate(dead_after_seconds=0.2)
    await frozen.acquire()  # it does not beat: only `lead` does
    assert await writes(frozen)
    await other.acquire()
    assert (await writes(frozen), await writes(other)) == (False, True)
    await frozen.release()
    assert await writes(other), "what is another's cannot be released"


async def test_a_holder_that_beats_keeps_it_for_longer_than_the_dead_are_waited_for(
    candidate: Candidate, database: Database
) -> None:
    holder, other = candidate(), candidate(dead_after_seconds=2.0)
    terms: list[Lease] = []
    async with leading(holder, terms):
        await until(lambda: row_of(database))
        async with leading(other, terms):

            async def has_beaten() -> bool:
                row = await row_of(database)
                return row is not None and row.beat * 0.02 > 2.5

            await until(has_beaten)
            assert terms == [holder]


async def test_who_lost_it_stops_its_work_and_waits_in_line(candidate: Candidate, database: Database) -> None:
    first, second = candidate(), candidate()
    terms: list[Lease] = []
    async with leading(first, terms):
        await until(lambda: row_of(database))
        async with leading(second, terms):
            # As if it had been taken over while the first was frozen.
            async with database.unit_of_work() as work:
                row = await lease_row(work.session, "test")
                assert row is not None
                row.holder = "a third"

            async def has_noticed() -> bool:
                return not await writes(first)

            await until(has_noticed)
            async with database.unit_of_work() as work:
                await work.session.execute(delete(LeaseRow))

            async def taken_again() -> bool:
                return len(terms) == 2

            await until(taken_again)
    assert await row_of(database) is None, "released at the end"


async def test_the_work_of_the_holder_ends_when_it_fails_and_the_lease_is_free(
    candidate: Candidate, database: Database
) -> None:
    async def failing() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await candidate().lead(failing)
    assert await row_of(database) is None


async def test_a_restored_database_has_no_holder(candidate: Candidate, database: Database) -> None:
    lease = candidate()
    await lease.acquire()
    await begin_anew(database, above_delivery=0, due_task="none")
    assert await row_of(database) is None
    assert not await writes(lease)


async def test_a_database_that_cannot_be_written_is_waited_for(
    candidate: Candidate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = candidate()
    tries = 0

    def busy() -> None:
        nonlocal tries
        tries += 1
        raise TemporaryError("The database was busy for too long")

    with monkeypatch.context() as patched:
        patched.setattr(lease._database, "unit_of_work", busy)
        taking = asyncio.create_task(lease.acquire())

        async def tried() -> bool:
            return tries >= 2

        await until(tried)
    await taking
    assert await writes(lease)
    assert "cannot be had now" in caplog.text
