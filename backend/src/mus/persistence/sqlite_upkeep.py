"""Upkeep of a SQLite file, in steps that each hold the write lock for moments only. Blocking.

Workers beat by writing, and are taken for dead after 20 s without: nothing here may keep the lock for long.
Times below: 500,000 jobs with their events and 100,000 tracks, a file of 400 MB, on two cores and an SSD.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Rows of an index that ANALYZE looks at: it takes a millisecond. Without a limit the planner learned that a state
#: has 250,000 jobs on average, and walked all jobs for reconcile's look for lost messages, every few seconds: 50 ms
#: instead of 0.1.
ANALYSIS_LIMIT = 1000
#: Pages of the search index that one merge writes: 30 ms.
MERGE_PAGES = 100
#: Pages given back in one transaction.
SHRINK_PAGES = 500
#: Less free space than this, or than a quarter of the file, is used again soon enough.
LEAST_FREE_BYTES = 32 * 1024 * 1024
LEAST_FREE_SHARE = 0.25
#: VACUUM writes what is in use anew and holds the write lock meanwhile: 140 MB a second here, a tenth of it on a
#: slow disk. It is tried on this much at most, and given up after so many seconds.
MOST_VACUUMED_BYTES = 128 * 1024 * 1024
LONGEST_VACUUM_SECONDS = 5.0
_INCREMENTAL = 2
_FINDINGS = 10


class DamagedDatabaseError(Exception):
    """The file contradicts itself; `findings` are SQLite's words."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__(findings[0])
        self.findings = findings


class SqliteUpkeep:
    """A connection of its own to the file; `interrupt` ends what it does from another thread."""

    def __init__(self, file: Path, *, busy_timeout_seconds: float = 30.0) -> None:
        self._file = file
        self._busy_timeout_seconds = busy_timeout_seconds
        # Autocommit: each statement is a transaction. Steps run in whichever thread is free, one at a time.
        self._connection = sqlite3.connect(
            file, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        self._connection.interrupt()

    def check(self) -> None:
        """Read the whole file (0.4 s); writers go on. Raises DamagedDatabaseError."""
        rows = self._connection.execute(f"PRAGMA quick_check({_FINDINGS})").fetchall()
        findings = [str(row[0]) for row in rows]
        if findings != ["ok"]:
            raise DamagedDatabaseError(findings)

    def analyse(self) -> None:
        """Renew what the planner knows of the tables."""
        self._connection.execute(f"PRAGMA analysis_limit = {ANALYSIS_LIMIT}")
        self._connection.execute("ANALYZE")

    def merge_search_index(self) -> Iterator[None]:
        """Merge the index's segments into one; each step of the iterator is one transaction.

        As FTS5's documentation says to spread an `optimize`: begin with a negative number, and go on until a merge
        changes less than two rows.
        """
        pages = -MERGE_PAGES
        while True:
            before = self._connection.total_changes
            self._connection.execute("INSERT INTO tracks_fts (tracks_fts, rank) VALUES ('merge', ?)", (pages,))
            yield
            if self._connection.total_changes - before < 2:
                return
            pages = MERGE_PAGES

    def checkpoint(self) -> bool:
        """Write the log back into the file, and cut it off if nobody reads from it just now; whether it was."""
        # This one waits for nobody, and does the work; the other then blocks writers for the blink it still needs.
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        with self._timeout(0.2):
            ((busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return not busy

    @property
    def bytes(self) -> int:
        return self._pragma("page_count") * self._pragma("page_size")

    @property
    def free_bytes(self) -> int:
        """Pages that nothing uses: SQLite fills them again before the file grows."""
        return self._pragma("freelist_count") * self._pragma("page_size")

    @property
    def shrinks_in_steps(self) -> bool:
        return self._pragma("auto_vacuum") == _INCREMENTAL

    def has_much_free(self) -> bool:
        free = self.free_bytes
        return free >= LEAST_FREE_BYTES and free >= LEAST_FREE_SHARE * self.bytes

    def shrink(self) -> Iterator[None]:
        """Give free pages back to the file system; each step of the iterator is one short transaction."""
        while free := self._pragma("freelist_count"):
            # `execute` stops after the first page of them (seen on Python 3.11): a script runs to its end.
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
            yield
            if self._pragma("freelist_count") >= free:
                return

    def vacuum(self) -> str | None:
        """Write the file anew, once: after it, `shrink` can. Returns why not, if it was not."""
        used = self.bytes - self.free_bytes
        if used > MOST_VACUUMED_BYTES:
            return f"it would block all writers for long: {used // 2**20} MiB are in use"
        # The new copy goes through the log first.
        if shutil.disk_usage(os.path.dirname(self._file) or ".").free < 3 * used:
            return "the disk is too full for a second copy"
        self._connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        alarm = threading.Timer(LONGEST_VACUUM_SECONDS, self._connection.interrupt)
        alarm.start()
        try:
            with self._timeout(2.0):
                self._connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            return f"it could not be done now: {error}"
        finally:
            alarm.cancel()
        return None

    def _pragma(self, name: str) -> int:
        value: int = self._connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    @contextmanager
    def _timeout(self, seconds: float) -> Iterator[None]:
        """How long to wait for others' locks in the block: whoever waits so may keep writers waiting too."""
        self._connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        try:
            yield
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_seconds * 1000)}")
