"""Compare what the disk has with what the database knows: pure, no I/O.

Feed every found file to `consider`; what it returns is to be read. At the end `conclude` tells which tracks
moved, which may be missing, and which set-aside files are to be read after all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mus.errors import ErrorCategory
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile, WalkReport


class KnownTrack(NamedTuple):
    """What the database holds of a track, as far as a scan compares it."""

    id: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    status: str
    error_category: str | None


class Move(NamedTuple):
    """A track whose file is now at `found.path`."""

    track_id: int
    found: FoundFile


@dataclass(slots=True)
class Conclusion:
    """What the walk leaves to be done."""

    moves: list[Move] = field(default_factory=list)
    #: Live tracks whose file was not met where it could have been; to be looked at once more.
    missing: list[int] = field(default_factory=list)
    #: Files that looked like moved ones but whose first place is still taken: read as files of their own.
    to_read: list[FoundFile] = field(default_factory=list)
    #: Old device numbers, with the one that the same file system has now.
    renumbered: dict[int, int] = field(default_factory=dict)


class ScanPlan:
    """One comparison of a walk with the tracks below its start."""

    def __init__(self, known: Iterable[KnownTrack], *, full: bool, stable_inodes: bool) -> None:
        """`full` reads every file again. Without `stable_inodes` (network file systems) a file's version is its
        size and mtime alone, and inodes tell no moves."""
        self._full = full
        self._stable_inodes = stable_inodes
        self._by_path = {track.path: track for track in known}
        self._by_inode = (
            {track.inode: track for track in self._by_path.values()} if stable_inodes and self._by_path else {}
        )
        self._set_aside: list[tuple[FoundFile, KnownTrack]] = []
        #: Ids whose file is where it was.
        self._kept: set[int] = set()
        self._renumbered: dict[int, int] = {}
        self.found = 0
        self.unchanged = 0
        self.live = sum(track.status in LIVE_STATES for track in self._by_path.values())

    def consider(self, files: Iterable[FoundFile]) -> list[FoundFile]:
        """Take a folder's files; returns those to be read."""
        to_read: list[FoundFile] = []
        for file in files:
            self.found += 1
            track = self._by_path.get(file.path)
            if track is None or (self._stable_inodes and track.inode != file.inode):
                origin = self._origin(file)
                if origin is not None:
                    self._set_aside.append((file, origin))
                    continue
                if track is not None:
                    self._kept.add(track.id)
                to_read.append(file)
                continue
            self._kept.add(track.id)
            if track.device != file.device and self._stable_inodes:
                self._renumbered[track.device] = file.device
            if self._is_unchanged(track, file):
                self.unchanged += 1
            else:
                to_read.append(file)
        return to_read

    def _origin(self, file: FoundFile) -> KnownTrack | None:
        """The track elsewhere that this file may be: the same inode counts only with equal size and mtime."""
        track = self._by_inode.get(file.inode)
        if track is None or track.path == file.path or track.status == TrackState.TRASHED:
            return None
        same = (track.size, track.mtime_ns) == (file.size, file.mtime_ns)
        return track if same and self._same_device(track.device, file.device) else None

    def _same_device(self, known: int, found: int) -> bool:
        return known == found or self._renumbered.get(known) == found

    def _is_unchanged(self, track: KnownTrack, file: FoundFile) -> bool:
        if self._full or track.status not in LIVE_STATES:
            return False
        if track.status == TrackState.ERROR and track.error_category == ErrorCategory.TEMPORARY:
            return False  # cut short or busy when it was read: another look may find it whole
        if (track.size, track.mtime_ns) != (file.size, file.mtime_ns):
            return False
        return not self._stable_inodes or track.ctime_ns == file.ctime_ns

    def conclude(self, report: WalkReport, start: bytes) -> Conclusion:
        """After the last folder. `start` is where the walk began: nothing outside it can be missing."""
        end = Conclusion(renumbered=self._renumbered)
        moved: set[int] = set()
        for file, origin in self._set_aside:
            # Its old place still holds it: a hard link, so a file of its own. Two links to a moved file: one wins.
            if origin.id in self._kept or origin.id in moved:
                end.to_read.append(file)
                if (track := self._by_path.get(file.path)) is not None and track.id not in moved:
                    self._kept.add(track.id)
            else:
                moved.add(origin.id)
                end.moves.append(Move(origin.id, file))
        for track in self._by_path.values():
            if (
                track.status in LIVE_STATES
                and track.id not in self._kept
                and track.id not in moved
                and self._could_have_been_met(track, report, start)
            ):
                end.missing.append(track.id)
        return end

    def _could_have_been_met(self, track: KnownTrack, report: WalkReport, start: bytes) -> bool:
        """A folder that could not be listed, or that now lies on another device, proves nothing."""
        if start and not (track.path == start or track.path.startswith(start + b"/")):
            return False
        if track.path in report.unlisted:
            return False
        folder = track.path
        while folder:
            folder = folder.rpartition(b"/")[0]
            if folder in report.unlisted:
                return False
            if folder in report.folder_devices:
                return self._same_device(track.device, report.folder_devices[folder])
        return False
