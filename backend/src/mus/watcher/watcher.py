"""`mus watch`: filter → settle → enqueue, for every library, and what keeps that going.

    file system ──▶ Events | Polling ──▶ EventFilter ──▶ Settler ──▶ Enqueuer ──▶ job rows
      (notice)                            (filter)       (settle)    (enqueue)

The disk is the truth and events are hints, so whenever some may have been missed, a quick scan is enqueued: at
the start, when watching failed, when a root or the broker came back, when too much happened at once.

Of several watchers one leads, the holder of a lease; another one's start is its taking over.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from mus.broker.runtime import Runtime, opened
from mus.config import Settings
from mus.errors import MusError
from mus.jobs import JOB_MODULES
from mus.ledger.lease import WATCHER, Lease
from mus.library.paths import shown
from mus.persistence.models import Library
from mus.persistence.prepared import Prepared
from mus.turns import until_turn
from mus.watcher.library_watcher import LibraryWatcher, WatchedLibrary

logger = logging.getLogger(__name__)

_LIBRARIES_SECONDS = 2.0
_PING_SECONDS = 2.0
_PING_TIMEOUT_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0


_LIBRARIES = Prepared(select(Library.id, Library.root, Library.watch).where(Library.removing_since.is_(None)))


class _Watchers:
    """A LibraryWatcher in a task for each row of the table."""

    def __init__(self, runtime: Runtime, lease: Lease, tasks: asyncio.TaskGroup) -> None:
        self._runtime = runtime
        self._lease = lease
        self._tasks = tasks
        self._running: dict[WatchedLibrary, tuple[LibraryWatcher, asyncio.Task[None]]] = {}

    async def keep_in_step(self) -> None:
        while True:
            try:
                rows = await self._runtime.database.look(lambda look: look.all(_LIBRARIES))
                roots = self._runtime.settings.roots
                self._adopt({WatchedLibrary(row.id, roots.here(row.root), row.watch) for row in rows})
            except (MusError, SQLAlchemyError, OSError) as error:
                logger.warning("the table of libraries cannot be read now: %s", error)
            await asyncio.sleep(until_turn(_LIBRARIES_SECONDS))

    def _adopt(self, libraries: set[WatchedLibrary]) -> None:
        for library in self._running.keys() - libraries:
            self._running.pop(library)[1].cancel()
        for library in sorted(libraries - self._running.keys()):
            watcher = LibraryWatcher(self._runtime, self._lease, library)
            task = self._tasks.create_task(self._keep_watching(watcher), name=f"mus-watch {library.id}")
            self._running[library] = (watcher, task)

    @staticmethod
    async def _keep_watching(watcher: LibraryWatcher) -> None:
        pause = 1.0
        while True:
            try:
                await watcher.run()
            except Exception:
                # A fault in one library's watching must not end that of the others.
                logger.exception("watching %s failed; again in %.0f s", shown(watcher.root), pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def keep_asking_broker(self) -> None:
        """Jobs may be lost with a broker's memory, and events with a machine that slept: scan when it is back."""
        was_there = True
        while True:
            is_there = await _answered(self._runtime.connection.redis.ping())
            if is_there and not was_there:
                for library, (watcher, _) in self._running.items():
                    if library.watch != "off":
                        watcher.ask_for_scan("the broker came back")
            was_there = is_there
            await asyncio.sleep(until_turn(_PING_SECONDS))


async def _answered(request: Awaitable[Any]) -> bool:
    """Whether the broker answered in time.

    In a task of its own: a request that is cancelled may end in an error of redis instead (seen on 8.1.0), and who
    awaited it directly would then never end.
    """
    task = asyncio.ensure_future(request)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        await asyncio.wait({task}, timeout=_PING_TIMEOUT_SECONDS)
    finally:
        task.cancel()
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    if error is not None and not isinstance(error, RedisError | OSError):
        raise error
    return error is None


async def watch(runtime: Runtime, stopping: asyncio.Event) -> None:
    """Watch every library in the table, also those that are added later, until `stopping` is set.

    While another process watches this one waits, ready to take over. `load_jobs` must have been called.
    """
    lease = Lease(
        runtime.database,
        WATCHER,
        beat_seconds=runtime.settings.beat_seconds,
        dead_after_seconds=runtime.settings.dead_after_seconds,
        data_dir=runtime.settings.data_dir,
    )
    watching = asyncio.create_task(lease.lead(lambda: _watch_all(runtime, lease)), name="mus-watchers")
    stopped = asyncio.create_task(stopping.wait(), name="mus-watch-stop")
    try:
        await asyncio.wait({watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        # What was not enqueued yet is found by the quick scan of the next start.
        watching.cancel()
        stopped.cancel()
        await asyncio.gather(watching, stopped, return_exceptions=True)


async def _watch_all(runtime: Runtime, lease: Lease) -> None:
    async with asyncio.TaskGroup() as tasks:
        watchers = _Watchers(runtime, lease, tasks)
        tasks.create_task(watchers.keep_in_step(), name="mus-libraries")
        tasks.create_task(watchers.keep_asking_broker(), name="mus-ping")


@contextmanager
def _stopped_by_signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def load_jobs() -> None:
    """Import the job modules: what is enqueued is checked against their tasks."""
    for module in JOB_MODULES:
        importlib.import_module(module)


async def run_watcher(settings: Settings) -> None:
    """`mus watch`: until SIGTERM or SIGINT."""
    load_jobs()
    stopping = asyncio.Event()
    with _stopped_by_signals(stopping):
        async with opened(settings) as runtime:
            await watch(runtime, stopping)
