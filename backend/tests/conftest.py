"""What every test may lean on: a real broker on which Redis Functions are forbidden, or the one that
MUS_TEST_BROKER_URL names, and real databases."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, update

from broker_rules import NAMED_BROKER, NO_FUNCTIONS, forget_queues, queue_of
from mus.broker.embedded_server import EmbeddedServer
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings, load_settings
from mus.jobs.schedules import schedule_entries
from mus.ledger.schedules import add_missing
from mus.persistence.database import Database
from mus.persistence.models import Schedule, utc_now
from postgresql_server import NoPostgresqlError, PostgresqlServer, ServerProcess, memory_folder
from sqlite_template import SqliteTemplate

# What is imported and collected stays to the end: looking through it again and again for what may go took a third
# of the CPU time of collecting, and a quarter of the tests' own. What tests make is collected as ever.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first, where several workers share the tests: one that began last would be waited for alone.

    How long a test may take tells, roughly, how long it does.
    """
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=_allowed_seconds, reverse=True)


def _allowed_seconds(item: pytest.Item) -> float:
    timeout = item.get_closest_marker("timeout")
    return float(timeout.args[0]) if timeout else float(item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker, shared by all tests: use `queue_name` to stay apart, and flush nothing."""
    if NAMED_BROKER:
        try:
            yield NAMED_BROKER
        finally:
            forget_queues(NAMED_BROKER)
        return
    server = EmbeddedServer(tmp_path_factory.mktemp("data"), extra_arguments=NO_FUNCTIONS)
    server.start()
    try:
        server.wait_until_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory for a test of thousands of files, removed at its end; on disk where there is too little.

    To make a file on ext4 took 0.5 ms of CPU, here 0.02.
    """
    memory = memory_folder()
    if memory is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix=f"mus-test-{os.getpid()}-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def queue_name() -> str:
    """A queue of this test's own."""
    return queue_of(secrets.token_hex(6))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL, started for the first test that asks for it."""
    if named := os.environ.get("MUS_TEST_DATABASE_URL"):
        databases = PostgresqlServer(make_url(named))
        yield databases
        asyncio.run(databases.drop_template())
        return
    try:
        server = ServerProcess()
        try:
            server.create()
            server.start()
            yield PostgresqlServer(server.url)
        finally:
            server.remove()
    except NoPostgresqlError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    return SqliteTemplate(tmp_path_factory.mktemp("migrated") / "mus.db")


@pytest.fixture
def database_kind() -> str:
    """`sqlite`; folders whose tests run on both databases have a fixture of this name with parameters."""
    return "sqlite"


@pytest.fixture
async def database_url(request: pytest.FixtureRequest, database_kind: str) -> AsyncIterator[str | None]:
    """MUS_DATABASE_URL for this test: a migrated database of its own, or None for SQLite in its data folder."""
    if database_kind == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    url = await server.new_database()
    yield url.render_as_string(hide_password=False)
    await server.drop(url)


@pytest.fixture
def settings(tmp_path: Path, broker_url: str, queue_name: str, database_url: str | None) -> Settings:
    """Settings of this test's own, with times short enough to see workers die."""
    return load_settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        dragonfly_url=broker_url,
        queue_name=queue_name,
        beat_seconds=0.1,
        # Long enough that a worker on a busy machine is not taken for dead by mistake: it has four attempts.
        dead_after_seconds=2.0,
        reconcile_seconds=0.1,
        drain_seconds=5.0,
        # No scan comes by itself, not even in a test that runs at 23 minutes past the hour.
        scan_schedule="0 0 1 1 *",
    )


@pytest.fixture
async def database(settings: Settings, sqlite_template: SqliteTemplate) -> AsyncIterator[Database]:
    """A real, migrated database of this test's own."""
    database = Database(settings.sqlalchemy_url)
    if database.is_sqlite:
        await sqlite_template.copy_to(database.url)
    yield database
    await database.close()


@pytest.fixture
async def runtime(settings: Settings, database: Database, broker_url: str) -> AsyncIterator[Runtime]:
    """Database and broker, open; no worker runs."""
    async with broker.connected(database, broker_url, settings.queue_name) as connection:
        yield Runtime(settings, database, connection)


@pytest.fixture
async def no_schedules(runtime: Runtime) -> None:
    """No job comes by itself, whatever the time: between 3 and 6 in the night, those of the maintenance do."""
    async with runtime.database.unit_of_work() as work:
        entries = schedule_entries(runtime.settings.scan_schedule)
        await add_missing(work.session, entries, is_sqlite=runtime.database.is_sqlite)
        await work.session.execute(update(Schedule).values(enabled=False, edited_at=utc_now()))
