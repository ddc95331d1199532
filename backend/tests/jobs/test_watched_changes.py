"""Jobs about paths where something happened: they apply what is on disk now, whatever they are called."""

from __future__ import annotations

import os
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from music_library import MusicLibrary, as_arguments, busy_file, counts, counts_in, result_of
from sqlalchemy import update

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.library.file_reading import FileStat, failed_reading
from mus.persistence.batch_operations import mark_missing
from mus.persistence.known_tracks import last_writes
from mus.persistence.models import Job, Track, utc_now
from mus.persistence.stored_readings import unsettled

TASKS = ("process_file_created", "process_file_modified", "process_file_move", "process_file_deletion")


def outcome(**expected: int) -> dict[str, int]:
    return {"added": 0, "updated": 0, "moved": 0, "missing": 0, "skipped": 0} | expected


async def test_a_new_file_is_read(library: MusicLibrary) -> None:
    library.write("A/1.mp3")
    assert await library.change("process_file_created", "A/1.mp3") == outcome(added=1)
    track = await library.track("A/1.mp3")
    assert (track.title, track.status) == ("1", "PENDING")


async def test_a_changed_file_is_read_again_by_the_same_track(library: MusicLibrary) -> None:
    library.write("1.mp3")
    await library.scan()
    before = await library.identities()
    make_audio(library.root / "1.mp3", seconds=0.3, tags={"title": "Changed"})
    assert await library.change("process_file_modified", "1.mp3") == outcome(updated=1)
    assert await library.identities() == before
    assert (await library.track("1.mp3")).title == "Changed"


