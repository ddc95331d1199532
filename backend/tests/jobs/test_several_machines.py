"""Machines that share database and broker, each with the music in another folder and with numbers of its own.

The second machine has a copy on another file system: other inodes, ctimes and device numbers, as on a share.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from music_library import MusicLibrary, counts, counts_in, result_of, worker_of
from old_trash import make_old

from audio_files import write_library
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.errors import ConflictError
from mus.persistence.libraries import all_libraries, ensure_library
from mus.persistence.work_lists import PARTS

NAMES = ("A/1.mp3", "A/2.flac", "B/3.ogg")
#: A name that is not UTF-8; it has no tags, which cannot hold it.
ODD = "B/caf\udce9.wav"


class Machine:
    """A machine whose music is in `root`, for the library of another one."""

    def __init__(self, music: MusicLibrary, root: Path, data_dir: Path) -> None:
        root_map = "=".join(quote(os.fsencode(folder)) for folder in (music.root, root))
        settings = music.runtime.settings.model_copy(update={"root_map": root_map, "data_dir": data_dir})
        runtime: Runtime = replace(music.runtime, settings=settings)
        self.library = MusicLibrary(runtime, music.id, root)

    async def scans(self, **arguments: Any) -> dict[str, int]:
        async with worker_of(self.library.runtime):
            return counts_in(await self.library.scan(**arguments))


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    shared_memory = Path("/dev/shm")
    if not os.access(shared_memory, os.W_OK) or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write on")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


@pytest.fixture
def first(music: MusicLibrary, tmp_path: Path) -> Machine:
    """The machine whose folder is the stored root."""
    return Machine(music, music.root, tmp_path / "data")


@pytest.fixture
def second(music: MusicLibrary, other_disk: Path, tmp_path: Path) -> Machine:
    return Machine(music, other_disk / "nas, music", tmp_path / "second data")


def write_music(machine: Machine) -> None:
    machine.library.write(*NAMES)
    write_library(machine.library.root, {ODD: None})


def share(one: Machine, other: Machine) -> None:
    """What `one` has now, `other` sees too: same names, sizes and mtimes."""
    shutil.rmtree(other.library.root, ignore_errors=True)
    shutil.copytree(one.library.root, other.library.root, symlinks=True)
    one_file, other_file = (
        next(path for path in sorted(machine.library.root.rglob("*")) if path.is_file()) for machine in (one, other)
    )
    assert one_file.stat().st_mtime_ns == other_file.stat().st_mtime_ns
    assert one_file.stat().st_dev != other_file.stat().st_dev


# ------------------------------------------------------------------ scans in turns


async def test_machines_that_scan_in_turns_find_everything_unchanged(first: Machine, second: Machine) -> None:
    write_music(first)
    share(first, second)
    assert await first.scans() == counts(found=4, added=4)
    before = await first.library.identities()
    for machine in (second, first, second, second, first):
        assert await machine.scans() == counts(found=4, unchanged=4)
    assert await first.library.identities() == before


async def test_a_change_that_one_machine_has_read_is_not_read_by_the_other(first: Machine, second: Machine) -> None:
    write_music(first)
    share(first, second)
    await first.scans()
    first.library.write("A/1.mp3", "A/new.mp3", seconds=0.4)
    share(first, second)
    assert await second.scans() == counts(found=5, added=1, updated=1, unchanged=3)
    assert await first.scans() == counts(found=5, unchanged=5)


async def test_a_file_that_was_renamed_keeps_its_id_whichever_machine_finds_it(
    first: Machine, second: Machine
) -> None:
    write_music(first)
    share(first, second)
    await first.scans()
    await second.scans()
    ids = {path: identity[0] for path, identity in (await first.library.identities()).items()}
    for machine in (first, second):
        (machine.library.root / "A/1.mp3").rename(machine.library.root / "B/moved.mp3")
    assert await second.scans() == counts(found=4, moved=1, unchanged=3)
    assert await first.scans() == counts(found=4, unchanged=4)
    assert (await first.library.track("B/moved.mp3")).id == ids["A/1.mp3"]


async def test_a_file_that_is_gone_is_missing_though_another_machine_has_read_it(
    first: Machine, second: Machine
) -> None:
    write_music(first)
    share(first, second)
    await first.scans()
    for machine in (first, second):
        (machine.library.root / "B/3.ogg").unlink()
    assert await second.scans() == counts(found=3, missing=1, unchanged=3)
    assert (await first.library.statuses())["B/3.ogg"] == "MISSING"
    assert await first.scans() == counts(found=3, unchanged=3)


async def test_a_watched_deletion_counts_on_a_machine_that_never_scanned(first: Machine, second: Machine) -> None:
    write_music(first)
    share(first, second)
    await first.scans()
    (second.library.root / "A/1.mp3").unlink()
    async with worker_of(second.library.runtime):
        result = await second.library.change("process_file_deletion", "A/1.mp3")
    assert result["missing"] == 1
    assert (await first.library.statuses())["A/1.mp3"] == "MISSING"


# ------------------------------------------------------------------ a machine without the music


@pytest.mark.parametrize("is_there", [False, True], ids=["no folder", "empty folder"])
async def test_a_machine_without_the_music_marks_nothing_missing(
    first: Machine, second: Machine, *, is_there: bool
) -> None:
    write_music(first)
    await first.scans()
    before = await first.library.statuses()
    if is_there:
        second.library.root.mkdir()
    async with worker_of(second.library.runtime):
        scan = await second.library.failed_scan()
        change = await second.library.run(
            "process_file_deletion", library_id=second.library.id, paths=["A/1.mp3", "A"]
        )
    for job in (scan, change):
        assert (job.state, job.error_category) == ("failed", "admin_required")
        assert str(second.library.root) in (job.error_message or ""), (
            "the folder of the machine that is to mount it"
        )
    assert await first.library.statuses() == before
    assert await first.scans() == counts(found=4, unchanged=4)
    assert (await first.library.row()).online


async def test_a_machine_with_another_disk_at_the_folder_marks_nothing_missing(
    first: Machine, second: Machine
) -> None:
    write_music(first)
    await first.scans()
    second.library.write("Other/9.mp3")
    async with worker_of(second.library.runtime):
        scan = await second.library.failed_scan()
    assert "Another disk" in (scan.error_message or "")
    statuses = await first.library.statuses()
    assert {statuses[name] for name in (*NAMES, ODD)} == {"PENDING"}


# ------------------------------------------------------------------ files that are touched


async def test_a_track_is_deleted_and_restored_by_machines_that_know_the_folder_by_different_names(
    first: Machine, music: MusicLibrary, tmp_path: Path
) -> None:
    write_music(first)
    await first.scans()
    (tmp_path / "mnt").symlink_to(music.root)
    second = Machine(music, tmp_path / "mnt", tmp_path / "second data")
    track_id = (await first.library.track("A/1.mp3")).id
    async with worker_of(second.library.runtime):
        result_of(await second.library.run("delete_track_by_id", track_id=track_id))
    assert not (music.root / "A/1.mp3").exists()
    async with worker_of(first.library.runtime):
        result_of(await first.library.run("restore_track_by_id", track_id=track_id))
        result_of(await first.library.run("delete_track_by_id", track_id=track_id))
    await make_old(music, days=31)
    async with worker_of(second.library.runtime, [Queue.LOW]):
        purge = await second.library.run("purge_trash", Queue.LOW)
    assert result_of(purge) == {"purged": 1}
    assert os.listdir(music.root / ".mus-trash") == []


async def test_a_machine_analyses_what_another_has_scanned(first: Machine, second: Machine) -> None:
    write_music(first)
    share(first, second)
    await first.scans()
    shutil.rmtree(first.library.root)
    async with worker_of(second.library.runtime, [Queue.LOW]):
        for part in range(PARTS):
            await second.library.run("process_slow_metadata", Queue.LOW, part=part)
    assert set((await second.library.statuses()).values()) == {"COMPLETE"}


# ------------------------------------------------------------------ which library a folder is


async def test_a_mapped_folder_is_the_library_by_either_of_its_names(music: MusicLibrary, second: Machine) -> None:
    roots = second.library.runtime.settings.roots
    for name in (second.library.root, music.root):
        library = await ensure_library(music.runtime.database, name, roots)
        assert (library.id, library.root) == (music.id, os.fsencode(second.library.root))
        assert library.stored_root == os.fsencode(music.root)


async def test_a_folder_that_is_not_mapped_is_refused_with_the_setting_that_helps(
    music: MusicLibrary, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="MUS_ROOT_MAP") as refused:
        await ensure_library(music.runtime.database, tmp_path / "elsewhere", music.runtime.settings.roots)
    assert str(music.root) in refused.value.user_message


async def test_the_machine_that_comes_first_stores_the_root_that_all_know(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    settings = runtime.settings.model_copy(update={"root_map": f"/srv/music={tmp_path}/mnt"})
    library = await ensure_library(runtime.database, tmp_path / "mnt", settings.roots)
    async with runtime.database.reading() as session:
        [row] = await all_libraries(session)
    assert (row.root, library.root) == (b"/srv/music", os.fsencode(tmp_path / "mnt"))
