"""Open a file of a library for reading, and nothing that is not a regular file inside its root."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import errno
import io
import os
import stat
from functools import lru_cache

from mus.errors import ErrorCategory

CUT_SHORT = "The file is cut short: part of it is missing"


class UnreadableFileError(Exception):
    """The file cannot be read: why, for people, and which version of it that is."""

    def __init__(
        self,
        message: str,
        *,
        category: ErrorCategory = ErrorCategory.USER_FIXABLE,
        stat_result: os.stat_result | None = None,
        vanished: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.category = category
        self.stat_result = stat_result
        self.vanished = vanished


_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_TEMPORARY_ERRNOS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ESTALE})
_LARGE_READ_BYTES = 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


#: Tag readers ask for a few bytes dozens of times in a file, and looking this up each time takes as long.
_read = io.BufferedReader.read


class FiniteFile(io.BufferedReader):
    """A file for parsers that believe what it says: reads set no more memory aside than it is large.

    Python makes room for all that is asked for, so that a length of some gigabytes would end at a reader's memory
    limit or not, by what that reader has done before. Takes over the descriptor.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        super().__init__(io.FileIO(descriptor), 8192)
        self._size_bytes = size_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_READ_BYTES:
            size = max(0, min(size, self._size_bytes - self.tell()))
        return _read(self, size)


def open_inside(root: bytes, path: bytes) -> tuple[int, os.stat_result]:
    """A descriptor of the regular file `path` (relative to `root`), and its fstat. Never blocks on a pipe.

    Links are followed as long as they stay inside the root; what was really opened is checked, not what the
    path named a moment ago. Raises UnreadableFileError.
    """
    full = os.path.join(root, path)
    seen: os.stat_result | None = None
    try:
        seen = os.lstat(full)
        if stat.S_ISLNK(seen.st_mode):
            if not _is_inside(root, os.path.realpath(full)):
                raise UnreadableFileError("This link leads out of the library's folder", stat_result=seen)
            try:
                _refuse_odd_kinds(os.stat(full))
            except FileNotFoundError:
                raise UnreadableFileError("This link leads nowhere", stat_result=seen) from None
        else:
            # Opening alone can act on a device, so look first.
            _refuse_odd_kinds(seen)
        descriptor = os.open(full, _FLAGS)
    except OSError as error:
        raise explain(error, stat_result=seen) from None
    try:
        opened = os.fstat(descriptor)
        _refuse_odd_kinds(opened)
        if not _is_inside(root, _opened_path(descriptor, full)):
            raise UnreadableFileError("This link leads out of the library's folder", stat_result=seen)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, opened


def explain(error: OSError, *, stat_result: os.stat_result | None = None) -> UnreadableFileError:
    """The operating system's error as a sentence, with who can do something about it."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UnreadableFileError("The file is gone", stat_result=stat_result, vanished=True)
    if isinstance(error, PermissionError):
        return UnreadableFileError("mus is not allowed to read this file", stat_result=stat_result)
    category = ErrorCategory.ADMIN_REQUIRED
    if error.errno in _TEMPORARY_ERRNOS:
        category = ErrorCategory.TEMPORARY
    message = f"The file system reports an error: {error.strerror or error}"
    return UnreadableFileError(message, category=category, stat_result=stat_result)


def _refuse_odd_kinds(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UnreadableFileError(f"This is {kind}, not a file with music", stat_result=found)


def _opened_path(descriptor: int, full: bytes) -> bytes:
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:  # no /proc: macOS, some sandboxes
        return os.path.realpath(full)


def _is_inside(root: bytes, real: bytes) -> bool:
    if real.startswith(real_prefix(root)):
        return True
    real_prefix.cache_clear()  # the root itself may be a link that moved since
    return real.startswith(real_prefix(root))


@lru_cache(maxsize=16)
def real_prefix(root: bytes) -> bytes:
    """What the real path of each file in this root begins with, as it was found first."""
    return os.path.join(os.path.realpath(root), b"")
