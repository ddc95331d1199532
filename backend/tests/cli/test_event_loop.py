"""What a command's event loop reports, and what it does not."""

from __future__ import annotations

import asyncio

import pytest

from mus.cli.event_loop import run


def test_a_result_that_comes_after_its_future_was_cancelled_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        late = loop.create_future()
        late.cancel()
        loop.call_soon(late.set_result, None)
        await asyncio.sleep(0)

    run(main())

    assert caplog.records == []


def test_a_callback_that_fails_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon([].remove, "what is not there")
        await asyncio.sleep(0)

    run(main())

    assert "ValueError" in caplog.text
