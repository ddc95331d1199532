"""Editing one track's file: the intent first, then the copy, then the rename, then the commit.

A job that dies anywhere in between is run again by the ledger, and `settle` finds out how far it came:

    preparing    a copy is being made, or not wanted any more: it is thrown away
    writing      the copy is ready; where it is not there any more, it is in the file's place
    done         the history

Whoever writes a file of the library goes through here and `renames`; deletions go through `trash`. An open edit and
an entry of the trash keep each other out.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.errors import (
    AdminRequiredError,
    ConflictError,
    ErrorCategory,
    NotFoundError,
    TemporaryError,
    UserFixableError,
    not_written,
)
from mus.jobs.scan_read import compare_again
from mus.jobs.services import find_library, services
from mus.jobs.slow_phase import request_analysis
from mus.jobs.telling import UPDATED, tell_tracks
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.beside import EDIT_PREFIX, ChangedMeanwhileError, discard, hidden_name, opened_folder, replace
from mus.library.edit_order import EditedCopy, EditOrder, Picture
from mus.library.file_reading import FileReading, FileStat
from mus.library.file_systems import has_stable_inodes
from mus.library.paths import shown
from mus.library.second_look import SecondLook
from mus.library.states import LIVE_STATES, TrackState
from mus.library.tag_changes import RawChanges
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.edit_repository import (
    DONE,
    finish_edit,
    forget_edit,
    keep_pictures,
    open_edits,
    picture_data,
    retag_track,
)
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Edit, Job, Track, TrashEntry

#: A disk that copies and reads more slowly than this is not worth waiting for: bytes a second.
_SLOWEST = 4_000_000
#: What opening a folder says when there is none of this name (any more).
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class BusyFileError(TemporaryError):
    """The file cannot be edited in this moment; a little later it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTags:
    """What a track's file is to say; see `EditOrder`."""

    tags: RawChanges = field(default_factory=dict)
    pictures: list[Picture] | None = None
    front: bytes | None = None
    expected: RawChanges | None = None
    expected_pictures: list[str] | None = None
    #: The edit that this one takes back.
    undoes: int | None = None

    def order(self, part: bytes, sound: bytes | None) -> EditOrder:
        return EditOrder(
            part=os.fsdecode(part),
            changes=self.tags,
            pictures=self.pictures,
            front=self.front,
            expected=self.expected,
            expected_pictures=self.expected_pictures,
            id3_version=services().settings.id3_version,
            sound=sound.hex() if sound else None,
        )


@dataclass(frozen=True, slots=True)
class EditOutcome:
    """`edit_id` None: there was nothing to change."""

    edit_id: int | None
    #: Other names of the file (hard links), which keep the old tags.
    other_names: int = 0


async def edit_tags(job: RunningJob, track_id: int, wanted: WantedTags) -> EditOutcome:
    """Change the tags in a track's file, and the track with it. Doing it again with one job is harmless.

    Raises NotFoundError, ConflictError for a track without a readable file, UserFixableError when its file cannot
    hold the tags, BusyFileError when somebody else writes it, AdminRequiredError.
    """
    track, library = await ready(job, track_id)
    done = await done_by(job, track_id, "tags", wanted.undoes)
    if done is not None:
        return EditOutcome(done)
    part = hidden_name(EDIT_PREFIX, track.path)
    edit = await intend(job, track, Edit(kind="tags", state="preparing", part=part, undoes=wanted.undoes))
    copy = await _copied(library, track, wanted.order(part, track.audio_hash))
    if copy.error_message is not None or copy.unchanged:
        await _give_up(job, library, edit)
        if copy.error_message is not None:
            raise _error_of(copy, shown(track.path))
        return EditOutcome(None)
    return await _put_in_place(job, library, track, edit, copy)


