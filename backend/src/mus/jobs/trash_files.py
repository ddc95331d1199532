"""Files on their way into the trash and back: never over another file, and done twice is done once. Blocking."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from mus.library.beside import NO_LINKS, keep_attributes
from mus.library.second_look import SecondLook
from mus.library.walk import TRASH_FOLDER

#: Most file systems' limit, less what a copy under way adds.
_NAME_BYTES = 255 - len(b".part")
#: File systems round times; FAT to two seconds.
_SAME_TIME_NS = 2_000_000_000


def place_in_trash(root: bytes, path: bytes, track_id: int, data_trash: Path) -> bytes:
    """A free absolute path in `<root>/.mus-trash`, or in `data_trash` where the root takes no new folder.

    Nothing is moved yet. Raises OSError: the file is not there, or must not be taken away from its folder.
    """
    if SecondLook(root).at(path) is None:
        raise _os_error(errno.ENOENT, path)
    if not os.access(os.path.dirname(os.path.join(root, path)), os.W_OK | os.X_OK):
        raise _os_error(errno.EACCES, path)
    folder = os.path.join(root, TRASH_FOLDER)
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _is_own_folder(folder):
        folder = os.fsencode(data_trash)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return _free_name(folder, track_id, os.path.basename(path))


def _is_own_folder(folder: bytes) -> bool:
    try:
        is_folder = stat.S_ISDIR(os.lstat(folder).st_mode)  # a link might lead anywhere
    except OSError:
        return False
    return is_folder and os.access(folder, os.W_OK | os.X_OK)


def _free_name(folder: bytes, track_id: int, basename: bytes) -> bytes:
    stem, suffix = os.path.splitext(basename)
    number = 0
    while True:
        prefix = b"%d-" % track_id if not number else b"%d-%d-" % (track_id, number)
        name = prefix + stem[: _NAME_BYTES - len(prefix) - len(suffix)] + suffix
        if not os.path.lexists(os.path.join(folder, name)):
            return os.path.join(folder, name)
        number += 1


def free_name(root: bytes, path: bytes) -> bytes:
    """`path`, relative to the root, or `… (2)` and so on before its suffix where something is there."""
    folder, basename = os.path.split(path)
    stem, suffix = os.path.splitext(basename)
    number = 1
    while os.path.lexists(os.path.join(root, path)):
        number += 1
        more = b" (%d)" % number + suffix
        # Whole characters: half of one is no UTF-8.
        short = stem[: _NAME_BYTES - len(more)].decode("utf-8", "ignore") if len(stem) > 200 else None
        path = os.path.join(folder, (stem if short is None else short.encode()) + more)
    return path


def move_into_trash(source: bytes, target: bytes) -> None:
    """`target` is a name of this deletion's own: what lies there was moved by an earlier attempt.

    Raises OSError; then nothing was moved.
    """
    if os.path.lexists(target):
        if _is_copy(source, target):
            os.unlink(source)
        return  # whatever else is at the source by now is somebody's new file
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target + b".part", target)
        _unlink_copied(source, target)


def move_back(source: bytes, target: bytes, track_id: int) -> None:
    """From the trash to where it was, or where an earlier attempt has brought it. Raises OSError."""
    if not os.path.lexists(source):
        if os.path.lexists(target):
            return
        raise _os_error(errno.ENOENT, source)
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    try:
        # A rename would replace a file that appeared in this moment; a link does not.
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samefile(source, target) and not _is_copy(source, target):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS | {errno.EXDEV}:
            raise
        if os.path.lexists(target):
            raise _os_error(errno.EEXIST, target) from None
        if error.errno != errno.EXDEV:
            os.rename(source, target)
            return
        _copy(source, os.path.join(folder, b".mus-restoring-%d" % track_id), target)
    os.unlink(source)


def _is_copy(one: bytes, other: bytes) -> bool:
    """Whether both are the same file, copied across file systems: an earlier attempt died before the end."""
    try:
        first, second = os.lstat(one), os.lstat(other)
    except FileNotFoundError:
        return False
    return (
        first.st_dev != second.st_dev
        and first.st_size == second.st_size
        and abs(first.st_mtime_ns - second.st_mtime_ns) < _SAME_TIME_NS
    )


def _copy(source: bytes, part: bytes, target: bytes) -> None:
    try:
        shutil.copyfile(source, part, follow_symlinks=False)
        with open(source, "rb") as original, open(part, "rb") as copied:
            keep_attributes(original.fileno(), copied.fileno())
            os.fsync(copied.fileno())
        if os.path.lexists(target):  # it appeared while a big file was copied
            raise _os_error(errno.EEXIST, target)
        os.rename(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _unlink_copied(source: bytes, copy: bytes) -> None:
    try:
        os.unlink(source)
    except FileNotFoundError:
        return  # somebody else removed it meanwhile: the copy is all there is
    except OSError:
        os.unlink(copy)
        raise


def remove_for_good(path: bytes) -> bool:
    """Unlink a trashed file. False where its whole trash folder is away, as with its disk. Raises OSError."""
    if not os.path.isdir(os.path.dirname(path)):
        return False
    with suppress(FileNotFoundError):
        os.unlink(path)
    return True


def _os_error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