async def test_a_deleted_file_is_missing_and_back_by_itself(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3")
    await library.scan()
    before = await library.identities()
    kept = (library.root / "1.mp3").read_bytes()
    (library.root / "1.mp3").unlink()
    assert await library.change("process_file_deletion", "1.mp3") == outcome(missing=1)
    assert await library.change("process_file_deletion", "1.mp3") == outcome(), "once is enough"
    (library.root / "1.mp3").write_bytes(kept)
    assert await library.change("process_file_created", "1.mp3") == outcome(updated=1)
    assert await library.identities() == before


async def test_a_deleted_file_is_missing_also_after_the_clock_was_set_back(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3")
    await library.scan()
    await library.set_tracks(updated_at=utc_now() + timedelta(hours=1))
    (library.root / "1.mp3").unlink()
    assert await library.change("process_file_deletion", "1.mp3") == outcome(missing=1)
    (library.root / "2.mp3").rename(library.root / "3.mp3.part")
    library.write("4.mp3")
    assert counts_in(await library.scan()) == counts(found=1, added=1, missing=1)


async def test_a_track_that_was_written_since_the_look_is_not_missing(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3")
    await library.scan()
    ids = [track.id for track in (await library.tracks()).values()]
    database = library.runtime.database
    async with database.reading() as session:
        last_written = await last_writes(session, ids)
    await library.set_tracks(Track.id == ids[0], updated_at=utc_now() - timedelta(hours=1))
    async with database.unit_of_work() as work:
        assert await mark_missing(work.session, ids, last_written=last_written) == 1
    assert {track.id: track.status for track in (await library.tracks()).values()} == {
        ids[0]: "PENDING",
        ids[1]: "MISSING",
    }


async def test_a_deleted_folder_takes_all_its_tracks_along_and_no_others(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/Deep/2.mp3", "AB/3.mp3", "A.mp3", "B/4.mp3")
    await library.scan()
    shutil.rmtree(library.root / "A")
    assert await library.change("process_file_deletion", "A") == outcome(missing=2)
    statuses = await library.statuses()
    assert {path for path, status in statuses.items() if status == "MISSING"} == {"A/1.mp3", "A/Deep/2.mp3"}


async def test_a_new_folder_brings_all_its_files(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/Deep/2.mp3", "A/Hidden/.nomedia", "A/Hidden/3.mp3", "B/4.mp3")
    assert await library.change("process_file_created", "A") == outcome(added=2)


@pytest.mark.parametrize("task", TASKS)
async def test_the_disk_is_the_truth_whatever_the_job_is_called(library: MusicLibrary, task: str) -> None:
    library.write("changed.mp3", "gone.mp3", "old.mp3", "stays.mp3")
    await library.scan()
    before = await library.identities()
    make_audio(library.root / "changed.mp3", seconds=0.3)
    (library.root / "gone.mp3").unlink()
    os.rename(library.root / "old.mp3", library.root / "new.mp3")
    library.write("created.mp3")
    names = ["changed.mp3", "gone.mp3", "old.mp3", "new.mp3", "created.mp3", "never.mp3"]
    assert await library.change(task, *names) == outcome(added=1, updated=1, moved=1, missing=1)
    after = await library.identities()
    assert after["new.mp3"] == before["old.mp3"]
    assert set(after) == {"changed.mp3", "new.mp3", "created.mp3", "stays.mp3"}


async def test_a_move_is_seen_by_its_new_path_alone(library: MusicLibrary) -> None:
    library.write("old.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "old.mp3", library.root / "new.mp3")
    assert await library.change("process_file_created", "new.mp3") == outcome(moved=1)
    assert await library.identities() == {"new.mp3": before["old.mp3"]}


async def test_a_move_over_another_track_and_a_swap_keep_the_tracks_apart(library: MusicLibrary) -> None:
    library.write("a.mp3", "b.mp3", "c.mp3", "d.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "a.mp3", library.root / "x")
    os.rename(library.root / "b.mp3", library.root / "a.mp3")
    os.rename(library.root / "x", library.root / "b.mp3")
    os.rename(library.root / "c.mp3", library.root / "d.mp3")
    result = await library.change("process_file_move", "a.mp3", "b.mp3", "b.mp3", "a.mp3", "c.mp3", "d.mp3")
    assert result == outcome(moved=3)
    assert await library.identities() == {
        "a.mp3": before["b.mp3"], "b.mp3": before["a.mp3"], "d.mp3": before["c.mp3"],
    }  # fmt: skip
    [lost] = [track for track in (await library.tracks()).values() if track.status == "MISSING"]
    assert lost.id == before["d.mp3"][0]


async def test_two_links_to_a_moved_file_are_the_track_and_a_new_one(library: MusicLibrary) -> None:
    library.write("a.mp3")
    await library.scan()
    before = await library.identities()
    os.link(library.root / "a.mp3", library.root / "b.mp3")
    os.rename(library.root / "a.mp3", library.root / "c.mp3")
    assert await library.change("process_file_move", "a.mp3", "b.mp3", "c.mp3") == outcome(added=1, moved=1)
    after = await library.identities()
    assert before["a.mp3"] in after.values()
    assert set(after) == {"b.mp3", "c.mp3"}


async def test_a_hard_link_beside_its_track_is_a_file_of_its_own(library: MusicLibrary) -> None:
    library.write("a.mp3")
    await library.scan()
    os.link(library.root / "a.mp3", library.root / "b.mp3")
    assert await library.change("process_file_created", "b.mp3") == outcome(added=1)


async def test_paths_outside_the_root_and_no_paths_at_all_are_refused(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("1.mp3", "../outside/2.mp3", ".hidden/3.mp3", "Quiet/.nomedia", "Quiet/4.mp3")
    (library.root / "link").symlink_to(tmp_path / "outside")
    (library.root / "link.mp3").symlink_to(tmp_path / "outside/2.mp3")
    names = [
        "../outside/2.mp3", "A/../../outside/2.mp3", "./1.mp3", str(tmp_path / "outside/2.mp3"), "", "1.mp3\0",
        "link/2.mp3", "link.mp3", "link", ".hidden/3.mp3", "Quiet/4.mp3", "Quiet", "cover.jpg\0/x",
    ]  # fmt: skip
    result = await library.change("process_file_created", *names)
    assert result == outcome(skipped=len(names))
    assert await library.tracks() == {}


async def test_tracks_that_a_nomedia_file_or_a_link_hides_now_are_missing(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "B/2.mp3", "C/3.mp3")
    await library.scan()
    (library.root / "A/.nomedia").touch()
    os.rename(library.root / "B", library.root / ".b")
    (library.root / "B").symlink_to(".b")
    result = await library.change("process_file_deletion", "A/1.mp3", "B/2.mp3", "C/3.mp3")
    assert (result["missing"], result["updated"]) == (2, 1)


async def test_a_file_that_is_half_written_gets_another_look(library: MusicLibrary) -> None:
    library.write("1.flac")
    whole = (library.root / "1.flac").read_bytes()
    (library.root / "1.flac").write_bytes(whole[: len(whole) // 2])
    assert await library.change("process_file_created", "1.flac") == outcome(added=1)
    assert (await library.track("1.flac")).status == "ERROR"
    [look] = [job for job in await library.jobs("process_file_modified") if job.state == "queued"]
    assert look.arguments["paths"] == ["1.flac"]
    assert look.run_after is not None
    assert timedelta(seconds=3) < look.run_after - look.created_at < timedelta(seconds=7)
    (library.root / "1.flac").write_bytes(whole)
    await let_run_now(library, look.id)
    assert result_of(await library.ended(look.id)) == outcome(updated=1)
    assert (await library.track("1.flac")).status == "PENDING"


@pytest.mark.parametrize(
    ("touched_seconds_ago", "mtime_ns", "again"),
    [(5, 0, True), (29, 0, True), (31, 0, False), (31, 2**62, False), (-5, 0, True), (-3600, 0, False)],
)
def test_a_broken_file_is_young_by_what_no_program_can_set(
    touched_seconds_ago: int, mtime_ns: int, again: bool
) -> None:
    now = 10**18
    stat = FileStat(100, mtime_ns, now - touched_seconds_ago * 10**9, 1, 1)
    reading = failed_reading(b"a.mp3", "broken", stat=stat)
    assert (unsettled([reading], now, settle_ns=30 * 10**9) == [reading]) is again


async def test_a_busy_file_is_tried_again_by_the_ledger(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3")
    with busy_file(library.root / "1.mp3"):
        job_id = await library.enqueue(
            "process_file_created", Queue.HIGH, library_id=library.id, paths=as_arguments("1.mp3", "2.mp3")
        )
        job = await library.in_state(job_id, "retrying")
        assert job.error_message == (
            "1 files cannot be read now; the first: "
            "The file system reports an error: Resource temporarily unavailable"
        )
        assert await library.statuses() == {"1.mp3": "ERROR", "2.mp3": "PENDING"}
    await let_run_now(library, job_id)
    assert result_of(await library.ended(job_id))["updated"] == 2
    assert await library.statuses() == {"1.mp3": "PENDING", "2.mp3": "PENDING"}


async def test_a_very_long_list_is_one_job_in_parts(library: MusicLibrary) -> None:
    names = library.write_many(1200)
    assert await library.change("process_file_created", *names) == outcome(added=1200)
    shutil.rmtree(library.root / "Album")
    library.write_many(1300, "Other")
    assert await library.change("process_file_created", "Other") == outcome(added=1300)
    before = await library.identities()
    await library.change("process_file_deletion", *names[:600])
    # By their names and lengths, the others are these.
    after = await library.identities()
    assert [after[f"Other/{number:04}.wav"] for number in range(600)] == [before[name] for name in names[:600]]


async def test_a_job_that_was_done_and_comes_again_does_nothing(library: MusicLibrary) -> None:
    library.write("1.mp3")
    job = await library.run("process_file_created", library_id=library.id, paths=["1.mp3"])
    (library.root / "1.mp3").unlink()
    library.write("2.mp3")
    await redeliver(library, job.id)
    again = await library.ended(job.id)
    assert (again.attempt, again.result) == (2, outcome(added=1))
    assert await library.statuses() == {"1.mp3": "PENDING"}


async def let_run_now(library: MusicLibrary, job_id: str) -> None:
    """As if its time had come: reconcile publishes what is due and has no message."""
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(
            update(Job).where(Job.id == job_id).values(run_after=None, published_at=None, delivery=Job.delivery + 1)
        )


async def redeliver(library: MusicLibrary, job_id: str) -> None:
    """As if the worker had died after the last effect and before it told the ledger."""
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                state="queued",
                attempt=2,
                delivery=Job.delivery + 1,
                result=None,
                published_at=None,
                finished_at=None,
            )
        )


async def test_many_jobs_about_the_same_files_at_once_end_alike_and_none_fails(library: MusicLibrary) -> None:
    names = library.write_many(60)
    for round_ in range(3):
        jobs = [await library.enqueue_scan(mode="full")]
        for number, task in enumerate(TASKS * 2):
            # Each in an order of its own: whoever locks rows as they come waits in a circle.
            paths = random.Random(number).sample(names, len(names))
            queue = Queue.HIGH if task in {"process_file_created", "process_file_deletion"} else Queue.MEDIUM
            jobs.append(await library.enqueue(task, queue, library_id=library.id, paths=paths))
        ended = [await library.ended(job_id) for job_id in jobs]
        assert [(job.state, job.attempt) for job in ended] == [("succeeded", 1)] * len(jobs), round_
        assert await library.statuses() == dict.fromkeys(names, "PENDING")
