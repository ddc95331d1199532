"""Over a real HTTP server: ranges, HEAD and content lengths are the server's business too."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from api.rows import add_tracks, track
from mus.api.file_response import CHUNK_BYTES, UnsatisfiableRangeError, wanted_range
from mus.broker.runtime import Runtime
from mus.library.states import TrackState
from mus.persistence.models import Library

Client = httpx.AsyncClient
CONTENT = os.urandom(3 * CHUNK_BYTES + 17)


@pytest.fixture
def root(runtime: Runtime) -> Path:
    assert runtime.settings.music_dir is not None
    return runtime.settings.music_dir


@pytest.fixture
async def song(runtime: Runtime, library: Library, root: Path) -> str:
    """The address of a track's file with CONTENT."""
    (root / "Ä").mkdir()
    (root / "Ä/ö 1.mp3").write_bytes(CONTENT)
    [track_id] = await add_tracks(runtime, track(library, "Ä/ö 1.mp3", format="mp3"))
    return f"/tracks/{track_id}/stream"


async def test_the_whole_file_comes_with_its_type_and_name(served: Client, song: str) -> None:
    answer = await served.get(song)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "inline; filename*=utf-8''%C3%B6%201.mp3"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_a_range_is_answered_with_just_these_bytes(served: Client, song: str) -> None:
    size = len(CONTENT)
    for header, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, size - 1),
        (f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES}", CHUNK_BYTES - 1, CHUNK_BYTES),
        ("bytes=100-99999999", 100, size - 1),
        ("bytes=-17", size - 17, size - 1),
        ("bytes=-99999999", 0, size - 1),
        ("BYTES= 5 - 6", 5, 6),
    ]:
        answer = await served.get(song, headers={"Range": header})
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["content-length"] == str(last - first + 1)
        assert answer.content == CONTENT[first : last + 1]


async def test_a_range_past_the_end_is_416(served: Client, song: str) -> None:
    for header in (f"bytes={len(CONTENT)}-", "bytes=-0"):
        answer = await served.get(song, headers={"Range": header})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_range_that_means_nothing_is_ignored(served: Client, song: str) -> None:
    for header in ("bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "1-2"):
        answer = await served.get(song, headers={"Range": header})
        assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


async def test_head_tells_the_size_and_sends_nothing(served: Client, song: str) -> None:
    answer = await served.head(song)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(CONTENT))
    answer = await served.head(song, headers={"Range": "bytes=1-4"})
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (206, "4", b"")


async def test_a_range_of_an_older_version_brings_the_whole_file(served: Client, song: str) -> None:
    now = await served.head(song)
    for tag in (now.headers["etag"], now.headers["last-modified"]):
        answer = await served.get(song, headers={"Range": "bytes=0-3", "If-Range": tag})
        assert answer.status_code == 206
    answer = await served.get(song, headers={"Range": "bytes=0-3", "If-Range": '"older"'})
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_file_the_listener_has_is_not_sent_again(served: Client, song: str) -> None:
    now = await served.head(song)
    for header in (
        {"If-None-Match": now.headers["etag"]},
        {"If-None-Match": f'"x", W/{now.headers["etag"]}'},
        {"If-Modified-Since": now.headers["last-modified"]},
    ):
        answer = await served.get(song, headers=header)
        assert (answer.status_code, answer.content) == (304, b"")
    assert (await served.get(song, headers={"If-None-Match": '"x"'})).status_code == 200


async def test_many_listeners_who_leave_early_hold_nothing(served: Client, song: str, root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (root / "Ä/ö 1.mp3").write_bytes(CONTENT * 40)
    for _ in range(8):
        async with served.stream("GET", song) as answer:
            assert answer.status_code == 200
    # The next whole answer comes through the same four database connections.
    assert (await served.get("/tracks")).status_code == 200
    assert len(os.listdir("/proc/self/fd")) < before + 30


async def test_an_empty_file_is_an_empty_answer(
    served: Client, runtime: Runtime, library: Library, root: Path
) -> None:
    (root / "empty.flac").touch()
    [track_id] = await add_tracks(runtime, track(library, "empty.flac"))
    answer = await served.get(f"/tracks/{track_id}/stream")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "audio/flac")
    answer = await served.get(f"/tracks/{track_id}/stream", headers={"Range": "bytes=0-"})
    assert answer.status_code == 416


