"""Giving a track's file another name: the intent first, then the move, then the commit; see `edits`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from mus.broker.job_runner import RunningJob
from mus.errors import ConflictError
from mus.jobs.edits import BusyFileError, EditOutcome, done_by, intend, is_there, not_placed, ready, settle
from mus.jobs.scan_read import compare_again
from mus.jobs.telling import UPDATED, tell_tracks
from mus.library.beside import ChangedMeanwhileError, opened_folder, stat_at
from mus.library.file_names import NamePattern, UnnamableError
from mus.library.file_reading import FileStat, title_from_name
from mus.library.moves import (
    discard_copies,
    is_same_content,
    move,
    name_in_the_way,
    names_to_disk,
    refuse_changed,
    remove_emptied,
    take_away,
)
from mus.library.paths import escaped, shown
from mus.library.scan_plan import Move
from mus.library.second_look import SecondLook
from mus.library.walk import FoundFile
from mus.persistence.batch_operations import hold_tracks, move_tracks
from mus.persistence.edit_repository import finish_edit, forget_edit
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Edit, Track

#: Columns of a track that a pattern may name.
NAMING_TAGS = (
    "title", "artist", "album_artist", "album", "track_number", "track_total", "disc_number", "disc_total", "year",
    "date", "genre", "composer",
)  # fmt: skip


class NameTakenError(ConflictError):
    """Another file has the name: it may be on its way to another one itself."""


def name_by(pattern: NamePattern, track: Track, changed: Mapping[str, Any] | None = None) -> bytes:
    """Where the pattern wants the track's file, with `changed` in the place of its own columns.

    Raises ConflictError for a track that it makes no name for.
    """
    try:
        return pattern.path_for(_tags_to_name(track, changed or {}), track.path)
    except UnnamableError as error:
        raise ConflictError(f"{shown(track.path)} cannot be named by the pattern: {error}") from None


def _tags_to_name(track: Track, changed: Mapping[str, Any]) -> Mapping[str, str | int | None]:
    """What a pattern sees of a track. An album without an artist of its own is sorted under its tracks'."""
    tags: dict[str, Any] = {name: getattr(track, name) for name in NAMING_TAGS} | dict(changed)
    title = tags["title"] or title_from_name(track.path)
    return tags | {"title": title, "album_artist": tags["album_artist"] or tags["artist"]}


async def rename_track(
    job: RunningJob,
    track_id: int,
    *,
    pattern: NamePattern | None = None,
    target: bytes | None = None,
    expected: bytes | None = None,
    undoes: int | None = None,
) -> EditOutcome:
    """Move a track's file to the name that the pattern gives, or to `target`. Doing it again is harmless.

    `expected` is where it must lie now. Raises NameTakenError when another file has the name, or one that some file
    systems take for the same; ConflictError; BusyFileError; AdminRequiredError.
    """
    track, library = await ready(job, track_id)
    done = await done_by(job, track_id, "rename", undoes)
    if done is not None:
        return EditOutcome(done)
    if expected is not None and track.path != expected:
        raise ConflictError(f"{shown(expected)} was moved since, to {shown(track.path)}")
    if target is None:
        assert pattern is not None
        target = name_by(pattern, track)
    if target == track.path:
        return EditOutcome(None)
    source = await asyncio.to_thread(is_there, library.root, track.path)
    if source is None:
        raise BusyFileError(f"{shown(track.path)} is not there any more")
    if await asyncio.to_thread(name_in_the_way, library.root, target, besides={track.path}) is not None:
        raise _taken(target)
    edit = await intend(
        job,
        track,
        Edit(
            kind="rename",
            state="writing",
            new_path=target,
            versions={"source": source.as_json()},
            before={"path": escaped(track.path)},
            after={"path": escaped(target)},
            undoes=undoes,
        ),
    )
    try:
        placed = await asyncio.to_thread(partial(move, library.root, track.path, target, source, owner=job.id))
    except (ChangedMeanwhileError, OSError) as error:
        # Which tells nothing: a share may have moved the file and not have answered.
        if await settle(job, edit):
            return EditOutcome(edit.id)
        if isinstance(error, FileExistsError):
            raise _taken(target) from error
        raise not_placed(error, shown(track.path)) from error
    await _commit(job, library, track, edit, placed)
    return EditOutcome(edit.id)


def _taken(target: bytes) -> NameTakenError:
    return NameTakenError(f"There is another file at {shown(target)}")


async def _commit(job: RunningJob, library: LocalLibrary, track: Track, edit: Edit, placed: FileStat) -> None:
    assert edit.new_path is not None
    found = FoundFile(edit.new_path, *placed.as_json())
    async with job.effect() as work:
        await hold_tracks(work.session, library.id)
        if await move_tracks(work.session, library.id, [Move(track.id, found)], {track.id: edit.path}):
            tell_tracks(work, UPDATED, library.id, 1, [track.id])
        else:
            await compare_again(library.id, {edit.path, edit.new_path})
        await finish_edit(work.session, edit)


async def settle_rename(job: RunningJob, library: LocalLibrary, track: Track, edit: Edit) -> bool:
    """See `edits.settle`: the file is under its new name, under both, or still under the old one."""
    try:
        placed = await asyncio.to_thread(_moved_to, library.root, edit)
    except (ChangedMeanwhileError, OSError) as error:
        raise BusyFileError(f"It cannot be told just now where {shown(edit.path)} is: {error}") from error
    with suppress(OSError):
        await asyncio.to_thread(_discard_copies, library.root, edit)
    if placed is None:
        async with job.effect() as work:
            await forget_edit(work.session, edit.id)
        return False
    await _commit(job, library, track, edit, placed)
    return True


def _discard_copies(root: bytes, edit: Edit) -> None:
    if edit.new_path is not None and edit.job_id is not None:
        with opened_folder(root, os.path.dirname(edit.new_path)) as folder:
            discard_copies(folder, edit.job_id)


def _moved_to(root: bytes, edit: Edit) -> FileStat | None:
    assert edit.new_path is not None
    source = FileStat(*(edit.versions or {})["source"])
    old, new = is_there(root, edit.path), is_there(root, edit.new_path)
    if new is None or (new.size, new.mtime_ns) != (source.size, source.mtime_ns):
        return None
    if old is not None and (old.size, old.mtime_ns) == (source.size, source.mtime_ns):
        if (old.inode, old.device) == (new.inode, new.device):
            if not SecondLook(root).is_listed(edit.new_path):
                return None  # the old name, which a file system that ignores case finds in other spellings
            return move(root, edit.path, edit.new_path, source)  # takes the old name away
        if old.device == new.device or not _end_copy(root, edit.path, edit.new_path):
            return None  # two files: nothing was moved yet
    remove_emptied(root, os.path.dirname(edit.path))
    return new


def _end_copy(root: bytes, source: bytes, target: bytes) -> bool:
    """Take away the old name of a file that was copied to another file system. False: it is another file.

    Raises ChangedMeanwhileError when somebody writes it, and OSError.
    """
    (from_folder, _, old), (to_folder, _, new) = source.rpartition(b"/"), target.rpartition(b"/")
    with opened_folder(root, from_folder) as before, opened_folder(root, to_folder) as after:
        found = stat_at(before, old)
        if found is None or not is_same_content((before, old), (after, new)):
            return False
        names_to_disk(after)
        refuse_changed(before, old, FileStat.of(found))
        take_away(before, old, now_also=(after, new))
    return True
