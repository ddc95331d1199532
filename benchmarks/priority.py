"""Measure whether priority holds, next to plain streaQ on the same broker: `make bench`.

    python benchmarks/priority.py [--rounds 2] [--probes 150] [--waiting 20000] [--json]

Plain streaQ is one worker process with three priorities and as many slots as mus's lanes have together. Everything
runs in processes of its own, on one embedded Valkey in a folder made for the run, in turns: mus, streaQ, mus, …

pick-up     low-priority jobs that sleep 2 s in every slot they may use, and 20,000 more waiting: from the begin
            of a high-priority job's enqueue call (and from its commit) until its function runs
flood       high-priority jobs never run out: low-priority jobs of 50 ms finished per second, next to what they
            do alone
throughput  jobs without work, a third at each priority: enqueued one at a time and in bulk, then drained
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import marks
import redis

from mus.broker.embedded_server import EmbeddedServer
from mus.broker.queues import POLICIES, Queue

HERE = Path(__file__).parent
LOW_SECONDS, FLOODED_LOW_SECONDS = 2.0, 0.05
GAP_SECONDS = 0.08
#: High-priority jobs that the producers of the flood keep waiting.
BACKLOG, FLOODERS = 300, 2
TARGET_MS = 50.0


@dataclass
class Side:
    """One of the two systems: how its processes are started, and where they note what they did."""

    name: str
    worker: list[str]
    producer: list[str]
    #: Slots that low-priority jobs may use.
    low_slots: int
    environment: dict[str, str]
    folder: Path
    marks_path: Path = field(init=False)

    def fresh(self, phase: str) -> None:
        """A database, a queue and marks of this phase's own."""
        folder = self.folder / phase / self.name
        folder.mkdir(parents=True)
        self.marks_path = folder / "marks"
        self.environment |= {
            "BENCH_MARKS": str(self.marks_path),
            "BENCH_QUEUE": f"bench-{phase}",
            "MUS_QUEUE_NAME": f"{{mus-{phase}}}",
            "MUS_DATA_DIR": str(folder),
        }

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=self.environment, text=True, **options)

    def produce(self, *arguments: object) -> dict[str, Any]:
        command = [*self.producer, *(str(argument) for argument in arguments)]
        done = subprocess.run(command, env=self.environment, text=True, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextmanager
    def working(self) -> Iterator[subprocess.Popen[str]]:
        with ended(self.start(self.worker)) as process:
            yield process

    def count(self, kind: str, begin: int = 0) -> int:
        return sum(mark.kind == kind for mark in marks.read(self.marks_path, begin))


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, ended with the block."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.02)


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def summary(values: list[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "p50": round(statistics.median(values), 2),
        "p99": round(percentile(values, 0.99), 2),
        "max": round(max(values), 2),
    }


def measure_pick_up(sides: list[Side], rounds: int, probes: int, waiting: int) -> dict[str, Any]:
    milliseconds: dict[str, list[float]] = {}
    for side in sides:
        side.fresh("pick-up")
        side.produce("fill", "low", "l", waiting, LOW_SECONDS)
    for turn in range(rounds):
        for side in sides:
            before = marks.count(side.marks_path)
            with side.working():
                wait_until(lambda s=side, b=before: s.count("l", b) >= s.low_slots, "low jobs in every slot")
                times = side.produce("probe", probes, GAP_SECONDS, turn + 1)["times"]
                wait_until(lambda s=side, b=before: s.count("p", b) >= probes, "the last high-priority job")
            for mark in marks.read(side.marks_path, before):
                if mark.kind != "p":
                    continue
                for since, at_ns in zip(("call", "commit"), times[str(mark.token)], strict=True):
                    if at_ns is not None:
                        name = f"{side.name}, from the {since}"
                        milliseconds.setdefault(name, []).append((mark.at_ns - at_ns) / 1e6)
    return {name: summary(values) for name, values in milliseconds.items()}


def measure_flood(sides: list[Side], seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side in sides:
        side.fresh("flood")
        # More than the slots could ever run in the time.
        side.produce("fill", "low", "l", int(side.low_slots * (2 * seconds + 10) / FLOODED_LOW_SECONDS), 0.05)
        with side.working():
            wait_until(lambda s=side: s.count("L") >= s.low_slots, "low jobs")
            alone = per_second(side, seconds, "L")["L"]
            command = [*side.producer, "flood", str(BACKLOG)]
            producers = [side.start(command, stdout=subprocess.PIPE) for _ in range(FLOODERS)]
            try:
                wait_until(lambda s=side: s.count("h") > BACKLOG, "the flood")
                flooded = per_second(side, seconds, "L", "h")
            finally:
                for producer in producers:
                    producer.terminate()
                least = [json.loads(producer.communicate(timeout=30)[0])["least_waiting"] for producer in producers]
        found[side.name] = {
            "low_alone_per_second": round(alone, 1),
            "low_flooded_per_second": round(flooded["L"], 1),
            "low_kept": round(flooded["L"] / alone, 3),
            "high_flooded_per_second": round(flooded["h"], 1),
            "least_high_waiting": min(least),
        }
    return found


def per_second(side: Side, seconds: float, *kinds: str) -> dict[str, float]:
    before, began = marks.count(side.marks_path), time.monotonic()
    time.sleep(seconds)
    marked = marks.read(side.marks_path, before)
    took = time.monotonic() - began
    return {kind: sum(mark.kind == kind for mark in marked) / took for kind in kinds}


def measure_throughput(sides: list[Side], rounds: int, jobs: int) -> dict[str, Any]:
    found: dict[str, dict[str, list[float]]] = {side.name: {} for side in sides}
    for turn in range(rounds):
        for side in sides:
            side.fresh(f"throughput{turn}")
            enqueued = side.produce("enqueue", jobs)
            total = enqueued.pop("enqueued")
            with side.working():
                wait_until(lambda s=side, t=total: marks.count(s.marks_path) >= t, "every job")
            ran = [mark.at_ns for mark in marks.read(side.marks_path)]
            rates = {**enqueued, "drained_per_second": (len(ran) - 1) / ((max(ran) - min(ran)) / 1e9)}
            for name, rate in rates.items():
                found[side.name].setdefault(name, []).append(rate)
    medians = {
        name: {rate: round(statistics.median(values)) for rate, values in rates.items()}
        for name, rates in found.items()
    }
    ratio = {rate: round(medians["mus"][rate] / medians["streaQ"][rate], 3) for rate in medians["mus"]}
    return {**medians, "ratio": ratio}


def print_table(found: dict[str, Any]) -> None:
    print(f"{found['cores']} cores; load at begin {found['load_at_begin']}, at end {found['load_at_end']}")
    if pick_up := found.get("pick-up"):
        print("pick-up of a high-priority job          p50 ms    p99 ms    max ms      n")
        for name, row in pick_up.items():
            print(f"  {name:34} {row['p50']:9.1f} {row['p99']:9.1f} {row['max']:9.1f} {row['n']:6}")
        kept = pick_up["mus, from the call"]["p99"] <= TARGET_MS
        print(f"  mus: p99 at most {TARGET_MS:.0f} ms: {'yes' if kept else 'NO'}")
    if flood := found.get("flood"):
        print("flood of high-priority jobs        low/s alone  low/s flooded   kept   high/s   least high waiting")
        for name, row in flood.items():
            print(
                f"  {name:32} {row['low_alone_per_second']:11.1f} {row['low_flooded_per_second']:14.1f}"
                f" {row['low_kept']:6.0%} {row['high_flooded_per_second']:8.0f} {row['least_high_waiting']:20}"
            )
    if throughput := found.get("throughput"):
        print("jobs without work, per second             enqueued one by one   in bulk   drained")
        for name, row in throughput.items():
            values = [
                row[rate] for rate in ("one_at_a_time_per_second", "in_bulk_per_second", "drained_per_second")
            ]
            form = "{:25.2f} {:9.2f} {:9.2f}" if name == "ratio" else "{:25.0f} {:9.0f} {:9.0f}"
            print(f"  {name:34} {form.format(*values)}")


def both_sides(folder: Path, url: str) -> list[Side]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MUS_")}
    environment = {
        **plain,
        "PYTHONPATH": str(HERE),
        "BENCH_URL": url,
        "BENCH_SLOTS": str(sum(policy.slots for policy in POLICIES.values())),
        "MUS_DRAGONFLY_URL": url,
        "MUS_SCAN_SCHEDULE": "0 0 1 1 *",
        "MUS_LOG_LEVEL": "WARNING",
    }
    modules = ["priority_on_mus", "mus.jobs.file_system_jobs", "mus.jobs.metadata_jobs"]
    on_mus, on_streaq = (str(HERE / f"priority_on_{name}.py") for name in ("mus", "streaq"))
    return [
        Side(
            "mus",
            [sys.executable, "-m", "mus", "worker", *modules],
            [sys.executable, on_mus],
            POLICIES[Queue.LOW].slots,
            dict(environment),
            folder,
        ),
        Side(
            "streaQ",
            [sys.executable, on_streaq, "worker"],
            [sys.executable, on_streaq],
            int(environment["BENCH_SLOTS"]),
            dict(environment),
            folder,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of pick-up and throughput for each system")
    parser.add_argument("--probes", type=int, default=150, help="high-priority jobs in a turn")
    parser.add_argument("--waiting", type=int, default=20_000, help="low-priority jobs that wait")
    parser.add_argument("--flood-seconds", type=float, default=6.0)
    parser.add_argument("--jobs", type=int, default=900, help="jobs without work, enqueued one by one and in bulk")
    parser.add_argument("--only", choices=("pick-up", "flood", "throughput"), help="leave the others out")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    options = parser.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_at_begin": [round(x, 1) for x in os.getloadavg()]}
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        server = EmbeddedServer(Path(scratch))
        server.start()
        try:
            server.wait_until_ready()
            sides = both_sides(Path(scratch), server.url)
            phases: dict[str, Callable[[], dict[str, Any]]] = {
                "pick-up": lambda: measure_pick_up(sides, options.rounds, options.probes, options.waiting),
                "flood": lambda: measure_flood(sides, options.flood_seconds),
                "throughput": lambda: measure_throughput(sides, options.rounds, options.jobs),
            }
            for name, measure in phases.items():
                if options.only in (None, name):
                    found[name] = measure()
                    with redis.from_url(server.url) as client:
                        client.flushall()  # what is left over is no load for the next
        finally:
            server.stop()
    found["load_at_end"] = [round(x, 1) for x in os.getloadavg()]
    if options.json:
        print(json.dumps(found))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
