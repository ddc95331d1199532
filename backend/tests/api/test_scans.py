from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, update

from api.rows import add, add_library, add_tracks, calling, track
from mus.api.server import serving
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.ledger.deliveries import new_id
from mus.ledger.job_states import JobState
from mus.library.paths import escaped
from mus.persistence.database import Database
from mus.persistence.models import Job, Library, utc_now
from waiting import until

Client = httpx.AsyncClient


def _root(library: Library) -> Path:
    return Path(os.fsdecode(library.root))


async def _job(runtime: Runtime, job_id: str) -> Job:
    async with runtime.database.reading() as session:
        return (await session.execute(select(Job).where(Job.id == job_id))).scalar_one()


async def test_a_scan_is_accepted_with_a_job_and_its_address(
    client: Client, runtime: Runtime, library: Library
) -> None:
    assert (await client.post("/scans")).status_code == 202
    answer = await client.post("/scans", json={"mode": "full", "confirm_missing": True})
    assert answer.status_code == 202
    body = answer.json()
    assert body == {"job_id": body["job_id"], "state": "queued", "job_ids": [body["job_id"]]}
    assert answer.headers["location"] == f"/api/v1/scans/{body['job_id']}"
    job = await _job(runtime, body["job_id"])
    assert (job.task, job.queue, job.requested_by) == ("scan_library", "high_priority", "api 127.0.0.1")
    assert job.exclusive_key == f"library:{library.id}"
    assert job.arguments == {"library_id": library.id, "mode": "full", "path": "", "confirm_missing": True}


async def test_the_same_request_while_it_waits_answers_the_same_job(client: Client, library: Library) -> None:
    first = await client.post("/scans", json={})
    for _ in range(10):
        again = await client.post("/scans", json={"library": "Music"})
        assert again.json() == first.json()
    assert (await client.post("/scans", json={"mode": "full"})).json() != first.json()


async def test_more_than_five_scans_in_five_minutes_are_too_many(
    client: Client, runtime: Runtime, library: Library
) -> None:
    left = []
    for number in range(5):
        (_root(library) / str(number)).mkdir()
        answer = await client.post("/scans", json={"path": str(number)})
        assert answer.status_code == 202
        left.append(answer.headers["ratelimit-remaining"])
    assert left == ["4", "3", "2", "1", "0"]
    answer = await client.post("/scans", json={"mode": "full"})
    assert answer.status_code == 429
    assert 290 < int(answer.headers["retry-after"]) <= 300
    assert answer.headers["content-type"] == "application/problem+json"
    # What waits already is answered all the same, and another caller has a count of their own.
    assert (await client.post("/scans", json={"path": "1"})).status_code == 202
    other = httpx.ASGITransport(client._transport.app, client=("10.0.0.9", 1))  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=other, base_url=client.base_url) as stranger:
        assert (await stranger.post("/scans", json={"mode": "full"})).status_code == 202


