"""Measure what more workers bring: 1, 2 and 4 worker processes on one broker and one database.

    python benchmarks/scale.py [--workers 1 2 4] [--databases sqlite postgresql] [--rounds 3] [--json]

Everything runs on this machine, so the figures show what the shared parts allow and when the cores are used up,
not what as many machines would do. In turns: each number of workers once in every round, on a broker, a database
and a data folder of its own; medians of the rounds. PostgreSQL writes to disk as it does by default.

jobs/s          jobs without work, enqueued in bulk before the workers start, from the first that ran to the last
waiting jobs/s  jobs that wait 100 ms, as for a network: a worker has a fixed number of slots
files/s         a first scan of the library, files by its seconds from request to end
MiB             proportional set size (PSS) of a worker process, mean, and of its readers together, after the scan
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import marks
from first_light import make_corpus
from priority import HERE, Side, ended, wait_until
from sqlalchemy import URL, create_engine, text

from mus.broker.embedded_server import EmbeddedServer
from mus.broker.queues import POLICIES, Queue

WAIT_SECONDS = 0.1
FIGURES = ("jobs/s", "waiting jobs/s", "files/s", "worker MiB", "readers MiB")


@contextmanager
def workers(side: Side, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ended(side.start(side.worker))) for _ in range(count)]


def serving(side: Side, count: int) -> bool:
    """Whether so many workers have signed on."""
    url = URL.create("sqlite", database=str(Path(side.environment["MUS_DATA_DIR"]) / "mus.db"))
    if named := side.environment.get("MUS_DATABASE_URL"):
        return asyncio.run(_living(named)) >= count
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(_LIVING)).scalar_one()) >= count
    finally:
        engine.dispose()


_LIVING = "SELECT count(*) FROM workers WHERE state = 'alive'"


async def _living(url: str) -> int:
    from mus.persistence.database import Database

    database = Database(url)
    try:
        async with database.reading() as session:
            return int((await session.execute(text(_LIVING))).scalar_one())
    finally:
        await database.close()


def rate(side: Side, kind: str, level: str, count: int, seconds: float, with_workers: int) -> float:
    side.produce("fill", level, kind, count, seconds)
    before = marks.count(side.marks_path)
    last = count if not seconds else 2 * count
    with workers(side, with_workers):
        wait_until(lambda: marks.count(side.marks_path) - before >= last, f"{count} jobs", seconds=600)
    ran = [mark.at_ns for mark in marks.read(side.marks_path, before) if mark.kind == kind]
    return (len(ran) - 1) / ((max(ran) - min(ran)) / 1e9)


def scanned(side: Side, music: Path, with_workers: int) -> dict[str, float]:
    with workers(side, with_workers) as processes:
        wait_until(lambda: serving(side, with_workers), "the workers")
        command = [sys.executable, "-m", "mus", "scan", "--music", str(music), "--json"]
        done = subprocess.run(command, env=side.environment, text=True, stdout=subprocess.PIPE, check=True)
        result = json.loads(done.stdout)
        memory = [memory_of(process.pid) for process in processes]
    return {
        "files/s": result["found"] / result["seconds"],
        "worker MiB": statistics.mean(own for own, _ in memory),
        "readers MiB": statistics.mean(readers for _, readers in memory),
    }


def memory_of(pid: int) -> tuple[float, float]:
    """PSS in MiB of a process, and of all below it together."""
    children = [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return _pss(pid), sum(sum(memory_of(child)) for child in children)


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    server = EmbeddedServer(folder)
    server.start()
    try:
        server.wait_until_ready()
        yield server.url
    finally:
        server.stop()


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    """The address of a new database; None for SQLite, which lies in the data folder."""
    if kind == "sqlite":
        yield None
        return
    sys.path.insert(0, str(HERE.parent / "backend" / "tests"))
    from postgresql_server import ServerProcess

    durable = dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "autovacuum"), "on")
    server = ServerProcess(**durable, shared_buffers="128MB")
    try:
        server.create()
        server.start()
        yield server.url.render_as_string(hide_password=False)
    finally:
        server.remove()


def measure(kind: str, with_workers: int, music: Path, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mus-scale-") as scratch, database(kind) as url:
        folder = Path(scratch)
        with broker(folder / "broker") as broker_url:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("MUS_")},
                "PYTHONPATH": str(HERE),
                "MUS_DRAGONFLY_URL": broker_url,
                "MUS_SCAN_SCHEDULE": "0 0 1 1 *",
                "MUS_LOG_LEVEL": "WARNING",
                **({"MUS_DATABASE_URL": url} if url else {}),
            }
            modules = ["priority_on_mus", "mus.jobs.file_system_jobs", "mus.jobs.metadata_jobs"]
            side = Side(
                "mus",
                [sys.executable, "-m", "mus", "worker", *modules],
                [sys.executable, str(HERE / "priority_on_mus.py")],
                POLICIES[Queue.LOW].slots,
                environment,
                folder,
            )
            side.fresh(f"{kind}{with_workers}")
            return {
                "jobs/s": rate(side, "n", "low", options.jobs, 0.0, with_workers),
                "waiting jobs/s": rate(side, "w", "low", options.waiting_jobs, WAIT_SECONDS, with_workers),
                **scanned(side, music, with_workers),
            }


def print_table(found: dict[str, Any]) -> None:
    print(f"{found['cores']} cores, {found['tracks']} tracks, median of {found['rounds']}; load {found['load']}\n")
    print(f"| database | workers | {' | '.join(FIGURES)} |")
    print(f"|---|---:|{'---:|' * len(FIGURES)}")
    for row in found["rows"]:
        print(f"| {row['database']} | {row['workers']} | {' | '.join(f'{row[name]:,.0f}' for name in FIGURES)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tracks", type=int, default=5_000)
    parser.add_argument("--music", type=Path, help="scan this library instead of a made one; it is only read")
    parser.add_argument("--jobs", type=int, default=3_000, help="jobs without work")
    parser.add_argument("--waiting-jobs", type=int, default=400, help="jobs that wait 100 ms")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    options = parser.parse_args()
    music = options.music or make_corpus(HERE / ".corpus" / str(options.tracks), options.tracks)
    files = [path for path in music.rglob("*") if path.is_file()]
    for path in files:
        path.read_bytes()  # a warm cache
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for kind in options.databases:
            for count in options.workers:
                measured.setdefault((kind, count), []).append(measure(kind, count, music, options))
    rows = [
        {
            "database": kind,
            "workers": count,
            **{name: statistics.median(one[name] for one in ones) for name in FIGURES},
        }
        for (kind, count), ones in measured.items()
    ]
    found = {
        "cores": os.cpu_count(),
        "tracks": len(files),
        "rounds": options.rounds,
        "load": [round(x, 1) for x in os.getloadavg()],
        "rows": rows,
    }
    if options.json:
        print(json.dumps(found))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
