"""What mus is meant to reach, and whether what was measured does."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import paired
from measuring import Measurement, Series


@dataclass(frozen=True, slots=True)
class Target:
    #: The figure, of mus.
    figure: str
    limit: float
    of: Literal["median", "p99"] = "median"
    #: Divided by this peer's value of the same round.
    next_to: str | None = None
    #: The limit is the least.
    at_least: bool = False

    @property
    def text(self) -> str:
        what = f"mus ÷ {self.next_to}" if self.next_to else self.of
        return f"{self.figure}: {what} {'≥' if self.at_least else '≤'} {self.limit:g}"

    def measured(self, series: Sequence[Series]) -> float | None:
        """None if it was not."""
        ours, theirs = (
            next((one for one in series if (one.figure, one.contender) == (self.figure, name)), None)
            for name in ("mus", self.next_to)
        )
        if ours is None:
            return None
        if self.next_to is not None:
            ratios = paired.ratios(ours.rounds, theirs.rounds) if theirs else []
            return statistics.median(ratios) if ratios else None
        return statistics.median(ours.values) if self.of == "median" else paired.percentile(ours.values, 0.99)

    def is_met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = (
    Target("first scan, 20,000 tracks", 4.0),
    Target("first scan, 20,000 tracks", 0.2, next_to="MPD"),
    Target("scan with no change, 20,000 tracks, command", 1.0, next_to="MPD"),
    Target("scan with no change, 20,000 tracks, command beside mus up", 1.0, next_to="MPD"),
    Target("scan with no change, 20,000 tracks, API", 1.0, next_to="MPD"),
    Target("a file renamed into place, until it is shown, 20,000 tracks", 300.0),
    Target("pick-up behind 20,000 low-priority jobs of 2 s", 50.0, of="p99"),
    Target("idle memory, 20,000 tracks", 150.0),
    Target("idle CPU, 20,000 tracks", 1.0),
    Target("`mus --help`", 0.2),
    Target("ready to answer, 20,000 tracks known", 1.5),
    Target("first scan, 100,000 tracks, alone", 20.0),
    Target("CPU time of a track, 100,000 tracks next to 20,000", 1.2),
    Target("wall time of a track, 100,000 tracks next to 20,000", 1.2),
    Target("scan with no change, 100,000 tracks, command", 1.0),
    Target("scan with no change, 100,000 tracks, API", 1.0),
    Target("all of these together, 100,000 tracks", 20.0, of="p99"),
    Target("CPU of a job", 2.0, next_to="streaQ"),
    Target("jobs enqueued one by one", 0.5, next_to="streaQ", at_least=True),
    Target("jobs enqueued in bulk", 0.5, next_to="streaQ", at_least=True),
)


def judged(measurements: Sequence[Measurement]) -> Iterator[tuple[Target, float]]:
    """The targets that were measured, with what was."""
    series = [one for measurement in measurements for one in measurement.series]
    for target in TARGETS:
        value = target.measured(series)
        if value is not None:
            yield target, value
