"""Compare what the disk has with what the database knows: pure, no I/O.

Feed every found file to `consider`; what it returns is to be read. At the end `conclude` tells which tracks
moved, which may be missing, and what else is to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from mus.errors import ErrorCategory
from mus.library.listing import Version
from mus.library.paths import is_parked
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import FoundFile, FoundFiles, WalkReport


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


#: A KnownTrack as a plain tuple: with many rows, and few that differ, most are never made anything else.
KnownRow = tuple[int, bytes, int, int, int, int, int, str, str | None]


@dataclass(frozen=True, slots=True)
class Settled:
    """The versions of the tracks whose files need no reading unless they changed.

    As one text that a database makes: to take twenty thousand rows out of it one by one took as long as to walk
    their folders. Path and version in turns with `//` in between, which no path of a walk holds, begins or ends
    with; see `is_settled` for others.
    """

    texts: Sequence[bytes]
    #: So many tracks are live; those among them that are not settled are read again.
    live: int

    def versions(self) -> dict[bytes, Version | None]:
        by_path: dict[bytes, Version | None] = {}
        for text in self.texts:
            parts = iter(text.split(b"//"))
            by_path.update(zip(parts, parts, strict=True))
        return by_path


NOTHING_SETTLED = Settled((), 0)


def is_settled(track: KnownRow) -> bool:
    """Whether its file needs no reading unless it changed.

    A passing error may be over by now. Parked paths, and those with an empty name in them, no walk finds.
    """
    _, path, *_, status, error_category = track
    is_passing = status == TrackState.ERROR and error_category == ErrorCategory.TEMPORARY
    return status in LIVE_STATES and not is_passing and not is_parked(path) and b"//" not in path


class Move(NamedTuple):
    """A track whose file is now at `found.path`."""

    track_id: int
    found: FoundFile


class Changed(NamedTuple):
    """A file that is not as the track in its place was."""

    file: FoundFile
    track_id: int
    #: It has the inode of another track, which lies nowhere else: files that swapped places, both changed.
    is_suspect: bool


@dataclass(slots=True)
class Conclusion:
    """What the walk leaves to be done."""

    moves: list[Move] = field(default_factory=list)
    #: Live tracks whose file was not met where it could have been; to be looked at once more.
    missing: list[int] = field(default_factory=list)
    #: Paths to be read that `consider` kept back: they might have been those of moved files.
    to_read: list[bytes] = field(default_factory=list)
    #: Files to be read too; unless tracks are missing, or a file is suspect, when each may be another track's file.
    changed: list[Changed] = field(default_factory=list)
    #: Paths to be read once the moves are done: until then another track has that place.
    to_read_after_moves: list[bytes] = field(default_factory=list)
    #: Old device numbers, with the one that the same file system has now.
    renumbered: dict[int, int] = field(default_factory=dict)
    #: Old and new device of files that were met in their place, unchanged, on another device.
    same_devices: set[tuple[int, int]] = field(default_factory=set)
    #: Unchanged files whose tracks hold another machine's numbers: from now on they shall hold this one's.
    adopted: list[tuple[int, FoundFile]] = field(default_factory=list)


class ScanPlan:
    """One comparison of a walk with the library's tracks: all but the trashed.

    Several machines may scan the same folder in turns. Each has numbers of its own for its file systems, and often
    for files and their ctimes: where a track's device is not the file's, only size and mtime can be compared. Which
    two numbers mean the same file system is learnt from files that lie unchanged in their place.
    """

    def __init__(
        self,
        settled: Settled,
        known: Callable[[], Sequence[KnownRow]],
        *,
        full: bool,
        stable_inodes: bool,
        same_devices: Iterable[tuple[int, int]] = (),
    ) -> None:
        """`known` gives the tracks, and is asked once a file differs from `settled`; it may know of changes since.

        `full` reads every file again, with `NOTHING_SETTLED`. Without `stable_inodes` (network file systems) a
        file's version is its size and mtime alone, and inodes tell no moves. `same_devices` are pairs of numbers, a
        track's and this machine's, that are known to mean the same file system.
        """
        self._full = full
        self._stable_inodes = stable_inodes
        self._ask_known = known
        self._known: dict[bytes, KnownTrack] | None = None
        self._inodes: dict[int, list[KnownTrack]] | None = None
        #: Of the settled tracks those that were not met yet: the versions by path. Nearly every file of nearly
        #: every scan is taken out of here, and costs no more.
        self._unmet: dict[bytes, Version | None] = settled.versions()
        self._are_all_settled = not full and len(self._unmet) == settled.live
        #: Files that may be moved ones, and files that are not as the track in their place was.
        self._set_aside: list[FoundFile] = []
        self._changed: list[tuple[FoundFile, KnownTrack]] = []
        #: Ids whose file is where it was, though not as `_unmet` has it.
        self._kept: set[int] = set()
        #: Devices of unchanged files that are not as `_unmet` had them.
        self._met_devices: set[int] = set()
        self._renumbered: dict[int, set[int]] = {}
        self._same_devices = set(same_devices)
        self._adopted: list[tuple[int, FoundFile]] = []
        self.found = 0
        self.unchanged = 0

    @property
    def _by_path(self) -> dict[bytes, KnownTrack]:
        # No `cached_property`: Python 3.11 holds one lock meanwhile for all plans, and the event loop that one plan
        # waits for in its thread may ask another.
        if self._known is None:
            self._known = {row[1]: KnownTrack._make(row) for row in self._ask_known()}
        return self._known

    @property
    def _by_inode(self) -> dict[int, list[KnownTrack]]:
        """More than one: hard links, and missing tracks whose inode was used again."""
        if self._inodes is None:
            self._inodes = {}
            for track in self._by_path.values() if self._stable_inodes else ():
                self._inodes.setdefault(track.inode, []).append(track)
        return self._inodes

    @property
    def met_known(self) -> bool:
        """Whether any file was found that belongs to a known track, or may."""
        return bool(self.unchanged or self._kept or self._set_aside or self._changed)

    @property
    def met_all_unchanged(self) -> bool:
        """Whether every live track was met just as `settled` has it, and no other file."""
        return self._are_all_settled and not self._unmet and self.unchanged == self.found

    def _is_kept(self, track: KnownTrack) -> bool:
        """Whether the track's file is where it was."""
        return track.id in self._kept or self._was_met(track)

    def consider(self, files: FoundFiles) -> list[bytes]:
        """Take a folder's files; returns the paths of those to be read."""
        self.found += len(files)
        known = list(map(self._unmet.pop, files.paths, repeat(None)))
        if known == files.versions:
            self.unchanged += len(known)
            return []
        if not self._by_path:
            return files.paths
        others: list[FoundFile] = []
        for file, version, found in zip(files, known, files.versions, strict=True):
            if found == version:
                self.unchanged += 1
                continue
            if version is not None:
                self._unmet[file.path] = version
            others.append(file)
        return [file.path for file in others if self._is_to_be_read(file)]

    def _is_to_be_read(self, file: FoundFile) -> bool:
        """Whether a file that is not known as it is must be read at once; what it is else is noted."""
        track = self._by_path.get(file.path)
        if track is not None and has_same_content(track, file) and track.device != file.device:
            self._same_devices.add((track.device, file.device))
            if self._is_settled(track):
                self._kept.add(track.id)
                self.unchanged += 1
                self._note_numbers(track, file)
                return False
        if track is not None and (not self._stable_inodes or track.inode == file.inode):
            if self._is_unchanged(track, file):
                self._kept.add(track.id)
                self._met_devices.add(track.device)
                self.unchanged += 1
            elif has_same_content(track, file):
                self._kept.add(track.id)
                return True
            else:
                self._changed.append((file, track))
            return False
        if any(True for _ in self._origins(file)):
            self._set_aside.append(file)
            return False
        if track is not None:
            self._changed.append((file, track))
            return False
        return True

    def _origins(self, file: FoundFile) -> Iterator[KnownTrack]:
        """Tracks elsewhere that this file may be: the same inode counts only with equal size and mtime."""
        for track in self._by_inode.get(file.inode, ()):
            if track.path != file.path and has_same_content(track, file):
                yield track

    def _is_unchanged(self, track: KnownTrack, file: FoundFile) -> bool:
        if not self._is_settled(track) or not has_same_content(track, file):
            return False
        return not self._stable_inodes or track.ctime_ns == file.ctime_ns

    def _is_settled(self, track: KnownRow) -> bool:
        return not self._full and is_settled(track)

    def _note_numbers(self, track: KnownTrack, file: FoundFile) -> None:
        """An unchanged file on another device: mounted anew, copied to a new disk, or seen by another machine.

        Where inodes last the track takes the numbers that it has here, so that the next move or change is seen by
        them. A network share's numbers are worth nothing, and two machines would write over each other's for ever.
        """
        if not self._stable_inodes:
            return
        self._renumbered.setdefault(track.device, set()).add(file.device)
        if (track.inode, track.ctime_ns) != (file.inode, file.ctime_ns):
            self._adopted.append((track.id, file))

    def conclude(self, report: WalkReport, start: bytes, *, any_device: bool = False) -> Conclusion:
        """After the last folder. `start` is where the walk began: nothing outside it can be missing.

        With `any_device` a track is missing also where its folder now lies on another device.
        """
        end = Conclusion(
            adopted=self._adopted,
            same_devices=self._same_devices,
            renumbered=self._moved_devices() if self._renumbered else {},
        )
        moved: set[int] = set()
        in_place: list[tuple[FoundFile, KnownTrack | None]] = []
        for file in self._set_aside:
            origin = self._best_origin(file, moved)
            if origin is None:
                # Its old place still holds it, or another link of it won: a file of its own.
                in_place.append((file, self._by_path.get(file.path)))
                continue
            moved.add(origin.id)
            end.moves.append(Move(origin.id, file))
            if self._full or origin.error_category == ErrorCategory.TEMPORARY:
                end.to_read_after_moves.append(file.path)
        for file, track in [*in_place, *self._changed]:
            if track is None:
                end.to_read.append(file.path)
            elif track.id in moved:
                end.to_read_after_moves.append(file.path)
            else:
                end.changed.append(Changed(file, track.id, self._is_suspect(file, track, moved)))
        self._kept.update(change.track_id for change in end.changed)
        for track in self._unmet_tracks():
            if (
                track.status in LIVE_STATES
                and track.id not in self._kept
                and track.id not in moved
                and self._could_have_been_met(track, report, start, any_device=any_device)
            ):
                end.missing.append(track.id)
        return end

    def _unmet_tracks(self) -> Iterable[KnownTrack]:
        if not self._unmet and self._are_all_settled:
            return ()
        return (track for track in self._by_path.values() if not self._was_met(track))

    def _was_met(self, track: KnownTrack) -> bool:
        return self._is_settled(track) and track.path not in self._unmet

    def _moved_devices(self) -> dict[int, int]:
        """What one machine takes for a single file system may be two for another."""
        met = self._met_devices.union(track.device for track in self._by_path.values() if self._was_met(track))
        return {old: min(new) for old, new in self._renumbered.items() if old not in met and len(new) == 1}

    def _is_suspect(self, file: FoundFile, track: KnownTrack, moved: set[int]) -> bool:
        return any(
            other is not track
            and not self._is_kept(other)
            and other.id not in moved
            and other.status in LIVE_STATES
            and self._is_same_device(other.device, file.device)
            for other in self._by_inode.get(file.inode, ())
        )

    def _best_origin(self, file: FoundFile, moved: set[int]) -> KnownTrack | None:
        """Of the tracks that this file may be, one that was not met: a live one first, then the newest."""
        free = [
            track
            for track in self._origins(file)
            if not self._is_kept(track)
            and track.id not in moved
            and self._is_same_device(track.device, file.device)
        ]
        return max(free, key=lambda track: (track.status in LIVE_STATES, track.id), default=None)

    def _is_same_device(self, known: int, found: int) -> bool:
        return known == found or (known, found) in self._same_devices

    def _could_have_been_met(
        self, track: KnownTrack, report: WalkReport, start: bytes, *, any_device: bool
    ) -> bool:
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
                return any_device or self._is_same_device(track.device, report.folder_devices[folder])
        return False


def has_same_content(track: KnownTrack, file: FoundFile) -> bool:
    """As far as every machine and every file system can tell."""
    return (track.size, track.mtime_ns) == (file.size, file.mtime_ns)
