"""A process that has nothing to do any more gives back the memory that its last work took."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mus.persistence.database import Database

logger = logging.getLogger(__name__)

#: Without work for so long: a first scan of 20,000 tracks leaves 45 MiB in a worker, 300 requests 8 MiB in the API.
AFTER_SECONDS = 10.0


class Rest:
    """`worked` is called whenever something was done; `keep` takes a rest when that was a while ago."""

    def __init__(self, database: Database, is_busy: Callable[[], bool] = lambda: False) -> None:
        """`is_busy` tells of work under way that began long ago."""
        self._database = database
        self._is_busy = is_busy
        self._worked_at = 0.0
        self._has_worked = asyncio.Event()

    def worked(self) -> None:
        """Something was begun or done."""
        self._worked_at = time.monotonic()
        self._has_worked.set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Take rests during the block."""
        keeping = asyncio.create_task(self._keep(), name="mus-rest")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def _keep(self) -> None:
        while True:
            await self._has_worked.wait()
            while (left := AFTER_SECONDS - self._seconds_since_work()) > 0:  # noqa: ASYNC110 - time itself is it
                await asyncio.sleep(left)
            self._has_worked.clear()
            try:
                await self._take()
            except Exception:
                logger.exception("memory could not be given back this time")

    def _seconds_since_work(self) -> float:
        if self._is_busy():
            self._worked_at = time.monotonic()
        return time.monotonic() - self._worked_at

    async def _take(self) -> None:
        if not await self._database.rest():
            self.worked()  # so that it is tried again
            return
        gc.collect()
        await asyncio.to_thread(trim_heap)


def trim_heap() -> None:
    """Give free memory back to the system: the C library keeps it, wherever something above it is in use."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # not in musl
            ctypes.CDLL(None).malloc_trim(0)
