"""Jobs that another version of mus has enqueued, met by a real worker of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field
from sqlalchemy import insert, select, text, update

from fault_worker import leaf
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.cli.health_checks import all_checks
from mus.ledger import steering
from mus.ledger.deliveries import new_id
from mus.ledger.job_rows import is_newer
from mus.ledger.ledger import Ledger
from mus.ledger.schedules import ScheduleEntry, ensure_schedules, fire_due
from mus.persistence.models import Job, JobEvent, Schedule, utc_now
from mus.worker import WorkerProcess
from waiting import until

Ended = Callable[..., Awaitable[Job]]
NEWER = "99.1.0"


@pytest.fixture
def grown() -> Iterator[None]:
    """A task that once was `test_grown(*, paths: list[str])`."""

    @broker.task("test_grown", timeout_seconds=60)
    async def grown(
        *, files: Annotated[list[str], Field(validation_alias="paths")], deep: bool = False
    ) -> dict[str, Any]:
        return {"files": files, "deep": deep}

    yield
    del broker.tasks["test_grown"]


async def enqueued_by(
    runtime: Runtime, version: str | None, task: str, queue: str = Queue.LOW, **columns: Any
) -> str:
    """A row as a mus of that version leaves it behind: None is one that noted no versions yet."""
    row = {
        "id": new_id(),
        "task": task,
        "queue": queue,
        "arguments": {},
        "state": "queued",
        "version": version,
        "created_at": utc_now(),
    }
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(insert(Job).values(row | columns))
    return str(row["id"])


async def history(runtime: Runtime, job_id: str) -> list[tuple[str, dict[str, Any] | None]]:
    async with runtime.database.reading() as session:
        rows = await session.execute(
            select(JobEvent.event, JobEvent.details).where(JobEvent.job_id == job_id).order_by(JobEvent.id)
        )
        return [(row.event, row.details) for row in rows]


def test_versions_compare_by_their_numbers() -> None:
    assert is_newer("0.10.0")
    assert is_newer("0.1.1")
    assert not is_newer("0.1.0")
    assert not is_newer("0.0.9")
    assert not is_newer(None)


async def test_arguments_of_an_older_version_still_fit_a_signature_that_has_grown(
    runtime: Runtime, grown: None, worker: WorkerProcess, ended: Ended
) -> None:
    old = await enqueued_by(runtime, None, "test_grown", arguments={"paths": ["a", "b"]})
    async with runtime.database.unit_of_work():
        new = await broker.enqueue(Queue.LOW, "test_grown", files=["c"], deep=True)
    assert (await ended(old)).result == {"files": ["a", "b"], "deep": False}
    assert (await ended(new)).result == {"files": ["c"], "deep": True}
    assert (await ended(new)).arguments == {"files": ["c"], "deep": True}


@pytest.mark.parametrize(
    ("task", "arguments", "reason"),
    [
        ("test_leaf", {}, "test_leaf: argument 'name': Field required"),
        ("test_leaf", {"name": "x", "dry_run": True}, "argument 'dry_run': Extra inputs are not permitted"),
        ("test_leaf", {"name": 7}, "argument 'name': Input should be a valid string"),
        ("test_removed", {"name": "x"}, "there is no task 'test_removed'"),
    ],
)
async def test_a_job_of_an_older_version_that_nobody_can_run_fails_clearly_and_the_others_go_on(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, task: str, arguments: dict[str, Any], reason: str
) -> None:
    old = await enqueued_by(runtime, "0.0.9", task, arguments=arguments)
    async with runtime.database.unit_of_work():
        other = await broker.enqueue(Queue.LOW, leaf, name="fine")
    failed = await ended(old)
    assert (failed.state, failed.error_category, failed.attempt) == ("failed", "admin_required", 1)
    assert "made by mus 0.0.9, and mus 0.1.0 cannot run it" in (failed.error_message or "")
    assert reason in (failed.error_message or "")
    assert (await ended(other)).state == "succeeded"
    async with runtime.database.reading() as session:
        assert (await session.execute(text("SELECT name FROM effects"))).scalars().all() == ["fine"]
    # Asked for once more by hand, it is the same job of the same mus.
    async with runtime.database.unit_of_work():
        again = await steering.retry(runtime.connection.ledger, old, requested_by="test")
    assert (await ended(again)).error_message == failed.error_message


async def test_a_parent_does_not_wait_for_a_part_that_nobody_can_run(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    parent = await enqueued_by(
        runtime,
        None,
        "test_family",
        arguments={"name": "f", "children": 0},
        state="waiting",
        children_open=1,
        continuation="test_farewell",
        exclusive_key="library:1",
    )
    await enqueued_by(runtime, None, "test_leaf", arguments={"name": "f/0"}, parent_id=parent)
    job = await ended(parent)
    # Its last part has a name that is no more.
    assert (job.state, job.children_open) == ("failed", 0)
    assert "an older mus" in (job.error_message or "")
    assert "'test_farewell'" in (job.error_message or "")


@pytest.mark.parametrize(
    ("task", "arguments", "reason"),
    [
        ("test_later", {"name": "x"}, "there is no task 'test_later'"),
        (
            "test_grown",
            {"files": ["a"], "fast": True},
            "test_grown: argument 'fast': Extra inputs are not permitted",
        ),
    ],
)
async def test_a_job_of_a_newer_version_waits_for_a_worker_that_knows_it(
    runtime: Runtime, grown: None, worker: WorkerProcess, job_row: Ended, task: str, arguments: Any, reason: str
) -> None:
    job_id = await enqueued_by(runtime, NEWER, task, arguments=arguments)

    async def left() -> list[dict[str, Any] | None]:
        return [details for event, details in await history(runtime, job_id) if event == "snoozed"]

    details = (await until(left))[0] or {}
    assert details["reason"] == f"left for a worker of mus {NEWER}: {reason}"
    job = await job_row(job_id)
    assert (job.state, job.attempt, job.error_message) == ("queued", 1, None)
    found = [check for check in await all_checks(runtime.settings) if f"{task} on low_priority" in check.message]
    assert [(check.name, check.status) for check in found] == [("jobs", "warn")]


async def test_a_job_that_was_left_is_run_by_the_newer_worker_and_can_be_cancelled(
    runtime: Runtime, worker: WorkerProcess, ended: Ended
) -> None:
    wanted = await enqueued_by(runtime, NEWER, "test_later")
    unwanted = await enqueued_by(runtime, NEWER, "test_never")

    async def both_left() -> bool:
        return all(["snoozed" in dict(await history(runtime, job_id)) for job_id in (wanted, unwanted)])

    await until(both_left)
    async with runtime.database.unit_of_work():
        assert await steering.cancel(runtime.connection.ledger, unwanted) == "cancelled"

    # The upgrade of this worker.
    @broker.task("test_later", timeout_seconds=60)
    async def later() -> dict[str, Any]:
        return {"ran": True}

    try:
        assert (await ended(wanted)).result == {"ran": True}
    finally:
        del broker.tasks["test_later"]


async def test_what_follows_from_a_newer_job_is_left_to_newer_workers_as_well(
    runtime: Runtime, worker: WorkerProcess, job_row: Ended
) -> None:
    parent = await enqueued_by(runtime, NEWER, "test_leaf", arguments={"name": "n"}, continuation="test_new_end")

    async def last_part() -> Job | None:
        last = (await job_row(parent)).continuation_id
        job = await job_row(last) if last else None
        return job if job and job.run_after else None

    job = await until(last_part)
    assert (job.task, job.state, job.version) == ("test_new_end", "queued", NEWER)


async def test_a_job_on_a_queue_that_is_no_more_stands_in_nobodys_way(
    runtime: Runtime, worker: WorkerProcess, ended: Ended, job_row: Ended
) -> None:
    stray = await enqueued_by(runtime, None, "test_leaf", "urgent_priority", arguments={"name": "stray"})
    lost = await enqueued_by(runtime, None, "test_leaf", arguments={"name": "lost"})
    assert (await ended(lost)).state == "succeeded"
    assert (await job_row(stray)).state == "queued"
    assert any("test_leaf on urgent_priority" in check.message for check in await all_checks(runtime.settings))
    async with runtime.database.unit_of_work():
        await steering.move(runtime.connection.ledger, stray, Queue.LOW, continuation_queue=Queue.LOW)
    assert (await ended(stray)).state == "succeeded"


async def test_a_schedule_of_a_task_that_is_not_here_is_left_to_those_who_have_it(ledger: Ledger) -> None:
    entry = ScheduleEntry("nightly", "0 3 * * *", "test_later", Queue.LOW)
    await ensure_schedules(ledger, [entry])
    long_ago = utc_now().replace(year=2020)
    async with ledger.database.unit_of_work() as work:
        await work.session.execute(update(Schedule).values(next_due=long_ago))
    assert await fire_due(ledger, broker.tasks) == []
    assert len(await fire_due(ledger, {"test_later"})) == 1
