"""Cancel, retry, move, pause, resume, clear, by HTTP (DESIGN §8)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.rows import add
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import ErrorCategory
from mus.ledger.job_rows import Failure, NewJob
from mus.persistence.models import WorkerRow, utc_now

Client = httpx.AsyncClient


@pytest.fixture
async def worker_id(runtime: Runtime) -> str:
    """A worker in the table, without a process: the tests play its part."""
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=[], state="alive"))
    return "w"


async def enqueue(runtime: Runtime, queue: Queue = Queue.LOW, **options: Any) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(queue, "purge_trash", Options(requested_by="test", **options))


async def fail(
    runtime: Runtime, worker_id: str, message: str = "The disk is full", queue: Queue = Queue.LOW
) -> str:
    return await fail_again(runtime, await enqueue(runtime, queue), worker_id, message)


async def fail_again(runtime: Runtime, job_id: str, worker_id: str, message: str = "The disk is full") -> str:
    started = await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id)
    assert started is not None
    await runtime.connection.ledger.fail(started, Failure(ErrorCategory.USER_FIXABLE, message, {"file": "x"}))
    return job_id


async def answer(client: Client, method: str, path: str, status: int = 200, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    assert response.status_code == status, response.text
    return response.json()


async def events_of(client: Client, job_id: str) -> list[str]:
    return [event["event"] for event in (await answer(client, "GET", f"/jobs/{job_id}/events"))["items"]]


async def listed(client: Client, **params: Any) -> list[str]:
    return [item["id"] for item in (await answer(client, "GET", "/jobs", params=params))["items"]]


# ------------------------------------------------------------------------------------------ pause and resume


async def test_a_queue_is_paused_and_resumed_and_says_since_when_and_by_whom(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    job_id = await enqueue(runtime)
    began = utc_now()
    paused = await answer(client, "POST", "/queues/low_priority/pause")
    assert (paused["name"], paused["paused"], paused["paused_by"], paused["depth"]) == (
        "low_priority", True, "api 127.0.0.1", 1
    )  # fmt: skip
    assert paused["paused_at"] >= began.strftime("%Y-%m-%dT%H:%M:%S")
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) is None
    # Once more changes nothing, and the other queues are as they were.
    again = await answer(client, "POST", "/queues/low_priority/pause")
    assert again["paused_at"] == paused["paused_at"]
    high, medium, low = (await answer(client, "GET", "/queues"))["items"]
    assert (high["paused"], medium["paused"], low["paused"]) == (False, False, True)
    assert (await answer(client, "GET", "/health"))["paused_queues"] == ["low_priority"]
    resumed = await answer(client, "POST", "/queues/low_priority/resume")
    assert (resumed["paused"], resumed["paused_at"], resumed["paused_by"]) == (False, None, None)
    assert (await answer(client, "POST", "/queues/low_priority/resume"))["paused"] is False
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) is not None


async def test_workers_are_told_of_a_pause_and_of_a_resume(client: Client, runtime: Runtime) -> None:
    async with runtime.connection.redis.pubsub() as messages:
        await messages.subscribe(runtime.connection.control_channel)
        await messages.get_message(timeout=5)
        for what in ("pause", "resume"):
            await answer(client, "POST", f"/queues/low_priority/{what}")
            message = await messages.get_message(ignore_subscribe_messages=True, timeout=5)
            assert message["data"] == "queues"


# ------------------------------------------------------------------------------------------------------ move


async def test_a_waiting_job_is_moved_to_another_queue(client: Client, runtime: Runtime, worker_id: str) -> None:
    job_id = await enqueue(runtime)
    moved = await answer(client, "POST", f"/jobs/{job_id}/move", json={"queue": "high_priority"})
    assert moved == {"job_id": job_id, "state": "queued"}
    found = await answer(client, "GET", f"/jobs/{job_id}")
    assert (found["queue"], found["attempt"]) == ("high_priority", 1)
    assert await events_of(client, job_id) == ["enqueued", "moved to another queue"]
    # To where it waits already: nothing to do.
    assert await answer(client, "POST", f"/jobs/{job_id}/move", json={"queue": "high_priority"}) == moved
    assert await events_of(client, job_id) == ["enqueued", "moved to another queue"]
    # The message on the old queue is a repeat, the one on the new queue starts it.
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) is None
    assert await runtime.connection.ledger.start(f"{job_id}.1.2", worker_id) is not None


async def test_a_job_that_is_retrying_is_moved_with_the_time_of_its_next_attempt(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    job_id = await enqueue(runtime)
    started = await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id)
    assert started is not None
    await runtime.connection.ledger.fail(started, Failure(ErrorCategory.TEMPORARY, "Not now", {}), wait_seconds=60)
    before = await answer(client, "GET", f"/jobs/{job_id}")
    moved = await answer(client, "POST", f"/jobs/{job_id}/move", json={"queue": "medium_priority"})
    assert moved["state"] == "retrying"
    after = await answer(client, "GET", f"/jobs/{job_id}")
    assert (after["queue"], after["attempt"]) == ("medium_priority", 2)
    assert after["next_attempt_at"] == before["next_attempt_at"] is not None


# -------------------------------------------------------------------------------------- failures and clearing


async def test_failures_are_grouped_by_reason_and_each_group_can_be_listed(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    torn = [await fail(runtime, worker_id, f"'{number}.mp3' has {number} of 9 frames") for number in range(3)]
    full = await fail(runtime, worker_id)
    elsewhere = await fail(runtime, worker_id, queue=Queue.HIGH)
    groups = (await answer(client, "GET", "/failures"))["items"]
    assert [(group["queue"], group["reason"], group["count"]) for group in groups] == [
        ("low_priority", "… has … of … frames", 3),
        ("high_priority", "The disk is full", 1),
        ("low_priority", "The disk is full", 1),
    ]
    most = groups[0]
    assert (most["task"], most["category"], most["last_job"]["id"]) == ("purge_trash", "user_fixable", torn[-1])
    assert most["last_job"]["error"]["message"] == "'2.mp3' has 2 of 9 frames"
    assert most["first_at"] <= most["last_at"]
    assert await listed(client, reason=most["reason"]) == torn[::-1]
    assert await listed(client, reason="The disk is full", queue="low_priority") == [full]
    only = (await answer(client, "GET", "/failures", params={"queue": "high_priority"}))["items"]
    assert [group["last_job"]["id"] for group in only] == [elsewhere]
    assert (await answer(client, "GET", "/failures", params={"task": "read_files"}))["items"] == []
    assert len((await answer(client, "GET", "/failures", params={"limit": 1}))["items"]) == 1


async def test_clearing_takes_a_queues_failures_off_the_lists_and_keeps_their_histories(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    cleared = [await fail(runtime, worker_id) for _ in range(2)]
    elsewhere = await fail(runtime, worker_id, queue=Queue.HIGH)
    waiting = await enqueue(runtime)
    told = await answer(client, "DELETE", "/queues/low_priority/failed")
    assert told == {"queue": "low_priority", "count": 2}
    assert await answer(client, "DELETE", "/queues/low_priority/failed") == told | {"count": 0}
    later = await fail(runtime, worker_id)
    assert await listed(client, state="failed") == [later, elsewhere]
    assert await listed(client) == [later, waiting, elsewhere]
    assert await listed(client, state="failed", cleared="true") == [later, elsewhere, *cleared[::-1]]
    _, _, low = (await answer(client, "GET", "/queues"))["items"]
    assert low["failed"] == 1
    found = await answer(client, "GET", f"/jobs/{cleared[0]}")
    assert (found["state"], found["error"]["message"]) == ("failed", "The disk is full")
    assert found["cleared_at"] is not None
    assert await events_of(client, cleared[0]) == ["enqueued", "started", "failed"]


async def test_a_failure_that_was_cleared_can_still_be_retried(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    job_id = await fail(runtime, worker_id)
    await answer(client, "DELETE", "/queues/low_priority/failed")
    again = await answer(client, "POST", f"/jobs/{job_id}/retry", 202)
    assert (await answer(client, "GET", f"/jobs/{again['job_id']}"))["retry_of"] == job_id


# ----------------------------------------------------------------------------------------------------- retry


async def test_retries_by_hand_are_numbered_apart_from_automatic_attempts(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    first = await fail(runtime, worker_id)
    second = (await answer(client, "POST", f"/jobs/{first}/retry", 202))["job_id"]
    await fail_again(runtime, second, worker_id)
    # Of the retry, or of the first job once more: it is the next retry either way.
    for number, job_id in [(2, second), (2, first)]:
        again = (await answer(client, "POST", f"/jobs/{job_id}/retry", 202))["job_id"]
        found = await answer(client, "GET", f"/jobs/{again}")
        assert (found["retry_of"], found["retry_number"], found["attempt"]) == (job_id, number, 1)
        assert (await answer(client, "GET", f"/jobs/{job_id}"))["retried_as"] == again
    assert (await answer(client, "GET", f"/jobs/{first}"))["state"] == "failed"
    assert (await events_of(client, first))[-2:] == ["retried by hand", "retried by hand"]


async def test_while_a_retry_is_open_a_second_request_is_answered_with_it_and_its_state(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    job_id = await fail(runtime, worker_id)
    again = await answer(client, "POST", f"/jobs/{job_id}/retry", 202)
    assert await answer(client, "POST", f"/jobs/{job_id}/retry", 202) == again | {"state": "queued"}
    assert await runtime.connection.ledger.start(f"{again['job_id']}.1.1", worker_id) is not None
    assert await answer(client, "POST", f"/jobs/{job_id}/retry", 202) == again | {"state": "running"}


async def test_a_cancelled_job_is_retried_too(client: Client, runtime: Runtime) -> None:
    job_id = await enqueue(runtime)
    await answer(client, "DELETE", f"/jobs/{job_id}", 202)
    again = await answer(client, "POST", f"/jobs/{job_id}/retry", 202)
    assert await listed(client, state="queued") == [again["job_id"]]


# ---------------------------------------------------------------------------------------------------- cancel


async def test_cancelling_a_parent_cancels_its_parts(client: Client, runtime: Runtime, worker_id: str) -> None:
    ledger = runtime.connection.ledger
    parent = await enqueue(runtime)
    started = await ledger.start(f"{parent}.1.1", worker_id)
    assert started is not None
    async with ledger.effect(started):
        parts = await ledger.add([NewJob(task="t", queue=Queue.LOW, parent_id=parent) for _ in range(3)])
    await ledger.finish(started, result=None)
    assert (await answer(client, "GET", f"/jobs/{parent}"))["state"] == "waiting"
    told = await answer(client, "DELETE", f"/jobs/{parent}", 202)
    assert told == {"job_id": parent, "state": "cancelled"}
    assert await listed(client, parent=parent, state="cancelled") == sorted(parts, reverse=True)


async def test_a_second_cancel_of_a_running_job_keeps_the_time_of_the_first(
    client: Client, runtime: Runtime, worker_id: str
) -> None:
    job_id = await enqueue(runtime)
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", worker_id) is not None
    for _ in range(2):
        told = await answer(client, "DELETE", f"/jobs/{job_id}", 202)
        assert told == {"job_id": job_id, "state": "running"}
    assert (await events_of(client, job_id)).count("cancel requested") == 1
