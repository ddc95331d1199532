"""A scan of a library that was in step: the database is asked for its tracks only where something changed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from music_library import MusicLibrary, counts, counts_in, new_library
from sqlalchemy import Engine, delete, event, update

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.jobs import compared_walk
from mus.jobs.services import services
from mus.jobs.slow_phase import MAX_LOOKS
from mus.ledger import steering
from mus.library.walk import FoundFiles
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.models import Job, Library, Track
from waiting import until


@pytest.fixture
async def in_step(library: MusicLibrary) -> MusicLibrary:
    """Three tracks, and a scan that found no change in them."""
    library.write("A/1.mp3", "A/2.ogg", "B/3.flac")
    await library.scan()
    # A worker whose reconcile looks in the instant of a scan's commit stops what is left of it, the note too: then
    # the next scan compares as this one did.
    for _ in range(3):
        with compared() as times:
            assert counts_in(await library.scan()) == counts(found=3, unchanged=3)
        assert len(times) == 1, "the one after a change compares"
        with suppress(AssertionError):
            await until(lambda: is_remembered(library), seconds=5, what="the note that it is in step")
            break
    assert await is_remembered(library)
    return library


async def is_remembered(library: MusicLibrary) -> bool:
    in_step = services().in_step.get(library.id)
    return in_step is not None and in_step.track_changes == (await library.row()).track_changes


async def unchanged_scan(library: MusicLibrary) -> None:
    """A scan that finds its three files as they were, and is remembered, which comes a moment after its end."""
    assert counts_in(await library.scan()) == counts(found=3, unchanged=3)
    await until(lambda: is_remembered(library), what="the note that it is in step")


@contextmanager
def compared() -> Iterator[list[str]]:
    """How often, meanwhile, the database was asked for all that a scan compares."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "group_concat(" in statement or "string_agg(" in statement:
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_a_scan_that_was_begun_before_compares(in_step: MusicLibrary) -> None:
    async with in_step.runtime.database.unit_of_work():
        await steering.pause(broker.ledger, Queue.HIGH, paused_by=None)
    scan = await in_step.enqueue_scan()
    newest = max(track.id for track in (await in_step.tracks()).values())
    async with in_step.runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == scan).values(checkpoint={"newest": newest}))
    with compared() as times:
        async with in_step.runtime.database.unit_of_work():
            await steering.resume(broker.ledger, Queue.HIGH)
        assert counts_in((await in_step.ended(scan)).result) == counts(found=3, unchanged=3)
    assert len(times) == 1, "chunks of it may be under way"


async def test_of_a_library_in_step_the_tracks_are_not_asked_for(in_step: MusicLibrary) -> None:
    with compared() as times:
        for _ in range(3):
            await unchanged_scan(in_step)
    assert times == []
    assert (await in_step.row()).online


async def test_what_changed_on_the_disk_since_is_found_and_then_it_is_in_step_again(in_step: MusicLibrary) -> None:
    before = await in_step.identities()
    make_audio(in_step.root / "A/1.mp3", seconds=0.3, tags={"title": "Changed"})
    os.rename(in_step.root / "B/3.flac", in_step.root / "3.flac")
    (in_step.root / "A/2.ogg").unlink()
    in_step.write("4.wav")
    assert counts_in(await in_step.scan()) == counts(found=3, added=1, updated=1, moved=1, missing=1)
    after = await in_step.identities()
    assert (after["A/1.mp3"], after["3.flac"]) == (before["A/1.mp3"], before["B/3.flac"])

    for expected in (1, 0):
        with compared() as times:
            await unchanged_scan(in_step)
        assert len(times) == expected


async def test_a_file_that_changes_as_little_as_its_ctime_is_read(in_step: MusicLibrary) -> None:
    path = in_step.root / "A/1.mp3"
    sound = path.read_bytes()
    stat = path.stat()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert counts_in(await in_step.scan()) == counts(found=3, updated=1, unchanged=2)


@pytest.mark.parametrize(
    ("values", "result"),
    [
        (
            {"status": "ERROR", "error_category": "temporary", "error_message": "busy"},
            {"updated": 1, "unchanged": 2},
        ),
        ({"status": "MISSING"}, {"updated": 1, "unchanged": 2}),
        ({"size": 1}, {"updated": 1, "unchanged": 2}),
    ],
)
async def test_what_was_written_to_its_tracks_since_is_seen(
    in_step: MusicLibrary, values: dict[str, Any], result: dict[str, int]
) -> None:
    track = await in_step.track("A/2.ogg")
    await in_step.set_tracks(Track.id == track.id, **values)
    assert counts_in(await in_step.scan()) == counts(found=3, **result)
    assert (await in_step.track("A/2.ogg")).status == "PENDING"


async def test_a_track_that_was_looked_at_in_vain_is_looked_at_again(in_step: MusicLibrary) -> None:
    await in_step.set_tracks(Track.library_id == in_step.id, analysis_attempts=MAX_LOOKS)
    await in_step.scan()
    assert {track.analysis_attempts for track in (await in_step.tracks()).values()} == {0}


async def test_a_full_scan_and_one_of_a_folder_ask_all_the_same(in_step: MusicLibrary) -> None:
    with compared() as times:
        assert counts_in(await in_step.scan(path="A")) == counts(found=2, unchanged=2)
    assert len(times) == 1
    await in_step.scan()
    assert counts_in(await in_step.scan(mode="full")) == counts(found=3, updated=3)


