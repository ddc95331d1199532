"""Loudness, integrity and waveform over HTTP."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from api.rows import add, add_tracks, titles, track
from mus.broker.runtime import Runtime
from mus.library.loudness import LoudnessBlocks
from mus.library.states import TrackState
from mus.persistence.models import Base, Library, TrackSound, TrackSoundCurves

Client = httpx.AsyncClient
HASH = b"\xab" * 16
ANALYSED = {"audio_hash": HASH, "analysis_version": 2}


def blocks(lufs: float, count: int = 100) -> bytes:
    counted = LoudnessBlocks()
    for _ in range(count):
        counted.add(lufs)
    return counted.as_bytes()


def sound(track_id: int, lufs: float | None = -20.005, **values: Any) -> list[Base]:
    """As listening leaves it, of a track that plays at one loudness."""
    made = {
        "audio_hash": HASH,
        "loudness_version": 1,
        "integrated_lufs": lufs,
        "true_peak": 0.5,
        "integrity_version": 1,
        "integrity": "sound",
        "integrity_notes": [],
        "waveform_version": 1,
    }
    curves = {
        "loudness_blocks": LoudnessBlocks().as_bytes() if lufs is None else blocks(lufs),
        "waveform": bytes([129, 127, 0, 64]),
    }
    return [TrackSound(track_id=track_id, **made | values), TrackSoundCurves(track_id=track_id, **curves)]


async def test_what_was_heard_is_shown_beside_what_the_tags_say(
    client: Client, runtime: Runtime, library: Library
) -> None:
    row = track(library, replaygain={"track_gain": -3.0}, **ANALYSED)
    [heard, unheard] = await add_tracks(runtime, row, track(library, **ANALYSED))
    await add(runtime, *sound(heard, integrity="damaged", integrity_notes=["One piece"]))

    answer = (await client.get(f"/tracks/{heard}")).json()
    assert answer["replaygain"] == {"track_gain": -3.0}
    assert answer["loudness"] == {
        "integrated_lufs": pytest.approx(-20.0, abs=0.01),
        "true_peak_dbtp": -6.02,
        "replaygain": {
            "track_gain": pytest.approx(2.0, abs=0.01),
            "track_peak": 0.5,
            "album_gain": None,
            "album_peak": None,
        },
    }
    assert answer["integrity"] == {"state": "damaged", "notes": ["One piece"]}
    answer = (await client.get(f"/tracks/{unheard}")).json()
    assert (answer["loudness"], answer["integrity"]) == (None, None)


async def test_silence_has_a_peak_and_no_gain(client: Client, runtime: Runtime, library: Library) -> None:
    [silent] = await add_tracks(runtime, track(library, album="Nothing", **ANALYSED))
    await add(runtime, *sound(silent, None, true_peak=0.0))

    loudness = (await client.get(f"/tracks/{silent}")).json()["loudness"]
    assert (loudness["integrated_lufs"], loudness["true_peak_dbtp"]) == (None, None)
    assert loudness["replaygain"] == {"track_gain": None, "track_peak": 0.0, "album_gain": None, "album_peak": 0.0}


async def gains(client: Client, *track_ids: int) -> list[float | None]:
    answers = [(await client.get(f"/tracks/{track_id}")).json() for track_id in track_ids]
    return [answer["loudness"]["replaygain"]["album_gain"] for answer in answers]


async def test_an_albums_gain_is_of_its_tracks_together(client: Client, runtime: Runtime, library: Library) -> None:
    def song(path: str, **values: Any) -> Any:
        return track(library, path, **{"album": "Post", "album_artist": "Björk", **ANALYSED, **values})

    ids = await add_tracks(
        runtime,
        song("Post/CD 1/1.flac"),
        song("Post/CD 2/1.flac"),
        song("Post/Disc 3/gone.flac", status=TrackState.MISSING),
        song("Post (live)/1.flac"),
        song("Post/1.flac", album_artist="Other"),
        song("a/1.flac", musicbrainz={"release": "r-1"}),
        song("b/1.flac", musicbrainz={"release": "r-1"}, album_artist=None),
        song("Post/2.flac", musicbrainz={"release": "r-2"}),
    )
    for track_id, lufs in zip(
        ids, (-20.005, -16.005, -1.005, -10.005, -9.005, -8.005, -8.005, -7.005), strict=True
    ):
        await add(runtime, *sound(track_id, lufs, true_peak=-lufs / 100))

    together = -18 - 10 * math.log10((10**-2.0 + 10**-1.6) / 2)
    wanted = [together, together, -8.0, -9.0, -10.0, -10.0, -11.0]
    found = await gains(client, *ids[:2], *ids[3:])
    assert found == [pytest.approx(gain, abs=0.02) for gain in wanted]
    peak = (await client.get(f"/tracks/{ids[1]}")).json()["loudness"]["replaygain"]["album_peak"]
    assert peak == pytest.approx(0.20005)


async def test_an_albums_gain_waits_for_all_that_can_be_played(
    client: Client, runtime: Runtime, library: Library
) -> None:
    album = {"album": "Post", "album_artist": "Björk", **ANALYSED}
    one, broken, pending = await add_tracks(
        runtime,
        track(library, **album),
        track(library, **album, status=TrackState.ERROR),
        track(library, **{**album, "status": TrackState.PENDING, "analysis_version": 0}),
    )
    # The pending one's file changed: what is there may be of another sound.
    await add(runtime, *sound(one), *sound(broken), *sound(pending))
    assert await gains(client, one) == [None]
    assert (await client.get(f"/tracks/{pending}")).json()["loudness"] is None

    async with runtime.database.unit_of_work() as work:
        await work.session.delete(await work.session.get_one(type(track(library)), pending))
    assert await gains(client, one) == [pytest.approx(2.0, abs=0.01)]


async def test_damaged_files_are_listed(client: Client, runtime: Runtime, library: Library) -> None:
    names = ["whole", "damaged", "unchecked", "other sound", "unheard"]
    ids = await add_tracks(runtime, *(track(library, title=name, **ANALYSED) for name in names))
    states = ["sound", "damaged", "unchecked", "damaged"]
    for id_, state in zip(ids, states, strict=False):
        await add(runtime, *sound(id_, integrity=state))
    async with runtime.database.unit_of_work() as work:
        (await work.session.get_one(TrackSound, ids[3])).audio_hash = b"another"

    assert await titles(client, integrity="damaged") == ["damaged"]
    assert await titles(client, integrity=["damaged,unchecked", "sound"]) == ["damaged", "unchecked", "whole"]
    assert await titles(client) == sorted(names)
    assert (await client.get("/tracks", params={"integrity": "broken"})).status_code == 422


async def test_the_waveform_is_numbers_that_a_player_takes_as_they_are(
    client: Client, runtime: Runtime, library: Library
) -> None:
    heard, unheard = await add_tracks(
        runtime, *(track(library, duration_seconds=61.5, **ANALYSED) for _ in range(2))
    )
    await add(runtime, *sound(heard))

    answer = await client.get(f"/tracks/{heard}/waveform")
    assert answer.status_code == 200
    assert answer.json() == {"duration": 61.5, "pieces": 2, "peaks": [-1.0, 1.0, 0.0, 0.504]}
    assert answer.headers["cache-control"] == "private, no-cache"
    etag = answer.headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        again = await client.get(f"/tracks/{heard}/waveform", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await client.get(f"/tracks/{heard}/waveform", headers={"If-None-Match": '"x"'})).status_code == 200

    assert (await client.get(f"/tracks/{unheard}/waveform")).status_code == 404
    assert (await client.get("/tracks/99999/waveform")).status_code == 404
    async with runtime.database.unit_of_work() as work:
        (await work.session.get_one(TrackSound, heard)).audio_hash = b"another"
    assert (await client.get(f"/tracks/{heard}/waveform")).status_code == 404
