from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from api.rows import add, add_tracks, track
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.errors import ErrorCategory
from mus.ledger.deliveries import new_id
from mus.ledger.job_rows import Failure
from mus.ledger.job_states import JobState
from mus.library.paths import unescaped
from mus.library.states import TrackState
from mus.persistence.models import Job, Library, WorkerRow, utc_now

Client = httpx.AsyncClient


def job(**values: Any) -> Job:
    given = {"task": "purge_trash", "queue": "low_priority", "arguments": {}, "state": "queued", **values}
    return Job(**{"id": new_id(), "created_at": utc_now(), **given})


async def _add_jobs(runtime: Runtime, *jobs: Job) -> list[str]:
    # Ids sort by the millisecond; here they shall sort in the order given.
    for number, row in enumerate(jobs):
        row.id = f"{number:012x}{row.id[12:]}"
    await add(runtime, *jobs)
    return [row.id for row in jobs]


async def _enqueued(runtime: Runtime, task: str = "purge_trash", **arguments: Any) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(Queue.LOW, task, Options(requested_by="test"), **arguments)


async def _ids(client: Client, **params: Any) -> list[str]:
    answer = await client.get("/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_jobs_are_listed_newest_first_page_by_page(client: Client, runtime: Runtime) -> None:
    ids = await _add_jobs(runtime, *(job() for _ in range(7)))
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3} if cursor is None else {"limit": 3, "cursor": cursor}
        page = (await client.get("/jobs", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await add(runtime, job())  # newer ones do not disturb the pages that follow
    assert seen == ids[::-1]


async def test_jobs_are_filtered_by_state_queue_task_and_parent(client: Client, runtime: Runtime) -> None:
    a, b, c, d = await _add_jobs(
        runtime,
        job(state="failed"),
        job(state="succeeded", queue="high_priority"),
        job(task="read_files", parent_id="p"),
        job(state="running", task="read_files"),
    )
    assert await _ids(client, state="failed") == [a]
    assert await _ids(client, state="succeeded,running") == [d, b]
    assert await _ids(client, state=["failed", "queued"]) == [c, a]
    assert await _ids(client, queue="high_priority") == [b]
    assert await _ids(client, task="read_files", state="queued") == [c]
    assert await _ids(client, parent="p") == [c]
    assert await _ids(client, task="nothing") == []
    assert (await client.get("/jobs", params={"state": "lost"})).status_code == 422
    assert (await client.get("/jobs", params={"queue": "urgent"})).status_code == 422


async def test_a_cursor_of_other_filters_is_refused(client: Client, runtime: Runtime) -> None:
    await _add_jobs(runtime, job(), job())
    cursor = (await client.get("/jobs", params={"limit": 1})).json()["next_cursor"]
    assert (await client.get("/jobs", params={"cursor": cursor, "task": "read_files"})).status_code == 400
    assert (await client.get("/scans", params={"cursor": cursor})).status_code == 400


async def test_a_job_shows_its_arguments_result_and_error(client: Client, runtime: Runtime) -> None:
    [job_id] = await _add_jobs(
        runtime,
        job(
            state="failed",
            arguments={"x": [1]},
            error_category="admin_required",
            error_message="It broke",
            error_details={"traceback": "…"},
        ),
    )
    found = (await client.get(f"/jobs/{job_id}")).json()
    assert found["arguments"] == {"x": [1]}
    assert found["error"] == {"category": "admin_required", "message": "It broke"}
    assert found["error_details"] == {"traceback": "…"}
    [listed] = (await client.get("/jobs")).json()["items"]
    assert "arguments" not in listed
    assert listed["error"] == found["error"]


async def test_a_job_that_is_not_there_is_404(client: Client) -> None:
    for method, path in [
        ("GET", "/jobs/none"),
        ("GET", "/jobs/none/events"),
        ("POST", "/jobs/none/retry"),
        ("DELETE", "/jobs/none"),
        ("GET", "/jobs/%00"),
    ]:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_waiting_job_is_cancelled_at_once_and_its_history_says_so(client: Client, runtime: Runtime) -> None:
    job_id = await _enqueued(runtime)
    answer = await client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()) == (202, {"job_id": job_id, "state": "cancelled"})
    events = (await client.get(f"/jobs/{job_id}/events")).json()
    assert [event["event"] for event in events["items"]] == ["enqueued", "cancelled"]
    assert events["next_cursor"] is None
    first = (await client.get(f"/jobs/{job_id}/events", params={"limit": 1})).json()
    rest = (await client.get(f"/jobs/{job_id}/events", params={"cursor": first["next_cursor"]})).json()
    assert [event["event"] for event in rest["items"]] == ["cancelled"]
    again = await client.delete(f"/jobs/{job_id}")
    assert (again.status_code, again.json()["details"]) == (409, {"state": "cancelled"})


async def test_a_running_job_is_told_to_stop(client: Client, runtime: Runtime) -> None:
    job_id = await _enqueued(runtime)
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=[], state="alive"))
    assert await runtime.connection.ledger.start(f"{job_id}.1.1", "w") is not None
    async with runtime.connection.redis.pubsub() as messages:
        await messages.subscribe(runtime.connection.control_channel)
        await messages.get_message(timeout=5)
        answer = await client.delete(f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["state"]) == (202, "running")
        message = await messages.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message["data"] == f"cancel {job_id}"
    assert (await client.get(f"/jobs/{job_id}")).json()["cancel_requested_at"] is not None


