"""What more workers bring: 1, 2 and 4 worker processes on one broker and one database, SQLite and PostgreSQL.

Everything runs on this machine, so the figures show what the shared parts allow and when the cores are used up,
not what as many machines would do. Each number of workers has a broker, a database and a data folder of its own.
PostgreSQL writes to disk as it does by default.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import corpora
from job_measures import Side, mus_side, mus_worker_environment
from job_sides import marks
from measuring import Measuring
from process_trees import memory_mib, own_memory_mib, run, wait_until
from scanners import MUS
from sqlalchemy import URL, text

from mus.broker.embedded_server import EmbeddedServer
from mus.persistence.database import Database

COUNTS, DATABASES = (1, 2, 4), ("sqlite", "postgresql")
WAIT_SECONDS = 0.1
JOBS, WAITING_JOBS = 3_000, 400
_TESTS = Path(__file__).parents[1] / "backend" / "tests"


def workers(m: Measuring) -> None:
    """Rates of 1, 2 and 4 worker processes on one broker and one database, SQLite and PostgreSQL."""
    music = m.corpus(m.options.tracks)
    corpora.warm(music)
    m.remark(
        f"jobs that wait take {WAIT_SECONDS * 1000:.0f} ms, as for a network: a worker has a fixed number of slots"
    )
    turns = [(kind, count) for kind in DATABASES for count in COUNTS]
    for number, (kind, count) in enumerate(m.turns("workers", turns)):
        folder = m.options.scratch / f"workers {number}"
        server = EmbeddedServer(folder / "broker")
        server.start()
        try:
            server.wait_until_ready()
            with _database(kind) as url:
                more = {"MUS_DATABASE_URL": url} if url else {}
                side = mus_side(mus_worker_environment(server.url, **more), folder, server.process_id or 0)
                side.fresh("workers")
                _measure(m, side, kind, count, music)
        finally:
            server.stop()


def _measure(m: Measuring, side: Side, kind: str, count: int, music: Path) -> None:
    name = f"mus, {count} worker{'s' * (count > 1)}, {kind}"
    for figure, letter, level, seconds, jobs in (
        ("jobs completed", "n", "low", 0.0, m.options.scaled(JOBS, 90)),
        ("waiting jobs completed", "v", "low", WAIT_SECONDS, m.options.scaled(WAITING_JOBS, 20)),
    ):
        side.produce("fill", level, letter, jobs, seconds)
        before = marks.count(side.marks_path)
        with _workers(side, count):
            wait_until(lambda: side.count(letter, before) >= jobs, f"{jobs} jobs", seconds=600)  # noqa: B023
        ran = [mark.at_ns for mark in marks.read(side.marks_path, before) if mark.kind == letter]
        m.note(figure, name, "jobs/s", (len(ran) - 1) / ((max(ran) - min(ran)) / 1e9), more_is_better=True)
    with _workers(side, count) as pids:
        wait_until(lambda: asyncio.run(_living(side)) >= count, "the workers")
        result = json.loads(run([*MUS, "scan", "--music", music, "--json"], environment=side.environment).output)
        m.note("first scan", name, "files/s", result["found"] / result["seconds"], more_is_better=True)
        own, readers = statistics.mean(map(own_memory_mib, pids)), statistics.mean(map(memory_mib, pids))
        m.note("memory of a worker", name, "MiB", own)
        m.note("memory of its readers", name, "MiB", readers - own)


@contextmanager
def _workers(side: Side, count: int) -> Iterator[list[int]]:
    with ExitStack() as stack:
        yield [stack.enter_context(side.working()) for _ in range(count)]


async def _living(side: Side) -> int:
    """Workers that have signed on."""
    file = str(Path(side.environment["MUS_DATA_DIR"]) / "mus.db")
    own = URL.create("sqlite+aiosqlite", database=file).render_as_string()
    database = Database(side.environment.get("MUS_DATABASE_URL", own))
    try:
        async with database.reading() as session:
            rows = await session.execute(text("SELECT count(*) FROM workers WHERE state = 'alive'"))
            return int(rows.scalar_one())
    finally:
        await database.close()


@contextmanager
def _database(kind: str) -> Iterator[str | None]:
    """The address of a new database; None for SQLite, which lies in the data folder."""
    if kind == "sqlite":
        yield None
        return
    sys.path.insert(0, str(_TESTS))
    from postgresql_server import ServerProcess

    durable = dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "autovacuum"), "on")
    server = ServerProcess(**durable, shared_buffers="128MB")
    try:
        server.create()
        server.start()
        yield server.url.render_as_string(hide_password=False)
    finally:
        server.remove()