async def test_files_that_are_passed_over_are_told_each_time(
    in_step: MusicLibrary,
) -> None:
    (in_step.root / "notes.txt").touch()
    (in_step.root / ".hidden.mp3").touch()
    with compared() as times:
        result = await in_step.scan()
    assert times == []
    assert result["skipped_reasons"] == {"not audio": 1, "hidden": 1}


async def test_an_emptied_folder_is_offline_and_its_tracks_stay(in_step: MusicLibrary, tmp_path: Path) -> None:
    os.rename(in_step.root, tmp_path / "away")
    in_step.root.mkdir()
    job = await in_step.failed_scan()
    assert "is empty, though it had tracks" in (job.error_message or "")
    assert set((await in_step.statuses()).values()) == {"PENDING"}
    in_step.root.rmdir()
    os.rename(tmp_path / "away", in_step.root)
    assert counts_in(await in_step.scan()) == counts(found=3, unchanged=3)
    assert (await in_step.row()).online


async def test_a_library_that_is_made_again_with_the_same_id_and_files_is_scanned_anew(
    in_step: MusicLibrary, runtime: Runtime
) -> None:
    changes = (await in_step.row()).track_changes
    async with runtime.database.unit_of_work() as work:
        await hold_tracks(work.session, in_step.id)
        await work.session.execute(delete(Track))
        await work.session.execute(delete(Library))
        work.session.add(
            Library(id=in_step.id, name="Again", root=os.fsencode(in_step.root), track_changes=changes)
        )
    assert counts_in(await in_step.scan()) == counts(found=3, added=3)


async def test_another_library_of_the_same_worker_is_in_step_for_itself(
    in_step: MusicLibrary, runtime: Runtime, tmp_path: Path
) -> None:
    other = await new_library(runtime, tmp_path / "other", name="Other")
    other.write("A/1.mp3")
    assert counts_in(await other.scan()) == counts(found=1, added=1)
    with compared() as times:
        assert counts_in(await in_step.scan()) == counts(found=3, unchanged=3)
    assert times == []


@contextmanager
def standing_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Walks stand still at their end, for the block or until the event is set."""
    walk, go_on = compared_walk.walk_or_take, threading.Event()

    def held(*arguments: Any, **options: Any) -> Iterator[FoundFiles]:
        yield from walk(*arguments, **options)
        go_on.wait(30)

    monkeypatch.setattr(compared_walk, "walk_or_take", held)
    try:
        yield go_on
    finally:
        go_on.set()


async def test_what_is_written_to_its_tracks_while_it_is_walked_is_seen_by_the_next_scan(
    in_step: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = await in_step.track("A/2.ogg")
    for was_in_step in (True, False):
        if not was_in_step:
            await in_step.set_tracks(Track.id == track.id, title="Else")
        with compared() as times, standing_still(monkeypatch) as go_on:
            scan = await in_step.enqueue_scan()
            await in_step.staged(scan, "walking")
            await in_step.set_tracks(Track.id == track.id, size=1)
            go_on.set()
            assert counts_in((await in_step.ended(scan)).result) == counts(found=3, unchanged=3)
        assert len(times) == (0 if was_in_step else 1)
        monkeypatch.undo()
        assert counts_in(await in_step.scan()) == counts(found=3, updated=1, unchanged=2)
        await unchanged_scan(in_step)


async def test_a_walk_that_takes_its_time_says_so_and_tracks_that_come_meanwhile_are_judged(
    in_step: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = len(await in_step.jobs("finish_scan"))
    with standing_still(monkeypatch) as go_on:
        scan = await in_step.enqueue_scan()
        await in_step.staged(scan, "walking")
        in_step.write("4.wav")
        assert (await in_step.change("process_file_created", "4.wav"))["added"] == 1
        go_on.set()
        job = await in_step.ended(scan)
    assert counts_in(job.result) == counts(found=3, unchanged=3)
    assert len(await in_step.jobs("finish_scan")) == ended + 1
    monkeypatch.undo()
    assert counts_in(await in_step.scan()) == counts(found=4, unchanged=4)


async def test_a_scan_is_cancelled_while_it_is_walked(
    in_step: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_still(monkeypatch):
        scan = await in_step.enqueue_scan()
        await in_step.staged(scan, "walking")
        async with in_step.runtime.database.unit_of_work():
            await steering.cancel(broker.ledger, scan)
        assert (await in_step.ended(scan)).state == "cancelled"
    monkeypatch.undo()
    assert counts_in(await in_step.scan()) == counts(found=3, unchanged=3)


async def test_a_folder_that_could_not_be_listed_is_looked_for_once_it_can_be(
    in_step: MusicLibrary, tmp_path: Path
) -> None:
    # Under a longer name what is deep in it cannot be named any more (ENAMETOOLONG).
    folder = "/".join(["d" * 200] * 10)
    (in_step.root / folder).mkdir(parents=True)
    shutil.copy(in_step.root / "A/1.mp3", in_step.root / folder / "4.mp3")
    assert (await in_step.scan())["added"] == 1
    near, far = in_step.root, tmp_path
    for _ in range(11):
        far = far / ("f" * 200)
    far.mkdir(parents=True)
    os.rename(near, far / "music")
    await in_step.move_root(far / "music")
    for _ in range(2):
        result = await in_step.scan()
        assert counts_in(result) == counts(found=3, unchanged=3)
        assert len(result["unlisted_folders"]) == 1
    os.rename(far / "music", near)
    (near / folder / "4.mp3").unlink()
    await in_step.move_root(near)
    assert counts_in(await in_step.scan()) == counts(found=3, unchanged=3, missing=1)
