"""Of several processes one does a thing: the holder of its lease, which is judged as workers are (DESIGN §4).

A lease is a row with a counter that its holder raises. The others look at it, and take it over when the counter has
stood still for too long on their own monotonic clock: clocks of hosts differ. What the holder writes is fenced: one
that was frozen and taken for dead changes nothing when it wakes up.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import MusError, TemporaryError
from mus.ledger.deliveries import new_id
from mus.ledger.workers import DeadWorkerWatch
from mus.library.file_systems import is_remote
from mus.persistence.conflicts import insert_into
from mus.persistence.database import Database
from mus.persistence.models import LeaseRow, utc_now
from mus.persistence.prepared import Prepared, Transaction
from mus.persistence.unit_of_work import UnitOfWork
from mus.turns import until_turn

logger = logging.getLogger(__name__)

#: The lease of whoever watches the libraries.
WATCHER = "watcher"
#: How often at least those who wait look: a holder that left in good order is followed within so long.
_LOOK_SECONDS = 1.0
#: Who stops does not wait longer for the database: without a release the others wait for the counter.
_RELEASE_SECONDS = 2.0


_BEAT = Prepared(
    update(LeaseRow)
    .where(LeaseRow.name == bindparam("lease"), LeaseRow.holder == bindparam("by"))
    .values(beat=LeaseRow.beat + 1, beat_at=bindparam("now"))
    .returning(LeaseRow.beat)
)


class Lease:
    """One process's share in a lease: `lead`, and write through `unit_of_work` what only the holder may write."""

    def __init__(
        self, database: Database, name: str, *, beat_seconds: float, dead_after_seconds: float, data_dir: Path
    ) -> None:
        self._database = database
        self._name = name
        self._beat_seconds = beat_seconds
        self._dead_after_seconds = dead_after_seconds
        self._local_lock = _LocalLock(data_dir, name)
        #: An id of its own each time it is taken; None while it is not.
        self._holder: str | None = None
        self._lost = asyncio.Event()

    async def lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the lease and run `work` while it is held, again and again, until `work` ends by itself.

        It is released at the end, also when this is cancelled. Raises what `work` raises.
        """
        while True:
            try:
                await self.acquire()
                if await self._works_until_lost(work):
                    return
            finally:
                await self.release()
            logger.warning(
                "this process is the %s no more: it was not heard of, or the database restored", self._name
            )

    async def _works_until_lost(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Whether `work` ended by itself."""
        working = asyncio.create_task(work(), name=f"mus-lease {self._name}")
        beating = asyncio.create_task(self._beat_until_lost(), name=f"mus-beat {self._name}")
        try:
            await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
            ended = working if working.done() else beating
            ended.result()
            return ended is working
        finally:
            working.cancel()
            beating.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def acquire(self) -> None:
        """Wait until the lease is free or its holder dead, and take it."""
        pause = min(_LOOK_SECONDS, self._beat_seconds)
        watch = DeadWorkerWatch(self._dead_after_seconds, pause)
        told = None
        while True:
            try:
                async with self._database.reading() as session:
                    row = await lease_row(session, self._name)
                if row is None or self._local_lock.proves_dead(row.holder):
                    is_free = True
                else:
                    is_free = row.holder in watch.look({row.holder: row.beat})
                    if told != row.holder:
                        logger.info(
                            "process %d of %s is the %s; waiting to take over", row.pid, row.host, self._name
                        )
                        told = row.holder
                if is_free and await self._take(row):
                    return
            except (MusError, SQLAlchemyError, OSError) as error:
                logger.warning("the lease of the %s cannot be had now: %s", self._name, error)
            await asyncio.sleep(pause)

    async def _take(self, seen: LeaseRow | None) -> bool:
        # Known before it is written: whoever is stopped right after the commit releases it all the same.
        self._holder = new_id()
        values = {
            "holder": self._holder,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "beat": 0,
            "beat_at": utc_now(),
            "held_since": utc_now(),
        }
        async with self._database.unit_of_work() as work:
            if seen is None:
                statement: Any = (
                    insert_into(LeaseRow, is_sqlite=self._database.is_sqlite)
                    .values(name=self._name, **values)
                    .on_conflict_do_nothing()
                ).returning(LeaseRow.holder)
            else:
                statement = (
                    update(LeaseRow)
                    .where(LeaseRow.name == self._name, LeaseRow.holder == seen.holder, LeaseRow.beat == seen.beat)
                    .values(**values)
                    .returning(LeaseRow.holder)
                )
            is_taken = (await work.session.execute(statement)).one_or_none() is not None
        if not is_taken:
            return False  # another was first, or it lives after all
        self._lost.clear()
        self._local_lock.hold(self._holder)
        logger.info("this process is the %s now", self._name)
        return True

    async def release(self) -> None:
        """Let another have it at once. Where the database does not answer, it has to wait for the counter."""
        holder, self._holder = self._holder, None
        self._local_lock.release()
        if holder is None or self._lost.is_set():
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS), self._database.unit_of_work() as work:
                await work.session.execute(
                    delete(LeaseRow).where(LeaseRow.name == self._name, LeaseRow.holder == holder)
                )
        except (MusError, SQLAlchemyError, OSError, TimeoutError) as error:
            logger.warning("the lease of the %s could not be released: %s", self._name, error)

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[UnitOfWork]:
        """`Database.unit_of_work`, for the holder alone. Raises TemporaryError too when this process is not it."""
        async with self._database.unit_of_work() as work:
            # Shared: until the commit nobody takes it over, and the holder's own transactions do not wait for
            # each other. SQLite has one writer anyway.
            holder = await work.session.scalar(
                select(LeaseRow.holder).where(LeaseRow.name == self._name).with_for_update(read=True)
            )
            if holder is None or holder != self._holder:
                self._lost.set()
                raise TemporaryError(f"Another process is the {self._name} now")
            yield work

    async def _beat_until_lost(self) -> None:
        while not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(until_turn(self._beat_seconds)):
                    await self._lost.wait()
                    return
            try:
                values = {"lease": self._name, "by": self._holder, "now": utc_now()}
                if await self._database.transact(partial(Transaction.one, statement=_BEAT, values=values)) is None:
                    self._lost.set()
            except (MusError, SQLAlchemyError, OSError) as error:
                # What waits is kept meanwhile, and nobody can take over without the database either.
                logger.warning("the lease of the %s could not be renewed: %s", self._name, error)


