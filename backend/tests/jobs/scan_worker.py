"""A worker process whose walks go step by step, so that it can be stopped in the middle of one.

    python scan_worker.py kill EFFECTS      SIGKILL once a scan has committed so many effects
    python scan_worker.py hang              the walk hangs for good after its first folder, as on a dead disk
    python scan_worker.py finish EFFECTS    SIGKILL once a scan's last part has committed so many effects

It serves the high queue: it walks, and others read; the last form does both. Settings come from MUS_*. A walk's
next folder waits for the commit of the one before. Done by wrapping the real functions: the product has no switches
for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from mus.broker.queues import Queue
from mus.config import load_settings
from mus.jobs import compared_walk
from mus.ledger.ledger import Ledger
from mus.library import walk as walk_module
from mus.persistence.unit_of_work import UnitOfWork
from mus.worker import run_worker

_committed = threading.Semaphore(0)


def step_by_step(*, kill_after: int | None, task: str) -> None:
    walk = compared_walk.walk_or_take
    effects = 0

    def counted(effect: Any) -> Any:
        @asynccontextmanager
        async def counted_effect(
            self: Ledger, job: Any, *result: Any, **progress: Any
        ) -> AsyncIterator[UnitOfWork]:
            nonlocal effects
            async with effect(self, job, *result, **progress) as work:
                yield work
            if job.task == task:
                effects += 1
                if effects == kill_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                _committed.release()

        return counted_effect

    def waiting_walk(*arguments: Any, **options: Any) -> Iterator[Any]:
        for folder in walk(*arguments, **options):
            _committed.acquire()
            yield folder
            if kill_after is None:
                threading.Event().wait()

    changeable: Any = walk_module
    changeable._AT_ONCE = 1
    Ledger.effect = counted(Ledger.effect)  # type: ignore[method-assign]
    Ledger.last_effect = counted(Ledger.last_effect)  # type: ignore[method-assign]
    if task == "scan_library":
        compared_walk.walk_or_take = waiting_walk


if __name__ == "__main__":
    finishes = sys.argv[1] == "finish"
    step_by_step(
        kill_after=None if sys.argv[1] == "hang" else int(sys.argv[2]),
        task="finish_scan" if finishes else "scan_library",
    )
    asyncio.run(run_worker(load_settings(), [], [Queue.HIGH, Queue.MEDIUM] if finishes else [Queue.HIGH]))
