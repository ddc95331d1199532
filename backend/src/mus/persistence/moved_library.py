"""A library whose files are in another place, or on another disk, than the database says: restored elsewhere, or
mounted elsewhere. What the files are is left to the next scan.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import ConflictError
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path
from mus.library.file_reading import signed_64
from mus.library.file_systems import has_stable_inodes
from mus.library.scan_plan import KnownTrack
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.database import Database
from mus.persistence.known_tracks import known_tracks
from mus.persistence.libraries import LocalLibrary, all_libraries, on_this_machine
from mus.persistence.models import Library, Track, TrashEntry
from mus.persistence.unit_of_work import UnitOfWork
from mus.root_map import RootMap

T = TypeVar("T")
_BATCH = 500
#: Files that are looked for to see that a folder is the library's.
_SAMPLE = 100


async def point_at(database: Database, folder: Path, roots: RootMap) -> None:
    """Let the library be the music in `folder` of this machine, in a database that nobody uses yet.

    Raises ConflictError where there are several libraries and `folder` is none of theirs: which one is meant?
    """
    async with database.unit_of_work() as work:
        libraries = await all_libraries(work.session)
        root = roots.stored(os.fsencode(folder))
        if any(os.path.realpath(library.root) == os.path.realpath(root) for library in libraries):
            return
        if len(libraries) > 1:
            names = ", ".join(library.name for library in libraries)
            raise ConflictError(
                f"There are several libraries ({names}): their folders cannot be told by one --music; restore "
                "without it, then say where each is now (`mus libraries set NAME --root DIR`)"
            )
        for library in libraries:
            await move_root(work.session, library, root)


async def move_root(session: AsyncSession, library: Library, root: bytes) -> None:
    """Write that the library is in `root`, a stored one; its tracks keep their ids, and its trash comes along."""
    inside = os.path.join(library.root, b"")
    entries = await session.scalars(select(TrashEntry).join(Track).where(Track.library_id == library.id))
    for entry in entries:
        if entry.trash_path.startswith(inside):
            entry.trash_path = os.path.join(root, entry.trash_path.removeprefix(inside))
    library.root = root
    library.device = None


async def has_its_files(database: Database, library_id: int, root: bytes) -> bool:
    """Whether any of 100 of its files, or of all there are, lies in `root`, a folder of this machine, in its size.

    A copy may have other times. A library without live tracks has nothing to look for.
    """
    async with database.reading() as session:
        columns = [getattr(Track, name) for name in KnownTrack._fields]
        rows = await session.execute(
            select(*columns)
            .where(Track.library_id == library_id, Track.status.in_(LIVE_STATES))
            .order_by(func.random())
            .limit(_SAMPLE)
        )
        tracks = [KnownTrack._make(row) for row in rows]
    return not tracks or await asyncio.to_thread(_any_is_there, root, tracks)


def _any_is_there(root: bytes, tracks: Sequence[KnownTrack]) -> bool:
    look = SecondLook(root)
    for track in tracks:
        with suppress(OSError):
            if (found := look.at(track.path)) is not None and found.size == track.size:
                return True
    return False


async def adopt_files(database: Database, roots: RootMap) -> int:
    """`adopt_files_of` each library, in a database that nobody uses yet."""
    async with database.reading() as session:
        libraries = [
            on_this_machine(library, roots)
            for library in await all_libraries(session)
            if library.removing_since is None
        ]
    return sum([await adopt_files_of(database, library, database.unit_of_work) for library in libraries])


async def adopt_files_of(
    database: Database, library: LocalLibrary, writing: Callable[[], AbstractAsyncContextManager[UnitOfWork]]
) -> int:
    """Take files that lie in their tracks' places with size and mtime unchanged for the ones that were read.

    On another disk each has another inode and ctime, by which a scan would take it for changed and read it again.
    Left alone is a library most of whose files are the same inodes still: there another inode means another file.
    `writing` opens each transaction. Returns how many were adopted.
    """
    files, matched = await _strange_files(database, library)
    if matched:
        device = await asyncio.to_thread(_device_of, library.root)
        async with writing() as work:
            await hold_tracks(work.session, library.id)
            if device is not None:
                await work.session.execute(
                    update(Library)
                    .where(Library.id == library.id, Library.root == library.stored_root)
                    .values(device=device, online=True, offline_reason=None)
                )
    for part in _parts(files):
        async with writing() as work:
            await hold_tracks(work.session, library.id)
            connection = await work.session.connection()
            await connection.execute(_ADOPT, part)
    return len(files)


def _device_of(root: bytes) -> int | None:
    try:
        return signed_64(os.stat(root).st_dev)
    except OSError:
        return None


_ADOPT = (
    update(Track)
    # Not what changed meanwhile: another job may have read it.
    .where(
        Track.id == bindparam("b_id"),
        Track.size == bindparam("b_size"),
        Track.mtime_ns == bindparam("b_mtime_ns"),
    )
    .values(inode=bindparam("b_inode"), device=bindparam("b_device"), ctime_ns=bindparam("b_ctime_ns"))
)


async def _strange_files(database: Database, library: LocalLibrary) -> tuple[list[dict[str, Any]], int]:
    """Files in their places that have another inode, where most have; and how many are in their places at all."""
    async with database.reading() as session:
        tracks = [KnownTrack._make(row) for row in await known_tracks(session, library.id)]
    return await asyncio.to_thread(
        _compared, library.root, [track for track in tracks if track.status in LIVE_STATES]
    )


def _compared(root: bytes, tracks: Sequence[KnownTrack]) -> tuple[list[dict[str, Any]], int]:
    look = SecondLook(root)
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
                    "b_size": found.size,
                    "b_mtime_ns": found.mtime_ns,
                    "b_inode": found.inode,
                    "b_device": found.device,
                    "b_ctime_ns": found.ctime_ns,
                }
            )
    matched = familiar + len(strange)
    elsewhere = len(strange) > familiar and has_stable_inodes(root)
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
