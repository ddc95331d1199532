"""The text of `GET /metrics`: gauges from the ledger, and what all processes counted, in Prometheus' formats."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

import mus
from mus.jobs import TASK_QUEUES
from mus.ledger.last_scans import LastScan
from mus.ledger.queries import QueueFigures, WorkerFigures
from mus.metrics import COUNTED, SUM, Counter, Histogram, Key
from mus.persistence.models import Library

_WORKER_STATES = ("alive", "dead", "stopped")
Samples = Iterable[tuple[Sequence[str], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What one scrape found. `broker_seconds` and `sums` are None when the broker did not answer."""

    queues: Sequence[QueueFigures]
    workers: Sequence[WorkerFigures]
    libraries: Sequence[Library]
    #: Tracks by status.
    tracks: Mapping[str, int]
    scans: Sequence[LastScan]
    database_seconds: float
    broker_seconds: float | None
    sums: Mapping[Key, float] | None


def render(readings: Readings, accept: str) -> tuple[bytes, str]:
    """The page and its content type: OpenMetrics where the caller takes it, else the plain text format."""
    # Not prometheus_client's own choice: 0.26 answers with the version that the header asks for, whichever that
    # is, and fails on one that is no number.
    page = _Page(readings)
    if any(part.partition(";")[0].strip().lower() == "application/openmetrics-text" for part in accept.split(",")):
        return generate_openmetrics(page), CONTENT_TYPE_LATEST  # type: ignore[no-untyped-call]
    return generate_latest(page), CONTENT_TYPE_PLAIN_0_0_4


class _Page(Collector):
    """prometheus_client's generators ask for nothing but `collect`."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        readings = self._readings
        yield from _parts(readings)
        yield from _queues(readings)
        yield from _libraries(readings)
        if readings.sums is not None:
            yield from _counted(readings.sums)


def _gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _parts(readings: Readings) -> Iterator[Metric]:
    yield _gauge(
        "mus_build_info",
        "Always 1; its labels tell what runs.",
        ("version", "python"),
        [((mus.__version__, platform.python_version()), 1)],
    )
    latency = readings.broker_seconds
    yield _gauge(
        "mus_broker_up",
        "1 when the broker answered this scrape. At 0 jobs wait in their rows, and all counters are missing here.",
        (),
        [((), 0 if latency is None else 1)],
    )
    yield _gauge(
        "mus_broker_latency_seconds",
        "A PING of the broker, at this scrape. Missing while it does not answer.",
        (),
        [] if latency is None else [((), latency)],
    )
    yield _gauge(
        "mus_database_latency_seconds",
        "The shortest query of the database, at this scrape.",
        (),
        [((), readings.database_seconds)],
    )
    states = [_worker_state(worker) for worker in readings.workers]
    yield _gauge(
        "mus_workers",
        "Worker processes. alive: heard of lately; dead: fell silent, its jobs moved on; stopped: left in good "
        "order, within the last day.",
        ("state",),
        [((state,), states.count(state)) for state in _WORKER_STATES],
    )


def _worker_state(worker: WorkerFigures) -> str:
    if worker.row.state == "stopped":
        return "stopped"
    return "alive" if worker.alive else "dead"


def _queues(readings: Readings) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: Mapping[str, float]) -> Metric:
        return _gauge(name, text, ("queue",), [((queue,), number) for queue, number in value.items()])

    queues = {queue.name: queue for queue in readings.queues}
    yield gauge(
        "mus_queue_depth",
        "Jobs that wait for a worker, for their time, or for their next attempt.",
        {name: queue.depth for name, queue in queues.items()},
    )
    yield gauge(
        "mus_queue_running",
        "Jobs that a worker has in hand.",
        {name: queue.running for name, queue in queues.items()},
    )
    yield gauge(
        "mus_queue_waiting",
        "Jobs that wait for the jobs they were split into; they hold no slot.",
        {name: queue.waiting for name, queue in queues.items()},
    )
    yield gauge(
        "mus_queue_oldest_wait_seconds",
        "How long the job that is due the longest has been due; 0 when none is. The first thing to alert on.",
        {name: queue.oldest_wait_seconds or 0 for name, queue in queues.items()},
    )
    yield gauge(
        "mus_queue_paused",
        "1 while a person has paused the queue: none of its jobs starts.",
        {name: queue.paused_at is not None for name, queue in queues.items()},
    )
    yield gauge(
        "mus_queue_failed",
        "Jobs that failed for good and that nobody has cleared away.",
        {name: queue.failed for name, queue in queues.items()},
    )


def _libraries(readings: Readings) -> Iterator[Metric]:
    names = {library.id: library.name for library in readings.libraries}
    yield _gauge(
        "mus_library_online",
        "0 while the music folder is gone, empty, or lost too much at once; nothing is removed meanwhile.",
        ("library",),
        [((library.name,), library.online) for library in readings.libraries],
    )
    yield _gauge(
        "mus_tracks",
        "Tracks of all libraries. PENDING: playable, analysis to come; ERROR: could not be read; MISSING: the file "
        "is gone, its row is kept.",
        ("status",),
        [((status,), tracks) for status, tracks in readings.tracks.items()],
    )
    yield _gauge(
        "mus_scan_files_per_second",
        "Files found in a second by the last scan of the library that succeeded.",
        ("library",),
        [
            ((names[scan.library_id],), scan.found / max(scan.seconds, 0.001))
            for scan in readings.scans
            if scan.library_id in names
        ],
    )


def _counted(sums: Mapping[Key, float]) -> Iterator[Metric]:
    for metric in COUNTED:
        yield _histogram(metric, sums) if isinstance(metric, Histogram) else _counter(metric, sums)


def _counter(metric: Counter, sums: Mapping[Key, float]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    found = dict.fromkeys(_known_series(metric), 0.0)
    found |= {key[1:]: amount for key, amount in sums.items() if key[0] == metric.name}
    for labels, amount in sorted(found.items()):
        family.add_metric(labels, amount)
    return family


def _known_series(metric: Counter) -> list[Key]:
    by_job = metric.labels[:2] == ("queue", "task")
    jobs = [(str(queue), task) for task, queues in TASK_QUEUES.items() for queue in queues] if by_job else [()]
    return [(*job, *others) for job in jobs for others in product(*metric.known)]


def _histogram(metric: Histogram, sums: Mapping[Key, float]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    found: dict[Key, dict[str, float]] = {}
    for key, amount in sums.items():
        if key[0] == metric.name:
            found.setdefault(key[2:], {})[key[1]] = amount
    for labels, parts in sorted(found.items()):
        below = 0.0
        buckets: list[tuple[str, float]] = []
        for bound in metric.bounds:
            below += parts.get(bound, 0)
            buckets.append((bound, below))
        family.add_metric(labels, buckets, parts.get(SUM, 0))
    return family