async def _copied(library: LocalLibrary, track: Track, order: EditOrder) -> EditedCopy:
    settings = services().settings
    return await services().readers.write(
        library.root,
        track.path,
        order,
        thumbnails_dir=settings.thumbnails_dir,
        file_timeout_seconds=settings.file_timeout_seconds + 4 * track.size / _SLOWEST,
    )


async def _put_in_place(
    job: RunningJob, library: LocalLibrary, track: Track, edit: Edit, copy: EditedCopy
) -> EditOutcome:
    assert copy.source is not None
    assert copy.copy is not None
    assert copy.reading is not None
    assert edit.part is not None
    touched = copy.pictures_before != copy.pictures_after
    changed = {name for name, values in copy.before.items() if values != copy.after[name]}
    async with job.effect() as work:
        await keep_pictures(work.session, edit.id, [*copy.pictures_before, *copy.pictures_after])
        await work.session.execute(
            update(Edit)
            .where(Edit.id == edit.id)
            .values(
                state="writing",
                versions={"source": copy.source.as_json(), "copy": copy.copy.as_json()},
                before=_said(copy.before, changed, copy.pictures_before if touched else None),
                after=_said(copy.after, changed, copy.pictures_after if touched else None) | {"cover": copy.cover},
            )
        )
    try:
        placed = await asyncio.to_thread(replace, library.root, track.path, edit.part, copy.source)
    except (ChangedMeanwhileError, OSError) as error:
        await _give_up(job, library, edit)
        raise not_placed(error, shown(track.path)) from error
    stat = placed if _is_same(placed, copy.copy) else copy.copy
    cover = {"cover": copy.cover} if touched else {}
    keeps_sound = await asyncio.to_thread(_is_as_known, library.root, track, copy.source)
    await _commit(job, track, edit, copy.reading, stat, cover, keeps_sound=keeps_sound)
    return EditOutcome(edit.id, copy.hard_links)


def _is_same(placed: FileStat, copy: FileStat) -> bool:
    return (placed.size, placed.mtime_ns, placed.inode) == (copy.size, copy.mtime_ns, copy.inode)


def _is_as_known(root: bytes, track: Track, version: FileStat) -> bool:
    """Whether the track tells of this version of its file, as a scan would judge (`scan_plan`)."""
    if (version.size, version.mtime_ns) != (track.size, track.mtime_ns):
        return False
    is_same = (version.inode, version.ctime_ns) == (track.inode, track.ctime_ns)
    return is_same or version.device != track.device or not has_stable_inodes(root)


async def _commit(
    job: RunningJob,
    track: Track,
    edit: Edit,
    reading: FileReading,
    stat: FileStat,
    cover: Mapping[str, str | None],
    *,
    keeps_sound: bool,
) -> None:
    async with job.effect() as work:
        await hold_tracks(work.session, track.library_id)
        if await retag_track(work.session, track, reading, stat, cover, keeps_sound=keeps_sound):
            tell_tracks(work, UPDATED, track.library_id, 1, [track.id])
            if not keeps_sound:
                # Another program had put another file there, and no scan has seen that.
                await request_analysis(work.session)
        else:
            await compare_again(track.library_id, {track.path})
        await finish_edit(work.session, edit)


def _said(tags: RawChanges, changed: set[str], pictures: list[Picture] | None) -> dict[str, Any]:
    shown_pictures = None
    if pictures is not None:
        shown_pictures = [
            {
                "kind": picture.kind, "mime": picture.mime, "description": picture.description,
                "picture": picture.digest,
            }
            for picture in pictures
        ]  # fmt: skip
    return {"tags": {name: tags[name] for name in sorted(changed)}, "pictures": shown_pictures}


async def pictures_of(session: AsyncSession, side: Mapping[str, Any]) -> list[Picture] | None:
    """The pictures that one side of an edit, its `before` or `after`, names."""
    if side.get("pictures") is None:
        return None
    return [
        Picture(one["kind"], one["mime"], one["description"], await picture_data(session, one["picture"]))
        for one in side["pictures"]
    ]


# ---------------------------------------------------------------------------------------------- the intent


