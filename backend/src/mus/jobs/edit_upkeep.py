"""What edits and uploads leave behind when they are broken off, and pictures that no edit names."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import select

from mus.broker.job_runner import RunningJob
from mus.jobs.edits import BusyFileError, settle_open
from mus.jobs.retention import give_way_to_shutdown
from mus.jobs.services import services
from mus.jobs.upload_batches import batches_to_place
from mus.library.beside import UPLOAD_FOLDER, UPLOAD_PREFIX
from mus.library.staged_uploads import sweep_batches
from mus.persistence.edit_repository import all_open_edits, forget_unused_pictures
from mus.persistence.libraries import on_this_machine
from mus.persistence.models import Library

#: No upload takes longer.
_LEFT_BEHIND_SECONDS = 24 * 3600.0


async def keep_edits_well(job: RunningJob) -> dict[str, Any]:
    """Returns counts."""
    async with services().database.reading() as session:
        track_ids = {edit.track_id for edit in await all_open_edits(session)}
        libraries = list(await session.scalars(select(Library)))
    settled = uploads = 0
    for track_id in sorted(track_ids):
        give_way_to_shutdown(job)
        with suppress(BusyFileError):
            await settle_open(job, track_id)
            settled += 1
    for row in libraries:
        root = on_this_machine(row, services().settings.roots).root
        uploads += await asyncio.to_thread(_sweep_uploads, root)
        # At the last moment: to settle edits takes its time.
        async with services().database.reading() as session:
            batches = await batches_to_place(session)
        uploads += await asyncio.to_thread(
            partial(sweep_batches, root, older_than_seconds=_LEFT_BEHIND_SECONDS, wanted=batches)
        )
    async with job.effect() as work:
        pictures = await forget_unused_pictures(work.session)
    return {"settled": settled, "uploads": uploads, "pictures": pictures}


def _sweep_uploads(root: bytes) -> int:
    folder = os.path.join(root, UPLOAD_FOLDER)
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.startswith(UPLOAD_PREFIX) and age > _LEFT_BEHIND_SECONDS:
                    os.unlink(entry.path)
                    removed += 1
    return removed
