"""The folder of what was transcoded: finished files, and parts under way. Blocking.

Files that were not listened to for longest go first when room is needed. A part belongs to the process that holds
its lock, and is rubbish once nobody does: a killed process holds none.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mus.library.file_reading import FileStat
from mus.library.transcoding import ENCODING_VERSION, ENCODINGS, TargetFormat

_FILE = re.compile(r"[0-9a-f]{32}\.(opus|mp3)")
_PART = re.compile(r"\.[0-9a-f]{32}\.part")


def transcoded_name(track_id: int, path: bytes, version: FileStat, target: TargetFormat) -> str:
    """What the file is called that is made of this version of a track's file."""
    seen = f"{ENCODING_VERSION} {track_id} {version.size} {version.mtime_ns} ".encode() + path
    return blake2b(seen, digest_size=16).hexdigest() + ENCODINGS[target].suffix


class TranscodedFiles:
    """At most `most_bytes`, as far as can be told before a file is whole."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self.most_bytes = most_bytes

    def opened(self, name: str) -> tuple[int, os.stat_result] | None:
        """A descriptor of a finished file, and its fstat; None where there is none. It counts as used just now."""
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        found = os.fstat(descriptor)
        with suppress(OSError):  # another user's file: it serves all the same
            # The time of access by hand, as most file systems are told to leave it; that of change is its version.
            os.utime(self._folder / name, ns=(time.time_ns(), found.st_mtime_ns))
        return descriptor, found

    def begun(self) -> Part:
        """An empty part. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = self._folder / f".{secrets.token_hex(16)}.part"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            if os.fstat(descriptor).st_nlink:
                return Part(path, descriptor)
            os.close(descriptor)  # swept away before it was locked

    def keep(self, part: Part, name: str) -> None:
        """Give a finished part its name, in place of one that another process made meanwhile. Raises OSError."""
        part.path.rename(self._folder / name)
        self.make_room(0)

    def make_room(self, wanted_bytes: int) -> None:
        """Remove rubbish, and as many files as it takes until so much fits in. Raises OSError."""
        used = 0
        files: list[tuple[int, int, Path]] = []
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return
        for entry in entries:
            path = Path(entry.path)
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if _FILE.fullmatch(entry.name):
                    files.append((found.st_atime_ns, found.st_size, path))
                    used += found.st_size
                elif _PART.fullmatch(entry.name) and not _removed_unlocked(path):
                    used += found.st_size
        for _, size, path in sorted(files):
            if used + wanted_bytes <= self.most_bytes:
                return
            path.unlink(missing_ok=True)
            used -= size


@dataclass(frozen=True, slots=True)
class Part:
    """A file under way; this process holds its lock while the descriptor is open."""

    path: Path
    descriptor: int

    def remove(self) -> None:
        """Take it out of the folder, where it has not been given a name."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def _removed_unlocked(path: Path) -> bool:
    """Whether the part was nobody's, and is gone now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)
