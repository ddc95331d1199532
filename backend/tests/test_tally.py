"""What one process counts before it tells anybody."""

from __future__ import annotations

import threading

import pytest

from mus.metrics import COUNTED, JOB_WAIT, JOBS_FINISHED, SCANS, Counter, Tally


def test_amounts_of_one_key_add_up_and_are_told_once() -> None:
    tally = Tally()
    assert tally.batch() is None
    tally.count(SCANS, "succeeded", "quick")
    tally.count(SCANS, "succeeded", "quick", amount=2)
    tally.count(SCANS, "failed", "full")
    batch = tally.batch()
    assert batch is not None
    assert dict(batch.amounts) == {
        ("mus_scans_total", "succeeded", "quick"): 3,
        ("mus_scans_total", "failed", "full"): 1,
    }
    tally.confirm(batch)
    assert tally.batch() is None


def test_a_batch_stays_the_same_until_it_is_confirmed_and_later_counts_wait_for_the_next() -> None:
    tally = Tally()
    tally.count(SCANS, "succeeded", "quick")
    first = tally.batch()
    tally.count(SCANS, "succeeded", "quick", amount=5)
    assert tally.batch() is first
    assert first is not None
    tally.confirm(first)
    second = tally.batch()
    assert second is not None
    assert (second.number, dict(second.amounts)) == (2, {("mus_scans_total", "succeeded", "quick"): 5})
    tally.confirm(first)  # an old word changes nothing
    assert tally.batch() is second


@pytest.mark.parametrize(
    ("value", "bound"), [(0.0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (14_400, "14400.0"), (1e9, "+Inf")]
)
def test_a_value_falls_into_the_first_bucket_whose_bound_it_does_not_exceed(value: float, bound: str) -> None:
    assert JOB_WAIT.bound_of(value) == bound
    assert bound in JOB_WAIT.bounds


def test_a_negative_time_counts_as_none() -> None:
    tally = Tally()
    tally.observe(JOB_WAIT, "low_priority", "read_files", value=-3.0)
    batch = tally.batch()
    assert batch is not None
    assert batch.amounts[("mus_job_wait_seconds", "sum", "low_priority", "read_files")] == 0


def test_a_label_too_few_is_a_bug_that_shows() -> None:
    with pytest.raises(ValueError, match="mus_jobs_finished_total has the labels"):
        Tally().count(JOBS_FINISHED, "low_priority", "read_files")


def test_no_count_is_lost_between_threads() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(2000):
            tally.count(SCANS, "succeeded", "quick")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    total = 0.0
    while any(thread.is_alive() for thread in threads) or tally.batch() is not None:
        batch = tally.batch()
        if batch is not None:
            total += sum(batch.amounts.values())
            tally.confirm(batch)
    assert total == 8000


def test_names_keep_to_prometheus_conventions() -> None:
    for metric in COUNTED:
        assert metric.name.startswith("mus_")
        assert metric.name.endswith("_total" if isinstance(metric, Counter) else "_seconds")
        assert metric.help.endswith(".")
        if isinstance(metric, Counter):
            assert len(metric.known) == len([label for label in metric.labels if label not in {"queue", "task"}])
        if not isinstance(metric, Counter):
            assert list(metric.buckets) == sorted(set(metric.buckets))
