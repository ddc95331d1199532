"""Which of the paths that the file system reports are worth a look."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from mus import metrics
from mus.library.walk import MAX_PATH_BYTES, NO_MEDIA, skip_reason

#: watchfiles' numbers for what happened. They are hints: what counts is what lies on the disk afterwards.
ADDED, MODIFIED, DELETED = 1, 2, 3
_KINDS = {ADDED: "added", MODIFIED: "modified", DELETED: "deleted"}


@dataclass(slots=True)
class Noticed:
    """What a batch of events comes to: paths to look at, relative to the root, and whether they tell too little."""

    paths: set[bytes] = field(default_factory=set)
    #: Those of them whose writer has closed them.
    finished: set[bytes] = field(default_factory=set)
    #: Those of them that were renamed into their places, files and folders.
    renamed: set[bytes] = field(default_factory=set)
    #: Why a scan is needed instead: a `.nomedia` came or went, or so many events that some may be lost.
    scan_reason: str | None = None
    #: The root itself was moved or deleted: what watches it may watch nothing any more.
    is_root_lost: bool = False

    @staticmethod
    def count(change: int, amount: int = 1) -> None:
        """Count events of one kind for whoever measures."""
        metrics.count(metrics.WATCHER_EVENTS, _KINDS[change], amount=amount)


class EventFilter:
    """Applies the walk's rules (`mus.library.walk`) to the paths of one library."""

    #: A quarter of the kernel's queue (fs.inotify.max_queued_events): near its end events vanish, and watchfiles
    #: drops the kernel's word of it (samuelcolvin/watchfiles issue 348).
    EVENTS_THAT_MAY_HIDE_OTHERS = 4096

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._prefix = os.path.join(root, b"")

    def sort(self, events: Iterable[tuple[int, str]]) -> Noticed:
        """Keep what may concern music. Looks at names only, never at the disk."""
        noticed = Noticed()
        count = 0
        kinds: dict[int, int] = {}
        for change, full_path in events:
            count += 1
            path = os.fsencode(full_path)
            if not path.startswith(self._prefix):
                noticed.is_root_lost |= change == DELETED and path == self._root
                continue
            path = path[len(self._prefix) :]
            if path.rpartition(b"/")[2] == NO_MEDIA:
                noticed.scan_reason = "a .nomedia file came or went"
            elif self.matters(path, change):
                noticed.paths.add(path)
                kinds[change] = kinds.get(change, 0) + 1
        if count >= self.EVENTS_THAT_MAY_HIDE_OTHERS:
            noticed.scan_reason = f"{count} changes at once"
        for change, events_of_kind in kinds.items():
            noticed.count(change, events_of_kind)
        return noticed

    @staticmethod
    def matters(path: bytes, change: int) -> bool:
        """Whether a change of `path`, relative to the root, may add, alter or remove music."""
        if len(path) > MAX_PATH_BYTES:
            return False
        *folders, name = path.split(b"/")
        if any(skip_reason(folder, is_dir=True) for folder in folders):
            return False
        if skip_reason(name, is_dir=False) is None:
            return True
        # No audio file by name, but it may be or have been a folder: those send one event for all they hold.
        return change != MODIFIED and skip_reason(name, is_dir=True) is None

    def is_walked(self, path: bytes, seen: dict[bytes, bool]) -> bool:
        """Whether a scan would come by `path`: no folder above it is a link or holds a `.nomedia`.

        Blocking. `seen` keeps answers about folders; use a fresh one for each batch.
        """
        folder = path.rpartition(b"/")[0]
        if folder not in seen:
            seen[folder] = self._is_open(folder) and (not folder or self.is_walked(folder, seen))
        return seen[folder]

    def _is_open(self, folder: bytes) -> bool:
        full = os.path.join(self._root, folder)
        try:
            # watchfiles watches behind links too; what they lead to is listed in its own place, or not ours.
            if folder and not stat.S_ISDIR(os.lstat(full).st_mode):
                return False
        except OSError:
            return True  # gone: nothing hides what was in it
        return not os.path.lexists(os.path.join(full, NO_MEDIA))
