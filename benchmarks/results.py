"""Writes what was measured: RESULTS.md for people, ratios.json for `make bench-check`."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paired
import peers
import targets
from measuring import Measurement, Series

#: Fewer values than this have no 99th percentile but their largest.
_ENOUGH_FOR_P99 = 100
#: Heads of columns that are set to the right.
_NUMBERS = frozenset({"median", "p99", "least", "most", "n", "mus ÷ it", "measured"})


@dataclass(frozen=True, slots=True)
class Ratio:
    """mus next to a peer in one figure: a quotient for each round that both had."""

    figure: str
    ours: str
    peer: str
    more_is_better: bool
    rounds: list[float]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.figure, self.ours, self.peer


def ratios_of(measurement: Measurement) -> Iterator[Ratio]:
    for ours in measurement.series:
        for theirs in measurement.series:
            if ours.figure == theirs.figure and ours.contender == "mus" != theirs.contender:
                rounds = paired.ratios(ours.rounds, theirs.rounds)
                if rounds:
                    yield Ratio(ours.figure, ours.contender, theirs.contender, ours.more_is_better, rounds)


def read_all(folder: Path, names: Sequence[str]) -> list[Measurement]:
    """Those that were measured, in the order of the names."""
    return [Measurement.read(path) for name in names if (path := folder / f"{name}.json").exists()]


# ----------------------------------------------------------------------------------------------- for people


def write_report(path: Path, measurements: Sequence[Measurement], about: dict[str, str]) -> None:
    parts = [
        "# Results",
        "What `make bench` measured, timed from outside: from the request until the last track was shown or the "
        "last job had run. Contenders took turns on the same files in the same run; values are medians of all "
        "rounds. A ratio is mus's median divided by the peer's, of pairs from the same round: for times and memory "
        "below 1 is good for mus, for rates above.",
        "Warm cache, unless a line says `cold`. PSS of whole process trees. No network, no audio output.",
        _table(("machine", ""), list(machine().items())),
        _table(("program", "version"), list(peers.versions().items())),
        "## targets",
        _table(
            ("target", "measured", "met"),
            [
                (target.text, number(value), "yes" if target.is_met_by(value) else "no")
                for target, value in targets.judged(measurements)
            ],
        ),
    ]
    for one in measurements:
        parts += [f"## {one.name}", about.get(one.name, ""), f"`{one.command}`; {_when(one)}", _series_table(one)]
        remarks = [*one.remarks, *(f"without {name}: {why}" for name, why in one.skipped.items())]
        if one.error:
            remarks.append(f"broke off: {one.error}")
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    path.write_text("\n\n".join(part for part in parts if part) + "\n")


def machine() -> dict[str, str]:
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": str(os.cpu_count()),
        "model": _processor(),
        "memory": f"{memory_kib / 1024**2:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _when(one: Measurement) -> str:
    return f"{one.at}, load at its begin {one.load[0] if one.load else '?'}"


def _series_table(one: Measurement) -> str:
    ratios = {(ratio.figure, ratio.peer): statistics.median(ratio.rounds) for ratio in ratios_of(one)}
    rows = []
    for figure in dict.fromkeys(series.figure for series in one.series):
        for series in (series for series in one.series if series.figure == figure):
            ratio = ratios.get((figure, series.contender))
            rows.append((figure, series.contender, *_numbers(series), f"{ratio:.3g}" if ratio else ""))
    return _table(("figure", "", "median", "p99", "least", "most", "n", "mus ÷ it"), rows) if rows else ""


def _numbers(series: Series) -> tuple[str, ...]:
    values = series.values
    p99 = number(paired.percentile(values, 0.99)) if len(values) >= _ENOUGH_FOR_P99 else ""
    middle = f"{number(statistics.median(values))} {series.unit}"
    return middle, p99, number(min(values)), number(max(values)), str(len(values))


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruled = ["---:" if name in _NUMBERS else "---" for name in head]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, ruled, *rows))


# ------------------------------------------------------------------------------------------ for bench-check


def write_ratios(path: Path, measurements: Sequence[Measurement]) -> None:
    content = {
        "machine": machine(),
        "ratios": [
            {
                "measure": one.name,
                "figure": ratio.figure,
                "of": ratio.ours,
                "to": ratio.peer,
                "more_is_better": ratio.more_is_better,
                "median": round(statistics.median(ratio.rounds), 4),
                "rounds": [round(value, 4) for value in ratio.rounds],
            }
            for one in measurements
            for ratio in ratios_of(one)
        ],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_ratios(path: Path) -> tuple[dict[str, str], dict[tuple[str, str, str], list[float]]]:
    """The machine they are of, and by figure, mus and peer the ratios of each round."""
    if not path.exists():
        return {}, {}
    content: dict[str, Any] = json.loads(path.read_text())
    return content["machine"], {(one["figure"], one["of"], one["to"]): one["rounds"] for one in content["ratios"]}
