"""Files of a library that get another place or name: never over another file, and done twice is done once.

Across file systems they are copied; the old name goes when the new one is on disk. See `beside` for how folders are
opened. Blocking.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Container
from contextlib import suppress
from typing import BinaryIO

from mus.library.beside import (
    EDIT_PREFIX,
    UPLOAD_FOLDER,
    ChangedMeanwhileError,
    bring_to_disk,
    copy_beside,
    discard,
    hidden_name,
    keep_attributes,
    make_folders,
    opened_folder,
    stat_at,
)
from mus.library.file_names import alike
from mus.library.file_reading import FileStat

#: How much of two files is compared at once.
_COMPARED = 1024 * 1024
_RENAME_NOREPLACE = 1
#: What fsync(2) says of folders on file systems that cannot bring names to disk.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
#: What unlink(2) says of a name that was there and has not gone.
_MUST_STAY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY})
#: What file systems without hard links say, and kernels that protect others' files.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


def move(root: bytes, source: bytes, target: bytes, expected: FileStat, *, owner: str | None = None) -> FileStat:
    """Move a file inside the root, never over another; folders on the way are made, emptied ones removed.

    Done twice is done once: of a move that was broken off, both names of the file may be there. Across file
    systems it is copied, see `move_between`. Raises FileExistsError for a place that is taken,
    ChangedMeanwhileError when the file is not the `expected` version any more, and OSError.
    """
    made = make_folders(root, os.path.dirname(target))
    try:
        moved = _moved_within(root, source, target, expected, owner)
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(os.path.join(root, folder))
        raise
    remove_emptied(root, os.path.dirname(source))
    return moved


def _moved_within(root: bytes, source: bytes, target: bytes, expected: FileStat, owner: str | None) -> FileStat:
    old, new = source.rpartition(b"/")[2], target.rpartition(b"/")[2]
    with (
        opened_folder(root, os.path.dirname(source)) as from_folder,
        opened_folder(root, os.path.dirname(target)) as to_folder,
    ):
        found = stat_at(from_folder, old)
        if found is None or not is_version(found, expected):
            raise ChangedMeanwhileError
        there = stat_at(to_folder, new)
        if (
            there is not None
            and os.path.samestat(there, found)
            and not _is_one_name(from_folder, to_folder, old, new)
        ):
            # Linked by an attempt that was broken off.
            take_away(from_folder, old, now_also=(to_folder, new))
        else:
            move_between(from_folder, to_folder, old, new, owner=owner)
        bring_to_disk(to_folder)
        bring_to_disk(from_folder)
        return FileStat.of(os.stat(new, dir_fd=to_folder, follow_symlinks=False))


def arrive(root: bytes, part: bytes, target: bytes) -> None:
    """Move a finished file out of the folder of uploads to its place, never over another.

    Raises FileExistsError for a place that is taken, and OSError.
    """
    make_folders(root, os.path.dirname(target))
    name = target.rpartition(b"/")[2]
    with (
        opened_folder(root, UPLOAD_FOLDER) as uploads,
        opened_folder(root, os.path.dirname(target)) as folder,
    ):
        move_between(uploads, folder, part, name)
        bring_to_disk(folder)


def move_between(from_folder: int, to_folder: int, old: bytes, new: bytes, *, owner: str | None = None) -> None:
    """Move a file from one open folder to another, never over another file; across file systems it is copied, under
    a hidden name as long as it is not whole. `owner` says for whom, who does one move at a time: what earlier
    attempts left of copies goes.

    Raises FileExistsError for a place that is taken, ChangedMeanwhileError when the file was changed while it was
    copied, and OSError. Whatever an error says, a file system of another machine may have moved it.
    """
    if _renamed_without_replacing(from_folder, to_folder, old, new):
        return
    there = stat_at(to_folder, new)
    found = stat_at(from_folder, old)
    if there is not None and found is not None and os.path.samestat(there, found):
        os.rename(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)  # another spelling of its own name
        return
    try:
        os.link(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder, follow_symlinks=False)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS | {errno.EXDEV}:
            raise
        if lies_at(to_folder, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        if error.errno != errno.EXDEV:
            os.rename(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)
            return
        _move_across(from_folder, to_folder, old, new, owner)
        return
    take_away(from_folder, old, now_also=(to_folder, new))


def _renamed_without_replacing(from_folder: int, to_folder: int, old: bytes, new: bytes) -> bool:
    """By Linux's renameat2. False where that cannot be had, or would be no plain rename. Raises FileExistsError."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(from_folder, old, to_folder, new, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        found, there = stat_at(from_folder, old), stat_at(to_folder, new)
        if found is None or there is None or not os.path.samestat(found, there):
            raise FileExistsError(number, os.strerror(number), new)
    return False


