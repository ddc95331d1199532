"""An API whose machine has the music in another folder than the database says, may not write there, or lacks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.rows import add_library, add_tracks, calling, track
from mus.broker.runtime import Runtime
from mus.library.states import TrackState
from mus.persistence.models import Library
from refusing_folders import read_only

Client = httpx.AsyncClient
STORED = "/srv/the-music-of-another-machine"
COVER = "ab" + "0" * 30


@pytest.fixture
def runtime(runtime: Runtime, root: Path) -> Runtime:
    """The machine knows the library's folder as `root`."""
    settings = runtime.settings.model_copy(update={"root_map": f"{STORED}={root}"})
    return replace(runtime, settings=settings)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mnt"


@pytest.fixture
async def library(runtime: Runtime, root: Path) -> Library:
    (root / "A").mkdir(parents=True)
    (root / "A/1.mp3").write_bytes(b"sound")
    return await add_library(runtime, "Music", Path(STORED))


@pytest.fixture
async def song(runtime: Runtime, library: Library) -> str:
    [track_id] = await add_tracks(runtime, track(library, "A/1.mp3", format="mp3", cover=COVER))
    return f"/tracks/{track_id}"


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with calling(runtime) as client:
        yield client


async def of_health(client: Client) -> dict[str, Any]:
    [library] = (await client.get("/health")).json()["libraries"]
    return {name: library[name] for name in ("writable", "read_only_reason")}


async def jobs(client: Client) -> list[Any]:
    items: list[Any] = (await client.get("/jobs")).json()["items"]
    return items


async def test_the_file_is_streamed_from_where_it_is_here(client: Client, song: str) -> None:
    answer = await client.get(f"{song}/stream")
    assert (answer.status_code, answer.content) == (200, b"sound")


async def test_the_library_is_shown_with_the_root_that_all_machines_know(client: Client, song: str) -> None:
    [library] = (await client.get("/libraries")).json()["items"]
    assert library["root"] == STORED


async def test_a_folder_to_scan_may_be_named_as_all_machines_know_it(client: Client, song: str) -> None:
    for name in ("A", f"{STORED}/A"):
        assert (await client.post("/scans", json={"path": name})).status_code == 202
    assert (await client.post("/scans", json={"path": "B"})).status_code == 404


async def test_a_machine_without_the_folder_says_so(client: Client, song: str, root: Path) -> None:
    root.rename(root.with_name("away"))
    assert await of_health(client) == {
        "writable": None,
        "read_only_reason": "the folder is not on this machine",
    }
    answer = await client.get(f"{song}/stream")
    assert answer.status_code == 409
    assert "music folder is not there" in answer.json()["detail"]


async def test_a_cover_that_another_machine_made_is_told_from_none(client: Client, song: str) -> None:
    answer = await client.get(f"{song}/cover")
    assert answer.status_code == 404
    assert "is not on this machine" in answer.json()["detail"]


async def test_a_folder_in_which_mus_may_write_is_writable(client: Client, song: str) -> None:
    assert await of_health(client) == {"writable": True, "read_only_reason": None}


async def test_a_track_in_a_read_only_folder_is_not_deleted(client: Client, song: str, root: Path) -> None:
    with read_only(root):
        assert await of_health(client) == {"writable": False, "read_only_reason": "it is mounted read-only"}
        answer = await client.delete(song)
        played = await client.get(f"{song}/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json()["detail"] == "The folder of A/1.mp3 cannot be changed: it is mounted read-only"
    assert played.status_code == 200
    assert await jobs(client) == []
    assert (await client.delete(song)).status_code == 202


async def test_a_track_is_not_restored_into_a_read_only_folder(
    client: Client, runtime: Runtime, library: Library, root: Path
) -> None:
    trashed = track(library, b"Gone/Album/2.mp3\x007", status=TrackState.TRASHED)
    [track_id] = await add_tracks(runtime, trashed)
    with read_only(root):
        answer = await client.post(f"/tracks/{track_id}/restore")
    assert answer.status_code == 409
    assert "it is mounted read-only" in answer.json()["detail"]
    assert await jobs(client) == []
    assert (await client.post(f"/tracks/{track_id}/restore")).status_code == 202


async def test_of_a_library_only_the_folder_that_is_read_only_refuses(
    client: Client, runtime: Runtime, library: Library, root: Path
) -> None:
    (root / "B").mkdir()
    (root / "B/2.mp3").write_bytes(b"sound")
    ids = await add_tracks(runtime, track(library, "A/1.mp3"), track(library, "B/2.mp3"))
    with read_only(root / "A"):
        answers = [(await client.delete(f"/tracks/{track_id}")).status_code for track_id in ids]
        assert (await of_health(client))["writable"] is True
    assert answers == [409, 202]
