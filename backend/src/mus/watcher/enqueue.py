"""From settled changes to jobs: a few, with many paths each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import MusError
from mus.jobs.scan_requests import scan_job
from mus.ledger.lease import Lease
from mus.library.paths import escaped
from mus.library.scan_plan import KnownTrack
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile, skip_reason
from mus.metrics import WATCHER_CHANGES, count
from mus.persistence.database import Database
from mus.persistence.edit_repository import own_writes
from mus.persistence.known_tracks import tracks_at, tracks_below
from mus.watcher.settle import Settled

logger = logging.getLogger(__name__)

PATHS_IN_A_JOB = 250
#: Past so many changes at once a scan is cheaper than jobs about them.
MOST_CHANGES = 2000
#: Past so many vanished folders at once, too: each is a query.
MOST_FOLDERS = 100
_REQUESTED_BY = "watcher"
#: How long a version of a file that was handed on is not handed on again, and how many are remembered.
_REMEMBERED_SECONDS = 10.0
_REMEMBERED = 2 * MOST_CHANGES
_LONGEST_BACKOFF_SECONDS = 30.0

#: Of the many names that vanish beside music, endings that no folder has: they need no query.
_FILES_BESIDE_MUSIC = tuple(
    b".jpg .jpeg .png .webp .gif .m3u .m3u8 .cue .log .txt .nfo .lrc .pdf .tmp .part".split()
)

_Version = tuple[int, int, int, int]


@dataclass(slots=True)
class Jobs:
    """Paths by what is to be done with them. `moved` holds old and new path in turns."""

    created: list[bytes] = field(default_factory=list)
    modified: list[bytes] = field(default_factory=list)
    moved: list[bytes] = field(default_factory=list)
    deleted: list[bytes] = field(default_factory=list)

    def calls(self) -> Iterator[tuple[Queue, str, list[bytes]]]:
        """Queue, task and paths of each job."""
        for queue, task, paths in (
            (Queue.HIGH, "process_file_created", self.created),
            (Queue.HIGH, "process_file_deletion", self.deleted),
            (Queue.MEDIUM, "process_file_move", self.moved),
            (Queue.MEDIUM, "process_file_modified", self.modified),
        ):
            for start in range(0, len(paths), PATHS_IN_A_JOB):
                yield queue, task, paths[start : start + PATHS_IN_A_JOB]

    def count_changes(self) -> None:
        for kind, files in (
            ("created", len(self.created)),
            ("modified", len(self.modified)),
            ("moved", len(self.moved) // 2),
            ("deleted", len(self.deleted)),
        ):
            if files:
                count(WATCHER_CHANGES, kind, amount=files)


def sort_changes(
    present: Iterable[FoundFile],
    gone: Iterable[bytes],
    known_present: Iterable[KnownTrack],
    known_gone: Iterable[KnownTrack],
) -> Jobs:
    """Tell new files from known ones and pair what vanished with what appeared. Pure.

    `known_gone` are the tracks at the gone paths and below them. A gone path without a track counts only if it
    has the name of an audio file: the job that adds its track may be under way.
    """
    at_path = {track.path: track for track in known_present}
    lost = {track.path: track for track in known_gone}
    vanished = {track.path: track for track in lost.values() if track.status in LIVE_STATES}
    # Inodes are reused: only the same content of the same time is the same file.
    by_inode = {(track.inode, track.device, track.size, track.mtime_ns): track for track in vanished.values()}
    jobs = Jobs()
    for file in present:
        track = at_path.get(file.path)
        is_known = track is not None and track.status in LIVE_STATES
        origin = (
            None
            if track is not None and is_known and track.inode == file.inode
            else (by_inode.pop((file.inode, file.device, file.size, file.mtime_ns), None))
        )
        if origin is not None:
            jobs.moved += [origin.path, file.path]
            del vanished[origin.path]
        elif track is None or not is_known:
            jobs.created.append(file.path)
        elif not _is_stored(track, file):
            jobs.modified.append(file.path)
    jobs.deleted = list(vanished)
    for path in gone:
        name = path.rpartition(b"/")[2]
        if path not in lost and skip_reason(name, is_dir=False) is None:
            jobs.deleted.append(path)
    return jobs


def _is_stored(track: KnownTrack, file: FoundFile) -> bool:
    """Whether the database has this very version, as after mus's own edits."""
    return track.status != TrackState.ERROR and (track.size, track.mtime_ns, track.ctime_ns, track.inode) == (
        _version(file)
    )


def _version(file: FoundFile) -> _Version:
    return (file.size, file.mtime_ns, file.ctime_ns, file.inode)


