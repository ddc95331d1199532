"""Look again at single paths, and see there what the walk would see. Blocking: runs in a thread."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress

from mus.library.file_names import alike
from mus.library.file_reading import signed_64
from mus.library.scan_plan import KnownRow
from mus.library.states import LIVE_STATES
from mus.library.walk import NO_MEDIA, FoundFile, found_file, skip_reason

#: Files that are looked at to learn what this machine calls a file system: one in its place is enough.
_WITNESSES = 32


class SecondLook:
    """One look around in a library. It remembers the folders it saw, so use a fresh one for each task."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._walked: dict[bytes, bool] = {}
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._by_spelling: dict[bytes, dict[str, bytes]] = {}
        self._minds_case: dict[bytes, bool] = {}
        self._as_listed: dict[bytes, bytes] = {b"": b""}

    def at(self, path: bytes) -> FoundFile | None:
        """The file that the walk would find at `path`: None when nothing is there, or when it is passed over.

        Raises OSError when that cannot be told.
        """
        folder, _, name = path.rpartition(b"/")
        if b"\0" in path or skip_reason(name, is_dir=False) is not None or not self.is_walked(folder):
            return None
        try:
            found = os.lstat(os.path.join(self._root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found_file(path, found) if stat.S_ISREG(found.st_mode) else None

    def is_walked(self, folder: bytes) -> bool:
        """Whether the walk lists this folder: it and all above it are real folders that nothing hides.

        Raises OSError when that cannot be told.
        """
        known = self._walked.get(folder)
        if known is None:
            known = self._walked[folder] = self._is_real(folder) and not os.path.lexists(
                os.path.join(self._root, folder, NO_MEDIA)
            )
        return known

    def _is_real(self, folder: bytes) -> bool:
        if not folder:
            return True
        above, _, name = folder.rpartition(b"/")
        if b"\0" in name or name in {b"", b".", b".."} or skip_reason(name, is_dir=True) is not None:
            return False
        if not self.is_walked(above):
            return False
        try:
            return stat.S_ISDIR(os.lstat(os.path.join(self._root, folder)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_gone(self, path: bytes, devices: Collection[int] | None) -> bool:
        """Whether this look proves that a track's file is gone.

        It does not where the nearest folder that is left lies on none of `devices`: then a disk is. None stands
        for any device. What cannot be told is not gone.
        """
        try:
            if self.at(path) is not None and self.as_listed(path) == path:
                return False
            above = self.device_above(path)
        except OSError:
            return False
        return above is not None and (devices is None or above in devices)

    def device_above(self, path: bytes) -> int | None:
        """The device of the nearest folder that is there. Raises OSError when that cannot be told."""
        folder = path.partition(b"\0")[0]
        while folder:
            folder = folder.rpartition(b"/")[0]
            try:
                # The root may be a link itself; below it links are none of ours.
                found = os.lstat(os.path.join(self._root, folder)) if folder else os.stat(self._root)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISDIR(found.st_mode):
                return signed_64(found.st_dev)
        return None

    def as_listed(self, path: bytes) -> bytes:
        """The path of what was found at `path`, as its folders list it: another one if that differs in case alone.

        A file system that ignores case (SMB, FAT) finds a renamed file by its old name too, or by its folder's.
        Raises OSError when that cannot be told.
        """
        folder, _, name = path.rpartition(b"/")
        if folder not in self._as_listed:
            self._as_listed[folder] = self.as_listed(folder)
        folder = self._as_listed[folder]
        return os.path.join(folder, name if self._is_case_minded(folder, name) else self._name_in(folder, name))

    def _is_case_minded(self, folder: bytes, name: bytes) -> bool:
        """Whether names in the folder that differ in case are two. Most file systems say so of the first name that
        is asked for, and no folder is listed: one of a network share may take seconds."""
        if folder not in self._minds_case:
            other = name.swapcase()  # of English letters, which have two cases everywhere
            if other == name:
                return os.fsdecode(name).swapcase() == os.fsdecode(name)
            self._minds_case[folder] = not os.path.lexists(os.path.join(self._root, folder, other))
        return self._minds_case[folder]

    def _name_in(self, folder: bytes, name: bytes) -> bytes:
        if name in self._names_in(folder):
            return name
        if folder not in self._by_spelling:
            self._by_spelling[folder] = {alike(other): other for other in self._names_in(folder)}
        # What came after the folder was listed has no other name there.
        return self._by_spelling[folder].get(alike(name), name)

    def is_listed(self, path: bytes) -> bool:
        """Whether the folders list `path` in just this spelling: a file system that ignores case finds a renamed
        file by its old name too. Raises OSError when that cannot be told."""
        while path:
            folder, _, name = path.rpartition(b"/")
            try:
                if name not in self._names_in(folder):
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
            path = folder
        return True

    def _names_in(self, folder: bytes) -> frozenset[bytes]:
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(os.path.join(self._root, folder)))
        return self._names[folder]

    def same_devices(self, tracks: Iterable[KnownRow]) -> set[tuple[int, int]]:
        """Pairs of numbers, a track's device and this machine's, that mean the same file system.

        Other machines, and this one before its last mount, have other numbers. A few files of each device of the
        tracks are asked, the first that come: those that lie unchanged in their place tell.
        """
        asked: Counter[int] = Counter()
        pairs: set[tuple[int, int]] = set()
        for _, path, size, mtime_ns, _, _, device, status, _ in tracks:
            if asked[device] == _WITNESSES or status not in LIVE_STATES:
                continue
            asked[device] += 1
            with suppress(OSError):
                found = self.at(path)
                if found is not None and (found.size, found.mtime_ns) == (size, mtime_ns):
                    pairs.add((device, found.device))
        return pairs
