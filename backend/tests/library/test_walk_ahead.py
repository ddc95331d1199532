"""A walk that a child has begun gives what one of this process would, once, or is not taken."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mus.errors import TemporaryError
from mus.library import walk_ahead
from mus.library.walk import WalkReport, walk
from mus.library.walk_ahead import walk_or_take, walking_ahead

# Those that run the tests have threads of their own, which the child never needs.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

NAMES = [b"1.mp3", b"A/2.flac", b"A/latin-\xe9.mp3", b"A/B/line\nbreak.opus", b"cover.jpg", b"Private/.nomedia"]


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    root = os.fsencode(tmp_path / "music")
    for name in NAMES:
        add(root, name)
    return root


def add(root: bytes, name: bytes) -> None:
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")


def paths_of(root: bytes, start: bytes = b"") -> set[bytes]:
    return {file.path for files in walk_or_take(root, start, WalkReport()) for file in files}


def test_it_finds_and_reports_what_a_walk_does(root: bytes) -> None:
    mine, childs = WalkReport(), WalkReport()
    with walking_ahead(root):
        found = list(walk_or_take(root, b"", childs))
    assert found == list(walk(root, b"", mine))
    assert childs == mine
    assert childs.skipped == {"not audio": 1, ".nomedia folder": 1}


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    report = WalkReport()
    root = os.fsencode(tmp_path / "nowhere")
    with walking_ahead(root):
        assert list(walk_or_take(root, b"", report)) == []
    assert list(report.unlisted) == [b""]


def test_a_second_scan_walks_by_itself(root: bytes) -> None:
    with walking_ahead(root):
        paths_of(root)
        add(root, b"new.mp3")
        assert b"new.mp3" in paths_of(root)


def test_another_root_or_folder_is_walked_by_itself(root: bytes, tmp_path: Path) -> None:
    other = os.fsencode(tmp_path / "other")
    add(other, b"3.mp3")
    with walking_ahead(root):
        assert paths_of(other) == {b"3.mp3"}
        assert paths_of(root, b"A/B") == {b"A/B/line\nbreak.opus"}


def test_what_was_found_too_long_ago_is_not_taken(root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with walking_ahead(root):
        monkeypatch.setattr(walk_ahead, "FRESH_SECONDS", 0.0)
        add(root, b"new.mp3")
        assert b"new.mp3" in paths_of(root)


def test_a_child_that_dies_ends_the_walk_as_temporary_and_the_next_is_whole(
    root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It stands before its first word, as in a folder that the disk does not list.
    monkeypatch.setattr(walk_ahead, "_walk_into", lambda *_: signal.pause())
    with walking_ahead(root):
        assert walk_ahead._ahead is not None
        os.kill(walk_ahead._ahead._child, signal.SIGKILL)
        with pytest.raises(TemporaryError):
            paths_of(root)
        assert b"1.mp3" in paths_of(root)


def test_more_than_a_pipe_holds_waits_in_the_child(root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        for file in range(30):
            add(root, b"%02d/%s%02d.mp3" % (number, b"long" * 30, file))
    monkeypatch.setattr(walk_ahead, "_MOST_WAITING_BYTES", 10_000)
    with walking_ahead(root):
        assert len(paths_of(root)) == 4 + 1200


def test_nothing_is_left_of_a_child_that_nobody_asked(root: bytes) -> None:
    with walking_ahead(root):
        assert walk_ahead._ahead is not None
        child = walk_ahead._ahead._child
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
    assert walk_ahead._ahead is None
