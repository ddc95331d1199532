"""Schedules are rows: a run missed while everything was down is made up for once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from crontab import CronTab
from sqlalchemy import select, update

from mus.errors import BadRequestError
from mus.ledger.job_rows import NewJob
from mus.ledger.ledger import Ledger
from mus.persistence.models import Schedule, utc_now


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """What a schedule enqueues, and when (five crontab fields, UTC)."""

    name: str
    crontab: str
    task: str
    queue: str
    arguments: dict[str, Any] = field(default_factory=dict)


def next_run(crontab: str, after: datetime) -> datetime:
    """The first instant after `after` that the crontab names. Raises BadRequestError for a crontab it is not."""
    try:
        found: datetime | None = CronTab(crontab).next(now=after.astimezone(UTC), return_datetime=True)
    except ValueError as error:
        raise BadRequestError(f"{crontab!r} is not a crontab: {error}") from error
    if found is None:
        raise BadRequestError(f"{crontab!r} never comes")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def ensure_schedules(ledger: Ledger, entries: Sequence[ScheduleEntry]) -> None:
    """Write the rows that are not there, and follow a changed crontab. A person's other edits stand."""
    now = utc_now()
    async with ledger.database.unit_of_work() as work:
        known = {row.name: row for row in (await work.session.execute(select(Schedule))).scalars()}
        for entry in entries:
            row = known.get(entry.name)
            if row is None:
                work.session.add(
                    Schedule(
                        name=entry.name,
                        task=entry.task,
                        queue=entry.queue,
                        arguments=entry.arguments,
                        crontab=entry.crontab,
                        next_due=next_run(entry.crontab, now),
                    )
                )
            elif row.crontab != entry.crontab:
                row.crontab, row.next_due = entry.crontab, next_run(entry.crontab, now)


async def fire_due(ledger: Ledger) -> list[str]:
    """Enqueue what is due, each schedule once however many processes look. Returns the jobs' ids."""
    now = utc_now()
    async with ledger.database.reading() as session:
        due = (await session.execute(select(Schedule).where(Schedule.next_due <= now))).scalars().all()
    fired: list[str] = []
    for schedule in due:
        async with ledger.database.unit_of_work() as work:
            won = (
                await work.session.execute(
                    update(Schedule)
                    .where(Schedule.name == schedule.name, Schedule.next_due == schedule.next_due)
                    .values(next_due=next_run(schedule.crontab, now), last_fired_at=now)
                    .returning(Schedule.name)
                )
            ).one_or_none()
            if won is not None:
                fired += await ledger.add(
                    [
                        NewJob(
                            task=schedule.task,
                            queue=schedule.queue,
                            arguments=schedule.arguments,
                            dedupe_key=f"schedule:{schedule.name}",
                            requested_by="schedule",
                        )
                    ]
                )
    return fired
