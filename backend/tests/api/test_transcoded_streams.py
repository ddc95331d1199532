"""Tracks in another format than their file's, over a real server with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from api.rows import add_tracks, track
from audio_files import make_audio
from mus.api.server import serving
from mus.api.transcoder import AT_ONCE, MOST_WAITING, Transcoder
from mus.broker.runtime import Runtime
from mus.persistence.models import Library
from waiting import until

Client = httpx.AsyncClient
#: So long that it is not whole before the test has ended.
_HOURS = 6 * 3600


@pytest.fixture
def database_kind() -> str:
    """Nothing here depends on the database."""
    return "sqlite"


@pytest.fixture
def root(runtime: Runtime) -> Path:
    assert runtime.settings.music_dir is not None
    return runtime.settings.music_dir


@pytest.fixture
def transcoders(monkeypatch: pytest.MonkeyPatch) -> list[Transcoder]:
    """Those of the servers that are started."""
    made: list[Transcoder] = []
    begin = Transcoder.__init__

    def noted(self: Transcoder, *arguments: Any, **more: Any) -> None:
        made.append(self)
        begin(self, *arguments, **more)

    monkeypatch.setattr(Transcoder, "__init__", noted)
    return made


@pytest.fixture
async def server(transcoders: list[Transcoder], served: Client) -> Client:
    return served


def _long(path: Path, *, seconds: int) -> Path:
    """Silence that takes no room on the disk: an hour of it is some seconds of work."""
    data = make_audio(path, seconds=0.2).read_bytes()
    start, size = data.index(b"data") + 8, seconds * 48_000 * 4
    head = bytearray(data[:start])
    head[4:8], head[start - 4 :] = (start - 8 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(head)
    os.truncate(path, start + size)
    return path


async def _track(runtime: Runtime, library: Library, path: Path) -> str:
    assert runtime.settings.music_dir is not None
    [track_id] = await add_tracks(
        runtime, track(library, str(path.relative_to(runtime.settings.music_dir)), format="x", duration_seconds=2.0)
    )
    return f"/tracks/{track_id}/stream"


def _seconds(content: bytes, to: Path) -> float:
    to.write_bytes(content)
    with av.open(str(to)) as container:
        return sum(frame.samples for frame in container.decode(audio=0)) / container.streams.audio[0].rate


async def test_it_comes_as_it_is_made_and_is_a_file_from_then_on(
    server: Client, runtime: Runtime, library: Library, root: Path, tmp_path: Path
) -> None:
    song = await _track(runtime, library, make_audio(root / "a/ö.wv", seconds=2.0))
    before = await server.head(song, params={"format": "opus"})
    assert (before.status_code, before.headers["accept-ranges"]) == (200, "none")
    assert not runtime.settings.transcoded_dir.exists()
    first = await server.get(song, params={"format": "opus"}, headers={"Range": "bytes=0-"})
    assert (first.status_code, first.headers["accept-ranges"]) == (200, "none")
    assert first.headers["content-type"] == "audio/ogg; codecs=opus"
    assert first.headers["content-disposition"] == "inline; filename*=utf-8''%C3%B6.opus"
    assert not {"etag", "content-length"} & set(first.headers)
    assert _seconds(first.content, tmp_path / "first") == 2.0
    second = await server.get(song, params={"format": "opus"}, headers={"Range": "bytes=10-19"})
    assert (second.status_code, second.content) == (206, first.content[10:20])
    assert second.headers["content-range"] == f"bytes 10-19/{len(first.content)}"
    tag = {"If-None-Match": second.headers["etag"]}
    assert (await server.get(song, params={"format": "opus"}, headers=tag)).status_code == 304
    first = await server.get(song, params={"format": "mp3"})
    assert abs(_seconds(first.content, tmp_path / "mp3") - 2.0) < 0.05
    # Its header stands at the beginning, and says last how long it is.
    mp3 = await server.get(song, params={"format": "mp3"})
    assert (mp3.headers["content-type"], _seconds(mp3.content, tmp_path / "mp3")) == ("audio/mpeg", 2.0)
    part = await server.get(song, params={"format": "opus", "start": 1.5})
    assert 0.4 < _seconds(part.content, tmp_path / "part") < 0.6
    assert len(os.listdir(runtime.settings.transcoded_dir)) == 2
    # Another sound in its place.
    make_audio(root / "a/ö.wv", seconds=1.0)
    anew = await server.get(song, params={"format": "opus"})
    assert (anew.headers["accept-ranges"], _seconds(anew.content, tmp_path / "anew")) == ("none", 1.0)


async def test_what_cannot_be_decoded_is_told_and_leaves_nothing(
    server: Client, runtime: Runtime, library: Library, root: Path
) -> None:
    (root / "a.ape").write_bytes(b"MAC \x96\x0f" + bytes(5000))
    song = await _track(runtime, library, root / "a.ape")
    answer = await server.get(song, params={"format": "mp3"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith("The sound cannot be read")
    assert os.listdir(runtime.settings.transcoded_dir) == []
    (root / "a.ape").unlink()
    assert (await server.get(song, params={"format": "mp3"})).status_code == 404


@pytest.mark.slow
async def test_two_listeners_share_one_process_and_a_killed_one_costs_them_nothing(
    server: Client,
    transcoders: list[Transcoder],
    runtime: Runtime,
    library: Library,
    root: Path,
    tmp_path: Path,
) -> None:
    song = await _track(runtime, library, _long(root / "long.wav", seconds=600))
    [transcoder] = transcoders
    async with server.stream("GET", song, params={"format": "opus"}) as leaves:
        leaving = leaves.aiter_bytes(1000)
        assert await anext(leaving)
        async with server.stream("GET", song, params={"format": "opus"}, timeout=60) as stays:
            pieces = stays.aiter_bytes(1000)
            content = await anext(pieces)
            [process_id] = transcoder.process_ids
            await leaves.aclose()
            os.kill(process_id, signal.SIGKILL)
            async for piece in pieces:
                content += piece
    assert process_id not in transcoder.process_ids
    assert content == (await server.get(song, params={"format": "opus"})).content
    assert _seconds(content, tmp_path / "whole") == 600.0


@pytest.mark.slow
async def test_so_many_wait_and_no_more_and_what_nobody_hears_gives_way(
    server: Client, transcoders: list[Transcoder], runtime: Runtime, library: Library, root: Path
) -> None:
    long = _long(root / "0.wav", seconds=_HOURS)
    songs = [await _track(runtime, library, long)]
    for number in range(1, AT_ONCE + MOST_WAITING + 1):
        os.link(long, root / f"{number}.wav")
        songs.append(await _track(runtime, library, root / f"{number}.wav"))
    [transcoder] = transcoders

    async def heard(song: str) -> bytes:
        async with server.stream("GET", song, params={"format": "opus"}, timeout=60) as answer:
            return await anext(answer.aiter_bytes(1000))

    async with AsyncExitStack() as stack:
        listening: list[AsyncIterator[bytes]] = []  # which hang up when they are forgotten
        for song in songs[:AT_ONCE]:
            answer = await stack.enter_async_context(server.stream("GET", song, params={"format": "opus"}))
            listening.append(answer.aiter_bytes(1000))
            assert await anext(listening[-1])
        waiting = [asyncio.create_task(heard(song)) for song in songs[AT_ONCE:-1]]

        async def all_wait() -> bool:
            return len(transcoder._open) == AT_ONCE + MOST_WAITING

        await until(all_wait)
        refused = await server.get(songs[-1], params={"format": "opus"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert len(transcoder.process_ids) == AT_ONCE
    # Each in its turn, though none of those before is whole.
    assert all(await asyncio.gather(*waiting))


async def test_a_server_that_stops_ends_its_processes_and_leaves_no_parts(
    transcoders: list[Transcoder], runtime: Runtime, library: Library, root: Path
) -> None:
    song = await _track(runtime, library, _long(root / "long.wav", seconds=_HOURS))
    async with (
        serving(runtime.settings, runtime) as address,
        httpx.AsyncClient(base_url=f"{address}/api/v1", trust_env=False) as client,
    ):
        async with client.stream("GET", song, params={"format": "opus"}) as answer:
            assert await anext(answer.aiter_bytes(1000))
        assert transcoders[0].process_ids != []
    assert transcoders[0].process_ids == []
    assert os.listdir(runtime.settings.transcoded_dir) == []
