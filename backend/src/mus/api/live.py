"""Live answers: server-sent events and a WebSocket, which a slow listener cannot hold up.

A listener that does not take what it is sent fills its own queue only, and is hung up on when that is full
(`mus.events.watch.MOST_WAITING`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mus.events.watch import Event, EventKind, Watch

#: Where the server leaves the address of whoever is at the other end of the connection.
PEER = "mus.peer"
#: How long a stream may be silent: proxies close silent ones after half a minute or more.
KEEP_ALIVE_SECONDS = 15.0
_RECONNECT_MS = 2_000

#: Cuts a connection, whatever is still to be sent: given its scope.
HangUp = Callable[[Scope], None]


class EventStream(Response):
    """Everything a watch is told, as `text/event-stream`, until it ends or the listener goes."""

    media_type = "text/event-stream"

    def __init__(self, watch: Watch, stack: AsyncExitStack, hang_up: HangUp) -> None:
        """`stack` holds the watch, and is closed with the stream."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        # Its length is not known.
        del self.headers["content-length"]
        self._watch = watch
        self._stack = stack
        self._hang_up = hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await until_one_leaves(self._watch, self._send(send), _gone(receive), lambda: self._hang_up(scope))
            with suppress(OSError):
                await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send) -> None:
        async def body(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        await body(f"retry: {_RECONNECT_MS}\n\n")
        events = aiter(self._watch)
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                await body(": nothing new\n\n")
                continue
            await body("".join(_frames(event)))


def _frames(event: Event) -> Iterator[str]:
    """An event as it goes over the wire. The id is the time in microseconds: who comes again with it is told what
    ended since."""
    if event.kind in {EventKind.SNAPSHOT, EventKind.RESET}:
        yield _frame(event.kind, {"jobs": [message.as_json() for message in event.jobs]})
        return
    for message in event.jobs:
        yield _frame(message.type, message.as_json())
    if event.library is not None:
        yield _frame(event.library.type, event.library.as_json())


def _frame(name: str, data: dict[str, Any]) -> str:
    return f"id: {time.time_ns() // 1000}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_one_leaves(watch: Watch, sending: Any, leaving: Any, hang_up: Callable[[], None]) -> None:
    """Run `sending` to its end, or until `leaving` ends, or the watch is closed on a listener that is too slow."""
    tasks = {asyncio.create_task(sending), asyncio.create_task(leaving), asyncio.create_task(watch.closed.wait())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if watch.was_too_slow:
            hang_up()
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception) and not isinstance(result, OSError | WebSocketDisconnect):
            raise result


async def serve_progress(websocket: WebSocket, watch: Watch, hang_up: HangUp) -> None:
    """Send a job's messages as JSON texts; close with 1000 after its last, with 1001 when the server stops."""
    await websocket.accept()
    ended = False

    async def send() -> None:
        nonlocal ended
        async for event in watch:
            for message in event.jobs:
                await websocket.send_text(json.dumps(message.as_json(), separators=(",", ":")))
                ended = message.is_last

    async def leave() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    await until_one_leaves(watch, send(), leave(), lambda: hang_up(websocket.scope))
    with suppress(RuntimeError, OSError, WebSocketDisconnect):
        await websocket.close(1000 if ended else 1001)
