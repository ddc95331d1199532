"""Deleting and restoring tracks: the intent, the rename, the commit, and a crash between any two of them."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from music_library import MusicLibrary, counts, counts_in, result_of, scanned, worker_of
from old_trash import make_old
from sqlalchemy import select, update
from trashed_tracks import by_id, deleted, entries, in_trash, intend, restored

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.config import Settings
from mus.jobs import scan_read, watched_changes
from mus.persistence.models import Job, Track, TrashEntry, utc_now
from other_disks import bound
from waiting import until
from worker_processes import dead, worker_process

# ------------------------------------------------------------------ there and back


async def test_a_deleted_track_lies_in_the_trash_and_comes_back_as_it_was(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3")
    before = await library.identities()
    content = (library.root / "A/1.mp3").read_bytes()
    result = result_of(await deleted(library, ids["A/1.mp3"]))
    assert result == {"trashed": "A/1.mp3"}
    assert not (library.root / "A/1.mp3").exists()
    assert in_trash(library) == [f"{ids['A/1.mp3']}-1.mp3"]
    assert (await by_id(library, ids["A/1.mp3"])).status == "TRASHED"
    assert counts_in(await library.scan()) == counts(found=1, unchanged=1), "a scan does not see it"
    result_of(await restored(library, ids["A/1.mp3"]))
    assert (library.root / "A/1.mp3").read_bytes() == content
    assert await library.identities() == before
    assert await entries(library) == []
    assert in_trash(library) == []
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)


async def test_a_file_that_was_changed_in_the_trash_is_read_again_when_restored(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3")
    result_of(await deleted(library, ids["A/1.mp3"]))
    [name] = in_trash(library)
    make_audio(library.root / ".mus-trash" / name, seconds=0.3, tags={"title": "Sinnerman"})
    result_of(await restored(library, ids["A/1.mp3"]))

    async def is_read() -> bool:
        return (await library.track("A/1.mp3")).title == "Sinnerman"

    await until(is_read, what="the title that it has now")
    assert (await library.track("A/1.mp3")).id == ids["A/1.mp3"]
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)


async def test_a_restored_track_gets_its_folders_back(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/Deep/1.mp3", "2.mp3")
    await deleted(library, ids["A/Deep/1.mp3"])
    (library.root / "A/Deep").rmdir()
    (library.root / "A").rmdir()
    result_of(await restored(library, ids["A/Deep/1.mp3"]))
    assert (library.root / "A/Deep/1.mp3").is_file()


async def test_the_last_track_can_be_deleted_and_restored(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    result_of(await deleted(library, ids["1.mp3"]))
    assert counts_in(await library.scan()) == counts()
    result_of(await restored(library, ids["1.mp3"]))
    assert (await library.row()).online


async def test_deleting_or_restoring_twice_is_harmless(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    jobs = [
        await library.ended(job_id)
        for job_id in [await library.enqueue("delete_track_by_id", track_id=ids["1.mp3"]) for _ in range(3)]
    ]
    assert {job.state for job in jobs} <= {"succeeded", "failed"}
    assert "succeeded" in {job.state for job in jobs}
    assert {job.error_category for job in jobs if job.state == "failed"} <= {"user_fixable"}
    assert (await by_id(library, ids["1.mp3"])).status == "TRASHED"
    assert len(in_trash(library)) == 1
    result_of(await restored(library, ids["1.mp3"]))
    again = await restored(library, ids["1.mp3"])
    assert (again.state, again.error_category) == ("failed", "user_fixable")
    assert (library.root / "1.mp3").is_file()


@pytest.mark.parametrize("task", ["delete_track_by_id", "restore_track_by_id"])
async def test_an_unknown_track_fails_at_once(library: MusicLibrary, task: str) -> None:
    job = await library.run(task, track_id=12345)
    assert (job.state, job.error_category, job.attempt) == ("failed", "user_fixable", 1)


async def test_a_file_that_is_gone_cannot_be_deleted_and_leaves_nothing_behind(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    (library.root / "1.mp3").unlink()
    job = await deleted(library, ids["1.mp3"])
    assert (job.state, job.error_message) == ("failed", "1.mp3 is not there any more")
    assert await entries(library) == []


async def test_nothing_is_made_in_an_empty_mount_point(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    await deleted(library, ids["2.mp3"])
    os.rename(library.root, library.root.with_name("away"))
    library.root.mkdir()
    for job in (await deleted(library, ids["1.mp3"]), await restored(library, ids["2.mp3"])):
        assert (job.state, job.error_category) == ("failed", "admin_required")
    assert os.listdir(library.root) == []


async def test_a_folder_that_became_a_link_is_not_written_through(library: MusicLibrary, tmp_path: Path) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3", "3.mp3")
    await deleted(library, ids["A/1.mp3"])
    os.rename(library.root / "A", tmp_path / "outside")
    (library.root / "A").symlink_to(tmp_path / "outside")
    job = await restored(library, ids["A/1.mp3"])
    assert "is a link now" in str(job.error_message)
    job = await deleted(library, ids["A/2.mp3"])
    assert job.error_message == "A/2.mp3 is not there any more"
    assert os.listdir(tmp_path / "outside") == ["2.mp3"]


async def test_where_its_place_is_taken_a_track_is_restored_beside_it(library: MusicLibrary) -> None:
    long = "\u00e4" * 125 + ".mp3"
    ids = await scanned(library, "1.mp3", long, "2.mp3")
    for name in ("1.mp3", long):
        await deleted(library, ids[name])
        make_audio(library.root / name, seconds=0.3, tags={"title": "Another"})
    (library.root / "1 (2).mp3").mkdir()
    await library.scan()
    others = {name: (await library.track(name)).id for name in ("1.mp3", long)}
    assert result_of(await restored(library, ids["1.mp3"])) == {"restored": "1 (3).mp3"}
    beside = "\u00e4" * 121 + " (2).mp3"
    assert result_of(await restored(library, ids[long])) == {"restored": beside}
    (library.root / "1 (2).mp3").rmdir()
    assert counts_in(await library.scan())["unchanged"] == 5
    found = {name: (track.id, track.status) for name, track in (await library.tracks()).items()}
    assert found["1 (3).mp3"] == (ids["1.mp3"], "PENDING")
    assert found[beside] == (ids[long], "PENDING")
    assert {name: found[name][0] for name in others} == others, "what took the place stays what it is"
    assert await entries(library) == []


async def test_deleted_files_of_one_name_lie_side_by_side(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "B/1.mp3", "2.mp3")
    left_behind = library.root / ".mus-trash" / f"{ids['A/1.mp3']}-1.mp3"
    left_behind.parent.mkdir()
    left_behind.write_bytes(b"somebody's")
    for name in ("A/1.mp3", "B/1.mp3"):
        result_of(await deleted(library, ids[name]))
    assert len(in_trash(library)) == 3
    assert left_behind.read_bytes() == b"somebody's"


async def test_the_longest_names_there_are_go_in_and_out(library: MusicLibrary) -> None:
    name = "ä" * 125 + ".mp3"
    ids = await scanned(library, f"A/{name}", "2.mp3")
    result_of(await deleted(library, ids[f"A/{name}"]))
    [trashed] = os.listdir(os.fsencode(library.root / ".mus-trash"))
    assert len(trashed) <= 250
    assert trashed.endswith(b".mp3")
    result_of(await restored(library, ids[f"A/{name}"]))
    assert os.listdir(library.root / "A") == [name]


# ------------------------------------------------------------------ restoring again, and disks that are away


async def test_a_restoring_that_begins_again_asks_again_whether_the_disk_is_there_and_the_place_free(
    library: MusicLibrary,
) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    await deleted(library, ids["A/1.mp3"])
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(update(TrashEntry).values(state="restoring"))
    os.rename(library.root, library.root.with_name("away"))
    library.root.mkdir()
    job = await restored(library, ids["A/1.mp3"])
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert os.listdir(library.root) == []
    library.root.rmdir()
    os.rename(library.root.with_name("away"), library.root)
    make_audio(library.root / "A/1.mp3", seconds=0.3, tags={"title": "Another"})
    assert result_of(await restored(library, ids["A/1.mp3"])) == {"restored": "A/1 (2).mp3"}
    assert sorted(os.listdir(library.root / "A")) == ["1 (2).mp3", "1.mp3"]
    assert await entries(library) == []


async def test_nothing_is_restored_onto_the_root_while_the_disk_in_one_of_its_folders_is_away(
    library: MusicLibrary, other_disk: Path
) -> None:
    (library.root / "Disk").mkdir()
    with bound(other_disk, library.root / "Disk"):
        ids = await scanned(library, "Disk/A/1.mp3", "Disk/B/2.mp3", "3.mp3")
        content = (library.root / "Disk/A/1.mp3").read_bytes()
        result_of(await deleted(library, ids["Disk/A/1.mp3"]))
        (library.root / "Disk/A").rmdir()
    job = await restored(library, ids["Disk/A/1.mp3"])
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert str(job.error_message).startswith("The disk on which Disk/A/1.mp3 lay is not there")
    assert os.listdir(library.root / "Disk") == []
    assert [entry.state for entry in await entries(library)] == ["trashed"]
    with bound(other_disk, library.root / "Disk"):
        result_of(await restored(library, ids["Disk/A/1.mp3"]))
        assert (library.root / "Disk/A/1.mp3").read_bytes() == content
    assert os.listdir(library.root / "Disk") == []


async def test_where_devices_have_other_numbers_since_a_restart_a_track_is_restored_all_the_same(
    library: MusicLibrary,
) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3")
    await deleted(library, ids["A/1.mp3"])
    await library.set_tracks(device=12345)
    result_of(await restored(library, ids["A/1.mp3"]))
    await deleted(library, ids["A/1.mp3"])
    await library.set_tracks(Track.id == ids["A/1.mp3"], device=54321)
    result_of(await restored(library, ids["A/1.mp3"]))
    assert (library.root / "A/1.mp3").exists()


# ------------------------------------------------------------------ crashes


@pytest.mark.parametrize("moved", [False, True])
async def test_a_deletion_that_died_after_its_intent_or_its_rename_is_finished(
    library: MusicLibrary, moved: bool
) -> None:
    ids = await scanned(library, "A/1.mp3")
    target = await intend(library, ids["A/1.mp3"], "A/1.mp3")
    if moved:
        os.rename(library.root / "A/1.mp3", target)
    result_of(await deleted(library, ids["A/1.mp3"]))
    assert (await by_id(library, ids["A/1.mp3"])).status == "TRASHED"
    assert target.is_file()
    result_of(await restored(library, ids["A/1.mp3"]))
    assert (library.root / "A/1.mp3").is_file()


@pytest.mark.parametrize("was_read", [False, True])
async def test_a_new_file_in_the_place_of_a_half_deleted_one_stays_and_is_a_track(
    library: MusicLibrary, was_read: bool
) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    target = await intend(library, ids["1.mp3"], "1.mp3")
    os.rename(library.root / "1.mp3", target)
    make_audio(library.root / "1.mp3", seconds=0.3, tags={"title": "New"})
    if was_read:
        await library.change("process_file_created", "1.mp3")
    result_of(await deleted(library, ids["1.mp3"]))
    [follow_up] = [job for job in await library.jobs("process_file_created") if job.requested_by == "mus"]
    await library.ended(follow_up.id)
    track = await library.track("1.mp3")
    assert (track.title, track.status) == ("New", "PENDING")
    assert track.id != ids["1.mp3"]
    assert target.is_file()


async def test_a_scan_between_rename_and_commit_does_not_lose_the_deletion(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    target = await intend(library, ids["1.mp3"], "1.mp3")
    os.rename(library.root / "1.mp3", target)
    assert (await library.scan())["missing"] == 1
    result_of(await deleted(library, ids["1.mp3"]))
    assert (await by_id(library, ids["1.mp3"])).status == "TRASHED"


@pytest.mark.parametrize("step", ["intent", "linked", "moved", "met by the watcher"])
async def test_a_restoring_that_died_after_any_step_is_finished(library: MusicLibrary, step: str) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    before = await library.identities()
    await deleted(library, ids["A/1.mp3"])
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(update(TrashEntry).values(state="restoring"))
    [entry] = await entries(library)
    target = library.path("A/1.mp3")
    if step != "intent":
        os.link(entry.trash_path, target)
    if step in {"moved", "met by the watcher"}:
        os.unlink(entry.trash_path)
    if step == "met by the watcher":
        assert (await library.change("process_file_created", "A/1.mp3"))["added"] == 1
    result_of(await restored(library, ids["A/1.mp3"]))
    assert await library.identities() == before, "the track that was here first wins"
    assert in_trash(library) == []
    assert await entries(library) == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ["delete_track_by_id", "restore_track_by_id"])
async def test_a_worker_killed_between_intent_and_rename_is_succeeded_by_another(
    music: MusicLibrary, settings: Settings, tmp_path: Path, task: str
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
        if task == "restore_track_by_id":
            result_of(await deleted(music, ids["1.mp3"]))
    with worker_process(settings, "effect committed", "SIGKILL", str(tmp_path / "marker")) as doomed:
        job_id = await music.enqueue(task, track_id=ids["1.mp3"])
        await until(lambda: dead(doomed), what="the worker's death")
        assert doomed.returncode == -signal.SIGKILL
    [entry] = await entries(music)
    assert entry.state == ("moving" if task == "delete_track_by_id" else "restoring")
    async with worker_of(music.runtime):
        job = await music.ended(job_id)
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert (music.root / "1.mp3").exists() is (task == "restore_track_by_id")


@pytest.mark.slow
async def test_a_restored_file_that_was_met_as_a_new_one_leaves_no_missing_track_whatever_the_clock_says(
    music: MusicLibrary, settings: Settings, tmp_path: Path
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
        result_of(await deleted(music, ids["1.mp3"]))
    with worker_process(settings, "effect committed", "SIGKILL", str(tmp_path / "marker")) as doomed:
        job_id = await music.enqueue("restore_track_by_id", track_id=ids["1.mp3"])
        await until(lambda: dead(doomed), what="the worker's death")
    [entry] = await entries(music)
    os.rename(entry.trash_path, music.path("1.mp3"))
    met = os.stat(music.path("1.mp3"))
    async with music.runtime.database.unit_of_work() as work:
        known = (await work.session.execute(select(Track.__table__).where(Track.id == ids["1.mp3"]))).one()
        work.session.add(
            Track(
                **{name: value for name, value in known._mapping.items() if name not in {"id", "path", "status"}}
                | {"path": b"1.mp3", "status": "PENDING", "ctime_ns": met.st_ctime_ns, "added_at": utc_now()}
            )
        )
        # Deleted by a machine whose clock was an hour ahead.
        ahead = utc_now() + timedelta(hours=1)
        await work.session.execute(update(TrashEntry).values(created_at=ahead))
    async with worker_of(music.runtime):
        result_of(await music.ended(job_id))
    async with music.runtime.database.reading() as session:
        rows = (await session.execute(select(Track.id, Track.path, Track.status))).all()
    assert {(row.path, row.id) for row in rows} == {(name.encode(), track_id) for name, track_id in ids.items()}
    assert {row.status for row in rows} <= {"PENDING", "COMPLETE"}


# ------------------------------------------------------------------ for good


async def purge(library: MusicLibrary, **arguments: int) -> Job:
    async with worker_of(library.runtime, [*Queue]):
        return await library.run("purge_trash", Queue.LOW, **arguments)


async def test_after_thirty_days_a_deleted_file_is_gone_for_good(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3", "3.mp3")
        await deleted(music, ids["1.mp3"])
        await deleted(music, ids["2.mp3"])
    await make_old(music, days=29)
    assert result_of(await purge(music)) == {"purged": 0}
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(
            update(TrashEntry)
            .where(TrashEntry.track_id == ids["1.mp3"])
            .values(created_at=utc_now() - timedelta(days=31))
        )
    assert result_of(await purge(music)) == {"purged": 1}
    assert in_trash(music) == [f"{ids['2.mp3']}-2.mp3"]
    assert {track.id for track in (await music.tracks()).values()} == {ids["2.mp3"], ids["3.mp3"]}


async def test_a_person_empties_the_trash_of_some_tracks_or_of_a_library_at_once(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3", "3.mp3", "4.mp3")
    for name in ("1.mp3", "2.mp3", "3.mp3"):
        await deleted(library, ids[name])
    chosen = [ids["1.mp3"], ids["4.mp3"]]
    assert result_of(await library.run("empty_trash", track_ids=chosen)) == {"purged": 1}
    assert set(in_trash(library)) == {f"{ids['2.mp3']}-2.mp3", f"{ids['3.mp3']}-3.mp3"}
    assert result_of(await library.run("empty_trash", library_id=library.id + 1)) == {"purged": 0}
    assert result_of(await library.run("empty_trash", library_id=library.id)) == {"purged": 2}
    assert in_trash(library) == []
    assert {track.id for track in (await library.tracks()).values()} == {ids["4.mp3"]}
    assert (library.root / "4.mp3").exists()


async def test_how_long_the_trash_is_kept_is_an_argument(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
        await deleted(music, ids["1.mp3"])
    await make_old(music, days=8)
    assert result_of(await purge(music, days=9)) == {"purged": 0}
    assert result_of(await purge(music, days=7)) == {"purged": 1}


async def test_a_purge_goes_on_where_it_died_and_past_what_it_cannot_delete(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3", "3.mp3", "4.mp3")
        for name in ("1.mp3", "2.mp3", "3.mp3"):
            await deleted(music, ids[name])
    await make_old(music, days=31)
    by_track = {entry.track_id: os.fsdecode(entry.trash_path) for entry in await entries(music)}
    os.unlink(by_track[ids["1.mp3"]])  # an earlier purge died here
    os.unlink(by_track[ids["2.mp3"]])
    os.mkdir(by_track[ids["2.mp3"]])  # nobody can unlink a folder
    job = await purge(music)
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert str(job.error_message).startswith("1 files in the trash could not be deleted; the first: 2.mp3")
    assert {entry.track_id for entry in await entries(music)} == {ids["2.mp3"]}
    async with worker_of(music.runtime):
        job = await restored(music, ids["2.mp3"])
    assert job.error_message == "The track is purging just now"


async def test_a_purge_leaves_the_trash_of_a_disk_that_is_away(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
        await deleted(music, ids["1.mp3"])
    await make_old(music, days=31)
    os.rename(music.root, music.root.with_name("away"))
    assert result_of(await purge(music)) == {"purged": 0}
    async with music.runtime.database.reading() as session:
        # It can be restored as before.
        assert (await session.scalars(select(TrashEntry.state))).all() == ["trashed"]
    os.rename(music.root.with_name("away"), music.root)
    assert result_of(await purge(music)) == {"purged": 1}


async def test_what_was_left_half_done_is_taken_up_by_the_daily_purge(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
    target = await intend(music, ids["1.mp3"], "1.mp3")
    os.rename(music.root / "1.mp3", target)
    await make_old(music, days=1)
    await purge(music)
    [job] = await music.jobs("delete_track_by_id")
    async with worker_of(music.runtime):
        result_of(await music.ended(job.id))
    assert (await by_id(music, ids["1.mp3"])).status == "TRASHED"


@pytest.mark.parametrize("module", [scan_read, watched_changes])
async def test_a_file_deleted_while_another_job_reads_it_does_not_come_back(
    library: MusicLibrary, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await scanned(library, "a.mp3", "b.mp3")
    read = module.read

    async def read_and_be_overtaken(*arguments: Any) -> Any:
        readings = await read(*arguments)
        monkeypatch.setattr(module, "read", read)
        result_of(await deleted(library, ids["a.mp3"]))
        return readings

    monkeypatch.setattr(module, "read", read_and_be_overtaken)
    if module is scan_read:
        await library.scan(mode="full")
    else:
        await library.change("process_file_modified", "a.mp3", "b.mp3")
    for comparison in await library.jobs("process_file_move"):
        result_of(await library.ended(comparison.id))
    assert {track.id: track.status for track in (await library.tracks()).values()} == {
        ids["a.mp3"]: "TRASHED",
        ids["b.mp3"]: "PENDING",
    }


async def test_what_is_deleted_after_somebody_asked_to_empty_the_trash_can_be_restored_still(
    music: MusicLibrary,
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
        await deleted(music, ids["1.mp3"])
    emptying = await music.enqueue("empty_trash", Queue.MEDIUM)
    async with worker_of(music.runtime, [Queue.HIGH]):
        await deleted(music, ids["2.mp3"])
    async with worker_of(music.runtime):
        assert result_of(await music.ended(emptying)) == {"purged": 1}
        result_of(await restored(music, ids["2.mp3"]))
    assert (music.root / "2.mp3").exists()
