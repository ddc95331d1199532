"""A PostgreSQL that goes away under everything that runs, and comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import func, select, text

from api.rows import calling
from fault_worker import CREATE_EFFECTS, leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.errors import AdminRequiredError, TemporaryError
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.database import Database
from mus.persistence.models import Job
from postgresql_server import PostgresqlServer, ServerProcess
from waiting import until
from worker_processes import worker_process

JOBS = 60


@pytest.fixture
def server(postgresql: PostgresqlServer) -> Iterator[ServerProcess]:
    """One of this test's own that keeps what it has acknowledged; where the shared one runs, this one does."""
    server = ServerProcess(synchronous_commit="on")
    server.create()
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def database_url(server: ServerProcess) -> str:
    url = await PostgresqlServer(server.url).new_database()
    return url.render_as_string(hide_password=False)


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_a_server_that_comes_back_finds_every_job_and_every_effect_once(
    how: signal.Signals, server: ServerProcess, runtime: Runtime
) -> None:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    async with calling(runtime) as client:
        with worker_process(runtime.settings) as worker:
            async with runtime.database.unit_of_work():
                for number in range(JOBS):
                    await broker.enqueue(Queue.LOW, leaf, name=f"{number}", seconds=0.05)
            await until(lambda: ended(runtime.database, 5), what="the first jobs")
            server.stop(how)
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "unavailable")
            for method, path in (("GET", "/tracks"), ("GET", "/jobs"), ("POST", "/queues/low_priority/pause")):
                assert_unavailable(await client.request(method, path))
            server.start()
            await until(lambda: ended(runtime.database, JOBS), what="the end of every job")
            assert (await client.get("/health")).status_code == 200
            assert worker.poll() is None
    async with runtime.database.reading() as session:
        states = await session.scalars(select(Job.state).distinct())
        assert states.all() == ["succeeded"]
        effects = await session.scalars(text("SELECT name FROM effects"))
        assert sorted(effects.all(), key=int) == [f"{number}" for number in range(JOBS)]


async def test_a_server_that_is_away_is_a_temporary_error_and_waited_for_at_the_start(
    server: ServerProcess, runtime: Runtime
) -> None:
    server.stop()
    with pytest.raises(TemporaryError, match="The database could not do this now"):
        async with runtime.database.unit_of_work() as work:
            await work.session.execute(select(Job.id))
    later = Database(runtime.database.url.set(password="secret"))
    with pytest.raises(AdminRequiredError, match=r"cannot be used: .*cannot be reached") as refused:
        await later.migrate(wait_seconds=0)
    assert "secret" not in refused.value.user_message
    # One that is only about to start is waited for.
    waiting = asyncio.create_task(later.migrate())
    server.start()
    await waiting
    await later.close()


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0


async def ended(database: Database, count: int) -> bool:
    async with database.reading() as session:
        return (await session.scalar(select(func.count()).where(Job.state.in_(TERMINAL_STATES))) or 0) >= count
