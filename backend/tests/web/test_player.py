"""The page's player, with sound that a browser decodes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from audio_files import RATE, empty_mp4, make_audio, write_samples
from cli.mus_commands import Up, mus_up, until
from web.browsing import PHONE, serious_axe_findings

pytestmark = pytest.mark.slow

#: What the page's audio elements tell, and the gains that sound goes through: [event, track id, seconds].
_NOTES = """
window.notes = []; window.gains = [];
for (const type of ["canplay", "playing", "ended"])
  document.addEventListener(type, ({target}) => {
    notes.push([type, Number(target.src.match(/tracks\\/(\\d+)/)?.[1]), target.currentTime]);
  }, true);
const made = BaseAudioContext.prototype.createGain;
BaseAudioContext.prototype.createGain = function () {
  const node = made.call(this);
  gains.push(node);
  return node;
};
"""
_MODULE = """import(document.querySelector("script[src$='main.js']").src.replace("main.js", "player/queue.js"))"""
_PLAY = f"async ([tracks, start]) => (await {_MODULE}).play(tracks, start)"
_SOUNDING = '[...document.querySelectorAll("audio")].find((each) => !each.paused)?.currentTime ?? null'


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    for number in (1, 2, 3):
        tags = {"title": f"Tide {number}", "artist": "Cleo", "album": "Tides", "tracknumber": str(number)}
        make_audio(root / f"Tides/{number}.flac", seconds=2, tags=tags, pitch=number)
    make_audio(root / "Other/long.wav", seconds=60, tags={"title": "Long", "artist": "Dora"})
    make_audio(root / "Other/lossless.alac.m4a", seconds=2, tags={"title": "Lossless", "artist": "Dora"})
    empty_mp4(make_audio(root / "Other/empty.alac.m4a", seconds=2, tags={"title": "Empty", "artist": "Dora"}))
    # So quiet that it would be made ten times as loud, but for one loud sample.
    time = np.arange(2 * RATE) / RATE
    quiet = np.tile(np.sin(time * 2 * np.pi * 440) * 0.02, (2, 1))
    quiet[:, RATE] = 0.9
    write_samples(root / "Other/quiet.wav", quiet)
    return root


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[Up]:
    with mus_up(tmp_path_factory.mktemp("home"), "--music", music) as up:
        up.said("files found")
        yield up


@pytest.fixture(scope="module")
def address(up: Up) -> str:
    return up.address()


@pytest.fixture(scope="module")
def tracks(address: str) -> dict[str, dict[str, Any]]:
    """What the API lists, by title, once the loudness of all is known that have one."""

    def heard() -> dict[str, dict[str, Any]]:
        items = httpx.get(f"{address}/api/v1/tracks").json()["items"]
        details = [httpx.get(f"{address}/api/v1/tracks/{item['id']}").json() for item in items]
        if not all(detail["loudness"] or detail["status"] == "ERROR" for detail in details):
            return {}
        return {detail["title"]: detail for detail in details}

    return until(heard, what="the loudness of all tracks")


@pytest.fixture
def listener(page: Page) -> Page:
    page.add_init_script(_NOTES)
    page.goto("/recent")
    expect(page.locator("main h1")).to_be_visible()
    return page


def play(page: Page, *tracks: dict[str, Any], start: int = 0) -> None:
    page.evaluate(_PLAY, [list(tracks), start])


def sounds(page: Page, *, past: float = 0.0) -> None:
    until(lambda: (page.evaluate(_SOUNDING) or 0.0) > past, what=f"sound past {past} s")


def silent(page: Page) -> None:
    until(lambda: page.evaluate(_SOUNDING) is None, what="silence")


def player(page: Page) -> Locator:
    return page.get_by_role("region", name="Player")


def place(page: Page) -> Locator:
    return page.get_by_role("slider", name="Position")


def titles(page: Page) -> list[str]:
    return page.locator(".queue-row .title").all_inner_texts()


def test_a_track_plays_pauses_and_is_left_for_the_next_and_the_one_before(
    listener: Page, tracks: dict[str, Any]
) -> None:
    play(listener, tracks["Long"], tracks["Tide 1"])
    sounds(listener, past=0.2)
    expect(listener).to_have_title("Long · Dora · mus")
    expect(listener.locator(".announcement")).to_have_text("Playing: Long by Dora")
    outside = "[navigator.mediaSession.metadata.title, navigator.mediaSession.playbackState]"
    assert listener.evaluate(outside) == ["Long", "playing"]
    listener.keyboard.press("Space")
    silent(listener)
    expect(listener).to_have_title("Recently added · mus")
    player(listener).get_by_role("button", name="Play", exact=True).click()
    sounds(listener)
    place(listener).press("PageUp")
    # Going back from there leads to the beginning first.
    listener.keyboard.press("p")
    expect(place(listener)).to_have_attribute("aria-valuetext", "0:00 of 1:00")
    sounds(listener, past=0.1)
    expect(listener).to_have_title("Long · Dora · mus")
    listener.keyboard.press("n")
    expect(listener).to_have_title("Tide 1 · Cleo · mus")
    sounds(listener)
    player(listener).get_by_role("button", name="Previous track").click()
    expect(listener).to_have_title("Long · Dora · mus")
    sounds(listener)


def test_another_place_is_chosen_by_keys_and_by_a_click(listener: Page, tracks: dict[str, Any]) -> None:
    play(listener, tracks["Long"])
    sounds(listener)
    listener.keyboard.press("Space")
    silent(listener)
    slider = place(listener)
    slider.focus()
    for key, text in (
        ("Home", "0:00"),
        ("ArrowRight", "0:05"),
        ("PageUp", "0:35"),
        ("ArrowLeft", "0:30"),
        ("End", "1:00"),
        ("PageDown", "0:30"),
    ):
        slider.press(key)
        expect(slider).to_have_attribute("aria-valuetext", f"{text} of 1:00")
    box = slider.bounding_box()
    assert box is not None
    slider.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"0:1[45] of 1:00"))
    # Its waveform is there, and both parts of it.
    expect(slider.locator("svg")).to_have_count(2)
    listener.keyboard.press("Space")
    sounds(listener, past=14)


def test_one_track_follows_another_without_one_left_out_or_heard_twice(
    listener: Page, tracks: dict[str, Any]
) -> None:
    album = [tracks[f"Tide {number}"] for number in (1, 2, 3)]
    play(listener, *album)
    expect(player(listener).get_by_role("button", name="Play", exact=True)).to_be_visible()
    silent(listener)
    notes = listener.evaluate("notes")
    ids = [track["id"] for track in album]
    assert [track for event, track, _ in notes if event == "ended"] == ids
    assert all(seconds >= 1.99 for event, _, seconds in notes if event == "ended")
    # On a busy machine one may begin in two goes.
    assert [track for track, _ in groupby(track for event, track, _ in notes if event == "playing")] == ids
    # Each was there to be played before the one in front of it was over.
    order = [(event, track) for event, track, _ in notes]
    for before, after in pairwise(ids):
        assert order.index(("canplay", after)) < order.index(("ended", before))


def test_loudness_is_made_even_by_track_or_album_and_never_clips(listener: Page, tracks: dict[str, Any]) -> None:
    def gains() -> list[float]:
        return [round(gain, 3) for gain in listener.evaluate("gains.map((node) => node.gain.value)")]

    def factor(title: str, kind: str) -> float:
        gain: float = tracks[title]["loudness"]["replaygain"][f"{kind}_gain"]
        return round(10 ** (gain / 20), 3)

    def becomes(wanted: float) -> None:
        until(lambda: wanted in gains(), what=f"a gain of {wanted}, not {gains()}")

    assert factor("quiet", "track") > 5
    play(listener, tracks["quiet"], tracks["Tide 1"])
    becomes(round(1 / tracks["quiet"]["loudness"]["replaygain"]["track_peak"], 3))
    listener.keyboard.press("n")
    becomes(factor("Tide 1", "track"))
    assert factor("Tide 1", "track") < 1
    listener.keyboard.press("?")
    dialog = listener.get_by_role("dialog")
    decibels = tracks["Tide 1"]["loudness"]["replaygain"]["track_gain"]
    expect(dialog).to_contain_text(f"This track: −{abs(decibels):.1f} dB")
    assert serious_axe_findings(listener) == []
    dialog.get_by_role("radio", name="Off").check()
    becomes(1.0)
    dialog.get_by_role("radio", name="Automatic").check()
    listener.keyboard.press("Escape")
    # Among its album, it is as loud as the album.
    play(listener, tracks["Tide 1"], tracks["Tide 2"])
    becomes(factor("Tide 1", "album"))
    listener.keyboard.press("?")
    expect(dialog).to_contain_text("as its album")


def test_what_the_browser_cannot_decode_comes_as_opus_and_what_nobody_can_is_said_once(
    listener: Page, tracks: dict[str, Any]
) -> None:
    listener.evaluate(f"async () => {{ (await {_MODULE}).repeat.value = 'all' }}")
    with listener.expect_response(lambda answer: "format=opus" in answer.url) as found:
        play(listener, tracks["Empty"], tracks["Lossless"])
    assert found.value.url.endswith(f"/tracks/{tracks['Empty']['id']}/stream?format=opus")
    expect(listener.get_by_role("alert")).to_contain_text("“Empty” cannot be played")
    lossless = tracks["Lossless"]["id"]
    until(lambda: _count(listener, "ended", lossless) >= 2, what="the good one, twice")
    assert _count(listener, "playing", tracks["Empty"]["id"]) == 0
    expect(listener.get_by_role("alert")).to_have_count(1)
    # A place in what is transcoded.
    play(listener, tracks["Lossless"])
    listener.keyboard.press("Space")
    silent(listener)
    place(listener).press("Home")
    listener.keyboard.press("Space")
    sounds(listener, past=0.5)


def _count(page: Page, event: str, track: int) -> int:
    return sum(note[:2] == [event, track] for note in page.evaluate("notes"))


def test_queue_and_place_are_kept_over_a_reload_that_makes_no_sound(listener: Page, tracks: dict[str, Any]) -> None:
    play(listener, tracks["Tide 1"], tracks["Long"], start=1)
    sounds(listener)
    place(listener).press("PageUp")
    sounds(listener, past=30)
    listener.keyboard.press("m")
    listener.reload()
    expect(place(listener)).to_have_attribute("aria-valuetext", re.compile(r"0:3\d of 1:00"))
    expect(player(listener)).to_contain_text("Long")
    expect(player(listener).get_by_role("button", name="Unmute")).to_be_visible()
    assert listener.evaluate("notes") == []
    silent(listener)
    # Its loudness is told before it is heard.
    listener.keyboard.press("?")
    expect(listener.get_by_role("dialog")).to_contain_text(" dB")
    listener.keyboard.press("Escape")
    player(listener).get_by_role("button", name="Play", exact=True).click()
    sounds(listener, past=30)
    listener.keyboard.press("p")
    listener.keyboard.press("p")
    expect(listener).to_have_title("Tide 1 · Cleo · mus")


def test_the_queue_is_put_in_order_by_keys_and_by_drag(listener: Page, tracks: dict[str, Any]) -> None:
    names = ["Tide 1", "Tide 2", "Tide 3", "Long", "quiet"]
    play(listener, *(tracks[name] for name in names), start=3)
    listener.keyboard.press("Space")
    player(listener).get_by_role("link", name="Queue").click()
    rows = listener.get_by_role("list", name="Tracks of the queue").get_by_role("listitem")
    expect(rows).to_have_count(5)
    expect(rows.nth(3)).to_have_attribute("aria-current", "true")
    assert serious_axe_findings(listener) == []

    listener.get_by_role("button", name="Play Long").focus()
    listener.keyboard.press("ArrowUp")
    expect(listener.get_by_role("button", name="Play Tide 3")).to_be_focused()
    listener.keyboard.press("Alt+ArrowUp")
    expect(listener.locator("main").get_by_role("status")).to_have_text("Tide 3: now 2 of 5")
    assert titles(listener) == ["Tide 1", "Tide 3", "Tide 2", "Long", "quiet"]
    expect(listener.get_by_role("button", name="Move Tide 3")).to_be_focused()
    listener.keyboard.press("ArrowUp")
    assert titles(listener) == ["Tide 3", "Tide 1", "Tide 2", "Long", "quiet"]
    listener.keyboard.press("Delete")
    assert titles(listener) == ["Tide 1", "Tide 2", "Long", "quiet"]
    expect(rows.nth(2)).to_have_attribute("aria-current", "true")
    expect(listener.get_by_role("button", name="Take Tide 1 out of the queue")).to_be_focused()

    listener.get_by_role("button", name="Move quiet").drag_to(listener.get_by_role("button", name="Move Tide 1"))
    assert titles(listener) == ["quiet", "Tide 1", "Tide 2", "Long"]
    listener.get_by_role("button", name="Play Tide 2").press("Enter")
    expect(listener).to_have_title("Tide 2 · Cleo · mus")

    listener.get_by_role("button", name="Clear").click()
    expect(listener.get_by_role("heading", name="Nothing to play yet")).to_be_visible()
    expect(player(listener)).to_have_count(0)
    listener.get_by_role("button", name="Undo").click()
    expect(rows).to_have_count(4)


def test_an_order_by_chance_leads_back_to_the_one_before(listener: Page, tracks: dict[str, Any]) -> None:
    names = ["Tide 1", "Tide 2", "Tide 3", "Long", "quiet"]
    play(listener, *(tracks[name] for name in names), start=3)
    listener.keyboard.press("Space")
    listener.goto("/queue")
    shuffle = player(listener).get_by_role("button", name="Shuffle")
    shuffle.click()
    expect(shuffle).to_have_attribute("aria-pressed", "true")
    expect(listener.locator(".queue-row .title").first).to_have_text("Long")
    assert sorted(titles(listener)) == sorted(names)
    listener.evaluate(f"async (track) => (await {_MODULE}).playNext([track])", tracks["Lossless"])
    shuffle.click()
    expect(shuffle).to_have_attribute("aria-pressed", "false")
    assert titles(listener) == ["Tide 1", "Tide 2", "Tide 3", "Long", "Lossless", "quiet"]


def test_keys_that_are_typed_do_nothing_to_the_music(listener: Page, tracks: dict[str, Any]) -> None:
    listener.goto("/tracks")
    play(listener, tracks["Long"], tracks["Tide 1"])
    sounds(listener)
    search = listener.get_by_role("searchbox")
    search.press_sequentially("n m?")
    expect(listener).to_have_title("Long · Dora · mus")
    expect(listener.get_by_role("dialog")).to_have_count(0)
    sounds(listener)
    expect(player(listener).get_by_role("button", name="Mute", exact=True)).to_be_visible()


def test_one_tab_is_heard_at_a_time(listener: Page, tracks: dict[str, Any]) -> None:
    play(listener, tracks["Long"])
    sounds(listener)
    context: BrowserContext = listener.context
    other = context.new_page()
    other.goto("/recent")
    # It begins with what the other tab has.
    player(other).get_by_role("button", name="Play", exact=True).click()
    sounds(other)
    silent(listener)
    expect(player(listener).get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_music_goes_on_in_its_place_when_the_server_is_back(listener: Page, up: Up, tracks: dict[str, Any]) -> None:
    play(listener, tracks["Long"])
    sounds(listener)
    # Nobody starts it anew before the browser has asked for sound in vain: that is further than it fetched ahead.
    up.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(up.part("serve-and-watch"), signal.SIGKILL)
        for key in ("PageUp", "ArrowRight", "ArrowRight", "ArrowRight"):
            place(listener).press(key)
        status = listener.locator(".announcement")
        expect(status).to_have_text("mus cannot be reached. The music goes on when it is back.")
    finally:
        up.process.send_signal(signal.SIGCONT)
    expect(status).to_have_text("The music goes on")
    sounds(listener, past=45)


def test_a_phone_has_a_small_player_that_opens_and_is_closed_by_the_way_back(
    listener: Page, tracks: dict[str, Any]
) -> None:
    listener.set_viewport_size(PHONE)
    play(listener, tracks["Long"], tracks["Tide 1"])
    sounds(listener)
    expect(place(listener)).to_be_hidden()
    # Wherever it is touched, but for its buttons.
    box = player(listener).locator(".artist").bounding_box()
    assert box is not None
    listener.mouse.click(box["x"] + 5, box["y"] + 5)
    opened = listener.get_by_role("dialog", name="Player")
    expect(opened).to_be_visible()
    assert serious_axe_findings(listener) == []
    assert listener.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.get_by_role("button", name="Next track").click()
    expect(opened).to_contain_text("Tide 1")
    listener.go_back()
    expect(opened).to_have_count(0)
    expect(listener).to_have_url(re.compile("/recent$"))
    player(listener).get_by_role("button", name="Open the player").press("Enter")
    opened.get_by_role("link", name="Queue").click()
    expect(listener).to_have_url(re.compile("/queue$"))
    expect(listener.get_by_role("heading", name="Queue")).to_be_visible()
    listener.go_back()
    expect(listener).to_have_url(re.compile("/recent$"))
    expect(opened).to_have_count(0)
