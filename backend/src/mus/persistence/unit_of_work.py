"""The unit of work: one transaction and what must happen after its commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession

from mus.persistence.prepared import CoreTransaction, Inserts, Prepared, SqliteTransaction, Transaction, Values
from mus.persistence.sqlite_driver import in_one_hop
from mus.to_the_end import to_the_end

T = TypeVar("T")

_current: ContextVar[UnitOfWork | None] = ContextVar("mus_unit_of_work", default=None)


class UnitOfWork:
    """A write transaction under way. Code inside it never commits; only the edge that opened it does.

    It begins with the first use of `session`. One that only inserts prepared rows never needs a session, and is
    written in one go at its end.
    """

    __slots__ = ("_after_commit", "_inserts", "_open_session", "_session", "changed_jobs", "outbox")

    def __init__(self, open_session: Callable[[], AsyncSession]) -> None:
        self._open_session = open_session
        self._session: AsyncSession | None = None
        self._inserts = Inserts()
        #: Messages gathered in this transaction, for one `after_commit` action to send together.
        self.outbox: list[Any] = []
        #: Jobs whose rows this transaction changed, each once.
        self.changed_jobs: dict[str, None] = {}
        self._after_commit: list[Callable[[], Awaitable[None]]] = []

    @property
    def session(self) -> AsyncSession:
        if self._session is None:
            self._session = self._open_session()
            if self._inserts.of:
                event.listen(self._session.sync_session, "after_begin", self._insert_first, once=True)
        return self._session

    def _insert_first(self, _session: Any, _transaction: Any, connection: Connection) -> None:
        inserts, self._inserts = self._inserts, Inserts()
        CoreTransaction(connection, inserts).insert_all()

    async def insert(self, statement: Prepared, rows: Sequence[Values]) -> None:
        """Insert rows; whatever the session is asked for afterwards sees them."""
        if self._session is None:
            self._inserts.many(statement, rows)
        elif rows:
            await self._session.execute(statement.statement, [dict(row) for row in rows])

    async def run(self, write: Callable[[Transaction], T]) -> T:
        """Prepared statements of this transaction, on SQLite in one hop to the driver's thread. What the session is
        to write comes before."""
        await self.session.flush()
        connection = await self.session.connection()
        if connection.dialect.name == "sqlite":
            return await in_one_hop(connection, lambda driver: SqliteTransaction(driver).run(write))
        return await connection.run_sync(lambda sync: CoreTransaction(sync).run(write))

    def after_commit(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` once the transaction stands; it is dropped on rollback.

        It may be lost if the process dies in between, so it must be something that reconcile makes good.
        """
        self._after_commit.append(action)

    async def commit(self, insert_alone: Callable[[Inserts], Awaitable[None]]) -> None:
        """`insert_alone` writes what is to be inserted where there is nothing else."""
        if self._session is not None:
            if self._inserts.of:
                await self._session.connection()  # begins, and with that inserts them
            await self._session.commit()
        elif self._inserts.of:
            await insert_alone(self._inserts)

    async def close(self) -> None:
        """Roll back what was not committed."""
        if self._session is not None:
            # A connection whose way back to its pool outlived its caller came to a database that was closed by
            # then, and stayed open.
            await to_the_end(self._session.close())

    async def committed(self) -> None:
        for action in self._after_commit:
            await action()


def current_unit_of_work() -> UnitOfWork:
    """The unit of work this code runs in. Raises RuntimeError when there is none: that is a bug."""
    work = _current.get()
    if work is None:
        raise RuntimeError("this writes to the database, so it must run inside `database.unit_of_work()`")
    return work


@contextmanager
def entered(work: UnitOfWork) -> Iterator[UnitOfWork]:
    """Make `work` the current one for the block."""
    if _current.get() is not None:
        raise RuntimeError("a unit of work is open already; the outer one would never see this one's commit")
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)
