"""What happens to the music folder: which files there are, and what becomes of them, from the seed alone.

Wander/     only ever renamed, alone, with their folder, or two in each other's places: they keep their ids
Steady/     retagged in place, or replaced by a new file of the same name: they keep their ids
Passing/    come, are written slowly, go, and come again
Bin/        deleted and restored by requests, touched by nobody else
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_SUFFIXES = (".flac", ".mp3", ".ogg", ".m4a", ".opus")
WANDER, STEADY, PASSING, BIN = "Wander", "Steady", "Passing", "Bin"


@dataclass(frozen=True, slots=True)
class InitialFile:
    path: str
    title: str


@dataclass(frozen=True, slots=True)
class Change:
    """`add`, `retag`, `replace`, `write slowly` and `remove` concern `path`; `rename` and `swap` also `target`."""

    at: float
    kind: str
    path: str
    target: str = ""
    title: str = ""


def music_changes(
    draw: random.Random, seconds: float, count: int
) -> tuple[tuple[InitialFile, ...], tuple[Change, ...], list[str]]:
    """The files that are there at the beginning, the changes in order, and the files that requests may delete."""
    each = count // 4
    wander = _paths(draw, WANDER, each)
    steady = _paths(draw, STEADY, each)
    passing = _paths(draw, PASSING, each)
    binned = _paths(draw, BIN, count - 3 * each)
    files = tuple(InitialFile(path, f"{path} v0") for path in (*wander, *steady, *passing, *binned))
    times = sorted(round(draw.uniform(0, seconds), 2) for _ in range(round(seconds * 3)))
    gone: list[str] = []
    changes: list[Change] = []
    for number, at in enumerate(times, 1):
        kind = draw.choice(
            ("wander", "wander", "folder", "swap", "retag", "retag", "replace", "pass", "pass", "pass")
        )
        if kind == "wander":
            index = draw.randrange(len(wander))
            target = f"{WANDER}/Room {draw.randrange(5)}/{number:04}{_suffix(wander[index])}"
            changes.append(Change(at, "rename", wander[index], target))
            wander[index] = target
        elif kind == "folder":
            folder = _folder(draw.choice(wander))
            target = f"{WANDER}/Hall {number:04}"
            changes.append(Change(at, "rename", folder, target))
            wander = [target + path[len(folder) :] if _folder(path) == folder else path for path in wander]
        elif kind == "swap":
            one, other = draw.sample(wander, 2)
            if _suffix(one) == _suffix(other):
                changes.append(Change(at, "swap", one, other))
        elif kind in {"retag", "replace"}:
            path = draw.choice(steady)
            changes.append(Change(at, kind, path, title=f"{path} v{number}"))
        elif gone and draw.random() < 0.5:
            path = gone.pop(draw.randrange(len(gone)))
            changes.append(Change(at, draw.choice(("add", "write slowly")), path, title=f"{path} v{number}"))
            passing.append(path)
        elif passing and draw.random() < 0.5:
            path = passing.pop(draw.randrange(len(passing)))
            changes.append(Change(at, "remove", path))
            gone.append(path)
        else:
            path = f"{PASSING}/New {draw.randrange(6)}/{number:04}{draw.choice(_SUFFIXES)}"
            changes.append(Change(at, draw.choice(("add", "write slowly")), path, title=f"{path} v{number}"))
            passing.append(path)
    return files, tuple(changes), binned


def _paths(draw: random.Random, group: str, count: int) -> list[str]:
    return [f"{group}/Album {number % 4}/{number:03}{draw.choice(_SUFFIXES)}" for number in range(count)]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _suffix(path: str) -> str:
    return path[path.rindex(".") :]
