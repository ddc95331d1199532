"""Deleting and restoring: the intent first, then the rename, then the commit.

A job that dies anywhere in between is run again by the ledger and goes on from what it finds: the intent row tells
what was meant, the disk tells how far it came. An error alone tells nothing: a share may have renamed a file and
not have answered. So the intent stays until a fresh look has found the file. A cancel waits for the move to end.

    moving      on its way into the trash            restoring   on its way back
    trashed     in the trash                         purging     to be deleted for good, past restoring
"""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import (
    AdminRequiredError,
    ConflictError,
    LibraryOfflineError,
    MusError,
    NotFoundError,
    TemporaryError,
)
from mus.jobs.edits import settle_open
from mus.jobs.gone_files import disk_is_away, provably_gone
from mus.jobs.mount_guard import check_root, check_still_there
from mus.jobs.scan_read import compare_again
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import request_analysis
from mus.jobs.telling import ADDED, DELETED, tell_tracks
from mus.jobs.trash_files import (
    free_name,
    has_both_names,
    is_in_trash,
    is_nowhere,
    is_restored,
    is_there,
    move_back,
    move_into_trash,
    place_in_trash,
    stat_of,
)
from mus.library.beside import ChangedMeanwhileError
from mus.library.file_reading import FileStat
from mus.library.paths import escaped, parked, shown
from mus.library.scan_plan import KnownTrack
from mus.library.states import LIVE_STATES, TrackState
from mus.library.walk import TRASH_FOLDER
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.edit_repository import open_edits
from mus.persistence.known_tracks import live_count
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Track, TrashEntry, utc_now
from mus.persistence.track_identity import newest_id
from mus.to_the_end import to_the_end


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
    return await to_the_end(_delete(job, library, track, entry))


async def _delete(job: RunningJob, library: LocalLibrary, track: Track, entry: TrashEntry | None) -> dict[str, Any]:
    if entry is None:
        entry = await _intend(job, library, track)
    elif await _vanished(library, track, entry):
        await _forget(job, entry)
        raise ConflictError(f"{shown(entry.original_path)} is not there any more")
    source = os.path.join(library.root, entry.original_path)
    trash_path = library.local_path(entry.trash_path)
    try:
        await asyncio.to_thread(move_into_trash, library.root, entry.original_path, trash_path, job.id)
    except (ChangedMeanwhileError, OSError) as error:
        came = await asyncio.to_thread(is_in_trash, source, trash_path)
        if came is None:
            raise await _untold(error, entry.original_path, trash_path) from error
        if not came:
            await _forget(job, entry)
            raise _not_moved(error, shown(entry.original_path)) from error
    taken_again, lies_there = await asyncio.to_thread(
        lambda: [os.path.lexists(each) for each in (source, trash_path)]
    )
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        if not await _stands(work.session, entry, is_in_trash=lies_there):
            return {"trashed": shown(entry.original_path)}
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


async def _forget(job: RunningJob, entry: TrashEntry) -> None:
    async with job.effect() as work:
        await work.session.execute(
            delete(TrashEntry).where(TrashEntry.id == entry.id, TrashEntry.state == "moving")
        )


async def _stands(session: AsyncSession, entry: TrashEntry, *, is_in_trash: bool) -> bool:
    """Write that the file is in the trash. False where another job, at the same deletion, has written it before:
    it may be on its way back by now.
    """
    moved = await session.execute(
        update(TrashEntry)
        .where(TrashEntry.id == entry.id, TrashEntry.state == "moving")
        .values(state="trashed")
        .returning(TrashEntry.id)
    )
    if moved.one_or_none() is not None:
        return True
    if not is_in_trash or await _entry_of(session, entry.track_id) is not None:
        return False
    # The other job failed at it, found the file in its place still, and forgot the intent.
    session.add(
        TrashEntry(
            track_id=entry.track_id,
            original_path=entry.original_path,
            trash_path=entry.trash_path,
            state="trashed",
            created_at=entry.created_at,
        )
    )
    return True


async def _vanished(library: LocalLibrary, track: Track, entry: TrashEntry) -> bool:
    """Whether the file of an intent from an earlier attempt is neither in its place nor in the trash, for certain:
    somebody else took it away between intent and move."""
    trash_path = library.local_path(entry.trash_path)
    trash_folder = os.path.dirname(trash_path)
    if trash_folder != os.path.join(library.root, TRASH_FOLDER):
        return False  # another machine's data folder may have it
    if not await asyncio.to_thread(os.path.isdir, trash_folder):
        return False  # it is away, with what it holds
    if not await asyncio.to_thread(is_nowhere, os.path.join(library.root, entry.original_path), trash_path):
        return False
    await asyncio.to_thread(check_still_there, library)
    if track.status == TrackState.MISSING or track.path != entry.original_path:
        return True  # a scan has proved it, or has found the file elsewhere
    return bool(await provably_gone(library, [_known(track, track.path)]))


def _known(track: Track, path: bytes) -> KnownTrack:
    return KnownTrack._make(getattr(track, name) for name in KnownTrack._fields)._replace(path=path)


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
        # One that is handed back in its last moment keeps its number.
        is_done = job.started.attempt > 1 or (job.checkpoint or {}).get("restored")
        if track.status in LIVE_STATES and is_done:
            return {"restored": shown(track.path)}
        raise ConflictError(f"The track is not in the trash: it is {track.status}")
    if entry.state not in {"trashed", "restoring"}:
        raise ConflictError(f"The track is {entry.state} just now")
    library = await find_library(track.library_id)
    await _check_is_online(library)
    return await to_the_end(_restore(job, library, track, entry))


