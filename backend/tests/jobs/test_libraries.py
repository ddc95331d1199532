"""Several libraries: each with its own guard and schedule, added, moved and removed while others go on."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from music_library import MusicLibrary, counts, counts_in, result_of, worker_of
from sqlalchemy import delete, select, update

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.errors import ConflictError, LibraryGoneError
from mus.jobs.libraries import (
    LibraryChange,
    LibraryFieldError,
    add_library,
    change_library,
    request_removal,
    shown_library,
)
from mus.jobs.schedules import schedule_entries
from mus.ledger.schedules import ensure_schedules
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.models import Job, Library, Schedule, Track, utc_now
from waiting import until


async def added(runtime: Runtime, root: Path, name: str = "Talks", **change: Any) -> MusicLibrary:
    root.mkdir(exist_ok=True)
    wanted: LibraryChange = {"name": name, "root": os.fspath(root), **change}  # type: ignore[typeddict-item]
    library_id, _ = await add_library(runtime.database, runtime.settings, wanted, requested_by="test")
    return MusicLibrary(runtime, library_id, root)


async def changed(library: MusicLibrary, **change: Any) -> None:
    await change_library(
        library.runtime.database, library.runtime.settings, str(library.id), change, requested_by="test"
    )


async def removed(library: MusicLibrary, *, force: bool = False) -> Job:
    runtime = library.runtime
    job_id = await request_removal(
        runtime.database, runtime.settings, str(library.id), force=force, requested_by="test"
    )
    return await library.ended(job_id)


async def first_scan(library: MusicLibrary) -> dict[str, Any]:
    (scan,) = [job for job in await library.jobs("scan_library") if job.arguments["library_id"] == library.id]
    return result_of(await library.ended(scan.id))


async def due(library: MusicLibrary, name: str) -> list[int]:
    """The libraries that the schedule of this name scans when its time has come; a worker fires it."""
    database = library.runtime.database
    async with database.unit_of_work() as work:
        await work.session.execute(
            update(Schedule).where(Schedule.name == name).values(next_due=utc_now(), last_job_id=None)
        )

    async def fired() -> str | None:
        async with database.reading() as session:
            return await session.scalar(select(Schedule.last_job_id).where(Schedule.name == name))

    job_id = await until(fired, what=f"the job of {name}")
    scans = [await library.job(scan) for scan in result_of(await library.ended(job_id))["scans"]]
    for scan in scans:
        assert (await library.ended(scan.id)).state == "succeeded"
    return [scan.arguments["library_id"] for scan in scans]


async def test_a_library_that_is_added_is_scanned_and_one_offline_leaves_the_others_alone(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("A/1.mp3", "A/2.mp3")
    talks = await added(library.runtime, tmp_path / "talks")
    talks.write("B/1.mp3")
    assert (await first_scan(talks))["found"] <= 1
    await library.scan()
    await talks.scan()
    os.rename(talks.root, tmp_path / "unmounted")
    failed = await talks.failed_scan()
    assert "not there" in str(failed.error_message)
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    # A watched deletion in one is judged by that one's guard alone.
    (library.root / "A/1.mp3").unlink()
    await library.change("process_file_deletion", "A/1.mp3")
    assert await library.statuses() == {"A/1.mp3": "MISSING", "A/2.mp3": "PENDING"}
    assert await talks.statuses() == {"B/1.mp3": "PENDING"}
    assert [(await one.row()).online for one in (library, talks)] == [True, False]


async def test_each_library_has_the_guard_that_a_person_gave_it(library: MusicLibrary, tmp_path: Path) -> None:
    strict = await added(library.runtime, tmp_path / "strict", guard_min_tracks=1, guard_fraction=0.4)
    names = [f"{number}.mp3" for number in range(4)]
    for one in (library, strict):
        one.write(*names)
        await one.scan()
        (one.root / "0.mp3").unlink()
        (one.root / "1.mp3").unlink()
    assert (await library.scan())["missing"] == 2
    assert "2 of 4 tracks are gone at once" in str((await strict.failed_scan()).error_message)
    await changed(strict, guard_min_tracks=None, guard_fraction=None)
    assert (await strict.scan())["missing"] == 2


async def test_a_library_with_a_schedule_of_its_own_is_left_out_of_the_common_one(
    music: MusicLibrary, tmp_path: Path
) -> None:
    runtime, ledger = music.runtime, music.runtime.connection.ledger
    entries = schedule_entries(runtime.settings.scan_schedule)
    async with worker_of(runtime, list(Queue)):
        own = await added(runtime, tmp_path / "own", scan_crontab="0 0 1 1 *")
        await first_scan(own)
        # Another worker starts: the code's schedules are written, and libraries' own stay.
        await ensure_schedules(ledger, entries)
        assert await due(music, "quick-scan") == [music.id]
        assert await due(music, f"scan-{own.id}") == [own.id]
        await changed(own, scan_crontab="off")
        assert (await shown(own)).scan_crontab == "off"
        assert await due(music, "quick-scan") == [music.id]
        await changed(own, scan_crontab=None)
        assert await due(music, "quick-scan") == [music.id, own.id]
        await changed(own, scan_crontab="0 0 1 1 *")
        assert (await removed(own)).state == "succeeded"
        async with runtime.database.reading() as session:
            names = set(await session.scalars(select(Schedule.name)))
        assert names == {entry.name for entry in entries}


async def test_a_removed_library_takes_its_rows_along_and_leaves_every_file(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("A/1.mp3")
    await library.scan()
    talks = await added(library.runtime, tmp_path / "talks")
    names = talks.write_many(1200)
    await talks.scan()
    job = await removed(talks)
    assert result_of(job) == {"library": "Talks", "tracks": 1200}
    assert (job.progress, job.units_total) == (1.0, 1200)
    assert await talks.tracks() == {}
    async with library.runtime.database.reading() as session:
        assert [row.id for row in await session.scalars(select(Library))] == [library.id]
    assert sum(path.is_file() for path in talks.root.rglob("*")) == len(names)
    assert await library.statuses() == {"A/1.mp3": "PENDING"}
    # Its folder is free for another one.
    again = await added(library.runtime, talks.root, "Talks")
    assert again.id > talks.id


async def test_what_runs_and_waits_about_a_library_ends_with_it(music: MusicLibrary, tmp_path: Path) -> None:
    runtime = music.runtime
    async with worker_of(runtime):
        talks = await added(runtime, tmp_path / "talks")
        await first_scan(talks)
    async with worker_of(runtime, [Queue.HIGH]):
        talks.write("1.mp3", "2.mp3")
        scan = await talks.walked_scan()  # nobody reads: it waits for its parts
        waiting = await talks.enqueue("process_file_modified", Queue.MEDIUM, library_id=talks.id, paths=["1.mp3"])
        other = await music.enqueue("process_file_modified", Queue.MEDIUM, library_id=music.id, paths=["1.mp3"])
        assert (await removed(talks)).state == "succeeded"
    assert {(await talks.job(job_id)).state for job_id in (scan, waiting)} == {"cancelled"}
    assert (await music.job(other)).state == "queued"
    # What comes too late fails by itself, and writes nothing.
    async with worker_of(runtime):
        late = await talks.run("process_file_created", library_id=talks.id, paths=["1.mp3"])
    assert (late.state, late.error_category) == ("failed", "user_fixable")
    assert await talks.tracks() == {}


async def test_a_removal_that_died_half_way_is_gone_on_with_and_nobody_writes_meanwhile(
    library: MusicLibrary, tmp_path: Path
) -> None:
    talks = await added(library.runtime, tmp_path / "talks")
    talks.write("1.mp3", "2.mp3", "3.mp3")
    await talks.scan()
    database = library.runtime.database
    async with database.unit_of_work() as work:
        await work.session.execute(update(Library).where(Library.id == talks.id).values(removing_since=utc_now()))
        await work.session.execute(delete(Track).where(Track.library_id == talks.id, Track.path == b"1.mp3"))
    with pytest.raises(LibraryGoneError, match="being removed"):
        async with database.unit_of_work() as work:
            await hold_tracks(work.session, talks.id)
    with pytest.raises(ConflictError, match="being removed"):
        await changed(talks, name="Lectures")
    assert result_of(await removed(talks)) == {"library": "Talks", "tracks": 2}
    async with database.reading() as session:
        assert await session.get(Library, talks.id) is None


async def test_a_library_with_files_in_its_trash_is_removed_by_force_alone(
    library: MusicLibrary, tmp_path: Path
) -> None:
    talks = await added(library.runtime, tmp_path / "talks")
    talks.write("1.mp3", "2.mp3")
    await talks.scan()
    track = await talks.track("1.mp3")
    await talks.run("delete_track_by_id", track_id=track.id)
    with pytest.raises(ConflictError, match="1 deleted files lie in the trash"):
        await removed(talks)
    assert not (await shown(talks)).removing
    await removed(talks, force=True)
    assert [path.name for path in (talks.root / ".mus-trash").iterdir()] == [f"{track.id}-1.mp3"]


async def shown(library: MusicLibrary) -> Any:
    async with library.runtime.database.reading() as session:
        return await shown_library(session, library.runtime.settings, str(library.id))


async def test_in_another_folder_tracks_keep_their_ids_and_are_not_read_again(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("A/1.mp3", "A/2.mp3", "B/3.mp3")
    await library.scan()
    trashed = await library.track("B/3.mp3")
    await library.run("delete_track_by_id", track_id=trashed.id)
    before = await library.identities()
    moved = tmp_path / "moved"
    shutil.copytree(library.root, moved)  # as on another disk: other inodes
    (moved / "A/4.mp3").write_bytes((moved / "A/1.mp3").read_bytes())
    old_root, library.root = library.root, moved
    shutil.rmtree(old_root)
    await changed(library, root=os.fspath(moved))
    (follow,) = await library.jobs("follow_moved_library")
    done = result_of(await library.ended(follow.id))
    scan = result_of(await library.ended(done["scan"]))
    assert done["adopted"] == 2
    assert counts_in(scan) == counts(found=3, added=1, unchanged=2)
    after = await library.identities()
    assert {path: after[path] for path in before} == before
    assert result_of(await library.run("restore_track_by_id", track_id=trashed.id)) == {"restored": "B/3.mp3"}
    assert (moved / "B/3.mp3").is_file()


async def test_a_scan_lets_the_files_in_the_other_folder_be_known_first(
    music: MusicLibrary, tmp_path: Path
) -> None:
    async with worker_of(music.runtime):
        music.write("1.mp3", "2.mp3")
        await music.scan()
    shutil.copytree(music.root, tmp_path / "moved")
    music.root = tmp_path / "moved"
    await changed(music, root=os.fspath(music.root))
    (follow,) = await music.jobs("follow_moved_library")
    scan_id = await music.enqueue_scan()
    async with music.runtime.database.unit_of_work() as work:
        # As if it had been held up.
        later = utc_now() + timedelta(seconds=2)
        await work.session.execute(update(Job).where(Job.id == follow.id).values(run_after=later))
    async with worker_of(music.runtime):
        assert counts_in(result_of(await music.ended(scan_id))) == counts(found=2, unchanged=2)
        assert result_of(await music.ended(follow.id))["adopted"] == 2


async def test_a_folder_without_its_files_is_not_taken_for_the_librarys(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("1.mp3")
    await library.scan()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConflictError, match="None of the library's files"):
        await changed(library, root=os.fspath(tmp_path / "empty"))
    # Not even a file of that name will do.
    (tmp_path / "empty/1.mp3").write_bytes(b"another")
    with pytest.raises(ConflictError, match="None of the library's files"):
        await changed(library, root=os.fspath(tmp_path / "empty"))
    assert (await library.row()).root == os.fsencode(library.root)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("music", ConflictError),
        ("music/inside", ConflictError),
        (".", LibraryFieldError),  # the data folder lies in it
        ("link", ConflictError),
        ("data", LibraryFieldError),
        ("data/inside", LibraryFieldError),
        ("nowhere", LibraryFieldError),
        ("file", LibraryFieldError),
    ],
)
async def test_roots_lie_apart_from_each_other_and_from_the_data_folder(
    music: MusicLibrary, tmp_path: Path, place: str, error: type[Exception]
) -> None:
    (music.root / "inside").mkdir()
    (tmp_path / "data/inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(music.root)
    (tmp_path / "file").touch()
    with pytest.raises(error):
        await add_library(
            music.runtime.database,
            music.runtime.settings,
            {"name": "Talks", "root": os.fspath(tmp_path / place)},
            requested_by="test",
        )
    async with music.runtime.database.reading() as session:
        assert len((await session.scalars(select(Library))).all()) == 1


async def test_a_name_is_had_once_and_can_stand_in_an_address(music: MusicLibrary, tmp_path: Path) -> None:
    for name in ("music", "MUSIC "):
        with pytest.raises(ConflictError, match="a library Music already"):
            await added(music.runtime, tmp_path / "talks", name)
    for name in ("", " ", "a/b", "12", "..", "a\nb", "x" * 101):
        with pytest.raises(LibraryFieldError, match="name: "):
            await added(music.runtime, tmp_path / "talks", name)
    talks = await added(music.runtime, tmp_path / "talks", "Ünïcode & Söhne")
    await changed(talks, name="Talks")
    assert (await shown(talks)).name == "Talks"
