"""Measure mus next to its peers on this machine: `make bench`, `make bench-check`.

    python benchmarks run                                     everything, some 40 minutes with three rounds
    python benchmarks run first-scan jobs                     these only; the results of others are kept
    python benchmarks run --missing                           go on after a run that was stopped
    python benchmarks run --quick                             whether all works, into benchmarks/.results/quick
    python benchmarks run slow-peers-large --rounds 1         beets and supysonic on 20,000 tracks
    python benchmarks check                                   paired rounds next to the stored ratios
    python benchmarks report                                  write RESULTS.md from what was measured before
    python benchmarks corpus 1000 pictures                    only make these libraries

`run` keeps what it measures in benchmarks/.results and writes benchmarks/RESULTS.md and benchmarks/ratios.json.
A measure that fails is named there, and the others go on. Peers are installed into benchmarks/.peers, and libraries
made in benchmarks/.corpus (some 25 GB); MPD has to be there already. Ends with 1 if a measure failed or a ratio got
worse.
"""

from __future__ import annotations

import argparse
import fcntl
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import corpora
import job_measures
import paired
import results
import scan_measures
import server_measures
import worker_measure
from measuring import Measurement, Measuring, Options

HERE = Path(__file__).parent
Measure = Callable[[Measuring], None]
MEASURES: dict[str, Measure] = {
    "first-scan": scan_measures.first_scan,
    "no-change": scan_measures.no_change,
    "changed": scan_measures.changed,
    "slow-peers": scan_measures.slow_peers,
    "other-libraries": scan_measures.other_libraries,
    "start-up": server_measures.start_up,
    "idle": server_measures.idle,
    "watch-latency": server_measures.watch_latency,
    "copied-in": server_measures.copied_in,
    "pick-up": job_measures.pick_up,
    "flood": job_measures.flood,
    "jobs": job_measures.jobs,
    "slope": scan_measures.slope,
    "no-change-large": scan_measures.no_change_large,
    "lists": server_measures.lists,
    "walk": scan_measures.walk,
    "slow-peers-large": scan_measures.slow_peers_large,
    "workers": worker_measure.workers,
}
#: Only when they are named.
ON_REQUEST = ("slow-peers-large", "workers")
#: What `check` repeats next to whom, and after how many seconds each begins no further round: ten minutes in all.
CHECKED = {"first-scan": 170.0, "no-change": 120.0, "changed": 60.0, "pick-up": 60.0, "jobs": 60.0}
CHECKED_PEERS, CHECKED_ROUNDS = ["MPD", "streaQ"], 5


