"""What a pattern comes to for many tracks at once: who moves where, and who is in whose way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mus.library.file_names import alike


@dataclass(frozen=True, slots=True)
class PlannedName:
    """`target` None, or a `problem`: the track stays where it is."""

    track_id: int
    library_id: int
    path: bytes
    target: bytes | None
    problem: str | None = None

    @property
    def moves(self) -> bool:
        return self.problem is None and self.target is not None and self.target != self.path


def with_conflicts(plan: Sequence[PlannedName], shown: Callable[[bytes], str]) -> list[PlannedName]:
    """The plan with the problems of names that several want, and of places that are not left in time.

    Whoever comes first in the plan gets a name, as in the job; what only the disk knows is not looked at here.
    """
    owner: dict[tuple[int, str], int] = {}
    checked: list[PlannedName] = []
    for one in plan:
        if one.moves and one.target is not None:
            first = owner.setdefault((one.library_id, alike(one.target)), one.track_id)
            if first != one.track_id:
                one = replace(one, problem=f"Track {first} gets this name")
        checked.append(one)
    at_path = {(one.library_id, one.path): index for index, one in enumerate(checked)}
    waits_for = [
        at_path.get((one.library_id, one.target)) if one.moves and one.target is not None else None
        for one in checked
    ]
    for index in _stuck(waits_for, [one.moves for one in checked]):
        one, other = checked[index], waits_for[index]
        if other is not None:
            name = shown(one.target or b"")
            checked[index] = replace(one, problem=f"Track {checked[other].track_id} is at {name}")
    return checked


def _stuck(waits_for: Sequence[int | None], moves: Sequence[bool]) -> list[int]:
    """Who waits, in the end, for one that stays, or in a circle, where no one can go first. Takes linear time."""
    is_stuck: dict[int, bool] = {}
    for start in range(len(waits_for)):
        line: dict[int, None] = {}
        at: int | None = start
        while at is not None and at not in is_stuck and at not in line:
            line[at] = None
            at = waits_for[at] if moves[at] else None
        # The line ends with one that has its place free, that stays, that was looked at before, or in itself.
        end = next(reversed(line), start)
        verdict = at in line or is_stuck.get(end if at is None else at, not moves[end])
        is_stuck.update(dict.fromkeys(line, verdict))
    return [index for index, stuck in is_stuck.items() if stuck]
