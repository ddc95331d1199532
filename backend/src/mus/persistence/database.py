"""Engines, sessions and migrations.

On SQLite two engines share the file: one connection that writes, several that read. So writers of one process
queue up in order instead of polling SQLite's lock, and a read never waits for them (WAL). On PostgreSQL one pool
serves both.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

import mus
from mus.errors import AdminRequiredError, TemporaryError
from mus.json_text import decoded, encoded_text
from mus.persistence import sqlite_copies, sqlite_driver
from mus.persistence.models import Base
from mus.persistence.prepared import CoreTransaction, Inserts, SqliteTransaction, Transaction
from mus.persistence.unit_of_work import UnitOfWork, entered
from mus.to_the_end import to_the_end

logger = logging.getLogger(__name__)
T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations"
_NEW_SQLITE = Path(__file__).parent / "new_sqlite.sql"
STATEMENT_END = ";\n\n"
#: The newest revision in `migrations/versions`; a test compares the two. It spares a process that finds its
#: schema up to date the import of Alembic, a tenth of a second at each start.
SCHEMA_REVISION = "0013"
#: How long a statement waits for another process's write transaction before it gives up as `temporary`.
BUSY_TIMEOUT_SECONDS = 30.0
#: How long a PostgreSQL that was started together with mus may take to answer.
START_SECONDS = 30.0
_START_PAUSE_SECONDS = 0.2


class Database:
    """The database of one process: `open()`, then `reading()` and `unit_of_work()`."""

    def __init__(self, url: str | URL, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_timeout_seconds = busy_timeout_seconds
        #: Who has a connection, or waits for one.
        self._users = 0
        self._writer = self._engine(writes=True)
        self._reader = (
            self._engine(writes=False)
            if self.is_sqlite
            else self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        self._write_session = async_sessionmaker(self._writer, expire_on_commit=False)
        self._read_session = async_sessionmaker(self._reader, expire_on_commit=False)

    def _engine(self, *, writes: bool) -> AsyncEngine:
        if not self.is_sqlite:
            # Not for those who have SQLite: to import the driver takes 65 ms and 3 MiB.
            from mus.persistence.postgresql_engine import postgresql_engine

            return postgresql_engine(self.url, lock_timeout_seconds=self._busy_timeout_seconds)
        # A caller may wait long for the one writing connection: behind it stand short transactions only.
        engine = create_async_engine(
            self.url,
            pool_size=1 if writes else 4,
            max_overflow=0,
            pool_timeout=120,
            connect_args={"timeout": self._busy_timeout_seconds, "async_creator_fn": sqlite_driver.connect},
            json_serializer=encoded_text,
            json_deserializer=decoded,
        )
        event.listen(engine.sync_engine, "connect", _set_pragmas if writes else _set_reader_pragmas)
        event.listen(engine.sync_engine, "begin", _begin_immediate if writes else _begin_deferred)
        return engine

    async def migrate(self, *, keep_copy: bool = True, wait_seconds: float = START_SECONDS) -> str | None:
        """Bring the schema up to date, under a lock: several processes may start at once. Returns the revision it
        had before, None for a new database.

        A SQLite database is copied first, to `backups` beside it (`keep_copy`), where the disk has room for it; a
        server that does not answer yet is waited for. Each migration is one transaction: a process that dies in it
        leaves the schema of before, and the next start goes on from there. Processes of an older mus that run
        meanwhile wait for its write lock, as for any other.

        Raises AdminRequiredError when the database was written by a newer mus, is damaged, or cannot be opened;
        nothing is changed then.
        """
        if self.is_sqlite and self.url.database:
            folder = Path(self.url.database).parent
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise AdminRequiredError(f"The data folder {folder} cannot be made: {error.strerror}") from error
        deadline = time.monotonic() + wait_seconds
        waits = False
        while True:
            try:
                return await self._migrate(keep_copy=keep_copy)
            except (DBAPIError, OSError) as error:
                reason = error.orig if isinstance(error, DBAPIError) else error
                message = f"The database {self.url.render_as_string()} cannot be used: {reason}"
                later = isinstance(error, DBAPIError) and isinstance(as_temporary(error), TemporaryError)
                if self.is_sqlite or not later or time.monotonic() > deadline:
                    raise AdminRequiredError(message) from error
            if not waits:
                logger.warning("%s; waiting for it", message)
                waits = True
            await asyncio.sleep(_START_PAUSE_SECONDS)

    async def _migrate(self, *, keep_copy: bool) -> str | None:
        before = await self._known_revision()
        if before == SCHEMA_REVISION:
            return before
        with migration_lock(self.url.database if self.is_sqlite else None) as lock:
            await lock
            if self.is_sqlite and self.url.database and keep_copy:
                await self._keep_copy(Path(self.url.database))
            async with self._writer.connect() as connection:
                await connection.run_sync(_upgrade)
        return before

    async def _known_revision(self) -> str | None:
        """The schema's revision; None for a new database. Raises AdminRequiredError for one of a newer mus."""
        revision = await self._revision()
        if revision is not None and not is_known_schema(revision):
            raise AdminRequiredError(
                f"The database was written by a newer version of mus: its schema is {revision}, and mus "
                f"{mus.__version__} knows those up to {SCHEMA_REVISION}",
                recovery_actions=("Install that version again", "Use another data folder"),
            )
        return revision

    async def _keep_copy(self, file: Path) -> None:
        revision = await self._known_revision()
        if revision in (None, SCHEMA_REVISION):
            return  # another process has migrated it meanwhile, or it is new
        try:
            sqlite_copies.require_space(file.parent, 2 * file.stat().st_size)
        except AdminRequiredError as error:
            logger.warning("the database is upgraded without a copy beside it: %s", error.user_message)
            return
        copy = await asyncio.to_thread(sqlite_copies.keep_copy, file, f"before-upgrade-from-{revision}")
        logger.info("the database as it was before the upgrade is kept as %s", copy)

    async def _revision(self) -> str | None:
        """The schema's revision; None for a new database."""
        try:
            async with self._reader.connect() as connection:
                return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        except (OperationalError, ProgrammingError) as error:
            if any(sign in str(error.orig).lower() for sign in ("no such table", "does not exist")):
                return None
            raise

    async def rest(self) -> bool:
        """Give back the memory that idle connections of SQLite keep, up to 32 MB of pages in all.

        They are opened again when they are needed, which takes a millisecond each. False when somebody uses one, or
        is about to: it would come back to a pool that is no more, or be waited for there.
        """
        for engine in (self._writer.sync_engine, self._reader.sync_engine) if self.is_sqlite else ():
            pool = engine.pool
            assert isinstance(pool, QueuePool)
            if self._users or pool.checkedout():
                return False
            # The new pool is there before anybody can ask, and only then are the old one's connections closed,
            # which takes a while.
            engine.dispose(close=False)
            await to_the_end(greenlet_spawn(pool.dispose))
        return True

    async def close(self) -> None:
        await self._writer.dispose()
        if self.is_sqlite:
            await self._reader.dispose()

    async def analyse_tables(self) -> int:
        """Renew what PostgreSQL's planner knows of the tables, one at a time; returns how many.

        Each is a transaction of its own. The rest of a PostgreSQL's upkeep is its own autovacuum's.
        """
        preparer = self._writer.dialect.identifier_preparer
        async with self._writer.connect() as connection:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in Base.metadata.sorted_tables:
                await connection.execute(text(f"ANALYZE {preparer.format_table(table)}"))
        return len(Base.metadata.sorted_tables)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for queries: one consistent snapshot, nothing is written."""
        with self._used():
            async with self._read_session() as session:
                yield session

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[UnitOfWork]:
        """One write transaction, committed when the block ends, rolled back when it raises.

        Keep it short: nothing may wait in it for a file, a decoder or the network. What was registered with
        `after_commit` runs after the commit, and never after a rollback. Raises TemporaryError when the
        database stayed locked, its disk is full, it cannot be reached, or it rolled this back in another's favour.
        """
        work = UnitOfWork(self._write_session)
        try:
            with self._used():
                try:
                    with entered(work):
                        yield work
                    await work.commit(self._insert)
                finally:
                    await work.close()
        except (DBAPIError, PoolTimeoutError) as error:
            raise as_temporary(error) from error
        await work.committed()

    async def _insert(self, inserts: Inserts) -> None:
        await self._transact(lambda transaction: transaction.insert_all(), inserts)

    async def transact(self, write: Callable[[Transaction], T]) -> T:
        """`write` in a transaction of its own, on SQLite in one hop to the driver's thread. Never awaited inside a
        unit of work, whose transaction it would wait for. Raises as `unit_of_work` does.
        """
        with self._used():
            return await self._transact(lambda transaction: transaction.run(write))

    async def look(self, read: Callable[[Transaction], T]) -> T:
        """`read` in one snapshot, on SQLite in one hop to the driver's thread. Raises what `reading` does."""
        with self._used():
            if not self.is_sqlite:
                async with self._reader.connect() as connection:
                    return await connection.run_sync(lambda sync: read(CoreTransaction(sync)))
            return await _in_one_hop(
                self._reader, lambda driver: driver.look(lambda connection: read(SqliteTransaction(connection)))
            )

    async def write_back(self) -> None:
        """After a transaction that wrote much: copy it from SQLite's log into the database, beside who writes next.

        SQLite does that by itself in a commit, when the log has become long; and as it waits for the disk twice,
        everyone who writes waited with it, for a tenth of a first scan.
        """
        if not self.is_sqlite:
            return
        # What is wrong shows where somebody writes.
        with self._used(), contextlib.suppress(sqlite3.Error, DBAPIError, PoolTimeoutError):
            pooled = await self._reader.raw_connection()
            try:
                driver = pooled.driver_connection
                assert isinstance(driver, sqlite_driver.OneHopConnection)
                await driver.run(lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close())
            finally:
                await to_the_end(greenlet_spawn(pooled.close))

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def _transact(self, write: Callable[[Transaction], T], inserts: Inserts | None = None) -> T:
        try:
            if not self.is_sqlite:
                async with self._writer.begin() as connection:
                    return await connection.run_sync(lambda sync: write(CoreTransaction(sync, inserts)))
            return await _in_one_hop(
                self._writer,
                lambda driver: driver.transact(lambda connection: write(SqliteTransaction(connection, inserts))),
            )
        except (DBAPIError, PoolTimeoutError) as error:
            raise as_temporary(error) from error


