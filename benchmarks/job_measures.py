"""Jobs, next to plain streaQ, arq, SAQ and taskiq, all on one embedded Valkey in a folder made for the run.

Every side is one worker and producers in processes of their own; plain streaQ has three priorities and, as the
others, as many slots as mus's lanes have together. mus keeps its ledger in SQLite, as it does by default.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import redis
from job_sides import marks
from measuring import Measuring
from process_trees import cpu_seconds, run, running, wait_until
from scanners import clean_environment

from mus.broker.embedded_server import EmbeddedServer
from mus.broker.queues import POLICIES, Queue
from mus.jobs import JOB_MODULES

SIDES = Path(__file__).parent / "job_sides"
LOW_SECONDS, FLOODED_LOW_SECONDS = 2.0, 0.05
GAP_SECONDS = 0.08
#: High-priority jobs that the producers of the flood keep waiting.
BACKLOG, FLOODERS = 300, 2
PROBES, WAITING, JOBS = 100, 20_000, 900
FLOOD_SECONDS = 6.0


@dataclass
class Side:
    """One of the systems: how its processes are started, and where they note what they did."""

    name: str
    worker: list[str]
    producer: list[str]
    #: Slots that low-priority jobs may use.
    low_slots: int
    environment: dict[str, str]
    folder: Path
    broker_pid: int
    marks_path: Path = Path()
    _process: subprocess.Popen[bytes] | None = None

    def fresh(self, phase: str) -> None:
        """A database, a queue and marks of this phase's own."""
        folder = self.folder / phase / self.name
        folder.mkdir(parents=True)
        self.marks_path = folder / "marks"
        self.environment |= {
            "BENCH_MARKS": str(self.marks_path),
            "BENCH_QUEUE": f"bench-{phase}-{self.name}",
            "MUS_QUEUE_NAME": f"{{mus-{phase}}}",
            "MUS_DATA_DIR": str(folder),
        }

    def produce(self, *arguments: object) -> dict[str, Any]:
        command = [*self.producer, *(str(argument) for argument in arguments)]
        found: dict[str, Any] = json.loads(run(command, environment=self.environment, limit_seconds=300).output)
        return found

    @contextmanager
    def working(self) -> Iterator[int]:
        """The worker's process id."""
        with running(self.worker, environment=self.environment, log=self._log) as process:
            self._process = process
            yield process.pid
        self._process = None

    @property
    def _log(self) -> Path:
        return self.marks_path.with_name("log")

    def count(self, kind: str, begin: int = 0) -> int:
        return sum(mark.kind == kind for mark in marks.read(self.marks_path, begin))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Raises RuntimeError with its last words when the worker ends, TimeoutError after three minutes."""

        def over() -> bool:
            if self._process is not None and self._process.poll() is not None:
                raise RuntimeError(f"the worker of {self.name} ended: {self._log.read_text()[-1000:]}")
            return condition()

        wait_until(over, f"{what} of {self.name}", seconds=180, every=0.02)

    def wait_for_marks(self, count: int) -> None:
        self.wait_until(lambda: marks.count(self.marks_path) >= count, f"{count} jobs")


def pick_up(m: Measuring) -> None:
    """A high-priority job behind low ones that hold every slot: from its enqueue call until its function runs."""
    probes, waiting = m.options.scaled(PROBES, 10), m.options.scaled(WAITING, 200)
    figure = f"pick-up behind {waiting:,} low-priority jobs of {LOW_SECONDS:.0f} s"
    with _sides(m, ("streaQ",)) as sides:
        for side in sides:
            side.fresh("pick-up")
            side.produce("fill", "low", "l", waiting, LOW_SECONDS)
        for number, side in enumerate(m.turns(figure, sides), 1):
            before = marks.count(side.marks_path)
            with side.working():
                side.wait_until(lambda s=side, b=before: s.count("l", b) >= s.low_slots, "low jobs in every slot")
                times = side.produce("probe", probes, GAP_SECONDS, number)["times"]
                side.wait_until(lambda s=side, b=before: s.count("p", b) >= probes, "the last high-priority job")
            ran = {mark.token: mark.at_ns for mark in marks.read(side.marks_path, before) if mark.kind == "p"}
            m.note(figure, side.name, "ms", [(ran[int(token)] - since[0]) / 1e6 for token, since in times.items()])


def flood(m: Measuring) -> None:
    """Low-priority jobs that finish per second while urgent ones never run out, as a part of what they do alone."""
    seconds = max(1.0, FLOOD_SECONDS * m.options.scale)
    kept = f"kept of low-priority jobs of {FLOODED_LOW_SECONDS * 1000:.0f} ms, in a flood of urgent ones"
    with _sides(m, ("streaQ",)) as sides:
        for number, side in enumerate(m.turns("flood", sides), 1):
            side.fresh(f"flood{number}")
            # More than the slots could ever run in the time.
            count = int(side.low_slots * (2 * seconds + 10) / FLOODED_LOW_SECONDS)
            side.produce("fill", "low", "l", count, FLOODED_LOW_SECONDS)
            with side.working():
                side.wait_until(lambda s=side: s.count("L") >= s.low_slots, "low jobs")
                alone = _per_second(side, seconds, "L")["L"]
                command = [*side.producer, "flood", str(BACKLOG)]
                producers = [
                    subprocess.Popen(command, env=side.environment, stdout=subprocess.PIPE, text=True)
                    for _ in range(FLOODERS)
                ]
                try:
                    side.wait_until(lambda s=side: s.count("h") > BACKLOG, "the flood")
                    flooded = _per_second(side, seconds, "L", "h")
                finally:
                    for producer in producers:
                        producer.terminate()
                    least = [
                        json.loads(producer.communicate(timeout=30)[0])["least_waiting"] for producer in producers
                    ]
            if not min(least):
                m.remark(f"{side.name}: for moments no urgent job waited")
            m.note(kept, side.name, "%", flooded["L"] / alone * 100, more_is_better=True)
            m.note("urgent jobs of that flood", side.name, "jobs/s", flooded["h"], more_is_better=True)


def _per_second(side: Side, seconds: float, *kinds: str) -> dict[str, float]:
    before, began = marks.count(side.marks_path), time.monotonic()
    time.sleep(seconds)
    marked = marks.read(side.marks_path, before)
    took = time.monotonic() - began
    return {kind: sum(mark.kind == kind for mark in marked) / took for kind in kinds}


def jobs(m: Measuring) -> None:
    """Jobs without work: enqueued one by one and in bulk, completed, and what one costs all processes together."""
    count = m.options.scaled(JOBS, 90)
    m.remark(
        "in bulk: mus and streaQ have calls for many jobs; of the others a hundred calls are under way at a time"
    )
    m.remark("CPU: of producer, worker and broker, from the enqueueing of jobs in bulk until all have run")
    with _sides(m, ("streaQ", "arq", "SAQ", "taskiq")) as sides:
        for number, side in enumerate(m.turns("jobs", sides), 1):
            side.fresh(f"jobs{number}")
            try:
                _jobs_of(m, side, count)
            except Exception as error:
                if side.name == "mus":
                    raise
                m.skip(side.name, f"{type(error).__name__}: {error}")


def _jobs_of(m: Measuring, side: Side, count: int) -> None:
    enqueued = side.produce("enqueue", count)
    with side.working() as pid:
        side.wait_for_marks(enqueued["enqueued"])
        ran = [mark.at_ns for mark in marks.read(side.marks_path)]
        time.sleep(0.5)
        before = cpu_seconds(pid) + cpu_seconds(side.broker_pid)
        spent = side.produce("fill", "medium", "c", count, 0.0)["cpu_seconds"]
        side.wait_for_marks(enqueued["enqueued"] + 1 + count)
        time.sleep(0.3)
        spent += cpu_seconds(pid) + cpu_seconds(side.broker_pid) - before
    rates = {
        "enqueued one by one": enqueued["one_at_a_time_per_second"],
        "enqueued in bulk": enqueued["in_bulk_per_second"],
        "completed": (len(ran) - 1) / ((max(ran) - min(ran)) / 1e9),
    }
    for figure, rate in rates.items():
        m.note(f"jobs {figure}", side.name, "jobs/s", rate, more_is_better=True)
    m.note("CPU of a job", side.name, "µs", spent / count * 1e6)


@contextmanager
def _sides(m: Measuring, others: tuple[str, ...]) -> Iterator[list[Side]]:
    """mus and the others that are there and wanted, on a broker of their own."""
    folder = m.options.scratch / m.found.name
    server = EmbeddedServer(folder / "broker")
    server.start()
    try:
        server.wait_until_ready()
        yield list(_found_sides(m, others, folder, server))
        with redis.from_url(server.url) as client:
            client.flushall()
    finally:
        server.stop()


def _found_sides(m: Measuring, others: tuple[str, ...], folder: Path, server: EmbeddedServer) -> Iterator[Side]:
    slots = sum(policy.slots for policy in POLICIES.values())
    environment = mus_worker_environment(server.url, BENCH_URL=server.url, BENCH_SLOTS=str(slots))
    broker_pid = server.process_id or 0
    yield mus_side(environment, folder, broker_pid)
    for name in others:
        if not m.wants(name):
            continue
        python = sys.executable
        try:
            if name != "streaQ":
                python = str(peers.environment(m.options.environments, name) / "python")
        except peers.PeerMissingError as error:
            m.skip(name, str(error))
            continue
        script = str(SIDES / f"on_{name.lower()}.py")
        worker = [python, script, "worker"]
        if name == "taskiq":
            options = ["--workers", "1", "--max-async-tasks", str(slots), "--log-level", "WARNING"]
            worker = [str(Path(python).with_name("taskiq")), "worker", *options, "on_taskiq:broker"]
        yield Side(name, worker, [python, script], slots, dict(environment), folder, broker_pid)


def mus_worker_environment(broker_url: str, **more: str) -> dict[str, str]:
    return clean_environment(PYTHONPATH=str(SIDES), MUS_DRAGONFLY_URL=broker_url, **more)


def mus_side(environment: dict[str, str], folder: Path, broker_pid: int) -> Side:
    return Side(
        "mus",
        [sys.executable, "-m", "mus", "worker", "on_mus", *JOB_MODULES],
        [sys.executable, str(SIDES / "on_mus.py")],
        POLICIES[Queue.LOW].slots,
        dict(environment),
        folder,
        broker_pid,
    )
