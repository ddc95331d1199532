"""A restored library whose files lie elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.rows import track
from mus.errors import ConflictError
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path
from mus.library.file_reading import signed_64
from mus.persistence.database import Database
from mus.persistence.models import Base, Library, Track, TrashEntry
from mus.persistence.moved_library import adopt_files, point_at, renew_covers
from mus.root_map import RootMap

NOWHERE_ELSE = RootMap({})


async def add(database: Database, *rows: Base) -> None:
    async with database.unit_of_work() as work:
        work.session.add_all(rows)


async def all_of(database: Database, table: Any) -> Any:
    async with database.reading() as session:
        return (await session.scalars(select(table).order_by(table.id))).all()


def as_read(library: Library, path: Path) -> Track:
    found = path.stat()
    return track(
        library,
        os.path.relpath(path, os.fsdecode(library.root)),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=signed_64(found.st_ino),
        device=signed_64(found.st_dev),
    )


@pytest.fixture
async def library(database: Database, tmp_path: Path) -> Library:
    """Four files, as a scan has read them."""
    root = tmp_path / "music"
    (root / "a").mkdir(parents=True)
    library = Library(name="Music", root=bytes(root), device=7, online=False, offline_reason="gone")
    await add(database, library)
    for number in range(4):
        file = root / "a" / f"{number}.mp3"
        file.write_bytes(b"x" * (number + 1))
        await add(database, as_read(library, file))
    return library


async def test_a_mapped_folder_is_kept_by_the_name_that_every_machine_knows(
    database: Database, library: Library, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "music", moved)
    roots = RootMap({b"/srv/music": bytes(moved)})
    await point_at(database, moved, roots)
    assert await adopt_files(database, roots) == 4
    (found,) = await all_of(database, Library)
    assert found.root == b"/srv/music"


async def test_files_on_another_disk_are_taken_for_the_ones_that_were_read(
    database: Database, library: Library, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(os.fsdecode(library.root), moved)
    (moved / "a" / "3.mp3").write_bytes(b"another")
    await point_at(database, moved, NOWHERE_ELSE)
    assert await adopt_files(database, NOWHERE_ELSE) == 3
    tracks = await all_of(database, Track)
    inodes = [signed_64((moved / "a" / f"{number}.mp3").stat().st_ino) for number in range(4)]
    assert [found.inode for found in tracks[:3]] == inodes[:3]
    assert tracks[3].inode != inodes[3]
    (row,) = await all_of(database, Library)
    assert (row.root, row.device) == (bytes(moved), signed_64(moved.stat().st_dev))
    assert (row.online, row.offline_reason) == (True, None)


async def test_on_its_own_disk_a_file_that_was_replaced_is_left_to_the_next_scan(
    database: Database, library: Library
) -> None:
    file = Path(os.fsdecode(library.root)) / "a" / "0.mp3"
    before = file.stat()
    # Another file with the old one's size and time, as some tag editors leave it.
    (file.parent / "new").write_bytes(b"y")
    os.utime(file.parent / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (file.parent / "new").rename(file)
    assert await adopt_files(database, NOWHERE_ELSE) == 0
    assert (await all_of(database, Track))[0].inode == signed_64(before.st_ino)


async def test_a_folder_that_is_not_there_changes_nothing(
    database: Database, library: Library, tmp_path: Path
) -> None:
    await point_at(database, tmp_path / "unmounted", NOWHERE_ELSE)
    assert await adopt_files(database, NOWHERE_ELSE) == 0
    (row,) = await all_of(database, Library)
    assert (row.device, row.online) == (None, False)


async def test_the_trash_moves_with_its_library(database: Database, library: Library, tmp_path: Path) -> None:
    tracks = await all_of(database, Track)
    inside = os.path.join(library.root, b".mus-trash", b"1-0.mp3")
    for found, path in zip(tracks[:2], (inside, b"/data/trash/2-1.mp3"), strict=True):
        await add(
            database, TrashEntry(track_id=found.id, original_path=found.path, trash_path=path, state="trashed")
        )
    await point_at(database, tmp_path / "elsewhere", NOWHERE_ELSE)
    entries = await all_of(database, TrashEntry)
    assert [entry.trash_path for entry in entries] == [
        bytes(tmp_path / "elsewhere" / ".mus-trash" / "1-0.mp3"),
        b"/data/trash/2-1.mp3",
    ]


async def test_of_several_libraries_none_is_moved(database: Database, library: Library, tmp_path: Path) -> None:
    await add(database, Library(name="More", root=bytes(tmp_path / "more")))
    with pytest.raises(ConflictError, match=r"several libraries \(Music, More\)"):
        await point_at(database, tmp_path / "elsewhere", NOWHERE_ELSE)
    # The folder of one of them is no question.
    await point_at(database, tmp_path / "more", NOWHERE_ELSE)
    assert [row.root for row in await all_of(database, Library)] == [library.root, bytes(tmp_path / "more")]


async def test_covers_without_thumbnails_are_outdated_and_others_are_not(
    database: Database, library: Library, tmp_path: Path
) -> None:
    thumbnails = tmp_path / "thumbnails"
    for cover in ("aa11", "bb22"):
        await add(database, *(track(library, cover=cover, analysis_version=5) for _ in range(2)))
    for size in THUMBNAIL_SIZES:
        path = thumbnail_path(thumbnails, "aa11", size)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert await renew_covers(database, thumbnails) == 1
    versions = [(found.cover, found.analysis_version) for found in await all_of(database, Track) if found.cover]
    assert versions == [("aa11", 5), ("aa11", 5), ("bb22", 0), ("bb22", 0)]
