"""A worker process that is killed, or frozen, at a chosen step of an edit, of placing uploads, or of a deletion.

    python edit_worker.py STEP [WAKES]      one of STEPS; settings come from MUS_*

A frozen one that is continued freezes again until the file WAKES is there: it may be frozen with a lock held.

Done by wrapping the real functions: the product has no switches for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mus.config import load_settings
from mus.jobs import edits, renames, trash, upload_batches
from mus.ledger.ledger import Ledger
from mus.library import moves, staged_uploads
from mus.library.reader_pool import ReaderPool
from mus.persistence.unit_of_work import UnitOfWork
from mus.worker import run_worker

#: This program.
EDIT_WORKER = Path(__file__)
TAG_STEPS = ("intent", "half a copy", "copy", "copy is known", "in place", "committed")
RENAME_STEPS = ("intent of a rename", "both names", "moved", "rename committed")
DELETE_STEPS = ("intent of a deletion", "a copy without its name", "both names across disks", "in the trash")
RESTORE_STEPS = ("intent of a restoring", "a copy without its name", "both names across disks", "restored")
PLACE_STEPS = ("places are kept", "one with both names", "one placed", "all placed", "parts enqueued")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    while not os.path.exists(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGSTOP)


def after_effect(number: int, task: str = "edit_track") -> None:
    effect, count = Ledger.effect, 0

    @asynccontextmanager
    async def counted(self: Ledger, job: Any, **progress: Any) -> AsyncIterator[UnitOfWork]:
        nonlocal count
        async with effect(self, job, **progress) as work:
            yield work
        count += job.task == task
        if count == number:
            die()

    Ledger.effect = counted  # type: ignore[method-assign]


def after(module: Any, name: str, number: int = 1, *, stop: Callable[[], None] = die) -> None:
    """After the call of this number."""
    wrapped, count = getattr(module, name), 0

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        result = wrapped(*arguments, **options)
        count += 1
        if count == number:
            stop()
        return result

    setattr(module, name, dying)


def with_half_a_copy() -> None:
    """As if the disk were slow: the copy has begun, and is the beginning of the file alone."""
    write = ReaderPool.write

    async def begun(self: ReaderPool, root: bytes, path: bytes, order: Any, **options: Any) -> Any:
        folder = os.path.join(root, os.path.dirname(path))
        with open(os.path.join(root, path), "rb") as file:
            half = file.read(os.path.getsize(os.path.join(root, path)) // 2)
        with open(os.path.join(folder, os.fsencode(order.part)), "wb") as copy:
            copy.write(half)
        die()
        return await write(self, root, path, order, **options)

    ReaderPool.write = begun  # type: ignore[method-assign]


def after_write() -> None:
    write = ReaderPool.write

    async def dying(self: ReaderPool, *arguments: Any, **options: Any) -> Any:
        await write(self, *arguments, **options)
        die()

    ReaderPool.write = dying  # type: ignore[method-assign]


def with_both_names() -> None:
    """Where a rename cannot refuse to replace, the file is linked first."""
    moves._renamed_without_replacing = lambda *_: False
    after(moves.os, "link")


STEPS: dict[str, Callable[[], None]] = {
    "intent": lambda: after_effect(1),
    "half a copy": with_half_a_copy,
    "copy": after_write,
    "copy is known": lambda: after_effect(2),
    "in place": lambda: after(edits, "replace"),
    "committed": lambda: after_effect(3),
    "intent of a rename": lambda: after_effect(1),
    "both names": with_both_names,
    "moved": lambda: after(renames, "move"),
    "rename committed": lambda: after_effect(2),
    "intent of a deletion": lambda: after_effect(1, "delete_track_by_id"),
    "intent of a restoring": lambda: after_effect(1, "restore_track_by_id"),
    "a copy without its name": lambda: after(moves, "copy_beside"),
    "both names across disks": lambda: after(moves, "names_to_disk"),
    "in the trash": lambda: after(trash, "move_into_trash"),
    "restored": lambda: after(trash, "move_back"),
    "places are kept": lambda: after_effect(1, "place_uploads"),
    "one with both names": with_both_names,
    "one placed": lambda: after(staged_uploads, "move"),
    "all placed": lambda: after(upload_batches, "place_all"),
    "parts enqueued": lambda: after_effect(2, "place_uploads"),
    "one taken back": lambda: after(staged_uploads, "move", 3),
    "frozen with one placed": lambda: after(staged_uploads, "move", stop=freeze),
}

if __name__ == "__main__":
    STEPS[sys.argv[1]]()
    asyncio.run(run_worker(load_settings(), [], []))
