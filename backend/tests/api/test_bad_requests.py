"""For each bad request a precise status, and a sentence that says what is wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.rows import add, add_tracks, track
from mus.broker.runtime import Runtime
from mus.ledger.deliveries import new_id
from mus.library.states import TrackState
from mus.persistence.models import Job, Library, utc_now

#: Stand for ids that a test's rows have.
ENDED, RUNNING, PART, LIVE, TRASHED, MISSING = "{ended}", "{running}", "{part}", "{live}", "{trashed}", "{missing}"
LONG = "x" * 300

CASES: list[tuple[str, str, Any, int, str]] = [
    # jobs: unknown, in the wrong state, not to be meant
    ("GET", "/jobs/nobody", None, 404, "There is no job nobody"),
    ("GET", "/jobs/nobody/events", None, 404, "There is no job nobody"),
    ("GET", "/jobs/%00", None, 404, "There is no job \0"),
    ("GET", f"/jobs/{LONG}", None, 422, "job_id: String should have at most 200 characters"),
    ("DELETE", "/jobs/nobody", None, 404, "There is no job nobody"),
    ("DELETE", f"/jobs/{ENDED}", None, 409, "The job has succeeded already"),
    ("POST", "/jobs/nobody/retry", None, 404, "There is no job nobody"),
    ("POST", f"/jobs/{ENDED}/retry", None, 409, "Only a failed or cancelled job can be retried; this"),
    ("POST", f"/jobs/{RUNNING}/retry", None, 409, "Only a failed or cancelled job can be retried; this"),
    ("POST", f"/jobs/{PART}/retry", None, 409, "This job is the last part of another: retry that one"),
    ("POST", "/jobs/nobody/move", {"queue": "low_priority"}, 404, "There is no job nobody"),
    ("POST", f"/jobs/{RUNNING}/move", {"queue": "low_priority"}, 409, "Only a job that waits can be moved; this"),
    ("POST", f"/jobs/{ENDED}/move", {"queue": "urgent"}, 422, "queue: Input should be 'high_priority', 'medium_"),
    ("POST", f"/jobs/{ENDED}/move", {"queue": "low_priority", "now": 1}, 422, "now: There is no such field"),
    ("POST", f"/jobs/{ENDED}/move", None, 422, "body: Field required"),
    ("GET", "/jobs?state=lost", None, 422, "state.0: String should match pattern"),
    ("GET", "/jobs?queue=urgent", None, 422, "queue: Input should be 'high_priority', 'medium_priority' or"),
    ("GET", "/jobs?limit=0", None, 422, "limit: Input should be greater than or equal to 1"),
    ("GET", "/jobs?limit=501", None, 422, "limit: Input should be less than or equal to 500"),
    ("GET", "/jobs?limit=many", None, 422, "limit: Input should be a valid integer"),
    ("GET", "/jobs?cleared=perhaps", None, 422, "cleared: Input should be a valid boolean"),
    ("GET", "/jobs?stat=failed", None, 422, "stat: There is no such field"),
    ("GET", "/jobs?cursor=!", None, 400, "The cursor is not one of ours"),
    ("GET", "/jobs?cursor=W10", None, 400, "The cursor is not one of ours"),
    ("GET", f"/jobs?reason={LONG}", None, 422, "reason: String should have at most 200 characters"),
    ("GET", "/failures?queue=urgent", None, 422, "queue: Input should be 'high_priority'"),
    ("GET", "/failures?limit=501", None, 422, "limit: Input should be less than or equal to 500"),
    # queues
    ("POST", "/queues/urgent/pause", None, 404, "There is no queue 'urgent'"),
    ("POST", "/queues/urgent/resume", None, 404, "There is no queue 'urgent'"),
    ("DELETE", "/queues/urgent/failed", None, 404, "There is no queue 'urgent'"),
    ("POST", f"/queues/{LONG}/pause", None, 422, "name: String should have at most 100 characters"),
    ("POST", "/queues/low_priority/pause?for=ever", None, 422, "for: There is no such field"),
    ("GET", "/queues/low_priority/failed", None, 405, "GET is not possible here"),
    ("GET", "/workers?limit=1", None, 422, "limit: There is no such field"),
    # scans
    ("POST", "/scans", {"library": "nowhere"}, 404, "There is no library"),
    ("POST", "/scans", {"mode": "slow"}, 422, "mode: Input should be 'quick' or 'full'"),
    ("POST", "/scans", {"path": "../.."}, 400, "'../..' lies outside the library"),
    ("POST", "/scans", {"path": "a\0b"}, 422, "path: a path has no NUL in it"),
    ("POST", "/scans", {"path": "nowhere"}, 404, "There is no folder 'nowhere' in the library Music"),
    ("POST", "/scans", {"path": "a", "album": "b"}, 422, "path: give either a path, or an artist or album"),
    ("POST", "/scans", {"artist": "nobody"}, 404, "There are no such tracks"),
    ("POST", "/scans", {"deep": True}, 422, "deep: There is no such field"),
    ("POST", "/scans", {"confirm_missing": "maybe"}, 422, "confirm_missing: Input should be a valid boolean"),
    ("POST", "/scans", [], 422, "body: Input should be a valid dictionary"),
    ("POST", "/scans", b"{", 422, "body: This is not JSON"),
    ("POST", "/scans", b"\xff\xfe", 422, "body: This is not JSON"),
    ("POST", "/scans", b'"\\ud800"', 422, "body: Input should be a valid dictionary"),
    ("POST", "/scans", b"[" * 100_000, 422, "body: This is not JSON"),
    ("POST", "/scans", b" " * (1024 * 1024 + 1), 413, "A request's body may have 1048576 bytes"),
    ("GET", "/scans/nobody", None, 404, "There is no job nobody"),
    ("GET", f"/scans/{ENDED}", None, 404, "There is no scan "),
    ("GET", "/scans?cursor=x", None, 400, "The cursor is not one of ours"),
    # tracks and errors
    ("GET", "/tracks/0", None, 422, "track_id: Input should be greater than or equal to 1"),
    ("GET", "/tracks/99999", None, 404, "There is no track 99999"),
    ("GET", "/tracks/one", None, 422, "track_id: Input should be a valid integer"),
    ("GET", "/tracks/9223372036854775808", None, 422, "track_id: Input should be less than or equal to"),
    ("DELETE", f"/tracks/{TRASHED}", None, 409, "Track {trashed} is in the trash already"),
    ("DELETE", f"/tracks/{MISSING}", None, 409, "Track {missing} has no file any more"),
    ("POST", f"/tracks/{LIVE}/restore", None, 409, "Track {live} is not in the trash"),
    ("GET", "/tracks?sort=beauty", None, 422, "sort: String should match pattern"),
    ("GET", "/tracks?status=GONE", None, 422, "status.0: String should match pattern"),
    ("GET", "/tracks?library=nowhere", None, 404, "There is no library"),
    ("POST", f"/errors/{LIVE}/retry", None, 409, "Track {live} is not in ERROR"),
    ("GET", "/errors?category=mine", None, 422, "category: Input should be 'user_fixable', 'admin_required' or"),
    # schedules
    ("GET", "/schedules/nightly", None, 404, "There is no schedule"),
    ("PATCH", "/schedules/trash", {"crontab": "sometimes"}, 422, "crontab: "),
    ("PATCH", "/schedules/trash", {"when": "now"}, 422, "when: There is no such field"),
    ("PATCH", "/schedules/trash", {"arguments": {"days": -1}}, 422, "arguments"),
    ("POST", "/schedules/nightly/run", None, 404, "There is no schedule"),
    # live, and nothing at all
    ("GET", "/events?job=nobody", None, 404, "There is no job nobody"),
    ("GET", f"/events?job={LONG}", None, 422, "job.0: String should have at most 200 characters"),
    ("GET", "/nothing", None, 404, "There is nothing at /api/v1/nothing"),
    ("PUT", "/jobs", None, 405, "PUT is not possible here"),
]  # fmt: skip


@pytest.fixture
async def ids(runtime: Runtime, library: Library) -> dict[str, Any]:
    """Rows to be wrong about."""
    parent, part = new_id(), new_id()
    given = {"task": "purge_trash", "queue": "low_priority", "arguments": {}, "created_at": utc_now()}
    ended, running = Job(id=new_id(), state="succeeded", **given), Job(id=new_id(), state="running", **given)
    await add(
        runtime,
        ended,
        running,
        Job(id=parent, state="failed", continuation_id=part, **given),
        Job(id=part, state="failed", parent_id=parent, **given),
    )
    live, trashed, missing = await add_tracks(
        runtime,
        track(library),
        track(library, status=TrackState.TRASHED),
        track(library, status=TrackState.MISSING),
    )
    return {
        "ended": ended.id, "running": running.id, "part": part, "live": live, "trashed": trashed, "missing": missing
    }  # fmt: skip


def _filled(text: str, ids: dict[str, Any]) -> str:
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


async def test_each_bad_request_is_told_precisely_what_is_wrong(
    client: httpx.AsyncClient, ids: dict[str, Any]
) -> None:
    wrong: list[str] = []
    for method, address, body, status, detail in CASES:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        answer = await client.request(method, _filled(address, ids), content=content, headers=headers)
        problem = answer.json()
        as_expected = (
            answer.status_code == problem["status"] == status
            and answer.headers["content-type"] == "application/problem+json"
            and problem["detail"].startswith(_filled(detail, ids))
        )
        if not as_expected:
            wrong.append(
                f"{method} {address[:60]} {str(body)[:40]}: {answer.status_code} {problem['detail'][:150]}"
            )
    assert wrong == []


async def test_what_is_wrong_with_a_field_is_told_for_that_field_too(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/jobs", params={"limit": 0, "state": "lost"})).json()
    assert {(error["location"], error["field"]) for error in problem["errors"]} == {
        ("query", "limit"),
        ("query", "state.0"),
    }
    assert problem["category"] == "user_fixable"