async def test_a_failed_job_is_retried_as_a_new_one(client: Client, runtime: Runtime) -> None:
    job_id = await _enqueued(runtime)
    assert (await client.post(f"/jobs/{job_id}/retry")).status_code == 409
    await add(runtime, WorkerRow(id="w", host="h", pid=1, queues=[], state="alive"))
    started = await runtime.connection.ledger.start(f"{job_id}.1.1", "w")
    assert started is not None
    await runtime.connection.ledger.fail(started, Failure(ErrorCategory.USER_FIXABLE, "No", {}))
    answer = await client.post(f"/jobs/{job_id}/retry")
    assert answer.status_code == 202
    new = answer.json()["job_id"]
    assert answer.headers["location"] == f"/api/v1/jobs/{new}"
    found = (await client.get(f"/jobs/{new}")).json()
    assert (found["retry_of"], found["state"], found["requested_by"]) == (job_id, "queued", "api 127.0.0.1")


async def test_queues_tell_depth_running_oldest_wait_and_rate(client: Client, runtime: Runtime) -> None:
    now = utc_now()
    await _add_jobs(
        runtime,
        job(created_at=now - timedelta(seconds=30)),
        job(created_at=now - timedelta(seconds=90), run_after=now + timedelta(seconds=60)),
        job(created_at=now - timedelta(seconds=90), state="retrying", run_after=now - timedelta(seconds=50)),
        job(state="running"),
        job(state="waiting"),
        *(job(state="succeeded", finished_at=now - timedelta(seconds=10)) for _ in range(10)),
        job(state="failed", finished_at=now - timedelta(hours=1)),
    )
    high, medium, low = (await client.get("/queues")).json()["items"]
    assert high == {
        "name": "high_priority", "depth": 0, "running": 0, "waiting": 0, "oldest_wait": None, "rate": 0.0,
        "failed": 0, "paused": False, "paused_at": None, "paused_by": None,
    }  # fmt: skip
    assert medium["name"] == "medium_priority"
    assert (low["depth"], low["running"], low["waiting"], low["rate"]) == (3, 1, 1, 2.0)
    assert low["failed"] == 1
    assert low["oldest_wait"] == pytest.approx(50, abs=5)


async def test_a_worker_that_was_not_heard_of_is_not_alive(client: Client, runtime: Runtime) -> None:
    await add(
        runtime,
        WorkerRow(id="new", host="h", pid=1, queues=["low_priority"], state="alive"),
        WorkerRow(
            id="old", host="h", pid=2, queues=[], state="alive", beat_at=utc_now() - timedelta(minutes=5),
            started_at=utc_now() - timedelta(hours=1),
        ),
    )  # fmt: skip
    await _add_jobs(runtime, job(state="running", worker_id="new"), job(state="succeeded", worker_id="old"))
    new, old = (await client.get("/workers")).json()["items"]
    assert (new["id"], new["alive"], new["queues"], new["running_jobs"]) == ("new", True, ["low_priority"], 1)
    assert (old["id"], old["alive"], old["state"], old["running_jobs"]) == ("old", False, "alive", 0)
    assert old["last_beat_age"] == pytest.approx(300, abs=10)


# ------------------------------------------------------------------------------------------ tracks and errors