async def _restore(job: RunningJob, library: LocalLibrary, track: Track, entry: TrashEntry) -> dict[str, Any]:
    trash_path = library.local_path(entry.trash_path)
    path = entry.original_path
    newest: int | None = (job.checkpoint or {}).get("newest")
    is_begun = entry.state == "restoring"
    if not is_begun or not await asyncio.to_thread(is_restored, trash_path, os.path.join(library.root, path)):
        await _check_is_restorable(job, library, track, entry)
        begun_from = trash_path if is_begun else None
        path = await asyncio.to_thread(partial(_free_place, library.root, path, begun_from=begun_from))
        async with job.effect() as work:
            await change_state(
                work.session, entry, "restoring" if is_begun else "trashed", "restoring", original_path=path
            )
            if not is_begun:
                newest = await newest_id(work.session)
                await job.keep(work, {"newest": newest})
    target = os.path.join(library.root, path)
    try:
        try:
            await asyncio.to_thread(move_back, library.root, path, trash_path, job.id)
        except (ChangedMeanwhileError, OSError):
            if not await asyncio.to_thread(is_restored, trash_path, target):
                raise
        stat = await asyncio.to_thread(stat_of, target)
    except (ChangedMeanwhileError, OSError) as error:
        if await asyncio.to_thread(is_restored, trash_path, target) is not False:
            raise await _untold(error, path, trash_path) from error
        async with job.effect() as work:
            await change_state(work.session, entry, "restoring", "trashed")
        raise _not_moved(error, shown(path)) from error
    is_as_known = (stat.size, stat.mtime_ns) == (track.size, track.mtime_ns)
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
                analysis_attempts=0,
                updated_at=utc_now(),
                **(stat._asdict() if is_as_known else {}),
            )
        )
        if not is_as_known:
            # Somebody has changed it in the trash, or a disk on the way keeps coarser times.
            await compare_again(library.id, {path})
        await job.keep(work, {"newest": newest, "restored": True})
        tell_tracks(work, ADDED, library.id, 1, [track.id])
        await request_analysis(work.session)
    return {"restored": shown(path)}


async def _check_is_restorable(job: RunningJob, library: LocalLibrary, track: Track, entry: TrashEntry) -> None:
    """Raises LibraryOfflineError, TemporaryError; and ConflictError for a file that is in the trash no more."""
    path, trash_path = entry.original_path, library.local_path(entry.trash_path)
    if await disk_is_away(library, _known(track, path)):
        raise LibraryOfflineError(
            f"The disk on which {shown(path)} lay is not there: its folder is empty, or gone",
            recovery_actions=("Mount the disk and restore again", "If it is gone for good, scan, then restore"),
        )
    nothing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), trash_path)
    try:
        if await asyncio.to_thread(is_there, trash_path):
            return
    except OSError as error:
        raise await _untold(error, path, trash_path) from error
    if not await asyncio.to_thread(os.path.isdir, os.path.dirname(trash_path)):
        raise await _untold(nothing, path, trash_path)
    if entry.state == "restoring":
        if not await asyncio.to_thread(is_nowhere, trash_path, os.path.join(library.root, path)):
            raise await _untold(nothing, path, trash_path)
        async with job.effect() as work:
            await change_state(work.session, entry, "restoring", "trashed")
    raise _explained(nothing, shown(path))


def _free_place(root: bytes, path: bytes, *, begun_from: bytes | None) -> bytes:
    """The path, or one beside it (`01 (2).flac`) where something is there again: anything but what an earlier
    attempt has brought there, from `begun_from`.

    Raises ConflictError when the path leads elsewhere by now.
    """
    folder = os.path.dirname(path)
    if os.path.realpath(os.path.join(root, folder)) != os.path.normpath(
        os.path.join(os.path.realpath(root), folder)
    ):
        raise ConflictError(f"A folder of {shown(path)} is a link now: mus would write to another place")
    if begun_from is not None and has_both_names(begun_from, os.path.join(root, path)):
        return path
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


async def _untold(error: Exception, path: bytes, trash_path: bytes) -> TemporaryError:
    """Why the intent stays as it is."""
    if not await asyncio.to_thread(os.path.isdir, os.path.dirname(trash_path)):
        # It went to the data folder of the machine that deleted it, which may take the next attempt.
        return TemporaryError(f"The trash folder of {shown(trash_path)} is not on this machine")
    reason = (isinstance(error, OSError) and error.strerror) or "it was changed while it was moved"
    return TemporaryError(f"It cannot be told just now where {shown(path)} is: {reason}")


def _not_moved(error: Exception, name: str) -> MusError:
    """Of a file that was found where it was."""
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return _explained(error, name)
    return TemporaryError(f"{name} was changed by another program while it was moved")


def _explained(error: OSError, name: str) -> MusError:
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return ConflictError(f"mus may not change {name}: its folder is read-only")
    if isinstance(error, FileNotFoundError):
        return ConflictError(f"{name} is not there any more")
    if isinstance(error, FileExistsError):
        return TemporaryError(f"{name} was taken just now by another file")
    return AdminRequiredError(f"{name} could not be moved: {error.strerror}")
