"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T]], *, seconds: float = 30.0, what: str = "the condition") -> T:
    """Poll until the condition is true, and return what it gave. Fails the test when it never comes."""
    deadline = time.monotonic() + seconds
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s; last: {value!r}"
        await asyncio.sleep(0.02)
