"""Who moves where when many tracks are named at once, and who is in whose way."""

from __future__ import annotations

from mus.library.paths import shown
from mus.library.rename_plan import PlannedName, with_conflicts


def plan(*moves: tuple[str, str]) -> list[str | None]:
    """The problem of each, in their order; ids begin with 1."""
    names = [PlannedName(number, 1, old.encode(), new.encode()) for number, (old, new) in enumerate(moves, start=1)]
    return [one.problem for one in with_conflicts(names, shown)]


def test_a_place_is_free_once_its_track_can_leave_it_and_circles_and_lines_behind_them_stay() -> None:
    assert plan(("a", "b"), ("b", "c"), ("c", "d")) == [None, None, None]
    assert plan(("a", "b"), ("b", "c"), ("c", "c")) == ["Track 2 is at b", "Track 3 is at c", None]
    assert plan(("x", "a"), ("a", "b"), ("b", "a"), ("c", "d")) == [
        "Track 2 is at a", "Track 3 is at b", "Track 1 gets this name", None,
    ]  # fmt: skip
    assert plan(("x", "y"), ("a", "b"), ("b", "a"), ("z", "x")) == [
        None, "Track 3 is at b", "Track 2 is at a", None,
    ]  # fmt: skip


def test_a_line_of_50_000_tracks_that_wait_for_one_that_stays_is_told_at_once() -> None:
    moves = [(f"{number:05}", f"{number + 1:05}") for number in range(50_000)] + [("50000", "50000")]
    problems = plan(*moves)
    assert problems[0] == "Track 2 is at 00001"
    assert problems.count(None) == 1
