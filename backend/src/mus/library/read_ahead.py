"""Readings that one process leaves and another takes, while the first goes on.

In a file without a name: what was written stands there whatever becomes of the writer, which may hang on a file, or
die of it, and each tells the other by a byte at its beginning what there is to tell.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mus.json_text import decoded, encoded
from mus.library.track_rows import ReadRow

#: The most that waits: readings of some 60,000 files.
_MOST_BYTES = 64 * 1024**2
#: Files of one record, or as many as are read in that time.
_AT_ONCE, _WAITS_SECONDS = 32, 0.05
_LENGTHS = struct.Struct(">II")

#: Where the bytes are that tell: of who takes, that he will, and that he wants no more; of who leaves, that it has
#: begun, and that it is over.
_IS_WANTED, _IS_STOPPED, _HAS_BEGUN, _IS_OVER = range(4)
#: And where who leaves says how long it has been at work.
_BUSY, _NANOSECONDS = 8, struct.Struct(">Q")
_HEADER_BYTES = 16


class ReadAhead:
    """The file. Each record is of some files: the lengths of what follows, their paths with NULs between, and the
    JSON of what they say."""

    def __init__(self) -> None:
        self._descriptor = _unnamed_file()
        os.write(self._descriptor, bytes(_HEADER_BYTES))
        self._offset = _HEADER_BYTES
        #: What was come upon while others were looked for.
        self._passed: dict[bytes, list[Any]] = {}

    def close(self) -> None:
        os.close(self._descriptor)

    # ------------------------------------------------------------- who leaves

    def leave(
        self, paths: Iterable[bytes], read: Callable[[bytes], ReadRow], *, goes_on: Callable[[], bool]
    ) -> None:
        """Read files, and leave what they say, until nobody wants it or `goes_on` denies it, asked every few
        files."""
        if self.is_stopped:
            return
        self._tell(_HAS_BEGUN)
        waiting: list[ReadRow] = []
        left, wrote = 0, time.monotonic()
        for path in paths:
            waiting.append(read(path))
            if len(waiting) == _AT_ONCE or time.monotonic() - wrote > _WAITS_SECONDS:
                left += self._write(waiting)
                waiting.clear()
                wrote = time.monotonic()
                if left > _MOST_BYTES or self.is_stopped or not goes_on():
                    break
        if waiting:
            self._write(waiting)
        self._tell(_IS_OVER)

    def _write(self, rows: Sequence[ReadRow]) -> int:
        os.pwrite(self._descriptor, _NANOSECONDS.pack(time.process_time_ns()), _BUSY)
        paths, body = b"\0".join([row.path for row in rows]), encoded([row.as_json() for row in rows])
        record = _LENGTHS.pack(len(paths), len(body)) + paths + body
        if os.write(self._descriptor, record) < len(record):
            # Whatever came behind half a record would pass for its rest.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(record)

    @property
    def is_wanted(self) -> bool:
        return self._is_told(_IS_WANTED)

    # ------------------------------------------------------------- who takes

    def want(self) -> None:
        """Tell that somebody will take them."""
        self._tell(_IS_WANTED)

    def stop(self) -> None:
        """Tell that no more are wanted."""
        self._tell(_IS_STOPPED)

    @property
    def has_begun(self) -> bool:
        return self._is_told(_HAS_BEGUN)

    @property
    def is_stopped(self) -> bool:
        return self._is_told(_IS_STOPPED)

    @property
    def is_over(self) -> bool:
        """Whether all is there that will be, or that is wanted."""
        return self._is_told(_IS_OVER) or self.is_stopped

    @property
    def size_bytes(self) -> int:
        """Of all that was left until now."""
        return os.fstat(self._descriptor).st_size

    @property
    def busy_seconds(self) -> float:
        """Of a core, by who leaves."""
        (nanoseconds,) = _NANOSECONDS.unpack(os.pread(self._descriptor, _NANOSECONDS.size, _BUSY))
        return float(nanoseconds) / 1e9

    def take(self, paths: Sequence[bytes]) -> list[ReadRow]:
        """Of these files, what is there, each once."""
        missing = [path for path in paths if path not in self._passed]
        while missing and self._read_on():
            missing = [path for path in missing if path not in self._passed]
        there = [path for path in dict.fromkeys(paths) if path in self._passed]
        return [ReadRow.from_json(path, self._passed.pop(path)) for path in there]

    def _read_on(self) -> bool:
        """Go through the next record. False where there is none yet."""
        lengths = os.pread(self._descriptor, _LENGTHS.size, self._offset)
        if len(lengths) < _LENGTHS.size:
            return False
        path_length, body_length = _LENGTHS.unpack(lengths)
        size = path_length + body_length
        # It may be half there, and who wrote it has read files of anybody's.
        record = os.pread(self._descriptor, min(size, _MOST_BYTES), self._offset + _LENGTHS.size)
        if len(record) < size:
            return False
        paths = record[:path_length].split(b"\0")
        self._passed.update(zip(paths, decoded(record[path_length:]), strict=True))
        self._offset += _LENGTHS.size + size
        return True

    def _tell(self, what: int) -> None:
        os.pwrite(self._descriptor, b"\1", what)

    def _is_told(self, what: int) -> bool:
        return os.pread(self._descriptor, 1, what) == b"\1"


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):  # Pythons that were built for an older Linux lack it
        return os.memfd_create("mus-readings")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
