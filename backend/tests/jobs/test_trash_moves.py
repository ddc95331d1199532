"""Files on their way into the trash and back between disks and on shares, where an error alone tells nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from edit_worker import DELETE_STEPS, EDIT_WORKER, RESTORE_STEPS
from lost_answers import LOST, lose_answer
from music_library import MusicLibrary, counts, counts_in, new_library, result_of, scanned, worker_of
from old_trash import make_old
from sqlalchemy import delete
from trashed_tracks import by_id, deleted, entries, in_trash, intend, restored

from mus.broker.job_runner import RunningJob, StopReason
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.jobs import trash, trash_files
from mus.ledger import steering
from mus.library import moves
from mus.persistence.models import TrashEntry
from refusing_folders import full_disk, read_only
from waiting import until
from worker_processes import dead, doomed_process

# ------------------------------------------------------------------ other disks


async def test_a_read_only_library_says_so_and_nothing_is_copied(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    with read_only(library.root):
        job = await deleted(library, ids["A/1.mp3"])
    assert (job.state, job.error_category) == ("failed", "user_fixable")
    assert job.error_message == "mus may not change A/1.mp3: its folder is read-only"
    assert await entries(library) == []
    assert not list(library.runtime.settings.data_dir.glob("trash/**/*.mp3"))
    assert (await by_id(library, ids["A/1.mp3"])).status == "PENDING"


async def test_a_track_stays_in_the_trash_of_a_library_that_has_become_read_only(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "A/1.mp3", "2.mp3")
        result_of(await deleted(music, ids["A/1.mp3"]))
        lying = in_trash(music)
        await make_old(music, days=31)
        with read_only(music.root):
            restoring = await restored(music, ids["A/1.mp3"])
    with read_only(music.root):
        async with worker_of(music.runtime, [Queue.LOW]):
            purged = result_of(await music.run("purge_trash", Queue.LOW))
    assert (restoring.state, restoring.error_category) == ("failed", "user_fixable")
    assert restoring.error_message == "mus may not change A/1.mp3: its folder is read-only"
    assert purged == {"purged": 0}
    assert in_trash(music) == lying
    assert [entry.state for entry in await entries(music)] == ["trashed"]
    async with worker_of(music.runtime):
        result_of(await restored(music, ids["A/1.mp3"]))
    assert (music.root / "A/1.mp3").is_file()


async def test_where_the_root_takes_no_trash_folder_the_data_folder_does(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    (library.root / ".mus-trash").write_bytes(b"a file in its place")
    result_of(await deleted(library, ids["A/1.mp3"]))
    [entry] = await entries(library)
    assert entry.trash_path.startswith(os.fsencode(library.runtime.settings.data_dir))
    result_of(await restored(library, ids["A/1.mp3"]))
    assert (library.root / "A/1.mp3").is_file()


async def test_a_library_on_another_disk_than_its_trash_goes_there_and_back(
    runtime: Runtime, other_disk: Path
) -> None:
    library = await new_library(runtime, other_disk / "music")
    async with worker_of(runtime):
        ids = await scanned(library, "A/1.mp3", "2.mp3")
        (library.root / ".mus-trash").write_bytes(b"a file in its place")
        owner = (1234, 5678) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        os.chown(library.root / "A/1.mp3", *owner)
        os.chmod(library.root / "A/1.mp3", 0o640)
        content = (library.root / "A/1.mp3").read_bytes()
        result_of(await deleted(library, ids["A/1.mp3"]))
        [entry] = await entries(library)
        assert os.stat(entry.trash_path).st_dev != library.root.stat().st_dev
        assert Path(os.fsdecode(entry.trash_path)).read_bytes() == content
        assert os.listdir(library.root / "A") == []
        result_of(await restored(library, ids["A/1.mp3"]))
        assert (library.root / "A/1.mp3").read_bytes() == content
        assert os.listdir(library.root / "A") == ["1.mp3"]
        found = (library.root / "A/1.mp3").stat()
        assert ((found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode)) == (owner, 0o640)
        assert not os.path.lexists(entry.trash_path)
        assert counts_in(await library.scan()) == counts(found=2, unchanged=2)


@pytest.fixture
def disks(tmp_path: Path, other_disk: Path) -> tuple[Path, Path]:
    """A library's root, and a trash folder on another disk."""
    root = tmp_path / "root"
    root.mkdir()
    return root, other_disk


