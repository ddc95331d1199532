"""A walk that begins before there is a scan: in a process of its own, while a command imports what a scan takes.

    with walking_ahead(root, reading):
        ...                                       # half a second of imports, on one core
        for files in walk_or_take(root, b"", report):
            ...                                   # most of a hundred thousand files are there already
        readings = await read_ahead(root, paths)  # and what their tags say, of the first thousands

What changes between the walk and the scan has changed after the request: it is for the next scan, or the watcher.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mus.errors import TemporaryError
from mus.library.walk import FoundFiles, WalkReport, walk

if TYPE_CHECKING:
    from mus.library.read_ahead import ReadAhead
    from mus.library.track_rows import ReadRow

#: What was listed longer ago is not what a scan that begins now would find. Slow machines import for some seconds.
FRESH_SECONDS = 10.0
#: What the child keeps while nobody takes it; then it waits. 100,000 files are 14 MB.
_MOST_WAITING_BYTES = 64 * 1024**2
_STOPS_WITHIN_SECONDS = 0.1
#: More are not read ahead: their readings have no room.
_MOST_FILES = 100_000
_LENGTH = struct.Struct(">I")
#: Readings of one turn of the event loop.
_FILES_AT_ONCE = 100
#: How often it is looked for readings that are waited for, and how long none may come.
_LOOK_SECONDS, _STILL_SECONDS = 0.005, 0.2
#: When there is no time, that share of it has to be work: a disk that is waited for serves several readers better,
#: but those that have to start first, and share the cores with it then, do not.
_PATIENCE_SECONDS, _BUSY_SHARE = 0.1, 0.5


class Reading(NamedTuple):
    """How files are to be read once they are all found: the settings of those names."""

    tag_separators: str | None = None
    sort_articles: str | None = None


class _WalkAhead:
    """The child, and the pipe through which it tells what it found: of some folders the paths and the versions, at
    the end the report. All in the form of `marshal`, from this same program.

    Files are read by a child of the child: whatever comes of that, the listing comes.
    """

    def __init__(self, root: bytes, reading: Reading | None) -> None:
        self._root = root
        self._began = time.monotonic()
        self._is_taken = self._is_walked = False
        with ExitStack() as opened:
            self._readings: ReadAhead | None = None
            if reading is not None:
                self._readings = _room_for_readings()
                opened.callback(self._readings.close)
            self._pipe, writing = os.pipe()
            opened.callback(os.close, self._pipe)
            try:
                command = os.getpid()
                self._child = os.fork()
                if not self._child:
                    os.close(self._pipe)
                    _walk_into(writing, root, command, reading, self._readings)
            finally:
                os.close(writing)
            opened.pop_all()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        # Not waited for: on a disk that hangs it cannot end.
        os.waitpid(self._child, os.WNOHANG)
        if not self._is_taken:
            os.close(self._pipe)
        if self._readings is not None:
            self._readings.stop()
            self._readings.close()

    def take(self, root: bytes, report: WalkReport, stopped: Callable[[], bool]) -> Iterator[FoundFiles] | None:
        """What it found, once; None for another root, and when it began too long ago."""
        if self._is_taken or root != self._root or time.monotonic() - self._began > FRESH_SECONDS:
            return None
        self._is_taken = True
        if self._readings is not None:
            self._readings.want()
        return self._taken(report, stopped)

    def _taken(self, report: WalkReport, stopped: Callable[[], bool]) -> Iterator[FoundFiles]:
        with os.fdopen(self._pipe, "rb", buffering=0):
            while not stopped():
                header = self._received(_LENGTH.size, stopped)
                body = self._received(_LENGTH.unpack(header)[0], stopped) if header else b""
                if not body and stopped():
                    return
                try:
                    found = marshal.loads(body)  # noqa: S302 - of a fork of this process
                except EOFError:
                    raise TemporaryError("The process that lists the music folder ended too early") from None
                if len(found) == 2:
                    yield FoundFiles(*found)
                    continue
                skipped, unlisted, folder_devices = found
                report.skipped.update(skipped)
                report.unlisted.update(unlisted)
                report.folder_devices.update(folder_devices)
                self._is_walked = True
                return

    def _received(self, count: int, stopped: Callable[[], bool]) -> bytes:
        """So many bytes; none when the child ended, or once nobody waits for it on a disk that hangs."""
        waits = select.poll()
        waits.register(self._pipe, select.POLLIN)
        received = bytearray()
        while len(received) < count:
            if not waits.poll(_STOPS_WITHIN_SECONDS * 1000):
                if stopped():
                    return b""
                continue
            piece = os.read(self._pipe, count - len(received))
            if not piece:
                return b""
            received += piece
        return bytes(received)

    def is_reading(self, root: bytes) -> bool:
        """Whether it has begun to read this root's files, and all that it reads is wanted."""
        if self._readings is None or not self._is_taken or root != self._root:
            return False
        return self._readings.has_begun and not self._readings.is_stopped

    def readings(self, root: bytes) -> ReadAhead | None:
        """What is read ahead, where its walk was taken. While that goes on it has not begun, and need not: others
        read by now, and it would come after them."""
        if self._readings is None or not self._is_taken or root != self._root:
            return None
        if not self._is_walked and not self._readings.has_begun:
            self._readings.stop()
        return self._readings


_ahead: _WalkAhead | None = None


