"""Files that mus writes into a library: beside what is there under a hidden name, then into place in one step.

A folder is opened once and everything happens in that folder, so that nothing is written elsewhere when a name
above it becomes a link meanwhile. See `moves` for files that get another place. Blocking.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mus.library.file_reading import FileStat

#: Beginnings of the hidden names: copies that are edited, and files that arrive.
EDIT_PREFIX, UPLOAD_PREFIX = b".mus-edit-", b".mus-upload-"
#: Where files arrive, in each root: hidden, and on the file system that most of the library lies on.
UPLOAD_FOLDER = b".mus-uploads"
_CHUNK = 8 * 1024 * 1024


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
        bring_to_disk(descriptor)
        return FileStat.of(os.stat(name, dir_fd=descriptor, follow_symlinks=False))


def make_folders(root: bytes, folder: bytes) -> list[bytes]:
    """Make a folder inside the root, and those above it; returns those that were not there, the topmost first.

    Raises OSError: also where a link is on the way.
    """
    so_far, made = b"", []
    for name in folder.split(b"/") if folder else ():
        with opened_folder(root, so_far) as above, suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
            made.append(os.path.join(so_far, name))
            bring_to_disk(above)
        so_far = os.path.join(so_far, name)
    with opened_folder(root, so_far):
        pass
    return made


def bring_to_disk(folder: int) -> None:
    """The names in a folder. Some file systems cannot; and whatever a failing disk says, the files have their names
    by now: whoever heard an error would take them for not moved, and forget that they were."""
    with suppress(OSError):
        os.fsync(folder)