async def test_a_link_out_of_the_library_is_not_followed(
    client: Client, runtime: Runtime, library: Library, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"secret")
    (root / "link.mp3").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    (root / "real.mp3").write_bytes(b"music")
    (root / "inner.mp3").symlink_to("real.mp3")
    ids = await add_tracks(
        runtime,
        *(track(library, path) for path in ("link.mp3", "folder/secret.mp3", "../secret.mp3", "inner.mp3")),
    )
    answers = [await client.get(f"/tracks/{track_id}/stream") for track_id in ids]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 200]
    assert answers[3].content == b"music"


async def test_only_a_track_with_a_file_can_be_played(client: Client, runtime: Runtime, library: Library) -> None:
    ids = await add_tracks(
        runtime,
        track(library, status=TrackState.MISSING),
        track(library, status=TrackState.TRASHED),
        track(library, "vanished.mp3"),
    )
    answers = [await client.get(f"/tracks/{track_id}/stream") for track_id in ids]
    assert [answer.status_code for answer in answers] == [409, 409, 404]
    assert answers[2].json()["detail"] == "The file is gone"


async def test_the_type_goes_by_the_sound_then_by_the_name(
    client: Client, runtime: Runtime, library: Library, root: Path
) -> None:
    expected = {
        ("a.m4a", "aac"): "audio/mp4",
        ("a.aac", "aac"): "audio/aac",
        ("a.m4b", "alac"): "audio/mp4",
        ("a.flac", "flac"): "audio/flac",
        ("a.oga", "flac"): "audio/ogg",
        ("a.opus", "opus"): "audio/ogg",
        ("a.WAV", None): "audio/wav",
        ("wrong.mp3", "vorbis"): "audio/ogg",
        ("a.wv", "wavpack"): "audio/x-wavpack",
    }
    for (name, sound), media_type in expected.items():
        (root / name).touch()
        [track_id] = await add_tracks(runtime, track(library, name, format=sound))
        answer = await client.head(f"/tracks/{track_id}/stream")
        assert answer.headers["content-type"] == media_type


def test_a_range_header_is_read_as_the_rfc_says() -> None:
    assert wanted_range("bytes=0-499", 1000) == (0, 499)
    assert wanted_range("bytes=-500", 1000) == (500, 999)
    assert wanted_range("bytes=9500-", 10_000) == (9500, 9999)
    assert wanted_range("bytes=0-0,-1", 1000) is None
    assert wanted_range("bytes=" + "9" * 40 + "-", 1000) is None
    with pytest.raises(UnsatisfiableRangeError):
        wanted_range("bytes=1000-", 1000)
    with pytest.raises(UnsatisfiableRangeError):
        wanted_range("bytes=0-", 0)


# ---------------------------------------------------------------------------------------------------- covers


async def test_a_cover_comes_in_the_nearest_size(client: Client, runtime: Runtime, library: Library) -> None:
    cover = "ab12" * 10
    folder = runtime.settings.thumbnails_dir / cover[:2]
    folder.mkdir(parents=True)
    for size in (300, 1000):
        (folder / f"{cover}_{size}.webp").write_bytes(str(size).encode())
    [track_id] = await add_tracks(runtime, track(library, cover=cover))
    for size, content in [(None, b"300"), (1, b"300"), (649, b"300"), (651, b"1000"), (9999, b"1000")]:
        answer = await client.get(f"/tracks/{track_id}/cover", params={} if size is None else {"size": size})
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == "image/webp"
    again = await client.get(f"/tracks/{track_id}/cover", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 200  # another size, another picture
    again = await client.get(
        f"/tracks/{track_id}/cover", params={"size": 1000}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304


async def test_a_track_without_a_cover_is_404(client: Client, runtime: Runtime, library: Library) -> None:
    ids = await add_tracks(runtime, track(library), track(library, cover="cd" * 20))
    for track_id in ids:
        assert (await client.get(f"/tracks/{track_id}/cover")).status_code == 404
    assert (await client.get(f"/tracks/{ids[0]}/cover", params={"size": 0})).status_code == 422
