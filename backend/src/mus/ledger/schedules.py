"""Schedules are rows: a run missed while everything was down is made up for once.

The code says which schedules there are and their defaults; a row keeps what a person changed, and when it is due.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from crontab import CronTab
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import BadRequestError
from mus.ledger.job_rows import NewJob
from mus.ledger.ledger import Ledger
from mus.persistence.conflicts import insert_into
from mus.persistence.database import Database
from mus.persistence.models import Schedule, utc_now
from mus.persistence.prepared import Prepared
from mus.persistence.unit_of_work import current_unit_of_work

logger = logging.getLogger(__name__)

#: (name, crontab) of rows that were complained of: reconcile looks every few seconds.
_complained: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """What a schedule enqueues, and when (five crontab fields, UTC)."""

    name: str
    crontab: str
    task: str
    queue: str
    arguments: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    #: Whose own it is, if a library's: then a person's word makes and ends its row, never the code.
    library_id: int | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """The columns that follow the code until a person edits the row."""
        return {
            "crontab": self.crontab,
            "task": self.task,
            "queue": str(self.queue),
            "arguments": self.arguments,
        }


def next_run(crontab: str, after: datetime) -> datetime:
    """The first instant after `after` that the crontab names. Raises BadRequestError for a crontab it is not."""
    try:
        found: datetime | None = CronTab(crontab).next(now=after.astimezone(UTC), return_datetime=True)
    except ValueError as error:
        raise BadRequestError(f"{crontab!a} is not a crontab: {error}") from error
    if found is None:
        raise BadRequestError(f"{crontab!a} never comes")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# ------------------------------------------------------------- rows and code


async def ensure_schedules(ledger: Ledger, entries: Sequence[ScheduleEntry]) -> None:
    """Write the rows that are not there, follow changed defaults, remove rows of schedules that are no more.

    What a person edited stands: when, whether, and with which arguments; the task is always the code's. Those that
    are libraries' own are none of the code's. Several workers may do this at once. Raises BadRequestError for an
    entry's crontab that is none.
    """
    now = utc_now()
    due = {entry.name: next_run(entry.crontab, now) for entry in entries}
    async with ledger.database.reading() as session:
        found = await session.scalars(select(Schedule).where(Schedule.library_id.is_(None)))
        rows = {row.name: row for row in found.all()}
    known = [entry for entry in entries if entry.name in rows]
    changed = [entry for entry in known if _differs(rows[entry.name], entry)]
    if len(known) == len(entries) == len(rows) and not changed:
        return  # as at nearly every start: no need to wait for whoever writes
    async with ledger.database.unit_of_work() as work:
        await add_missing(work.session, entries, is_sqlite=ledger.database.is_sqlite)
        # In one order, so that two workers that start together cannot deadlock.
        for entry in sorted(changed, key=lambda entry: entry.name):
            values = dict(entry.defaults)
            if rows[entry.name].crontab != entry.crontab:
                values["next_due"] = due[entry.name]
            await work.session.execute(
                update(Schedule).where(Schedule.name == entry.name, Schedule.edited_at.is_(None)).values(**values)
            )
            await work.session.execute(
                update(Schedule)
                .where(Schedule.name == entry.name, Schedule.edited_at.is_not(None))
                .values(task=entry.task, queue=str(entry.queue))
            )
        await work.session.execute(
            delete(Schedule).where(
                Schedule.name.not_in([entry.name for entry in entries]), Schedule.library_id.is_(None)
            )
        )


def _differs(row: Schedule, entry: ScheduleEntry) -> bool:
    followed = entry.defaults if row.edited_at is None else {"task": entry.task, "queue": str(entry.queue)}
    return any(getattr(row, name) != value for name, value in followed.items())


async def add_missing(session: AsyncSession, entries: Sequence[ScheduleEntry], *, is_sqlite: bool) -> None:
    """Write the rows that are not there, in a unit of work. Whoever inserts the same one later changes nothing."""
    now = utc_now()
    rows = [
        {"name": entry.name, **entry.defaults, "next_due": next_run(entry.crontab, now)}
        for entry in sorted(entries, key=attrgetter("name"))
        if entry.library_id is None
    ]
    if rows:
        await session.execute(insert_into(Schedule, is_sqlite=is_sqlite).values(rows).on_conflict_do_nothing())


async def schedule_rows(database: Database, entries: Sequence[ScheduleEntry]) -> dict[str, Schedule]:
    """The row of each entry, by name; written first where no worker has started yet."""
    names = [entry.name for entry in entries]
    found = await _rows_named(database, names)
    if len(found) < len(entries):
        async with database.unit_of_work() as work:
            await add_missing(work.session, entries, is_sqlite=database.is_sqlite)
        found = await _rows_named(database, names)
    return found


async def _rows_named(database: Database, names: Sequence[str]) -> dict[str, Schedule]:
    async with database.reading() as session:
        rows = (await session.scalars(select(Schedule).where(Schedule.name.in_(names)))).all()
    return {row.name: row for row in rows}


# -------------------------------------------------------------------- firing


_ENABLED = Prepared(
    select(Schedule.name, Schedule.task, Schedule.crontab, Schedule.next_due)
    .where(Schedule.enabled)
    .order_by(Schedule.name)
)


async def fire_due(ledger: Ledger, tasks: Container[str]) -> list[str]:
    """Enqueue what is due, each schedule once however many processes look. Returns the jobs' ids.

    A schedule of none of these `tasks` is left to the workers of the mus that made it.
    """
    now = utc_now()
    rows = await ledger.database.look(lambda look: look.all(_ENABLED))
    fired: list[str] = []
    for row in rows:
        try:
            if row.task not in tasks:
                raise BadRequestError(f"this mus has no task {row.task!a}")
            following = next_run(row.crontab, now)
        except BadRequestError as error:
            if (row.name, row.crontab) not in _complained:
                _complained.add((row.name, row.crontab))
                logger.error("the schedule %s does not run: %s", row.name, error)
            continue
        if row.next_due <= now:
            fired += await _fire(ledger, row, following)
        elif row.next_due > following:
            # It was written by a clock that ran ahead (a board without a battery, before it asked for the time):
            # without this the schedule would be silent until then.
            async with ledger.database.unit_of_work() as work:
                await work.session.execute(update(Schedule).where(_as_seen(row)).values(next_due=following))
    return fired


async def _fire(ledger: Ledger, seen: Any, following: datetime) -> list[str]:
    async with ledger.database.unit_of_work() as work:
        won = (
            await work.session.execute(
                update(Schedule)
                .where(_as_seen(seen))
                .values(next_due=following)
                .returning(Schedule.name, Schedule.task, Schedule.queue, Schedule.arguments)
            )
        ).one_or_none()
        if won is None:
            return []  # another process fired it, or a person changed it
        job = NewJob(task=won.task, queue=won.queue, arguments=won.arguments, requested_by="schedule")
        return [await enqueue_for_schedule(ledger, won.name, job)]


def _as_seen(row: Any) -> Any:
    return (
        (Schedule.name == row.name)
        & (Schedule.next_due == row.next_due)
        & (Schedule.crontab == row.crontab)
        & Schedule.enabled
    )


async def enqueue_for_schedule(ledger: Ledger, name: str, job: NewJob) -> str:
    """Enqueue a schedule's job in the current unit of work; returns its id, or that of one that waits already.

    One of a schedule's jobs runs at a time; the next waits for it.
    """
    key = f"schedule:{name}"
    (job_id,) = await ledger.add([replace(job, dedupe_key=key, exclusive_key=key)])
    await current_unit_of_work().session.execute(
        update(Schedule).where(Schedule.name == name).values(last_fired_at=utc_now(), last_job_id=job_id)
    )
    return job_id
