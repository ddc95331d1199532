"""Readings that one process leaves and another takes, while the first goes on.

In a file without a name: what was written stands there whatever becomes of the writer, which may hang on a file, or
die of it, and each tells the other by a byte at its beginning what there is to tell.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence

from mus.json_text import decoded, encoded
from mus.library.file_reading import FileReading

#: The most that waits: readings of some 60,000 files.
_MOST_BYTES = 64 * 1024**2
#: A longer one is not left: no record is longer than what is read at once.
_LONGEST_BYTES = 128 * 1024
_PIECE_BYTES = 256 * 1024
#: Files of one write, or as many as are read in that time.
_AT_ONCE, _WAITS_SECONDS = 32, 0.05
_LENGTHS = struct.Struct(">II")

#: Where the bytes are that tell: of who takes, that he will, and that he wants no more; of who leaves, that it has
#: begun, and that it is over.
_IS_WANTED, _IS_STOPPED, _HAS_BEGUN, _IS_OVER = range(4)
_HEADER_BYTES = 4


class ReadAhead:
    """The file. Each record is a path and the JSON of its reading, with their lengths before them."""

    def __init__(self) -> None:
        self._descriptor = _unnamed_file()
        os.write(self._descriptor, bytes(_HEADER_BYTES))
        self._offset = _HEADER_BYTES
        #: What was come upon while others were looked for.
        self._passed: dict[bytes, bytes] = {}

    def close(self) -> None:
        os.close(self._descriptor)

    # ------------------------------------------------------------- who leaves

    def leave(
        self, paths: Iterable[bytes], read: Callable[[bytes], FileReading], *, goes_on: Callable[[], bool]
    ) -> None:
        """Read files, and leave what they say, until nobody wants it or `goes_on` denies it, asked every few
        files."""
        if self.is_stopped:
            return
        self._tell(_HAS_BEGUN)
        waiting, left, wrote = bytearray(), 0, time.monotonic()
        for number, path in enumerate(paths, 1):
            body = encoded(read(path).as_json())
            if len(path) + len(body) <= _LONGEST_BYTES:
                waiting += _LENGTHS.pack(len(path), len(body)) + path + body
            if number % _AT_ONCE == 0 or time.monotonic() - wrote > _WAITS_SECONDS:
                left += os.write(self._descriptor, waiting)
                waiting.clear()
                wrote = time.monotonic()
                if left > _MOST_BYTES or self.is_stopped or not goes_on():
                    break
        os.write(self._descriptor, waiting)
        self._tell(_IS_OVER)

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

    def take(self, paths: Sequence[bytes]) -> list[FileReading]:
        """Of these files, the readings that are there, each once."""
        missing = [path for path in paths if path not in self._passed]
        while missing and self._read_on():
            missing = [path for path in missing if path not in self._passed]
        there = [path for path in dict.fromkeys(paths) if path in self._passed]
        values = decoded(b"[" + b",".join(map(self._passed.pop, there)) + b"]")
        return list(map(FileReading.from_json, there, values))

    def _read_on(self) -> bool:
        """Go through the next records. False where there is none yet."""
        piece = os.pread(self._descriptor, _PIECE_BYTES, self._offset)
        begin, size = 0, len(piece)
        while begin + _LENGTHS.size <= size:
            path_length, body_length = _LENGTHS.unpack_from(piece, begin)
            path_begin = begin + _LENGTHS.size
            body_begin = path_begin + path_length
            end = body_begin + body_length
            if end > size:
                break
            self._passed[piece[path_begin:body_begin]] = piece[body_begin:end]
            begin = end
        self._offset += begin
        return begin > 0

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
