from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select

from api.rows import add_library, add_tracks, titles, track
from mus.api.schemas import Page, TrackItem
from mus.broker.runtime import Runtime
from mus.library.file_reading import FileReading, FileStat
from mus.library.states import TrackState
from mus.persistence import track_ids
from mus.persistence.models import Library, Track
from mus.persistence.stored_readings import store_readings
from mus.persistence.track_filter import SORT_FIELDS, Order, TrackFilter
from mus.persistence.track_list import track_page

Client = httpx.AsyncClient
FIELDS = (
    *("id", "library", "path", "title", "artist", "album_artist", "album", "track_number", "disc_number", "year"),
    *("genre", "duration", "size", "format", "status", "error", "added_at", "updated_at", "has_cover"),
    *("artist_id", "album_id"),
)


async def test_an_item_has_the_fields_of_the_contract(client: Client, runtime: Runtime, library: Library) -> None:
    [track_id] = await add_tracks(
        runtime,
        track(
            library,
            b"Bj\xf6rk/01.mp3",
            title="Jóga",
            artist="Björk",
            album="Homogenic",
            year=1997,
            duration_seconds=305.12345,
            format="mp3",
            cover="ab" * 20,
        ),
    )
    [item] = (await client.get("/tracks")).json()["items"]
    assert tuple(item) == FIELDS
    assert (item["id"], item["library"], item["path"]) == (track_id, "Music", "Bj%F6rk/01.mp3")
    assert (item["duration"], item["has_cover"], item["error"], item["status"]) == (305.123, True, None, "COMPLETE")
    assert item["added_at"].endswith("Z")


async def test_a_single_track_tells_everything(client: Client, runtime: Runtime, library: Library) -> None:
    [track_id] = await add_tracks(
        runtime, track(library, artists=["A", "B"], lyrics="la", replaygain={"track_gain": -3.2}, bitrate_kbps=320)
    )
    found = (await client.get(f"/tracks/{track_id}")).json()
    assert (found["artists"], found["lyrics"], found["bitrate"]) == (["A", "B"], "la", 320)
    assert (found["replaygain"], found["musicbrainz"], found["genres"]) == ({"track_gain": -3.2}, {}, [])


async def test_all_tags_of_several_tracks_come_at_once_in_the_order_asked_for(
    client: Client, runtime: Runtime, library: Library
) -> None:
    ids = await add_tracks(runtime, *(track(library, comment=f"No. {number}") for number in range(3)))
    found = (await client.get("/tracks/tags", params={"id": [ids[2], ids[0], 99_999, ids[2]]})).json()["items"]
    assert [item["comment"] for item in found] == ["No. 2", "No. 0"]
    whole = (await client.get(f"/tracks/{ids[2]}")).json()
    assert found[0].items() <= whole.items()
    assert set(whole) - set(found[0]) == {"loudness", "integrity", "bitrate", "sample_rate", "channels"}


async def test_a_track_that_is_not_there_is_a_problem_of_404(client: Client) -> None:
    answer = await client.get("/tracks/77")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no track 77",
        "instance": "/api/v1/tracks/77",
        "category": "user_fixable",
        "recovery_actions": [],
    }


async def test_the_trash_shows_only_when_asked_for(client: Client, runtime: Runtime, library: Library) -> None:
    await add_tracks(runtime, *(track(library, title=state, status=state) for state in TrackState))
    assert set(await titles(client)) == {"PENDING", "COMPLETE", "ERROR", "MISSING"}
    assert await titles(client, status="TRASHED") == ["TRASHED"]
    assert await titles(client, status="ERROR,TRASHED") == ["ERROR", "TRASHED"]
    assert await titles(client, status=["ERROR", "MISSING"]) == ["ERROR", "MISSING"]
    assert await titles(client, status=["PENDING,COMPLETE"]) == ["COMPLETE", "PENDING"]


async def test_an_error_tells_its_category_and_message(client: Client, runtime: Runtime, library: Library) -> None:
    await add_tracks(
        runtime,
        track(library, status=TrackState.ERROR, error_category="user_fixable", error_message="The file is empty"),
    )
    [item] = (await client.get("/tracks")).json()["items"]
    assert item["error"] == {"category": "user_fixable", "message": "The file is empty"}


