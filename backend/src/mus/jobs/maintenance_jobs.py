"""Jobs that come by themselves, and the schedules that bring them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from mus.broker import admin_alert
from mus.broker.job_runner import current_job
from mus.broker.queues import Queue
from mus.broker.streaq_broker import broker
from mus.jobs.admin_webhook import call_webhook
from mus.jobs.scan_requests import scan_job
from mus.jobs.services import services
from mus.jobs.trash import purge_trash as purge
from mus.ledger.schedules import ScheduleEntry
from mus.ledger.workers import forget_gone_workers
from mus.persistence.models import Library

TRASH_DAYS = 30.0


def schedules(scan_crontab: str) -> list[ScheduleEntry]:
    """The rows that every installation has."""
    return [
        ScheduleEntry("quick-scan", scan_crontab, "scheduled_scans", Queue.LOW),
        ScheduleEntry("workers", "11 4 * * *", "forget_workers", Queue.LOW),
        ScheduleEntry("trash", "41 4 * * *", "purge_trash", Queue.LOW),
    ]


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


@broker.task("purge_trash")
async def purge_trash() -> dict[str, Any]:
    """Delete for good what was trashed 30 days ago."""
    return await purge(current_job(), older_than_days=TRASH_DAYS)
