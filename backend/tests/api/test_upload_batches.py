"""Files that are uploaded together, over HTTP, with a real worker that puts them in their places."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pyvips
from sqlalchemy import update

from api.rows import add
from audio_files import make_audio
from jobs.music_library import MusicLibrary, new_library, worker_of
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.ledger.deliveries import new_id
from mus.library.staged_uploads import (
    NotPlacedError,
    place_all,
    renew_batch,
    staged_files,
    staged_path,
    sweep_batches,
    take_back,
)
from mus.persistence.models import Job
from refusing_folders import full_disk
from waiting import until

BATCH = "0123abcd"
ALBUM = [f"New/Album/{number:02}.flac" for number in range(1, 4)]


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    return Settings(data_dir=tmp_path / "data", port=0, database_url=database_url, max_upload_mb=1)


@pytest.fixture
async def music(runtime: Runtime, tmp_path: Path) -> MusicLibrary:
    return await new_library(runtime, tmp_path / "music")


@pytest.fixture
async def worker(music: MusicLibrary) -> AsyncIterator[None]:
    async with worker_of(music.runtime):
        yield


@pytest.fixture
def song(tmp_path: Path) -> bytes:
    return make_audio(
        tmp_path / "made.flac", seconds=0.3, tags={"title": "Sinnerman", "artist": "Nina"}
    ).read_bytes()


async def _staged(client: httpx.AsyncClient, song: bytes, *paths: str) -> None:
    for path in paths:
        answer = await client.post(f"/uploads/{BATCH}", params={"path": path}, content=song)
        assert (answer.status_code, answer.json()) == (201, {"path": path, "size": len(song), "problem": None})


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _seen(root: Path) -> list[str]:
    return [path for path in _files(root) if not path.startswith(".")]


async def test_an_album_is_in_its_place_whole_once_all_of_it_is_there(
    served: httpx.AsyncClient, music: MusicLibrary, worker: None, song: bytes
) -> None:
    await _staged(served, song, *ALBUM)
    assert _seen(music.root) == []
    assert (await music.scan())["found"] == 0
    waiting = (await served.get(f"/uploads/{BATCH}")).json()["files"]
    assert [file["path"] for file in waiting] == ALBUM
    answer = await served.post(f"/uploads/{BATCH}/place")
    assert answer.status_code == 202
    job = await music.ended(answer.json()["job_id"])
    assert (job.state, job.result) == ("succeeded", {"placed": 3, "paths": ALBUM})
    assert _files(music.root) == ALBUM
    # The job has not ended before they can be seen.
    assert sorted(await music.tracks()) == ALBUM
    assert (await served.post(f"/uploads/{BATCH}/place")).status_code == 404


async def test_what_lies_beside_music_comes_with_it_once_it_is_what_its_name_says(
    served: httpx.AsyncClient, music: MusicLibrary, worker: None, song: bytes
) -> None:
    url = f"/uploads/{BATCH}"
    cover = bytes(pyvips.Image.black(20, 20).pngsave_buffer())
    files = {
        "New/Album/cover.png": cover,
        "New/Album/Scans/booklet.pdf": b"%PDF-1.7 and so on",
        "New/Album/rip.log": "EAC".encode("utf-16"),
    }
    for path, content in files.items():
        assert (await served.post(url, params={"path": path}, content=content)).status_code == 201, path
    refused = {
        "cover.jpg": (b"\xff\xd8\xff cut", "it is broken"),
        "page.png": (b"<html>", "it is no JPEG, PNG, WebP or GIF"),
        "page.pdf": (b"<html>", "it is no PDF document"),
        "program.txt": (b"\x7fELF\0", "it is no text"),
        "long.cue": (bytes(1_000_000), ""),
        "program.exe": (b"x", "Must end with the suffix of a sound file"),
    }
    for path, (content, reason) in refused.items():
        answer = await served.post(url, params={"path": path}, content=content)
        assert answer.status_code in {400, 422}, path
        assert reason in answer.text, path
    by_tags = await served.post(url, params={"path": "a.txt", "rename_pattern": "{title}"}, content=b"x")
    assert by_tags.json()["detail"] == "This file has no tags that it could be named by"
    assert (await served.post("/tracks/upload", params={"path": "cover.png"}, content=cover)).status_code == 422
    await _staged(served, song, ALBUM[0])
    job = await music.ended((await served.post(f"{url}/place")).json()["job_id"])
    assert (job.state, (job.result or {})["placed"]) == ("succeeded", 4)
    assert _files(music.root) == sorted([*files, ALBUM[0]])
    assert sorted(await music.tracks()) == [ALBUM[0]]


async def test_when_one_place_is_taken_none_of_the_files_goes(
    served: httpx.AsyncClient, music: MusicLibrary, song: bytes
) -> None:
    await _staged(served, song, *ALBUM)
    music.write(ALBUM[1])
    before = (music.root / ALBUM[1]).read_bytes()
    [problem] = [
        file["problem"] for file in (await served.get(f"/uploads/{BATCH}")).json()["files"] if file["problem"]
    ]
    assert problem == f"There is a file at {ALBUM[1]} already"
    answer = await served.post(f"/uploads/{BATCH}/place")
    assert (answer.status_code, answer.json()["details"]) == (
        409, {"files": [{"path": ALBUM[1], "message": problem}]},
    )  # fmt: skip
    # One that was asked for before that came there is told the same.
    async with worker_of(music.runtime):
        failed = await music.run("place_uploads", library_id=music.id, batch=BATCH)
        assert failed.state == "failed"
        assert (failed.error_details or {})["files"] == answer.json()["details"]["files"]
        assert _seen(music.root) == [ALBUM[1]]
        assert (music.root / ALBUM[1]).read_bytes() == before
        (music.root / ALBUM[1]).unlink()
        again = await served.post(f"/jobs/{failed.id}/retry")
        assert (await music.ended(again.json()["job_id"])).state == "succeeded"
    assert _files(music.root) == ALBUM


async def test_an_attempt_after_a_killed_one_ends_what_that_began(
    served: httpx.AsyncClient, music: MusicLibrary, song: bytes
) -> None:
    await _staged(served, song, *ALBUM)
    # As it was killed between the first file and the second.
    (music.root / "New/Album").mkdir(parents=True)
    os.rename(os.fsencode(music.root) + b"/" + staged_path(BATCH, ALBUM[0].encode()), music.path(ALBUM[0]))
    row = Job(
        id=new_id(), task="place_uploads", queue="high_priority", state="queued",
        arguments={"library_id": music.id, "batch": BATCH}, checkpoint={"places": ALBUM},
    )  # fmt: skip
    await add(music.runtime, row)
    async with worker_of(music.runtime):
        job = await music.ended(row.id)
    assert (job.state, job.result) == ("succeeded", {"placed": 3, "paths": ALBUM})
    assert _files(music.root) == ALBUM
    assert sorted(await music.tracks()) == ALBUM


async def test_a_batch_that_is_asked_for_twice_is_placed_once_and_not_discarded_meanwhile(
    served: httpx.AsyncClient, music: MusicLibrary, song: bytes
) -> None:
    await _staged(served, song, *ALBUM)
    first = (await served.post(f"/uploads/{BATCH}/place")).json()["job_id"]
    assert (await served.delete(f"/uploads/{BATCH}")).status_code == 409
    # It is under way, as far as anybody can tell, when somebody asks once more.
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == first).values(state="waiting", children_open=1))
    second = (await served.post(f"/uploads/{BATCH}/place")).json()["job_id"]
    assert second != first
    async with worker_of(music.runtime):
        await until(lambda: _held_back(music, second), what="the second one to be held back")
        assert _seen(music.root) == []


async def _held_back(music: MusicLibrary, job_id: str) -> bool:
    return (await music.job(job_id)).stage == "waits for another like it"


async def test_what_is_not_taken_is_told_for_each_file_and_the_rest_can_be_discarded(
    served: httpx.AsyncClient, music: MusicLibrary, song: bytes, tmp_path: Path
) -> None:
    await _staged(served, song, ALBUM[0])
    url = f"/uploads/{BATCH}"
    no_music = await served.post(url, params={"path": "a.flac"}, content=b"no music")
    twice = await served.post(url, params={"path": ALBUM[0].upper()[:-4] + "flac"}, content=song)
    too_large = await served.post(url, params={"path": "b.flac"}, content=bytes(1_000_001))
    assert [no_music.status_code, too_large.status_code] == [400, 413]
    assert twice.status_code in {201, 409}  # in another folder, where capitals make one
    by_tags = {"path": "x.flac", "rename_pattern": "{artist}/{title}"}
    for _ in range(2):  # whoever hears no answer sends it again
        again = await served.post(url, params=by_tags, content=song)
        assert (again.status_code, again.json()["path"]) == (201, "Nina/Sinnerman.flac")
    other = make_audio(tmp_path / "other.flac", seconds=0.4, tags={"title": "Sinnerman", "artist": "Nina"})
    another = await served.post(url, params=by_tags, content=other.read_bytes())
    assert another.json()["detail"] == "There is another file for Nina/Sinnerman.flac in this batch already"
    for name in ("..%2F..%2Fetc", "short", "a" * 65, "0123abc%00"):
        assert (await served.get(f"/uploads/{name}")).status_code in {404, 422}
    one = {"path": "Nina/Sinnerman.flac"}
    assert (await served.delete(url, params=one)).json() == {"count": 1}
    assert (await served.delete(url, params=one)).status_code == 404
    assert (await served.delete(url)).json()["count"] >= 1
    assert _files(music.root) == []
    assert (await served.delete(url)).json() == {"count": 0}


# ------------------------------------------------------------------------------------------------- the folder


def _stage(root: Path, *places: str, batch: str = BATCH) -> list[bytes]:
    for place in places:
        path = root / os.fsdecode(staged_path(batch, place.encode()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    return [place.encode() for place in places]


def test_a_place_that_is_taken_at_the_last_moment_brings_all_back(tmp_path: Path) -> None:
    places = _stage(tmp_path, "A/1.mp3", "A/2.mp3", "B/3.mp3")
    (tmp_path / "B").mkdir()
    (tmp_path / "B/3.mp3").write_text("somebody's")
    with pytest.raises(NotPlacedError) as failed:
        place_all(bytes(tmp_path), BATCH, places)
    assert (failed.value.place, type(failed.value.reason)) == (b"B/3.mp3", FileExistsError)
    take_back(bytes(tmp_path), BATCH, places)
    assert _seen(tmp_path) == ["B/3.mp3"]
    assert not (tmp_path / "A").exists()
    assert [file.place for file in staged_files(bytes(tmp_path), BATCH)] == places
    assert (tmp_path / "B/3.mp3").read_text() == "somebody's"


def test_files_stay_inside_the_library_whatever_links_there_are(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    places = _stage(root, "A/1.mp3", "B/2.mp3")
    (root / "B").symlink_to(outside)
    with pytest.raises(NotPlacedError):
        place_all(bytes(root), BATCH, places)
    take_back(bytes(root), BATCH, places)
    assert os.listdir(outside) == []
    assert not (root / "A").exists()
    shutil.rmtree(root / ".mus-uploads")
    _stage(outside, "A/1.mp3")
    (outside / ".mus-uploads").rename(tmp_path / "elsewhere")
    (root / ".mus-uploads").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        staged_files(bytes(root), BATCH)


def test_batches_that_nobody_adds_to_are_swept_and_those_of_a_job_are_not(tmp_path: Path) -> None:
    batches = ("old-batch", "new-batch", "job-batch", "asked-for")
    for batch in batches:
        _stage(tmp_path, "A/1.mp3", batch=batch)
    for batch in ("old-batch", "job-batch", "asked-for"):
        for folder, _, names in os.walk(bytes(tmp_path) + b"/" + staged_path(batch)):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.utime(path, (0, 0))
    renew_batch(bytes(tmp_path), "asked-for")
    assert sweep_batches(bytes(tmp_path), older_than_seconds=3600, wanted={"job-batch"}) == 1
    left = [batch for batch in batches if staged_files(bytes(tmp_path), batch)]
    assert left == ["new-batch", "job-batch", "asked-for"]


@pytest.mark.parametrize("where", ["/tracks/upload", f"/uploads/{BATCH}"])
async def test_a_full_disk_takes_no_file_says_so_and_keeps_nothing_of_it(
    served: httpx.AsyncClient, music: MusicLibrary, tmp_path: Path, where: str
) -> None:
    long = make_audio(tmp_path / "long.flac", seconds=3.0, tags={"title": "Sinnerman"}).read_bytes()
    with full_disk(music.root):
        answer = await served.post(where, params={"path": "New/01.flac"}, content=long)
        assert (answer.status_code, answer.json()["category"]) == (507, "admin_required")
        assert answer.json()["detail"] == "The file could not be written: the disk, or a quota on it, is full"
        assert answer.json()["recovery_actions"] == ["Free some disk space"]
        assert _files(music.root) == ["filler.bin"]
        (music.root / "filler.bin").unlink()
        assert (await served.post(where, params={"path": "New/01.flac"}, content=long)).status_code in {201, 202}
