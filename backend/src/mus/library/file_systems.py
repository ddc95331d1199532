"""What kind of file system a folder lies on: whether it tells of changes, and whether its inodes last."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: File systems whose changes may come from another machine, so that neither events nor inodes can be relied on.
REMOTE_TYPES = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "davfs",
        "virtiofs",
        "vboxsf",
        "prl_fs",
    }
)
#: File systems without inodes of their own: Linux makes the numbers up, and anew whenever it forgot a file.
_INVENTED_INODES = frozenset({"vfat", "msdos", "exfat"})
_OCTAL = re.compile(rb"\\([0-7]{3})")


def file_system_type(path: bytes) -> str | None:
    """The type of the file system that `path` lies on (`ext4`, `nfs4`, `fuse.mergerfs`); None where unknown."""
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, best_type = b"", None
    for line in mounts.splitlines():
        before, _, after = line.partition(b" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        inside = real == point or real.startswith(point.rstrip(b"/") + b"/")
        # The last of equal mount points is the one on top.
        if inside and len(point) >= len(best):
            best, best_type = point, kinds[0].decode("ascii", "replace")
    return best_type


def is_remote(path: bytes) -> bool:
    """Whether the folder lies on a network file system or a FUSE one."""
    kind = file_system_type(path) or ""
    return kind in REMOTE_TYPES or kind.startswith("fuse")


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
