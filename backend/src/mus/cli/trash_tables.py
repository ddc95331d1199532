"""The trash for people, as a table, and for programs, as JSON; and the jobs that take something out of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.cli.existing_database import existing_database, require_database
from mus.cli.terminal import local_time, plain, table_console
from mus.config import Settings
from mus.errors import ConflictError
from mus.jobs import JOB_MODULES
from mus.ledger.job_rows import NewJob
from mus.library.paths import shown
from mus.library.states import TrackState
from mus.persistence.libraries import library_named, library_names
from mus.persistence.track_repository import track_named
from mus.persistence.trash_list import trash_page

#: More than anybody looks at.
_MOST = 1000
_BY = "mus trash"

Request = Callable[[AsyncSession], Awaitable[NewJob]]


async def listed(settings: Settings, library: str | None) -> list[dict[str, Any]]:
    """What lies in the trash, the latest first. Raises NotFoundError for an unknown library."""
    async with existing_database(settings) as database, database.reading() as session:
        library_id = None if library is None else (await library_named(session, library)).id
        found, _ = await trash_page(session, library_id=library_id, after=None, limit=_MOST)
        names = await library_names(session)
        return [
            {
                "id": each.track.id,
                "library": names.get(each.track.library_id, ""),
                "path": shown(each.original_path),
                "deleted_at": plain(each.deleted_at),
                "state": each.state,
                "bytes": each.track.size,
            }
            for each in found
        ]


def restoring(track_id: int) -> Request:
    """Brings a track back. Raises NotFoundError, and ConflictError when it is not in the trash."""

    async def request(session: AsyncSession) -> NewJob:
        await _require_trashed(session, track_id)
        task = "restore_track_by_id"
        return broker.job(
            Queue.HIGH, task, Options(dedupe_key=f"{task}:{track_id}", requested_by=_BY), track_id=track_id
        )

    return request


def purging(track_ids: Sequence[int] | None, library: str | None) -> Request:
    """Deletes these for good, or all, of a library if it is named. Raises as `restoring`."""

    async def request(session: AsyncSession) -> NewJob:
        library_id = None if library is None else (await library_named(session, library)).id
        for track_id in track_ids or ():
            await _require_trashed(session, track_id)
        return broker.job(
            Queue.MEDIUM,
            "empty_trash",
            Options(requested_by=_BY),
            library_id=library_id,
            track_ids=None if track_ids is None else list(track_ids),
        )

    return request


async def _require_trashed(session: AsyncSession, track_id: int) -> None:
    track = await track_named(session, track_id)
    if track.status != TrackState.TRASHED:
        raise ConflictError(f"Track {track_id} is not in the trash: it is {track.status}")


async def enqueued(settings: Settings, requests: Sequence[Request]) -> list[str]:
    """The ids of the jobs, for the workers that run or those that will."""
    from mus.broker.runtime import opened

    require_database(settings)
    for module in JOB_MODULES:
        importlib.import_module(module)
    async with opened(settings) as runtime:
        async with runtime.database.reading() as session:
            jobs = [await request(session) for request in requests]
        async with runtime.database.unit_of_work():
            return list(await broker.enqueue_many(jobs))


def print_list(items: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(items)}))
        return
    if not items:
        print("The trash is empty")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("id", "library", "file", "deleted", "MiB", "state"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"id", "MiB"} else "left")
    for item in items:
        table.add_row(
            str(item["id"]),
            escape(item["library"]),
            escape(item["path"]),
            local_time(item["deleted_at"]),
            f"{item['bytes'] / 1024 / 1024:.1f}",
            item["state"],
        )
    table_console().print(table)