class _LocalLock:
    """A flock in the data folder, by which a holder's death is known there at once, without its counter.

    So a watcher that is started again after a crash does not wait for itself. The file tells whose lock it was:
    whoever gets the lock knows that that holder is gone. Network file systems may keep locks within each host, so
    there it proves nothing.
    """

    def __init__(self, data_dir: Path, name: str) -> None:
        self._path = data_dir / f"{name}.lock"
        self._descriptor: int | None = None

    def proves_dead(self, holder: str) -> bool:
        """Whether `holder` had this lock and has it no more. If so, the lock stays with this process."""
        if not self._is_got():
            return False
        assert self._descriptor is not None
        if os.pread(self._descriptor, 64, 0) == holder.encode():
            return True
        self.release()
        return False

    def hold(self, holder: str) -> None:
        """Keep the lock for a holder, where it is to be had."""
        if self._is_got():
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder.encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_got(self) -> bool:
        if self._descriptor is not None:
            return True
        descriptor = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if is_remote(os.fsencode(self._path.parent)):
                return False
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody else's, or no place for files: the counter tells, later
            if descriptor is not None:
                os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True


async def lease_row(session: AsyncSession, name: str) -> LeaseRow | None:
    """Who holds the lease; None when nobody does."""
    return (await session.scalars(select(LeaseRow).where(LeaseRow.name == name))).one_or_none()