async def test_deleting_and_restoring_enqueue_a_job_where_the_state_allows_it(
    client: Client, runtime: Runtime, library: Library
) -> None:
    states = [TrackState.COMPLETE, TrackState.PENDING, TrackState.ERROR, TrackState.MISSING, TrackState.TRASHED]
    ids = await add_tracks(runtime, *(track(library, status=state) for state in states))
    deleted = [await client.delete(f"/tracks/{track_id}") for track_id in ids]
    assert [answer.status_code for answer in deleted] == [202, 202, 202, 409, 409]
    restored = [await client.post(f"/tracks/{track_id}/restore") for track_id in ids]
    assert [answer.status_code for answer in restored] == [409, 409, 409, 409, 202]
    for answer, task, track_id in [
        (deleted[0], "delete_track_by_id", ids[0]),
        (restored[4], "restore_track_by_id", ids[4]),
    ]:
        found = (await client.get(answer.headers["location"][7:])).json()
        assert (found["task"], found["queue"]) == (task, "high_priority")
        assert found["arguments"]["track_id"] == track_id
    assert (await client.delete(f"/tracks/{ids[0]}")).json() == deleted[0].json()
    assert (await client.delete("/tracks/9999")).status_code == 404


def _broken(library: Library, path: bytes, **values: Any) -> Any:
    category = values.pop("error_category", "user_fixable")
    return track(library, path, status="ERROR", error_category=category, error_message="Empty", **values)


