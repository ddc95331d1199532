"""Jobs that change files because a person asked. Each is a thin shell around a plain function."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import current_job
from mus.broker.streaq_broker import broker
from mus.jobs.edit_batch import EditBatch, UndoBatch
from mus.jobs.edit_upkeep import keep_edits_well
from mus.jobs.services import services
from mus.jobs.upload_batches import place_batch
from mus.jobs.watched_changes import apply_changes
from mus.library.paths import shown, unescaped
from mus.persistence.models import Track

_DAY = 24 * 3600.0


@broker.task("edit_track", timeout_seconds=3600.0)
async def edit_track(
    *, track_id: int, changes: dict[str, Any], rename_pattern: str | None = None
) -> dict[str, Any]:
    """Change the tags, the cover or the name of one track's file."""
    return await EditBatch(current_job(), [track_id], changes, rename_pattern).run_one()


@broker.task("edit_tracks", timeout_seconds=_DAY)
async def edit_tracks(
    *, track_ids: list[int], changes: dict[str, Any], rename_pattern: str | None = None
) -> dict[str, Any]:
    """The same for many: what cannot be done to one does not stop the others."""
    return await EditBatch(current_job(), track_ids, changes, rename_pattern).run()


@broker.task("undo_edits", timeout_seconds=_DAY)
async def undo_edits(*, edit_ids: list[int]) -> dict[str, Any]:
    """Take edits back, in this order."""
    batch = UndoBatch(current_job(), edit_ids)
    return await (batch.run_one() if len(edit_ids) == 1 else batch.run())


@broker.task("add_uploaded_file", timeout_seconds=3600.0)
async def add_uploaded_file(*, library_id: int, path: str) -> dict[str, Any]:
    """Read a file that was uploaded into its place."""
    place = unescaped(path)
    counts = await apply_changes(current_job(), library_id, [place])
    async with services().database.reading() as session:
        query = select(Track.id).where(Track.library_id == library_id, Track.path == place)
        track_id = (await session.execute(query)).scalar()
    return {**counts, "track_id": track_id, "path": shown(place)}


@broker.task("place_uploads", timeout_seconds=3600.0)
async def place_uploads(*, library_id: int, batch: str) -> dict[str, Any]:
    """Files that were uploaded together: move them to their places, and read them."""
    return await place_batch(current_job(), library_id, batch)


@broker.task("edit_upkeep")
async def edit_upkeep() -> dict[str, Any]:
    """Settle what was broken off, and remove what nothing needs."""
    return await keep_edits_well(current_job())
