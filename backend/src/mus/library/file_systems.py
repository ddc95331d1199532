"""What kind of file system a folder lies on: whether it tells of changes, and whether its inodes last."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: File systems whose changes may come from another machine, so that neither events nor inodes can be relied on.
REMOTE_TYPES = frozenset(
    {
        # Over a network, and of clusters.
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs", "lustre"),
        *("beegfs", "orangefs", "pvfs2", "gpfs", "gfs2", "ocfs2", "davfs"),
        # Of a machine around this one: virtual machines, Docker Desktop, WSL.
        *("9p", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "drvfs", "fakeowner", "grpcfuse", "osxfs"),
    }
)
#: File systems without inodes of their own: Linux makes the numbers up, and anew whenever it forgot a file.
_INVENTED_INODES = frozenset({"vfat", "msdos", "exfat"})
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    #: Another one each time something is mounted.
    id: bytes
    device: bytes
    point: bytes
    type: str


def _mounts() -> list[Mount]:
    """All of this process, in their order: of equal points the last one is on top. None where unknown."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) >= 5 and kinds:
            point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
            found.append(Mount(fields[0], fields[2], point, kinds[0].decode("ascii", "replace")))
    return found


def _lies_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _mount_of(real: bytes, mounts: Iterable[Mount]) -> Mount | None:
    best = None
    for mount in mounts:
        # The last of equal mount points is the one on top.
        if _lies_in(real, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def file_system_type(path: bytes) -> str | None:
    """The type of the file system that `path` lies on (`ext4`, `nfs4`, `fuse.mergerfs`); None where unknown."""
    mount = _mount_of(os.path.realpath(path), _mounts())
    return None if mount is None else mount.type


class MountTable:
    """Tells when something is mounted or unmounted at a folder, around it or in it. Linux's; elsewhere never."""

    def __init__(self, folder: bytes) -> None:
        self._folder = os.path.realpath(folder)
        self._seen = frozenset[Mount]()
        self._poll: select.poll | None = None
        try:
            self._descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1
            return
        self._poll = select.poll()
        # The kernel says so of every change in any mount, whoever reads (proc_pid_mounts(5)).
        self._poll.register(self._descriptor, select.POLLPRI)
        self._seen = self._look()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def has_changed(self) -> bool:
        """Whether another mount than before concerns the folder; costs next to nothing where none has changed."""
        if self._poll is None or not self._poll.poll(0):
            return False
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> frozenset[Mount]:
        mounts = _mounts()
        around = _mount_of(self._folder, mounts)
        inside = {mount for mount in mounts if _lies_in(mount.point, self._folder)}
        return frozenset(inside | ({around} if around else set()))


def is_remote(path: bytes) -> bool:
    """Whether the folder lies on a network file system or a FUSE one."""
    return _is_remote_type(file_system_type(path) or "")


def _is_remote_type(kind: str) -> bool:
    # A FUSE file system tells of what is changed through it on this machine, and of nothing else, as in mergerfs'
    # branches or at sshfs' other end. ntfs-3g is `fuseblk`.
    return kind in REMOTE_TYPES or kind.startswith("fuse")


def eventless_mount(folder: bytes) -> Mount | None:
    """What is mounted around or in the folder that changes without a word, if something is."""
    mounts = _mounts()
    real = os.path.realpath(folder)
    around = _mount_of(real, mounts)
    inside = [mount for mount in mounts if _lies_in(mount.point, real)]
    return next((mount for mount in (around, *inside) if mount is not None and _is_remote_type(mount.type)), None)


def has_stable_inodes(root: bytes) -> bool:
    """Whether a file keeps its inode and ctime as long as nobody touches it."""
    # Asked anew each time: a disk may be mounted at the root after this process began.
    return not is_remote(root) and file_system_type(root) not in _INVENTED_INODES


def is_mounted_read_only(folder: bytes) -> bool:
    """Whether nobody, root included, can write in the folder; False where none is."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def read_only_reason(folder: bytes) -> str | None:
    """Why nothing in the folder can be added, renamed or deleted; None where it can, or where no folder is."""
    if is_mounted_read_only(folder):
        return "it is mounted read-only"
    if os.access(folder, os.W_OK | os.X_OK) or not os.path.isdir(folder):
        return None
    return "this user may not write in it"
