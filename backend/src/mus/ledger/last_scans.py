"""How fast the last scan of each library was. Few of the ended jobs are looked at: a page that is read every few
seconds must not get slower with the years."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.ledger.job_states import JobState
from mus.persistence.models import Job

#: So many of the latest scans are looked at: enough to meet each library's last one.
_LATEST_SCANS = 50


@dataclass(frozen=True, slots=True)
class LastScan:
    """A library's last scan that succeeded."""

    library_id: int
    found: int
    #: From its start to its end.
    seconds: float


async def last_scans(session: AsyncSession) -> list[LastScan]:
    """The last scan of each library."""
    rows = await session.execute(
        select(Job.state, Job.arguments, Job.result, Job.started_at, Job.finished_at)
        .where(Job.task == "scan_library")
        .order_by(Job.id.desc())
        .limit(_LATEST_SCANS)
    )
    last: dict[int, LastScan] = {}
    for row in rows:
        library_id = row.arguments.get("library_id")
        if row.state != JobState.SUCCEEDED or library_id in last or row.started_at is None:
            continue
        found = (row.result or {}).get("found", 0)
        last[library_id] = LastScan(library_id, found, (row.finished_at - row.started_at).total_seconds())
    return list(last.values())
