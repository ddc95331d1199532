"""One measure: its rounds, what they brought, and what had to be left out. Written to a file after each round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import corpora
from peers import PeerMissingError, mpd_binary
from scanners import Beets, Mpd, Mus, Scanner, Supysonic

Contender = TypeVar("Contender")
_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True, slots=True)
class Options:
    """What `python benchmarks run` was asked for."""

    rounds: int
    #: Tracks of the corpus for mus and MPD, of that for the slow peers, and of the large one.
    tracks: int
    slow_tracks: int
    large: int
    #: Simulated rows of the walk.
    rows: int
    #: Jobs, and seconds of floods, as parts of what a full run takes.
    scale: float
    #: Only these peers; none means all.
    peers: tuple[str, ...]
    #: After so many seconds a measure begins no further round.
    budget_seconds: float
    may_be_cold: bool
    corpora: Path
    environments: Path
    scratch: Path

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))


@dataclass
class Series:
    """Values of one contender in one figure: a list of them for each round."""

    figure: str
    contender: str
    unit: str
    more_is_better: bool
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        return [value for one in self.rounds for value in one]


@dataclass
class Measurement:
    name: str
    command: str = ""
    at: str = ""
    seconds: float = 0.0
    load: list[float] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    error: str | None = None

    @classmethod
    def read(cls, path: Path) -> Measurement:
        content: dict[str, Any] = json.loads(path.read_text())
        content["series"] = [Series(**one) for one in content["series"]]
        return cls(**content)


class Measuring:
    """What a measure works with."""

    def __init__(self, name: str, options: Options, command: str, results: Path) -> None:
        self.options = options
        self.found = Measurement(name, command, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
        self.found.load = [round(load, 1) for load in os.getloadavg()]
        self._began = time.monotonic()
        self._path = results / f"{name}.json"
        self._prepared: dict[tuple[str, str], Scanner] = {}

    # ------------------------------------------------------------------------------------- rounds and values

    def rounds(self, what: str) -> Iterator[int]:
        """Numbers from 0; fewer than asked for, but one at least, once the measure's time is over."""
        for number in range(self.options.rounds):
            if number and time.monotonic() - self._began > self.options.budget_seconds:
                self.remark(f"{what}: {number} rounds, its time was over")
                return
            self.say(f"{what}: round {number + 1} of {self.options.rounds}")
            yield number
            self.save()

    def turns(self, what: str, contenders: Sequence[Contender]) -> Iterator[Contender]:
        """Each contender once in each round; every other round the other way round."""
        for number in self.rounds(what):
            yield from contenders if number % 2 == 0 else reversed(contenders)

    def note(
        self, figure: str, contender: str, unit: str, values: float | list[float], *, more_is_better: bool = False
    ) -> None:
        """A round's values."""
        series = next(
            (one for one in self.found.series if (one.figure, one.contender) == (figure, contender)), None
        )
        if series is None:
            series = Series(figure, contender, unit, more_is_better)
            self.found.series.append(series)
        series.rounds.append(values if isinstance(values, list) else [values])
        middle = sorted(series.rounds[-1])[len(series.rounds[-1]) // 2]
        self.say(f"  {figure}: {contender} {middle:.4g} {unit}")

    def say(self, text: str) -> None:
        print(f"  {time.monotonic() - self._began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def remark(self, text: str) -> None:
        if text not in self.found.remarks:
            self.found.remarks.append(text)
            self.say(text)

    def skip(self, contender: str, why: str) -> None:
        self.found.skipped[contender] = why
        self.say(f"without {contender}: {why}")

    def save(self) -> None:
        self.found.seconds = round(time.monotonic() - self._began, 1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self.found), ensure_ascii=False))
        draft.replace(self._path)

    # --------------------------------------------------------------------------------- corpora and contenders

    def corpus(self, name: str | int) -> Path:
        return corpora.corpus(self.options.corpora, str(name))

    def wants(self, peer: str) -> bool:
        return not self.options.peers or peer in self.options.peers

    def has_mpd(self) -> bool:
        """Whether it is there and wanted; else it is noted as skipped."""
        try:
            return self.wants("MPD") and bool(mpd_binary())
        except PeerMissingError as error:
            self.skip("MPD", str(error))
            return False

    def scanners(self, folder: Path, *, slow: bool) -> list[Scanner]:
        """mus and the peers that are there and wanted; the slow ones are beets and supysonic."""
        makers: dict[str, Callable[[], Scanner]] = {"mus": lambda: Mus(folder), "MPD": lambda: Mpd(folder)}
        if slow:
            makers["beets"] = lambda: Beets(folder, self.options.environments)
            makers["supysonic"] = lambda: Supysonic(folder, self.options.environments)
        found: list[Scanner] = []
        for name, make in makers.items():
            if name != "mus" and not self.wants(name):
                continue
            try:
                found.append(make())
            except PeerMissingError as error:
                self.skip(name, str(error))
        return found

    def drop_caches(self) -> bool:
        """Whether the kernel has forgotten all it had read. Only root may ask for that, and not in a container."""
        if not self.options.may_be_cold:
            return False
        with suppress(OSError):
            subprocess.run(["sync"], check=True)
            _CACHES.write_text("3")
            return True
        return False
