"""Schedules: rows that follow the code until somebody edits them, fired once however many look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.errors import BadRequestError
from mus.ledger import schedules
from mus.ledger.ledger import Ledger
from mus.ledger.schedules import ScheduleEntry, ensure_schedules, fire_due, next_run
from mus.persistence.database import Database
from mus.persistence.models import Job, Schedule, utc_now

NIGHTLY = ScheduleEntry("nightly", "0 3 * * *", "test_leaf", Queue.LOW, {"name": "night"})
WEEKLY = ScheduleEntry("weekly", "0 4 * * 0", "test_leaf", Queue.LOW, {"name": "week"})


async def row(ledger: Ledger, name: str = "nightly") -> Schedule:
    async with ledger.database.reading() as session:
        return (await session.execute(select(Schedule).where(Schedule.name == name))).scalar_one()


async def names(ledger: Ledger) -> list[str]:
    async with ledger.database.reading() as session:
        return list((await session.scalars(select(Schedule.name).order_by(Schedule.name))).all())


async def set_row(ledger: Ledger, name: str = "nightly", **values: Any) -> None:
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Schedule).where(Schedule.name == name).values(**values))


async def jobs(ledger: Ledger) -> Sequence[Job]:
    async with ledger.database.reading() as session:
        return (await session.scalars(select(Job).order_by(Job.id))).all()


def long_ago() -> datetime:
    return utc_now() - timedelta(days=9)


# ------------------------------------------------------------- rows and code


async def test_rows_follow_the_code_until_somebody_edits_them(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    often = ScheduleEntry("nightly", "*/5 * * * *", "test_family", Queue.HIGH, {"name": "n", "children": 1})
    await ensure_schedules(ledger, [often])
    found = await row(ledger)
    assert (found.crontab, found.task, found.queue) == ("*/5 * * * *", "test_family", "high_priority")
    assert found.arguments == {"name": "n", "children": 1}
    assert found.next_due - utc_now() <= timedelta(minutes=5)
    await set_row(ledger, edited_at=utc_now(), crontab="7 7 * * *")
    await ensure_schedules(ledger, [NIGHTLY])
    found = await row(ledger)
    assert (found.crontab, found.task, found.arguments) == ("7 7 * * *", "test_leaf", {"name": "n", "children": 1})


async def test_changed_arguments_leave_the_next_run_where_it_is(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    due = long_ago()
    await set_row(ledger, next_due=due)
    await ensure_schedules(ledger, [ScheduleEntry("nightly", "0 3 * * *", "test_leaf", Queue.LOW, {"name": "x"})])
    found = await row(ledger)
    assert (found.arguments, found.next_due) == ({"name": "x"}, due)


async def test_rows_of_schedules_that_are_no_more_go_even_if_they_were_edited(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY, WEEKLY])
    await set_row(ledger, edited_at=utc_now())
    await ensure_schedules(ledger, [WEEKLY])
    assert await names(ledger) == ["weekly"]


async def test_workers_that_start_together_write_each_row_once(runtime: Runtime, ledger: Ledger) -> None:
    databases = [Database(runtime.settings.sqlalchemy_url) for _ in range(4)]
    ledgers = [Ledger(database, ledger.publisher) for database in databases]
    await asyncio.gather(*(ensure_schedules(one, [NIGHTLY, WEEKLY]) for one in ledgers))
    assert await names(ledger) == ["nightly", "weekly"]
    for database in databases:
        await database.close()


async def test_a_crontab_that_is_none_or_never_comes_is_refused(ledger: Ledger) -> None:
    for crontab in ("every now and then", "61 * * * *", "* * * *", "", "0 0 ? ? ?"):
        with pytest.raises(BadRequestError, match="not a crontab"):
            next_run(crontab, utc_now())
    with pytest.raises(BadRequestError, match="never comes"):
        next_run("0 0 31 2,4,6 *", utc_now())
    with pytest.raises(BadRequestError, match="not a crontab"):
        await ensure_schedules(ledger, [ScheduleEntry("bad", "never", "test_leaf", Queue.LOW)])
    assert await names(ledger) == []


def test_a_crontab_counts_in_utc_whatever_the_zone_of_the_moment() -> None:
    tokyo = datetime.fromisoformat("2026-03-01T11:00:00+09:00")  # 02:00 in UTC
    assert next_run("0 3 * * *", tokyo) == datetime(2026, 3, 1, 3, tzinfo=UTC)


# -------------------------------------------------------------------- firing


async def test_a_run_missed_many_times_runs_once_however_many_look(runtime: Runtime, ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    await set_row(ledger, next_due=long_ago())
    databases = [Database(runtime.settings.sqlalchemy_url) for _ in range(4)]
    fired = await asyncio.gather(
        *(fire_due(Ledger(database, ledger.publisher), broker.tasks) for database in databases)
    )
    (job_id,) = [job for found in fired for job in found]
    assert await fire_due(ledger, broker.tasks) == []
    found = await row(ledger)
    assert found.last_fired_at is not None
    assert found.next_due == next_run("0 3 * * *", found.last_fired_at)
    assert found.last_job_id == job_id
    (job,) = await jobs(ledger)
    assert (job.id, job.arguments, job.queue, job.requested_by) == (
        job_id, {"name": "night"}, "low_priority", "schedule"
    )  # fmt: skip
    for database in databases:
        await database.close()


async def test_two_due_runs_while_the_earlier_job_waits_are_one_job(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    await set_row(ledger, next_due=long_ago())
    first = await fire_due(ledger, broker.tasks)
    await set_row(ledger, next_due=long_ago())
    assert await fire_due(ledger, broker.tasks) == first
    assert len(await jobs(ledger)) == 1


async def test_a_run_that_is_due_while_the_earlier_job_runs_waits_for_its_end(
    ledger: Ledger, worker_id: str, job_row: Callable[[str], Any]
) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    await set_row(ledger, next_due=long_ago())
    (first,) = await fire_due(ledger, broker.tasks)
    assert await ledger.start(f"{first}.1.1", worker_id) is not None
    await set_row(ledger, next_due=long_ago())
    (second,) = await fire_due(ledger, broker.tasks)
    assert second != first
    assert (await row(ledger)).last_job_id == second
    assert await ledger.start(f"{second}.1.1", worker_id) is None
    assert (await job_row(second)).state == "queued"


async def test_a_disabled_schedule_does_not_fire(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY])
    await set_row(ledger, next_due=long_ago(), enabled=False)
    assert await fire_due(ledger, broker.tasks) == []


async def test_a_clock_that_ran_ahead_and_came_back_silences_nothing(ledger: Ledger) -> None:
    await ensure_schedules(ledger, [NIGHTLY, WEEKLY])
    weekly = (await row(ledger, "weekly")).next_due
    await set_row(ledger, next_due=utc_now() + timedelta(days=1500))
    assert await fire_due(ledger, broker.tasks) == []
    assert (await row(ledger)).next_due - utc_now() <= timedelta(days=1)
    assert (await row(ledger, "weekly")).next_due == weekly
    # and switched off it is nobody's business
    far = utc_now().replace(microsecond=0) + timedelta(days=1500)
    await set_row(ledger, next_due=far, enabled=False)
    await fire_due(ledger, broker.tasks)
    assert (await row(ledger)).next_due == far


async def test_a_row_with_a_broken_crontab_stops_no_other_and_is_told_of_once(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "_complained", set())
    await ensure_schedules(ledger, [NIGHTLY, WEEKLY])
    await set_row(ledger, next_due=long_ago(), crontab="now and then")
    await set_row(ledger, "weekly", next_due=long_ago())
    with caplog.at_level(logging.ERROR, logger="mus.ledger.schedules"):
        assert len(await fire_due(ledger, broker.tasks)) == 1
        assert await fire_due(ledger, broker.tasks) == []
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the schedule nightly does not run: 'now and then' is not a crontab")
    assert (await row(ledger, "weekly")).last_job_id is not None
