"""Libraries over HTTP: listed, added, changed, removed; and what cannot be is told by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from api.rows import add, add_library, add_tracks, calling, track
from mus.broker.runtime import Runtime
from mus.library.states import TrackState
from mus.persistence.models import Job, LeaseRow, Library, TrashEntry

Client = httpx.AsyncClient


async def talks_of(client: Client, tmp_path: Path, **values: Any) -> dict[str, Any]:
    (tmp_path / "talks").mkdir()
    answer = await client.post("/libraries", json={"name": "Talks", "root": str(tmp_path / "talks"), **values})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/api/v1/libraries/{added['id']}"
    return added


async def test_a_library_is_added_shown_and_changed(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    added = await talks_of(client, tmp_path, watch="polling", scan_crontab="*/5  * * * *", guard_min_tracks=7)
    scan = (await client.get(f"/scans/{added.pop('scan_job_id')}")).json()
    assert (scan["state"], scan["library"], scan["path"]) == ("queued", "Talks", "")
    assert added == {
        "id": library.id + 1,
        "name": "Talks",
        "root": str(tmp_path / "talks"),
        "tracks": 0,
        "online": True,
        "offline_reason": None,
        "watch": "polling",
        "watch_mode": None,
        "watch_reason": None,
        "scan_crontab": "*/5 * * * *",
        "guard_min_tracks": 7,
        "guard_fraction": None,
        "removing": False,
    }
    assert (await client.get("/libraries/Talks")).json() == added
    assert (await client.get(f"/libraries/{added['id']}")).json() == added
    schedules = (await client.get("/schedules")).json()["items"]
    own = next(item for item in schedules if item["name"] == f"scan-{added['id']}")
    assert (own["crontab"], own["arguments"]) == ("*/5 * * * *", {"library_id": added["id"]})
    edit = {"name": "Lectures", "guard_min_tracks": None, "guard_fraction": 0.25, "scan_crontab": "off"}
    answer = await client.patch("/libraries/Talks", json=edit)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**added, **edit}
    # What is not named stays; and in the same folder nothing moves.
    assert (await client.patch("/libraries/Lectures", json={"root": added["root"]})).json() == {**added, **edit}
    await add_tracks(runtime, track(library), track(library, status=TrackState.MISSING))
    await add(runtime, LeaseRow(name="watcher", holder="a", host="nas", pid=4))
    items = (await client.get("/libraries")).json()["items"]
    assert [(item["name"], item["tracks"]) for item in items] == [("Music", 1), ("Lectures", 0)]


async def test_a_librarys_own_schedule_is_steered_like_others_and_has_no_default(
    client: Client, library: Library
) -> None:
    await client.patch("/libraries/Music", json={"scan_crontab": "1 1 * * *"})
    name = f"/schedules/scan-{library.id}"
    assert (await client.patch(name, json={"enabled": False})).status_code == 200
    assert (await client.get("/libraries/Music")).json()["scan_crontab"] == "off"
    assert (await client.patch(name, json={"crontab": "2 2 * * *", "enabled": True})).status_code == 200
    assert (await client.get("/libraries/Music")).json()["scan_crontab"] == "2 2 * * *"
    other = await client.patch(name, json={"arguments": {"library_id": 99}})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "arguments")
    assert (await client.post(f"{name}/run")).status_code == 202
    reset = await client.post(f"{name}/reset")
    assert (reset.status_code, reset.json()["recovery_actions"]) == (
        409,
        [f"mus libraries set {library.id} --scan common"],
    )
    await client.patch("/libraries/Music", json={"scan_crontab": None})
    assert (await client.get(name)).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "77"}, "name"),
        ({"root": "relative"}, "root"),
        ({"root": "/nowhere/at/all"}, "root"),
        ({"root": "/a\0b"}, "root"),
        ({"watch": "sometimes"}, "watch"),
        ({"watch": None}, "watch"),
        ({"scan_crontab": "now and then"}, "scan_crontab"),
        ({"scan_crontab": "0 0 31 2 *"}, "scan_crontab"),
        ({"guard_min_tracks": 0}, "guard_min_tracks"),
        ({"guard_fraction": 1.5}, "guard_fraction"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_is_told_by_field_and_changes_nothing(
    client: Client, library: Library, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    (tmp_path / "talks").mkdir()
    before = (await client.get("/libraries")).json()
    new = {"name": "Talks", "root": str(tmp_path / "talks"), **change}
    for answer in (await client.post("/libraries", json=new), await client.patch("/libraries/Music", json=change)):
        assert answer.status_code == 422, answer.text
        assert [item["field"] for item in answer.json()["errors"]] == [field]
    assert (await client.get("/libraries")).json() == before


async def test_a_removal_is_a_job_and_waits_for_an_empty_trash(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    talks = await add_library(runtime, "Talks", tmp_path / "talks")
    (track_id,) = await add_tracks(runtime, track(talks, status=TrackState.TRASHED))
    await add(runtime, TrashEntry(track_id=track_id, original_path=b"a", trash_path=b"/b", state="trashed"))
    refused = await client.delete("/libraries/Talks")
    assert (refused.status_code, refused.json()["details"]) == (409, {"trashed": 1})
    # The settings name this one's folder: the next start would make it again.
    assert (await client.delete("/libraries/Music")).status_code == 409
    asked = await client.post("/scans", json={"library": "Talks"})
    answer = await client.delete("/libraries/Talks", params={"force": "true"})
    assert answer.status_code == 202
    assert (await client.get(f"/jobs/{asked.json()['job_id']}")).json()["state"] == "cancelled"
    job_id = answer.json()["job_id"]
    assert (await client.delete(f"/libraries/{talks.id}", params={"force": "true"})).json()["job_id"] == job_id
    assert (await client.get("/libraries/Talks")).json()["removing"]
    assert (await client.post("/scans", json={"library": "Talks"})).status_code == 409
    every = (await client.post("/scans")).json()
    async with runtime.database.reading() as session:
        arguments = await session.scalars(select(Job.arguments).where(Job.id.in_(every["job_ids"])))
        assert [found["library_id"] for found in arguments] == [library.id]
    assert (await client.delete("/libraries/Nothing")).status_code == 404


async def test_lists_take_a_library_by_name_or_id(
    client: Client, runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    talks = await add_library(runtime, "Talks", tmp_path / "talks")
    # As another version of mus may have written it.
    await add(
        runtime,
        Job(id="a" * 32, task="scan_library", queue="high_priority", arguments={"library_id": "x"}, state="failed"),
    )
    for name in ("Music", "Talks"):
        assert (await client.post("/scans", json={"library": name})).status_code == 202
    for wanted in ("Talks", str(talks.id)):
        items = (await client.get("/scans", params={"library": wanted})).json()["items"]
        assert [item["library"] for item in items] == ["Talks"]
    assert len((await client.get("/scans")).json()["items"]) == 3
    assert (await client.get("/scans", params={"library": "Nothing"})).status_code == 404


async def test_the_database_names_a_root_as_all_machines_know_it(
    runtime: Runtime, library: Library, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    settings = runtime.settings.model_copy(update={"root_map": f"/srv/talks={tmp_path / 'here'}"})
    async with calling(Runtime(settings, runtime.database, runtime.connection), settings) as client:
        for name, root in (("Talks", "/srv/talks"), ("Again", str(tmp_path / "here"))):
            answer = await client.post("/libraries", json={"name": name, "root": root})
            assert answer.status_code == (201 if name == "Talks" else 409), answer.text
        assert (await client.get("/libraries/Talks")).json()["root"] == "/srv/talks"