class Enqueuer:
    """Keeps settled changes until their jobs' rows are committed, then forgets them.

    Busy databases are waited for: the changes stay, and `flush` tries again when `next_due` has come. Bounded:
    past `MOST_CHANGES` the paths are dropped, and a scan is owed instead. Once the lease is another process's,
    nothing is enqueued.
    """

    def __init__(self, database: Database, library_id: int, lease: Lease) -> None:
        self._database = database
        self._lease = lease
        self._library_id = library_id
        self._changes: dict[bytes, FoundFile | None] = {}
        self._scan_reason: str | None = None
        self._failures = 0
        self._due = 0.0
        self._flushed: list[tuple[float, int]] = []
        self._handed_on: dict[bytes, tuple[_Version, float]] = {}

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def next_due(self) -> float | None:
        """When `flush` has something to do."""
        return self._due if self._changes or self._scan_reason else None

    @property
    def scan_reason(self) -> str | None:
        """Why a scan is owed."""
        return self._scan_reason

    def add(self, settled: Iterable[Settled]) -> None:
        """Take changes over. Folders are not theirs: who lists them hands their files on."""
        for path, look in settled:
            if look is None or look.file is not None:
                self._changes[path] = look.file if look else None
        if len(self._changes) > MOST_CHANGES:
            self.add_scan(f"{len(self._changes)} files changed at once")

    def add_scan(self, reason: str) -> None:
        """A scan is needed: it covers every change that waits here."""
        self._changes.clear()
        self._scan_reason = self._scan_reason or reason

    def drop_gone(self) -> None:
        """Forget the deletions: the root is not what it was, and a scan will judge."""
        self._changes = {path: file for path, file in self._changes.items() if file is not None}

    async def flush(self, now: float) -> bool:
        """Enqueue what waits, if it is due. False when the database was busy: then it is due again later."""
        if self.next_due is None or now < self._due:
            return True
        changes, reason = dict(self._changes), self._scan_reason
        # Taken, not left until the row stands: a scan that is asked for in between is another one.
        self._scan_reason = None
        try:
            if reason is not None:
                await self._enqueue_scan(reason)
            else:
                await self._enqueue(changes, now)
        except (MusError, SQLAlchemyError, OSError) as error:
            self._scan_reason = self._scan_reason or reason
            self._failures += 1
            pause = min(0.5 * 2 ** min(self._failures, 10), _LONGEST_BACKOFF_SECONDS)
            self._due = now + pause
            logger.warning("%d changes of library %d wait %.0f s: %s", len(changes), self._library_id, pause, error)
            return False
        self._failures = 0
        for path, file in changes.items():
            if path in self._changes and self._changes[path] is file:
                del self._changes[path]
        self._due = now + self._pause(now, len(changes))
        return True

    def _pause(self, now: float, count: int) -> float:
        """Time until the next jobs: none to speak of for single files, more while many come."""
        self._flushed = [(at, many) for at, many in self._flushed if at > now - 2]
        self._flushed.append((now, count))
        lately = sum(many for _, many in self._flushed)
        return 0.05 if lately <= 100 else 0.5 if lately <= 500 else 1.0

    async def _enqueue(self, changes: dict[bytes, FoundFile | None], now: float) -> None:
        self._forget_old(now)
        present = [
            file for path, file in changes.items() if file is not None and not self._was_handed_on(path, file)
        ]
        gone = [path for path, file in changes.items() if file is None]
        jobs = await self._sorted(present, gone)
        if jobs is None or len(jobs.deleted) > PATHS_IN_A_JOB:
            # The mount guard must see all that is gone in one piece, and a job carries no more than this.
            await self._enqueue_scan("many files or folders vanished")
            return
        calls = list(jobs.calls())
        if calls:
            async with self._lease.unit_of_work():
                await broker.enqueue_many(
                    [
                        broker.job(
                            queue,
                            task,
                            Options(requested_by=_REQUESTED_BY),
                            library_id=self._library_id,
                            paths=[escaped(path) for path in paths],
                        )
                        for queue, task, paths in calls
                    ]
                )
        jobs.count_changes()
        for path in gone:
            self._handed_on.pop(path, None)
        for file in present:
            self._handed_on[file.path] = (_version(file), now)

    async def _sorted(self, present: Sequence[FoundFile], gone: Sequence[bytes]) -> Jobs | None:
        async with self._database.reading() as session:
            own = await own_writes(session, self._library_id)
            # Of an edit whose commit is under way the tracks do not tell yet.
            present = [file for file in present if not own.wrote(file)]
            gone = [path for path in gone if path not in own.leaving]
            known_present = await tracks_at(session, self._library_id, [file.path for file in present])
            known_gone = await tracks_at(session, self._library_id, gone)
            found = {track.path for track in known_gone}
            gone = [path for path in gone if path in found or path not in own.emptied]
            folders = [path for path in gone if path not in found and not _is_surely_a_file(path)]
            if len(folders) > MOST_FOLDERS:
                return None
            for folder in folders:
                below = await tracks_below(session, self._library_id, folder)
                known_gone += [track for track in below if track.path not in own.leaving]
        return sort_changes(present, gone, known_present, known_gone)

    async def _enqueue_scan(self, reason: str) -> None:
        async with self._lease.unit_of_work():
            await broker.enqueue_many([scan_job(self._library_id, requested_by=_REQUESTED_BY)])
        count(WATCHER_CHANGES, "scan")
        logger.info("library %d is to be scanned: %s", self._library_id, reason)

    def _was_handed_on(self, path: bytes, file: FoundFile) -> bool:
        # A new folder is listed twice, and its files come by events as well: once is enough.
        return self._handed_on.get(path, (None, 0.0))[0] == _version(file)

    def _forget_old(self, now: float) -> None:
        self._handed_on = {
            path: (version, at) for path, (version, at) in self._handed_on.items() if at > now - _REMEMBERED_SECONDS
        }
        for path in list(self._handed_on)[:-_REMEMBERED]:
            del self._handed_on[path]


def _is_surely_a_file(path: bytes) -> bool:
    return path.lower().endswith(_FILES_BESIDE_MUSIC)
