"""Transcoding while somebody listens: who waits for what, and how many at once.

    async with transcoder.listening(source) as transcoding:
        piece = await transcoding.read(position, 65536)

Each is made once, however many listen to it. One that nobody listens to any more goes on, as players come and go
while they look at a file, until another needs its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio.to_thread

from mus.errors import ErrorCategory, MusError, NotFoundError, TemporaryError, UndecodableError
from mus.library.file_reading import FileStat
from mus.library.reader_pool import ReaderPool
from mus.library.transcoded_files import Part, TranscodedFiles, transcoded_name
from mus.library.transcoding import ENCODINGS, TargetFormat, TranscodeOrder

logger = logging.getLogger(__name__)

#: Files that are transcoded at once, and that may wait for it.
AT_ONCE, MOST_WAITING = 2, 8
#: Of a file whose length is not known.
_GUESSED_SECONDS = 300.0
#: How often it is looked whether more is there.
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Source:
    """What to transcode, and to what."""

    track_id: int
    root: bytes
    path: bytes
    version: FileStat
    seconds: float | None
    format: TargetFormat
    #: From here on; anything but the whole is not kept.
    start_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of the file that is made of it."""
        return transcoded_name(self.track_id, self.path, self.version, self.format)


class Transcoding:
    """A file under way, or waiting for its turn."""

    def __init__(self) -> None:
        self.listeners = 0
        self.runs = False
        self.error: MusError | None = None
        self.task: asyncio.Task[None] | None = None
        self._part: Part | None = None
        self._ended = asyncio.Event()

    async def read(self, position: int, most_bytes: int) -> bytes:
        """What comes from there on, once something does; empty at the end. Raises what broke it off."""
        while True:
            # Before the look: what was written until then is there to be seen.
            ended = self._ended.is_set()
            if self._part is not None:
                piece = await anyio.to_thread.run_sync(os.pread, self._part.descriptor, most_bytes, position)
                if piece:
                    return piece
            if ended:
                if self.error is not None:
                    raise self.error
                return b""
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._ended.wait()

    def begin(self, part: Part) -> None:
        self._part = part

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended.set()
        self.close_unheard()

    def close_unheard(self) -> None:
        """Close the file once nothing is written to it and nobody reads it."""
        if self._ended.is_set() and self.listeners == 0 and self._part is not None:
            self._part.close()
            self._part = None


class Transcoder:
    """At most `AT_ONCE` processes, and the files that they made."""

    def __init__(self, files: TranscodedFiles, *, file_timeout_seconds: float) -> None:
        self._files = files
        self._file_timeout_seconds = file_timeout_seconds
        self._readers = ReaderPool(AT_ONCE)
        self._free = asyncio.Semaphore(AT_ONCE)
        #: Those that have not ended, by what they are shared by.
        self._open: dict[object, Transcoding] = {}

    @property
    def process_ids(self) -> list[int]:
        return self._readers.process_ids

    async def aclose(self) -> None:
        """End what is under way."""
        tasks = [transcoding.task for transcoding in self._open.values() if transcoding.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._readers.aclose()

    async def finished(self, source: Source) -> tuple[int, os.stat_result] | None:
        """A descriptor of the whole file, and its fstat, where it was made before."""
        if source.start_seconds:
            return None
        return await asyncio.to_thread(self._files.opened, source.name)

    @asynccontextmanager
    async def listening(self, source: Source) -> AsyncIterator[Transcoding]:
        """The transcoding of this source, for the block. Raises TemporaryError where too many wait."""
        key: object = object() if source.start_seconds else source.name
        transcoding = self._open.get(key)
        if transcoding is None:
            transcoding = self._begin(key, source)
        transcoding.listeners += 1
        try:
            yield transcoding
        finally:
            transcoding.listeners -= 1
            transcoding.close_unheard()
            if transcoding.listeners == 0 and (source.start_seconds or not transcoding.runs):
                self._cancel(transcoding)
            self._give_way()

    def _begin(self, key: object, source: Source) -> Transcoding:
        if sum(not transcoding.runs for transcoding in self._open.values()) >= MOST_WAITING:
            raise TemporaryError("Too many files wait to be transcoded: try again in a moment")
        transcoding = self._open[key] = Transcoding()
        transcoding.task = asyncio.create_task(self._transcode(key, source, transcoding))
        self._give_way()
        return transcoding

    def _give_way(self) -> None:
        """End what nobody listens to, as far as others wait."""
        waiting = sum(not transcoding.runs for transcoding in self._open.values())
        for transcoding in list(self._open.values()):
            if waiting and self._free.locked() and transcoding.runs and transcoding.listeners == 0:
                self._cancel(transcoding)
                waiting -= 1

    def _cancel(self, transcoding: Transcoding) -> None:
        """Nobody is let in any more; the rest follows."""
        self._open = {key: other for key, other in self._open.items() if other is not transcoding}
        if transcoding.task is not None:
            transcoding.task.cancel()

    async def _transcode(self, key: object, source: Source, transcoding: Transcoding) -> None:
        try:
            async with self._free:
                transcoding.runs = True
                await self._made(source, transcoding)
        except MusError as error:
            transcoding.error = error
        except OSError as error:
            reason = error.strerror or "the disk does not answer"
            transcoding.error = TemporaryError(f"The transcoded file cannot be written: {reason}")
        except asyncio.CancelledError:
            transcoding.error = TemporaryError("The transcoding was broken off")
            raise
        except Exception:
            logger.exception("transcoding track %s", source.track_id)
            transcoding.error = MusError("Something went wrong inside mus; its log says what")
        finally:
            if self._open.get(key) is transcoding:
                del self._open[key]
            transcoding.end()

    async def _made(self, source: Source, transcoding: Transcoding) -> None:
        seconds = max(0.0, (source.seconds or _GUESSED_SECONDS) - source.start_seconds)
        await asyncio.to_thread(self._files.make_room, int(seconds * ENCODINGS[source.format].bytes_a_second))
        part = await self._begun()
        transcoding.begin(part)
        try:
            order = TranscodeOrder(
                source.format, str(part.path), source.version, self._files.most_bytes, source.start_seconds
            )
            done = await self._readers.transcode(
                source.root, source.path, order, file_timeout_seconds=self._file_timeout_seconds
            )
            if done.error_message is not None:
                if done.vanished:
                    raise NotFoundError(done.error_message, recovery_actions=("Scan the library",))
                if done.error_category is ErrorCategory.TEMPORARY:
                    raise TemporaryError(done.error_message)
                raise UndecodableError(done.error_message)
            if not source.start_seconds:
                await asyncio.to_thread(self._files.keep, part, source.name)
        finally:
            part.remove()

    async def _begun(self) -> Part:
        starting = asyncio.ensure_future(asyncio.to_thread(self._files.begun))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_forget)  # the thread makes it all the same
            raise


def _forget(starting: asyncio.Future[Part]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().remove()
        starting.result().close()
