"""What one process leaves another takes, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mus.library import read_ahead
from mus.library.file_reading import FileReading, FileStat
from mus.library.read_ahead import ReadAhead


@pytest.fixture
def ahead() -> Iterator[ReadAhead]:
    ahead = ReadAhead()
    yield ahead
    ahead.close()


def reading(path: bytes) -> FileReading:
    return FileReading(path, f"Title of {path!r}", stat=FileStat(1, 2, 3, -4, 5), artists=["Ä", "B"], words="w")


def leave(ahead: ReadAhead, *paths: bytes, most: int = 1000) -> list[bytes]:
    """Returns those that were read."""
    read: list[bytes] = []

    def one(path: bytes) -> FileReading:
        read.append(path)
        return reading(path)

    ahead.leave(paths, one, goes_on=lambda: len(read) < most)
    return read


def test_readings_are_taken_once_and_in_the_order_that_is_asked_for(ahead: ReadAhead) -> None:
    paths = [b"%03d/caf\xe9\n.mp3" % number for number in range(200)]
    leave(ahead, *paths)
    wanted = [paths[150], paths[3], b"nobody's", paths[199]]
    assert ahead.take(wanted) == [reading(paths[150]), reading(paths[3]), reading(paths[199])]
    assert ahead.take(wanted) == []
    assert len(ahead.take(paths)) == 197


def test_a_record_that_is_half_there_waits_for_its_rest(ahead: ReadAhead) -> None:
    other = ReadAhead()
    leave(other, b"a", b"b")
    records = os.pread(other._descriptor, 100_000, other._offset)
    other.close()
    for end in range(len(records)):
        os.write(ahead._descriptor, records[end : end + 1])
        taken = ahead.take([b"a", b"b"])
        assert taken in ([], [reading(b"a")], [reading(b"b")])
    assert ahead.take([b"a", b"b"]) == []


def test_each_side_tells_the_other_what_there_is_to_tell(ahead: ReadAhead) -> None:
    assert not any((ahead.has_begun, ahead.is_over, ahead.is_wanted))
    empty = ahead.size_bytes
    ahead.want()
    leave(ahead, b"a")
    assert ahead.has_begun
    assert ahead.is_over
    assert ahead.is_wanted
    assert ahead.size_bytes > empty


def test_once_none_are_wanted_none_are_left(ahead: ReadAhead) -> None:
    ahead.stop()
    assert ahead.is_over
    assert leave(ahead, b"a") == []
    assert not ahead.has_begun


def test_a_path_that_is_asked_for_twice_is_told_once(ahead: ReadAhead) -> None:
    leave(ahead, b"a")
    assert ahead.take([b"a", b"a"]) == [reading(b"a")]


def test_a_reading_longer_than_what_is_read_at_once_is_left_to_others(
    ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "_LONGEST_BYTES", len(b"short") + 300)
    leave(ahead, b"short", b"l" * 400, b"short too")
    assert [found.path for found in ahead.take([b"short", b"l" * 400, b"short too"])] == [b"short", b"short too"]


def test_no_more_is_left_than_fits_and_none_after_a_no(ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [b"%05d" % number for number in range(10 * read_ahead._AT_ONCE)]
    assert len(leave(ahead, *paths, most=1)) == read_ahead._AT_ONCE
    monkeypatch.setattr(read_ahead, "_MOST_BYTES", 1)
    assert len(leave(ahead, *paths)) == read_ahead._AT_ONCE
