"""Deleting and restoring: the intent first, then the rename, then the commit.

A job that dies anywhere in between is run again by the ledger and goes on from what it finds: the intent row tells
what was meant, the disk tells how far it came.

    moving      on its way into the trash            restoring   on its way back
    trashed     in the trash                         purging     to be deleted for good, past restoring
"""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import AdminRequiredError, ConflictError, MusError, NotFoundError, TemporaryError
from mus.jobs.edits import settle_open
from mus.jobs.mount_guard import check_root
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import request_analysis
from mus.jobs.telling import ADDED, DELETED, tell_tracks
from mus.jobs.trash_files import free_name, move_back, move_into_trash, place_in_trash
from mus.library.file_reading import FileStat
from mus.library.paths import escaped, parked, shown
from mus.library.states import LIVE_STATES, TrackState
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.edit_repository import open_edits
from mus.persistence.known_tracks import live_count
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Track, TrashEntry, utc_now
from mus.persistence.track_identity import newest_id


async def delete_track(job: RunningJob, track_id: int) -> dict[str, Any]:
    """Move a track's file to the trash.

    Raises NotFoundError for an unknown track, ConflictError for one that is not there or whose folder is
    read-only, LibraryOfflineError when its disk is away.
    """
    track, entry = await track_and_entry(track_id)
    if entry is not None and entry.state == "trashed":
        return {"trashed": shown(entry.original_path)}
    if entry is not None and entry.state != "moving":
        raise ConflictError(f"The track is {entry.state} just now")
    library = await find_library(track.library_id)
    if entry is None:
        await _check_is_online(library)
        await settle_open(job, track_id)
        entry = await _intend(job, library, track)
    source = os.path.join(library.root, entry.original_path)
    try:
        await asyncio.to_thread(move_into_trash, source, library.local_path(entry.trash_path))
    except OSError as error:
        async with job.effect() as work:
            await work.session.execute(delete(TrashEntry).where(TrashEntry.id == entry.id))
        raise _explained(error, shown(entry.original_path)) from error
    taken_again = await asyncio.to_thread(os.path.lexists, source)
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        await work.session.execute(update(TrashEntry).where(TrashEntry.id == entry.id).values(state="trashed"))
        await work.session.execute(
            update(Track)
            .where(Track.id == track.id)
            .values(status=TrackState.TRASHED, path=parked(entry.original_path, track.id), updated_at=utc_now())
        )
        tell_tracks(work, DELETED, library.id, 1, [track.id])
        if taken_again:
            # This track's row stood in the way of the new file's own.
            await broker.enqueue(
                Queue.HIGH,
                "process_file_created",
                Options(requested_by="mus"),
                library_id=library.id,
                paths=[escaped(entry.original_path)],
            )
    return {"trashed": shown(entry.original_path)}


async def _intend(job: RunningJob, library: LocalLibrary, track: Track) -> TrashEntry:
    if track.status not in LIVE_STATES:
        raise ConflictError(f"The track is {track.status}, so there is no file to delete")
    data_trash = services().settings.data_dir / "trash" / str(library.id)
    try:
        trash_path = await asyncio.to_thread(place_in_trash, library.root, track.path, track.id, data_trash)
    except OSError as error:
        raise _explained(error, shown(track.path)) from error
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        now = (await work.session.execute(select(Track.path).where(Track.id == track.id))).scalar()
        if now != track.path:
            raise TemporaryError("The track's file was moved just now")
        if await _entry_of(work.session, track.id) is not None:
            raise ConflictError("The track is deleted by another job just now")
        if await open_edits(work.session, [track.id]):
            raise TemporaryError("The track is edited by another job just now")
        entry = TrashEntry(
            track_id=track.id,
            original_path=track.path,
            trash_path=library.stored_path(trash_path),
            state="moving",
            created_at=utc_now(),
        )
        work.session.add(entry)
    return entry


