"""What the processes of mus count, and where it waits until it is added up.

Counters live where things happen: in workers, the watcher, the API. Each process keeps what it counted since it
last told the broker; `mus.broker.metrics_hash` adds these amounts to one hash there, and `GET /metrics` shows the
sums. What is true of one moment (depths, workers, libraries) is not counted but read from the ledger.

Labels are names out of small closed sets, never paths or ids: Prometheus keeps a series for each combination.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: Metric, then for histograms `sum` or a bucket's upper bound, then the labels' values.
Key = tuple[str, ...]

#: The part of a histogram's key under which the observed values are summed.
SUM = "sum"
INFINITY = "+Inf"


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that only grows. `name` ends in `_total`.

    `known` are the values of its labels, queue and task left out. Each of their series is there from the start, at
    0: Prometheus sees no increase in one that begins at 1, so an alert would miss the first failure.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values spread over buckets, each up to and including its bound; the last has none."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]

    @property
    def bounds(self) -> tuple[str, ...]:
        """The buckets' names, in order."""
        return (*map(_bound, self.buckets), INFINITY)

    def bound_of(self, value: float) -> str:
        """The bucket that `value` falls into."""
        place = bisect_left(self.buckets, value)
        return _bound(self.buckets[place]) if place < len(self.buckets) else INFINITY


def _bound(bucket: float) -> str:
    return repr(float(bucket))  # as both text formats write it


_BY_JOB = ("queue", "task")
#: From a pick-up by an idle worker, which takes milliseconds, to a night's work.
_JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)
_SCAN_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400)

JOBS_FINISHED = Counter(
    "mus_jobs_finished_total",
    "Ends of jobs and of their attempts. succeeded, failed, cancelled: the job is over. retrying, snoozed, "
    "handed_back (its worker stopped): the attempt is over, the job runs again.",
    (*_BY_JOB, "outcome"),
    (("succeeded", "failed", "cancelled", "retrying", "snoozed", "handed_back"),),
)
JOB_DURATION = Histogram(
    "mus_job_duration_seconds",
    "How long an attempt of a job held its worker's slot, however it ended.",
    _BY_JOB,
    _JOB_BUCKETS,
)
JOB_WAIT = Histogram(
    "mus_job_wait_seconds",
    "From the moment a job was due to its start: how long people wait for a free worker. One whose message was "
    "lost and published again counts from then on.",
    _BY_JOB,
    _JOB_BUCKETS,
)
JOB_RETRIES = Counter(
    "mus_job_retries_total",
    "Further attempts granted: automatic after a temporary failure, manual where a person asked.",
    (*_BY_JOB, "kind"),
    (("automatic", "manual"),),
)
JOB_TAKEOVERS = Counter(
    "mus_job_takeovers_total",
    "Jobs taken from a worker that died or fell silent, to run elsewhere or to be given up.",
    _BY_JOB,
)
DELIVERIES_REPEATED = Counter(
    "mus_deliveries_repeated_total",
    "Messages dropped because the ledger had moved on: their job ran already, or was cancelled. Harmless.",
)
DELIVERIES_REPUBLISHED = Counter(
    "mus_deliveries_republished_total",
    "Messages that the broker had lost, or had never got, and that were published again from the ledger.",
)
WATCHER_EVENTS = Counter(
    "mus_watcher_events_total",
    "Changes noticed below the music folders, before they settle. added, modified, deleted: events of the file "
    "system; polled: seen by looking again.",
    ("kind",),
    (("added", "modified", "deleted", "polled"),),
)
WATCHER_CHANGES = Counter(
    "mus_watcher_changes_total",
    "Settled changes handed on as jobs, in files; scan counts the quick scans asked for instead.",
    ("kind",),
    (("created", "modified", "moved", "deleted", "scan"),),
)
SCANS = Counter(
    "mus_scans_total",
    "Scans that ended, by outcome.",
    ("outcome", "mode"),
    (("succeeded", "failed", "cancelled"), ("quick", "full")),
)
SCAN_FILES = Counter(
    "mus_scan_files_total",
    "Files that succeeded scans went through: added, updated, moved, unchanged, missing, skipped.",
    ("outcome",),
    (("added", "updated", "moved", "unchanged", "missing", "skipped"),),
)
SCAN_DURATION = Histogram(
    "mus_scan_duration_seconds", "From the request of a scan to its successful end.", ("mode",), _SCAN_BUCKETS
)

COUNTED: tuple[Counter | Histogram, ...] = (
    JOBS_FINISHED,
    JOB_DURATION,
    JOB_WAIT,
    JOB_RETRIES,
    JOB_TAKEOVERS,
    DELIVERIES_REPEATED,
    DELIVERIES_REPUBLISHED,
    WATCHER_EVENTS,
    WATCHER_CHANGES,
    SCANS,
    SCAN_FILES,
    SCAN_DURATION,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Amounts on their way to the broker. Its number tells whether it has arrived."""

    number: int
    amounts: Mapping[Key, float]


class Tally:
    """What one process counted and has not yet told. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amounts: dict[Key, float] = {}
        self._under_way: Batch | None = None
        self._batches = 0

    def count(self, metric: Counter, *labels: str, amount: float = 1) -> None:
        """Add to a counter; `labels` are the values of its labels, in their order."""
        self._add((metric.name, *_checked(metric, labels)), amount)

    def observe(self, metric: Histogram, *labels: str, value: float) -> None:
        """Add a value to a histogram; one below zero, as of clocks that differ, counts as zero."""
        labels = _checked(metric, labels)
        value = max(0.0, value)
        self._add((metric.name, metric.bound_of(value), *labels), 1)
        self._add((metric.name, SUM, *labels), value)

    def _add(self, key: Key, amount: float) -> None:
        with self._lock:
            self._amounts[key] = self._amounts.get(key, 0) + amount

    def batch(self) -> Batch | None:
        """The amounts to tell next; None when nothing was counted.

        The same batch until it is confirmed: whether an unanswered one arrived is known at the next try only.
        """
        with self._lock:
            if self._under_way is None and self._amounts:
                self._batches += 1
                self._under_way = Batch(self._batches, MappingProxyType(self._amounts))
                self._amounts = {}
            return self._under_way

    def confirm(self, batch: Batch) -> None:
        """The batch has arrived."""
        with self._lock:
            if self._under_way is batch:
                self._under_way = None


def _checked(metric: Counter | Histogram, labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
    return tuple(str(label) for label in labels)


#: Of this process.
TALLY = Tally()
count = TALLY.count
observe = TALLY.observe
