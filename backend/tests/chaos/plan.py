"""What happens when, to whom, for how long: made from the seed alone before anything runs.

Each part draws from a generator of its own, so that one more kind of fault does not change which files move. What
the plan cannot fix is how the processes' threads fall; a seed repeats the harm, and as a rule what comes of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chaos.music_plan import Change, InitialFile, music_changes
from mus.broker.queues import Queue


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    seconds: float
    jobs: int
    workers: int
    files: int
    #: A worker whose counter stands still so long is taken for dead; what is frozen stays so for longer.
    dead_after_seconds: float


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: str
    who: str
    seconds: float
    #: Of what the kind says: a share of the broker's data, seconds of clock, a number of messages.
    amount: float = 0.0

    def __str__(self) -> str:
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.at:7.2f} s  {self.kind:24} {self.who:10} {self.seconds:4.1f} s{amount}"


@dataclass(frozen=True, slots=True)
class PlannedJob:
    name: str
    task: str
    queue: str
    arguments: dict[str, Any] = field(default_factory=dict)
    exclusive_key: str | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs enqueued in one transaction, by the harness itself (`direct`) or by the API that is named."""

    at: float
    via: str
    jobs: tuple[PlannedJob, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. `what` names a job, a file or a queue. Where the `first` API is down, the other is asked."""

    at: float
    kind: str
    what: str
    first: str


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    sizes: Sizes
    faults: tuple[Fault, ...]
    batches: tuple[Batch, ...]
    requests: tuple[Request, ...]
    files: tuple[InitialFile, ...]
    changes: tuple[Change, ...]

    @property
    def workers(self) -> list[str]:
        return [f"worker-{number + 1}" for number in range(self.sizes.workers)]

    @property
    def apis(self) -> list[str]:
        return list(APIS)

    def lines(self) -> Iterator[str]:
        """All of it, in order of time."""
        steps = [(fault.at, str(fault)) for fault in self.faults]
        steps += [
            (batch.at, f"{batch.at:7.2f} s  {len(batch.jobs)} jobs by {batch.via}: {batch.jobs[0].name} …")
            for batch in self.batches
        ]
        steps += [(r.at, f"{r.at:7.2f} s  request to {r.first}: {r.kind} {r.what}") for r in self.requests]
        steps += [(c.at, f"{c.at:7.2f} s  file: {c.kind} {c.path} {c.target}") for c in self.changes]
        yield from (line for _, line in sorted(steps))


APIS = ("api-1", "api-2")
WATCHER = "watcher"

#: Kind: whom it may meet, seconds (least, most), amounts to choose from, weight.
_FREEZE = "past its time"
_KINDS: dict[str, tuple[str, tuple[float, float] | str, tuple[float, ...], int]] = {
    "worker killed": ("worker", (0.1, 1.5), (), 4),
    "worker frozen": ("worker", _FREEZE, (), 4),
    "worker stopped": ("worker", (0.1, 1.0), (), 2),
    "all workers killed": ("workers", (0.1, 1.0), (), 1),
    "api killed": ("api", (0.1, 1.5), (), 3),
    "api frozen": ("api", (0.5, 3.0), (), 3),
    "watcher killed": ("watcher", (0.1, 1.0), (), 1),
    "watcher frozen": ("watcher", (0.5, 2.5), (), 1),
    "broker killed": ("broker", (0.1, 2.0), (), 3),
    "broker emptied": ("broker", (0.0, 1.0), (), 3),
    "broker rolled back": ("broker", (0.0, 1.0), (0.1, 0.3, 0.6), 2),
    "broker frozen": ("broker", (0.5, 3.0), (), 2),
    "scripts forgotten": ("broker", (0.0, 0.0), (), 1),
    "database locked": ("database", (2.0, 4.0), (), 2),
    "database killed": ("database", (0.1, 2.0), (), 2),
    "clock of one": ("process", (1.0, 4.0), (-3600.0, 3600.0), 3),
    "clock of all": ("processes", (1.0, 4.0), (-3600.0, 3600.0), 2),
    "messages run twice": ("worker", (1.0, 4.0), (), 2),
    "messages copied": ("broker", (0.0, 0.0), (20.0, 60.0), 3),
    "messages held back": ("broker", (0.5, 4.0), (5.0, 30.0), 3),
    "messages swallowed": ("broker", (0.0, 0.0), (5.0, 20.0), 2),
}
FAULT_KINDS = tuple(_KINDS)
#: SQLite has no server that could be.
SERVER_FAULTS = frozenset({"database killed"})
#: Where the draw of an amount's sign shall not decide whether both are met.
_BOTH_SIGNS = ("clock of one", "clock of all")


def make_plan(seed: int, sizes: Sizes, *, without: frozenset[str] = frozenset()) -> Plan:
    """`without` leaves kinds of faults out; everything else stays as it is."""
    workers = [f"worker-{number + 1}" for number in range(sizes.workers)]
    batches = _batches(random.Random(f"{seed} jobs"), sizes)
    files, changes, binned = music_changes(random.Random(f"{seed} files"), sizes.seconds, sizes.files)
    return Plan(
        seed=seed,
        sizes=sizes,
        faults=tuple(
            fault for fault in _faults(random.Random(f"{seed} faults"), sizes, workers) if fault.kind not in without
        ),
        batches=batches,
        requests=_requests(random.Random(f"{seed} requests"), sizes.seconds, batches, binned),
        files=files,
        changes=changes,
    )


def _faults(draw: random.Random, sizes: Sizes, workers: list[str]) -> list[Fault]:
    """Every kind once at least, the rest by weight, spread over the time."""
    kinds = [*FAULT_KINDS, *_BOTH_SIGNS]
    more = max(0, round(sizes.seconds * 1.2) - len(kinds))
    kinds += draw.choices(FAULT_KINDS, [weight for *_, weight in _KINDS.values()], k=more)
    draw.shuffle(kinds)
    met: dict[str, int] = {}
    faults: list[Fault] = []
    for number, kind in enumerate(kinds):
        whom, seconds, amounts, _ = _KINDS[kind]
        if isinstance(seconds, str):
            seconds = (sizes.dead_after_seconds + 0.5, sizes.dead_after_seconds + 2.5)
        candidates = {
            "worker": workers,
            "api": list(APIS),
            "watcher": [WATCHER],
            "process": [*workers, *APIS, WATCHER],
        }.get(whom, [whom])
        met[kind] = met.get(kind, draw.randrange(8)) + 1
        amount = amounts[met[kind] % len(amounts)] if amounts else 0.0
        at = (number + draw.random()) * sizes.seconds / len(kinds)
        faults.append(Fault(round(at, 2), kind, draw.choice(candidates), round(draw.uniform(*seconds), 1), amount))
    return faults


# ----------------------------------------------------------------------- jobs


def _batches(draw: random.Random, sizes: Sizes) -> tuple[Batch, ...]:
    """Jobs in batches of one to thirty; their sum is `sizes.jobs`, the children of families not counted."""
    batches: list[Batch] = []
    left = sizes.jobs
    while left > 0:
        count = min(left, draw.choice((1, 1, 5, 10, 30)))
        first = sizes.jobs - left
        jobs = tuple(_job(draw, f"j{first + number:05}") for number in range(count))
        via = draw.choice(("direct", "direct", *APIS))
        batches.append(Batch(round(draw.uniform(0, sizes.seconds), 2), via, jobs))
        left -= count
    return tuple(sorted(batches, key=lambda batch: batch.at))


def _job(draw: random.Random, name: str) -> PlannedJob:
    queue = draw.choice([*Queue])
    kind = draw.choices(
        ("leaf", "delayed", "exclusive", "steps", "family", "families", "endless", "endless child", "failing"),
        (60, 6, 1, 12, 5, 1, 2, 1, 12),
    )[0]
    named = {"name": name}
    if kind == "delayed":
        return PlannedJob(name, "chaos_leaf", queue, named, delay_seconds=round(draw.uniform(0.2, 2.0), 1))
    if kind == "exclusive":
        return PlannedJob(name, "chaos_steps", queue, named | {"seconds": 0.05}, exclusive_key="chaos:room")
    if kind == "steps":
        return PlannedJob(name, "chaos_steps", queue, named | {"seconds": draw.choice((0.0, 0.05, 0.3))})
    if kind == "family":
        return PlannedJob(name, "chaos_family", queue, named | {"children": draw.randint(0, 6)})
    if kind == "families":
        return PlannedJob(name, "chaos_family", queue, named | {"children": 2, "depth": 2})
    if kind == "endless":
        return PlannedJob(name, "chaos_endless", queue, named)
    if kind == "endless child":
        return PlannedJob(name, "chaos_family", queue, named | {"children": 2, "endless_child": True})
    if kind == "failing":
        how = draw.choice(("temporary", "snooze", "person", "bug"))
        return PlannedJob(name, "chaos_failing", queue, named | {"how": how})
    return PlannedJob(name, "chaos_leaf", queue, named | {"seconds": draw.choice((0.0, 0.0, 0.02, 0.2))})


# ------------------------------------------------------------------- requests


def _requests(
    draw: random.Random, seconds: float, batches: tuple[Batch, ...], binned: list[str]
) -> tuple[Request, ...]:
    requests: list[Request] = []

    def ask(at: float, kind: str, what: str = "") -> None:
        requests.append(Request(round(min(at, seconds), 2), kind, what, draw.choice(APIS)))

    for number in range(max(4, round(seconds / 2.5))):
        ask((number + draw.random()) * 2.5, "scan", draw.choice(("quick", "quick", "quick", "full")))
    for batch in batches:
        for job in batch.jobs:
            is_endless = "endless" in job.task or job.arguments.get("endless_child")
            if is_endless or draw.random() < 0.06:
                ask(batch.at + draw.uniform(0.2, 4), "cancel", job.name)
            if job.task == "chaos_failing" or draw.random() < 0.05:
                ask(batch.at + draw.uniform(1, 6), "retry", job.name)
    for path in binned:
        at = draw.uniform(0, seconds / 2)
        ask(at, "delete", path)
        if draw.random() < 0.6:
            ask(at + draw.uniform(1, seconds / 2), "restore", path)
    for _ in range(round(seconds)):
        ask(
            draw.uniform(0, seconds),
            "look",
            draw.choice(("jobs", "scans", "tracks", "queues", "workers", "health")),
        )
    for _ in range(max(1, round(seconds / 15))):
        at, queue = draw.uniform(0, seconds - 2), draw.choice([*Queue])
        ask(at, "pause", queue)
        ask(at + draw.uniform(0.5, 3), "resume", queue)
    return tuple(sorted(requests, key=lambda request: request.at))
