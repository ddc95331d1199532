"""Schedules over HTTP: seen, changed, reset, run now; and what cannot be is told by field."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, update

from api.rows import calling
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.jobs.schedules import schedule_entries
from mus.ledger.schedules import ensure_schedules, fire_due, next_run
from mus.persistence.models import Job, Schedule, utc_now

Client = httpx.AsyncClient
NAMES = ["quick-scan", "retention", "workers", "trash", "thumbnails", "edits", "database"]


async def item(client: Client, name: str) -> dict[str, Any]:
    answer = await client.get(f"/schedules/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def edited(client: Client, name: str, **change: Any) -> dict[str, Any]:
    answer = await client.patch(f"/schedules/{name}", json=change)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found == await item(client, name)
    return found


async def set_row(runtime: Runtime, name: str, **values: Any) -> None:
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(update(Schedule).where(Schedule.name == name).values(**values))


async def restart(runtime: Runtime, crontab: str) -> None:
    """What a worker does when it starts."""
    await ensure_schedules(runtime.connection.ledger, schedule_entries(crontab))


async def test_all_schedules_are_listed_before_any_worker_has_started(client: Client) -> None:
    page = (await client.get("/schedules")).json()
    assert [found["name"] for found in page["items"]] == NAMES
    assert page["next_cursor"] is None
    due = page["items"][1].pop("next_due")
    assert page["items"][1] == {
        "name": "retention",
        "description": "Forgets jobs that ended so many days ago, and their events",
        "task": "prune_history",
        "queue": "low_priority",
        "crontab": "17 3 * * *",
        "default_crontab": "17 3 * * *",
        "arguments": {"days": 90},
        "enabled": True,
        "edited": False,
        "last_fired_at": None,
        "last_job": None,
    }
    assert utc_now() < datetime.fromisoformat(due) <= utc_now() + timedelta(days=1)


async def test_the_quick_scan_comes_as_the_setting_says(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"scan_schedule": "*/10 * * * *"})
    own = Runtime(settings, runtime.database, runtime.connection)
    async with calling(own) as client:
        assert (await item(client, "quick-scan"))["crontab"] == "*/10 * * * *"


async def test_a_change_stands_across_restarts_until_it_is_reset(client: Client, runtime: Runtime) -> None:
    found = await edited(client, "quick-scan", crontab="  */15  * * * * ")
    assert (found["crontab"], found["edited"]) == ("*/15 * * * *", True)
    assert datetime.fromisoformat(found["next_due"]) - utc_now() <= timedelta(minutes=15)
    await restart(runtime, "5 5 * * *")
    assert (await item(client, "quick-scan"))["crontab"] == "*/15 * * * *"
    answer = await client.post("/schedules/quick-scan/reset")
    assert answer.status_code == 200
    assert (answer.json()["crontab"], answer.json()["edited"]) == (runtime.settings.scan_schedule, False)
    assert datetime.fromisoformat(answer.json()["next_due"]) == next_run(runtime.settings.scan_schedule, utc_now())
    await restart(runtime, "5 5 * * *")
    assert (await item(client, "quick-scan"))["crontab"] == "5 5 * * *"


async def test_arguments_named_are_changed_and_its_next_run_stays(client: Client) -> None:
    before = await item(client, "retention")
    found = await edited(client, "retention", arguments={"days": 60})
    assert (found["arguments"], found["edited"]) == ({"days": 60}, True)
    assert found["next_due"] == before["next_due"]
    reset = (await client.post("/schedules/retention/reset")).json()
    assert reset == before


async def test_an_empty_change_is_none(client: Client) -> None:
    for change in ({}, {"crontab": None, "enabled": None, "arguments": None}, {"arguments": {}}):
        assert (await edited(client, "trash", **change))["edited"] is False


async def test_off_means_off_and_on_makes_up_for_nothing(client: Client, runtime: Runtime) -> None:
    assert (await edited(client, "trash", enabled=False))["next_due"] is None
    await set_row(runtime, "trash", next_due=utc_now() - timedelta(days=3))
    assert await fire_due(runtime.connection.ledger, broker.tasks) == []
    found = await edited(client, "trash", enabled=True)
    assert datetime.fromisoformat(found["next_due"]) > utc_now()
    assert await fire_due(runtime.connection.ledger, broker.tasks) == []
    # One that was on all the time still makes up for what it missed.
    await set_row(runtime, "trash", next_due=utc_now() - timedelta(days=3))
    await edited(client, "trash", enabled=True)
    assert len(await fire_due(runtime.connection.ledger, broker.tasks)) == 1


async def test_reset_turns_it_on_again(client: Client) -> None:
    await edited(client, "thumbnails", enabled=False)
    found = (await client.post("/schedules/thumbnails/reset")).json()
    assert (found["enabled"], found["edited"]) == (True, False)
    assert datetime.fromisoformat(found["next_due"]) > utc_now()


async def test_run_now_enqueues_its_job_once_and_leaves_its_times(client: Client, runtime: Runtime) -> None:
    await edited(client, "retention", arguments={"days": 7}, enabled=False)
    answer = await client.post("/schedules/retention/run")
    assert answer.status_code == 202
    job_id = answer.json()["job_id"]
    assert answer.json() == {"job_id": job_id, "state": "queued"}
    assert answer.headers["location"] == f"/api/v1/jobs/{job_id}"
    assert (await client.post("/schedules/retention/run")).json()["job_id"] == job_id
    job = (await client.get(f"/jobs/{job_id}")).json()
    assert (job["task"], job["arguments"], job["requested_by"]) == ("prune_history", {"days": 7}, "api 127.0.0.1")
    found = await item(client, "retention")
    assert found["last_job"] == {"id": job_id, "state": "queued"}
    assert found["last_fired_at"] is not None
    assert found["next_due"] is None
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(delete(Job).where(Job.id == job_id))
    assert (await item(client, "retention"))["last_job"] is None


async def test_a_schedule_that_is_not_there_is_404(client: Client) -> None:
    for name in ("nothing", "%00", "a%2Fb", "%F0%9F%98%80", "%ED%A0%80", "quick%20scan"):
        for method, path in [("GET", ""), ("PATCH", ""), ("POST", "/reset"), ("POST", "/run")]:
            answer = await client.request(
                method, f"/schedules/{name}{path}", **({"json": {"enabled": True}} if method == "PATCH" else {})
            )
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), name
    assert (await client.get(f"/schedules/{'x' * 101}")).status_code == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"crontab": "every now and then"}, "crontab"),
        ({"crontab": "* * * *"}, "crontab"),
        ({"crontab": "* * * * * *"}, "crontab"),
        ({"crontab": "*/1 * * * * * *"}, "crontab"),
        ({"crontab": "61 * * * *"}, "crontab"),
        ({"crontab": "0 0 30 2 *"}, "crontab"),
        ({"crontab": "٣ * * * *"}, "crontab"),
        ({"crontab": "\0 * * * *"}, "crontab"),
        ({"crontab": ""}, "crontab"),
        ({"crontab": "@reboot"}, "crontab"),
        ({"crontab": "1," * 60 + "1 * * * *"}, "crontab"),
        ({"crontab": 5}, "crontab"),
        ({"arguments": {"days": 0}}, "arguments.days"),
        ({"arguments": {"days": -1}}, "arguments.days"),
        ({"arguments": {"days": 10**30}}, "arguments.days"),
        ({"arguments": {"days": 1.5}}, "arguments.days"),
        ({"arguments": {"days": "60"}}, "arguments.days"),
        ({"arguments": {"days": None}}, "arguments.days"),
        ({"arguments": {"days": True}}, "arguments.days"),
        ({"arguments": {"weeks": 1}}, "arguments.weeks"),
        ({"arguments": {"a\0b": 1}}, "arguments.a\0b"),
        ({"arguments": [1]}, "arguments"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"name": "other"}, "name"),
        ({"next_due": "2030-01-01T00:00:00Z"}, "next_due"),
    ],
)
async def test_what_cannot_be_is_told_by_field_and_changes_nothing(
    client: Client, change: dict[str, Any], field: str
) -> None:
    before = await item(client, "retention")
    answer = await client.patch("/schedules/retention", json=change)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await item(client, "retention") == before


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"3", b'"x"', b"{", b"\xff", b'{"crontab": "\\ud800 * * * *"}', b"[" * 100_000,
        b'{"arguments": {"\\ud800": 1}}', b'{"arguments": {"days": "\\ud800"}}', b'{"arguments": {"days": 1e999}}',
        b'{"arguments": {"days": NaN}}', b'{"crontab": "' + b"*" * 1_000_000 + b'"}', b'{"\\ud800": 1}',
        b'{"arguments": {"' + b"x" * 100_000 + b'": 1}}', b'{"arguments": {"days": 1' + b"0" * 6_000 + b"}}",
        b'{"arguments":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    ],
)  # fmt: skip
async def test_whatever_is_sent_is_answered_with_a_problem(client: Client, body: bytes) -> None:
    answer = await client.patch("/schedules/retention", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


async def test_a_row_of_a_task_that_got_another_name_can_be_reset(client: Client, runtime: Runtime) -> None:
    await edited(client, "retention", arguments={"days": 60})
    await set_row(runtime, "retention", task="prune_the_history")
    for answer in (
        await client.patch("/schedules/retention", json={"arguments": {"days": 50}}),
        await client.post("/schedules/retention/run"),
    ):
        assert (answer.status_code, answer.json()["recovery_actions"]) == (409, ["Reset the schedule"])
    await client.post("/schedules/retention/reset")
    assert (await client.post("/schedules/retention/run")).status_code == 202
