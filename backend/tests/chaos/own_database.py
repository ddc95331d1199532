"""The database of a run: looked at past mus' own code, held up, and on PostgreSQL killed."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from signal import SIGQUIT
from typing import Any, Protocol, TypeVar

import asyncpg

from postgresql_server import ServerProcess, connected

KINDS = ("sqlite", "postgresql")
Row = Mapping[str, Any]
T = TypeVar("T")


class OwnDatabase(Protocol):
    """Blocking; from any thread."""

    #: MUS_DATABASE_URL; None is SQLite in the data folder.
    url: str | None

    def rows(self, query: str, *parameters: Any) -> Sequence[Row]:
        """What a query finds; `?` stands for a parameter."""

    def hold(self, seconds: float) -> None:
        """Let nobody write for so long."""

    def kill(self, seconds: float) -> None:
        """The server crashes, and comes back after so long."""

    def faults_found(self) -> list[str]:
        """What the database says is wrong with itself."""

    def close(self) -> None: ...


def own_database(kind: str, data_dir: Path) -> OwnDatabase:
    return PostgresqlOfARun() if kind == "postgresql" else SqliteFile(data_dir / "mus.db")


class SqliteFile:
    url = None

    def __init__(self, file: Path) -> None:
        self._file = file

    def rows(self, query: str, *parameters: Any) -> Sequence[Row]:
        with closing(sqlite3.connect(self._file, timeout=30)) as connection:
            connection.row_factory = lambda cursor, row: dict(
                zip((column[0] for column in cursor.description), row, strict=True)
            )
            return connection.execute(query, parameters).fetchall()

    def hold(self, seconds: float) -> None:
        with closing(sqlite3.connect(self._file, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def kill(self, seconds: float) -> None:
        raise NotImplementedError("there is no server")

    def faults_found(self) -> list[str]:
        answer = [row["integrity_check"] for row in self.rows("PRAGMA integrity_check")]
        return [] if answer == ["ok"] else [f"integrity check: {line}" for line in answer[:3]]

    def close(self) -> None:
        pass


class PostgresqlOfARun:
    """A server of the run's own, which keeps what it has acknowledged."""

    def __init__(self) -> None:
        self._server = ServerProcess(synchronous_commit="on", autovacuum="on")
        self._server.create()
        self._server.start()
        self.url = self._server.url.render_as_string(hide_password=False)
        # The driver needs an event loop, and who asks here is in one of his own.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def rows(self, query: str, *parameters: Any) -> Sequence[Row]:
        numbers = count(1)
        return self._run(self._fetch(re.sub(r"\?", lambda _: f"${next(numbers)}", query), parameters))

    async def _fetch(self, query: str, parameters: Sequence[Any]) -> Sequence[Row]:
        deadline = time.monotonic() + 30
        while True:
            try:
                return await self._fetch_now(query, parameters)
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
                # Killed, and not back yet.
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def _fetch_now(self, query: str, parameters: Sequence[Any]) -> Sequence[Row]:
        connection = await connected(self._server.url)
        try:
            return [dict(row) for row in await connection.fetch(query, *parameters)]
        finally:
            await connection.close()

    def hold(self, seconds: float) -> None:
        self._run(self._hold(seconds))

    async def _hold(self, seconds: float) -> None:
        connection = await connected(self._server.url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE jobs, tracks, workers IN EXCLUSIVE MODE")
                await asyncio.sleep(seconds)
        except asyncpg.DeadlockDetectedError:
            pass  # this one gave way
        finally:
            await connection.close()

    def kill(self, seconds: float) -> None:
        self._server.stop(SIGQUIT)
        time.sleep(seconds)
        self._server.start()

    def faults_found(self) -> list[str]:
        deadlocks = self.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        found = deadlocks[0]["deadlocks"]
        return [f"{found} deadlocks since the server's last start"] if found else []

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._server.remove()
