"""When a change counts as over. Time and disk are arguments here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mus.library.walk import FoundFile
from mus.watcher.settle import Look, Settled, Settler, is_open_for_writing, look_at

QUIET = 0.25
FOLDER = Look(None, is_folder=True)


def a_file(
    path: bytes = b"a.mp3",
    *,
    size: int = 1000,
    mtime: float = 100.0,
    renamed_at: float | None = None,
    writing: bool | None = False,
) -> Look:
    ctime = mtime if renamed_at is None else renamed_at
    file = FoundFile(path, size, round(mtime * 1e9), round(ctime * 1e9), 7, 1)
    return Look(file, is_being_written=writing)


class Disk(dict[bytes, Look]):
    """What `settle` sees."""


def settled_at(settler: Settler, disk: Disk, *, start: float, until: float) -> dict[bytes, float]:
    """Drive the settler as the loop does; returns when each path was handed on."""
    handed_on: dict[bytes, float] = {}
    now = start
    while now <= until:
        for path, _ in settler.settle(now, disk.get):
            handed_on.setdefault(path, now)
        if settler.next_due is None:
            break
        assert settler.next_due > now, "it would spin"
        now = settler.next_due
    return handed_on


def time_to_settle(look: Look) -> float:
    settler = Settler(QUIET)
    settler.notice([b"a.mp3"], 0.0)
    return settled_at(settler, Disk({b"a.mp3": look}), start=0.0, until=60.0)[b"a.mp3"]


@pytest.mark.parametrize(
    ("look", "seconds"),
    [
        (a_file(renamed_at=100.01), QUIET / 5),
        (a_file(), QUIET / 2),
        (a_file(writing=None), QUIET),
        (a_file(writing=None, renamed_at=100.01), QUIET),
        (a_file(writing=None, renamed_at=102.0), QUIET / 5),
        (a_file(size=0), 4 * QUIET),
        (a_file(writing=True), 20 * QUIET),
    ],
)
def test_how_long_a_file_must_be_still_depends_on_what_is_known_of_it(look: Look, seconds: float) -> None:
    assert time_to_settle(look) == pytest.approx(seconds)


def test_a_file_is_never_handed_on_at_the_first_look() -> None:
    settler = Settler(QUIET)
    settler.notice([b"a.mp3"], 5.0)
    assert settler.settle(5.0, Disk({b"a.mp3": a_file(renamed_at=200.0)}).get) == []


def test_a_growing_file_waits_and_is_handed_on_once_when_it_is_whole() -> None:
    settler, disk, handed_on = Settler(QUIET), Disk(), []
    now = 0.0
    for step in range(200):
        now = step * 0.05
        if step < 100:
            disk[b"a.mp3"] = a_file(size=1000 + step, mtime=100 + now, writing=True)
        else:
            disk[b"a.mp3"] = a_file(size=1099, mtime=104.95)
        if step < 100:
            settler.notice([b"a.mp3"], now)
        handed_on += [(now, path) for path, _ in settler.settle(now, disk.get)]
    assert len(handed_on) == 1
    assert 5.0 <= handed_on[0][0] <= 5.5


def test_a_writer_that_pauses_is_waited_for_and_its_end_is_noticed_soon() -> None:
    settler, disk = Settler(QUIET), Disk({b"a.mp3": a_file(writing=True)})
    settler.notice([b"a.mp3"], 0.0)
    assert settled_at(settler, disk, start=0.0, until=3.0) == {}
    disk[b"a.mp3"] = a_file(writing=False)
    assert settled_at(settler, disk, start=3.0, until=10.0)[b"a.mp3"] <= 3.0 + QUIET


def test_a_vanished_file_waits_for_its_new_place() -> None:
    settler, disk = Settler(QUIET), Disk()
    settler.notice([b"old.mp3"], 0.0)
    assert settled_at(settler, disk, start=0.0, until=10.0)[b"old.mp3"] == pytest.approx(2 * QUIET)


def test_a_vanished_file_is_handed_on_together_with_the_file_that_appeared() -> None:
    new = a_file(b"new.mp3", renamed_at=150.0)
    settler, disk = Settler(QUIET), Disk({b"new.mp3": new})
    settler.notice([b"new.mp3", b"old.mp3"], 0.0)
    settler.settle(0.0, disk.get)
    settled = settler.settle(QUIET / 5, disk.get)
    assert sorted(settled) == sorted([Settled(b"new.mp3", new), Settled(b"old.mp3", None)])
    assert len(settler) == 0


def test_a_file_that_vanishes_and_comes_back_is_no_deletion() -> None:
    settler, disk = Settler(QUIET), Disk()
    settler.notice([b"a.mp3"], 0.0)
    settler.settle(0.0, disk.get)
    disk[b"a.mp3"] = a_file()
    settled = [entry for step in range(1, 40) for entry in settler.settle(step * 0.05, disk.get)]
    assert settled == [Settled(b"a.mp3", disk[b"a.mp3"])]


def test_a_folder_is_handed_on_at_once_and_again_later() -> None:
    settler, disk = Settler(QUIET), Disk({b"New": FOLDER})
    settler.notice([b"New"], 0.0)
    assert settler.settle(0.0, disk.get) == [Settled(b"New", FOLDER)]
    assert settler.settle(0.5, disk.get) == []
    assert settler.settle(4 * QUIET, disk.get) == [Settled(b"New", FOLDER)]
    assert len(settler) == 0


def test_what_is_neither_file_nor_folder_is_forgotten() -> None:
    settler = Settler(QUIET)
    settler.notice([b"link.mp3"], 0.0)
    assert settler.settle(0.0, Disk({b"link.mp3": Look(None)}).get) == []
    assert settler.next_due is None


@given(
    states=st.lists(st.one_of(st.none(), st.integers(0, 3), st.just("folder")), min_size=1, max_size=30),
    writing=st.sampled_from([None, False, True]),
)
def test_whatever_happens_the_last_state_is_handed_on_and_then_nothing_waits(
    states: list[int | str | None], writing: bool | None
) -> None:
    settler, disk, last, now = Settler(QUIET), Disk(), None, 0.0
    for step, state in enumerate(states):
        now = step * 0.1
        disk.pop(b"a.mp3", None)
        if state == "folder":
            disk[b"a.mp3"] = FOLDER
        elif isinstance(state, int):
            disk[b"a.mp3"] = a_file(size=state, mtime=100 + step, writing=writing)
        settler.notice([b"a.mp3"], now)
        for settled in settler.settle(now, disk.get):
            last = settled
    for step in range(200):
        for settled in settler.settle(now + step * 0.1, disk.get):
            last = settled
    assert last == Settled(b"a.mp3", disk.get(b"a.mp3"))
    assert settler.next_due is None


def test_looking_tells_files_folders_links_and_nothing_apart(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    (tmp_path / "a.mp3").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.mp3").symlink_to("a.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")
    seen = {
        name: look_at(root, name, ask_for_writers=True)
        for name in (b"a.mp3", b"folder", b"link.mp3", b"pipe.mp3", b"none", b"a.mp3/below")
    }
    assert seen[b"a.mp3"] is not None
    assert seen[b"a.mp3"].file is not None
    assert seen[b"folder"] == FOLDER
    assert seen[b"link.mp3"] == seen[b"pipe.mp3"] == Look(None)
    assert seen[b"none"] is seen[b"a.mp3/below"] is None


def test_a_file_that_is_open_for_writing_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with path.open("wb"):
        if is_open_for_writing(os.fsencode(path)) is None:
            pytest.skip("this file system has no leases")
        assert is_open_for_writing(os.fsencode(path)) is True
    with path.open("rb"):
        assert is_open_for_writing(os.fsencode(path)) is False
    assert is_open_for_writing(b"/nowhere/a.mp3") is None


@pytest.mark.parametrize(
    ("word", "look", "seconds"),
    [
        ("renamed", a_file(), 0.0),
        ("renamed", a_file(writing=None), 0.0),
        ("renamed", a_file(writing=True), 20 * QUIET),
        ("renamed", a_file(size=0), 4 * QUIET),
        ("finished", a_file(), QUIET / 5),
        ("finished", a_file(writing=None), QUIET / 5),
        ("finished", a_file(writing=True), 20 * QUIET),
    ],
)
def test_what_the_system_says_of_a_file_shortens_the_wait_unless_somebody_writes_it(
    word: str, look: Look, seconds: float
) -> None:
    settler = Settler(QUIET)
    settler.notice([b"a.mp3"], 0.0, **{word: {b"a.mp3"}})
    at = settled_at(settler, Disk({b"a.mp3": look}), start=0.0, until=60.0)[b"a.mp3"]
    assert at == pytest.approx(seconds, abs=QUIET)
    assert at >= seconds


def test_a_word_about_a_file_that_waits_brings_its_next_look_on() -> None:
    settler = Settler(QUIET)
    settler.notice([b"a.mp3"], 0.0)
    assert settler.settle(0.0, Disk({b"a.mp3": a_file(writing=True)}).get) == []
    settler.notice([b"a.mp3"], 0.01, renamed={b"a.mp3"})
    assert [path for path, _ in settler.settle(0.01, Disk({b"a.mp3": a_file()}).get)] == [b"a.mp3"]
