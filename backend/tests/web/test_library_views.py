"""The music as the page shows it: albums, artists, tracks, search."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from playwright.sync_api import TimeoutError as PageTimeoutError

from api.rows import track
from audio_files import make_audio, write_library
from cli.mus_commands import Up, mus_up, until
from mus.config import load_settings
from mus.library.states import TrackState
from mus.persistence.database import Database
from mus.persistence.models import Library
from web.browsing import PHONE, WIDE, Faults, serious_axe_findings

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=alert(1)>"
#: Rows of a library whose folder is away, so that no scan touches them.
FAR_TRACKS, FAR_ALBUMS = 3_000, 300
FAULTS: dict[int, dict[str, Any]] = {
    7: {"status": TrackState.MISSING},
    8: {"status": TrackState.ERROR, "error_category": "user_fixable", "error_message": "No sound in it"},
}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    for album, year, discs in (("Harbour", 1999, (1, 2)), ("Lighthouse", 2004, (1,))):
        for disc in discs:
            for number in (1, 2, 3):
                # Long enough that what is played is still playing when it is looked at.
                make_audio(
                    root / f"Anna Adler/{album}/{disc}{number:02}.mp3",
                    seconds=30,
                    tags={
                        "title": [f"{album} {disc}{number}"],
                        "artist": ["Anna Adler"],
                        "album": [album],
                        "tracknumber": [str(number)],
                        "discnumber": [str(disc)],
                        "date": [str(year)],
                        "genre": ["Folk"],
                    },
                )
    # Discs that nobody numbered, and a name that fills the page.
    for disc in ("CD 1", "CD 2", "CD 10"):
        for number in (1, 2):
            about = {"title": [f"{disc} track {number}"], "artist": ["Carla"], "album": ["Endless " * 60]}
            write_library(root, {f"Carla/{disc}/{number}.flac": {**about, "tracknumber": [str(number)]}})
    tags = {"title": [f"{MARKUP} song"], "artist": [f"{MARKUP} artist"], "album": [f"{MARKUP} album"]}
    write_library(root, {"odd/odd.flac": tags})
    return root


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[str]:
    """A mus with the music, and with a large library that is offline."""
    home = tmp_path_factory.mktemp("home")
    with ThreadPoolExecutor(1) as beside:  # Playwright's own loop runs in this thread
        beside.submit(asyncio.run, _add_far_library(home / "mus", music)).result()
    with mus_up(home, "--music", music, "--data", home / "mus") as up:
        address = up.address()
        up.said("files found")
        yield address


async def _add_far_library(data: Path, music: Path) -> None:
    data.mkdir()
    database = Database(load_settings(data_dir=data).sqlalchemy_url)
    await database.migrate()
    async with database.unit_of_work() as work:
        far = Library(name="Far", root=bytes(data / "away"))
        # The first library is the one of --music.
        work.session.add(Library(name="Music", root=bytes(music)))
        await work.session.flush()
        work.session.add(far)
        await work.session.flush()
        work.session.add_all(
            track(
                far,
                title=f"Far {number:04}",
                artist=f"Someone {number // 100}",
                album=f"Away {number // (FAR_TRACKS // FAR_ALBUMS):03}",
                year=1960 + number % 50,
                format="ogg" if number % 2 else "flac",
                **FAULTS.get(number, {}),
            )
            for number in range(FAR_TRACKS)
        )
    await database.close()


def api(address: str, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{address}/api/v1{path}", params=query, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def row(page: Page, title: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(title, exact=True))


# ---------------------------------------------------------------------------------------------------- first run


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[tuple[Up, Path]]:
    music = tmp_path / "music"
    music.mkdir()
    (music / "notes.txt").write_text("no music yet")
    with mus_up(tmp_path, "--music", music) as up:
        up.said("no music found")
        yield up, music


def test_an_empty_library_says_what_to_do_and_shows_a_scan_and_its_albums_without_a_reload(
    browser: Browser, empty: tuple[Up, Path]
) -> None:
    up, music = empty
    context = browser.new_context(base_url=up.address(), viewport=WIDE)
    faults = Faults(context, up.address())
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_role("heading", name="Welcome to mus")).to_be_visible()
    expect(page.get_by_text(str(music))).to_be_visible()
    expect(page.get_by_role("link", name="Upload").last).to_have_attribute("href", "/upload")
    assert serious_axe_findings(page) == []
    # A scan that cannot go on: what it shows stays.
    queues = f"{up.address()}/api/v1/queues/medium_priority"
    assert httpx.post(f"{queues}/pause", trust_env=False).status_code < 300
    httpx.patch(f"{up.address()}/api/v1/libraries/1", json={"watch": "off"}, trust_env=False)
    until(lambda: api(up.address(), "/libraries/1")["watch_mode"] == "off", what="the end of watching")
    tags = {"artist": ["New Band"], "album": ["First Light"]}
    write_library(music, {f"{n}.mp3": {"title": [f"Dawn {n}"], **tags} for n in range(5)})
    page.get_by_role("button", name="Scan now").click()
    scanning = page.get_by_role("main").get_by_role("progressbar")
    expect(scanning).to_be_visible()
    expect(page.get_by_text("Scanning: 5 files found, 0 read")).to_be_visible()
    assert httpx.post(f"{queues}/resume", trust_env=False).status_code < 300
    expect(page.get_by_role("link", name="First Light")).to_be_visible()
    expect(page.get_by_role("heading", name="Welcome to mus")).to_have_count(0)
    page.get_by_role("button", name="Play First Light").focus()
    context.close()
    assert (faults.errors, faults.strangers) == ([], [])


# ------------------------------------------------------------------------------------------------------- search


def test_search_shows_artists_albums_and_tracks_as_one_types_and_drops_late_answers(page: Page) -> None:
    held: list[Route] = []
    page.route(re.compile(r"/api/v1/albums\?q=harbour&"), lambda route: held.append(route))
    page.goto("/artists")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("anna")
    page.wait_for_url("**/artists?q=anna")
    expect(page.get_by_role("main").get_by_role("link")).to_have_count(1)
    # The way back leads to the whole list.
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.get_by_role("main").get_by_role("link", name="Anna Adler")).to_have_count(1)
    page.goto("/jobs")
    page.get_by_role("searchbox").focus()
    with page.expect_request(re.compile(r"/albums\?q=harbour&")):
        page.keyboard.type("harbour")
    page.wait_for_url("**/search?q=harbour")
    expect(page.get_by_role("region", name="Tracks").get_by_role("listitem")).to_have_count(6)
    page.keyboard.press("Control+a")
    page.keyboard.type("light")
    main = page.get_by_role("main")
    expect(main.get_by_role("region", name="Albums").get_by_role("listitem")).to_have_count(1)
    expect(main.get_by_role("link", name="Lighthouse").first).to_be_visible()
    for route in held:
        route.abort()
    assert held
    expect(main.get_by_role("heading", level=1)).to_have_text("Results for “light”")
    expect(main.get_by_role("link", name="Harbour")).to_have_count(0)
    assert serious_axe_findings(page) == []
    page.keyboard.type("x")
    expect(page.get_by_text("Nothing found for “lightx”")).to_be_visible()
    page.go_back()
    page.wait_for_url("**/jobs")


# ------------------------------------------------------------------------------------------------------- tracks


def test_filters_and_order_are_in_the_address_over_reload_and_back(page: Page) -> None:
    page.goto("/tracks")
    total = page.get_by_role("main").locator("h1 .total")
    expect(total).to_have_text("3,016 tracks")
    page.get_by_label("Format").select_option("ogg")
    expect(total).to_have_text("1,500 tracks")
    page.get_by_label("From year").select_option("2000")
    expect(total).to_have_text("300 tracks")
    page.get_by_role("columnheader", name="Year").get_by_role("button").click()
    page.wait_for_url("**/tracks?format=ogg&year_from=2000&sort=-year")
    page.reload()
    expect(total).to_have_text("300 tracks")
    expect(page.get_by_role("columnheader", name="Year")).to_have_attribute("aria-sort", "descending")
    expect(page.get_by_label("Format")).to_have_value("ogg")
    expect(page.get_by_role("row").nth(1)).to_contain_text("2009")
    page.go_back()
    page.go_back()
    page.wait_for_url("**/tracks?format=ogg")
    expect(total).to_have_text("1,500 tracks")
    expect(page.get_by_label("From year")).to_have_value("")
    page.get_by_role("button", name="Clear the filters").click()
    expect(total).to_have_text("3,016 tracks")
    page.get_by_label("Status").select_option("MISSING")
    expect(total).to_have_text("1 track")
    expect(row(page, "Far 0007").get_by_text("Missing")).to_be_visible()
    page.get_by_label("Status").select_option("ERROR")
    expect(row(page, "Far 0008").get_by_title("No sound in it")).to_have_text("Faulty")
    page.goto("/tracks?q=nowhere")
    expect(page.get_by_text("No such tracks")).to_be_visible()


def test_a_long_list_is_anywhere_at_once_and_holds_few_rows(page: Page) -> None:
    page.goto("/tracks?library=Far")
    expect(row(page, "Far 0000")).to_be_visible()
    page.locator("main").evaluate("main => { main.scrollTop = main.scrollHeight / 2; }")
    expect(row(page, "Far 1500")).to_be_visible()
    grid = page.get_by_role("grid")
    expect(grid).to_have_attribute("aria-rowcount", f"{FAR_TRACKS + 1}")
    grid.focus()
    page.keyboard.press("End")
    expect(row(page, "Far 2999")).to_be_in_viewport()
    expect(row(page, "Far 2999")).to_have_attribute("aria-rowindex", f"{FAR_TRACKS + 1}")
    assert page.get_by_role("row").count() < 100
    # Who comes back is where he was.
    row(page, "Far 2999").get_by_role("link", name="Away 299").click()
    expect(page.get_by_role("heading", name="Away 299")).to_be_visible()
    # What is opened from far down begins at its beginning, and a reload keeps the place.
    page.go_back()
    expect(row(page, "Far 2999")).to_be_in_viewport()
    page.reload()
    expect(row(page, "Far 2999")).to_be_in_viewport()
    page.go_forward()
    expect(page.get_by_role("heading", name="Away 299")).to_be_in_viewport()


def test_rows_that_could_not_be_answered_are_said_and_asked_for_again(page: Page) -> None:
    def refuse(route: Route) -> None:
        if "offset=2900" in route.request.url:
            route.fulfill(status=503, json={"detail": "The disk rests"})
        else:
            route.continue_()

    page.route("**/api/v1/tracks?*", refuse)
    page.goto("/tracks?library=Far")
    expect(row(page, "Far 0000")).to_be_visible()
    page.get_by_role("grid").focus()
    page.keyboard.press("End")
    fault = page.get_by_role("alert")
    expect(fault).to_contain_text("The disk rests")
    with page.expect_request(lambda request: "offset=2900" in request.url):
        fault.get_by_role("button", name="Try again").click()
    expect(fault).to_contain_text("The disk rests")
    page.unroute("**/api/v1/tracks?*")

    def is_answered() -> bool:
        # News of other tracks may have it ask by itself before the click.
        with suppress(PageTimeoutError):
            fault.get_by_role("button", name="Try again").click(timeout=1000)
        return row(page, "Far 2999").is_visible()

    until(is_answered, what="the rows")
    expect(row(page, "Far 2999")).to_be_in_viewport()
    expect(fault).to_have_count(0)


def test_covers_of_a_long_list_are_anywhere_at_once(page: Page) -> None:
    page.goto("/albums?library=Far")
    last = page.get_by_role("link", name="Away 299", exact=True)
    expect(page.get_by_role("link", name="Away 000", exact=True)).to_be_visible()
    page.locator("main").evaluate("main => { main.scrollTop = main.scrollHeight; }")
    expect(last).to_be_in_viewport()
    last.click()
    expect(page.get_by_role("heading", name="Away 299")).to_be_visible()
    page.go_back()
    expect(last).to_be_in_viewport()


def test_the_table_is_used_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/tracks?library=Far")
    expect(row(page, "Far 0000")).to_be_visible()
    page.get_by_role("grid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(row(page, "Far 0001")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    chosen = page.get_by_role("toolbar", name="With those that are chosen")
    expect(chosen).to_contain_text("3 chosen")
    assert serious_axe_findings(page) == []
    page.keyboard.press("Control+a")
    expect(chosen).to_contain_text("1,000 chosen")
    page.keyboard.press("Escape")
    expect(chosen).to_have_count(0)
    page.keyboard.press("PageDown")
    page.keyboard.press("Home")
    page.keyboard.press("ContextMenu")
    expect(page.get_by_role("menu")).to_be_visible()
    expect(page.get_by_role("menuitem", name="Play next")).to_be_focused()
    assert serious_axe_findings(page) == []
    page.get_by_role("menuitem", name="Details").press("Enter")
    page.wait_for_url("**/tracks/*?library=Far")
    expect(page.get_by_role("dialog", name="Details of the track")).to_contain_text("Far 0000")
    page.keyboard.press("Escape")
    page.wait_for_url("**/tracks?library=Far")
    expect(row(page, "Far 0000")).to_be_in_viewport()
    # A question that was walked away from is answered with no.
    page.get_by_role("grid").press("Delete")
    question = page.get_by_role("dialog", name="Move the file to the trash?")
    expect(question).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("dialog", name="Details of the track")).to_be_visible()
    expect(question).to_have_count(0)


def test_a_click_chooses_and_a_double_click_plays_from_there(page: Page) -> None:
    # Short as they are, they would be over before one looks.
    page.route("**/stream*", lambda route: None)
    page.goto("/tracks?q=harbour&sort=track_number")
    row(page, "Harbour 12").locator(".title").first.click()
    row(page, "Harbour 21").locator(".title").first.click(modifiers=["Shift"])
    row(page, "Harbour 23").locator(".title").first.click(modifiers=["Control"])
    expect(page.get_by_role("toolbar")).to_contain_text("4 chosen")
    row(page, "Harbour 13").locator(".title").first.dblclick()
    expect(row(page, "Harbour 13")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Harbour", exact=True).first.click()
    playing = page.get_by_role("listitem").filter(has=page.get_by_role("button", name="Play Harbour 13"))
    expect(playing).to_have_attribute("aria-current", "true")


# ---------------------------------------------------------------------------------- albums, artists, details


def test_an_album_opens_by_its_address_with_its_discs_and_leads_to_its_artist(page: Page, address: str) -> None:
    (album,) = api(address, "/albums", q="harbour")["items"]
    page.goto(f"/albums/{album['id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Harbour")
    for disc in ("Disc 1", "Disc 2"):
        expect(page.get_by_role("list", name=disc).get_by_role("listitem")).to_have_count(3)
    assert serious_axe_findings(page) == []
    page.get_by_role("article").get_by_role("link", name="Anna Adler").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Anna Adler")
    expect(page.get_by_role("link", name="Lighthouse")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Harbour")
    # Gone while one looked elsewhere: what is kept of it is no longer shown.
    page.go_forward()
    page.route(f"**/api/v1/albums/{album['id']}*", lambda route: route.fulfill(status=404, json={}))
    page.go_back()
    expect(page.get_by_text("This album is not here")).to_be_visible()


def test_an_albums_tracks_are_all_there_by_disc_or_folder_and_an_artist_is_heard_in_that_order(
    page: Page, address: str
) -> None:
    def in_small_pages(route: Route) -> None:
        route.continue_(url=route.request.url.replace("limit=500", "limit=4"))

    page.route(re.compile("limit=500"), in_small_pages)
    page.route("**/stream*", lambda route: None)
    (album,) = api(address, "/albums", q="endless")["items"]
    page.goto(f"/albums/{album['id']}")
    titles = [f"{disc} track {number}" for disc in ("CD 1", "CD 2", "CD 10") for number in (1, 2)]
    expect(page.get_by_role("article").get_by_role("heading", level=2)).to_have_text(["CD 1", "CD 2", "CD 10"])
    expect(page.get_by_role("article").locator(".track-line .title")).to_have_text(titles)
    expect(page.get_by_role("article").get_by_role("button", name="Shuffle")).to_be_in_viewport()
    assert page.locator("main").evaluate("main => main.scrollWidth <= main.clientWidth")
    page.goto(f"/artists/{album['artist_id']}")
    page.get_by_role("article").get_by_role("button", name="Play", exact=True).click()
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_role("list", name="Queue").locator(".start .title")).to_have_text(titles)


def test_markup_in_tags_is_text_everywhere(page: Page, address: str) -> None:
    (song,) = api(address, "/tracks", q="onerror song")["items"]
    for view in (
        "/recent",
        "/search?q=onerror",
        "/tracks?q=onerror",
        f"/tracks/{song['id']}",
        f"/albums/{song['album_id']}",
        f"/artists/{song['artist_id']}",
    ):
        page.goto(view)
        expect(page.get_by_text(MARKUP).first).to_be_visible()
        assert page.locator("img[src=x]").count() == 0, view


def test_a_track_shows_what_is_known_and_takes_an_edit_back(page: Page, address: str) -> None:
    (song,) = api(address, "/tracks", q="lighthouse 12")["items"]
    page.goto(f"/tracks/{song['id']}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Anna Adler/Lighthouse/102.mp3")
    expect(dialog.get_by_role("img", name="Waveform")).to_be_visible()
    expect(dialog).to_contain_text("LUFS")
    edit = httpx.patch(f"{address}/api/v1/tracks/{song['id']}", json={"composer": "Carla"}, trust_env=False)
    assert edit.status_code == 202
    expect(dialog.get_by_role("heading", name="Changes")).to_be_visible()
    expect(dialog.locator("dd", has_text=re.compile("^Carla$"))).to_be_visible()
    assert serious_axe_findings(page) == []
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog.get_by_text("Taken back")).to_be_visible()
    expect(dialog.locator("dd", has_text=re.compile("^Carla$"))).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.wait_for_url("**/tracks")


def test_a_phone_plays_by_a_tap_and_shows_no_more_than_fits(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto("/tracks?q=harbour")
    row(page, "Harbour 12").locator(".title").first.tap()
    expect(row(page, "Harbour 12")).to_have_attribute("aria-current", "true")
    row(page, "Harbour 21").locator(".pick").tap()
    row(page, "Harbour 22").locator(".title").first.tap()
    expect(page.get_by_role("toolbar")).to_contain_text("2 chosen")
    for view in ("/", "/artists", "/search?q=a", "/tracks"):
        page.goto(view)
        expect(page.get_by_role("main").locator(".title").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    context.close()