async def test_errors_are_listed_latest_first(client: Client, runtime: Runtime, library: Library) -> None:
    now = utc_now()
    rows = [_broken(library, b"%d.mp3" % age, updated_at=now - timedelta(hours=age)) for age in range(5)]
    rows[3].error_category = "admin_required"
    await add_tracks(runtime, track(library), *rows)
    page = (await client.get("/errors", params={"limit": 3})).json()
    rest = (await client.get("/errors", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    paths = [item["path"] for item in page["items"] + rest["items"]]
    assert paths == ["0.mp3", "1.mp3", "2.mp3", "3.mp3", "4.mp3"]
    assert page["items"][0] == {
        "track_id": rows[0].id, "library": "Music", "path": "0.mp3", "title": rows[0].title,
        "category": "user_fixable", "message": "Empty", "since": page["items"][0]["since"],
    }  # fmt: skip
    found = (await client.get("/errors", params={"category": "admin_required", "library": "Music"})).json()
    assert [item["path"] for item in found["items"]] == ["3.mp3"]


async def test_a_file_in_error_is_tried_again(client: Client, runtime: Runtime, library: Library) -> None:
    good, bad = await add_tracks(runtime, track(library), _broken(library, b"B\xff.mp3"))
    assert (await client.post(f"/errors/{good}/retry")).status_code == 409
    answer = await client.post(f"/errors/{bad}/retry")
    assert answer.status_code == 202
    found = (await client.get(f"/jobs/{answer.json()['job_id']}")).json()
    assert (found["task"], found["queue"]) == ("process_file_modified", "medium_priority")
    assert found["arguments"]["library_id"] == library.id
    assert [unescaped(path) for path in found["arguments"]["paths"]] == [b"B\xff.mp3"]
    assert (await client.post(f"/errors/{bad}/retry")).json() == answer.json()


async def test_all_files_in_error_are_tried_again_in_chunks(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(runtime, *(_broken(library, b"%d.mp3" % number) for number in range(501)))
    answer = await client.post("/errors/retry")
    assert answer.status_code == 202
    body = answer.json()
    assert (body["count"], len(body["job_ids"])) == (501, 3)
    async with runtime.database.reading() as session:
        jobs = (await session.scalars(select(Job))).all()
    assert sorted(len(found.arguments["paths"]) for found in jobs) == [1, 250, 250]
    assert {found.state for found in jobs} == {JobState.QUEUED}
    assert (await client.post("/errors/retry")).json() == body
    nothing = (await client.post("/errors/retry", params={"category": "temporary"})).json()
    assert nothing == {"count": 0, "job_ids": []}


async def test_files_in_error_are_told_by_reason_and_tried_again_by_it(
    client: Client, runtime: Runtime, library: Library
) -> None:
    now = utc_now()
    messages = ["Cut short: 1:02 of 3:04", "Cut short: 2:59 of 3:04", "100% of it_is gone", "100 of it is gone"]
    rows = [
        _broken(library, b"%d.mp3" % number, updated_at=now - timedelta(hours=number))
        for number in range(len(messages))
    ]
    for row, message in zip(rows, messages, strict=True):
        row.error_message = message
    await add_tracks(runtime, track(library), *rows)
    [first, second, third] = (await client.get("/errors/reasons")).json()["items"]
    assert first.pop("latest") is not None
    assert first == {
        "category": "user_fixable", "reason": "Cut short: …:… of …:…", "count": 2, "message": messages[0],
    }  # fmt: skip
    assert [second["reason"], third["reason"]] == ["…% of it_is gone", "… of it is gone"]
    for reason, paths in [
        (first["reason"], ["0.mp3", "1.mp3"]),
        (second["reason"], ["2.mp3"]),
        (third["reason"], ["3.mp3"]),
        ("%", []),
    ]:
        page = (await client.get("/errors", params={"reason": reason})).json()
        assert [item["path"] for item in page["items"]] == paths
    retried = (await client.post("/errors/retry", params={"reason": first["reason"]})).json()
    assert retried["count"] == 2
    found = (await client.get(f"/jobs/{retried['job_ids'][0]}")).json()
    assert found["arguments"]["paths"] == ["0.mp3", "1.mp3"]


async def test_a_list_can_leave_the_parts_of_other_jobs_out(client: Client, runtime: Runtime) -> None:
    whole = job(task="scan_library", state="waiting")
    await _add_jobs(runtime, whole, *(job(task="read_files", parent_id=whole.id) for _ in range(3)))
    page = (await client.get("/jobs", params={"parts": False, "limit": 1})).json()
    assert ([item["id"] for item in page["items"]], page["next_cursor"]) == ([whole.id], None)
    assert len((await client.get("/jobs")).json()["items"]) == 4


async def test_the_history_counts_each_step_and_how_long_its_jobs_waited(client: Client, runtime: Runtime) -> None:
    step = 600
    # In the middle of the step before the last.
    now = utc_now()
    begin = datetime.fromtimestamp(now.timestamp() // step * step - step, UTC)
    middle = begin + timedelta(seconds=step / 2)

    def job(waited: float, state: JobState, **values: Any) -> Job:
        ended = state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
        return Job(
            **{
                "id": new_id(), "task": "read_files", "queue": "low_priority", "arguments": {}, "state": state,
                "created_at": middle - timedelta(seconds=waited), "published_at": middle, "started_at": middle,
                "finished_at": middle + timedelta(seconds=1) if ended else None, **values,
            }
        )  # fmt: skip

    await add(
        runtime,
        *(job(waited, JobState.SUCCEEDED) for waited in range(1, 21)),
        job(21, JobState.FAILED),
        # It waited for its time first, and ran on another attempt before: neither counts.
        job(9000, JobState.RUNNING, delay_seconds=9000.0, published_at=middle - timedelta(seconds=2)),
        job(9000, JobState.WAITING, delivery=2, published_at=middle - timedelta(seconds=3)),
        job(9000, JobState.QUEUED, started_at=None),
        job(0, JobState.CANCELLED, started_at=None),
        job(5, JobState.SUCCEEDED, queue="high_priority", finished_at=middle - timedelta(days=2),
            started_at=middle - timedelta(days=2)),
        # Started long ago, ended in this step.
        job(0, JobState.FAILED, queue="high_priority", started_at=middle - timedelta(days=1),
            created_at=middle - timedelta(days=1)),
    )  # fmt: skip
    answer = await client.get("/queues/history", params={"minutes": 60, "step": step})
    assert answer.status_code == 200
    history = answer.json()
    assert (history["steps"], history["step_seconds"]) == (6, step)
    first = datetime.fromisoformat(history["first"])
    at = round((begin - first).total_seconds() / step)
    assert at in {3, 4}  # a new step may have begun meanwhile
    queues = {queue.pop("name"): queue for queue in history["queues"]}
    assert list(queues) == ["high_priority", "medium_priority", "low_priority"]
    assert all(len(numbers) == 6 for queue in queues.values() for numbers in queue.values())
    low = {name: numbers[at] for name, numbers in queues["low_priority"].items()}
    # 1, 2, 2, 3, 3, 4 to 21: the twelfth of 23 is 10, the twenty-second 20.
    assert low == {
        "started": 23, "succeeded": 20, "failed": 1, "cancelled": 1, "wait_median": 10.0, "wait_p95": 20.0,
    }  # fmt: skip
    assert sum(queues["low_priority"]["started"]) == 23
    assert queues["low_priority"]["wait_median"].count(None) == 5
    assert [sum(queues["high_priority"][name]) for name in ("started", "succeeded", "failed")] == [0, 0, 1]
