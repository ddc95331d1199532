"""Files that mus writes into a library: beside what is there under a hidden name, then into place in one step.

A folder is opened once and everything happens in that folder, so that nothing is written elsewhere when a name
above it becomes a link meanwhile. Blocking.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress

from mus.library.file_names import alike
from mus.library.file_reading import FileStat

#: Beginnings of the hidden names: copies that are edited, and files that arrive.
EDIT_PREFIX, UPLOAD_PREFIX = b".mus-edit-", b".mus-upload-"
#: Where files arrive, in each root: hidden, and on the file system that most of the library lies on.
UPLOAD_FOLDER = b".mus-uploads"
_CHUNK = 8 * 1024 * 1024
_RENAME_NOREPLACE = 1
#: What fsync(2) says of folders on file systems that cannot bring names to disk.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
#: What unlink(2) says of a name that was there and has not gone.
_MUST_STAY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY})
#: What file systems without hard links say, and kernels that protect others' files.
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class ChangedMeanwhileError(Exception):
    """The file is not the one any more that was to be replaced or moved."""


def hidden_name(prefix: bytes, path: bytes) -> bytes:
    """A name that the walk and the watcher pass over, and that tag libraries still know the kind of."""
    return prefix + secrets.token_hex(8).encode() + os.path.splitext(path)[1]


@contextmanager
def opened_folder(root: bytes, folder: bytes) -> Iterator[int]:
    """A descriptor of a real folder inside the root. Raises OSError: also where a link has taken its place."""
    full = os.path.join(root, folder)
    descriptor = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        expected = os.path.normpath(os.path.join(os.path.realpath(root), folder))
        if _real_path(descriptor, full) != expected:
            raise OSError(errno.ELOOP, "a folder on the way is a link", full)
        yield descriptor
    finally:
        os.close(descriptor)


def _real_path(descriptor: int, full: bytes) -> bytes:
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:  # no /proc: macOS
        return os.path.realpath(full)


def stat_at(folder: int, name: bytes) -> os.stat_result | None:
    """Of the regular file of this name; None without one."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def copy_beside(source: int, folder: int, name: bytes) -> int:
    """Copy an open file to a new one; returns its descriptor, for reading and writing. Raises OSError."""
    target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _copy_content(source, target)
    except BaseException:
        os.close(target)
        discard(folder, name)
        raise
    return target


def _copy_content(source: int, target: int) -> None:
    position = 0
    if hasattr(os, "copy_file_range"):
        # The kernel copies, and a file system that can (btrfs, XFS) shares the blocks.
        with suppress(OSError):
            while copied := os.copy_file_range(source, target, _CHUNK, position, position):
                position += copied
    while part := os.pread(source, _CHUNK, position):
        written = 0
        while written < len(part):
            written += os.pwrite(target, part[written:], position + written)
        position += len(part)