async def test_scans_are_counted_across_api_processes_and_by_the_real_address(
    runtime: Runtime, library: Library
) -> None:
    for name in "abcdef":
        (Path(os.fsdecode(library.root)) / name).mkdir()
    remaining: list[str] = []
    async with (
        serving(runtime.settings, runtime) as one,
        serving(runtime.settings, runtime) as two,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        for number, name in enumerate("abcdef"):
            address = (one, two)[number % 2]
            # Whoever says to come from elsewhere is not believed: no proxy is trusted here.
            headers = {"X-Forwarded-For": f"10.0.0.{number}", "Forwarded": f"for=10.0.0.{number}"}
            answer = await client.post(f"{address}/api/v1/scans", json={"path": name}, headers=headers)
            remaining.append(answer.headers["ratelimit-remaining"])
    assert remaining == ["4", "3", "2", "1", "0", "0"]
    assert answer.status_code == 429


async def test_a_trusted_proxy_says_who_the_caller_is(runtime: Runtime, library: Library) -> None:
    settings = runtime.settings.model_copy(update={"trusted_proxies": "127.0.0.1"})
    async with serving(settings, runtime) as address, httpx.AsyncClient(trust_env=False) as client:
        for number in range(7):
            answer = await client.post(
                f"{address}/api/v1/scans",
                json={"mode": "full" if number % 2 else "quick"},
                headers={"X-Forwarded-For": f"10.0.0.{number}"},
            )
            assert answer.status_code == 202
    async with runtime.database.reading() as session:
        asked = (await session.scalars(select(Job.requested_by).where(Job.task == "scan_library"))).all()
    assert set(asked) == {"api 10.0.0.0", "api 10.0.0.1"}


async def test_a_scan_is_accepted_while_the_broker_is_down(settings: Any, queue_name: str) -> None:
    database = Database(settings.sqlalchemy_url)
    await database.migrate()
    try:
        async with broker.connected(database, "redis://127.0.0.1:1", queue_name) as connection:
            runtime = Runtime(settings, database, connection)
            await add_library(runtime, "Music", settings.music_dir)
            async with calling(runtime) as client:
                answer = await client.post("/scans", json={})
                assert answer.status_code == 202
                job_id = answer.json()["job_id"]

                async def waits_for_the_broker() -> bool:
                    job = await _job(runtime, job_id)
                    return (job.state, job.published_at) == (JobState.QUEUED, None)

                await until(waits_for_the_broker, what="the word that it could not be published")
                health = await client.get("/health")
                assert (health.status_code, health.json()["status"]) == (200, "degraded")
                assert health.json()["broker"]["ok"] is False
    finally:
        await database.close()


async def test_a_folder_is_named_as_it_is_shown(client: Client, runtime: Runtime, library: Library) -> None:
    raw = b"Bj\xf6rk 100%/\xff"
    os.makedirs(os.path.join(library.root, raw))
    [track_id] = await add_tracks(runtime, track(library, raw + b"/1.mp3"))
    shown = (await client.get(f"/tracks/{track_id}")).json()["path"].rpartition("/")[0]
    answer = await client.post("/scans", json={"path": shown + "/"})
    assert answer.status_code == 202
    assert (await _job(runtime, answer.json()["job_id"])).arguments["path"] == escaped(raw)
    assert (await client.get(answer.headers["location"][7:])).json()["path"] == shown == "Bj%F6rk 100%/%FF"
    # Whoever goes from folder to folder comes there too, and not to what no scan looks at.
    for folder in (b".hidden", b"@eaDir", b"\xe9tude"):
        os.mkdir(os.path.join(library.root, folder))
    os.symlink(library.root, os.path.join(library.root, b"around"))
    folders = (await client.get("/libraries/Music/folders")).json()
    assert folders == {"path": "", "items": ["%E9tude", "Bj%F6rk 100%"]}
    folders = (await client.get("/libraries/Music/folders", params={"path": "Bj%F6rk 100%/"})).json()
    assert folders == {"path": "Bj%F6rk 100%", "items": ["%FF"]}


async def test_paths_inside_the_library_are_accepted_and_others_are_not(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    root = _root(library)
    (root / "a/b").mkdir(parents=True)
    (root / "file.mp3").touch()
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "music2").mkdir()
    await add_tracks(runtime, track(library, "vanished/1.mp3"))
    for path, status in [
        ("a/./b/../b", 202),
        (str(root / "a"), 202),
        (".", 202),
        ("vanished", 202),
        ("..", 400),
        ("a/../../music2", 400),
        (str(tmp_path / "music2"), 400),
        ("/", 400),
        ("out", 400),
        ("out/data", 400),
        ("file.mp3", 400),
        ("nowhere", 404),
        ("a\0b", 422),
        ("a%00b", 422),
    ]:
        answer = await client.post("/scans", json={"path": path})
        assert answer.status_code == status, path
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/scans", content=b'{"path": "\\ud800"}', headers=headers)
    assert answer.status_code == 422


async def test_an_artist_or_album_stands_for_the_folder_that_holds_it(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(
        runtime,
        track(library, "A/One/1.mp3", artist="Björk", album="One"),
        track(library, "A/One/2.mp3", artist="Björk", album="One"),
        track(library, "A/Two/1.mp3", artist="Björk", album="Two"),
        track(library, "top.mp3", artist="Other", album="Top"),
    )
    for body, folder in [
        ({"album": "one"}, "A/One"),
        ({"artist": "bjork"}, "A"),
        ({"artist": "BJÖRK", "album": "Two"}, "A/Two"),
        ({"artist": "Other"}, ""),
    ]:
        answer = await client.post("/scans", json=body)
        assert (await _job(runtime, answer.json()["job_id"])).arguments["path"] == folder
    assert (await client.post("/scans", json={"artist": "Nobody"})).status_code == 404
    assert (await client.post("/scans", json={"artist": "Other", "path": "A"})).status_code == 422


async def test_every_library_gets_its_own_scan(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    body = (await client.post("/scans", json={})).json()
    assert len(body["job_ids"]) == 2
    assert body["job_id"] == body["job_ids"][0]
    scans = [(await client.get(f"/scans/{job_id}")).json() for job_id in body["job_ids"]]
    assert [scan["library"] for scan in scans] == ["Music", "Other"]
    assert (await client.post("/scans", json={"path": "x"})).status_code == 422
    one = (await client.post("/scans", json={"library": str(other.id)})).json()
    assert one["job_ids"] == [body["job_ids"][1]]
    assert (await client.post("/scans", json={"library": "None"})).status_code == 404


async def test_without_a_library_there_is_nothing_to_scan(client: Client) -> None:
    answer = await client.post("/scans", json={})
    assert answer.status_code == 409
    assert answer.json()["recovery_actions"]


async def test_a_body_that_is_not_understood_is_named(client: Client, library: Library) -> None:
    for content, field in [
        (b'{"modus": "full"}', "modus"),
        (b'{"mode": "slow"}', "mode"),
        (b'{"confirm_missing": "perhaps"}', "confirm_missing"),
        (b'{"path": 1}', "path"),
        (b"[]", "body"),
        (b"{", "body"),
    ]:
        answer = await client.post("/scans", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, content
        assert answer.json()["errors"][0]["field"] == field


async def test_the_history_is_newest_first_and_counts_when_a_scan_has_ended(
    client: Client, runtime: Runtime, library: Library
) -> None:
    counts = {
        "found": 9,
        "added": 3,
        "updated": 2,
        "moved": 1,
        "missing": 1,
        "unchanged": 2,
        "skipped": 1,
        "failed": 1,
    }
    for _ in range(3):
        job_id = (await client.post("/scans", json={})).json()["job_id"]
        async with runtime.database.unit_of_work() as work:
            await work.session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(
                    state=JobState.SUCCEEDED,
                    finished_at=(await _job(runtime, job_id)).created_at + timedelta(seconds=2.5),
                    result={**counts, "skipped_reasons": {"hidden": 1}},
                )
            )
    running = (await client.post("/scans", json={"mode": "full"})).json()["job_id"]
    async with runtime.database.unit_of_work() as work:
        values: dict[str, Any] = {
            "state": JobState.WAITING,
            "units_done": 5,
            "units_total": 10,
            "result": {"found": 1},
        }
        await work.session.execute(update(Job).where(Job.id == running).values(**values))
    page = (await client.get("/scans", params={"limit": 2})).json()
    assert [scan["mode"] for scan in page["items"]] == ["full", "quick"]
    waiting, ended = page["items"]
    assert (waiting["found"], waiting["seconds"], waiting["progress"]) == (None, None, 0.5)
    assert {name: ended[name] for name in counts} == counts
    assert (ended["seconds"], ended["skipped_reasons"], ended["library"]) == (2.5, {"hidden": 1}, "Music")
    rest = (await client.get("/scans", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert (len(rest["items"]), rest["next_cursor"]) == (2, None)


async def test_only_a_scan_is_a_scan(client: Client, runtime: Runtime) -> None:
    job_id = new_id()
    await add(
        runtime,
        Job(
            id=job_id, task="purge_trash", queue="low_priority", arguments={}, state="queued", created_at=utc_now()
        ),
    )
    assert (await client.get(f"/scans/{job_id}")).status_code == 404
    assert (await client.get("/scans/none")).status_code == 404
    assert (await client.get("/scans")).json()["items"] == []


async def test_scans_of_another_version_are_listed_as_far_as_they_are_understood(
    client: Client, runtime: Runtime
) -> None:
    for arguments, result in (
        ({}, None),
        ({"library": "Music", "mode": "deep"}, {"found": "34", "skipped_reasons": []}),
        ({"library_id": "1", "path": ["a"], "confirm_missing": None}, {"found": 34}),
    ):
        ended: dict[str, Any] = {"state": "succeeded", "result": result, "finished_at": utc_now()}
        await add(
            runtime, Job(id=new_id(), task="scan_library", queue="low_priority", arguments=arguments, **ended)
        )
    items = (await client.get("/scans")).json()["items"]
    # Ids of one millisecond come in any order.
    assert {(item["mode"], item["found"], item["library"], item["path"]) for item in items} == {
        ("quick", None, None, ""),
        (None, None, None, ""),
        ("quick", 34, None, ""),
    }
    for path in ("/jobs", f"/scans/{items[0]['job_id']}", f"/jobs/{items[0]['job_id']}"):
        assert (await client.get(path)).status_code == 200
