"""Which paths matter, by name and by what lies above them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mus.watcher.filter import ADDED, DELETED, MODIFIED, EventFilter


def sorted_paths(*events: tuple[int, str]) -> set[bytes]:
    return EventFilter(b"/music").sort(events).paths


@pytest.mark.parametrize("path", ["a.mp3", "A/B/01.FLAC", "a/line\nbreak.ogg", "ü/é.opus", "a b.m4a"])
@pytest.mark.parametrize("change", [ADDED, MODIFIED, DELETED])
def test_audio_files_matter_whatever_happened_to_them(path: str, change: int) -> None:
    assert sorted_paths((change, f"/music/{path}")) == {path.encode()}


@pytest.mark.parametrize(
    "path",
    [
        ".a.mp3",
        ".hidden/a.mp3",
        "a/.mus-trash/1.mp3",
        "a/@eaDir/a.mp3",
        "a.mp3.part",
        "a.mp3.crdownload",
        "a.mp3.tmp/.b",
        "#recycle/a.mp3",
    ],
)
def test_hidden_files_system_folders_and_partial_downloads_do_not_matter(path: str) -> None:
    noticed = EventFilter(b"/music").sort([(MODIFIED, f"/music/{path}")])
    assert not noticed.paths
    assert noticed.scan_reason is None


def test_what_is_no_audio_file_by_name_may_be_a_folder_that_came_or_went() -> None:
    assert sorted_paths((ADDED, "/music/New"), (DELETED, "/music/Old"), (MODIFIED, "/music/Touched")) == {
        b"New",
        b"Old",
    }


def test_a_root_that_is_moved_or_deleted_is_told() -> None:
    assert EventFilter(b"/music").sort([(DELETED, "/music")]).is_root_lost
    assert not EventFilter(b"/music").sort([(MODIFIED, "/music"), (DELETED, "/music/a")]).is_root_lost


def test_the_root_itself_and_what_lies_beside_it_do_not_matter() -> None:
    assert not sorted_paths((DELETED, "/music"), (ADDED, "/musics/a.mp3"), (ADDED, "/other/a.mp3"))


def test_a_nomedia_file_asks_for_a_scan() -> None:
    noticed = EventFilter(b"/music").sort([(DELETED, "/music/a/.nomedia")])
    assert noticed.scan_reason is not None
    assert not noticed.paths


def test_so_many_events_that_some_may_be_lost_ask_for_a_scan() -> None:
    events = [(MODIFIED, f"/music/{n}.jpg") for n in range(EventFilter.EVENTS_THAT_MAY_HIDE_OTHERS)]
    assert EventFilter(b"/music").sort(events).scan_reason is not None
    assert EventFilter(b"/music").sort(events[1:]).scan_reason is None


@given(st.binary(max_size=30).filter(lambda name: b"\0" not in name))
def test_any_name_is_sorted_without_an_error_and_stays_below_the_root(name: bytes) -> None:
    for path in EventFilter(b"/music").sort([(ADDED, os.fsdecode(b"/music/" + name))]).paths:
        assert path == name


def test_files_below_a_nomedia_folder_or_a_link_are_not_walked(tmp_path: Path) -> None:
    (tmp_path / "quiet/below").mkdir(parents=True)
    (tmp_path / "quiet/.nomedia").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "link").symlink_to("open")
    filter_ = EventFilter(os.fsencode(tmp_path))
    walked = {
        path: filter_.is_walked(path, {})
        for path in (
            b"quiet/a.mp3",
            b"quiet/below/a.mp3",
            b"open/a.mp3",
            b"link/a.mp3",
            b"gone/deep/a.mp3",
            b"a.mp3",
        )
    }
    assert walked == {
        b"quiet/a.mp3": False,
        b"quiet/below/a.mp3": False,
        b"open/a.mp3": True,
        b"link/a.mp3": False,
        b"gone/deep/a.mp3": True,
        b"a.mp3": True,
    }
