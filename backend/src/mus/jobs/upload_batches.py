"""Files that were uploaded together go to their places: all of them or none.

Which they are is kept before the first is moved, so that an attempt that comes after a killed one knows them all;
and that they are to come back before the first does. So it is decided once, by the attempt that counts: one that
was taken for dead, and wakes up when the files are in their places, takes none of them away again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import ConflictError, MusError, NotFoundError
from mus.jobs.edits import not_placed
from mus.jobs.mount_guard import check_root
from mus.jobs.scan_walk import CHUNK
from mus.jobs.services import find_library, services
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.audio_formats import is_audio_name
from mus.library.paths import escaped, shown, unescaped
from mus.library.staged_uploads import (
    NotPlacedError,
    place_all,
    places_taken,
    renew_batch,
    staged_files,
    take_back,
)
from mus.persistence.known_tracks import live_count
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job
from mus.to_the_end import to_the_end

PLACE_TASK = "place_uploads"
#: Paths that the result names.
_TOLD = 100


def taken_message(place: bytes) -> str:
    return f"There is a file at {shown(place)} already"


def refuse_taken_places(root: bytes, places: Sequence[bytes]) -> None:
    """Blocking. Raises ConflictError, which names each."""
    taken = places_taken(root, places)
    if taken:
        raise _none_placed(
            taken_message(taken[0]), [{"path": shown(place), "message": taken_message(place)} for place in taken]
        )


def _none_placed(first: str, files: list[dict[str, str]]) -> ConflictError:
    return ConflictError(
        f"None of the files was put in its place: {first}",
        details={"files": files},
        recovery_actions=("Take away or rename what is there, and place them again", "Discard them"),
    )


async def place_batch(job: RunningJob, library_id: int, batch: str) -> dict[str, Any]:
    """Move the files, and have them read by parts of this job. Doing it again is harmless.

    Raises ConflictError when the place of one is taken, NotFoundError when nothing waits.
    """
    library = await find_library(library_id)
    kept = job.checkpoint or {}
    places = [unescaped(path) for path in kept.get("places", ())]
    if not kept.get("placed"):
        await _check(library)
        if not places:
            await asyncio.to_thread(renew_batch, library.root, batch)
            places = [file.place for file in await asyncio.to_thread(staged_files, library.root, batch)]
            if not places:
                raise NotFoundError("Nothing waits of this batch")
            await asyncio.to_thread(refuse_taken_places, library.root, places)
            async with job.effect(stage="placing", units_total=len(places)) as work:
                await job.keep(work, {"places": [escaped(place) for place in places]})
        await to_the_end(_place(job, library.root, batch, places, kept.get("not_placed")))
        await _have_read(job, library_id, places)
    return {"placed": len(places), "paths": [shown(place) for place in places[:_TOLD]]}


async def _check(library: LocalLibrary) -> None:
    async with services().database.reading() as session:
        has_live = await live_count(session, library.id) > 0
    await asyncio.to_thread(partial(check_root, library, has_live_tracks=has_live))


async def _place(
    job: RunningJob, root: bytes, batch: str, places: list[bytes], not_placed_before: dict[str, str] | None
) -> None:
    failed = not_placed_before
    if failed is None:
        try:
            await asyncio.to_thread(place_all, root, batch, places)
        except NotPlacedError as error:
            failed = {"path": shown(error.place), "message": _message(error)}
            async with job.effect(stage="taking back") as work:
                await job.keep(work, {"places": [escaped(place) for place in places], "not_placed": failed})
    if failed is not None:
        await asyncio.to_thread(take_back, root, batch, places)
        raise _none_placed(failed["message"], [failed])


def _message(error: NotPlacedError) -> str:
    if isinstance(error.reason, FileExistsError):
        return taken_message(error.place)
    reason = not_placed(error.reason, shown(error.place))
    return reason.user_message if isinstance(reason, MusError) else str(reason)


async def _have_read(job: RunningJob, library_id: int, places: list[bytes]) -> None:
    paths = [escaped(place) for place in places if is_audio_name(place)]
    async with job.effect(stage="reading") as work:
        await job.keep(work, {"places": [escaped(place) for place in places], "placed": True})
        await broker.enqueue_many(
            [
                broker.job(
                    Queue.HIGH,
                    "process_file_created",
                    Options(parent_id=job.id, requested_by=job.started.requested_by),
                    library_id=library_id,
                    paths=paths[start : start + CHUNK],
                )
                for start in range(0, len(paths), CHUNK)
            ]
        )


async def batches_to_place(session: AsyncSession) -> set[str]:
    """Names of those that a job is still to place."""
    rows = await session.scalars(
        select(Job.arguments).where(Job.task == PLACE_TASK, Job.state.not_in(TERMINAL_STATES))
    )
    return {arguments["batch"] for arguments in rows if isinstance(arguments.get("batch"), str)}