def files_in(*folders: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


def test_a_file_that_appears_while_another_is_copied_to_its_place_is_not_replaced(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, trash = disks
    (trash / "7-1.mp3").write_bytes(b"old")
    keep = moves.keep_attributes

    def be_overtaken(source: int, target: int) -> None:
        keep(source, target)
        (root / "1.mp3").write_bytes(b"a newer download")

    monkeypatch.setattr(moves, "keep_attributes", be_overtaken)
    with pytest.raises(FileExistsError):
        trash_files.move_back(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
    assert files_in(root, trash) == {"1.mp3": b"a newer download", "7-1.mp3": b"old"}


@pytest.mark.parametrize("moment", ["keep_attributes", "names_to_disk"])
def test_a_file_that_is_changed_while_it_is_copied_to_another_disk_stays(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    root, trash = disks
    (root / "1.mp3").write_bytes(b"music")
    was = (root / "1.mp3").stat()
    real = getattr(moves, moment)

    def be_overtaken(*descriptors: int) -> None:
        real(*descriptors)
        # As a tag editor does that keeps times, in the room that the tags have.
        (root / "1.mp3").write_bytes(b"MUSIC")
        os.utime(root / "1.mp3", ns=(was.st_atime_ns, was.st_mtime_ns))

    monkeypatch.setattr(moves, moment, be_overtaken)
    with pytest.raises(moves.ChangedMeanwhileError):
        trash_files.move_into_trash(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
    assert files_in(root, trash) == {"1.mp3": b"MUSIC"}
    monkeypatch.undo()
    trash_files.move_into_trash(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
    assert files_in(root, trash) == {"7-1.mp3": b"MUSIC"}


def test_a_file_that_another_takes_the_name_of_while_it_is_copied_does_not_take_that_one_along(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, trash = disks
    (root / "1.mp3").write_bytes(b"music")
    (root / "new").write_bytes(b"another")
    keep = moves.keep_attributes

    def be_overtaken(source: int, target: int) -> None:
        keep(source, target)
        os.replace(root / "new", root / "1.mp3")

    monkeypatch.setattr(moves, "keep_attributes", be_overtaken)
    with pytest.raises(moves.ChangedMeanwhileError):
        trash_files.move_into_trash(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
    assert files_in(root, trash) == {"1.mp3": b"another"}


def test_the_only_copy_stays_where_the_file_was_removed_meanwhile_and_the_disk_fails(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, trash = disks
    (root / "1.mp3").write_bytes(b"music")

    def fail(folder: int) -> None:
        (root / "1.mp3").unlink()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(moves, "names_to_disk", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        trash_files.move_into_trash(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
    assert files_in(root, trash) == {"7-1.mp3": b"music"}


def test_a_full_disk_keeps_nothing_of_a_copy(disks: tuple[Path, Path]) -> None:
    root, trash = disks
    (root / "1.mp3").write_bytes(bytes(1024 * 1024))
    with full_disk(trash):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            trash_files.move_into_trash(bytes(root), b"1.mp3", bytes(trash / "7-1.mp3"), "a job")
        assert os.listdir(trash) == ["filler.bin"]
    assert (root / "1.mp3").stat().st_size == 1024 * 1024


@pytest.mark.parametrize("ending", ["cancel", "hand back"])
@pytest.mark.parametrize("task", ["delete_track_by_id", "restore_track_by_id"])
async def test_a_job_that_is_stopped_while_it_copies_to_another_disk_ends_the_move_and_tells_so(
    runtime: Runtime, other_disk: Path, monkeypatch: pytest.MonkeyPatch, task: str, ending: str
) -> None:
    library = await new_library(runtime, other_disk / "music")
    async with worker_of(runtime):
        ids = await scanned(library, "A/1.mp3", "2.mp3")
        (library.root / ".mus-trash").write_bytes(b"a file in its place")
        if task == "restore_track_by_id":
            result_of(await deleted(library, ids["A/1.mp3"]))
    at_it, is_stopped = threading.Event(), threading.Event()
    keep, stop = moves.keep_attributes, RunningJob.stop

    def wait_to_be_stopped(source: int, target: int) -> None:
        at_it.set()
        assert is_stopped.wait(20)
        keep(source, target)

    def stop_and_go_on(job: RunningJob, reason: StopReason) -> None:
        stop(job, reason)
        is_stopped.set()

    monkeypatch.setattr(moves, "keep_attributes", wait_to_be_stopped)
    monkeypatch.setattr(RunningJob, "stop", stop_and_go_on)

    async def copies() -> bool:
        return at_it.is_set()

    async with worker_of(runtime):
        job_id = await library.enqueue(task, track_id=ids["A/1.mp3"])
        await until(copies, what="the copy")
        if ending == "cancel":
            async with runtime.database.unit_of_work():
                await steering.cancel(runtime.connection.ledger, job_id)
            assert (await library.ended(job_id)).state == "cancelled"
    if ending == "hand back":
        assert (await library.job(job_id)).state == "queued"
        async with worker_of(runtime):
            result_of(await library.ended(job_id))
    is_back = task == "restore_track_by_id"
    assert (library.root / "A/1.mp3").exists() is is_back
    assert os.listdir(library.root / "A") == ["1.mp3"] * is_back
    assert [entry.state for entry in await entries(library)] == ["trashed"] * (not is_back)
    trash = runtime.settings.data_dir / "trash" / str(library.id)
    assert os.listdir(trash) == [f"{ids['A/1.mp3']}-1.mp3"] * (not is_back)
    assert (await by_id(library, ids["A/1.mp3"])).status == ("PENDING" if is_back else "TRASHED")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "step"),
    [("delete_track_by_id", step) for step in DELETE_STEPS]
    + [("restore_track_by_id", step) for step in RESTORE_STEPS],
)
async def test_a_worker_killed_at_any_step_between_two_disks_loses_no_file_and_leaves_nothing_behind(
    runtime: Runtime, settings: Settings, other_disk: Path, task: str, step: str
) -> None:
    library = await new_library(runtime, other_disk / "music")
    async with worker_of(runtime):
        ids = await scanned(library, "A/1.mp3", "2.mp3")
        before = await library.identities()
        content = (library.root / "A/1.mp3").read_bytes()
        (library.root / ".mus-trash").write_bytes(b"a file in its place")
        if task == "restore_track_by_id":
            result_of(await deleted(library, ids["A/1.mp3"]))
    with doomed_process(settings, EDIT_WORKER, step) as worker:
        job_id = await library.enqueue(task, track_id=ids["A/1.mp3"])
        await until(lambda: dead(worker), what="the worker's death")
        assert worker.returncode == -signal.SIGKILL
    trash = runtime.settings.data_dir / "trash" / str(library.id)
    if step == "both names across disks":
        assert list(files_in(library.root / "A", trash).values()) == [content, content]
    async with worker_of(runtime):
        result_of(await library.ended(job_id))
    lie = {"1.mp3": content} if task == "restore_track_by_id" else {f"{ids['A/1.mp3']}-1.mp3": content}
    assert files_in(library.root / "A", trash) == lie
    if task == "delete_track_by_id":
        assert (await by_id(library, ids["A/1.mp3"])).status == "TRASHED"
    else:
        assert await library.identities() == before
        assert await entries(library) == []


# ------------------------------------------------------------------ errors that tell nothing


@pytest.mark.parametrize(("name", "number"), LOST)
def test_a_move_whose_answer_was_lost_is_seen_for_what_it_is_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    root, trash = bytes(tmp_path), tmp_path / ".mus-trash"
    trash.mkdir()
    source, trash_path = tmp_path / "1.mp3", trash / "7-1.mp3"
    source.write_bytes(b"music")
    seen = True if name == "unlink" else None
    lose_answer(monkeypatch, name, number, of=b"1.mp3")
    with pytest.raises(OSError, match=os.strerror(number)):
        trash_files.move_into_trash(root, b"1.mp3", bytes(trash_path), "a job")
    assert trash_files.is_in_trash(bytes(source), bytes(trash_path)) is seen
    trash_files.move_into_trash(root, b"1.mp3", bytes(trash_path), "a job")
    assert files_in(trash) == {"7-1.mp3": b"music"}
    assert not source.exists()
    lose_answer(monkeypatch, name, number, of=b"7-1.mp3")
    with pytest.raises(OSError, match=os.strerror(number)):
        trash_files.move_back(root, b"1.mp3", bytes(trash_path), "a job")
    assert trash_files.is_restored(bytes(trash_path), bytes(source)) is seen
    trash_files.move_back(root, b"1.mp3", bytes(trash_path), "a job")
    assert files_in(trash) == {}
    assert source.read_bytes() == b"music"


@pytest.mark.parametrize("task", ["delete_track_by_id", "restore_track_by_id"])
async def test_a_job_that_hears_an_error_of_a_move_that_happened_goes_on(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    before = await library.identities()
    if task == "restore_track_by_id":
        await deleted(library, ids["A/1.mp3"])
    name = "move_into_trash" if task == "delete_track_by_id" else "move_back"
    move = getattr(trash, name)

    def moved_but_unanswered(*arguments: Any) -> None:
        move(*arguments)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(trash, name, moved_but_unanswered)
    result_of(await library.run(task, track_id=ids["A/1.mp3"]))
    if task == "restore_track_by_id":
        assert await library.identities() == before
        assert await entries(library) == []
    else:
        assert [entry.state for entry in await entries(library)] == ["trashed"]
        assert (await by_id(library, ids["A/1.mp3"])).status == "TRASHED"


async def test_a_deletion_that_cannot_tell_where_its_file_is_keeps_its_intent(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3", "B/3.mp3")
    target = await intend(library, ids["A/1.mp3"], "A/1.mp3")
    os.rename(library.root / "A/1.mp3", target)
    # The trash folder is away, and what it holds.
    os.rename(target.parent, library.root / ".away")
    job_id = await library.enqueue("delete_track_by_id", track_id=ids["A/1.mp3"])
    job = await library.in_state(job_id, "retrying")
    assert "is not on this machine" in str(job.error_message)
    assert [entry.state for entry in await entries(library)] == ["moving"]
    os.rename(library.root / ".away", target.parent)
    result_of(await deleted(library, ids["A/1.mp3"]))
    assert (await by_id(library, ids["A/1.mp3"])).status == "TRASHED"
    assert in_trash(library) == [target.name]


async def test_the_intent_of_a_deletion_whose_file_somebody_took_away_is_forgotten(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    await intend(library, ids["A/1.mp3"], "A/1.mp3")
    (library.root / "A/1.mp3").unlink()
    job = await deleted(library, ids["A/1.mp3"])
    assert (job.state, job.error_message) == ("failed", "A/1.mp3 is not there any more")
    assert await entries(library) == []


async def test_a_file_that_is_in_the_trash_has_its_entry_though_another_job_forgot_the_intent(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    loop, move = asyncio.get_running_loop(), trash.move_into_trash

    async def forget() -> None:
        async with library.runtime.database.unit_of_work() as work:
            await work.session.execute(delete(TrashEntry))

    def be_forgotten(*arguments: Any) -> None:
        asyncio.run_coroutine_threadsafe(forget(), loop).result(20)
        move(*arguments)

    monkeypatch.setattr(trash, "move_into_trash", be_forgotten)
    result_of(await deleted(library, ids["1.mp3"]))
    [entry] = await entries(library)
    assert (entry.state, os.path.exists(entry.trash_path)) == ("trashed", True)
    result_of(await restored(library, ids["1.mp3"]))
    assert (library.root / "1.mp3").exists()
