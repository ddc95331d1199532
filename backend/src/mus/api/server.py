"""Serve the API over HTTP, inside a running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import urlunsplit

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from mus.api.app import create_app, use_runtime
from mus.api.live import PEER
from mus.api.slow_callers import ImpatientProtocol
from mus.broker.runtime import Runtime, opened
from mus.config import Settings
from mus.errors import ConfigurationError
from mus.rest import Rest

#: How long open requests may take once the server stops.
GRACE_SECONDS = 5


class _State(ServerState):
    """Knows the date when it is asked for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._second = 0
        self._headers: list[tuple[bytes, bytes]] = []
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Those of every answer."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._headers = [(b"date", formatdate(now, usegmt=True).encode()), *self._config.encoded_headers]
        return self._headers

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """uvicorn's first, before there are any."""


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it, and tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()
        self._ending = asyncio.Event()
        self.server_state = _State(config)

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it is to end, and renews the date once a second."""
        await self._ending.wait()

    def end(self) -> None:
        """Have `serve` return, in good order."""
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    def hang_up(self, scope: Scope) -> None:
        """Cut the connection that a request came by, whatever is still to be sent on it."""
        for connection in list(self.server_state.connections):
            # All its kinds of connections have these two.
            client, transport = getattr(connection, "client", None), getattr(connection, "transport", None)
            if client is not None and transport is not None and client == scope.get(PEER):
                transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(settings: Settings, runtime: Runtime, app: FastAPI | None = None) -> AsyncIterator[str]:
    """Serve for the block; yields the address, with the real port where port 0 asked for a free one. `app` is the
    application where it was made already.

    Raises ConfigurationError when the address cannot be listened on.
    """
    app = app or create_app(settings)
    use_runtime(app, runtime)
    # Its types and Starlette's for the same thing differ.
    asgi: Any = app
    trusted = [address for address in settings.trusted_proxies.replace(",", " ").split() if address]
    listener = await _listen(settings.host, settings.port)
    rest = Rest(runtime.database)
    rest.worked()  # the start
    config = uvicorn.Config(
        _noted(ProxyHeadersMiddleware(asgi, trusted) if trusted else asgi, rest),
        log_config=None,
        http=ImpatientProtocol,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # Whom else the caller may be said to be is for `trusted` alone.
        proxy_headers=False,
    )
    server = _Server(config)
    app.state.hang_up = server.hang_up
    task = asyncio.create_task(server.serve(sockets=[listener]), name="mus-api")
    try:
        await _first_of(server.answers.wait(), task)
        if not server.started:
            await task
            raise RuntimeError("the server ended before it had started")
        async with rest.kept():
            yield _address(settings.host, listener.getsockname()[1])
    finally:
        if server.started:
            # Streams without an end would be waited for.
            await app.state.hub.aclose()
        server.end()
        await task
        listener.close()


def _noted(app: Any, rest: Rest) -> ASGIApp:
    """Note who is at the other end, before a proxy's word for it takes its place, and that there is work."""

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = scope.get("client")
        rest.worked()
        try:
            await app(scope, receive, send)
        finally:
            rest.worked()

    return noted


async def serve(settings: Settings, runtime: Runtime | None = None) -> None:
    """`mus serve`: until SIGTERM or SIGINT.

    Raises what `serving` and `mus.broker.runtime.opened` raise.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stopping.set)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if runtime is None:
                runtime = await stack.enter_async_context(opened(settings))
            await stack.enter_async_context(serving(settings, runtime))
            await stopping.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _first_of(event: Coroutine[Any, Any, object], task: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(event)
    try:
        await asyncio.wait((waiting, task), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _listen(host: str, port: int) -> socket.socket:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConfigurationError(f"MUS_HOST: {host!r} is no address of this machine") from None
    # `localhost` is both ::1 and 127.0.0.1, and more programs try the latter.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(0)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} is in use already: stop what listens there, or choose another with MUS_PORT"
            ) from None
        raise ConfigurationError(f"Cannot listen on {host}, port {port}: {error.strerror}") from None
    return listener


def _address(host: str, port: int) -> str:
    return urlunsplit(("http", f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "", "", ""))
