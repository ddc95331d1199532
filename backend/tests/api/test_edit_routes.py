"""Edits, covers, renames, undo and uploads over HTTP, with a real worker that does them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pyvips

from audio_files import make_audio
from jobs.music_library import MusicLibrary, new_library, worker_of
from mus.api import security
from mus.broker.runtime import Runtime
from mus.config import Settings
from waiting import until


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=0, database_url=database_url, max_upload_mb=1)


@pytest.fixture
async def music(runtime: Runtime, tmp_path: Path) -> AsyncIterator[MusicLibrary]:
    library = await new_library(runtime, tmp_path / "music")
    async with worker_of(runtime):
        yield library


def picture(kind: str = "jpeg", shade: int = 90) -> bytes:
    image = (pyvips.Image.black(60, 40, bands=3) + shade).cast("uchar")
    return bytes(image.write_to_buffer(f".{kind}"))


def arrivals(music: MusicLibrary) -> list[Path]:
    return list(music.root.rglob(".mus-upload-*"))


async def ended(client: httpx.AsyncClient, music: MusicLibrary, answer: httpx.Response) -> dict[str, Any]:
    """The result of the job that a request was answered with."""
    assert answer.status_code == 202, answer.text
    job = await music.ended(answer.json()["job_id"])
    assert answer.headers["location"] == f"/api/v1/jobs/{job.id}"
    return (await client.get(f"/jobs/{job.id}")).json()["result"] or {"error": job.error_message}


async def test_a_track_is_edited_its_history_told_and_all_taken_back(
    served: httpx.AsyncClient, music: MusicLibrary
) -> None:
    music.write("A/1.mp3")
    await music.scan()
    track_id = (await music.track("A/1.mp3")).id
    changes = {"title": "Sinnerman", "year": 1965, "rename_pattern": "{artist}/{title}"}
    answer = await served.patch(f"/tracks/{track_id}", json=changes)
    assert await ended(served, music, answer) == {"edited": 1, "renamed": 1}
    track = (await served.get(f"/tracks/{track_id}")).json()
    assert (track["title"], track["date"], track["path"]) == ("Sinnerman", "1965", "Somebody/Sinnerman.mp3")
    history = (await served.get(f"/tracks/{track_id}/edits", params={"limit": 1})).json()
    [rename] = history["items"]
    assert (rename["kind"], rename["before"]["path"], rename["after"]["path"]) == (
        "rename",
        "A/1.mp3",
        track["path"],
    )
    more = {"cursor": history["next_cursor"]}
    [tags] = (await served.get(f"/tracks/{track_id}/edits", params=more)).json()["items"]
    assert tags["before"]["tags"] == {"title": ["1"], "date": []}
    assert tags["after"]["tags"] == {"title": ["Sinnerman"], "date": ["1965"]}
    answer = await served.post(f"/jobs/{tags['job_id']}/undo")
    assert (await ended(served, music, answer))["undone"] == 2
    track = (await served.get(f"/tracks/{track_id}")).json()
    assert (track["title"], track["date"], track["path"]) == ("1", None, "A/1.mp3")
    assert (await served.post(f"/edits/{tags['id']}/undo")).status_code == 409
    assert (await served.post(f"/jobs/{tags['job_id']}/undo")).status_code == 409


async def test_covers_come_from_a_request_or_from_a_picture_for_many(
    served: httpx.AsyncClient, music: MusicLibrary
) -> None:
    music.write("1.mp3", "2.flac")
    await music.scan()
    ids = {path: track.id for path, track in (await music.tracks()).items()}
    answer = await served.put(f"/tracks/{ids['1.mp3']}/cover", content=picture("webp"))
    assert await ended(served, music, answer) == {"edited": 1}
    shown = await served.get(f"/tracks/{ids['1.mp3']}/cover")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    handed_in = await served.post("/pictures", content=picture("png"))
    assert (handed_in.status_code, handed_in.json()["mime"]) == (201, "image/png")
    changes = {"cover": handed_in.json()["id"], "album": "Blues"}
    answer = await served.patch("/tracks", json={"filter": {"artist": "somebody"}, "changes": changes})
    assert (await ended(served, music, answer))["edited"] == 2
    listed = (await served.get("/tracks", params={"album": "blues"})).json()["items"]
    assert [track["has_cover"] for track in listed] == [True, True]
    answer = await served.delete(f"/tracks/{ids['1.mp3']}/cover")
    assert await ended(served, music, answer) == {"edited": 1}
    assert (await served.get(f"/tracks/{ids['1.mp3']}/cover")).status_code == 404
    for body in (b"GIF89a and no more", picture()[:200]):
        assert (await served.post("/pictures", content=body)).status_code == 400
    too_large = b"\xff\xd8\xff" + bytes(security.MOST_PICTURE_BYTES)
    assert (await served.post("/pictures", content=too_large)).status_code == 413


async def test_a_preview_tells_what_the_job_then_does(served: httpx.AsyncClient, music: MusicLibrary) -> None:
    titles = {"a": "b", "b": "c", "c": "c", "d": "d", "e": "f", "f": "e", "g": "C"}
    for name, title in titles.items():
        make_audio(music.root / f"{name}.mp3", seconds=0.2, tags={"title": title})
    make_audio(music.root / "h.mp3", seconds=0.2, tags={"title": "x", "album": "y"})
    await music.scan()
    ids = {path: track.id for path, track in (await music.tracks()).items()}
    body = {"ids": list(ids.values()), "rename_pattern": "{title}"}
    planned = await _pages(served, "/tracks/rename/preview", body)
    told = {item["path"]: (item["state"], item["new_path"]) for item in planned}
    assert told["h.mp3"] == ("moves", "x.mp3")
    assert {path for path, (state, _) in told.items() if state == "same"} == {"c.mp3", "d.mp3"}
    assert {path for path, (state, _) in told.items() if state == "conflict"} == {
        "a.mp3", "b.mp3", "e.mp3", "f.mp3", "g.mp3",
    }  # fmt: skip
    answer = await served.patch("/tracks", json=body)
    result = await ended(served, music, answer)
    moved = {item["path"]: item["new_path"] for item in planned if item["state"] == "moves"}
    assert result["renamed"] == len(moved)
    assert result["failed"] == len([item for item in planned if item["state"] == "conflict"])
    now = {track.id: path for path, track in (await music.tracks()).items()}
    for path, track_id in ids.items():
        assert now[track_id] == moved.get(path, path)
    missing = {"ids": [ids["h.mp3"]], "rename_pattern": "{genre}"}
    [item] = (await served.post("/tracks/rename/preview", json=missing)).json()["items"]
    assert (item["state"], item["new_path"]) == ("conflict", None)
    assert item["problem"].endswith("cannot be named by the pattern: It has no genre")


async def test_a_preview_tells_the_names_that_an_edit_of_the_tags_leads_to(
    served: httpx.AsyncClient, music: MusicLibrary
) -> None:
    tags = {"title": "old", "artist": "Anna", "album": "A", "tracknumber": "3", "date": "1999", "genre": "Folk"}
    make_audio(music.root / "04 kept.mp3", seconds=0.2, tags=tags)
    await music.scan()
    [track] = (await music.tracks()).values()
    changes = {
        "title": None, "artists": ["Bea", "Cora"], "year": 2001, "track_number": 7, "genres": ["Jazz", "Soul"],
        "comment": "names nothing",
    }  # fmt: skip
    body = {"ids": [track.id], "rename_pattern": "{artist}/{album} {year} {genre}/{track:02} {title}"}
    [item] = (await served.post("/tracks/rename/preview", json={**body, "changes": changes})).json()["items"]
    assert (item["state"], item["new_path"]) == ("moves", "Bea; Cora/A 2001 Jazz/07 kept.mp3")
    await ended(served, music, await served.patch("/tracks", json={**body, "changes": changes}))
    assert list(await music.tracks()) == [item["new_path"]]


async def _pages(client: httpx.AsyncClient, address: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    items, params = [], {"limit": "3"}
    while True:
        page = (await client.post(address, json=body, params=params)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


# ------------------------------------------------------------------------------------------------- uploads


async def test_an_uploaded_file_is_in_its_place_and_its_track_is_told(
    served: httpx.AsyncClient, music: MusicLibrary, tmp_path: Path
) -> None:
    made = make_audio(tmp_path / "made.flac", seconds=0.3, tags={"title": "Sinnerman", "artist": "Nina"})
    answer = await served.post("/tracks/upload", params={"path": "A/B?/01.flac"}, content=made.read_bytes())
    result = await ended(served, music, answer)
    assert (answer.json()["path"], answer.json()["library"]) == ("A/B_/01.flac", "Music")
    track = (await served.get(f"/tracks/{result['track_id']}")).json()
    assert (track["title"], track["path"]) == ("Sinnerman", "A/B_/01.flac")
    assert (music.root / "A/B_/01.flac").read_bytes() == made.read_bytes()
    for path in ("A/B_/01.flac", "a/b_/01.FLAC", "A/B_/01.Flac"):
        answer = await served.post("/tracks/upload", params={"path": path}, content=made.read_bytes())
        assert answer.status_code == (409 if path.startswith("A/") else 202), answer.text
    other = {"path": "A/B_/01.flac", "on_conflict": "number"}
    answer = await served.post("/tracks/upload", params=other, content=made.read_bytes())
    assert answer.json()["path"] == "A/B_/01 (2).flac"
    by_tags = {"path": "x.flac", "rename_pattern": "{artist}/{title}"}
    answer = await served.post("/tracks/upload", params=by_tags, content=made.read_bytes())
    await ended(served, music, answer)
    assert (music.root / "Nina/Sinnerman.flac").is_file()
    assert arrivals(music) == []


async def test_what_is_no_whole_music_file_is_not_taken(
    served: httpx.AsyncClient, music: MusicLibrary, tmp_path: Path
) -> None:
    whole = make_audio(tmp_path / "whole.flac", seconds=0.3, tags={"title": "x", "album": "y"}).read_bytes()
    for path, body, told in (
        ("a.flac", os.urandom(5000), "This is not a flac file"),
        ("a.flac", b"\x89PNG\r\n\x1a\n" + bytes(100), "it begins like a PNG picture"),
        ("a.flac", whole[:90], "cut short"),
        ("a.mp3", whole, "its name must end with .flac or .oga or .ogg"),
        ("a.flac", b"", "The file is empty"),
    ):
        answer = await served.post("/tracks/upload", params={"path": path}, content=body)
        assert (answer.status_code, told in answer.json()["detail"]) == (400, True), answer.text
    answer = await served.post("/tracks/upload", params={"path": "a.flac"}, content=bytes(1_000_001))
    assert answer.status_code == 413
    assert [path for path in music.root.rglob("*") if path.is_file()] == []


async def test_an_upload_that_is_broken_off_leaves_nothing(served: httpx.AsyncClient, music: MusicLibrary) -> None:
    host, port = served.base_url.host, served.base_url.port
    _, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /api/v1/tracks/upload?path=a.mp3 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900000\r\n\r\n".encode()
        + bytes(300_000)
    )
    await writer.drain()

    async def arriving() -> bool:
        return arrivals(music) != []

    async def gone() -> bool:
        return arrivals(music) == []

    await until(arriving, what="the beginning of the upload")
    writer.transport.abort()
    await until(gone, what="the end of the upload")
    assert [path for path in music.root.rglob("*") if path.is_file()] == []


async def test_nothing_is_uploaded_into_the_empty_folder_below_a_disk_that_is_away(
    served: httpx.AsyncClient, music: MusicLibrary, tmp_path: Path
) -> None:
    music.write("1.flac")
    await music.scan()
    music.root.rename(tmp_path / "away")
    music.root.mkdir()
    made = make_audio(tmp_path / "made.flac", seconds=0.3, tags={"title": "Sinnerman"})
    answer = await served.post("/tracks/upload", params={"path": "A/01.flac"}, content=made.read_bytes())
    assert answer.status_code == 409, answer.text
    assert "Is its disk mounted?" in answer.json()["detail"]
    assert list(music.root.iterdir()) == []
