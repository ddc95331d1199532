"""The comparison of disk and database: pure, so tried on thousands of random pairs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mus.errors import ErrorCategory
from mus.library.paths import parked
from mus.library.scan_plan import NOTHING_SETTLED, Conclusion, KnownTrack, ScanPlan
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile, FoundFiles, WalkReport
from settled_rows import settled_of

DEVICE = 7


def track(id_: int, path: bytes, *, inode: int | None = None, **changes: object) -> KnownTrack:
    known = KnownTrack(id_, path, 100, 1000, 2000, id_ if inode is None else inode, DEVICE, "COMPLETE", None)
    return known._replace(**changes)


def file(path: bytes, inode: int, **changes: object) -> FoundFile:
    return FoundFile(path, 100, 1000, 2000, inode, DEVICE)._replace(**changes)  # type: ignore[arg-type]


@dataclass
class Outcome:
    plan: ScanPlan
    read: list[bytes]
    end: Conclusion

    @property
    def moves(self) -> dict[int, bytes]:
        return {move.track_id: move.found.path for move in self.end.moves}

    @property
    def read_after_moves(self) -> list[bytes]:
        return self.end.to_read_after_moves


def compare(
    known: list[KnownTrack],
    found: list[FoundFile],
    *,
    full: bool = False,
    stable: bool = True,
    report: WalkReport | None = None,
    start: bytes = b"",
    any_device: bool = False,
) -> Outcome:
    settled = NOTHING_SETTLED if full else settled_of(known)
    plan = ScanPlan(settled, lambda: known, full=full, stable_inodes=stable)
    read = plan.consider(FoundFiles.of(found))
    if report is None:
        report = WalkReport()
        report.folder_devices[start] = DEVICE
    end = plan.conclude(report, start, any_device=any_device)
    changed = [change.file.path for change in end.changed]
    return Outcome(plan, [*read, *end.to_read, *changed], end)


def test_a_file_as_it_was_is_unchanged() -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"a.mp3", 1)])
    assert (outcome.plan.unchanged, outcome.read, outcome.moves, outcome.end.missing) == (1, [], {}, [])


def test_a_file_whose_numbers_are_stored_as_negative_ones_is_unchanged() -> None:
    known = [track(1, b"a.mp3", inode=-1, device=-2, mtime_ns=-5), track(2, b"b.mp3")]
    found = [file(b"a.mp3", -1, device=-2, mtime_ns=-5), file(b"b.mp3", 2)]
    assert compare(known, found).plan.unchanged == 2
    assert list(FoundFiles.of(found)) == found


def test_the_tracks_are_asked_for_once_and_only_where_something_is_not_as_it_was() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3"), track(3, b"c.mp3", status="MISSING")]
    asked: list[int] = []

    def rows() -> list[KnownTrack]:
        asked.append(1)
        return known

    plan = ScanPlan(settled_of(known), rows, full=False, stable_inodes=True)
    assert plan.consider(FoundFiles.of([file(b"a.mp3", 1), file(b"b.mp3", 2)])) == []
    assert plan.conclude(WalkReport(), b"").missing == []
    assert (plan.found, plan.unchanged, asked) == (2, 2, [])
    plan = ScanPlan(settled_of(known), rows, full=False, stable_inodes=True)
    assert plan.consider(FoundFiles.of([file(b"a.mp3", 1)])) == []
    assert plan.conclude(WalkReport(folder_devices={b"": DEVICE}), b"").missing == [2]
    assert asked == [1]


def test_what_others_stored_since_the_versions_were_taken_is_not_missing_and_not_read_again() -> None:
    before = [track(1, b"a.mp3"), track(2, b"b.mp3")]
    # Meanwhile 1 was moved, 2 read anew, and 3 and 4 came.
    now = [track(1, b"moved.mp3"), track(2, b"b.mp3", size=101), track(3, b"c.mp3"), track(4, b"d.mp3")]
    plan = ScanPlan(settled_of(before), lambda: now, full=False, stable_inodes=True)
    assert plan.consider(FoundFiles.of([file(b"b.mp3", 2, size=101), file(b"c.mp3", 3)])) == []
    end = plan.conclude(WalkReport(folder_devices={b"": DEVICE}), b"")
    assert (end.moves, end.missing, end.changed, end.to_read) == ([], [], [], [])


@pytest.mark.parametrize("change", [{"size": 101}, {"mtime_ns": 1001}, {"ctime_ns": 2001}, {"inode": 9}])
def test_any_change_of_the_version_is_read(change: dict[str, int]) -> None:
    assert compare([track(1, b"a.mp3")], [file(b"a.mp3", 1)._replace(**change)]).read == [b"a.mp3"]


@pytest.mark.parametrize("change", [{"ctime_ns": 2001}, {"inode": 9}])
def test_without_stable_inodes_size_and_mtime_alone_count(change: dict[str, int]) -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"a.mp3", 1)._replace(**change)], stable=False)
    assert outcome.plan.unchanged == 1


def test_a_full_scan_reads_everything_moved_files_too() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3")]
    outcome = compare(known, [file(b"a.mp3", 1), file(b"c.mp3", 2)], full=True)
    assert outcome.read == [b"a.mp3"]
    assert outcome.moves == {2: b"c.mp3"}
    assert outcome.read_after_moves == [b"c.mp3"]


@pytest.mark.parametrize("status", ["MISSING", "ERROR"])
def test_a_missing_track_and_a_passing_error_are_read_again(status: str) -> None:
    known = track(1, b"a.mp3", status=status, error_category=ErrorCategory.TEMPORARY)
    assert compare([known], [file(b"a.mp3", 1)]).read == [b"a.mp3"]


def test_a_lasting_error_is_not_read_again() -> None:
    known = track(1, b"a.mp3", status="ERROR", error_category=ErrorCategory.USER_FIXABLE)
    assert compare([known], [file(b"a.mp3", 1)]).plan.unchanged == 1


def test_a_swap_of_two_names_is_two_moves() -> None:
    outcome = compare([track(1, b"a.mp3"), track(2, b"b.mp3")], [file(b"a.mp3", 2), file(b"b.mp3", 1)])
    assert outcome.moves == {1: b"b.mp3", 2: b"a.mp3"}
    assert (outcome.read, outcome.end.missing) == ([], [])


def test_a_file_moved_over_another_leaves_that_one_missing() -> None:
    outcome = compare([track(1, b"a.mp3"), track(2, b"b.mp3")], [file(b"b.mp3", 1)])
    assert outcome.moves == {1: b"b.mp3"}
    assert outcome.end.missing == [2]


@pytest.mark.parametrize("order", [1, -1])
def test_a_new_file_in_the_place_of_a_moved_one_is_read_after_the_move(order: int) -> None:
    found = [file(b"a.mp3", 99), file(b"b.mp3", 1)][::order]
    outcome = compare([track(1, b"a.mp3")], found)
    assert outcome.moves == {1: b"b.mp3"}
    assert outcome.read_after_moves == [b"a.mp3"]
    assert outcome.read == []


def test_a_file_replaced_in_its_place_keeps_its_track() -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"a.mp3", 99, size=105)])
    assert (outcome.read, outcome.moves, outcome.end.missing) == ([b"a.mp3"], {}, [])


def test_a_hard_link_beside_the_known_name_is_a_file_of_its_own() -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"b.mp3", 1), file(b"a.mp3", 1)])
    assert (outcome.plan.unchanged, outcome.read, outcome.moves) == (1, [b"b.mp3"], {})


def test_one_of_two_known_hard_links_may_move() -> None:
    known = [track(1, b"a.mp3", inode=5), track(2, b"b.mp3", inode=5)]
    outcome = compare(known, [file(b"a.mp3", 5), file(b"c.mp3", 5)])
    assert outcome.moves == {2: b"c.mp3"}


def test_two_new_links_of_a_moved_file_are_one_move_and_one_new_file() -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"b.mp3", 1), file(b"c.mp3", 1)])
    assert outcome.moves == {1: b"b.mp3"}
    assert outcome.read == [b"c.mp3"]


def test_a_live_track_is_taken_before_a_missing_one_with_the_same_inode() -> None:
    known = [track(1, b"a.mp3", inode=5), track(2, parked(b"z.mp3", 2), inode=5, status="MISSING")]
    assert compare(known, [file(b"b.mp3", 5)]).moves == {1: b"b.mp3"}


def test_a_missing_track_comes_back_at_another_place() -> None:
    known = [track(1, parked(b"a.mp3", 1), status="MISSING")]
    assert compare(known, [file(b"b.mp3", 1)]).moves == {1: b"b.mp3"}


@pytest.mark.parametrize("change", [{"size": 101}, {"mtime_ns": 1001}, {"device": 8}])
def test_an_inode_that_was_used_again_is_no_move(change: dict[str, int]) -> None:
    outcome = compare([track(1, b"a.mp3")], [file(b"b.mp3", 1)._replace(**change)])
    assert (outcome.read, outcome.moves, outcome.end.missing) == ([b"b.mp3"], {}, [1])


# --------------------------------------------------------------------- devices


def test_a_disk_with_another_number_is_the_same_disk_when_its_files_are() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3"), track(3, b"c.mp3")]
    report = WalkReport(folder_devices={b"": 8})
    outcome = compare(known, [file(b"x.mp3", 2, device=8), file(b"a.mp3", 1, device=8)], report=report)
    assert outcome.plan.unchanged == 1
    assert outcome.moves == {2: b"x.mp3"}, "though it was met before the number was understood"
    assert outcome.end.missing == [3]
    assert outcome.end.renumbered == {7: 8}


def test_a_library_copied_to_another_disk_loses_what_was_not_copied() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3")]
    report = WalkReport(folder_devices={b"": 8})
    outcome = compare(known, [file(b"a.mp3", 77, device=8)], report=report)
    assert (outcome.plan.unchanged, outcome.read) == (1, [])
    assert outcome.end.missing == [2]
    assert outcome.end.adopted == [(1, file(b"a.mp3", 77, device=8))], "so that its next move is seen"
    assert outcome.end.renumbered == {7: 8}, "for the tracks that were not met"


def test_a_network_disk_with_another_number_still_tells_what_is_missing() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3")]
    report = WalkReport(folder_devices={b"": 8})
    outcome = compare(known, [file(b"a.mp3", 77, device=8)], report=report, stable=False)
    assert outcome.end.missing == [2]
    assert (outcome.end.renumbered, outcome.end.adopted) == ({}, []), "the next machine would write its own"


def test_a_file_that_another_machine_has_read_is_unchanged_whatever_its_numbers() -> None:
    known = [track(1, b"a.mp3", device=40, inode=900, ctime_ns=55), track(2, b"b.mp3", device=40)]
    found = [file(b"a.mp3", 1), file(b"b.mp3", 2)]
    outcome = compare(known, found)
    assert (outcome.plan.unchanged, outcome.read) == (2, [])
    assert outcome.end.adopted == [(1, found[0])], "the other has the same inode and ctime here"
    assert compare(known, [found[0]._replace(mtime_ns=1001)]).read == [b"a.mp3"]
    assert compare(known, found, full=True).read == [b"b.mp3", b"a.mp3"]


def test_one_file_system_of_another_machine_may_be_two_here() -> None:
    known = [track(1, b"a.mp3", device=40), track(2, b"usb/b.mp3", device=40), track(3, b"usb/c.mp3", device=40)]
    report = WalkReport(folder_devices={b"": 7, b"usb": 8})
    outcome = compare(known, [file(b"a.mp3", 1), file(b"usb/b.mp3", 2, device=8)], report=report)
    assert outcome.end.missing == [3]
    assert outcome.end.renumbered == {}, "no telling which of the two the third was on"


def test_what_is_known_of_devices_beforehand_tells_what_is_missing_in_a_folder() -> None:
    known = [track(1, b"x/a.mp3", device=40)]
    report = WalkReport(folder_devices={b"x": DEVICE})
    assert compare(known, [], start=b"x", report=report).end.missing == []
    plan = ScanPlan(settled_of(known), lambda: known, full=False, stable_inodes=True, same_devices=[(40, DEVICE)])
    assert plan.conclude(report, b"x").missing == [1]


def test_an_unmounted_disk_inside_the_library_proves_nothing_unless_a_person_says_so() -> None:
    known = [track(1, b"a.mp3"), track(2, b"usb/b.mp3", device=9)]
    report = WalkReport(folder_devices={b"": DEVICE, b"usb": DEVICE})
    assert compare(known, [file(b"a.mp3", 1)], report=report).end.missing == []
    assert compare(known, [file(b"a.mp3", 1)], report=report, any_device=True).end.missing == [2]


# --------------------------------------------------------------------- at random

NAMES = st.sampled_from([b"a.mp3", b"b.mp3", b"c.mp3", b"d.mp3"])
FOLDERS = st.sampled_from([b"", b"x/", b"x/y/", b"z/"])
PATHS = st.builds(lambda folder, name: folder + name, FOLDERS, NAMES)
NUMBERS = st.integers(1, 3)
DEVICES = st.sampled_from([7, 7, 7, 8])
FOUND = st.lists(
    st.builds(FoundFile, PATHS, NUMBERS, NUMBERS, NUMBERS, st.integers(1, 5), DEVICES),
    max_size=14,
    unique_by=lambda found: found.path,
)
KNOWN = st.lists(
    st.builds(
        KnownTrack,
        st.integers(1, 10_000),
        PATHS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.integers(1, 5),
        DEVICES,
        st.sampled_from(["PENDING", "COMPLETE", "ERROR", "MISSING"]),
        st.sampled_from([None, ErrorCategory.TEMPORARY]),
    ),
    max_size=14,
    unique_by=(lambda known: known.id, lambda known: known.path),
)


def is_below_any(path: bytes, folders: set[bytes]) -> bool:
    return any(not folder or path.startswith(folder + b"/") for folder in folders)


@given(
    known=KNOWN,
    found=FOUND,
    full=st.booleans(),
    stable=st.booleans(),
    start=st.sampled_from([b"", b"x", b"x/y"]),
    unlisted=st.sets(st.sampled_from([b"", b"x", b"x/y", b"z"])),
    with_parked=st.booleans(),
)
def test_whatever_is_known_and_found_each_file_and_each_track_has_one_fate(
    known: list[KnownTrack],
    found: list[FoundFile],
    full: bool,
    stable: bool,
    start: bytes,
    unlisted: set[bytes],
    with_parked: bool,
) -> None:
    if with_parked:
        known = [
            one._replace(path=parked(one.path, one.id)) if one.status == "MISSING" and one.id % 2 else one
            for one in known
        ]
    found = [one for one in found if not start or one.path.startswith(start + b"/")]
    found = [one for one in found if not is_below_any(one.path, unlisted)]
    listed = {folder for folder in (b"", b"x", b"x/y", b"z") if not is_below_any(folder + b"/", unlisted)}
    report = WalkReport()
    report.unlisted.update(dict.fromkeys(unlisted, "closed"))
    report.folder_devices.update(dict.fromkeys(listed, DEVICE))
    outcome = compare(known, found, full=full, stable=stable, report=report, start=start)
    by_id = {one.id: one for one in known}
    end, plan = outcome.end, outcome.plan

    # Every file: unchanged, to be read, or moved; once.
    moved_paths = [move.found.path for move in end.moves]
    after = [path for path in outcome.read_after_moves if path not in moved_paths]
    fates = outcome.read + moved_paths + after
    assert len(fates) == len(set(fates))
    assert set(fates) <= {one.path for one in found}
    assert len(fates) + plan.unchanged == plan.found == len(found)
    if full:
        assert plan.unchanged == 0
        assert set(moved_paths) <= set(outcome.read_after_moves)

    # Every track: kept, moved or missing; never two.
    moved_ids = [move.track_id for move in end.moves]
    assert len(moved_ids) == len(set(moved_ids))
    assert not set(moved_ids) & set(end.missing)
    assert len(end.missing) == len(set(end.missing))
    here = {one.path for one in found}
    for id_ in end.missing:
        gone = by_id[id_]
        assert gone.status in LIVE_STATES
        assert gone.path not in here or gone.path in moved_paths, "its place is empty, or another's"
        assert not is_below_any(gone.path, unlisted)
        assert gone.path.startswith(start + b"/") or not start

    # A move is to a file with the same inode and version, on stable inodes only, and never within one place.
    for move in end.moves:
        origin = by_id[move.track_id]
        assert stable
        assert (origin.inode, origin.size, origin.mtime_ns) == move.found[4:5] + move.found[1:3]
        assert origin.path != move.found.path
        # What is found in its old place is read when that is free.
        if origin.path in here and origin.path not in moved_paths:
            assert origin.path in after


def test_files_that_swapped_places_and_changed_are_suspect() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3")]
    outcome = compare(known, [file(b"a.mp3", 2, size=101), file(b"b.mp3", 1, size=102)])
    assert [(change.track_id, change.is_suspect) for change in outcome.end.changed] == [(1, True), (2, True)]


def test_a_file_that_changed_in_its_place_is_not_suspect() -> None:
    known = [track(1, b"a.mp3"), track(2, b"b.mp3"), track(3, b"c.mp3", inode=9, status="MISSING")]
    outcome = compare(known, [file(b"a.mp3", 1, size=101), file(b"b.mp3", 9, size=102)])
    assert [(change.track_id, change.is_suspect) for change in outcome.end.changed] == [(1, False), (2, False)]
