"""What `make bench` concludes from values, without measuring any."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import paired
import results
import targets
from measuring import Measurement, Series


def test_a_change_is_told_without_cause_in_one_of_seventy_orders_of_four_and_four_values() -> None:
    values = range(1, 9)
    told = [
        chosen
        for chosen in combinations(values, 4)
        if paired.at_least(chosen, [value for value in values if value not in chosen]) > 1
    ]
    assert told == [(5, 6, 7, 8)]


def test_a_change_is_as_large_at_least_as_the_closest_pair_of_samples_that_are_apart() -> None:
    assert paired.at_least([2.0, 2.2, 2.1, 2.3, 2.4], [1.0, 0.9, 0.8]) == 2.0


def test_three_rounds_next_to_three_are_too_few_to_tell_a_change() -> None:
    assert paired.at_least([9.0, 9.0, 9.0], [1.0, 1.0, 1.0]) == 0.0


def test_one_odd_round_decides_nothing() -> None:
    assert paired.compare([0.2, 0.2, 0.2, 0.2, 9.0], [0.2] * 5, more_is_better=False).holds


def test_a_rate_is_worse_when_its_ratio_falls_and_a_time_when_it_rises() -> None:
    low, high = [0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9]
    assert not paired.compare(low, high, more_is_better=True).holds
    assert paired.compare(high, low, more_is_better=True).holds
    assert not paired.compare(high, low, more_is_better=False).holds


def test_ratios_are_of_pairs_from_one_round() -> None:
    assert paired.ratios([[1.0, 3.0, 2.0], [8.0]], [[4.0], [2.0], [5.0]]) == [0.5, 4.0]


def test_the_99th_percentile_is_met_or_exceeded_by_one_value_of_a_hundred() -> None:
    assert paired.percentile(range(1, 101), 0.99) == 99
    assert paired.percentile([7.0], 0.99) == 7.0


def _measured() -> Measurement:
    figure = "first scan, 20,000 tracks"
    return Measurement(
        "first-scan",
        "python benchmarks run first-scan",
        "2026-01-02 03:04 UTC",
        series=[
            Series(figure, "mus", "s", more_is_better=False, rounds=[[2.0], [4.0], [3.0]]),
            Series(figure, "MPD", "s", more_is_better=False, rounds=[[20.0], [20.0], [10.0]]),
        ],
        skipped={"beets": "cannot be installed: no network"},
        error="OSError: the disk is full",
    )


def test_the_report_names_medians_ratios_the_command_what_was_skipped_and_what_broke(tmp_path: Path) -> None:
    results.write_report(tmp_path / "RESULTS.md", [_measured()], {"first-scan": "A first scan."})
    report = (tmp_path / "RESULTS.md").read_text()
    assert "| first scan, 20,000 tracks | MPD | 20 s |  | 10 | 20 | 3 | 0.2 |" in report
    assert "| first scan, 20,000 tracks: median ≤ 4 | 3 | yes |" in report
    for line in (
        "`python benchmarks run first-scan`; 2026-01-02",
        "- without beets: cannot be installed: no network",
        "- broke off: OSError: the disk is full",
    ):
        assert line in report


def test_stored_ratios_are_read_as_they_were_written(tmp_path: Path) -> None:
    results.write_ratios(tmp_path / "ratios.json", [_measured()])
    machine, ratios = results.read_ratios(tmp_path / "ratios.json")
    assert machine == results.machine()
    assert ratios == {("first scan, 20,000 tracks", "mus", "MPD"): [0.1, 0.2, 0.3]}


def test_a_target_next_to_a_peer_that_is_absent_is_not_judged() -> None:
    alone = _measured()
    del alone.series[1]
    assert [target.next_to for target, _ in targets.judged([alone])] == [None]
    assert [(target.next_to, value) for target, value in targets.judged([_measured()])] == [
        (None, 3.0),
        ("MPD", 0.2),
    ]
