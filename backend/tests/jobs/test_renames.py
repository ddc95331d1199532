"""Giving files other names: by patterns, to other disks, on shares that lose answers, with a kill at each step."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edit_worker import EDIT_WORKER, RENAME_STEPS
from edited_tracks import edited, history, picture, renamed, undone
from lost_answers import LOST, lose_answer
from music_library import MusicLibrary, counts, counts_in, result_of, scanned, worker_of
from sqlalchemy import update

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.config import Settings
from mus.jobs import renames
from mus.library.beside import ChangedMeanwhileError
from mus.library.file_reading import FileStat
from mus.persistence.models import Edit, Job, Track
from names_without_case import case_ignored
from other_disks import bound
from waiting import until
from worker_processes import dead, doomed_process

#: What is between the steps is the file system's alone.
sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])


async def test_a_pattern_names_files_and_tracks_stay_theirs(library: MusicLibrary) -> None:
    tags = {"title": "Sinner/man: a?", "artist": "Nina", "album": "..", "tracknumber": "3", "date": "1965"}
    make_audio(library.root / "new/x.mp3", seconds=0.2, tags=tags)
    (library.root / "new/cover.jpg").write_bytes(picture(1))
    ids = await scanned(library, "other.mp3")
    before = await library.identities()
    pattern = "{album_artist}/{album} ({year})/{track:02} - {title}[ {composer}]"
    assert await renamed(library, pattern, ids["new/x.mp3"]) == {"renamed": 1, "failures": []}
    path = "Nina/__ (1965)/03 - Sinner_man_ a_.mp3"
    assert (await library.identities())[path] == before["new/x.mp3"]
    assert (library.root / path).is_file()
    assert os.listdir(library.root / "new") == ["cover.jpg"], "what lies beside it stays"
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    [edit] = await history(library)
    result_of(await undone(library, edit.id))
    assert (await library.identities())["new/x.mp3"] == before["new/x.mp3"]
    assert not (library.root / "Nina").exists(), "folders that mus emptied are gone"


async def test_a_name_that_is_taken_is_refused_and_chains_of_names_are_followed(library: MusicLibrary) -> None:
    for name, title in (
        ("a.mp3", "b"),
        ("b.mp3", "c"),
        ("c.mp3", "d"),
        ("x.mp3", "E"),
        ("e.mp3", "y2"),
        ("z.mp3", "y2"),
    ):
        make_audio(library.root / name, seconds=0.2, tags={"title": title})
    ids = await scanned(library, "only.mp3")
    chain = [ids[name] for name in ("a.mp3", "b.mp3", "c.mp3")]
    assert await renamed(library, "{title}", *chain) == {"renamed": 3, "failures": []}
    assert [path for path, track in (await library.tracks()).items() if track.id in chain] != []
    assert {path: track.id for path, track in (await library.tracks()).items() if track.id in chain} == {
        "b.mp3": ids["a.mp3"], "c.mp3": ids["b.mp3"], "d.mp3": ids["c.mp3"],
    }  # fmt: skip
    # "E.mp3" beside "e.mp3": one file on many file systems.
    refused = await renamed(library, "{title}", ids["x.mp3"])
    assert "There is another file at E.mp3" in refused["error"]
    twice = await renamed(library, "{title}", ids["e.mp3"], ids["z.mp3"])
    assert (twice["renamed"], twice["failed"]) == (1, 1)
    assert (library.root / "z.mp3").exists()


async def test_a_name_may_change_in_case_alone(library: MusicLibrary) -> None:
    make_audio(library.root / "sinnerman.mp3", seconds=0.2, tags={"title": "Sinnerman"})
    ids = await scanned(library, "2.mp3")
    assert await renamed(library, "{title}", ids["sinnerman.mp3"]) == {"renamed": 1, "failures": []}
    assert sorted(os.listdir(library.root)) == ["2.mp3", "Sinnerman.mp3"]


async def test_a_pattern_and_a_link_lead_nowhere_else(library: MusicLibrary, tmp_path: Path) -> None:
    make_audio(library.root / "1.mp3", seconds=0.2, tags={"title": "../../x\0y", "album": "t" * 300})
    ids = await scanned(library, "2.mp3")
    assert (await renamed(library, "{album}/{title}", ids["1.mp3"]))["renamed"] == 1
    [path] = [path for path in await library.tracks() if path != "2.mp3"]
    assert path == "t" * 255 + "/_.._.._x.mp3" or path.count("/") == 1
    (tmp_path / "outside").mkdir()
    (library.root / "L").symlink_to(tmp_path / "outside")
    refused = await renamed(library, "L/{title}", ids["2.mp3"])
    assert "could not be written" in refused["error"]
    assert os.listdir(tmp_path / "outside") == []


async def test_a_file_is_carried_to_another_file_system_of_the_library(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    content, before = (library.root / "1.mp3").read_bytes(), await library.identities()
    (library.root / "Disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", library.root / "Disk"], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        assert await renamed(library, "Disk/{title}", ids["1.mp3"]) == {"renamed": 1, "failures": []}
        assert (library.root / "Disk/1.mp3").read_bytes() == content
        assert (await library.identities())["Disk/1.mp3"] == before["1.mp3"]
        assert not (library.root / "1.mp3").exists()
        assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    finally:
        subprocess.run(["umount", library.root / "Disk"], check=True)


async def test_a_file_that_may_not_leave_its_folder_gets_no_second_name(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3")
    subprocess.run(["chattr", "+i", library.root / "A"], check=False, capture_output=True)
    try:
        (library.root / "A/x").touch()
    except PermissionError:
        refused = await renamed(library, "B/{title}", ids["A/1.mp3"])
    else:
        pytest.skip("no folder can be made immutable here")
    finally:
        subprocess.run(["chattr", "-i", library.root / "A"], check=False, capture_output=True)
    assert "mus may not change A/1.mp3: its folder is read-only" in refused["error"]
    assert sorted(str(path.relative_to(library.root)) for path in library.root.rglob("*")) == ["A", "A/1.mp3"]


async def test_a_file_system_that_cannot_sync_folders_loses_no_history(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await scanned(library, "1.mp3")
    fsync = os.fsync

    def of_files_alone(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    assert await edited(library, ids["1.mp3"], "A/{title}", title="Sinnerman") == {"edited": 1, "renamed": 1}
    assert [edit.state for edit in await history(library)] == ["done", "done"]


@pytest.mark.slow
@sqlite_only
@pytest.mark.parametrize("step", RENAME_STEPS)
async def test_a_worker_killed_at_any_step_of_a_rename_loses_no_file(
    music: MusicLibrary, settings: Settings, step: str
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "A/1.mp3", "A/2.mp3")
    content = (music.root / "A/1.mp3").read_bytes()
    with doomed_process(settings, EDIT_WORKER, step) as worker:
        arguments: dict[str, Any] = {"changes": {}, "rename_pattern": "B/{title}"}
        job_id = await music.enqueue("edit_track", track_id=ids["A/1.mp3"], **arguments)
        await until(lambda: dead(worker), what="the worker's death")
        assert worker.returncode == -signal.SIGKILL
    places = [path for path in ("A/1.mp3", "B/1.mp3") if (music.root / path).exists()]
    assert places
    assert all((music.root / path).read_bytes() == content for path in places)
    async with worker_of(music.runtime):
        assert result_of(await music.ended(job_id)) == {"renamed": 1}
        assert counts_in(await music.scan()) == counts(found=2, unchanged=2)
    assert (await music.track("B/1.mp3")).id == ids["A/1.mp3"]
    assert not (music.root / "A/1.mp3").exists()
    assert [edit.state for edit in await history(music)] == ["done"]


# ------------------------------------------------------------------------------------------------ broken off


@sqlite_only
@pytest.mark.parametrize(("name", "number"), LOST)
async def test_a_rename_whose_answer_was_lost_is_told_for_what_it_is(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    ids = await scanned(library, "A/1.mp3", "2.mp3")
    before = await library.identities()
    was_lost = lose_answer(monkeypatch, name, number, of=b"1.mp3")
    assert await renamed(library, "B/{title}", ids["A/1.mp3"]) == {"renamed": 1, "failures": []}
    assert was_lost
    assert sorted(path.name for path in library.root.iterdir()) == ["2.mp3", "B"], "the emptied folder is gone"
    assert os.listdir(library.root / "B") == ["1.mp3"]
    assert (await library.identities())["B/1.mp3"] == before["A/1.mp3"]
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    result_of(await undone(library, *[edit.id for edit in await history(library)]))
    assert await library.identities() == before


@sqlite_only
async def test_a_change_of_case_alone_that_a_disk_which_ignores_case_refuses_is_refused_and_over(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_audio(library.root / "sinnerman.mp3", seconds=0.2, tags={"title": "Sinnerman"})
    ids = await scanned(library, "2.mp3")

    def refuse(*_: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(renames, "move", refuse)
    with case_ignored(library.root):
        refused = await renamed(library, "{title}", ids["sinnerman.mp3"])
    assert "mus may not change sinnerman.mp3: its folder is read-only" in refused["error"]
    assert await history(library) == []
    assert (library.root / "sinnerman.mp3").exists()


@pytest.fixture
def disk(music: MusicLibrary, other_disk: Path) -> Iterator[Path]:
    """Another disk in the library, at `Disk`."""
    (music.root / "Disk").mkdir()
    with bound(other_disk, music.root / "Disk"):
        yield music.root / "Disk"


@sqlite_only
@pytest.mark.parametrize("another", [True, False])
async def test_the_old_name_of_a_file_goes_only_when_the_other_disk_holds_what_is_in_it(
    music: MusicLibrary, disk: Path, *, another: bool
) -> None:
    async with worker_of(music.runtime, [*Queue]):
        ids = await scanned(music, "1.mp3", "2.mp3")
        assert (await renamed(music, "Disk/{title}", ids["1.mp3"]))["renamed"] == 1
        # As if its worker had died before the old name went; or before the copy, and somebody else's file came.
        content = (disk / "1.mp3").read_bytes()
        shutil.copy2(disk / "1.mp3", music.root)
        if another:
            times = (disk / "1.mp3").stat()
            (disk / "1.mp3").write_bytes(bytes(reversed(content)))
            os.utime(disk / "1.mp3", ns=(times.st_atime_ns, times.st_mtime_ns))
        source = FileStat.of((music.root / "1.mp3").stat())
        await music.set_tracks(Track.id == ids["1.mp3"], path=b"1.mp3", **source._asdict())
        async with music.runtime.database.unit_of_work() as work:
            values = {"state": "writing", "finished_at": None, "versions": {"source": source.as_json()}}
            await work.session.execute(update(Edit).values(values))
        assert result_of(await music.run("edit_upkeep", Queue.LOW))["settled"] == 1
        assert (music.root / "1.mp3").exists() == another
        assert (disk / "1.mp3").read_bytes() == (bytes(reversed(content)) if another else content)
        assert [edit.state for edit in await history(music)] == ["done"] * (not another)


@sqlite_only
@pytest.mark.parametrize("moment", ["is_same_content", "names_to_disk"])
async def test_a_file_that_is_edited_while_the_end_of_its_copy_is_settled_stays(
    music: MusicLibrary, disk: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (music.root / "1.mp3").write_bytes(b"music")
    shutil.copy2(music.root / "1.mp3", disk)
    edit = Edit(path=b"1.mp3", new_path=b"Disk/1.mp3")
    edit.versions = {"source": FileStat.of((music.root / "1.mp3").stat()).as_json()}
    real = getattr(renames, moment)

    def be_overtaken(*arguments: Any) -> Any:
        result = real(*arguments)
        (music.root / "1.mp3").write_bytes(b"MUSIC")
        return result

    monkeypatch.setattr(renames, moment, be_overtaken)
    with pytest.raises(ChangedMeanwhileError):
        renames._moved_to(bytes(music.root), edit)
    assert (music.root / "1.mp3").read_bytes() == b"MUSIC"
    assert (disk / "1.mp3").read_bytes() == b"music"


@pytest.mark.slow
@sqlite_only
async def test_a_copy_to_another_disk_that_nobody_ends_leaves_nothing_behind(
    music: MusicLibrary, settings: Settings, disk: Path
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
    content = (music.root / "1.mp3").read_bytes()
    with doomed_process(settings, EDIT_WORKER, "a copy without its name") as worker:
        arguments: dict[str, Any] = {"changes": {}, "rename_pattern": "Disk/{title}"}
        job_id = await music.enqueue("edit_track", track_id=ids["1.mp3"], **arguments)
        await until(lambda: dead(worker), what="the worker's death")
    [part] = disk.iterdir()
    assert part.name.startswith(".mus-edit-")
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
    async with worker_of(music.runtime, [*Queue]):
        assert result_of(await music.run("edit_upkeep", Queue.LOW))["settled"] == 1
        assert list(disk.iterdir()) == []
        assert (music.root / "1.mp3").read_bytes() == content
        assert (await renamed(music, "Disk/{title}", ids["1.mp3"]))["renamed"] == 1
        assert [path.name for path in disk.iterdir()] == ["1.mp3"]
