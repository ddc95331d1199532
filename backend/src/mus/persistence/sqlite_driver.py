"""aiosqlite with one hop to its thread for a statement, where there were four.

Every call of aiosqlite goes to the connection's thread and back. SQLAlchemy makes a cursor, executes, fetches and
closes it, begins, and rolls back once more when the connection returns to its pool: a job's start, two statements,
took twelve hops. On a machine with more work than cores each hop may wait twice for its turn, and the job waits for
them all. Here a statement is executed and fetched in one hop, BEGIN rides along with the first, and what would
change nothing is left out: three hops.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

import aiosqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class OneHopConnection(aiosqlite.Connection):
    """For SQLAlchemy's asyncio adapter; it has no server-side cursors (`AsyncSession.stream`)."""

    _begin: str | None = None
    #: Calls whose end nobody waited for: they may still be under way.
    _unanswered = 0

    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    def begin_with_next(self, statement: str) -> None:
        """Begin a transaction together with the next statement."""
        self._begin = statement

    async def commit(self) -> None:
        if not self._forget_begin():
            await super().commit()

    async def rollback(self) -> None:
        if self._forget_begin() or (not self._unanswered and not self.in_transaction):
            return
        await super().rollback()
        self._unanswered = 0  # it came after them

    def _forget_begin(self) -> bool:
        """Whether a transaction was to begin that has not."""
        pending, self._begin = self._begin, None
        return pending is not None

    async def transact(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """A whole write transaction in the connection's thread: begun, `write`, committed, or rolled back where
        that raises. The connection has none under way."""

        def begin_and_commit(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE").close()
            try:
                results.append(write(connection))
                connection.execute("COMMIT").close()
            except BaseException:
                # A full disk has rolled it back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK").close()
                raise

        results: list[T] = []
        await self.run(begin_and_commit)
        return results[0]

    async def look(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """What `read` returns, which sees one snapshot, in the connection's thread. It has no transaction yet."""

        def begin_and_end(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN").close()
            try:
                results.append(read(connection))
            finally:
                # An error of the disk has rolled it back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK").close()

        results: list[T] = []
        await self.run(begin_and_end)
        return results[0]

    async def run(self, statement: Callable[[sqlite3.Connection], None]) -> None:
        """`statement` in the connection's thread, in the transaction that was asked for."""
        # Taken here, not there: whatever happens to the caller meanwhile, it goes with this statement.
        begin, self._begin = self._begin, None

        def begin_and_run() -> None:
            if begin is not None:
                self._conn.execute(begin).close()
            statement(self._conn)

        self._unanswered += 1
        try:
            await self._execute(begin_and_run)  # type: ignore[no-untyped-call]
        except Exception:
            self._unanswered -= 1
            raise
        self._unanswered -= 1


class _Cursor:
    """What SQLAlchemy asks of a cursor: when `execute` is over, the rows are here and nothing is open."""

    def __init__(self, connection: OneHopConnection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        def run(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(statement, parameters)
            if cursor.description:
                self._rows = cursor.fetchall()
            self._keep(cursor)

        await self._connection.run(run)

    async def executemany(self, statement: str, parameters: Iterable[Any]) -> None:
        await self._connection.run(lambda connection: self._keep(connection.executemany(statement, parameters)))

    async def fetchall(self) -> Sequence[Any]:
        rows, self._rows = self._rows, ()
        return rows

    async def close(self) -> None:
        pass

    def _keep(self, cursor: sqlite3.Cursor) -> None:
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        cursor.close()


async def in_one_hop(connection: AsyncConnection, statements: Callable[[sqlite3.Connection], T]) -> T:
    """Several statements of the transaction that is under way, or begins with them, in one hop to the driver's
    thread. Raises DBAPIError."""
    results: list[T] = []
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, OneHopConnection)
    try:
        await driver.run(lambda raw: results.append(statements(raw)))
    except sqlite3.Error as error:
        raise DBAPIError.instance("", None, error, sqlite3.Error) from error
    return results[0]


def connect(database: str, **options: Any) -> OneHopConnection:
    """A connection to be awaited, as `aiosqlite.connect` makes them; `options` are those of `sqlite3.connect`."""
    connection = OneHopConnection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # as SQLAlchemy does for its own
    return connection
