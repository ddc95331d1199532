"""A library that lost its disk is offline, not deleted (DESIGN §5)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from music_library import MusicLibrary, as_arguments, counts, counts_in

from mus.persistence.models import Job

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Another, empty file system at `folder`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def assert_offline(library: MusicLibrary, job: Job, *, because: str) -> None:
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert because in str(job.error_message)
    row = await library.row()
    assert not row.online
    assert row.offline_reason == job.error_message
    assert "MISSING" not in (await library.statuses()).values(), "nothing was removed"


async def test_an_empty_root_is_offline_until_its_files_are_back(library: MusicLibrary, tmp_path: Path) -> None:
    library.write("A/1.mp3", "2.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root, tmp_path / "elsewhere")
    library.root.mkdir()
    (library.root / "lost+found").mkdir()
    await assert_offline(library, await library.failed_scan(), because="is empty, though it had tracks")
    library.root.joinpath("lost+found").rmdir()
    library.root.rmdir()
    os.rename(tmp_path / "elsewhere", library.root)
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    assert (await library.row()).online
    assert await library.identities() == before


async def test_an_empty_root_that_a_person_confirms_is_an_empty_library(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "2.mp3")
    await library.scan()
    shutil.rmtree(library.root / "A")
    (library.root / "2.mp3").unlink()
    await assert_offline(library, await library.failed_scan(), because="is empty")
    assert (await library.scan(confirm_missing=True))["missing"] == 2
    assert (await library.row()).online
    assert counts_in(await library.scan()) == counts(), "an empty library has nothing to lose"


@pytest.mark.parametrize("confirm", [False, True])
async def test_a_root_that_is_gone_is_offline_whoever_confirms(library: MusicLibrary, confirm: bool) -> None:
    library.write("1.mp3")
    await library.scan()
    os.rename(library.root, library.root.with_name("away"))
    await assert_offline(
        library, await library.failed_scan(confirm_missing=confirm), because="is not there. Is its disk mounted?"
    )


async def test_a_file_in_the_place_of_the_root_is_no_library(library: MusicLibrary) -> None:
    library.root.rmdir()
    library.root.write_bytes(b"x")
    await assert_offline(library, await library.failed_scan(), because="is a file, not a music folder")


async def test_half_a_large_library_gone_at_once_removes_nothing_until_confirmed(library: MusicLibrary) -> None:
    library.write_many(60, "Gone")
    library.write_many(40, "Here")
    await library.scan()
    os.rename(library.root / "Gone", library.root / ".gone")
    library.write("Here/new.mp3")
    await assert_offline(library, await library.failed_scan(), because="60 of 101 tracks are gone at once")
    assert "Here/new.mp3" in await library.identities(), "what is there is listed all the same"
    os.rename(library.root / ".gone", library.root / "Gone")
    assert (await library.scan())["unchanged"] == 101
    assert (await library.row()).online
    shutil.rmtree(library.root / "Gone")
    assert (await library.failed_scan()).error_category == "admin_required"
    assert (await library.scan(confirm_missing=True))["missing"] == 60
    assert (await library.row()).online


async def test_a_loss_that_was_confirmed_does_not_count_against_the_next_one(library: MusicLibrary) -> None:
    library.write_many(60, "Gone")
    library.write_many(40, "Here")
    await library.scan()
    shutil.rmtree(library.root / "Gone")
    await library.scan(confirm_missing=True)
    (library.root / "Here/0007.wav").unlink()
    assert (await library.scan())["missing"] == 1


@pytest.mark.parametrize(("lost", "kept"), [(49, 10), (50, 50)])
async def test_fewer_than_fifty_or_no_more_than_half_are_missing_as_usual(
    library: MusicLibrary, lost: int, kept: int
) -> None:
    library.write_many(lost, "Gone")
    library.write_many(kept, "Here")
    await library.scan()
    shutil.rmtree(library.root / "Gone")
    assert (await library.scan())["missing"] == lost


async def test_a_scan_of_a_folder_does_not_bring_an_offline_library_back(library: MusicLibrary) -> None:
    library.write_many(60, "Gone")
    library.write_many(10, "Here")
    await library.scan()
    os.rename(library.root / "Gone", library.root / ".gone")
    await library.failed_scan()
    await library.scan(path="Here")
    assert not (await library.row()).online


async def test_losses_that_several_jobs_report_count_together(library: MusicLibrary) -> None:
    names = library.write_many(100)
    await library.scan()
    shutil.rmtree(library.root / "Album")
    library.write("other.mp3")
    ids = [
        await library.enqueue(
            "process_file_deletion", library_id=library.id, paths=as_arguments(*names[start : start + 10])
        )
        for start in range(0, 100, 10)
    ]
    jobs = [await library.ended(job_id) for job_id in ids]
    assert sorted({job.state for job in jobs}) == ["failed", "succeeded"]
    missing = [path for path, status in (await library.statuses()).items() if status == "MISSING"]
    assert len(missing) <= 50, "never more than half, however the jobs meet"
    assert len(missing) == 10 * sum(job.state == "succeeded" for job in jobs)
    assert {job.error_category for job in jobs if job.state == "failed"} == {"admin_required"}
    assert not (await library.row()).online


async def test_a_watched_change_in_an_empty_root_takes_the_library_offline(library: MusicLibrary) -> None:
    library.write("A/1.mp3")
    await library.scan()
    shutil.rmtree(library.root / "A")
    job = await library.run("process_file_deletion", library_id=library.id, paths=["A/1.mp3", "A"])
    await assert_offline(library, job, because="is empty")


async def test_a_file_that_came_and_went_in_an_empty_new_library_is_no_alarm(library: MusicLibrary) -> None:
    result = await library.change("process_file_created", "1.mp3")
    assert result == {"added": 0, "updated": 0, "moved": 0, "missing": 0, "skipped": 0}
    assert (await library.row()).online


@needs_root
async def test_an_unmounted_disk_below_the_root_proves_nothing(library: MusicLibrary) -> None:
    (library.root / "usb").mkdir()
    library.write("A/1.mp3", "A/2.mp3")
    with mounted(library.root / "usb"):
        library.write("usb/3.mp3", "usb/Deep/4.mp3")
        assert (await library.scan())["added"] == 4
    (library.root / "A/2.mp3").unlink()
    result = await library.scan()
    assert counts_in(result) == counts(found=1, missing=1, unchanged=1)
    statuses = await library.statuses()
    assert (statuses["usb/3.mp3"], statuses["usb/Deep/4.mp3"]) == ("PENDING", "PENDING")
    result = await library.change("process_file_deletion", "usb/3.mp3", "usb/Deep")
    assert result["missing"] == 0
    assert (await library.scan(confirm_missing=True))["missing"] == 2, "a person may say so"


@needs_root
async def test_another_disk_without_any_of_the_tracks_is_not_the_library(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.mp3")
    await library.scan()
    with mounted(library.root):
        library.write("Else/3.mp3")
        await assert_offline(library, await library.failed_scan(), because="Another disk than before")
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)


@needs_root
async def test_a_library_copied_to_a_new_disk_is_the_same_library(library: MusicLibrary, tmp_path: Path) -> None:
    library.write("A/1.mp3", "A/2.mp3", "A/3.mp3")
    await library.scan()
    before = await library.identities()
    shutil.copytree(library.root, tmp_path / "copy")
    with mounted(library.root):
        shutil.copytree(tmp_path / "copy", library.root, dirs_exist_ok=True)
        (library.root / "A/3.mp3").unlink()
        result = await library.scan()
        assert counts_in(result) == counts(found=2, unchanged=2, missing=1)
        assert await library.identities() == {path: before[path] for path in ("A/1.mp3", "A/2.mp3")}


async def test_a_folder_that_cannot_be_listed_proves_nothing(library: MusicLibrary, tmp_path: Path) -> None:
    folder = "/".join(["d" * 200] * 10)
    library.write("A/1.mp3")
    (library.root / folder).mkdir(parents=True)
    shutil.copy(library.root / "A/1.mp3", library.root / folder / "2.mp3")
    await library.scan()
    # The same folder under a longer name: what is deep in it cannot be named any more (ENAMETOOLONG).
    far = tmp_path
    for _ in range(11):
        far = far / ("f" * 200)
    far.mkdir(parents=True)
    os.rename(library.root, far / "music")
    await library.move_root(far / "music")
    (library.root / "A/1.mp3").unlink()
    result = await library.scan()
    assert counts_in(result) == counts(missing=1)
    [(unlisted, reason)] = result["unlisted_folders"].items()
    assert folder.startswith(unlisted)
    assert reason == "File name too long"
    assert (await library.statuses())[f"{folder}/2.mp3"] == "PENDING"
    assert (await library.change("process_file_deletion", f"{folder}/2.mp3"))["missing"] == 0
