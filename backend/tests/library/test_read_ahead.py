"""What one process leaves another takes, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mus.errors import ErrorCategory
from mus.library import read_ahead
from mus.library.file_reading import FileReading, FileStat, failed_reading
from mus.library.read_ahead import ReadAhead
from mus.library.track_rows import ReadRow


@pytest.fixture
def ahead() -> Iterator[ReadAhead]:
    ahead = ReadAhead()
    yield ahead
    ahead.close()


def reading(path: bytes) -> ReadRow:
    said = FileReading(path, f"Title of {path!r}", stat=FileStat(1, 2, 3, -4, 5), artists=["Ä", "B"], words="w")
    return ReadRow.of(said)


def leave(ahead: ReadAhead, *paths: bytes, most: int = 1000) -> list[bytes]:
    """Returns those that were read."""
    read: list[bytes] = []

    def one(path: bytes) -> ReadRow:
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
    taken = []
    for end in range(len(records)):
        assert not taken
        os.write(ahead._descriptor, records[end : end + 1])
        taken = ahead.take([b"a", b"b"])
    assert taken == [reading(b"a"), reading(b"b")]


def test_what_cannot_be_read_is_told_as_it_is(ahead: ReadAhead) -> None:
    told = [
        failed_reading(b"bad", "No sound", category=ErrorCategory.TEMPORARY, stat=FileStat(1, 2, 3, 4, 5)),
        failed_reading(b"gone", "The file is gone", vanished=True),
    ]
    rows = {reading.path: ReadRow.of(reading) for reading in told}
    ahead.leave(rows, rows.__getitem__, goes_on=lambda: True)
    bad, gone = ahead.take([b"bad", b"gone"])
    assert (bad, gone) == tuple(rows.values())
    assert (bad.error_category, bad.error_message) == (ErrorCategory.TEMPORARY, "No sound")
    assert (gone.stat, gone.vanished) == (None, True)


def test_each_side_tells_the_other_what_there_is_to_tell(ahead: ReadAhead) -> None:
    assert not any((ahead.has_begun, ahead.is_over, ahead.is_wanted))
    empty, busy = ahead.size_bytes, ahead.busy_seconds
    ahead.want()
    leave(ahead, b"a")
    assert ahead.has_begun
    assert ahead.is_over
    assert ahead.is_wanted
    assert ahead.size_bytes > empty
    assert ahead.busy_seconds > busy == 0


def test_once_none_are_wanted_none_are_left(ahead: ReadAhead) -> None:
    ahead.stop()
    assert ahead.is_over
    assert leave(ahead, b"a") == []
    assert not ahead.has_begun


def test_a_path_that_is_asked_for_twice_is_told_once(ahead: ReadAhead) -> None:
    leave(ahead, b"a")
    assert ahead.take([b"a", b"a"]) == [reading(b"a")]


def test_a_long_reading_is_left_with_others(ahead: ReadAhead) -> None:
    long = ReadRow.of(FileReading(b"long", "T", stat=FileStat(1, 2, 3, 4, 5), lyrics="ä" * 256 * 1024))
    ahead.leave(
        [b"a", b"long", b"b"], lambda path: long if path == b"long" else reading(path), goes_on=lambda: True
    )
    assert ahead.take([b"b", b"long", b"a"]) == [reading(b"b"), long, reading(b"a")]


def test_no_more_is_left_than_fits_and_none_after_a_no(ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [b"%05d" % number for number in range(10 * read_ahead._AT_ONCE)]
    assert len(leave(ahead, *paths, most=1)) == read_ahead._AT_ONCE
    monkeypatch.setattr(read_ahead, "_MOST_BYTES", 1)
    assert len(leave(ahead, *paths)) == read_ahead._AT_ONCE


def test_a_record_for_which_there_is_no_room_ends_the_reading_and_nothing_follows_it(
    ahead: ReadAhead, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
    with pytest.raises(OSError, match="space"):
        leave(ahead, b"a", b"b")
    assert ahead.take([b"a", b"b"]) == []
    assert not ahead.is_over