def _move_across(from_folder: int, to_folder: int, old: bytes, new: bytes, owner: str | None) -> None:
    if owner is not None:
        discard_copies(to_folder, owner)
    part = hidden_name(EDIT_PREFIX if owner is None else _copies_prefix(owner), new)
    source = os.open(old, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_folder)
    try:
        copied = FileStat.of(os.fstat(source))
        target = copy_beside(source, to_folder, part)
        try:
            keep_attributes(source, target)
            os.fsync(target)
            is_whole = os.fstat(target).st_size == copied.size
        finally:
            os.close(target)
        if not is_whole:
            raise ChangedMeanwhileError
        refuse_changed(from_folder, old, copied)
        put_new(to_folder, part, new)
    finally:
        discard(to_folder, part)
        os.close(source)
    try:
        names_to_disk(to_folder)
        # Once more at the last moment: a disk takes its time for that.
        refuse_changed(from_folder, old, copied)
    except (ChangedMeanwhileError, OSError):
        if lies_at(from_folder, old):
            os.unlink(new, dir_fd=to_folder)
        raise
    take_away(from_folder, old, now_also=(to_folder, new))


def put_new(folder: int, part: bytes, name: bytes) -> None:
    """Give a finished file of mus's own its name, never over another. Raises FileExistsError, and OSError."""
    if _renamed_without_replacing(folder, folder, part, name):
        return
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS:
            raise
        if lies_at(folder, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(part, dir_fd=folder)


def take_away(folder: int, name: bytes, *, now_also: tuple[int, bytes]) -> None:
    """The old name of a file that has a new one, which goes instead where the old one must stay.

    Raises OSError. Then the file may have both names: where it is not told whether the old one went.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return  # somebody else removed it meanwhile: the new one is all there is
    except OSError as error:
        if error.errno in _MUST_STAY:
            os.unlink(now_also[1], dir_fd=now_also[0])
        raise


def refuse_changed(folder: int, name: bytes, copied: FileStat) -> None:
    """Raises ChangedMeanwhileError where the name has another version by now than was copied."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return  # somebody removed it meanwhile: the copy is all there is
    if FileStat.of(found) != copied:
        raise ChangedMeanwhileError


def names_to_disk(folder: int) -> None:
    """Before the other name of a file is taken away. Raises OSError, but not where folders cannot be synced."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _copies_prefix(owner: str) -> bytes:
    """How the hidden names of an owner's copies begin. They end differently: a copy that was discarded cannot get
    its name any more, not even from an attempt that was taken for dead."""
    return EDIT_PREFIX + os.fsencode(owner) + b"-"


def discard_copies(folder: int, owner: str) -> None:
    """Remove what moves of an owner that were broken off left of copies. Raises OSError."""
    prefix = _copies_prefix(owner)
    for other in map(os.fsencode, os.listdir(folder)):  # bytes are not to be had of a descriptor
        if other.startswith(prefix):
            discard(folder, other)


def is_same_content(one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
    """Of two files, each told by its open folder and its name. Raises OSError."""
    with _opened(*one) as first, _opened(*other) as second:
        while (part := first.read(_COMPARED)) == second.read(_COMPARED):
            if not part:
                return True
    return False


def _opened(folder: int, name: bytes) -> BinaryIO:
    return os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb")


def is_version(found: os.stat_result, expected: FileStat) -> bool:
    """Whether it is that file, as far as a move leaves it: a link or a rename changes its ctime."""
    seen = FileStat.of(found)
    return (seen.size, seen.mtime_ns, seen.inode, seen.device) == (
        expected.size, expected.mtime_ns, expected.inode, expected.device,
    )  # fmt: skip


def _is_one_name(from_folder: int, to_folder: int, old: bytes, new: bytes) -> bool:
    """Whether a file system that ignores case shows one file under both names."""
    if not os.path.samestat(os.fstat(from_folder), os.fstat(to_folder)):
        return False
    names = os.listdir(from_folder)  # bytes are not to be had of a descriptor
    return not {os.fsdecode(old), os.fsdecode(new)} <= set(names)


def lies_at(folder: int, name: bytes) -> bool:
    """Whether anything has this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def name_in_the_way(root: bytes, target: bytes, *, besides: Container[bytes] = ()) -> bytes | None:
    """Path of what already has the name of `target`, or one that some file systems take for the same.

    `besides` are paths that do not count.
    """
    folder, _, name = target.rpartition(b"/")
    try:
        names = os.listdir(os.path.join(root, folder))
    except OSError:
        return None  # not there yet
    wanted = alike(name)
    found = (os.path.join(folder, other) for other in names if alike(other) == wanted)
    return next((path for path in found if path not in besides), None)


def remove_emptied(root: bytes, folder: bytes) -> None:
    """A folder whose last file went, and those above it, as far as they are empty."""
    while folder:
        try:
            os.rmdir(os.path.join(root, folder))
        except OSError:
            return
        folder = os.path.dirname(folder)
