"""Wait until a changed file is whole, and until a vanished one had the time to turn up elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mus.library.walk import FoundFile, found_file, skip_reason


class Look(NamedTuple):
    """What was seen at a path. `file` is None for a folder, and for what is neither."""

    file: FoundFile | None
    is_folder: bool = False
    #: Whether a process of this machine has the file open for writing; None if that cannot be known.
    is_being_written: bool | None = None
    #: Time since its content or its name last changed, by the file system's own stamps.
    untouched_seconds: float = 0.0


class Settled(NamedTuple):
    """A change that is over: `look` is what is at the path now, None when nothing is."""

    path: bytes
    look: Look | None


@dataclass(slots=True)
class _Waiting:
    due: float
    version: tuple[int, int, int] | None = None
    still_since: float | None = None
    is_gone: bool = False
    was_listed: bool = False
    is_finished: bool = False
    is_renamed: bool = False


class Settler:
    """Paths on their way from noticed to settled. Knows no clock and no disk: both are arguments.

    A file is handed on when its size, mtime and inode were the same in two looks. How far apart they must be
    depends on what else is known of it:

        a process has it open for writing       20 times `quiet_seconds`
        it is empty                             4 times
        who writes is not known                 `quiet_seconds`
        nobody writes                           half of it
        … and its last change was not of its    a fifth: renamed into place, or its times were set,
          content, or is seconds old            which copying programs do last
        the system said that its writer has     a fifth
          closed it
        the system said that it was renamed     none: one look is enough
          into its place

    So a file renamed into place takes no time, and one that a program still holds open waits for it.
    """

    def __init__(self, quiet_seconds: float) -> None:
        self.quiet_seconds = quiet_seconds
        self._waiting: dict[bytes, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_due(self) -> float | None:
        """When `settle` has something to look at."""
        return min((waiting.due for waiting in self._waiting.values()), default=None)

    def notice(
        self,
        paths: Iterable[bytes],
        now: float,
        *,
        finished: Collection[bytes] = (),
        renamed: Collection[bytes] = (),
    ) -> None:
        """These changed; of some the system said that their writer closed them, or that they were renamed.

        Those that wait already go on waiting: their next look, which such a word brings on, will see it.
        """
        for path in paths:
            waiting = self._waiting.get(path)
            if waiting is None or waiting.was_listed:
                waiting = self._waiting[path] = _Waiting(due=now)
            if path in finished:
                waiting.is_finished, waiting.due = True, now
            if path in renamed:
                waiting.is_renamed, waiting.due = True, now

    def clear(self) -> None:
        self._waiting.clear()

    def settle(self, now: float, look: Callable[[bytes], Look | None]) -> list[Settled]:
        """Look at what is due; returns what is settled, and forgets it."""
        settled: list[Settled] = []
        any_file = False
        for path, waiting in list(self._waiting.items()):
            if waiting.due > now:
                continue
            seen = look(path)
            if seen is None:
                done = self._is_gone_for_good(waiting, now)
            elif seen.is_folder:
                settled.append(Settled(path, seen))
                # Files may have come before the folder was watched, and after this listing began: list it again.
                done = waiting.was_listed
                waiting.was_listed, waiting.due = True, now + 4 * self.quiet_seconds
                if done:
                    del self._waiting[path]
                continue
            elif seen.file is None:
                del self._waiting[path]
                continue
            else:
                done = self._is_still(waiting, seen, seen.file, now)
                any_file = any_file or done
            if done:
                settled.append(Settled(path, seen))
                del self._waiting[path]
        if any_file:
            # One of them may be where a vanished file went: only together they are seen to be a move.
            settled += self._all_gone()
        return settled

    def _all_gone(self) -> list[Settled]:
        gone = [path for path, waiting in self._waiting.items() if waiting.is_gone]
        for path in gone:
            del self._waiting[path]
        return [Settled(path, None) for path in gone]

    def _is_gone_for_good(self, waiting: _Waiting, now: float) -> bool:
        if not waiting.is_gone or waiting.still_since is None:
            waiting.is_gone, waiting.still_since, waiting.version = True, now, None
            waiting.due = now + 2 * self.quiet_seconds
            return False
        waiting.due = waiting.still_since + 2 * self.quiet_seconds
        return now >= waiting.due

    def _is_still(self, waiting: _Waiting, seen: Look, file: FoundFile, now: float) -> bool:
        version = (file.size, file.mtime_ns, file.inode)
        waiting.is_gone = False
        needed = self._stillness_needed(waiting, seen, file)
        if not needed:
            return True
        if version != waiting.version or waiting.still_since is None:
            waiting.version, waiting.still_since = version, now
            waiting.due = now + min(needed, self.quiet_seconds)
            return False
        until = waiting.still_since + needed
        # Looking again meanwhile: the end of writing shortens the wait.
        waiting.due = min(until, now + self.quiet_seconds)
        return now >= until

    def _stillness_needed(self, waiting: _Waiting, seen: Look, file: FoundFile) -> float:
        if seen.is_being_written:
            return 20 * self.quiet_seconds
        if file.size == 0:
            return 4 * self.quiet_seconds
        if waiting.is_renamed:
            return 0.0
        if waiting.is_finished:
            return self.quiet_seconds / 5
        age_of_content = (file.ctime_ns - file.mtime_ns) / 1e9
        if seen.is_being_written is None:
            is_whole = age_of_content > 1 or seen.untouched_seconds > 2
            return self.quiet_seconds / 5 if is_whole else self.quiet_seconds
        is_whole = age_of_content > 0 or seen.untouched_seconds > 2
        return self.quiet_seconds / (5 if is_whole else 2)


def look_at(root: bytes, path: bytes, *, ask_for_writers: bool) -> Look | None:
    """Look at `path` below `root`; None when nothing is there. Blocking.

    Files that a scan passes over are neither file nor folder here, and so is what cannot be told, as on a failing
    disk: nothing is concluded from it.
    """
    full = os.path.join(root, path)
    try:
        found = os.lstat(full)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return Look(None)
    if stat.S_ISDIR(found.st_mode):
        return Look(None, is_folder=True)
    if not stat.S_ISREG(found.st_mode) or skip_reason(path.rpartition(b"/")[2], is_dir=False) is not None:
        return Look(None)
    untouched = (time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns)) / 1e9
    return Look(
        found_file(path, found),
        is_being_written=is_open_for_writing(full) if ask_for_writers else None,
        untouched_seconds=untouched,
    )


def is_open_for_writing(full_path: bytes) -> bool | None:
    """Whether some process of this machine has the regular file open for writing; None if it cannot be known.

    By asking Linux for a read lease, which it refuses while there is a writer (fcntl(2), F_SETLEASE), and giving
    it back at once. Known for files of our own user only, unless mus may take leases on others' (CAP_LEASE).
    """
    if sys.platform != "linux":
        return None
    try:
        descriptor = os.open(full_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # A writer that comes in this very moment makes the kernel send a signal: SIGIO by default, which would
        # end this process. SIGURG is ignored unless somebody asks for it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)