def keep_attributes(source: int, target: int) -> None:
    """Owner, mode, extended attributes with ACLs, and times: as far as this user may. Raises OSError for times."""
    found = os.fstat(source)
    with suppress(OSError):
        os.fchown(target, -1, found.st_gid)
    with suppress(OSError):
        os.fchown(target, found.st_uid, -1)
    with suppress(OSError):
        os.fchmod(target, stat.S_IMODE(found.st_mode))
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for attribute in os.listxattr(source):
                with suppress(OSError):
                    os.setxattr(target, attribute, os.getxattr(source, attribute))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def discard(folder: int, name: bytes) -> bool:
    """Remove a file of mus's own; whether it was there. Whatever cannot be removed stays, hidden, and is nobody's
    music."""
    if not name.startswith((EDIT_PREFIX, UPLOAD_PREFIX)):
        return False
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def replace(root: bytes, path: bytes, part: bytes, expected: FileStat) -> FileStat:
    """Rename the copy `part`, a name in the same folder, over `path`; returns what is there now.

    Raises ChangedMeanwhileError when the file is not the `expected` version any more, and OSError.
    """
    folder, _, name = path.rpartition(b"/")
    with opened_folder(root, folder) as descriptor:
        found = stat_at(descriptor, name)
        if found is None or FileStat.of(found) != expected:
            raise ChangedMeanwhileError
        os.replace(part, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        _bring_to_disk(descriptor)
        return FileStat.of(os.stat(name, dir_fd=descriptor, follow_symlinks=False))


def move(root: bytes, source: bytes, target: bytes, expected: FileStat) -> FileStat:
    """Move a file inside the root, never over another; folders on the way are made, emptied ones removed.

    Done twice is done once: of a move that was broken off, both names of the file may be there. Across file
    systems it is copied. Raises FileExistsError for a place that is taken, ChangedMeanwhileError when the file is
    not the `expected` version any more, and OSError.
    """
    made = make_folders(root, os.path.dirname(target))
    try:
        moved = _moved_within(root, source, target, expected)
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(os.path.join(root, folder))
        raise
    _remove_emptied(root, os.path.dirname(source))
    return moved


def _moved_within(root: bytes, source: bytes, target: bytes, expected: FileStat) -> FileStat:
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
            move_between(from_folder, to_folder, old, new)
        _bring_to_disk(to_folder)
        _bring_to_disk(from_folder)
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
        _bring_to_disk(folder)


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


def move_between(
    from_folder: int, to_folder: int, old: bytes, new: bytes, *, part_prefix: bytes = EDIT_PREFIX
) -> None:
    """Move a file from one open folder to another, never over another file; across file systems it is copied, under
    a hidden name that begins with `part_prefix` as long as it is not whole.

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
        if isinstance(error, FileExistsError) or error.errno not in NO_LINKS | {errno.EXDEV}:
            raise
        if lies_at(to_folder, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        if error.errno != errno.EXDEV:
            os.rename(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)
            return
        _move_across(from_folder, to_folder, old, new, part_prefix)
        return
    take_away(from_folder, old, now_also=(to_folder, new))


def _bring_to_disk(folder: int) -> None:
    """The names in a folder. Some file systems cannot; and whatever a failing disk says, the files have their names
    by now: whoever heard an error would take them for not moved, and forget that they were."""
    with suppress(OSError):
        os.fsync(folder)


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


def lies_at(folder: int, name: bytes) -> bool:
    """Whether anything has this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


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


def _move_across(from_folder: int, to_folder: int, old: bytes, new: bytes, part_prefix: bytes) -> None:
    part = hidden_name(part_prefix, new)
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
        _refuse_changed(from_folder, old, copied)
        put_new(to_folder, part, new)
    finally:
        discard(to_folder, part)
        os.close(source)
    try:
        names_to_disk(to_folder)
        # Once more at the last moment: a disk takes its time for that.
        _refuse_changed(from_folder, old, copied)
    except (ChangedMeanwhileError, OSError):
        if lies_at(from_folder, old):
            os.unlink(new, dir_fd=to_folder)
        raise
    take_away(from_folder, old, now_also=(to_folder, new))


def _refuse_changed(folder: int, name: bytes, copied: FileStat) -> None:
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


def put_new(folder: int, part: bytes, name: bytes) -> None:
    """Give a finished file of mus's own its name, never over another. Raises FileExistsError, and OSError."""
    if _renamed_without_replacing(folder, folder, part, name):
        return
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in NO_LINKS:
            raise
        if lies_at(folder, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(part, dir_fd=folder)


def make_folders(root: bytes, folder: bytes) -> list[bytes]:
    """Make a folder inside the root, and those above it; returns those that were not there, the topmost first.

    Raises OSError: also where a link is on the way.
    """
    so_far, made = b"", []
    for name in folder.split(b"/") if folder else ():
        with opened_folder(root, so_far) as above, suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
            made.append(os.path.join(so_far, name))
            _bring_to_disk(above)
        so_far = os.path.join(so_far, name)
    with opened_folder(root, so_far):
        pass
    return made


def _remove_emptied(root: bytes, folder: bytes) -> None:
    while folder:
        try:
            os.rmdir(os.path.join(root, folder))
        except OSError:
            return
        folder = os.path.dirname(folder)
