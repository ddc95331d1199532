from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import update

from api.rows import add_library, add_tracks, calling, track
from mus.broker.runtime import Runtime
from mus.library.states import TrackState
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.models import Library, Track
from waiting import until

Client = httpx.AsyncClient


async def _items(client: Client, address: str, **params: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await client.get(address, params=params)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        params["cursor"] = answer.json()["next_cursor"]
        if params["cursor"] is None:
            return found


async def _titles(client: Client, **params: Any) -> list[str]:
    return [item["title"] for item in await _items(client, "/albums", **params)]


async def test_an_album_is_what_has_one_title_and_one_artist_in_one_library(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    debut = {"album": "Début", "album_artist": "Björk", "artist": "Björk"}
    ids = await add_tracks(
        runtime,
        track(library, title="b", disc_number=2, track_number=1, **debut, duration_seconds=2.5, year=1993),
        track(library, title="a", disc_number=1, track_number=9, **debut, duration_seconds=1.25, cover="ab"),
        track(library, title="c", disc_number=2, track_number=2, **debut | {"album": "DEBUT", "artist": "Guest"}),
        track(library, title="gone", **debut, status=TrackState.TRASHED, year=2020),
        track(library, title="lost", **debut, status=TrackState.MISSING, disc_number=3, year=1994),
        track(other, title="elsewhere", **debut),
        track(library, title="d", album="Début", artist="Somebody"),
        track(library, title="e", album="Hits", artist="Björk", compilation=True),
        track(library, title="f", album="Hits", artist="Somebody", compilation=True),
        track(library, title="single", artist="Björk"),
    )
    albums = {
        (item["title"], item["album_artist"], item["library"]): item for item in await _items(client, "/albums")
    }
    assert set(albums) == {
        ("Début", "Björk", "Music"),
        ("Début", "Björk", "Other"),
        ("Début", "Somebody", "Music"),
        ("Hits", "Various Artists", "Music"),
    }
    album = albums["Début", "Björk", "Music"]
    assert (album["tracks"], album["duration"], album["year"], album["cover_track_id"]) == (4, 3.75, 1994, ids[1])
    assert albums["Hits", "Various Artists", "Music"]["tracks"] == 2

    whole = (await client.get(f"/albums/{album['id']}")).json()
    assert {name: whole[name] for name in album} == album
    assert [item["title"] for item in whole["items"]] == ["a", "b", "c", "lost"]
    assert await _items(client, f"/albums/{album['id']}", limit=1) == whole["items"]


async def test_albums_come_in_each_order_whole_and_page_by_page(
    client: Client, runtime: Runtime, library: Library
) -> None:
    for title, artist, year in (
        ("The Wall", "Pink Floyd", 1979),
        ("Animals", "Pink Floyd", 1977),
        ("Abbey Road", "The Beatles", 1969),
        ("Yesterday", "Unknown", None),
        ("Kid A", "Radiohead", 2000),
        ("Amnesiac", None, None),
    ):
        await add_tracks(runtime, track(library, album=title, artist=artist, year=year))
    added = ["The Wall", "Animals", "Abbey Road", "Yesterday", "Kid A", "Amnesiac"]
    by_title = ["Abbey Road", "Amnesiac", "Animals", "Kid A", "The Wall", "Yesterday"]
    by_artist = ["Amnesiac", "Abbey Road", "Animals", "The Wall", "Kid A", "Yesterday"]
    by_year = ["Abbey Road", "Animals", "The Wall", "Kid A"]
    for sort, expected in {
        "title": by_title,
        "-title": by_title[::-1],
        "album_artist": by_artist,
        "-album_artist": by_artist[::-1],
        "added_at": added,
        "-added_at": added[::-1],
    }.items():
        assert await _titles(client, sort=sort) == await _titles(client, sort=sort, limit=1) == expected, sort
    for sort, expected in {"year": by_year, "-year": by_year[::-1]}.items():
        found = await _titles(client, sort=sort, limit=2)
        assert found[:4] == expected, sort
        assert set(found[4:]) == {"Yesterday", "Amnesiac"}, sort


async def test_albums_are_found_by_words_and_by_what_their_tracks_are(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    await add_tracks(
        runtime,
        track(library, album="Homogenic", artist="Björk", genre="Trip Hop", year=1997, format="flac"),
        track(library, album="Homogenic", artist="Björk", genres=["Pop", "Trip Hop"], year=1998, format="mp3"),
        track(library, album="Back in Black", artist="AC/DC", genre="Rock", year=1980, format="mp3"),
        track(other, album="夜空", artist="!!!", genre="rock", year=1980, format="mp3"),
    )
    [bjork] = [item["id"] for item in await _items(client, "/artists", q="bjork")]
    homogenic, black, sky = "Homogenic", "Back in Black", "夜空"
    for params, found in (
        ({"q": "bjork homo"}, [homogenic]),
        ({"q": "acdc"}, [black]),
        ({"q": "lack"}, []),
        ({"q": "空"}, [sky]),
        ({"q": "!!"}, [sky]),
        ({"genre": "trip hop"}, [homogenic]),
        ({"genre": "ROCK"}, [black, sky]),
        ({"genre": "Hop"}, []),
        ({"genre": "rock", "library": "Music"}, [black]),
        ({"year": 1997}, [homogenic]),
        ({"year": 1980, "format": "mp3"}, [black, sky]),
        ({"format": "flac"}, [homogenic]),
        ({"format": "mp", "q": "b"}, []),
        ({"artist": bjork}, [homogenic]),
        ({"artist": "nobody"}, []),
    ):
        assert await _titles(client, **params) == found, params


async def test_artists_are_all_names_of_tracks_by_their_sort_names(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    await add_tracks(
        runtime,
        track(library, album="Abbey Road", artist="The Beatles"),
        track(other, album="Help!", artist="THE BEATLES", cover="ab"),
        track(library, album="Duets", album_artist="Tony", artist="Tony; Amy", artists=["Tony", "Amy"], year=2011),
        track(library, album="Duets II", album_artist="Tony", artist="Tony", year=2014),
        track(library, artist="Amy"),
        track(library, album="Trash", artist="Nobody", status=TrackState.TRASHED),
    )
    artists = await _items(client, "/artists")
    assert [(item["name"], item["albums"], item["tracks"]) for item in artists] == [
        ("Amy", 1, 2),
        ("THE BEATLES", 2, 2),
        ("Tony", 2, 2),
    ]
    assert await _items(client, "/artists", limit=1) == artists
    assert await _items(client, "/artists", sort="-name", limit=2) == artists[::-1]
    assert [item["albums"] for item in await _items(client, "/artists", q="beat", library="Music")] == [1]
    tony = (await client.get(f"/artists/{artists[2]['id']}", params={"limit": 1})).json()
    assert {name: tony[name] for name in artists[2]} == artists[2]
    assert [item["title"] for item in await _items(client, f"/artists/{artists[2]['id']}", limit=1)] == [
        "Duets II",
        "Duets",
    ]


async def test_any_part_of_a_list_is_had_by_offset_with_the_length_of_the_whole(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(runtime, *(track(library, album=f"Album {n}", artist=f"Artist {n}") for n in range(5)))
    await add_tracks(runtime, track(library, album="Other", artist="Somebody"))
    for address, key in (("/albums", "title"), ("/artists", "name")):
        whole = [item[key] for item in await _items(client, address)]
        for offset in (0, 2, 5, 6):
            page = (await client.get(address, params={"offset": offset, "limit": 2})).json()
            assert [item[key] for item in page["items"]] == whole[offset : offset + 2], (address, offset)
            assert page["total"] == 6
        found = (await client.get(address, params={"q": "artist", "limit": 1})).json()
        assert (len(found["items"]), found["total"]) == (1, 5)
        rest = (await client.get(address, params={"offset": 2, "limit": 2})).json()["next_cursor"]
        assert [item[key] for item in await _items(client, address, cursor=rest)] == whole[4:]


async def test_tracks_and_albums_name_what_they_lead_to(client: Client, runtime: Runtime, library: Library) -> None:
    await add_tracks(
        runtime,
        track(library, title="own", artist="Björk", album="Debut"),
        track(
            library, title="guest", artist="Tony; Amy", artists=["Tony", "Amy"], album_artist="Tony", album="Duets"
        ),
        track(library, title="mixed", artist="Björk", album="Hits", compilation=True),
        track(library, title="alone"),
    )
    for item in await _items(client, "/tracks"):
        if item["title"] == "alone":
            assert (item["artist_id"], item["album_id"]) == (None, None)
            continue
        artist = (await client.get(f"/artists/{item['artist_id']}")).json()
        album = (await client.get(f"/albums/{item['album_id']}")).json()
        assert artist["name"] == item["artist"].split("; ")[0]
        assert (album["title"], [track["id"] for track in album["items"]]) == (item["album"], [item["id"]])
        by = (await client.get(f"/artists/{album['artist_id']}")).json()
        assert by["name"] == album["album_artist"]


async def test_filters_are_told_what_there_is_to_choose(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    await add_tracks(
        runtime,
        track(library, genre="Rock", format="mp3", year=1999),
        track(library, genre="rock", format="mp3", year=2001),
        track(library, genres=["Jazz", "Rock"], format="flac", status=TrackState.MISSING),
        track(library, genre="Pop", format="ogg", year=1950, status=TrackState.TRASHED),
        track(other, genre="Jazz", format="mp3", year=1999),
    )
    assert (await client.get("/facets")).json() == {
        "genres": [{"name": "Rock", "tracks": 3}, {"name": "Jazz", "tracks": 2}],
        "formats": [{"name": "mp3", "tracks": 3}, {"name": "flac", "tracks": 1}],
        "years": [{"year": 2001, "tracks": 1}, {"year": 1999, "tracks": 2}],
        "statuses": [{"status": "COMPLETE", "tracks": 3}, {"status": "MISSING", "tracks": 1}],
    }
    genres = (await client.get("/genres", params={"library": "Other"})).json()
    assert genres == {"items": [{"name": "Jazz", "tracks": 1}]}
    for name, value, tracks in (("genre", "rock", 3), ("format", "mp3", 3), ("year", 1999, 2)):
        assert (await client.get("/tracks/count", params={name: value})).json() == {"total": tracks}, name


async def test_what_writers_of_tracks_change_is_shown_a_moment_later(
    client: Client, runtime: Runtime, library: Library
) -> None:
    [track_id] = await add_tracks(runtime, track(library, album="Before", artist="A"))
    assert await _titles(client) == ["Before"]
    for values, expected in (
        ({"album": "After"}, ["After"]),
        ({"status": TrackState.TRASHED}, []),
        ({"status": TrackState.COMPLETE}, ["After"]),
    ):
        async with runtime.database.unit_of_work() as work:
            await hold_tracks(work.session, library.id)
            await work.session.execute(update(Track).where(Track.id == track_id).values(**values))

        async def shows(expected: list[str] = expected) -> bool:
            return await _titles(client) == expected

        await until(shows)
        # Whoever was not asked yet says so at once.
        async with calling(runtime) as another:
            assert await _titles(another) == expected
