"""Jobs that come by themselves: `mus.jobs.schedules` says when. Each is a thin shell around a plain function."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from mus.broker import admin_alert
from mus.broker.job_runner import current_job
from mus.broker.queues import Queue
from mus.broker.streaq_broker import broker
from mus.jobs.admin_webhook import call_webhook
from mus.jobs.database_upkeep import keep_database_well
from mus.jobs.renewed_words import renew_words_of_all
from mus.jobs.retention import HistoryRetention
from mus.jobs.scan_requests import scan_job
from mus.jobs.services import services
from mus.jobs.thumbnail_upkeep import delete_orphaned_thumbnails
from mus.jobs.trash_purge import purge_old
from mus.ledger.workers import forget_gone_workers
from mus.persistence.models import Library

Days = Annotated[int, Field(ge=1, le=36_500)]


@broker.task("scheduled_scans")
async def scheduled_scans() -> dict[str, Any]:
    """A quick scan of every library, behind everything else."""
    async with services().database.reading() as session:
        library_ids = (await session.execute(select(Library.id))).scalars().all()
    async with current_job().effect():
        jobs = await broker.enqueue_many(
            [scan_job(library_id, queue=Queue.LOW, requested_by="schedule") for library_id in library_ids]
        )
    return {"scans": jobs}


@broker.task(
    admin_alert.TASK,
    timeout_seconds=60.0,
    attempts=admin_alert.ATTEMPTS,
    first_backoff_seconds=admin_alert.FIRST_BACKOFF_SECONDS,
)
async def call_admin_webhook(*, job_id: str) -> dict[str, Any] | None:
    """Tell the admin's webhook that a job has failed."""
    return await call_webhook(current_job(), job_id)


@broker.task("forget_workers")
async def forget_workers() -> dict[str, Any]:
    """Drop the rows of workers that left more than a day ago."""
    return {"forgotten": await forget_gone_workers(services().database)}


@broker.task("prune_history", timeout_seconds=6 * 3600.0)
async def prune_history(*, days: Days = 90) -> dict[str, Any]:
    """Forget jobs that ended so many days ago, and their events."""
    return await HistoryRetention(current_job(), days=days).run()


@broker.task("purge_trash")
async def purge_trash(*, days: Days = 30) -> dict[str, Any]:
    """Delete for good what was trashed so many days ago."""
    return await purge_old(current_job(), older_than_days=days)


@broker.task("prune_thumbnails")
async def prune_thumbnails() -> dict[str, Any]:
    """Delete thumbnails of covers that no track has any more."""
    return await delete_orphaned_thumbnails(current_job())


@broker.task("database_upkeep")
async def database_upkeep() -> dict[str, Any]:
    """Check the database for damage, and keep it quick and small."""
    return await keep_database_well(current_job())


@broker.task("renew_words", timeout_seconds=3600.0)
async def renew_words() -> dict[str, Any]:
    """Make the words and keys by which tracks are found and sorted again, by the rules of today."""
    return await renew_words_of_all(current_job())
