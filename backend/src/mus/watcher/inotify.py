"""Linux's events for a folder and all below it: which folders are watched, and what the kernel's words come to.

The kernel watches single folders, by inode, and tells names in them. So here is a tree of the watched folders, in
which paths follow when one is renamed; and whoever makes a folder may fill it before it is watched, so each is
listed after its watch stands.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mus.library.walk import NO_MEDIA, skip_reason
from mus.watcher.filter import ADDED, DELETED, MODIFIED, EventFilter, Noticed
from mus.watcher.inotify_limits import limit_reason

# inotify(7).
ATTRIB, CLOSE_WRITE = 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
UNMOUNT, Q_OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK, _ISDIR = 0x1000000, 0x2000000, 0x4000000, 0x40000000
#: Without IN_MODIFY, of which a copied file brings one for each write: that it is made is enough to mind it, and
#: that its writer has closed it is a better sign than that nobody wrote for a moment.
_MASK = (
    ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
    | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
)  # fmt: skip
_KINDS = {CREATE: ADDED, MOVED_TO: ADDED, DELETE: DELETED, MOVED_FROM: DELETED}

_HEADER = struct.Struct("iIII")
_READ_BYTES = 1 << 18
#: The second half of a rename follows the first at once, but another event may come between (inotify(7)).
_RENAME_MS = 10


class Event(NamedTuple):
    """One event as the kernel tells it; `name` is empty where it is about the watched folder itself."""

    watch: int
    mask: int
    cookie: int
    name: bytes


class EventsLostError(Exception):
    """The kernel's queue was full: some events are gone, among them perhaps those of new folders."""


class Inotify:
    """The system calls. Reads never block: `fileno` says when there is something."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._descriptor = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    @staticmethod
    def _checked(value: int) -> int:
        if value == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return value

    def fileno(self) -> int:
        return self._descriptor

    def add(self, folder: bytes) -> int:
        """Watch a folder; its number, the one it has already if it is watched. Raises OSError."""
        return self._checked(self._libc.inotify_add_watch(self._descriptor, folder, _MASK))

    def remove(self, watch: int) -> None:
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Event]:
        """What there is; nothing when there is nothing now."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            events.append(Event(watch, mask, cookie, data[at : at + length].rstrip(b"\0")))
            at += length
        return events

    def close(self) -> None:
        os.close(self._descriptor)


class _Folder:
    """A watched folder. Its path is that of its parent and its name, so a rename anywhere above is nothing."""

    __slots__ = ("children", "name", "parent", "watch")

    def __init__(self, watch: int, parent: _Folder | None, name: bytes) -> None:
        self.watch = watch
        self.parent = parent
        self.name = name
        self.children: dict[bytes, _Folder] | None = None

    def path(self) -> bytes:
        """Relative to the root."""
        names = []
        folder = self
        while folder.parent is not None:
            names.append(folder.name)
            folder = folder.parent
        return b"/".join(reversed(names))

    def child(self, name: bytes) -> _Folder | None:
        return self.children.get(name) if self.children else None

    def take(self, child: _Folder, name: bytes) -> None:
        child.detach()
        child.parent, child.name = self, name
        if self.children is None:
            self.children = {}
        self.children[name] = child

    def detach(self) -> None:
        if self.parent is not None and self.parent.child(self.name) is self:
            assert self.parent.children is not None
            del self.parent.children[self.name]

    def family(self) -> Iterator[_Folder]:
        """It, and all below it."""
        pending = [self]
        while pending:
            folder = pending.pop()
            if folder.children:
                pending += folder.children.values()
            yield folder


class _Leaving(NamedTuple):
    """The first half of a rename."""

    path: bytes
    #: None for a file.
    folder: _Folder | None
    is_folder: bool


