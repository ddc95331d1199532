"""Callers who take their time: what they send is waited for, but not without end.

uvicorn waits for ever for a request's head and for its body. Whoever opens connections and sends a byte now and
then, as anybody may who reaches the address, would hold a file descriptor with each, and a half-written file with
an upload.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: From a connection's beginning, or from a request's first byte, to the end of its head.
HEAD_SECONDS = 30.0
#: How long a body may stand still, and what it must come to on the average: less than any line carries.
SILENT_SECONDS, LEAST_BYTES_PER_SECOND = 60.0, 4096


class ImpatientProtocol(HttpToolsProtocol):
    """Cuts connections on which no request comes."""

    _head_is_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            return  # a WebSocket by now
        if self.cycle is None or self.cycle.response_complete:
            if self.cycle is not None and self.cycle.more_body:
                # Its answer came before its body was over: the rest may take long, as long as it comes.
                self._head_came()
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_is_late is None:
            self._head_is_late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_came(self) -> None:
        if self._head_is_late is not None:
            self._head_is_late.cancel()
            self._head_is_late = None


class PatientReceive:
    """The body of a request of `length` bytes, until it stands still or is too slow: then its sender has gone."""

    def __init__(self, receive: Receive, length: int) -> None:
        self._receive = receive
        self._allowed_seconds = SILENT_SECONDS + length / LEAST_BYTES_PER_SECOND
        #: From when it is asked for: before, it is mus that keeps the sender waiting.
        self._ends: float | None = None
        self._is_whole = length == 0
        #: Whether the sender is there still, and was given up: the connection is of no use any more.
        self.gave_up = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if self._ends is None:
            self._ends = time.monotonic() + self._allowed_seconds
        try:
            async with asyncio.timeout(min(SILENT_SECONDS, self._ends - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self.gave_up = True
            return {"type": "http.disconnect"}
        self._is_whole = not message.get("more_body", False)
        return message
