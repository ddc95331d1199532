"""Tracks that are edited and renamed, and what is left of that."""

from __future__ import annotations

from typing import Any

import pyvips
from music_library import MusicLibrary, result_of
from sqlalchemy import select

from mus.broker.queues import Queue
from mus.persistence.models import Edit, Job


def picture(shade: int) -> bytes:
    return bytes((pyvips.Image.black(50, 50, bands=3) + shade).cast("uchar").jpegsave_buffer())


async def edited(
    library: MusicLibrary, track_id: int, pattern: str | None = None, **changes: Any
) -> dict[str, Any]:
    job = await library.run("edit_track", track_id=track_id, changes=changes, rename_pattern=pattern)
    return result_of(job)


async def history(library: MusicLibrary) -> list[Edit]:
    async with library.runtime.database.reading() as session:
        return list((await session.scalars(select(Edit).order_by(Edit.id))).all())


async def undone(library: MusicLibrary, *edit_ids: int) -> Job:
    return await library.run("undo_edits", edit_ids=list(edit_ids))


async def renamed(library: MusicLibrary, pattern: str, *track_ids: int) -> dict[str, Any]:
    job = await library.run(
        "edit_tracks", Queue.MEDIUM, track_ids=list(track_ids), changes={}, rename_pattern=pattern
    )
    return job.result or {"error": job.error_message, **(job.error_details or {})}


def leftovers(library: MusicLibrary) -> list[str]:
    return [str(path) for path in library.root.rglob(".mus-*")]
