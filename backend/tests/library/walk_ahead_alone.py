"""`python walk_ahead_alone.py CHECK FOLDER`: one of these checks, in a process of one thread, as a command is.

What runs the tests has threads, and what one of them holds when the child is forked stays held in it for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mus.errors import TemporaryError
from mus.library import read_ahead as read_ahead_module
from mus.library import tag_reader, walk_ahead
from mus.library.file_reading import FileReading
from mus.library.tag_reader import read_tags
from mus.library.track_rows import JSON_COLUMNS, PLAIN_COLUMNS, ReadRow
from mus.library.walk import WalkReport, walk
from mus.library.walk_ahead import Reading, read_ahead, walk_or_take, walking_ahead

NAMES = [b"1.mp3", b"A/2.flac", b"A/latin-\xe9.mp3", b"A/B/line\nbreak.opus", b"cover.jpg", b"Private/.nomedia"]
changeable: Any = walk_ahead
#: In the order in which they are read.
FOUND = [b"1.mp3", b"A/2.flac", b"A/latin-\xe9.mp3", b"A/B/line\nbreak.opus"]


def add(root: bytes, name: bytes) -> None:
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")


def paths_of(root: bytes, start: bytes = b"") -> set[bytes]:
    return {file.path for files in walk_or_take(root, start, WalkReport()) for file in files}


def it_finds_and_reports_what_a_walk_does(root: bytes) -> None:
    mine, childs = WalkReport(), WalkReport()
    with walking_ahead(root):
        found = list(walk_or_take(root, b"", childs))
    assert found == list(walk(root, b"", mine))
    assert childs == mine
    assert childs.skipped == {"not audio": 1, ".nomedia folder": 1}


def a_folder_that_cannot_be_listed_is_reported(root: bytes) -> None:
    report = WalkReport()
    nowhere = root + b"/nowhere"
    with walking_ahead(nowhere):
        assert list(walk_or_take(nowhere, b"", report)) == []
    assert list(report.unlisted) == [b""]


def a_second_scan_walks_by_itself(root: bytes) -> None:
    with walking_ahead(root):
        paths_of(root)
        add(root, b"new.mp3")
        assert b"new.mp3" in paths_of(root)


def another_root_or_folder_is_walked_by_itself(root: bytes) -> None:
    other = root + b"/A"
    with walking_ahead(root):
        assert paths_of(other) == {b"2.flac", b"latin-\xe9.mp3", b"B/line\nbreak.opus"}
        assert paths_of(root, b"A/B") == {b"A/B/line\nbreak.opus"}


def what_was_found_too_long_ago_is_not_taken(root: bytes) -> None:
    with walking_ahead(root):
        changeable.FRESH_SECONDS = 0.0
        add(root, b"new.mp3")
        assert b"new.mp3" in paths_of(root)


def a_child_that_dies_ends_the_walk_as_temporary_and_the_next_is_whole(root: bytes) -> None:
    # It stands before its first word, as in a folder that the disk does not list.
    changeable._walk_into = lambda *_: signal.pause()
    with walking_ahead(root):
        assert walk_ahead._ahead is not None
        os.kill(walk_ahead._ahead._child, signal.SIGKILL)
        try:
            paths_of(root)
        except TemporaryError:
            assert b"1.mp3" in paths_of(root)
        else:
            raise AssertionError("a walk that ended too early was taken for whole")


def who_is_told_to_stop_waits_for_no_child_on_a_disk_that_hangs(root: bytes) -> None:
    changeable._walk_into = lambda *_: signal.pause()
    with walking_ahead(root):
        began = time.monotonic()
        walked = walk_or_take(root, b"", WalkReport(), stopped=lambda: time.monotonic() > began + 0.3)
        assert list(walked) == []


def more_than_a_pipe_holds_waits_in_the_child(root: bytes) -> None:
    for number in range(40):
        for file in range(30):
            add(root, b"%02d/%s%02d.mp3" % (number, b"long" * 30, file))
    changeable._MOST_WAITING_BYTES = 10_000
    with walking_ahead(root):
        assert len(paths_of(root)) == 4 + 1200


def nothing_is_left_of_a_child_that_nobody_asked(root: bytes) -> None:
    with walking_ahead(root):
        assert walk_ahead._ahead is not None
        child = walk_ahead._ahead._child
    wait_for_end(child)
    assert walk_ahead._ahead is None


def wait_for_end(child: int) -> None:
    deadline = time.monotonic() + 10
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < deadline


# ------------------------------------------------------------------ reading


def taken(root: bytes, paths: list[bytes] = FOUND, *, has_time: Callable[[], bool] = lambda: True) -> list[ReadRow]:
    paths_of(root)
    return asyncio.run(read_ahead(root, paths, has_time=has_time))


def reader(act: Callable[[bytes], object]) -> None:
    """Let the child act so before it reads a file."""

    def acting(root: bytes, path: bytes, *rules: Any) -> FileReading:
        act(path)
        return read_tags(root, path, *rules)

    changeable_reader: Any = tag_reader
    changeable_reader.read_tags = acting
    changeable_room: Any = read_ahead_module
    changeable_room._AT_ONCE = 1


def what_it_reads_is_what_a_reader_reads(root: bytes) -> None:
    with walking_ahead(root, Reading()):
        found = taken(root, FOUND[::-1])
    assert found == [ReadRow.of(read_tags(root, path)) for path in FOUND[::-1]]


def it_reads_by_the_rules_that_are_given(root: bytes) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from audio_files import make_audio

    make_audio(Path(os.fsdecode(root)) / "song.flac", tags={"artist": "One / Two", "title": "Die Zeit"})
    with walking_ahead(root, Reading(tag_separators="/", sort_articles="die")):
        (song,) = taken(root, [b"song.flac"])
    said = dict(zip((*PLAIN_COLUMNS, *JSON_COLUMNS), song.common, strict=True))
    assert (said["artists"], said["title_key"]) == ('["One","Two"]', "zeit")


def each_reading_is_given_once_and_then_left_to_others(root: bytes) -> None:
    with walking_ahead(root, Reading()):
        assert len(taken(root)) == len(FOUND)
        assert taken(root) == []


def it_reads_nothing_where_it_was_not_told_how(root: bytes) -> None:
    with walking_ahead(root):
        assert taken(root) == []


def before_the_walk_is_taken_and_of_another_root_nothing_is_given(root: bytes) -> None:
    with walking_ahead(root, Reading()):
        assert asyncio.run(read_ahead(root, FOUND, has_time=lambda: True)) == []
        paths_of(root)
        assert asyncio.run(read_ahead(root + b"/A", [b"2.flac"], has_time=lambda: True)) == []


def a_file_on_which_it_hangs_is_left_to_others(root: bytes) -> None:
    for number in (0, 2):
        reader(lambda path, hung=FOUND[number]: path == hung and sleep_forever())  # type: ignore[misc]
        with walking_ahead(root, Reading()):
            assert [reading.path for reading in taken(root)] == FOUND[:number]
            assert taken(root) == [], "and at once"


def sleep_forever() -> None:
    while True:
        time.sleep(60)


def a_file_of_which_it_dies_is_left_to_others(root: bytes) -> None:
    for number in (0, 2):
        reader(lambda path, deadly=FOUND[number]: path == deadly and os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[misc]
        with walking_ahead(root, Reading()):
            assert [reading.path for reading in taken(root)] == FOUND[:number]


def the_whole_listing_comes_though_a_file_hangs(root: bytes) -> None:
    for number in range(40):
        for file in range(30):
            add(root, b"%02d/%s%02d.mp3" % (number, b"long" * 30, file))
    reader(lambda _: sleep_forever())
    with walking_ahead(root, Reading()):
        assert len(paths_of(root)) == 4 + 1200  # more than a pipe holds


def where_the_walk_takes_its_time_others_read_and_it_does_not(root: bytes) -> None:
    def slow(*arguments: Any) -> Any:
        for files in walk(*arguments):
            yield files
            time.sleep(0.1)

    changeable.walk = slow
    with walking_ahead(root, Reading()):
        walked = walk_or_take(root, b"", WalkReport())
        next(walked)
        assert asyncio.run(read_ahead(root, [b"1.mp3"], has_time=lambda: True)) == []
        assert len(list(walked)) == 2
        assert walk_ahead._ahead is not None
        wait_for_end(walk_ahead._ahead._child)
        assert asyncio.run(read_ahead(root, FOUND, has_time=lambda: True)) == []


def several_wait_for_it_and_none_stops_it_for_another(root: bytes) -> None:
    for file in range(40):
        add(root, b"0/%02d.mp3" % file)
    reader(lambda _: time.sleep(0.02))

    async def by_two() -> list[list[ReadRow]]:
        paths = [b"0/%02d.mp3" % file for file in range(40)]
        halves = (read_ahead(root, half, has_time=lambda: True) for half in (paths[:20], paths[20:]))
        return await asyncio.gather(*halves)

    with walking_ahead(root, Reading()):
        paths_of(root)
        assert [len(found) for found in asyncio.run(by_two())] == [20, 20]


def it_ends_when_nobody_wants_what_it_reads(root: bytes) -> None:
    changeable.FRESH_SECONDS = 0.3
    reader(lambda _: time.sleep(0.2))
    for file in range(100):
        add(root, b"%02d.mp3" % file)
    with walking_ahead(root, Reading()):
        assert walk_ahead._ahead is not None
        readings: Any = walk_ahead._ahead._readings
        deadline = time.monotonic() + 10
        while not readings.is_over:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(readings.take([b"%02d.mp3" % file for file in range(100)])) < 100


def with_its_command_it_ends_too(root: bytes) -> None:
    reader(lambda _: sleep_forever())
    kill_a_command_that_walks_ahead(root)


def with_its_command_it_ends_too_before_it_knows_whose_child_it_is(root: bytes) -> None:
    reader(lambda _: sleep_forever())
    real_read = walk_ahead._read

    def read_late(*args: Any) -> None:
        *_, walker = args
        while os.getppid() == walker:
            time.sleep(0.01)
        real_read(*args)

    changeable._read = read_late
    kill_a_command_that_walks_ahead(root)


def kill_a_command_that_walks_ahead(root: bytes) -> None:
    told, tell = os.pipe()
    command = os.fork()
    if not command:
        with walking_ahead(root, Reading()):
            paths_of(root)
            assert walk_ahead._ahead is not None
            child = walk_ahead._ahead._child
            (grandchild,) = children_of(child)
            os.write(tell, b"%d %d" % (child, grandchild))
            sleep_forever()
    processes = [int(number) for number in os.read(told, 100).split()]
    os.kill(command, signal.SIGKILL)
    os.waitpid(command, 0)
    for process in processes:
        wait_for_end(process)


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    deadline = time.monotonic() + 10
    while not (numbers := listed.read_text().split()):
        assert time.monotonic() < deadline
    return [int(number) for number in numbers]


def a_python_without_memfd_reads_ahead_too(root: bytes) -> None:
    del os.memfd_create  # type: ignore[attr-defined]
    with walking_ahead(root, Reading()):
        assert len(taken(root)) == len(FOUND)


def where_there_is_no_time_it_is_told_to_read_no_more(root: bytes) -> None:
    reader(lambda _: time.sleep(0.1))
    with walking_ahead(root, Reading()):
        assert len(taken(root, has_time=lambda: False)) < len(FOUND)
        assert walk_ahead._ahead is not None
        wait_for_end(walk_ahead._ahead._child)


def where_there_is_time_it_is_waited_for(root: bytes) -> None:
    reader(lambda _: time.sleep(0.1))
    with walking_ahead(root, Reading()):
        assert len(taken(root)) == len(FOUND)


def where_it_is_at_work_it_is_waited_for_without_time(root: bytes) -> None:
    # Other tests have the cores, too.
    changeable._PATIENCE_SECONDS, changeable._BUSY_SHARE = 2.0, 0.05
    reader(lambda _: work(0.15))
    with walking_ahead(root, Reading()):
        assert len(taken(root, has_time=lambda: False)) == len(FOUND)
    reader(lambda _: time.sleep(0.15))
    changeable._PATIENCE_SECONDS = 0.4
    with walking_ahead(root, Reading()):
        assert len(taken(root, has_time=lambda: False)) < len(FOUND)


def work(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


CHECKS = {
    check.__name__: check
    for check in (
        it_finds_and_reports_what_a_walk_does,
        a_folder_that_cannot_be_listed_is_reported,
        a_second_scan_walks_by_itself,
        another_root_or_folder_is_walked_by_itself,
        what_was_found_too_long_ago_is_not_taken,
        a_child_that_dies_ends_the_walk_as_temporary_and_the_next_is_whole,
        who_is_told_to_stop_waits_for_no_child_on_a_disk_that_hangs,
        more_than_a_pipe_holds_waits_in_the_child,
        nothing_is_left_of_a_child_that_nobody_asked,
        what_it_reads_is_what_a_reader_reads,
        it_reads_by_the_rules_that_are_given,
        each_reading_is_given_once_and_then_left_to_others,
        it_reads_nothing_where_it_was_not_told_how,
        before_the_walk_is_taken_and_of_another_root_nothing_is_given,
        a_file_on_which_it_hangs_is_left_to_others,
        a_file_of_which_it_dies_is_left_to_others,
        where_there_is_no_time_it_is_told_to_read_no_more,
        where_there_is_time_it_is_waited_for,
        where_it_is_at_work_it_is_waited_for_without_time,
        the_whole_listing_comes_though_a_file_hangs,
        where_the_walk_takes_its_time_others_read_and_it_does_not,
        several_wait_for_it_and_none_stops_it_for_another,
        it_ends_when_nobody_wants_what_it_reads,
        with_its_command_it_ends_too,
        with_its_command_it_ends_too_before_it_knows_whose_child_it_is,
        a_python_without_memfd_reads_ahead_too,
    )
}

if __name__ == "__main__":
    # On a machine that is busy with other tests the child takes its time.
    changeable._STILL_SECONDS = 3.0
    music = os.fsencode(sys.argv[2])
    for name in NAMES:
        add(music, name)
    CHECKS[sys.argv[1]](music)
