"""Orphaned thumbnails: deleted once they are old, and never anything else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import pyvips
from music_library import MusicLibrary, result_of
from upkeep_jobs import low_worker, run

from api.rows import add_tracks, track
from mus.library import thumbnail_sweep
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path, write_thumbnails
from mus.library.thumbnail_sweep import shards, sweep_shard
from refusing_folders import read_only

ORPHAN, WANTED, YOUNG = "ab" + "0" * 30, "cd" + "1" * 30, "ef" + "2" * 30


def picture() -> bytes:
    return bytes(pyvips.Image.black(40, 30).write_to_buffer(".png"))


def make(folder: Path, cover: str, *, days: float = 2.0) -> list[Path]:
    """Both thumbnails of a cover, of 1,000 bytes each."""
    paths = [thumbnail_path(folder, cover, size) for size in THUMBNAIL_SIZES]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
        age(path, days)
    return paths


def age(path: Path, days: float) -> None:
    moment = time.time() - days * 86_400
    os.utime(path, (moment, moment), follow_symlinks=False)


def sweep(folder: Path, *wanted: str) -> thumbnail_sweep.Swept:
    total = thumbnail_sweep.Swept()
    for name in shards(folder):
        total.add(sweep_shard(folder, name, wanted))
    return total


async def test_thumbnails_that_no_track_refers_to_are_deleted_and_counted(music: MusicLibrary) -> None:
    folder = music.runtime.settings.thumbnails_dir
    orphans, wanted, young = make(folder, ORPHAN), make(folder, WANTED), make(folder, YOUNG, days=0.9)
    left_by_a_crash = orphans[0].with_name(f".{ORPHAN}_300.{'7' * 16}.tmp")
    left_by_a_crash.write_bytes(b"half")
    age(left_by_a_crash, 2)
    # Gone from the disk or not: a missing or trashed track comes back, and its cover with it.
    await add_tracks(
        music.runtime, track(await music.row(), cover=WANTED, status="MISSING"), track(await music.row())
    )
    async with low_worker(music.runtime):
        job = await run(music.runtime, "prune_thumbnails")
    assert result_of(job) == {"thumbnails": 2, "temporary": 1, "bytes": 2004, "kept": 4}
    assert not any(path.exists() for path in [*orphans, left_by_a_crash])
    assert all(path.exists() for path in wanted + young)


async def test_without_a_thumbnails_folder_there_is_nothing_to_do(music: MusicLibrary) -> None:
    async with low_worker(music.runtime):
        result = result_of(await run(music.runtime, "prune_thumbnails"))
    assert result == {"thumbnails": 0, "temporary": 0, "bytes": 0, "kept": 0}


def test_only_what_is_named_like_a_thumbnail_is_touched(tmp_path: Path) -> None:
    make(tmp_path, ORPHAN)
    names = ("ab/cover.jpg", f"ab/{ORPHAN}.webp", f"ab/{ORPHAN}_300.webp.bak", "ab/.tmp", f"abc/{ORPHAN}_300.webp")
    strange = [tmp_path / name for name in (*names, "notes.txt")]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        age(path, 100)
    folder = tmp_path / "ab" / f"{WANTED}_300.webp"
    folder.mkdir()
    assert sweep(tmp_path).thumbnails == 2
    assert all(path.exists() for path in [*strange, folder])


def test_links_are_not_followed_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "thumbnails"
    victims = make(outside, ORPHAN)
    folder.mkdir()
    (folder / "ab").symlink_to(outside / "ab")
    (folder / "cd").mkdir()
    link = folder / "cd" / f"{ORPHAN}_300.webp"
    link.symlink_to(victims[0])
    age(link, 100)
    assert shards(folder) == ["cd"]
    with pytest.raises(OSError, match="ab"):  # it became a link after the list was made
        sweep_shard(folder, "ab", [])
    assert sweep(folder).thumbnails == 0
    assert all(path.exists() for path in [*victims, link])


def test_a_thumbnail_that_is_used_again_stays_though_no_row_refers_to_it_yet(tmp_path: Path) -> None:
    cover = write_thumbnails(picture(), tmp_path)
    paths = [thumbnail_path(tmp_path, cover, size) for size in THUMBNAIL_SIZES]
    for path in paths:
        age(path, 100)
    assert write_thumbnails(picture(), tmp_path) == cover
    assert sweep(tmp_path).kept == 2
    for path in paths:
        age(path, 100)
    assert sweep(tmp_path).thumbnails == 2
    assert write_thumbnails(picture(), tmp_path) == cover
    assert all(path.exists() for path in paths)


def test_a_thumbnail_renewed_in_the_moment_of_its_deletion_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make(tmp_path, ORPHAN)
    rename = os.rename

    def renewed_first(source: str, target: str, **folders: int) -> None:
        if target.endswith(".doomed"):
            os.utime(source, dir_fd=folders["src_dir_fd"])
        rename(source, target, **folders)

    monkeypatch.setattr(thumbnail_sweep.os, "rename", renewed_first)
    assert sweep(tmp_path).kept == 2
    assert all(path.exists() for path in paths)
    assert len(list((tmp_path / "ab").iterdir())) == 2


async def test_what_cannot_be_deleted_is_told_after_all_the_rest_was(music: MusicLibrary) -> None:
    folder = music.runtime.settings.thumbnails_dir
    stuck, orphans = make(folder, ORPHAN), make(folder, WANTED)
    with read_only(folder / "ab"):
        async with low_worker(music.runtime):
            job = await run(music.runtime, "prune_thumbnails")
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert str(job.error_message).startswith("2 thumbnails could not be deleted; the first: ab/")
    assert all(path.exists() for path in stuck)
    assert not any(path.exists() for path in orphans)


def test_what_a_sweep_left_when_it_died_goes_with_the_next(tmp_path: Path) -> None:
    doomed = make(tmp_path, ORPHAN)[0].with_name(f".{ORPHAN}_300.{'0' * 16}.doomed")
    doomed.write_bytes(b"x")
    age(doomed, 2)
    assert sweep(tmp_path, ORPHAN).temporary == 1
    assert not doomed.exists()
