"""A library whose files are in another place, or on another disk, than the database says, as restored elsewhere.

For a database that nobody uses yet. What the files are is left to the next scan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import bindparam, select, update

from mus.errors import ConflictError
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path
from mus.library.file_reading import signed_64
from mus.library.file_systems import has_stable_inodes
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import known_tracks
from mus.persistence.database import Database
from mus.persistence.libraries import LocalLibrary, all_libraries, on_this_machine
from mus.persistence.models import Library, Track, TrashEntry
from mus.root_map import RootMap

T = TypeVar("T")
_BATCH = 500


async def point_at(database: Database, folder: Path, roots: RootMap) -> None:
    """Let the library be the music in `folder` of this machine; its trash comes along.

    Raises ConflictError where there are several libraries: which one is meant?
    """
    async with database.unit_of_work() as work:
        libraries = await all_libraries(work.session)
        if len(libraries) > 1:
            names = ", ".join(library.name for library in libraries)
            raise ConflictError(
                f"There are several libraries ({names}): their folders cannot be told by one --music"
            )
        root = roots.stored(os.fsencode(folder))
        for library in libraries:
            if os.path.realpath(library.root) == os.path.realpath(root):
                return
            inside = os.path.join(library.root, b"")
            entries = await work.session.scalars(
                select(TrashEntry).join(Track).where(Track.library_id == library.id)
            )
            for entry in entries:
                if entry.trash_path.startswith(inside):
                    entry.trash_path = os.path.join(root, entry.trash_path.removeprefix(inside))
            library.root = root
            library.device = None


async def adopt_files(database: Database, roots: RootMap) -> int:
    """Take files that lie in their tracks' places with size and mtime unchanged for the ones that were read.

    On another disk each has another inode and ctime, by which a scan would take it for changed and read it again.
    Left alone is a library most of whose files are the same inodes still: there another inode means another file.
    Returns how many were adopted.
    """
    async with database.reading() as session:
        libraries = [on_this_machine(library, roots) for library in await all_libraries(session)]
    adopted = 0
    for library in libraries:
        files, matched = await _strange_files(database, library)
        async with database.unit_of_work() as work:
            if matched:
                with suppress(OSError):
                    device = signed_64(os.stat(library.root).st_dev)
                    await work.session.execute(
                        update(Library)
                        .where(Library.id == library.id)
                        .values(device=device, online=True, offline_reason=None)
                    )
        for part in _parts(files):
            async with database.unit_of_work() as work:
                connection = await work.session.connection()
                await connection.execute(_ADOPT, part)
        adopted += len(files)
    return adopted


_ADOPT = (
    update(Track)
    .where(Track.id == bindparam("b_id"))
    .values(inode=bindparam("b_inode"), device=bindparam("b_device"), ctime_ns=bindparam("b_ctime_ns"))
)


async def _strange_files(database: Database, library: LocalLibrary) -> tuple[list[dict[str, Any]], int]:
    """Files in their places that have another inode, where most have; and how many are in their places at all."""
    async with database.reading() as session:
        tracks = [track for track in await known_tracks(session, library.id) if track.status in LIVE_STATES]
    look = SecondLook(library.root)
    strange: list[dict[str, Any]] = []
    familiar = 0
    for track in tracks:
        found: FoundFile | None = None
        with suppress(OSError):
            found = look.at(track.path)
        if found is None or (found.size, found.mtime_ns) != (track.size, track.mtime_ns):
            continue
        if found.inode == track.inode:
            familiar += 1
        else:
            strange.append(
                {
                    "b_id": track.id,
                    "b_inode": found.inode,
                    "b_device": found.device,
                    "b_ctime_ns": found.ctime_ns,
                }
            )
    matched = familiar + len(strange)
    elsewhere = len(strange) > familiar and has_stable_inodes(library.root)
    return (strange if elsewhere else []), matched


async def renew_covers(database: Database, thumbnails_dir: Path) -> int:
    """Have the thumbnails that are not here made again by the next look for outdated tracks; returns how many
    covers lack them."""
    async with database.reading() as session:
        covers = await session.scalars(select(Track.cover).where(Track.cover.is_not(None)).distinct())
        lacking = [
            cover
            for cover in covers
            if cover and not all(thumbnail_path(thumbnails_dir, cover, size).exists() for size in THUMBNAIL_SIZES)
        ]
    for part in _parts(lacking):
        async with database.unit_of_work() as work:
            await work.session.execute(
                update(Track).where(Track.cover.in_(part)).values(analysis_version=0, analysis_attempts=0)
            )
    return len(lacking)


def _parts(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
