"""A pool of child processes that read files, so that a file which hangs or crashes a library costs one child.

    async with ReaderPool(2) as pool:
        readings = await pool.run("read", root, paths, file_timeout_seconds=60)

A child that dies or says nothing for too long is killed, and the files it had not answered for are read
again by a fresh one that acknowledges each: so the file at fault is known exactly, and no other is blamed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Collection, Sequence
from contextvars import Context
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from mus.errors import AdminRequiredError, ErrorCategory
from mus.library.analysis import Analysis
from mus.library.cover_thumbnails import UsablePicture
from mus.library.edit_order import EditedCopy, EditOrder
from mus.library.file_reading import FileReading, failed_reading
from mus.library.listening import Aspect, Listening
from mus.library.reader_process import (
    BATCH_BYTES,
    BATCH_SECONDS,
    MEMORY_LIMIT_BYTES,
    decode_frame,
    encode_frame,
)
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.sound import HeardSound
from mus.library.transcoding import Transcoded, TranscodeOrder

Operation = Literal["read", "hear", "analyse", "listen", "transcode", "write", "picture"]
Result = FileReading | HeardSound | Analysis | Listening | Transcoded | EditedCopy | UsablePicture

#: Starting Python and importing libraries, on a machine that is busy with other things.
START_SECONDS = 60.0
#: A child nobody needed for this long is ended, for its memory.
IDLE_SECONDS = 30.0
_MAX_FRAME_BYTES = 256 * 1024 * 1024


class _ChildGoneError(Exception):
    """The child ended, or spoke nonsense."""


class _Child:
    """One process and its two pipes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.operations: set[str] = set()
        self.retirement: asyncio.TimerHandle | None = None

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        if self.retirement is not None:
            self.retirement.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(encode_frame(message))
            await self.process.stdin.drain()
        except OSError as error:
            raise _ChildGoneError from error

    async def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        try:
            (length,) = struct.unpack(">I", await self.process.stdout.readexactly(4))
            if length > _MAX_FRAME_BYTES:
                raise _ChildGoneError
            message = decode_frame(await self.process.stdout.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise _ChildGoneError from error
        return message if isinstance(message, dict) else {}


class ReaderPool:
    """At most `size` children, started when needed. `nice` is added to their scheduling priority."""

    def __init__(
        self,
        size: int,
        *,
        rules: ReadingRules = DEFAULT_RULES,
        nice: int = 0,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self._free = asyncio.Semaphore(size)
        self._rules = {"separators": rules.separators, "articles": rules.articles}
        self._nice = nice
        self._memory_limit_bytes = memory_limit_bytes
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._reapers: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every child and wait until none is left. A `run` under way fails."""
        self._closed = True
        self._idle.clear()
        for child in list(self._children):
            self._discard(child)
        await asyncio.gather(*self._reapers)

    @property
    def process_ids(self) -> list[int]:
        """Of the children that live."""
        return [child.process.pid for child in self._children if child.is_alive]

    @overload
    async def run(
        self,
        operation: Literal["read"],
        root: bytes,
        paths: Sequence[bytes],
        *,
        thumbnails_dir: Path | None = None,
        file_timeout_seconds: float,
    ) -> list[FileReading]: ...

    @overload
    async def run(
        self,
        operation: Literal["hear"],
        root: bytes,
        paths: Sequence[bytes],
        *,
        thumbnails_dir: Path | None = None,
        file_timeout_seconds: float,
    ) -> list[HeardSound]: ...

    @overload
    async def run(
        self,
        operation: Literal["analyse"],
        root: bytes,
        paths: Sequence[bytes],
        *,
        thumbnails_dir: Path | None = None,
        file_timeout_seconds: float,
    ) -> list[Analysis]: ...

    @overload
    async def run(
        self,
        operation: Literal["listen"],
        root: bytes,
        paths: Sequence[bytes],
        *,
        aspects: Collection[Aspect],
        file_timeout_seconds: float,
    ) -> list[Listening]: ...

    async def run(
        self,
        operation: Operation,
        root: bytes,
        paths: Sequence[bytes],
        *,
        thumbnails_dir: Path | None = None,
        aspects: Collection[Aspect] = (),
        file_timeout_seconds: float,
    ) -> list[FileReading] | list[HeardSound] | list[Analysis] | list[Listening]:
        """Read, hear, analyse or listen to the files at `paths`, relative to `root`, in one child; results in their
        order.

        A file may take `file_timeout_seconds` from one sign of progress to the next: listening gives one a second,
        the others none. Waits for a free child. Cancelling it kills the child at once. Raises AdminRequiredError if
        children do not start.
        """
        if operation == "analyse" and thumbnails_dir is None:
            raise ValueError("analyse needs a thumbnails_dir")
        return await self._run(
            operation,
            root,
            paths,
            thumbnails_dir=thumbnails_dir,
            aspects=aspects,
            file_timeout_seconds=file_timeout_seconds,
        )

    async def write(
        self, root: bytes, path: bytes, order: EditOrder, *, thumbnails_dir: Path, file_timeout_seconds: float
    ) -> EditedCopy:
        """Make an edited copy beside the file; see `tag_writer.write_copy`, and `run` for the rest.

        A child that is killed may leave the copy, under the name that the order gives.
        """
        orders = [order.as_json()]
        (edited,) = await self._run(
            "write",
            root,
            [path],
            orders=orders,
            thumbnails_dir=thumbnails_dir,
            file_timeout_seconds=file_timeout_seconds,
        )
        assert isinstance(edited, EditedCopy)
        return edited

    async def transcode(
        self, root: bytes, path: bytes, order: TranscodeOrder, *, file_timeout_seconds: float
    ) -> Transcoded:
        """Write the file's sound in another format; see `transcoding.transcode`, and `run` for the rest.

        It tells that it gets on. A child that dies is followed by one that begins again in the same place.
        """
        orders = [order.as_json()]
        (transcoded,) = await self._run(
            "transcode", root, [path], orders=orders, file_timeout_seconds=file_timeout_seconds
        )
        assert isinstance(transcoded, Transcoded)
        return transcoded

    async def usable_picture(self, picture: bytes, *, timeout_seconds: float) -> UsablePicture:
        """The picture as a JPEG or PNG that can be put into files; see `cover_thumbnails.usable_picture`."""
        orders = [base64.b64encode(picture).decode("ascii")]
        (usable,) = await self._run("picture", b"", [b""], orders=orders, file_timeout_seconds=timeout_seconds)
        assert isinstance(usable, UsablePicture)
        return usable

    async def _run(
        self,
        operation: Operation,
        root: bytes,
        paths: Sequence[bytes],
        *,
        orders: Sequence[Any] = (),
        thumbnails_dir: Path | None = None,
        aspects: Collection[Aspect] = (),
        file_timeout_seconds: float,
    ) -> list[Any]:
        results: list[Any] = []
        acknowledge_each = False
        async with self._free:
            while len(results) < len(paths):
                rest = paths[len(results) :]
                request = {
                    "operation": operation,
                    "root": os.fsdecode(root),
                    "paths": [os.fsdecode(path) for path in rest],
                    "orders": list(orders[len(results) :]),
                    "rules": self._rules,
                    "thumbnails_dir": None if thumbnails_dir is None else str(thumbnails_dir),
                    "aspects": sorted(aspects),
                    "acknowledge_each": acknowledge_each,
                }
                fault = await self._run_once(request, rest, results, file_timeout_seconds)
                if fault is None:
                    continue
                if acknowledge_each:
                    results.append(_blame(operation, paths[len(results)], fault))
                acknowledge_each = True
        return results

    async def _run_once(
        self, request: dict[str, Any], paths: Sequence[bytes], results: list[Any], file_timeout_seconds: float
    ) -> str | None:
        """Add the results one child gives; returns what went wrong with it, or None."""
        operation: Operation = request["operation"]
        # Results wait in the child for so long before they are sent.
        patience = file_timeout_seconds + (0 if request["acknowledge_each"] else BATCH_SECONDS)
        wanted = len(results) + len(paths)
        async with self._child(operation) as child:
            if not await self._begin(child, request):
                return None
            try:
                while len(results) < wanted:
                    async with asyncio.timeout(patience):
                        message = await child.receive()
                    for values in message["results"]:
                        path = paths[len(results) + len(paths) - wanted]
                        results.append(_result(operation, path, values))
            except TimeoutError:
                self._discard(child)
                if operation in {"listen", "transcode"}:
                    return f"The reader did not get on with this file for {file_timeout_seconds:g} s"
                return f"Reading this file took longer than {file_timeout_seconds:g} s"
            except _ChildGoneError:
                self._discard(child)
                return "The reader crashed on this file"
        return None

    async def _begin(self, child: _Child, request: dict[str, Any]) -> bool:
        """Hand the request over and wait until the child is ready for the first file.

        False if the child had served before and died since, which proves nothing: another one is due.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.send(request)
                await child.receive()
        except (TimeoutError, _ChildGoneError):
            self._discard(child)
            if child.operations:
                return False
            raise AdminRequiredError(
                "The process that reads music files does not start",
                details={"exit_status": child.process.returncode, "python": sys.executable},
                recovery_actions=("Check the machine's free memory", "Run `mus doctor`"),
            ) from None
        return True

    @contextlib.asynccontextmanager
    async def _child(self, operation: Operation) -> AsyncIterator[_Child]:
        """A child for one request, kept only if that ended well: no half-read pipe is used again."""
        child = self._take(operation) or await self._start()
        try:
            yield child
        except BaseException:
            self._discard(child)
            raise
        if child in self._children:
            child.operations.add(operation)
            self._keep(child)

    def _take(self, operation: Operation) -> _Child | None:
        """An idle child, one that has already imported what the operation needs if there is one."""
        for child in sorted(self._idle, key=lambda child: operation not in child.operations):
            self._idle.remove(child)
            if child.retirement is not None:
                child.retirement.cancel()
            if child.is_alive:
                return child
            self._discard(child)
        return None

    async def _start(self) -> _Child:
        if self._closed:
            raise RuntimeError("the pool is closed")
        arguments = (str(os.getpid()), str(self._nice), str(self._memory_limit_bytes))
        # -P: nothing is imported from the current folder, which may be anyone's.
        command = (sys.executable, "-P", "-m", "mus.library.reader_process", *arguments)
        # A child of a cancelled start must not be lost: the start ends, then the child does. In no job's context:
        # with it the job that began a child would be kept for as long as that lives, its arguments and all.
        starting = asyncio.create_task(
            # One malloc arena, and no threads of NumPy's: what they set aside counts against the memory limit.
            asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=BATCH_BYTES,
                env={
                    **os.environ,
                    "MALLOC_ARENA_MAX": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONWARNINGS": "ignore",
                },
            ),
            context=Context(),
        )
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._discard_started)
            raise
        except OSError as error:
            raise AdminRequiredError(
                "The process that reads music files does not start", details={"error": str(error)}
            ) from None
        child = _Child(process)
        self._children.add(child)
        return child

    def _discard_started(self, starting: asyncio.Future[Process]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            child = _Child(starting.result())
            self._children.add(child)
            self._discard(child)

    def _keep(self, child: _Child) -> None:
        if self._closed or not child.is_alive:
            self._discard(child)
            return
        child.retirement = asyncio.get_running_loop().call_later(
            IDLE_SECONDS, self._retire, child, context=Context()
        )
        self._idle.append(child)

    def _retire(self, child: _Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
            self._discard(child)

    def _discard(self, child: _Child) -> None:
        """Kill a child, if it lives, and reap it in the background."""
        if child not in self._children:
            return
        self._children.discard(child)
        child.kill()
        reaper = asyncio.ensure_future(_reap(child.process))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)


async def _reap(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


def _result(operation: Operation, path: bytes, values: Any) -> Result:
    if operation == "read":
        return FileReading.from_json(path, values)
    if operation == "hear":
        return HeardSound.from_json(path, values)
    if operation == "write":
        return EditedCopy.from_json(path, values)
    if operation == "picture":
        return UsablePicture.from_json(values)
    if operation == "transcode":
        return Transcoded.from_json(values)
    if operation == "listen":
        return Listening.from_json(path, values)
    return Analysis.from_json(path, values)


def _blame(operation: Operation, path: bytes, message: str) -> Result:
    if operation == "read":
        return failed_reading(path, message)
    if operation == "hear":
        return HeardSound(path)
    if operation == "write":
        return EditedCopy(error_category=ErrorCategory.USER_FIXABLE, error_message=message)
    if operation == "picture":
        return UsablePicture(error_message=message)
    if operation == "transcode":
        return Transcoded(error_category=ErrorCategory.USER_FIXABLE, error_message=message)
    if operation == "listen":
        return Listening(path, unchecked=message)
    return Analysis(path, error_category=ErrorCategory.USER_FIXABLE, error_message=message)
