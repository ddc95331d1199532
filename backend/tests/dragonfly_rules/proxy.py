"""What stands before the Valkey: one command after another, as one thread does them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import redis

from dragonfly_rules.resp import Failure, decode, encode, request, taken
from dragonfly_rules.scripts import Scripts
from dragonfly_rules.supported import Commands

_SUBSCRIBING = {b"SUBSCRIBE", b"PSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE"}
_BLOCKING = {b"XREADGROUP", b"XREAD", b"BLPOP", b"BRPOP", b"BLMOVE", b"BZPOPMIN", b"BZPOPMAX"}


@asynccontextmanager
async def judging(upstream: Path, address: Path) -> AsyncIterator[str]:
    """Serve at the socket `address` before the Valkey at `upstream`; gives the URL."""
    with redis.Redis(unix_socket_path=str(upstream), protocol=2, decode_responses=True) as client:
        client.response_callbacks.clear()
        commands = Commands.read(client)
    with Upstream(upstream) as for_scripts:
        scripts = Scripts(lambda command: decode(for_scripts.ask(list(command)))[0], commands.objection)
        sessions: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sessions.add(writer)
            try:
                with contextlib.suppress(ConnectionError), Upstream(upstream) as own:
                    await Session(reader, writer, own, scripts, commands).run()
            finally:
                sessions.discard(writer)
                writer.close()

        server = await asyncio.start_unix_server(serve, address)
        try:
            yield f"unix://{address}"
        finally:
            server.close()
            for writer in sessions:
                writer.close()
            while sessions:
                await asyncio.sleep(0)


class Upstream:
    """A connection to the Valkey. It is waited for, so that nothing interrupts a script or a transaction."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(address))
        self._buffer = bytearray()
        #: What came unasked for, before an answer.
        self.pushed: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, arguments: list[bytes]) -> None:
        self.socket.sendall(request(arguments))

    def received(self) -> list[bytes]:
        """The replies that are here, at least a part of one. Raises ConnectionError at the end."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the broker is gone")
        self._buffer += data
        return list(taken(self._buffer))

    def ask(self, arguments: list[bytes]) -> bytes:
        self.send(arguments)
        while True:
            for frame in self.received():
                if not frame.startswith(b">"):
                    return frame
                self.pushed.append(frame)


class Session:
    """One client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: Upstream,
        scripts: Scripts,
        commands: Commands,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._upstream, self._scripts, self._commands = upstream, scripts, commands
        self._version = 2
        self._queued: list[list[bytes]] | None = None
        self._is_spoiled = self._watches = self._listens = False
        self._awaited: tuple[list[bytes], asyncio.Future[None]] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        requests: asyncio.Queue[list[bytes]] = asyncio.Queue()
        loop.add_reader(self._upstream.socket, self._forward)
        worker = asyncio.create_task(self._work(requests))
        worker.add_done_callback(self._worked)
        try:
            buffer = bytearray()
            while data := await self._reader.read(1 << 18):
                buffer += data
                for frame in taken(buffer):
                    requests.put_nowait(decode(frame)[0])
        finally:
            loop.remove_reader(self._upstream.socket)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    def _worked(self, worker: asyncio.Task[None]) -> None:
        self._writer.close()
        if not worker.cancelled() and not isinstance(error := worker.exception(), OSError):
            # A mistake of the judge itself: the client sees a lost connection, whoever reads the log sees why.
            traceback.print_exception(error)

    def _forward(self) -> None:
        """What the Valkey says by itself: messages, and the end of a blocking read."""
        try:
            frames = self._upstream.received()
        except OSError:
            self._writer.close()
            return
        for frame in frames:
            if self._awaited is None or frame.startswith(b">"):
                self._writer.write(frame)
            else:
                command, answered = self._awaited
                self._writer.write(self._with_empty_streams(command, frame))
                answered.set_result(None)
                self._awaited = None

    async def _work(self, requests: asyncio.Queue[list[bytes]]) -> None:
        while True:
            command = await requests.get()
            name = command[0].upper()
            if self._listens or (name in _SUBSCRIBING and self._queued is None):
                self._listens = True
                self._upstream.send(command)
            elif self._queued is None and name in _BLOCKING and (name[:1] == b"B" or b"BLOCK" in _upper(command)):
                if problem := self._objection(command):
                    self._answer(problem)
                    continue
                self._awaited = command, asyncio.get_running_loop().create_future()
                self._upstream.send(command)
                await self._awaited[1]
            else:
                self._writer.write(self._one(name, command))
                for push in self._upstream.pushed:
                    self._writer.write(push)
                self._upstream.pushed.clear()
            await self._writer.drain()

    def _answer(self, value: Any) -> None:
        self._writer.write(encode(value, version=self._version))

    def _objection(self, command: Sequence[bytes]) -> Failure | None:
        problem = self._commands.objection([part.decode(errors="replace") for part in command])
        return Failure(problem.encode()) if problem else None

    def _one(self, name: bytes, command: list[bytes]) -> bytes:
        if name == b"EXEC" and self._queued is not None:
            return self._execute()
        if name == b"DISCARD" and self._queued is not None:
            self._queued, self._is_spoiled = None, False
            return self._upstream.ask([b"UNWATCH"])
        if self._queued is not None:
            if problem := self._objection(command):
                self._is_spoiled = True
                return encode(problem, version=self._version)
            self._queued.append(command)
            return b"+QUEUED\r\n"
        if name == b"MULTI":
            self._queued = []
            return b"+OK\r\n"
        if name == b"WATCH":
            self._watches = True
        return self._run(command, transaction=None)

    def _execute(self) -> bytes:
        queued, self._queued = self._queued or [], None
        spoiled, self._is_spoiled = self._is_spoiled, False
        watches, self._watches = self._watches, False
        if spoiled:
            self._upstream.ask([b"UNWATCH"])
            return b"-EXECABORT Transaction discarded because of previous errors\r\n"
        if watches:
            # An empty transaction tells whether what was watched has changed; nothing comes between it and these.
            self._upstream.ask([b"MULTI"])
            if (answer := self._upstream.ask([b"EXEC"])) != b"*0\r\n":
                return answer
        # A command that reaches for all shards makes it global; otherwise the keys are locked ahead
        # (DeduceExecMode in server/main_service.cc).
        mode = "GLOBAL" if any(command[0].upper() == b"SCRIPT" for command in queued) else "LOCK"
        replies = [self._run(command, transaction=mode) for command in queued]
        return b"*%d\r\n" % len(replies) + b"".join(replies)

    def _run(self, command: list[bytes], *, transaction: str | None) -> bytes:
        name = command[0].upper()
        if problem := self._objection(command):
            return encode(problem, version=self._version)
        if name in (b"EVAL", b"EVALSHA"):
            sha = self._scripts.load(command[1]) if name == b"EVAL" else command[1]
            keys, arguments = command[3 : 3 + int(command[2])], command[3 + int(command[2]) :]
            is_wrong = isinstance(sha, Failure)
            answer = sha if is_wrong else self._scripts.run(sha, keys, arguments, transaction=transaction)
            return encode(answer, version=self._version)
        if name == b"SCRIPT":
            kind = command[1].upper()
            known: dict[bytes, Any] = {
                b"LOAD": lambda: self._scripts.load(command[2]),
                b"EXISTS": lambda: self._scripts.exists(command[2:]),
                b"FLUSH": self._scripts.flush,
            }
            return encode(known[kind](), version=self._version)
        reply = self._upstream.ask(command)
        if name == b"HELLO" and not reply.startswith(b"-") and len(command) > 1:
            self._version = int(command[1])
        return self._with_empty_streams(command, reply)

    def _with_empty_streams(self, command: list[bytes], reply: bytes) -> bytes:
        """A read of several streams that finds something names the empty ones too (XReadGeneric2)."""
        if command[0].upper() != b"XREADGROUP" or reply[:1] not in b"*%" or reply.startswith(b"*-1"):
            return reply
        names = command[_upper(command).index(b"STREAMS") + 1 :]
        found, _ = decode(reply)
        streams = dict(zip(found[::2], found[1::2], strict=True) if reply.startswith(b"%") else found)
        names = names[: len(names) // 2]
        each = [encode(stream, version=2) + encode(streams.get(stream, []), version=2) for stream in names]
        if reply.startswith(b"%"):
            return b"%%%d\r\n" % len(names) + b"".join(each)
        return b"*%d\r\n" % len(names) + b"".join(b"*2\r\n" + pair for pair in each)


def _upper(command: Sequence[bytes]) -> list[bytes]:
    return [part.upper() for part in command]
