"""A real Valkey that wants passwords, on a socket and a port, and behind TLS as well.

The embedded server's binary is built without TLS, so a terminator stands before it, as managed services have one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
import trustme

from mus.broker.embedded_server import find_binary

#: What URLs have a meaning for, and a name of a user who may do everything.
PASSWORD = "p@ss/w:rd?#%41+ü"
USER = "mu:s"


def credentials(user: str = "", password: str = PASSWORD) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


class TlsTerminator:
    """Decrypts for a server's socket, from a thread of its own; `host` is the name in its certificate."""

    def __init__(self, authority: trustme.CA, socket: Path, host: str = "localhost") -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(host).configure_cert(self._context)
        self._socket = str(socket)
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-terminator", daemon=True)
        self._thread.start()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.handshakes = 0
        self.is_backend_away = False
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before."""
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def close(self) -> None:
        """Stop listening, and break every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    def end(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.transport.abort()
        while self._connections:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        backend: asyncio.StreamWriter | None = None
        self.handshakes += 1
        try:
            if self.is_backend_away:
                raise ConnectionRefusedError
            from_backend, backend = await asyncio.open_unix_connection(self._socket)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, backend))
                pumps.create_task(_pump(from_backend, writer))
        except* OSError:
            pass
        finally:
            for end in (writer, backend):
                if end is not None:
                    end.transport.abort()
            self._connections.discard(writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # so that the other direction ends too


@dataclass
class SecuredBroker:
    socket: Path
    port: int
    tls: TlsTerminator
    authority: Path

    @property
    def tls_url(self) -> str:
        """As somebody would set it, with the user of many rights and the authority's certificate."""
        return f"rediss://{credentials(USER)}@localhost:{self.tls.port}/2?ssl_ca_certs={quote(str(self.authority))}"


@contextmanager
def secured_broker() -> Iterator[SecuredBroker]:
    with tempfile.TemporaryDirectory(prefix="mus-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        socket, configuration, certificates = folder / "s", folder / "valkey.conf", folder / "authority.pem"
        port = _free_port()
        # In a file, as one would do it: not in `ps`.
        configuration.write_text(
            f'port {port}\nbind 127.0.0.1\nunixsocket "{socket}"\nsave ""\nappendonly no\n'
            f'requirepass "{PASSWORD}"\nuser {USER} on ">{PASSWORD}" ~* &* +@all -function -fcall -fcall_ro\n'
        )
        process = subprocess.Popen([str(find_binary()), str(configuration)], stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        with redis.Redis(unix_socket_path=str(socket), password=PASSWORD) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None, "valkey-server did not start"
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(certificates)
        tls = TlsTerminator(authority, socket)
        stack.callback(tls.end)
        yield SecuredBroker(socket, port, tls, certificates)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
