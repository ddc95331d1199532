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
    blocked = True
    while blocked:
        blocked = False
        for index, one in enumerate(checked):
            other = at_path.get((one.library_id, one.target)) if one.moves and one.target is not None else None
            if other is not None and (not checked[other].moves or _is_in_circle(checked, at_path, index)):
                name = shown(one.target or b"")
                checked[index] = replace(one, problem=f"Track {checked[other].track_id} is at {name}")
                blocked = True
    return checked


def _is_in_circle(plan: Sequence[PlannedName], at_path: dict[tuple[int, bytes], int], start: int) -> bool:
    """Whether tracks wait for each other's places: no one of them can go first."""
    seen = {start}
    index: int | None = start
    while index is not None:
        one = plan[index]
        index = at_path.get((one.library_id, one.target)) if one.moves and one.target is not None else None
        if index == start:
            return True
        if index in seen:
            return False
        if index is not None:
            seen.add(index)
    return False
