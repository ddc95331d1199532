"""A scan's walk of the folder, compared with what the database knows, in a thread beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from mus.library.scan_plan import ScanPlan
from mus.library.walk import Digested, FoundFiles, WalkDigest, WalkReport
from mus.library.walk_ahead import walk_or_take


@dataclass
class ComparedWalk:
    """A walk and its comparison, in a thread."""

    root: bytes
    report: WalkReport = field(default_factory=WalkReport)
    _walking: asyncio.Task[None] | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _to_read: list[list[bytes]] = field(default_factory=list)
    _plan: Future[ScanPlan] = field(default_factory=Future)
    #: What it is to find just so, and where it turned out that it does not.
    _expected: WalkDigest | None = None
    _differs: Future[None] = field(default_factory=Future)
    _digest: Future[WalkDigest] = field(default_factory=Future)

    def begin(self, start: bytes) -> None:
        """Walk from there. What is found waits until `compare` is called."""
        loop = asyncio.get_running_loop()
        wake = partial(loop.call_soon_threadsafe, self._arrived.set)
        self._walking = asyncio.create_task(asyncio.to_thread(self._run, start, wake))
        self._walking.add_done_callback(lambda _: self._arrived.set())

    def compare(self, plan: ScanPlan) -> None:
        """Compare what is found with that plan."""
        self._plan.set_result(plan)

    async def finds_just(self, expected: WalkDigest) -> bool:
        """Whether all that it finds is this; False as soon as it finds anything else. It goes on meanwhile, and may
        be compared after that. Raises what the walk raises."""
        assert self._walking is not None
        self._expected = expected
        differs, digest = asyncio.wrap_future(self._differs), asyncio.wrap_future(self._digest)
        waited_for: set[asyncio.Future[Any]] = {differs, digest, self._walking}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if differs.done():
            return False
        if not digest.done():
            await self._walking
        return await digest == expected

    async def digest(self) -> WalkDigest:
        """All that was found, of a walk that is over."""
        return await asyncio.wrap_future(self._digest)

    async def to_read(self) -> AsyncIterator[list[list[bytes]]]:
        """What is to be read, as it is found; see `compare`. Raises what the walk raises."""
        assert self._walking is not None
        while not self._walking.done():
            await self._arrived.wait()
            self._arrived.clear()
            yield self._take()
        await self._walking
        yield self._take()

    def stop(self) -> None:
        self._stopped.set()
        self._plan.cancel()
        if self._walking is not None:
            self._walking.cancel()

    def _run(self, start: bytes, wake: Callable[[], Any]) -> None:
        digested = Digested(walk_or_take(self.root, start, self.report, stopped=self._stopped.is_set))
        found = iter(digested)
        # The listing takes the interpreter's lock for moments only, and the database's text is made without it.
        early: list[FoundFiles] = []
        for files in found:
            early.append(files)
            if self._plan.done():
                break
            if self._expected is not None and not digested.begins(self._expected) and not self._differs.done():
                self._differs.set_result(None)
        else:
            self._tell_digest(digested)
        plan = self._plan.result()
        for files in chain(early, found):
            to_read = plan.consider(files)
            if to_read and not self._stopped.is_set():
                with self._lock:
                    self._to_read.append(to_read)
                wake()
        self._tell_digest(digested)

    def _tell_digest(self, digested: Digested) -> None:
        if not self._digest.done() and not self._stopped.is_set():
            self._digest.set_result(digested.digest())

    def _take(self) -> list[list[bytes]]:
        with self._lock:
            taken, self._to_read = self._to_read, []
        return taken