async def _in_one_hop(
    engine: AsyncEngine, hop: Callable[[sqlite_driver.OneHopConnection], Coroutine[Any, Any, T]]
) -> T:
    try:
        pooled = await engine.raw_connection()
        try:
            driver = pooled.driver_connection
            assert isinstance(driver, sqlite_driver.OneHopConnection)
            result = await hop(driver)
        except BaseException:
            # Back into the pool, before anything else: it may be the only one that writes.
            await to_the_end(greenlet_spawn(pooled.close))
            raise
        await greenlet_spawn(pooled.close)  # waits for nothing: the transaction is over
    except sqlite3.Error as error:
        raise DBAPIError.instance("", None, error, sqlite3.Error) from error
    return result


def as_temporary(error: DBAPIError | PoolTimeoutError) -> Exception:
    """The TemporaryError that a failure of the database comes to, where another try may help; else itself."""
    if isinstance(error, PoolTimeoutError):
        return TemporaryError("The database was busy for too long")
    if hasattr(error.orig, "sqlstate"):
        from mus.persistence.postgresql_engine import is_passing

        if is_passing(error):
            return TemporaryError(f"The database could not do this now: {error.orig}")
        return error
    text = str(error.orig).lower()
    if "locked" in text or "busy" in text:
        return TemporaryError("The database was busy for too long")
    if "full" in text or "disk i/o" in text:
        return TemporaryError(
            "The disk of the data folder is full or failing", recovery_actions=("Free some disk space",)
        )
    return error


