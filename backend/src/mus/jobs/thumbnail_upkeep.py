"""Thumbnails that no track refers to are deleted."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.errors import AdminRequiredError
from mus.jobs.retention import give_way_to_shutdown
from mus.jobs.services import services
from mus.library.thumbnail_sweep import Swept, shards, sweep_shard
from mus.persistence.models import Track


async def delete_orphaned_thumbnails(job: RunningJob) -> dict[str, Any]:
    """Returns the counts and the bytes that became free.

    Covers of missing and trashed tracks stay: they come back. Raises AdminRequiredError at the end when files
    could not be deleted.
    """
    folder = services().settings.thumbnails_dir
    try:
        names = await asyncio.to_thread(shards, folder)
    except OSError as error:
        raise _unusable(str(folder), error) from error
    # Once, and not for each folder: `cover` has no index. What is committed after this is younger than a day.
    async with services().database.reading() as session:
        covers = await session.scalars(select(Track.cover).where(Track.cover.is_not(None)).distinct())
        wanted = {cover for cover in covers if cover is not None}
    total = Swept()
    for number, name in enumerate(names):
        give_way_to_shutdown(job)
        await job.report(stage="looking for thumbnails without a track", units_done=number, units_total=len(names))
        try:
            total.add(await asyncio.to_thread(sweep_shard, folder, name, wanted))
        except OSError as error:
            raise _unusable(str(folder / name), error) from error
    counts = {name: getattr(total, name) for name in ("thumbnails", "temporary", "bytes", "kept")}
    if total.failures:
        raise AdminRequiredError(
            f"{len(total.failures)} thumbnails could not be deleted; the first: {total.failures[0]}",
            details=counts,
            recovery_actions=("Let mus write in the data folder",),
        )
    return counts


def _unusable(folder: str, error: OSError) -> AdminRequiredError:
    return AdminRequiredError(
        f"The folder {folder} cannot be read: {error.strerror}",
        recovery_actions=("Let mus read and write the data folder",),
    )