async def done_by(job: RunningJob, track_id: int, kind: str, undoes: int | None) -> int | None:
    """The edit that an earlier attempt of this job completed."""
    async with services().database.reading() as session:
        same = Edit.undoes.is_(None) if undoes is None else Edit.undoes == undoes
        query = select(Edit.id).where(
            Edit.job_id == job.id, Edit.track_id == track_id, Edit.kind == kind, Edit.state == DONE, same
        )
        return (await session.execute(query)).scalar()


async def settle_open(job: RunningJob, track_id: int) -> None:
    """Settle what was broken off of edits of the track. Raises BusyFileError when another job is at one."""
    async with services().database.reading() as session:
        open_now = await open_edits(session, [track_id])
        jobs = [edit.job_id for edit in open_now if edit.job_id != job.id]
        running = await session.scalars(select(Job.id).where(Job.id.in_(jobs), Job.state.not_in(TERMINAL_STATES)))
        if running.first() is not None:
            raise BusyFileError(f"Another job edits track {track_id} just now")
    for edit in open_now:
        await settle(job, edit)


async def ready(job: RunningJob, track_id: int) -> tuple[Track, LocalLibrary]:
    """The track, whose file nobody else edits. Raises NotFoundError, ConflictError, BusyFileError."""
    await settle_open(job, track_id)
    async with services().database.reading() as session:
        track = await session.get(Track, track_id)
    if track is None:
        raise NotFoundError(f"There is no track {track_id}")
    refuse_unreadable(track)
    return track, await find_library(track.library_id)


def refuse_unreadable(track: Track) -> None:
    """Raises ConflictError for a track that has no file, or one that cannot be read."""
    if track.status not in LIVE_STATES:
        reason = "is in the trash" if track.status == TrackState.TRASHED else "has no file any more"
        raise ConflictError(f"Track {track.id} {reason}", details={"status": track.status})
    if track.status == TrackState.ERROR:
        raise ConflictError(
            f"{shown(track.path)} has an error: {track.error_message}", details={"status": track.status}
        )


async def intend(job: RunningJob, track: Track, edit: Edit) -> Edit:
    """Write the intent. Raises BusyFileError when the track is moved, deleted or edited in this moment."""
    edit.track_id, edit.path = track.id, track.path
    edit.job_id, edit.requested_by = job.id, job.started.requested_by
    async with job.effect() as work:
        await hold_tracks(work.session, track.library_id)
        now = (
            await work.session.execute(select(Track.path, Track.status).where(Track.id == track.id))
        ).one_or_none()
        if now is None or now.path != track.path or now.status not in LIVE_STATES:
            raise BusyFileError(f"{shown(track.path)} was moved just now")
        trashed = await work.session.execute(select(TrashEntry.id).where(TrashEntry.track_id == track.id))
        if trashed.first() is not None or await open_edits(work.session, [track.id]):
            raise BusyFileError(f"{shown(track.path)} is deleted or edited by another job just now")
        work.session.add(edit)
    return edit


async def _give_up(job: RunningJob, library: LocalLibrary, edit: Edit) -> None:
    """Of an edit whose copy has not taken the file's place: away with it, and with the intent."""
    async with job.effect() as work:
        # Of one that was `writing`, a copy that is gone would say that it is in its place.
        await work.session.execute(update(Edit).where(Edit.id == edit.id).values(state="preparing"))
    with suppress(OSError):
        await asyncio.to_thread(_discard_part, library.root, edit)
    async with job.effect() as work:
        await forget_edit(work.session, edit.id)


def _discard_part(root: bytes, edit: Edit, now_at: bytes | None = None) -> bool:
    """Whether the copy was there. `now_at` is where the file has been moved since, with its folder perhaps.

    Raises OSError when that cannot be told.
    """
    was_there = False
    for path in {edit.path, now_at or edit.path}:
        try:
            with opened_folder(root, os.path.dirname(path)) as folder:
                was_there |= discard(folder, edit.part or b"")
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
    return was_there


