"""Reading what lies in the trash. Nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from mus.persistence.models import Track, TrashEntry
from mus.persistence.track_repository import LISTED


@dataclass(frozen=True, slots=True)
class Trashed:
    """A track in the trash, on its way there or back, or out of it."""

    track: Track
    original_path: bytes
    state: str
    deleted_at: datetime


async def trash_page(
    session: AsyncSession, *, library_id: int | None, after: tuple[datetime, int] | None, limit: int
) -> tuple[Sequence[Trashed], tuple[datetime, int] | None]:
    """A page of the trash, the latest first, and after which time and track id the next one begins."""
    query = (
        select(Track, TrashEntry.original_path, TrashEntry.state, TrashEntry.created_at)
        .join(TrashEntry, TrashEntry.track_id == Track.id)
        .options(LISTED)
        .order_by(TrashEntry.created_at.desc(), TrashEntry.track_id.desc())
        .limit(limit + 1)
    )
    if library_id is not None:
        # Not by its own index: the newest entries of all are looked through.
        query = query.where(func.coalesce(Track.library_id, None) == library_id)
    if after is not None:
        at, track_id = after
        place = tuple_(at, track_id, types=(TrashEntry.created_at.type, TrashEntry.track_id.type))
        query = query.where(tuple_(TrashEntry.created_at, TrashEntry.track_id) < place)
    found = [Trashed(*row) for row in (await session.execute(query)).all()]
    page = found[:limit]
    return page, (page[-1].deleted_at, page[-1].track.id) if len(found) > limit else None


async def latest_deletion(session: AsyncSession) -> datetime | None:
    """When a file went into the trash last, of those that lie there; None for an empty one."""
    return (await session.execute(select(func.max(TrashEntry.created_at)))).scalar()