def main() -> None:
    # What was started is ended, and changed files are put back, also when this is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = _parser()
    options = parser.parse_args()
    for name in getattr(options, "measures", ()):
        if name not in MEASURES:
            parser.error(f"there is no measure {name}: there are {', '.join(MEASURES)}")
    # What a quick run finds is no result.
    place = HERE / ".results" / "quick" if getattr(options, "quick", False) else HERE
    options.results = options.results or (place if place != HERE else HERE / ".results")
    options.report = options.report or place / "RESULTS.md"
    options.ratios = options.ratios or (HERE if options.does is _check else place) / "ratios.json"
    options.corpora.mkdir(parents=True, exist_ok=True)
    # One run at a time: two would measure each other, and change the same files.
    with (options.corpora / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another run uses {options.corpora}: wait for its end, or name another folder by --corpora")
        sys.exit(options.does(options))


def _run(options: argparse.Namespace) -> int:
    names = options.measures or [name for name in MEASURES if name not in ON_REQUEST]
    if options.missing:
        names = [name for name in names if not _is_whole(options.results / f"{name}.json")]
    failed = _measure(options, dict.fromkeys(names, options.budget))
    _write(options)
    return _told(failed)


def _check(options: argparse.Namespace) -> int:
    """Whether the ratios of a few measures still are what `ratios.json` says."""
    machine, stored = results.read_ratios(options.ratios)
    if not stored:
        print(f"{options.ratios} has no ratios: `python benchmarks run` stores them")
        return 1
    if (here := results.machine()) != machine:
        told = ", ".join(
            f"{name} {machine[name]}, here {value}" for name, value in here.items() if machine[name] != value
        )
        print(f"The stored ratios are of another machine: {told}")
    with tempfile.TemporaryDirectory() as folder:
        options.results, options.warm_only = Path(folder), True
        options.peers = options.peers or CHECKED_PEERS
        options.rounds = options.rounds or (1 if options.quick else CHECKED_ROUNDS)
        names = options.measures or list(CHECKED)
        failed = _measure(options, {name: CHECKED.get(name, 120.0) for name in names})
        measured = results.read_all(options.results, names)
    worse = 0
    for one in measured:
        for name, why in one.skipped.items():
            print(f"skip  {one.name} next to {name}: {why}")
        for ratio in results.ratios_of(one):
            what = f"{ratio.figure}: mus ÷ {ratio.peer}"
            if ratio.key not in stored:
                print(f"skip  {what} {statistics.median(ratio.rounds):.3g}: no ratio is stored")
                continue
            found = paired.compare(ratio.rounds, stored[ratio.key], more_is_better=ratio.more_is_better)
            sure = f"worse by {found.worse_by_at_least - 1:.0%} at least" if not found.holds else ""
            print(
                f"{'ok   ' if found.holds else 'WORSE'} {what} {found.measured:.3g}, stored {found.stored:.3g}, "
                f"{len(ratio.rounds)} and {len(stored[ratio.key])} rounds {sure}".rstrip()
            )
            worse += not found.holds
    return _told(failed) or int(worse > 0)


def _report(options: argparse.Namespace) -> int:
    _write(options)
    return 0


def _corpus(options: argparse.Namespace) -> int:
    for name in options.names:
        print(corpora.corpus(options.corpora, name))
    return 0


def _measure(options: argparse.Namespace, budgets: dict[str, float]) -> list[str]:
    """Measure them one after the other; the names of those that failed. Seconds by name: see `Options`."""
    failed: list[str] = []
    for path in options.corpora.glob("run-*"):
        shutil.rmtree(path)  # of a run that was killed
    for path in options.corpora.glob("*.aside"):
        scan_measures.put_back(path.with_suffix(""))
    # On the file system of the corpora: files are renamed into them.
    with tempfile.TemporaryDirectory(dir=options.corpora, prefix="run-") as scratch:
        for number, (name, budget_seconds) in enumerate(budgets.items(), 1):
            print(f"[{number}/{len(budgets)}] {name}: {_about(name)}", file=sys.stderr, flush=True)
            measuring = Measuring(
                name, _options(options, Path(scratch), budget_seconds), _command(name, options), options.results
            )
            try:
                MEASURES[name](measuring)
            except Exception as error:  # noqa: BLE001 - the other measures go on, and the error is in the results
                traceback.print_exc()
                measuring.found.error = f"{type(error).__name__}: {error}".splitlines()[0][:500]
                failed.append(name)
            measuring.save()
    return failed


def _options(options: argparse.Namespace, scratch: Path, budget_seconds: float) -> Options:
    small = options.quick
    return Options(
        rounds=options.rounds or (1 if small else 3),
        tracks=options.tracks or (1_000 if small else 20_000),
        slow_tracks=options.slow_tracks or (200 if small else 1_000),
        large=options.large or (2_000 if small else 100_000),
        rows=options.rows or (20_000 if small else 1_000_000),
        scale=options.scale or (0.1 if small else 1.0),
        peers=tuple(options.peers or ()),
        budget_seconds=budget_seconds,
        may_be_cold=not (options.warm_only or small),
        corpora=options.corpora.resolve(),
        environments=options.environments.resolve(),
        scratch=scratch.resolve(),
    )


def _command(name: str, options: argparse.Namespace) -> str:
    """What repeats a measure as it was asked for."""
    given = ["python", "benchmarks", "run", name]
    for flag in ("rounds", "tracks", "slow_tracks", "large", "rows", "scale"):
        if (value := getattr(options, flag)) is not None:
            given += [f"--{flag.replace('_', '-')}", f"{value:g}"]
    given += ["--quick"] * options.quick + ["--warm-only"] * options.warm_only
    return shlex.join([*given, *(["--peers", *options.peers] if options.peers else [])])


def _about(name: str) -> str:
    return (MEASURES[name].__doc__ or "").strip().splitlines()[0]


def _is_whole(path: Path) -> bool:
    return path.exists() and Measurement.read(path).error is None


def _write(options: argparse.Namespace) -> None:
    measured = results.read_all(options.results, list(MEASURES))
    results.write_report(options.report, measured, {name: _about(name) for name in MEASURES})
    results.write_ratios(options.ratios, measured)
    print(f"wrote {options.report} and {options.ratios}", file=sys.stderr)


def _told(failed: Sequence[str]) -> int:
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:18}{_about(name)}" for name in MEASURES)
    parser = argparse.ArgumentParser(
        prog="python benchmarks",
        description=__doc__,
        epilog=f"measures (the last two only when they are named):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="run | check | report | corpus")
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument(
        "--corpora", type=Path, default=HERE / ".corpus", help="libraries; files in them are changed and put back"
    )
    places.add_argument(
        "--peers-in", dest="environments", type=Path, default=HERE / ".peers", help="where peers are installed"
    )
    places.add_argument("--results", type=Path, help="what was measured; benchmarks/.results")
    places.add_argument("--report", type=Path, help="benchmarks/RESULTS.md")
    places.add_argument("--ratios", type=Path, help="benchmarks/ratios.json")
    sizes = argparse.ArgumentParser(add_help=False)
    sizes.add_argument("measures", nargs="*", metavar="MEASURE", help="all by default")
    sizes.add_argument("--rounds", type=int)
    sizes.add_argument("--tracks", type=int, help="of the library that most measures use: 20,000")
    sizes.add_argument("--slow-tracks", type=int, help="of the one for beets and supysonic: 1,000")
    sizes.add_argument("--large", type=int, help="of the large one: 100,000")
    sizes.add_argument("--rows", type=int, help="of the walk: 1,000,000")
    sizes.add_argument("--scale", type=float, help="part of the jobs, requests and arrivals, as 0.1")
    sizes.add_argument("--peers", nargs="+", help="next to these only: MPD beets supysonic streaQ arq SAQ taskiq")
    sizes.add_argument("--warm-only", action="store_true", help="leave the machine's cache as it is")
    sizes.add_argument("--quick", action="store_true", help="one round, small libraries, results kept apart")
    run = commands.add_parser("run", parents=[places, sizes], help="measure and write the results")
    run.add_argument("--missing", action="store_true", help="only what has no result yet")
    run.add_argument(
        "--budget", type=float, default=420.0, help="seconds after which a measure begins no other round"
    )
    run.set_defaults(does=_run)
    check = commands.add_parser("check", parents=[places, sizes], help="compare with the stored ratios")
    check.set_defaults(does=_check)
    report = commands.add_parser("report", parents=[places], help="write the results again")
    report.set_defaults(does=_report)
    corpus = commands.add_parser("corpus", parents=[places], help="make libraries", epilog=corpora.__doc__)
    corpus.add_argument("names", nargs="+", metavar="NAME")
    corpus.set_defaults(does=_corpus)
    return parser


if __name__ == "__main__":
    main()
