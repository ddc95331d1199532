"""Real worker processes for tests, ended however the test goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL

from forked_process import ForkedProcess
from mus.config import Settings
from mus.persistence.database import Database
from postgresql_server import connected
from waiting import until

PROGRAM = Path(__file__).parent / "fault_worker.py"


def environment(settings: Settings) -> dict[str, str]:
    """The settings of a test as the environment of its processes."""
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
        "PYTHONPATH": str(PROGRAM.parent),
        **{f"MUS_{name.upper()}": str(value) for name, value in given.items()},
    }


async def freeze(process: subprocess.Popen[bytes], database: Database) -> None:
    """Have it stand still, but not in a transaction: everybody would wait for SQLite's one lock for writing, or for
    a row of PostgreSQL's."""
    while True:
        process.send_signal(signal.SIGSTOP)
        await until(lambda: has_stopped(process), what="the process to stand still")
        if await is_free(database):
            return
        process.send_signal(signal.SIGCONT)
        # It gets on before it is stopped again: on a busy machine it stood in the same transaction for ever.
        await until(lambda: is_free(database), what="the end of its transaction")


async def is_free(database: Database) -> bool:
    """Whether nobody is in a transaction now, or is out of it within two seconds; on SQLite, in one that writes."""
    if database.is_sqlite:
        return await asyncio.to_thread(_can_be_written, database)
    return await _transactions_end(database.url)


async def dead(process: subprocess.Popen[bytes]) -> bool:
    """Whether it was killed, as it was to be. Fails the test when it ended by itself."""
    status = process.poll()
    assert status in {None, -signal.SIGKILL}, f"the process ended with {status}"
    return status is not None


async def has_stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether it stands still since it was asked last."""
    return os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0] == process.pid


def _can_be_written(database: Database) -> bool:
    """Whether nobody holds SQLite's one lock for writing for good."""
    with closing(sqlite3.connect(str(database.url.database), timeout=2.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


async def _transactions_end(url: URL) -> bool:
    connection = await connected(url)
    deadline = time.monotonic() + 2.0
    try:
        while await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND xact_start IS NOT NULL"
        ):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True
    finally:
        await connection.close()


@contextmanager
def worker_process(settings: Settings, *stop_at: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `fault_worker`, stopped in good order at the end if it still runs."""
    process = ForkedProcess[bytes](
        [sys.executable, str(PROGRAM), *stop_at],
        env=environment(settings),
        stderr=subprocess.DEVNULL if not os.environ.get("SHOW") else None,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@contextmanager
def doomed_process(settings: Settings, program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that a test means to lose: killed at the end if it still runs."""
    process = ForkedProcess[bytes](
        [sys.executable, str(program), *arguments],
        env=environment(settings),
        stderr=subprocess.DEVNULL if not os.environ.get("SHOW") else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
