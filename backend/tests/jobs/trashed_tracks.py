"""Tracks that are deleted and restored, and what the database and the trash folder then hold."""

from __future__ import annotations

import os
from pathlib import Path

from music_library import MusicLibrary
from sqlalchemy import select

from mus.persistence.models import Job, Track, TrashEntry, utc_now


async def deleted(library: MusicLibrary, track_id: int) -> Job:
    return await library.run("delete_track_by_id", track_id=track_id)


async def restored(library: MusicLibrary, track_id: int) -> Job:
    return await library.run("restore_track_by_id", track_id=track_id)


async def by_id(library: MusicLibrary, track_id: int) -> Track:
    return next(track for track in (await library.tracks()).values() if track.id == track_id)


async def entries(library: MusicLibrary) -> list[TrashEntry]:
    async with library.runtime.database.reading() as session:
        return list((await session.scalars(select(TrashEntry))).all())


async def intend(library: MusicLibrary, track_id: int, name: str, state: str = "moving") -> Path:
    """The intent row of a deletion that went no further; returns where the file is to go."""
    trash = library.root / ".mus-trash"
    trash.mkdir(exist_ok=True)
    target = trash / f"{track_id}-{Path(name).name}"
    async with library.runtime.database.unit_of_work() as work:
        work.session.add(
            TrashEntry(
                track_id=track_id,
                original_path=os.fsencode(name),
                trash_path=os.fsencode(target),
                state=state,
                created_at=utc_now(),
            )
        )
    return target


def in_trash(library: MusicLibrary) -> list[str]:
    return sorted(os.listdir(library.root / ".mus-trash"))
