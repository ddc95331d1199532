"""The schedules that every installation has, and what people may change about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, Task, broker
from mus.errors import BadRequestError, ConflictError, NotFoundError
from mus.ledger.ledger import Ledger
from mus.ledger.schedules import ScheduleEntry, enqueue_for_schedule, next_run, schedule_rows
from mus.persistence.database import Database
from mus.persistence.models import Job, Library, Schedule, utc_now

#: Length of the column.
LONGEST_CRONTAB = 100
#: In a crontab's place: not at all.
OFF = "off"
_SCAN_TASK = "scheduled_scans"
_FIELDS = 5


def schedule_entries(scan_crontab: str) -> list[ScheduleEntry]:
    """The schedules with their defaults, one after the other in the hours when most people sleep.

    `scan_crontab` is the setting MUS_SCAN_SCHEDULE.
    """
    return [
        ScheduleEntry(
            "quick-scan",
            scan_crontab,
            _SCAN_TASK,
            Queue.LOW,
            description="A quick scan of every library that has no schedule of its own, behind everything else",
        ),
        ScheduleEntry(
            "retention",
            "17 3 * * *",
            "prune_history",
            Queue.LOW,
            {"days": 90},
            description="Forgets jobs that ended so many days ago, and their events",
        ),
        ScheduleEntry(
            "workers",
            "11 4 * * *",
            "forget_workers",
            Queue.LOW,
            description="Forgets workers that left more than a day ago",
        ),
        ScheduleEntry(
            "trash",
            "41 4 * * *",
            "purge_trash",
            Queue.LOW,
            {"days": 30},
            description="Deletes for good what has been in the trash for so many days",
        ),
        ScheduleEntry(
            "thumbnails",
            "53 4 * * *",
            "prune_thumbnails",
            Queue.LOW,
            description="Deletes thumbnails of covers that no track has any more",
        ),
        ScheduleEntry(
            "edits",
            "5 5 * * *",
            "edit_upkeep",
            Queue.LOW,
            description="Settles edits that were broken off, and removes pictures and uploads that nothing needs",
        ),
        ScheduleEntry(
            "database",
            "29 5 * * 0",
            "database_upkeep",
            Queue.LOW,
            description="Checks the database for damage, and keeps it quick and small",
        ),
    ]


async def all_schedule_entries(database: Database, scan_crontab: str) -> list[ScheduleEntry]:
    """Those that every installation has, then those that libraries have of their own."""
    async with database.reading() as session:
        own = (
            await session.execute(
                select(Schedule.name, Schedule.task, Library.id, Library.name.label("library"))
                .join(Library, Library.id == Schedule.library_id)
                .order_by(Library.id)
            )
        ).all()
    return schedule_entries(scan_crontab) + [
        ScheduleEntry(
            row.name,
            scan_crontab,
            row.task,
            Queue.LOW,
            {"library_id": row.id},
            description=f"A quick scan of the library {row.library}, in place of the common quick-scan",
            library_id=row.id,
        )
        for row in own
    ]


async def own_scan_crontabs(session: AsyncSession) -> dict[int, str]:
    """Of the libraries that have a schedule of their own, when it scans them: a crontab, or `off`."""
    rows = await session.execute(
        select(Schedule.library_id, Schedule.crontab, Schedule.enabled).where(Schedule.library_id.is_not(None))
    )
    return {row.library_id: row.crontab if row.enabled else OFF for row in rows}


async def set_own_scan(session: AsyncSession, library_id: int, crontab: str | None, *, common: str) -> None:
    """Let a library be scanned when `crontab` says, `off` for never; None is with all others, when `common` says.

    In a unit of work that holds the libraries. `crontab` was checked before.
    """
    row = (await session.scalars(select(Schedule).where(Schedule.library_id == library_id))).one_or_none()
    if crontab is None:
        await session.execute(delete(Schedule).where(Schedule.library_id == library_id))
        return
    now = utc_now()
    if row is None:
        row = Schedule(
            name=f"scan-{library_id}",
            task=_SCAN_TASK,
            queue=Queue.LOW,
            arguments={"library_id": library_id},
            crontab=common,
            library_id=library_id,
            enabled=False,
        )
        session.add(row)
    if crontab == OFF:
        row.enabled = False
    else:
        row.crontab, row.enabled = crontab, True
    row.next_due, row.edited_at = next_run(row.crontab, now), now


class ScheduleFieldError(BadRequestError):
    """A change that cannot be: `field` names what of it, dotted inside `arguments`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """What a person wants otherwise; None leaves it as it is. Of the arguments, those not named stay."""

    crontab: str | None = None
    enabled: bool | None = None
    arguments: Mapping[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        return self.crontab is None and self.enabled is None and not self.arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class LastJob:
    id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSchedule:
    """A schedule as the API and the command line show it."""

    name: str
    description: str
    task: str
    queue: str
    crontab: str
    default_crontab: str
    arguments: dict[str, Any]
    enabled: bool
    #: A person changed it: the defaults of the code and of MUS_SCAN_SCHEDULE do not reach it.
    edited: bool
    #: None when it is disabled.
    next_due: datetime | None
    #: When it last enqueued its job, by time or because a person asked.
    last_fired_at: datetime | None
    #: None before the first, and once retention has forgotten it.
    last_job: LastJob | None


def entry_named(entries: Sequence[ScheduleEntry], name: str) -> ScheduleEntry:
    """Raises NotFoundError, with the names there are."""
    for entry in entries:
        if entry.name == name:
            return entry
    names = [entry.name for entry in entries]
    raise NotFoundError(f"There is no schedule {name!a}", details={"schedules": names})


async def shown_schedules(database: Database, entries: Sequence[ScheduleEntry]) -> list[ShownSchedule]:
    """All of them, in the order of the entries."""
    rows = await schedule_rows(database, entries)
    job_ids = [row.last_job_id for row in rows.values() if row.last_job_id is not None]
    async with database.reading() as session:
        states = await session.execute(select(Job.id, Job.state).where(Job.id.in_(job_ids)))
        jobs = {job_id: LastJob(id=job_id, state=state) for job_id, state in states}
    return [_shown(entry, rows[entry.name], jobs) for entry in entries if entry.name in rows]


def _shown(entry: ScheduleEntry, row: Schedule, jobs: Mapping[str, LastJob]) -> ShownSchedule:
    return ShownSchedule(
        name=row.name,
        description=entry.description,
        task=row.task,
        queue=row.queue,
        crontab=row.crontab,
        default_crontab=entry.crontab,
        arguments=row.arguments,
        enabled=row.enabled,
        edited=row.edited_at is not None and entry.library_id is None,
        next_due=row.next_due if row.enabled else None,
        last_fired_at=row.last_fired_at,
        last_job=jobs.get(row.last_job_id or ""),
    )


async def shown_schedule(database: Database, entries: Sequence[ScheduleEntry], name: str) -> ShownSchedule:
    """One of them. Raises NotFoundError."""
    entry = entry_named(entries, name)
    found = await shown_schedules(database, [entry])
    if not found:
        raise _gone(name)
    return found[0]


def _gone(name: str) -> NotFoundError:
    return NotFoundError(f"The schedule {name} was removed just now")


async def change_schedule(
    database: Database, entries: Sequence[ScheduleEntry], name: str, change: ScheduleChange
) -> None:
    """Do as the person wants; from now on the defaults do not reach this schedule.

    Raises NotFoundError, and ScheduleFieldError for a crontab or an argument that cannot be.
    """
    entry = entry_named(entries, name)
    crontab = None if change.crontab is None else checked_crontab(change.crontab)
    if change.arguments and entry.library_id is not None:
        raise ScheduleFieldError("arguments", "This schedule is of one library, and scans that one")
    await schedule_rows(database, [entry])
    if change.is_empty:
        return
    async with database.unit_of_work() as work:
        row = (
            await work.session.execute(select(Schedule).where(Schedule.name == name).with_for_update())
        ).scalar_one_or_none()
        if row is None:
            raise _gone(name)
        now = utc_now()
        if change.arguments:
            row.arguments = _checked_arguments(_task_of(row), {**row.arguments, **change.arguments})
        begins = change.enabled is True and not row.enabled
        if crontab is not None:
            row.crontab = crontab
        if change.enabled is not None:
            row.enabled = change.enabled
        if crontab is not None or begins:
            # From now on: enabling does not make up for the time it was off.
            row.next_due = next_run(row.crontab, now)
        row.edited_at = now


async def reset_schedule(database: Database, entries: Sequence[ScheduleEntry], name: str) -> None:
    """Back to the defaults, which reach it again. Raises NotFoundError, and ConflictError for a library's own."""
    entry = entry_named(entries, name)
    if entry.library_id is not None:
        raise ConflictError(
            f"The schedule {name} is a library's own and has no default: give that library the common one instead",
            details={"library": entry.library_id},
            recovery_actions=(f"mus libraries set {entry.library_id} --scan common",),
        )
    row = (await schedule_rows(database, [entry]))[name]
    values = {**entry.defaults, "enabled": True, "edited_at": None}
    if not row.enabled or row.crontab != entry.crontab:
        values["next_due"] = next_run(entry.crontab, utc_now())
    async with database.unit_of_work() as work:
        await work.session.execute(update(Schedule).where(Schedule.name == name).values(**values))


async def run_schedule(ledger: Ledger, entries: Sequence[ScheduleEntry], name: str, *, requested_by: str) -> str:
    """Enqueue its job now, or find the one that waits; returns the id. When it is due next stays as it was.

    Raises NotFoundError.
    """
    entry = entry_named(entries, name)
    row = (await schedule_rows(ledger.database, [entry])).get(name)
    if row is None:
        raise _gone(name)
    _task_of(row)
    job = broker.job(row.queue, row.task, Options(requested_by=requested_by), **row.arguments)
    async with ledger.database.unit_of_work():
        return await enqueue_for_schedule(ledger, name, job)


def checked_crontab(text: str) -> str:
    """Its five fields with one space between. Raises ScheduleFieldError.

    The parser also takes seconds and years; a schedule that fires every second is nobody's wish."""
    crontab = " ".join(text.split())
    if len(crontab) > LONGEST_CRONTAB:
        raise ScheduleFieldError("crontab", f"It is longer than {LONGEST_CRONTAB} characters")
    if not crontab.isascii() or (len(crontab.split()) != _FIELDS and not crontab.startswith("@")):
        raise ScheduleFieldError(
            "crontab", "A crontab has five fields: minute, hour, day of the month, month, weekday"
        )
    try:
        next_run(crontab, utc_now())
    except BadRequestError as error:
        raise ScheduleFieldError("crontab", error.user_message) from error
    return crontab


def _task_of(row: Schedule) -> Task[Any]:
    """Raises ConflictError for a row that was edited before its task got another name."""
    task = broker.tasks.get(row.task)
    if task is None:
        message = f"The schedule {row.name} belongs to another version of mus: there is no task {row.task!a}"
        raise ConflictError(message, recovery_actions=("Reset the schedule",))
    return task


def _checked_arguments(task: Task[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """JSON-ready arguments that fit the task's signature. Raises ScheduleFieldError naming one that does not."""
    try:
        return task.arguments.model_validate(arguments).model_dump(mode="json")
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(["arguments", *(str(part) for part in first["loc"])])
        message = "There is no such argument" if first["type"] == "extra_forbidden" else first["msg"]
        raise ScheduleFieldError(_printable(where), _printable(message)) from None


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