class InotifyTree:
    """The watches below one root, and what their events come to. For one thread at a time; blocking."""

    def __init__(self, root: bytes, *, stopped: Callable[[], bool] = lambda: False) -> None:
        """Watch everything. Raises OSError where that cannot be: ENOSPC and EMFILE are the system's limits."""
        self._root = root
        self._stopped = stopped
        self._folders: dict[int, _Folder] = {}
        self._leaving: dict[int, _Leaving] = {}
        self._inotify = Inotify()
        try:
            self._top = self._add(None, b"", root)
            if self._top is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
            self._add_below(self._top)
        except BaseException:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        return self._inotify.fileno()

    def __len__(self) -> int:
        return len(self._folders)

    def close(self) -> None:
        self._inotify.close()

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read within that time."""
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    # ------------------------------------------------------------ watches

    def _add(self, parent: _Folder | None, name: bytes, full_path: bytes) -> _Folder | None:
        """Watch one folder; None where there is none, or where it may not be read.

        That of an unreadable one is told by its own attributes changing, which its parent sees.
        """
        try:
            watch = self._inotify.add(full_path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.ENOMEM, errno.EMFILE} or parent is None:
                raise
            return None
        folder = self._folders.get(watch)
        if folder is None:
            folder = self._folders[watch] = _Folder(watch, None, b"")
        if parent is not None:
            parent.take(folder, name)
        return folder

    def _add_below(self, top: _Folder) -> None:
        pending = [(top, os.path.join(self._root, top.path()) if top.parent else self._root)]
        while pending and not self._stopped():
            folder, full_path = pending.pop()
            for name in _folders_in(full_path):
                below = os.path.join(full_path, name)
                child = self._add(folder, name, below)
                if child is not None:
                    pending.append((child, below))

    def _forget(self, top: _Folder) -> None:
        """A folder that is in the root no more, or passed over from now on, with all below it."""
        top.detach()
        for folder in top.family():
            if self._folders.pop(folder.watch, None) is not None:
                self._inotify.remove(folder.watch)

    # ------------------------------------------------------------ events

    def read(self) -> Noticed:
        """What has happened since the last time. Raises EventsLostError, and OSError for a new folder too many."""
        sorter = _Sorter(self._root)
        while events := self._inotify.read():
            for event in events:
                self._take(event, sorter)
            if not self._leaving or self._stopped():
                break
            self.wait(_RENAME_MS / 1000)
        self._end_leaving(sorter)
        return sorter.noticed

    def _take(self, event: Event, sorter: _Sorter) -> None:
        if event.mask & Q_OVERFLOW:
            raise EventsLostError
        folder = self._folders.get(event.watch)
        if folder is None:
            return  # a word that was under way when its watch went
        if event.mask & (IGNORED | UNMOUNT | DELETE_SELF | MOVE_SELF):
            self._take_own(event.mask, folder, sorter)
            return
        if not event.name:
            return  # a folder's own attributes: its parent tells of them too
        above = folder.path()
        path = above + b"/" + event.name if above else event.name
        if event.mask & _ISDIR:
            self._take_folder(event, folder, path, sorter)
        else:
            self._take_file(event, path, sorter)

    def _take_own(self, mask: int, folder: _Folder, sorter: _Sorter) -> None:
        if folder is self._top:
            sorter.noticed.is_root_lost = True
        if mask & IGNORED:
            # Deleted, or of a disk in the root that was unmounted: the table of mounts tells of that one.
            self._folders.pop(folder.watch, None)
            folder.detach()

    def _take_folder(self, event: Event, parent: _Folder, path: bytes, sorter: _Sorter) -> None:
        if skip_reason(event.name, is_dir=True) is not None and not event.mask & (MOVED_FROM | MOVED_TO):
            return
        child = parent.child(event.name)
        if event.mask & MOVED_FROM:
            self._leaving[event.cookie] = _Leaving(path, child, is_folder=True)
        elif event.mask & MOVED_TO:
            self._arrive(event, parent, path, sorter)
        elif event.mask & DELETE:
            if child is not None:
                self._forget(child)
            sorter.add(path, DELETED)
        elif event.mask & CREATE or child is None:
            # New; or it can be read from now on.
            self._adopt(parent, event.name)
            sorter.add(path, ADDED)

    def _arrive(self, event: Event, parent: _Folder, path: bytes, sorter: _Sorter) -> None:
        left = self._leaving.pop(event.cookie, None)
        if (there := parent.child(event.name)) is not None:
            self._forget(there)  # an empty one, which the rename replaced
        if skip_reason(event.name, is_dir=True) is not None:
            if left is not None:
                self._leave(left, sorter)
            return
        if left is not None and left.folder is not None:
            parent.take(left.folder, event.name)
        else:
            self._adopt(parent, event.name)
        if left is not None:
            sorter.move(left.path, path)
        else:
            sorter.add(path, ADDED, renamed=True)

    def _adopt(self, parent: _Folder, name: bytes) -> None:
        above = parent.path()
        child = self._add(parent, name, os.path.join(self._root, above, name))
        if child is not None:
            self._add_below(child)

    def _take_file(self, event: Event, path: bytes, sorter: _Sorter) -> None:
        if event.mask & MOVED_FROM:
            self._leaving[event.cookie] = _Leaving(path, None, is_folder=False)
        elif event.mask & MOVED_TO and (left := self._leaving.pop(event.cookie, None)) is not None:
            sorter.move(left.path, path)
        else:
            kind = next((kind for bit, kind in _KINDS.items() if event.mask & bit), MODIFIED)
            is_closed, is_renamed = bool(event.mask & CLOSE_WRITE), bool(event.mask & MOVED_TO)
            sorter.add(path, kind, finished=is_closed, renamed=is_renamed)

    def _end_leaving(self, sorter: _Sorter) -> None:
        """What left the root, as its second half did not come."""
        leaving, self._leaving = self._leaving, {}
        for left in leaving.values():
            self._leave(left, sorter)

    def _leave(self, left: _Leaving, sorter: _Sorter) -> None:
        if left.folder is not None:
            self._forget(left.folder)
        sorter.add(left.path, DELETED)


class _Sorter:
    """Gathers what one reading comes to."""

    def __init__(self, root: bytes) -> None:
        self._filter = EventFilter(root)
        self.noticed = Noticed()

    def add(self, path: bytes, change: int, *, finished: bool = False, renamed: bool = False) -> None:
        noticed = self.noticed
        if path.rpartition(b"/")[2] == NO_MEDIA:
            noticed.scan_reason = "a .nomedia file came or went"
        elif self._filter.matters(path, change):
            noticed.paths.add(path)
            noticed.count(change)
            if finished:
                noticed.finished.add(path)
            if renamed:
                noticed.renamed.add(path)

    def move(self, old: bytes, new: bytes) -> None:
        self.add(old, DELETED)
        self.add(new, ADDED, renamed=True)


def _folders_in(full_path: bytes) -> Iterable[bytes]:
    """Names of the folders in one that are walked; none where it cannot be listed."""
    try:
        with os.scandir(full_path) as entries:
            return [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and skip_reason(entry.name, is_dir=True) is None
            ]
    except OSError:
        return []


def explained(error: OSError) -> tuple[str, bool]:
    """Why events cannot be had, and whether trying again at once would not help."""
    if error.errno == errno.ENOSPC:
        return limit_reason("watches"), True
    if error.errno == errno.EMFILE:
        return limit_reason("instances"), True
    return error.strerror or str(error), False
