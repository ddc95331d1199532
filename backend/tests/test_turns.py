"""Loops that look every few seconds meet in the same moments."""

from __future__ import annotations

import random
import time

import pytest

from mus.turns import until_turn


@pytest.mark.parametrize("every", [0.2, 1.0, 5.0, 15.0])
def test_whoever_waits_from_whenever_wakes_in_the_same_moments(
    every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = random.Random(every)
    for _ in range(1000):
        now = made.uniform(0, 1e6)
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        turns = (now + until_turn(every)) / every
        assert turns == pytest.approx(round(turns), abs=1e-4)


def test_who_wakes_a_moment_too_early_waits_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 99.9999)
    assert until_turn(5.0) == pytest.approx(5.0001)
    monkeypatch.setattr(time, "monotonic", lambda: 97.0)
    assert until_turn(5.0) == pytest.approx(3.0)
