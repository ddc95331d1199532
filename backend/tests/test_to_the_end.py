"""What goes on when its caller is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from mus.to_the_end import to_the_end


async def cancelled_thrice(end: asyncio.Event, error: Exception | None = None) -> asyncio.Task[str]:
    """Who waits for something that goes on until `end`, and was cancelled three times."""

    async def work() -> str:
        await end.wait()
        if error is not None:
            raise error
        return "done"

    caller = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    return caller


async def test_a_caller_has_the_result_or_the_error() -> None:
    async def fail() -> None:
        raise OSError("no")

    assert await to_the_end(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(OSError, match="no"):
        await to_the_end(fail())


async def test_a_caller_that_was_cancelled_is_told_when_it_is_done() -> None:
    end = asyncio.Event()
    caller = await cancelled_thrice(end)
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_what_went_wrong_meanwhile_is_the_cause() -> None:
    end = asyncio.Event()
    caller = await cancelled_thrice(end, OSError("no"))
    end.set()
    await asyncio.wait({caller})
    with pytest.raises(asyncio.CancelledError) as told:
        await caller
    assert isinstance(told.value.__cause__, OSError)
