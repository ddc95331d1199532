"""Processes and the broker die at every named point; the ledger makes it harmless (DESIGN §4)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from sqlalchemy import func, select, text

from broker_rules import NO_FUNCTIONS
from fault_worker import CREATE_EFFECTS, POINTS, family, leaf
from mus.broker.embedded_server import EmbeddedServer
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.database import Database
from mus.persistence.models import Job, WorkerRow
from waiting import until
from worker_processes import is_free, worker_process

CHILDREN = 6


@pytest.fixture
async def ledgered(runtime: Runtime) -> Runtime:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    return runtime


async def all_ended(database: Database) -> bool:
    async with database.reading() as session:
        open_jobs = select(func.count()).select_from(Job).where(Job.state.not_in(TERMINAL_STATES))
        return (await session.execute(open_jobs)).scalar_one() == 0


async def assert_every_effect_is_there_once(database: Database, *names: str) -> None:
    async with database.reading() as session:
        states = (await session.execute(select(Job.task, Job.state, Job.children_open, Job.error_message))).all()
        traces = (await session.execute(text("SELECT name FROM effects ORDER BY name"))).scalars().all()
    assert [row for row in states if row.state != "succeeded" or row.children_open] == []
    assert list(traces) == sorted(names)


def expected(name: str) -> list[str]:
    return [f"{name}/{number}" for number in range(CHILDREN)] + ["reunion"]


async def enqueue_family(database: Database) -> str:
    async with database.unit_of_work():
        return await broker.enqueue(Queue.HIGH, family, name="f", children=CHILDREN)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_killed_at_a_named_point_loses_and_doubles_nothing(
    point: str, settings: Settings, ledgered: Runtime, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    with worker_process(settings, point, "SIGKILL", str(marker)) as doomed:
        await until(lambda: alive_workers(ledgered.database, 1), what="the first worker")
        await enqueue_family(ledgered.database)
        await until(lambda: ended(doomed), what=f"death at {point!r}")
        assert doomed.returncode == -signal.SIGKILL
        with worker_process(settings):
            await until(lambda: all_ended(ledgered.database), what="every job's end")
    await assert_every_effect_is_there_once(ledgered.database, *expected("f"))


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_frozen_past_its_time_and_woken_changes_nothing_any_more(
    point: str, settings: Settings, ledgered: Runtime, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    with worker_process(settings, point, "SIGSTOP", str(marker)) as frozen:
        await until(lambda: alive_workers(ledgered.database, 1), what="the first worker")
        await enqueue_family(ledgered.database)
        await until(lambda: is_stopped(frozen.pid), what=f"the stop at {point!r}")
        locked = point == "row written" or not await is_free(ledgered.database)
        with worker_process(settings):
            if locked:
                # It sleeps in a transaction, its heartbeat's perhaps: the others wait until it wakes.
                os.kill(frozen.pid, signal.SIGCONT)
            else:
                await until(lambda: declared_dead(ledgered.database), what="the frozen worker's death")
                await until(lambda: all_ended(ledgered.database), what="every job's end")
                os.kill(frozen.pid, signal.SIGCONT)
                await until(lambda: alive_workers(ledgered.database, 2), what="the woken worker's beat")
            await until(lambda: all_ended(ledgered.database), what="every job's end")
    await assert_every_effect_is_there_once(ledgered.database, *expected("f"))


async def ended(process: object) -> bool:
    return process.poll() is not None  # type: ignore[attr-defined]


async def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def alive_workers(database: Database, count: int) -> bool:
    async with database.reading() as session:
        rows = await session.execute(select(WorkerRow.id).where(WorkerRow.state == "alive"))
        return len(rows.all()) >= count


async def declared_dead(database: Database) -> bool:
    async with database.reading() as session:
        return (await session.execute(select(WorkerRow.id).where(WorkerRow.state == "dead"))).first() is not None


# ---------------------------------------------------------------- the broker


@pytest.fixture
async def own_broker(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedServer]:
    """A broker that a test may break."""
    arguments = (*NO_FUNCTIONS, *getattr(request, "param", ()))
    server = EmbeddedServer(tmp_path / "b", extra_arguments=arguments)
    await asyncio.to_thread(server.start)
    try:
        await server.ready(10)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def wipe(server: EmbeddedServer) -> None:
    async with redis.asyncio.from_url(server.url) as client:
        await client.flushall()


async def flush_scripts(server: EmbeddedServer) -> None:
    async with redis.asyncio.from_url(server.url) as client:
        await client.script_flush()


async def kill(server: EmbeddedServer) -> None:
    assert server.process_id is not None
    os.kill(server.process_id, signal.SIGKILL)


async def restart_empty(server: EmbeddedServer) -> None:
    await asyncio.to_thread(server.stop)
    folder = Path(server.socket_path).parent
    for left in folder.glob("append*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    await asyncio.to_thread(server.start)


async def fall_back(server: EmbeddedServer) -> None:
    """As DragonflyDB, which has snapshots only: messages that were done are there again, newer ones are not."""
    snapshot = Path(server.socket_path).parent / "dump.rdb"
    if snapshot.exists():
        await kill(server)
        return
    async with redis.asyncio.from_url(server.url) as client:
        await client.save()
    assert snapshot.exists()


ONLY_SNAPSHOTS = ("--appendonly", "no")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "own_broker"),
    [(wipe, ()), (kill, ()), (restart_empty, ()), (flush_scripts, ()), (fall_back, ONLY_SNAPSHOTS)],
    indirect=["own_broker"],
)
async def test_a_broker_that_fails_while_jobs_run_loses_no_job(
    fault: object, settings: Settings, database: Database, own_broker: EmbeddedServer
) -> None:
    settings = settings.model_copy(update={"dragonfly_url": own_broker.url})
    async with broker.connected(database, own_broker.url, settings.queue_name):
        async with database.unit_of_work() as work:
            await work.session.execute(text(CREATE_EFFECTS))
        with worker_process(settings) as worker:
            await until(lambda: alive_workers(database, 1), what="the worker")
            names: list[str] = []
            for turn in range(3):
                async with database.unit_of_work():
                    for number in range(20):
                        names.append(f"{turn}/{number}")
                        await broker.enqueue([*Queue][number % 3], leaf, name=names[-1], seconds=0.1)
                    await broker.enqueue(Queue.HIGH, family, name=f"f{turn}", children=CHILDREN)
                names += expected(f"f{turn}")
                await until(lambda: some_run(database), what="running jobs")
                await fault(own_broker)  # type: ignore[operator]
                await own_broker.ready(10)
            await until(lambda: all_ended(database), seconds=45, what="every job's end")
            assert worker.poll() is None, "the worker must live through it"
    await assert_every_effect_is_there_once(database, *names)


async def some_run(database: Database) -> bool:
    async with database.reading() as session:
        return (await session.execute(select(Job.id).where(Job.state == "running"))).first() is not None
