"""Thumbnails that nothing shows any more, deleted folder by folder. Blocking.

Nothing outside the thumbnails' folder is touched whatever links lie in it: folders are opened without following
links, and files are named relative to the open folder. What does not look like a thumbnail is somebody else's.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_SHARD = re.compile(r"[0-9a-f]{2}")
#: As `cover_thumbnails` names them: `<cover>_<size>.webp`, and what it writes before the rename.
_THUMBNAIL = re.compile(r"(?P<cover>[0-9a-f]{32})_[0-9]{1,5}\.webp")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}_[0-9]{1,5}\.[0-9a-f]{16}\.(tmp|doomed)")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: A younger file may belong to a track whose row is not committed yet.
YOUNGEST_SECONDS = 86_400.0


@dataclass(slots=True)
class Swept:
    """What was done: files, not covers."""

    thumbnails: int = 0
    temporary: int = 0
    bytes: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Swept) -> None:
        self.thumbnails += other.thumbnails
        self.temporary += other.temporary
        self.bytes += other.bytes
        self.kept += other.kept
        self.failures += other.failures


def shards(thumbnails_dir: Path) -> list[str]:
    """The folders in which thumbnails lie; none where there is no thumbnails' folder yet. Raises OSError."""
    try:
        with os.scandir(thumbnails_dir) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _SHARD.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def sweep_shard(
    thumbnails_dir: Path, shard: str, wanted: Collection[str], *, youngest_seconds: float = YOUNGEST_SECONDS
) -> Swept:
    """Delete from one of the `shards` what is old and not of a cover in `wanted`, and old temporary files.

    Raises OSError when the folder cannot be listed; a file that cannot be deleted is among the `failures`.
    """
    swept = Swept()
    try:
        folder = os.open(thumbnails_dir / shard, _FOLDER)
    except FileNotFoundError:
        return swept
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        oldest_kept = time.time() - youngest_seconds
        for name in names:
            thumbnail = _THUMBNAIL.fullmatch(name)
            if thumbnail is None and _TEMPORARY.fullmatch(name) is None:
                continue
            if thumbnail is not None and thumbnail["cover"] in wanted:
                swept.kept += 1
                continue
            try:
                size = _delete_old(folder, name, oldest_kept)
            except OSError as error:
                swept.failures.append(f"{shard}/{name}: {error.strerror}")
                continue
            if size is None:
                swept.kept += 1
                continue
            swept.bytes += size
            if thumbnail is None:
                swept.temporary += 1
            else:
                swept.thumbnails += 1
    finally:
        os.close(folder)
    return swept


def _delete_old(folder: int, name: str, oldest_kept: float) -> int | None:
    """Its size, once it is deleted; None when it stays. Raises OSError."""
    found = _stat(folder, name)
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_mtime >= oldest_kept:
        return None
    if name.startswith("."):
        return found.st_size if _unlink(folder, name) else None
    # An analysis may renew the file between the look and the deletion, and count on it: taken aside first, it
    # either was renewed before, which shows, or is missing to whoever renews it, who then writes it anew.
    doomed = f".{name.removesuffix('.webp')}.{os.urandom(8).hex()}.doomed"
    try:
        os.rename(name, doomed, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return None
    found = _stat(folder, doomed)
    if found is not None and found.st_mtime >= oldest_kept:
        os.rename(doomed, name, src_dir_fd=folder, dst_dir_fd=folder)
        return None
    return found.st_size if found is not None and _unlink(folder, doomed) else None


def _stat(folder: int, name: str) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def _unlink(folder: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False  # another sweep was first
    return True