# ----------------------------------------------------------------------------------------------- and after


async def settle(job: RunningJob, edit: Edit) -> bool:
    """Bring an edit that was broken off to its end: done where its file is in place, forgotten (False) where it is
    not.

    Raises BusyFileError while that cannot be told.
    """
    async with services().database.reading() as session:
        track = await session.get(Track, edit.track_id)
    if track is None:
        return False
    library = await find_library(track.library_id)
    places = [track.path] if edit.new_path is None else [track.path, edit.new_path]
    if await asyncio.to_thread(_is_away, library.root, places, track.device):
        raise BusyFileError(f"The folder of {shown(edit.path)} is not on this machine just now")
    if edit.kind == "rename":
        from mus.jobs.renames import settle_rename

        return await settle_rename(job, library, track, edit)
    # Nothing but the rename over the file takes away the copy of an edit that is `writing`; and nobody can rename
    # what was discarded here, not even a worker that was taken for dead.
    try:
        was_there = await asyncio.to_thread(_discard_part, library.root, edit, track.path)
    except OSError as error:
        raise BusyFileError(f"The folder of {shown(edit.path)} cannot be looked into: {error.strerror}") from error
    if was_there or edit.state != "writing":
        async with job.effect() as work:
            await forget_edit(work.session, edit.id)
        return False
    (reading,) = await services().readers.run(
        "read", library.root, [edit.path], file_timeout_seconds=services().settings.file_timeout_seconds
    )
    after = edit.after or {}
    if reading.error_message is not None or reading.stat is None or track.path != edit.path:
        async with job.effect() as work:
            await compare_again(library.id, {edit.path})
            await finish_edit(work.session, edit)
        return True
    cover = {"cover": after.get("cover")} if after.get("pictures") is not None else {}
    keeps_sound = await asyncio.to_thread(_keeps_sound, library.root, track, edit, reading.stat)
    await _commit(job, track, edit, reading, reading.stat, cover, keeps_sound=keeps_sound)
    return True


def _keeps_sound(root: bytes, track: Track, edit: Edit, stat: FileStat) -> bool:
    """Whether what is known of the track's sound is that of its file now, which an edit that was broken off has
    written."""
    if _is_as_known(root, track, stat):
        return True
    source, copy = (FileStat(*(edit.versions or {})[name]) for name in ("source", "copy"))
    return _is_same(stat, copy) and _is_as_known(root, track, source)


def _is_away(root: bytes, places: Sequence[bytes], device: int) -> bool:
    """Whether a track's file is in none of these places, and not proven gone either: its disk is away, or on
    another machine."""
    look = SecondLook(root)
    try:
        if any(look.at(path) is not None for path in places):
            return False
    except OSError:
        return True
    return not look.is_gone(places[0], {device})


def _error_of(copy: EditedCopy, name: str) -> Exception:
    message = f"{name}: {copy.error_message}"
    if copy.error_category is ErrorCategory.TEMPORARY:
        return BusyFileError(message)
    if copy.error_category is ErrorCategory.ADMIN_REQUIRED:
        return AdminRequiredError(message, recovery_actions=("Look at the disk: is it full, or failing?",))
    return UserFixableError(message)


def not_placed(error: Exception, name: str) -> Exception:
    """Why a finished file could not get its name."""
    if isinstance(error, ChangedMeanwhileError | FileNotFoundError):
        return BusyFileError(f"{name} was changed or taken away by another program meanwhile: its change stands")
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return ConflictError(f"mus may not change {name}: its folder is read-only")
    if isinstance(error, OSError):
        return not_written(name, error)
    return AdminRequiredError(f"{name} could not be written: {error}")


def is_there(root: bytes, path: bytes) -> FileStat | None:
    """The numbers of the file that the walk would find. Raises OSError when that cannot be told."""
    found = SecondLook(root).at(path)
    return None if found is None else FileStat(*found[1:])