@contextmanager
def walking_ahead(root: bytes, reading: Reading | None = None) -> Iterator[None]:
    """Let a child walk there meanwhile, and then read, where it is said how. For a process that has one thread, as
    it forks."""
    global _ahead
    _ahead = _WalkAhead(root, reading)
    try:
        yield
    finally:
        _ahead.end()
        _ahead = None


def walk_or_take(
    root: bytes, start: bytes, report: WalkReport, *, stopped: Callable[[], bool] = lambda: False
) -> Iterator[FoundFiles]:
    """As `walk`; where a child walks the whole root already, what that finds.

    Raises TemporaryError when the child dies: another try walks by itself.
    """
    taken = _ahead.take(root, report, stopped) if _ahead is not None and not start else None
    return walk(root, start, report, stopped=stopped) if taken is None else taken


def is_read_ahead(root: bytes) -> bool:
    """Whether a child reads the files of this root's scan, or has read them."""
    return _ahead is not None and _ahead.is_reading(root)


async def read_ahead(root: bytes, paths: Sequence[bytes], *, has_time: Callable[[], bool]) -> list[ReadRow]:
    """Of these files, the readings that the child of this root's scan makes, each once.

    It is waited for as long as it gets on, and there is time or it is at work; what it has not read by then is left
    to others.
    """
    readings = _ahead.readings(root) if _ahead is not None else None
    found: list[ReadRow] = []
    missing = list(paths)
    size_bytes, busy_seconds = 0, 0.0
    last_growth = last_time = time.monotonic()
    while readings is not None and missing:
        is_over = readings.is_over  # asked before it is looked what is there
        asked = missing[:_FILES_AT_ONCE]
        some = readings.take(asked)
        found += some
        if len(some) == len(asked):
            del missing[:_FILES_AT_ONCE]
            await asyncio.sleep(0)
            continue
        taken = {reading.path for reading in some}
        missing = [path for path in missing if path not in taken]
        now = time.monotonic()
        if (size := readings.size_bytes) > size_bytes:
            size_bytes, last_growth = size, now
        busy = readings.busy_seconds
        if has_time() or busy - busy_seconds >= _BUSY_SHARE * _PATIENCE_SECONDS:
            last_time, busy_seconds = now, busy
        if is_over or now - last_growth > _STILL_SECONDS or now - last_time > _PATIENCE_SECONDS:
            readings.stop()
            return found + readings.take(missing)
        await asyncio.sleep(_LOOK_SECONDS)
    return found


def _walk_into(
    pipe: int, root: bytes, command: int, reading: Reading | None, readings: ReadAhead | None
) -> NoReturn:
    try:
        # A terminal's Ctrl-C goes to the whole group; the parent decides when its child ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.set_blocking(pipe, False)
        report, waiting, paths = WalkReport(), bytearray(), list[bytes]()
        for files in walk(root, b"", report):
            _add(waiting, (files.paths, files.versions))
            _write(pipe, waiting, down_to=_MOST_WAITING_BYTES)
            if readings is not None and len(paths) < _MOST_FILES:
                paths += sorted(files.paths)  # a scan asks for them in this order
        _add(waiting, (dict(report.skipped), report.unlisted, report.folder_devices))
        reader = 0
        if reading is not None and readings is not None:
            with suppress(Exception):  # such as no room for another process: then others read
                from mus.library.reader_process import settle_in

                settle_in(command)
                walker = os.getpid()
                reader = os.fork()
                if not reader:
                    os.close(pipe)
                    _read(root, paths, reading, readings, walker)
        _write(pipe, waiting, down_to=0)
        if reader:
            os.waitpid(reader, 0)  # which ends with this process
    finally:
        # Not the end of the command that was forked; and what went wrong shows as an end that is missing.
        os._exit(0)


def _room_for_readings() -> ReadAhead:
    from mus.library.read_ahead import ReadAhead

    return ReadAhead()


def _read(root: bytes, paths: list[bytes], reading: Reading, readings: ReadAhead, walker: int) -> NoReturn:
    """Read files in that order, as long as the process that listed them lives."""
    try:
        from mus.library.reader_process import settle_in
        from mus.library.reading_rules import ReadingRules
        from mus.library.tag_reader import read_tags
        from mus.library.track_rows import ReadRow

        began = time.monotonic()

        def goes_on() -> bool:
            is_wanted = readings.is_wanted or time.monotonic() - began < FRESH_SECONDS
            return is_wanted and os.getppid() == walker

        settle_in(walker, nice=0)
        rules = ReadingRules.of(*reading)
        readings.leave(paths, lambda path: ReadRow.of(read_tags(root, path, rules)), goes_on=goes_on)
    finally:
        os._exit(0)


def _add(waiting: bytearray, found: tuple[Any, ...]) -> None:
    body = marshal.dumps(found)
    waiting += _LENGTH.pack(len(body)) + body


def _write(pipe: int, waiting: bytearray, *, down_to: int) -> None:
    """Write what the pipe takes at once, and wait while more than that is left."""
    while waiting:
        try:
            del waiting[: os.write(pipe, waiting)]
        except BlockingIOError:
            if len(waiting) <= down_to:
                return
            os.set_blocking(pipe, True)
            del waiting[: os.write(pipe, waiting[:65536])]
            os.set_blocking(pipe, False)
