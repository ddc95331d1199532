"""Deleting and restoring: the intent first, then the rename, then the commit.

A job that dies anywhere in between is run again by the ledger and goes on from what it finds: the intent row tells
what was meant, the disk tells how far it came.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from mus.broker.job_runner import RunningJob
from mus.errors import AdminRequiredError, ConflictError, NotFoundError
from mus.jobs.scanning import find_library
from mus.jobs.services import services
from mus.jobs.slow_phase import request_analysis
from mus.library.file_reading import FileStat
from mus.library.paths import parked, shown
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import TRASH_FOLDER
from mus.persistence.models import Library, Track, TrashEntry, utc_now

_NAME_BYTES = 255


async def delete_track(job: RunningJob, track_id: int) -> dict[str, Any]:
    """Move a track's file to the trash.

    Raises NotFoundError for an unknown track, ConflictError for one that is not there or whose folder is
    read-only.
    """
    track, entry = await _track_and_entry(track_id)
    if entry is not None and entry.state == "trashed":
        return {"trashed": shown(entry.original_path)}
    library = await find_library(track.library_id)
    if entry is None:
        if track.status not in LIVE_STATES:
            raise ConflictError(f"The track is {track.status}, so there is no file to delete")
        trash_path = await asyncio.to_thread(_trash_path, library, track)
        async with job.effect() as work:
            entry = TrashEntry(
                track_id=track.id,
                original_path=track.path,
                trash_path=trash_path,
                state="moving",
                created_at=utc_now(),
            )
            work.session.add(entry)
    try:
        await asyncio.to_thread(
            _move_file,
            os.path.join(library.root, entry.original_path),
            entry.trash_path,
        )
    except OSError as error:
        async with job.effect() as work:
            await work.session.execute(delete(TrashEntry).where(TrashEntry.track_id == track.id))
        raise _explained(error, shown(entry.original_path)) from error
    async with job.effect() as work:
        await work.session.execute(
            update(TrashEntry).where(TrashEntry.track_id == track.id).values(state="trashed")
        )
        await work.session.execute(
            update(Track)
            .where(Track.id == track.id)
            .values(status=TrackState.TRASHED, path=parked(entry.original_path, track.id), updated_at=utc_now())
        )
    return {"trashed": shown(entry.original_path)}


async def restore_track(job: RunningJob, track_id: int) -> dict[str, Any]:
    """Bring a trashed track's file back to its place.

    Raises NotFoundError, and ConflictError when the track is not in the trash or its place is taken.
    """
    track, entry = await _track_and_entry(track_id)
    if entry is None:
        if track.status in LIVE_STATES and job.started.attempt > 1:
            return {"restored": shown(track.path)}
        raise ConflictError(f"The track is not in the trash: it is {track.status}")
    library = await find_library(track.library_id)
    target = os.path.join(library.root, entry.original_path)
    if entry.state != "restoring":
        if await asyncio.to_thread(os.path.lexists, target):
            raise ConflictError(f"{shown(entry.original_path)} exists again: move that file away first")
        async with job.effect() as work:
            await work.session.execute(
                update(TrashEntry).where(TrashEntry.id == entry.id).values(state="restoring")
            )
    try:
        await asyncio.to_thread(_move_file, entry.trash_path, target)
        stat = FileStat.of(await asyncio.to_thread(os.stat, target))
    except OSError as error:
        async with job.effect() as work:
            await work.session.execute(update(TrashEntry).where(TrashEntry.id == entry.id).values(state="trashed"))
        raise _explained(error, shown(entry.original_path)) from error
    async with job.effect() as work:
        await work.session.execute(delete(TrashEntry).where(TrashEntry.id == entry.id))
        # A watcher may have met the file already, as a new one: the track that was here first wins.
        await work.session.execute(
            delete(Track).where(
                Track.library_id == library.id, Track.path == entry.original_path, Track.id != track.id
            )
        )
        await work.session.execute(
            update(Track)
            .where(Track.id == track.id)
            .values(
                status=TrackState.PENDING,
                path=entry.original_path,
                size=stat.size,
                mtime_ns=stat.mtime_ns,
                ctime_ns=stat.ctime_ns,
                inode=stat.inode,
                device=stat.device,
                analysis_attempts=0,
                updated_at=utc_now(),
            )
        )
        await request_analysis(work.session)
    return {"restored": shown(entry.original_path)}


async def purge_trash(job: RunningJob, *, older_than_days: float) -> dict[str, Any]:
    """Delete for good what has lain in the trash longer than that."""
    async with services().database.reading() as session:
        old = (
            await session.execute(
                select(TrashEntry.id, TrashEntry.track_id, TrashEntry.trash_path).where(
                    TrashEntry.state == "trashed",
                    TrashEntry.created_at < utc_now() - timedelta(days=older_than_days),
                )
            )
        ).all()
    for entry in old:
        await asyncio.to_thread(_unlink, entry.trash_path)
        async with job.effect() as work:
            await work.session.execute(delete(TrashEntry).where(TrashEntry.id == entry.id))
            await work.session.execute(
                delete(Track).where(Track.id == entry.track_id, Track.status == TrackState.TRASHED)
            )
    return {"purged": len(old)}


async def _track_and_entry(track_id: int) -> tuple[Track, TrashEntry | None]:
    async with services().database.reading() as session:
        track = await session.get(Track, track_id)
        entry = (
            await session.execute(select(TrashEntry).where(TrashEntry.track_id == track_id))
        ).scalar_one_or_none()
    if track is None:
        raise NotFoundError(f"There is no track {track_id}")
    return track, entry


def _trash_path(library: Library, track: Track) -> bytes:
    """`<root>/.mus-trash/<id>-<name>`, or the same in the data folder where the root takes no new folder."""
    name = b"%d-%s" % (track.id, os.path.basename(track.path))
    if len(name) > _NAME_BYTES:
        stem, suffix = os.path.splitext(name)
        name = stem[: _NAME_BYTES - len(suffix)] + suffix
    folder = os.path.join(library.root, TRASH_FOLDER)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        folder = os.fsencode(services().settings.data_dir / "trash" / str(library.id))
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, name)


def _move_file(source: bytes, target: bytes) -> None:
    """Move a file, never over another one. Done already is done. Raises OSError."""
    if not os.path.lexists(source):
        if os.path.lexists(target):
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target) and not os.path.samefile(source, target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_then_unlink(source, target)


def _copy_then_unlink(source: bytes, target: bytes) -> None:
    part = target + b".part"
    shutil.copy2(source, part)
    with open(part, "rb") as copied:
        os.fsync(copied.fileno())
    os.rename(part, target)
    os.unlink(source)


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _explained(error: OSError, name: str) -> ConflictError | AdminRequiredError:
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return ConflictError(f"mus may not change {name}: its folder is read-only")
    if isinstance(error, FileNotFoundError):
        return ConflictError(f"{name} is not there any more")
    if isinstance(error, FileExistsError):
        return ConflictError(f"{name} exists again: move that file away first")
    return AdminRequiredError(f"{name} could not be moved: {error.strerror}")
