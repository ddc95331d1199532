"""Ways to learn of changes below a root: the kernel's events, and looking again and again.

`Events` are Linux's own, `OtherEvents` those of watchfiles for other systems. `Polling` is our own, because
watchfiles' (1.3.0) ends for good on the first folder that cannot be listed, such as a disk's `lost+found`, and on
the first name that is not UTF-8.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from mus.library.walk import FoundFile, WalkReport, walk
from mus.metrics import WATCHER_EVENTS, count
from mus.watcher.filter import EventFilter, Noticed
from mus.watcher.inotify import EventsLostError, InotifyTree, explained

Deliver = Callable[[Noticed], None]

#: Of inotify, while events keep coming: its queue holds 16,384, and a copying program makes some 100 a millisecond.
_GATHER_SECONDS = 0.02
#: Of watchfiles: a batch ends when nothing happened for one step: 20 ms of quiet cost 0.14 % of a core while idle.
_STEP_MS = 20
_LONGEST_BATCH_MS = 200
_POLL_SECONDS = 5.0
#: At most this part of the time goes into polling: walking a slow share takes long.
_POLL_SHARE = 1 / 20


class NoEventsError(Exception):
    """The kernel's events cannot be had, or ended. `is_lasting`: trying again at once would not help."""

    def __init__(self, reason: str, *, is_lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_lasting = is_lasting


class Source(Protocol):
    """Where changes come from."""

    mode: str

    async def open(self) -> None:
        """Begin: what changes from now on is reported. Raises NoEventsError."""

    async def read(self, deliver: Deliver) -> None:
        """Deliver batches until the root itself is moved or deleted. Raises NoEventsError when it dies."""

    def close(self) -> None:
        """End soon."""


class Events:
    """Linux's inotify. A thread works when there is something to read; idle, it costs nothing."""

    mode = "events"

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mus-watch")
        self._tree: InotifyTree | None = None
        self._readable = asyncio.Event()
        self._heard: int | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Begin: what changes from now on is reported. Raises NoEventsError."""
        await self._loop.run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        try:
            self._tree = InotifyTree(self._root, stopped=self._closing.is_set)
        except OSError as error:
            reason, is_lasting = explained(error)
            raise NoEventsError(reason, is_lasting=is_lasting) from error

    async def read(self, deliver: Deliver) -> None:
        """Deliver batches until the root itself is moved or deleted. Raises NoEventsError when it dies."""
        read_at = 0.0
        while True:
            await self._wait()
            if self._loop.time() - read_at < _GATHER_SECONDS:
                # Many come: as many as the queue can hold by then are read at once. A single one never waits.
                await asyncio.sleep(_GATHER_SECONDS)
            noticed = await self._loop.run_in_executor(self._thread, self._next)
            read_at = self._loop.time()
            if noticed.is_root_lost:
                return
            deliver(noticed)

    async def _wait(self) -> None:
        assert self._tree is not None
        self._readable.clear()
        self._heard = self._tree.fileno()
        self._loop.add_reader(self._heard, self._readable.set)
        try:
            await self._readable.wait()
        finally:
            self._hear_no_more()

    def _hear_no_more(self) -> None:
        # Once, and before the descriptor is closed: its number may be another file's right after.
        if self._heard is not None:
            self._loop.remove_reader(self._heard)
            self._heard = None

    def _next(self) -> Noticed:
        assert self._tree is not None
        try:
            return self._tree.read()
        except EventsLostError:
            # Folders may have come and gone unseen: all is watched anew, and then compared.
            self._tree.close()
            self._open()
            return Noticed(scan_reason="the system lost events: too much changed at once")
        except OSError as error:
            reason, is_lasting = explained(error)
            raise NoEventsError(reason, is_lasting=is_lasting) from error

    def close(self) -> None:
        """End soon."""
        self._closing.set()
        self._hear_no_more()
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._tree is not None:
            self._tree.close()


class OtherEvents:
    """watchfiles' events, read in a thread of their own."""

    mode = "events"

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._filter = EventFilter(root)
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mus-watch")
        self._notify: Any = None

    async def open(self) -> None:
        """Begin: what changes from now on is reported. Raises NoEventsError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        from watchfiles._rust_notify import RustNotify  # not on Linux

        try:
            root = self._root.decode()
        except UnicodeDecodeError:
            raise NoEventsError("the path of the folder is not UTF-8", is_lasting=True) from None
        try:
            # `ignore_permission_denied` would ignore every other failure too, and stop at the first one: the
            # folders that come after it would not be watched, without a word.
            self._notify = RustNotify([root], False, False, 0, True, False)  # noqa: FBT003 - takes no keywords
        except (OSError, RuntimeError) as error:
            lasts = isinstance(error, PermissionError)
            reason = f"a folder may not be read: {error}" if lasts else str(error)
            raise NoEventsError(reason, is_lasting=lasts) from error

    async def read(self, deliver: Deliver) -> None:
        """Deliver batches until the root itself is moved or deleted. Raises NoEventsError when it dies."""
        loop = asyncio.get_running_loop()
        while not (noticed := await loop.run_in_executor(self._thread, self._next)).is_root_lost:
            deliver(noticed)

    def _next(self) -> Noticed:
        assert self._notify is not None
        try:
            # No timeout: when one passes, watchfiles throws away what came in that instant.
            events: Any = self._notify.watch(_LONGEST_BATCH_MS, _STEP_MS, 0, self._closing)
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception
            raise NoEventsError(str(error)) from None
        if isinstance(events, str):
            raise NoEventsError(events)
        return self._filter.sort(events)

    def close(self) -> None:
        """End the thread, within a step."""
        self._closing.set()
        if self._notify is not None:
            self._thread.submit(self._notify.close)
        self._thread.shutdown(wait=False)


def events_of(root: bytes) -> Source:
    """The events of this system."""
    return Events(root) if sys.platform == "linux" else OtherEvents(root)


class Polling:
    """Walks the root every few seconds and compares. Sees what the walk of a scan sees, whatever its name."""

    mode = "polling"

    def __init__(self, root: bytes, *, every_seconds: float | None = None) -> None:
        self._root = root
        self._every_seconds = _POLL_SECONDS if every_seconds is None else every_seconds
        #: For each folder with music a hash of its files' versions, and their names joined by slashes.
        self._folders: dict[bytes, tuple[int, bytes]] = {}
        self._walk_seconds = 0.0
        self._closing = threading.Event()

    async def open(self) -> None:
        """Take the first look, to compare the next one with."""
        await asyncio.to_thread(self.changes)

    async def read(self, deliver: Deliver) -> None:
        """Deliver what changed, for ever."""
        while True:
            await asyncio.sleep(max(self._every_seconds, self._walk_seconds / _POLL_SHARE))
            noticed = await asyncio.to_thread(self.changes)
            if noticed.paths:
                count(WATCHER_EVENTS, "polled", amount=len(noticed.paths))
                deliver(noticed)

    def close(self) -> None:
        """Let a walk under way end early."""
        self._closing.set()

    def changes(self) -> Noticed:
        """Look; returns every file of each folder in which anything changed, and those that vanished. Blocking."""
        started = time.monotonic()
        report = WalkReport()
        now: dict[bytes, tuple[int, bytes]] = {}
        for files in walk(self._root, b"", report, stopped=self._closing.is_set):
            by_folder: dict[bytes, list[FoundFile]] = {}
            for file in sorted(files):
                by_folder.setdefault(file.path.rpartition(b"/")[0], []).append(file)
            for folder, ordered in by_folder.items():
                version = hash(tuple((file.size, file.mtime_ns, file.inode) for file in ordered))
                now[folder] = (version, b"/".join(file.path.rpartition(b"/")[2] for file in ordered))
        for folder, known in self._folders.items():
            if folder not in now and _may_be_there(folder, report):
                now[folder] = known
        noticed = Noticed()
        for folder in now.keys() | self._folders.keys():
            before, after = self._folders.get(folder), now.get(folder)
            if before != after:
                names = {name for state in (before, after) if state for name in state[1].split(b"/")}
                noticed.paths |= {folder + b"/" + name if folder else name for name in names}
        if not self._closing.is_set():
            self._folders = now
        self._walk_seconds = time.monotonic() - started
        return noticed


def _may_be_there(folder: bytes, report: WalkReport) -> bool:
    """Whether the folder lies in one that could not be listed, so that nothing is known of it."""
    while True:
        if folder in report.unlisted:
            return True
        if not folder:
            return False
        folder = folder.rpartition(b"/")[0]
