"""What the producing processes of `job_measures.py` do, whichever queue they fill.

    fill LEVEL KIND COUNT SECONDS    jobs in bulk
    probe COUNT GAP_SECONDS SEED     high-priority jobs, one at a time, at random moments
    flood BACKLOG                    keep that many high-priority jobs waiting, until SIGTERM
    enqueue COUNT                    jobs without work: one at a time, then as many in bulk

Each prints one JSON object at its end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

LEVELS = ("high", "medium", "low")
_FLOOD_BATCH = 100
_AT_ONCE = 100


class Producer(ABC):
    @abstractmethod
    async def one(self, level: str, kind: str, token: int) -> int | None:
        """Enqueue a job without work. Returns when its transaction was committed, where there is one."""

    @abstractmethod
    async def many(self, level: str, kind: str, count: int, seconds: float) -> None: ...

    async def waiting(self, level: str) -> int:
        """Messages of the level that have not ended. Only the floods need it."""
        raise NotImplementedError

    async def run(self, arguments: list[str]) -> None:
        command, *rest = arguments
        print(json.dumps(await getattr(self, command)(*rest)), flush=True)

    async def fill(self, level: str, kind: str, count: str, seconds: str) -> dict[str, Any]:
        await self.one(level, "w", 0)
        before = time.process_time()
        await self.many(level, kind, int(count), float(seconds))
        return {"cpu_seconds": time.process_time() - before}

    async def probe(self, count: str, gap_seconds: str, seed: str) -> dict[str, Any]:
        times: dict[int, tuple[int, int | None]] = {}
        rng = random.Random(int(seed))
        # The first one opens connections and compiles statements: it is not counted.
        await self.one("high", "w", 0)
        first = int(seed) * 100_000
        for token in range(first, first + int(count)):
            await asyncio.sleep(rng.expovariate(1 / float(gap_seconds)))
            began = time.monotonic_ns()
            times[token] = (began, await self.one("high", "p", token))
        return {"times": times}

    async def flood(self, backlog: str) -> dict[str, Any]:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await self.many("high", "h", int(backlog), 0.0)
        least = int(backlog)
        while not stopping.is_set():
            waiting = await self.waiting("high")
            least = min(least, waiting)
            if waiting < int(backlog):
                await self.many("high", "h", _FLOOD_BATCH, 0.0)
            else:
                await asyncio.sleep(0.01)
        return {"least_waiting": least}

    async def enqueue(self, count: str) -> dict[str, Any]:
        await self.one("high", "n", 0)
        began = time.monotonic()
        for token in range(int(count)):
            await self.one(LEVELS[token % 3], "n", token)
        between = time.monotonic()
        for level in LEVELS:
            await self.many(level, "n", int(count) // 3, 0.0)
        return {
            "one_at_a_time_per_second": int(count) / (between - began),
            "in_bulk_per_second": int(count) // 3 * 3 / (time.monotonic() - between),
            "enqueued": 1 + int(count) + int(count) // 3 * 3,
        }


async def at_once(enqueue: Callable[[int], Awaitable[Any]], count: int) -> None:
    """In bulk for a queue that enqueues one job in a call: a hundred calls under way at a time."""
    for begin in range(0, count, _AT_ONCE):
        await asyncio.gather(*(enqueue(token) for token in range(begin, min(begin + _AT_ONCE, count))))


def main(produce: Callable[[list[str]], Awaitable[None]]) -> None:
    gc.freeze()
    uvloop.run(produce(sys.argv[1:]))  # type: ignore[arg-type]
