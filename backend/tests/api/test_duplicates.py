"""`GET /duplicates`: what is there more than once."""

from __future__ import annotations

from typing import Any

import httpx

from api.rows import add, add_library, add_tracks, track
from mus.broker.runtime import Runtime
from mus.library.states import TrackState
from mus.persistence.models import Library, TrackSound

Client = httpx.AsyncClient


async def groups(client: Client, **params: Any) -> list[list[int]]:
    """Ids in all groups, page by page."""
    found: list[list[int]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get("/duplicates", params=params | cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [[each["id"] for each in group["tracks"]] for group in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_tracks_of_one_sound_are_listed_together(client: Client, runtime: Runtime, library: Library) -> None:
    analysed = {"analysis_version": 2}
    one, two, three = b"1" * 16, b"2" * 16, b"3" * 16
    ids = await add_tracks(
        runtime,
        track(library, audio_hash=two, **analysed),
        track(library, audio_hash=one, **analysed),
        track(library, audio_hash=two, **analysed),
        track(library, audio_hash=one, title="Else", **analysed),
        track(library, audio_hash=three, **analysed),
        # Gone, of another version, or in the trash: no copies of anything.
        track(library, audio_hash=three, status=TrackState.MISSING, **analysed),
        track(library, audio_hash=three),
        track(library, audio_hash=three, status=TrackState.TRASHED, **analysed),
    )
    expected = [[ids[1], ids[3]], [ids[0], ids[2]]]
    assert await groups(client) == expected
    assert await groups(client, limit=1) == expected


async def test_tracks_of_the_same_tags_and_length_are_listed_unless_they_are_of_one_sound(
    client: Client, runtime: Runtime, library: Library
) -> None:
    song = {"artist": "Björk", "album": "Post", "analysis_version": 2}
    ids = await add_tracks(
        runtime,
        track(library, title="Hyperballad", duration_seconds=321.0, audio_hash=b"1" * 16, **song),
        track(library, title="HYPERBALLAD", duration_seconds=321.7, audio_hash=b"2" * 16, **song),
        track(library, title="Hyperballad", duration_seconds=401.0, audio_hash=b"3" * 16, **song),
        track(library, title="Army of Me", duration_seconds=234.0, audio_hash=b"4" * 16, **song),
        track(library, title="Army of Me", duration_seconds=234.0, audio_hash=b"4" * 16, **song),
        track(library, title="Track 01", duration_seconds=60.0),
        track(library, title="Track 01", duration_seconds=60.0),
        track(library, title="Isobel", duration_seconds=347.0, **song),
        track(library, title="Isobel", duration_seconds=347.0, **song),
    )
    expected = [[ids[0], ids[1]], [ids[7], ids[8]]]
    assert await groups(client, kind="tags") == expected
    assert await groups(client, kind="tags", limit=1) == expected


async def test_copies_in_other_libraries_count_unless_one_library_is_asked_for(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    analysed = {"analysis_version": 2, "audio_hash": b"1" * 16}
    ids = await add_tracks(runtime, track(library, **analysed), track(other, **analysed))
    assert await groups(client) == [ids]
    assert await groups(client, library="Other") == []


async def test_a_cursor_of_another_list_is_refused(client: Client, runtime: Runtime, library: Library) -> None:
    analysed = {"analysis_version": 2}
    hashes = [b"1" * 16] * 2 + [b"2" * 16] * 2
    await add_tracks(runtime, *(track(library, audio_hash=each, **analysed) for each in hashes))
    cursor = (await client.get("/duplicates", params={"limit": 1})).json()["next_cursor"]
    for params in ({"kind": "tags", "cursor": cursor}, {"cursor": "nonsense"}):
        answer = await client.get("/duplicates", params=params)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_each_copy_tells_what_decides_which_to_keep(
    client: Client, runtime: Runtime, library: Library
) -> None:
    form = {"audio_hash": b"1" * 16, "analysis_version": 2, "sample_rate_hz": 44_100, "channels": 2}
    ids = await add_tracks(
        runtime, track(library, bitrate_kbps=320, **form), track(library, bitrate_kbps=128, size=500, **form)
    )
    await add(
        runtime,
        TrackSound(track_id=ids[0], audio_hash=b"1" * 16, integrity="sound"),
        # Of another sound that the track had once.
        TrackSound(track_id=ids[1], audio_hash=b"2" * 16, integrity="damaged"),
    )
    [group] = (await client.get("/duplicates")).json()["items"]
    told = ("bitrate", "size", "sample_rate", "channels", "integrity")
    assert [[each[name] for name in told] for each in group["tracks"]] == [
        [320, 1000, 44_100, 2, "sound"],
        [128, 500, 44_100, 2, None],
    ]
