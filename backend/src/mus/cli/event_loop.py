"""The event loop of a command: uvloop where there is one."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

#: Objects made before the collector looks again, and how often it looks at the older ones. By its own 700 it looked
#: at what a scan has in hand, thousands of readings, again and again, for a twentieth of the time.
_GC_THRESHOLDS = (20_000, 20, 20)
#: Threads for what blocks. By default they are four more than cores, fewer than the jobs of a worker: some that
#: hang on a dead disk would keep all other libraries' jobs waiting.
_MOST_THREADS = 64


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end. The command's imports are done by now, and stay out of the garbage collector's way."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()
    if sys.platform == "win32":
        return asyncio.run(_watched(main))
    import uvloop

    return uvloop.run(_watched(main))


async def _watched(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="mus"))
    return await main


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, but for one thing: when a wait for a Unix socket is cancelled in the turn in which that
    becomes ready, anyio (4.16) still sets the result that nobody waits for. Seen as a worker stopped."""
    is_late = isinstance(context.get("exception"), asyncio.InvalidStateError)
    if not (is_late and "method set_result of _asyncio.Future" in context["message"]):
        loop.default_exception_handler(context)