async def restore_track(job: RunningJob, track_id: int) -> dict[str, Any]:
    """Bring a trashed track's file back to its place, or beside it under a free name where that is taken.

    Raises NotFoundError, ConflictError when the track is not in the trash or a folder is a link by now, and
    LibraryOfflineError when its disk is away.
    """
    track, entry = await track_and_entry(track_id)
    if entry is None:
        if track.status in LIVE_STATES and job.started.attempt > 1:
            return {"restored": shown(track.path)}
        raise ConflictError(f"The track is not in the trash: it is {track.status}")
    library = await find_library(track.library_id)
    trash_path = library.local_path(entry.trash_path)
    path = entry.original_path
    newest: int | None = (job.checkpoint or {}).get("newest")
    if entry.state != "restoring":
        await _check_is_online(library)
        path = await asyncio.to_thread(_free_place, library.root, path)
        async with job.effect() as work:
            await change_state(work.session, entry, "trashed", "restoring", original_path=path)
            newest = await newest_id(work.session)
            await job.keep(work, {"newest": newest})
    target = os.path.join(library.root, path)
    try:
        await asyncio.to_thread(move_back, trash_path, target, track.id)
        stat = FileStat.of(await asyncio.to_thread(os.stat, target))
    except OSError as error:
        async with job.effect() as work:
            await change_state(work.session, entry, "restoring", "trashed")
        if not os.path.isdir(os.path.dirname(trash_path)):
            # It went to the data folder of the machine that deleted it, which may take the next attempt.
            raise TemporaryError(f"The trash folder of {shown(trash_path)} is not on this machine") from error
        raise _explained(error, shown(path)) from error
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        await work.session.execute(delete(TrashEntry).where(TrashEntry.id == entry.id))
        await _make_way(work.session, track, path, stat, newest=newest, deleted_at=entry.created_at)
        await work.session.execute(
            update(Track)
            .where(Track.id == track.id)
            .values(
                status=TrackState.PENDING,
                error_category=None,
                error_message=None,
                path=path,
                size=stat.size,
                mtime_ns=stat.mtime_ns,
                ctime_ns=stat.ctime_ns,
                inode=stat.inode,
                device=stat.device,
                analysis_attempts=0,
                updated_at=utc_now(),
            )
        )
        tell_tracks(work, ADDED, library.id, 1, [track.id])
        await request_analysis(work.session)
    return {"restored": shown(path)}


def _free_place(root: bytes, path: bytes) -> bytes:
    """The path, or one beside it (`01 (2).flac`) where something is there again.

    Raises ConflictError when the path leads elsewhere by now.
    """
    folder = os.path.dirname(path)
    if os.path.realpath(os.path.join(root, folder)) != os.path.normpath(
        os.path.join(os.path.realpath(root), folder)
    ):
        raise ConflictError(f"A folder of {shown(path)} is a link now: mus would write to another place")
    return free_name(root, path)


async def _make_way(
    session: AsyncSession, track: Track, path: bytes, stat: FileStat, *, newest: int | None, deleted_at: datetime
) -> None:
    """Another track at the path: the watcher met the restored file first, as a new one; or it is long gone.

    New are tracks after `newest`, an id; where another job began to restore, those added after the deletion, as far
    as clocks can be trusted: one that had been an hour ahead left a missing track behind.
    """
    other = (
        await session.execute(
            select(Track).where(Track.library_id == track.library_id, Track.path == path, Track.id != track.id)
        )
    ).scalar_one_or_none()
    if other is None:
        return
    is_same_file = (other.size, other.mtime_ns) == (stat.size, stat.mtime_ns) and (
        # Another machine, which has read it, has other numbers for it.
        other.device != stat.device or other.inode == stat.inode
    )
    is_new = other.id > newest if newest is not None else other.added_at > deleted_at
    # A track from before the deletion that has this file now was missing, and is of the same sound.
    if other.status in LIVE_STATES and is_same_file and is_new:
        await session.execute(delete(Track).where(Track.id == other.id))
        return
    await session.execute(
        update(Track)
        .where(Track.id == other.id)
        .values(status=TrackState.MISSING, path=parked(path, other.id), updated_at=utc_now())
    )


async def change_state(session: AsyncSession, entry: TrashEntry, old: str, new: str, **values: bytes) -> None:
    """Raises ConflictError when another job has changed it first."""
    changed = await session.execute(
        update(TrashEntry)
        .where(TrashEntry.id == entry.id, TrashEntry.state == old)
        .values(state=new, **values)
        .returning(TrashEntry.id)
    )
    if changed.one_or_none() is None:
        state = (await session.execute(select(TrashEntry.state).where(TrashEntry.id == entry.id))).scalar()
        raise ConflictError(f"The track is {state or 'not in the trash'} just now")


async def track_and_entry(track_id: int) -> tuple[Track, TrashEntry | None]:
    async with services().database.reading() as session:
        track = await session.get(Track, track_id)
        entry = await _entry_of(session, track_id)
    if track is None:
        raise NotFoundError(f"There is no track {track_id}")
    return track, entry


async def _entry_of(session: AsyncSession, track_id: int) -> TrashEntry | None:
    return (await session.execute(select(TrashEntry).where(TrashEntry.track_id == track_id))).scalar_one_or_none()


async def _check_is_online(library: LocalLibrary) -> None:
    """Raises LibraryOfflineError: in an empty mount point nothing is deleted, and nothing restored."""
    async with services().database.reading() as session:
        has_live = await live_count(session, library.id) > 0
    await asyncio.to_thread(check_root, library, has_live_tracks=has_live)


def _explained(error: OSError, name: str) -> MusError:
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return ConflictError(f"mus may not change {name}: its folder is read-only")
    if isinstance(error, FileNotFoundError):
        return ConflictError(f"{name} is not there any more")
    if isinstance(error, FileExistsError):
        return TemporaryError(f"{name} was taken just now by another file")
    return AdminRequiredError(f"{name} could not be moved: {error.strerror}")