def _set_pragmas(connection: DBAPIConnection, _record: Any) -> None:
    # pysqlite would begin transactions by itself, deferred and late; `begin` below does it openly.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -16000",
        # Pages, 16 MB; `write_back` is there for what writes much at a time.
        "wal_autocheckpoint = 4000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_reader_pragmas(connection: DBAPIConnection, record: Any) -> None:
    _set_pragmas(connection, record)
    cursor = connection.cursor()
    # There are four, and each keeps its own copies of pages; what is not there is in the kernel's cache.
    cursor.execute("PRAGMA cache_size = -4000")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another wrote in between
    # (SQLITE_BUSY_SNAPSHOT, not subject to the busy timeout): take the write lock first.
    _begin(connection, "BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    _begin(connection, "BEGIN")


def _begin(connection: Connection, statement: str) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite_driver.OneHopConnection)
    driver.begin_with_next(statement)


def is_known_schema(revision: str) -> bool:
    """Whether this mus has a migration that leads there."""
    return any(file.name.partition("_")[0] == revision for file in (_MIGRATIONS / "versions").glob("*.py"))


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and _is_empty(connection):
        # What the migrations come to. To import Alembic and to go through them all takes 125 ms, this 12.
        for statement in _NEW_SQLITE.read_text(encoding="utf-8").split(STATEMENT_END):
            connection.exec_driver_sql(statement)
    else:
        connection.rollback()  # each migration has a transaction of its own
        _run_migrations(connection)
    connection.commit()


def _is_empty(connection: Connection) -> bool:
    return connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").first() is None


def _run_migrations(connection: Connection) -> None:
    # Mako, which Alembic imports, would import Pygments to colour its errors: a fifth of this.
    sys.modules.setdefault("mako.ext.pygmentplugin", None)  # type: ignore[arg-type]
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextlib.contextmanager
def migration_lock(database_file: str | None) -> Any:
    """Held by whoever changes the schema, or puts another database in this one's place. Yields an awaitable."""
    if database_file is None:  # PostgreSQL: the migration environment takes an advisory lock
        yield asyncio.sleep(0)
        return
    descriptor = os.open(f"{database_file}.migrating", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