async def test_artist_album_and_library_filter_without_case_and_accents(
    client: Client, runtime: Runtime, library: Library, tmp_path: Any
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    await add_tracks(
        runtime,
        track(library, title="a", artist="Björk", album="Début"),
        track(library, title="b", artist="Björk", album="Post"),
        track(library, title="c", artist="Björk Two", album="Debut"),
        track(other, title="d", artist="BJÖRK", album="debut"),
    )
    assert await titles(client, artist="bjork") == ["a", "b", "d"]
    assert await titles(client, artist="BJÖRK", album="debut") == ["a", "d"]
    assert await titles(client, album="DEBUT", library="Other") == ["d"]
    assert await titles(client, library=str(other.id)) == ["d"]
    assert (await client.get("/tracks", params={"library": "Nowhere"})).status_code == 404


async def test_pages_of_every_order_hold_each_track_once(
    client: Client, runtime: Runtime, library: Library
) -> None:
    ids = await add_tracks(
        runtime,
        *(
            track(
                library,
                title=f"T{number % 4}",
                artist=f"A{number % 3}",
                album=f"B{number % 2}",
                year=None if number % 3 == 0 else 1990 + number % 5,
                duration_seconds=None if number % 4 == 0 else number % 5 + 0.1,
                size=number % 3,
                disc_number=None if number % 2 else 1,
                track_number=number % 4 or None,
            )
            for number in range(23)
        ),
    )
    for sort in [f"{sign}{name}" for name in SORT_FIELDS for sign in ("", "-")]:
        whole = (await client.get("/tracks", params={"sort": sort, "limit": 500})).json()
        assert whole["next_cursor"] is None
        expected = [item["id"] for item in whole["items"]]
        assert sorted(expected) == sorted(ids)
        assert await _all_ids(client, sort=sort, limit=4) == expected, sort


async def test_tracks_without_a_year_come_last_in_both_directions(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(runtime, *(track(library, title=str(year), year=year) for year in (None, 2001, 1999)))
    assert await titles(client, sort="year") == ["1999", "2001", "None"]
    assert await titles(client, sort="-year") == ["2001", "1999", "None"]


async def test_the_order_by_track_number_goes_disc_by_disc(
    client: Client, runtime: Runtime, library: Library
) -> None:
    numbers = [(2, 1), (1, 2), (1, 1), (None, 3)]
    await add_tracks(
        runtime, *(track(library, title=f"{disc}-{no}", disc_number=disc, track_number=no) for disc, no in numbers)
    )
    assert await titles(client, sort="track_number") == ["1-1", "1-2", "None-3", "2-1"]


async def test_the_order_by_album_keeps_albums_of_one_title_apart_and_their_tracks_in_order(
    client: Client, runtime: Runtime, library: Library
) -> None:
    hits: dict[str, Any] = {"album": "Greatest Hits", "artist": "Zoë"}
    sampler: dict[str, Any] = {"album": "Sampler", "compilation": True}
    await add_tracks(
        runtime,
        *(track(library, title=f"Z{no}", track_number=no, **hits) for no in (3, 1, 2)),
        track(library, title="A1", album="Greatest hits", album_artist="Abba", artist="Zoë", track_number=1),
        track(library, title="S2", artist="Ann", track_number=2, **sampler),
        track(library, title="S1", artist="Zoë", track_number=1, **sampler),
        track(library, title="on none", artist="Zoë"),
    )
    in_order = ["on none", "A1", "Z1", "Z2", "Z3", "S1", "S2"]
    assert await titles(client, sort="album") == in_order
    assert await titles(client, sort="-album") == in_order[::-1]
    assert await titles(client, sort="artist") == ["S2", "on none", "A1", "Z1", "Z2", "Z3", "S1"]


async def test_rows_that_come_and_go_between_pages_move_no_other_row(
    client: Client, runtime: Runtime, library: Library
) -> None:
    ids = await add_tracks(runtime, *(track(library, title=f"t{number:02}") for number in range(10)))
    first = (await client.get("/tracks", params={"limit": 4})).json()
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(delete(Track).where(Track.id.in_([ids[1], ids[3], ids[6]])))
    await add_tracks(runtime, track(library, title="t005"), track(library, title="t051"))
    rest = await _all_ids(client, limit=2, cursor=first["next_cursor"])
    unchanged = set(ids) - {ids[1], ids[3], ids[6]}
    seen = [item["id"] for item in first["items"]] + rest
    assert len(seen) == len(set(seen))
    assert unchanged <= set(seen)


async def test_a_cursor_is_of_use_with_its_own_order_and_filters_only(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(runtime, *(track(library) for _ in range(3)))
    cursor = (await client.get("/tracks", params={"limit": 1})).json()["next_cursor"]
    for params in ({"sort": "-title"}, {"artist": "x"}, {"status": "ERROR"}):
        answer = await client.get("/tracks", params={"cursor": cursor, **params})
        assert answer.status_code == 400
        assert "another order" in answer.json()["detail"]
    assert (await client.get("/errors", params={"cursor": cursor})).status_code == 400


def _made(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


async def test_a_cursor_that_was_not_made_here_is_refused(client: Client) -> None:
    texts = ["", "x", "!!", "ÿ", "a" * 999, "e30"]
    contents = [
        ["s"],
        ["s", "k", "1"],
        ["s", "\ud800", 1],
        ["s", "k", 2**70],
        ["s", "k", True],
        ["s", 1, 1],
        [[]] * 3,
    ]
    for cursor in [*texts, *map(_made, contents)]:
        answer = await client.get("/tracks", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["detail"]) == (400, "The cursor is not one of ours"), cursor


async def test_a_parameter_that_means_nothing_is_named(client: Client) -> None:
    for name, value, field in [
        ("colour", "red", "colour"),
        ("limit", "0", "limit"),
        ("limit", "501", "limit"),
        ("limit", "ten", "limit"),
        ("sort", "lyrics", "sort"),
        ("status", "GONE", "status"),
        ("status", "ERROR,", "status"),
        ("q", "x" * 501, "q"),
    ]:
        answer = await client.get("/tracks", params={name: value})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        [error] = answer.json()["errors"]
        assert (error["location"], error["field"]) == ("query", field)
        assert field in answer.json()["detail"]


# ---------------------------------------------------------------------------------------------------- search


async def test_words_are_prefixes_that_must_all_match(client: Client, runtime: Runtime, library: Library) -> None:
    joga, thunder, heart, honno = "Jóga", "Thunderstruck", "Heart of Hearts", "本能"
    await add_tracks(
        runtime,
        track(library, title=joga, artist="Björk", album="Homogenic"),
        track(library, title=thunder, artist="AC/DC", genre="Rock", composer="Angus Young"),
        track(library, title=heart, artist="!!!"),
        track(library, title=honno, artist="椎名林檎"),
    )
    for query, found in [
        ("joga", [joga]),
        ("JÓG", [joga]),
        ("bjork homog", [joga]),
        ("homogenic joga bjork", [joga]),
        ("oga", []),
        ("ac/dc", [thunder]),
        ("thunder classical", []),
        ("rock", [thunder]),
        ("young", [thunder]),
        ("hearts & ", [heart]),
        ("!!!", [heart]),
        ("!", [heart]),
        ("!?", []),
        ("林檎", [honno]),
        ("椎名 本", [honno]),
        # Typed as one word, found as one: in one column, next to each other.
        ("dc/ac", []),
        ("rock/young", []),
        ("heart/of", [heart]),
        ("of-hea", [heart]),
        ("heart/hearts", []),
        ("   ", [heart, joga, thunder, honno]),
    ]:
        assert await titles(client, q=query) == found, query


async def test_a_nul_in_a_filter_finds_nothing_and_breaks_nothing(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(runtime, track(library, title="ab", artist="ab", album="ab"))
    for path, name in [("tracks", "artist"), ("tracks", "album"), ("jobs", "task"), ("jobs", "parent")]:
        answer = await client.get(f"/{path}", params={name: "a\0b"})
        assert answer.status_code == 422 or (answer.status_code, answer.json()["items"]) == (200, []), name
    for path in ("/tracks?library=a%00b", "/jobs/a%00b", "/schedules/a%00b", "/queues/a%00b/pause"):
        answer = await client.request("POST" if path.endswith("pause") else "GET", path)
        assert answer.status_code in {404, 422}, path


async def test_nothing_typed_is_query_syntax(client: Client, runtime: Runtime, library: Library) -> None:
    await add_tracks(runtime, track(library, title="zz"))
    signs = ['"', '""', "*", "-", "%", "_", "\\", "(", ")", "+", "^", "\u0301", "🎵"]
    words = [
        "a*",
        "NOT a",
        "a AND",
        "OR",
        "title:a",
        "title:z",
        "NEAR(a b)",
        "^a",
        "{a}",
        "a'b",
        "a\0b",
        "; DROP TABLE x",
    ]
    for query in [*signs, *words]:
        answer = await client.get("/tracks", params={"q": query})
        assert answer.status_code == 200, query
        assert answer.json()["items"] == [], query


async def test_search_follows_changes_and_removals(client: Client, runtime: Runtime, library: Library) -> None:
    [first, second] = await add_tracks(runtime, track(library, title="alpha"), track(library, title="alphabet"))
    async with runtime.database.unit_of_work() as work:
        path = (await work.session.execute(select(Track.path).where(Track.id == first))).scalar_one()
        changed = FileReading(path=path, stat=FileStat(1, 2, 3, 4, 5), title="omega", words="omega")
        assert (await store_readings(work.session, library.id, [changed])).updated == 1
        await work.session.execute(delete(Track).where(Track.id == second))
    assert await titles(client, q="alpha") == []
    assert await titles(client, q="omega") == ["omega"]


async def test_names_are_found_in_every_form_that_people_type(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(
        runtime,
        track(library, title="Æther", artist="Øystein", album="Łódź – Straße"),
        track(library, title="ёлка", artist="Ὀδυσσεύς", album="हिन्दी"),
        track(library, title="Back in Black", artist="AC/DC", album="R.E.M.'s blink‐182"),
        track(library, title="丸ノ内", artist="椎名林檎", artist_sort="Sheena, Ringo", album="Don’t"),
    )
    for query, found in [
        ("aether", "Æther"), ("ÆTHER", "Æther"), ("oystein", "Æther"), ("lodz strasse", "Æther"), ("ŁÓDŹ", "Æther"),
        ("елка", "ёлка"), ("ЁЛКА", "ёлка"), ("οδυσσευς", "ёлка"), ("ΟΔΥΣΣ", "ёлка"), ("हिन्द", "ёлка"),
        ("acdc", "Back in Black"), ("ac/dc", "Back in Black"), ("ac dc", "Back in Black"), ("rem", "Back in Black"),
        ("blink-182", "Back in Black"), ("blink182", "Back in Black"),
        ("ringo", "丸ノ内"), ("sheena", "丸ノ内"), ("林檎", "丸ノ内"), ("don't", "丸ノ内"), ("dont", "丸ノ内"),
    ]:  # fmt: skip
        assert await titles(client, q=query) == [found], query


async def test_articles_do_not_count_in_sorting_and_sort_names_decide(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(
        runtime,
        *(
            track(library, title=name, artist=name, album=name)
            for name in ("The Zebra", "Abba", "The The", "A-ha", "L'Âme", "Theory", "Les Misérables")
        ),
        track(library, title="椎名林檎", title_sort="Sheena", artist="椎名林檎", artist_sort="Sheena Ringo"),
    )
    expected = ["A-ha", "Abba", "L'Âme", "Les Misérables", "椎名林檎", "The The", "Theory", "The Zebra"]
    assert await titles(client, sort="title") == expected
    assert await titles(client, sort="artist") == expected


async def test_a_track_of_several_artists_is_found_by_each_of_them(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(
        runtime,
        track(library, title="Under Pressure", artist="Queen; David Bowie", artists=["Queen", "David Bowie"]),
        track(library, title="Heroes", artist="David Bowie", artists=["David Bowie"], album="The Hits"),
        track(library, title="Dancing Queen", artist="ABBA", album="The Hits II"),
    )
    for filters, found in [
        ({"artist": "david bowie"}, ["Heroes", "Under Pressure"]),
        ({"artist": "QUEEN"}, ["Under Pressure"]),
        ({"artist": "Queen; David Bowie"}, ["Under Pressure"]),
        ({"artist": "David"}, []),
        ({"album": "the hits"}, ["Heroes"]),
        ({"artist": "David Bowie", "album": "The Hits"}, ["Heroes"]),
    ]:
        assert await titles(client, **filters) == found, filters


async def _all_ids(client: Client, **params: Any) -> list[int]:
    found: list[int] = []
    while True:
        answer = await client.get("/tracks", params=params)
        assert answer.status_code == 200, answer.text
        found += [item["id"] for item in answer.json()["items"]]
        params["cursor"] = answer.json()["next_cursor"]
        if params["cursor"] is None:
            return found


async def test_whatever_way_tracks_are_found_the_pages_are_the_same(
    runtime: Runtime, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await add_library(runtime, "Other", tmp_path / "other")
    states = [TrackState.COMPLETE, TrackState.COMPLETE, TrackState.PENDING, TrackState.TRASHED]
    await add_tracks(
        runtime,
        *(
            track(
                other if number % 3 == 0 else library,
                f"{(number * 7) % 40:02}.mp3",
                title=f"{('The ', 'Love', '夜空')[number % 3]} {number % 5}",
                artist=("Björk", "AC/DC")[number % 2],
                year=None if number % 4 == 0 else 1990 + number % 6,
                format=("flac", "mp3")[number % 2],
                genre=("Hip Hop", "HIP HOP", "Hip-Hop")[number % 3],
                duration_seconds=None if number % 7 == 0 else float(number % 9),
                size=(number * 13) % 17,
                disc_number=number % 2 + 1,
                track_number=number % 8,
                status=states[number % 4],
                updated_at=datetime(2026, 1, 1 + number % 11, tzinfo=UTC),
            )
            for number in range(40)
        ),
    )
    asked = [
        TrackFilter(),
        TrackFilter(query="the"),
        TrackFilter(query="空"),
        TrackFilter(query="acdc", library_id=other.id),
        TrackFilter(artist="björk", statuses=(TrackState.COMPLETE,)),
        TrackFilter(library_id=other.id, statuses=(TrackState.COMPLETE, TrackState.PENDING)),
        TrackFilter(format="flac", year_from=1991, year_to=1994),
        TrackFilter(genre="hip hop", year_from=1991),
        TrackFilter(query="love", format="mp3", library_id=library.id),
    ]
    orders = [Order(field, descending=descending) for field in SORT_FIELDS.values() for descending in (False, True)]

    async def listed() -> list[list[int]]:
        lists: list[list[int]] = []
        async with runtime.database.reading() as session:
            for wanted, order in product(asked, orders):
                page = await track_page(session, wanted, order, limit=5)
                ids = [track.id for track in page.tracks]
                while page.next_position is not None:
                    page = await track_page(session, wanted, order, after=page.next_position, limit=5)
                    ids += [track.id for track in page.tracks]
                assert len(ids) == len(set(ids)) == await track_ids.track_count(session, wanted) > 0
                for offset in (1, len(ids) - 1, len(ids)):
                    page = await track_page(session, wanted, order, offset=offset, limit=3)
                    assert [track.id for track in page.tracks] == ids[offset : offset + 3]
                lists.append(ids)
        return lists

    gathered = await listed()
    # As in a large library: few rows are many, so that indexes are walked, and the first of an order tried.
    monkeypatch.setattr(track_ids, "_FEW", 0)
    for looked_at in (8, 1) if runtime.database.is_sqlite else ():
        monkeypatch.setattr(track_ids, "_LOOKED_AT", looked_at)
        assert await listed() == gathered


async def test_a_page_is_what_the_description_says_to_the_letter(
    client: Client, runtime: Runtime, library: Library
) -> None:
    await add_tracks(
        runtime,
        track(library, b"a\xff/\xc3\xa9.mp3", title="É “quoted” \u2028", duration_seconds=1.23456, year=1999),
        track(library, status=TrackState.ERROR, error_message="The file is empty", error_category="user_fixable"),
    )
    answer = await client.get("/tracks", params={"limit": 1})
    assert answer.headers["content-type"] == "application/json"
    for params in ({"limit": 1}, {}):
        text = (await client.get("/tracks", params=params)).text
        assert Page[TrackItem].model_validate_json(text, strict=True).model_dump_json() == text
