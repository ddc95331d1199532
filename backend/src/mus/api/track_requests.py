"""What requests about tracks' files have in common: which tracks, whether they can be written, and the job."""

from __future__ import annotations

import os
from typing import Any

import anyio.to_thread
from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from mus.api.edit_schemas import TrackSelection
from mus.api.job_schemas import JobAccepted
from mus.api.problems import FieldError
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import ConflictError
from mus.ledger.job_states import JobState
from mus.library.file_systems import read_only_reason
from mus.library.paths import shown
from mus.library.reader_pool import ReaderPool
from mus.library.states import TrackState
from mus.persistence.libraries import library_named
from mus.persistence.models import Library, Track
from mus.persistence.track_filter import TrackFilter
from mus.persistence.track_list import matching_ids

#: Tracks of one job.
MOST_TRACKS = 100_000
_EDITED_STATES = (TrackState.COMPLETE, TrackState.PENDING)


async def refuse_if_read_only(runtime: Runtime, library: Library, track: Track) -> None:
    """Raises ConflictError where this machine could not move the file. The worker's machine judges for itself."""
    root = runtime.settings.roots.here(library.root)
    reason = await anyio.to_thread.run_sync(_read_only_reason, root, track.path.partition(b"\0")[0])
    if reason is not None:
        raise ConflictError(
            f"The folder of {shown(track.path)} cannot be changed: {reason}",
            details={"library": library.name, "reason": reason},
            recovery_actions=("Let mus write in the music folder",),
        )


def _read_only_reason(root: bytes, path: bytes) -> str | None:
    """Of the folder of `path`, or of what is left above it."""
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(os.path.join(root, folder)):
        folder = os.path.dirname(folder)
    return read_only_reason(os.path.join(root, folder))


async def selected_ids(session: AsyncSession, selection: TrackSelection) -> list[int]:
    """Ids of the tracks that are meant, in order, each once. Raises FieldError and NotFoundError."""
    if selection.ids is not None:
        return sorted(set(selection.ids))
    assert selection.filter is not None
    given = selection.filter
    wanted = TrackFilter(
        query=given.q,
        statuses=_EDITED_STATES,
        library_id=None if given.library is None else (await library_named(session, given.library)).id,
        artist=given.artist,
        album=given.album,
    )
    ids = await matching_ids(session, wanted, most=MOST_TRACKS)
    if len(ids) > MOST_TRACKS:
        raise FieldError("body", "filter", f"Must not fit more than {MOST_TRACKS:,} tracks")
    if not ids:
        raise ConflictError("No track fits this filter")
    return ids


async def accepted(
    runtime: Runtime, response: Response, queue: Queue, task: str, options: Options, **arguments: Any
) -> JobAccepted:
    """Enqueue the job, and say so."""
    async with runtime.database.unit_of_work():
        job_id = await broker.enqueue(queue, task, options, **arguments)
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobAccepted(job_id=job_id, state=JobState.QUEUED)


def inspectors(request: HTTPConnection) -> ReaderPool:
    """Processes that look at what somebody sent, and that may crash over it."""
    pool: ReaderPool = request.app.state.inspectors
    return pool
