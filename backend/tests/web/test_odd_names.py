"""Tags that were written to do harm, or by a machine: shown as text, in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from audio_files import write_library
from cli.mus_commands import until
from web.browsing import PHONE

pytestmark = pytest.mark.slow
MARKUP = "<img src=x onerror='window.harmed=1'><script>window.harmed=2</script>"
LONG = "T" * 5_000
#: What follows this sign is written backwards.
TURNED = "\u202egnihton"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    names = {"markup": MARKUP, "long": LONG, "turned": TURNED}
    tags = {name: {tag: [text] for tag in ("title", "artist", "album", "genre")} for name, text in names.items()}
    return write_library(root, {f"{name}/1.flac": tags[name] for name in names})


@pytest.fixture
def api(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{address}/api/v1", trust_env=False) as client:
        yield client


def test_odd_tags_stay_text_and_leave_everything_in_sight_at_any_width(page: Page, api: httpx.Client) -> None:
    markup, long = (api.get("/tracks", params={"q": word}).json()["items"][0] for word in ("harmed", "T" * 200))
    views = [f"/{view}{track['id']}" for track in (markup, long) for view in ("tracks/", "edit?track=")]
    for path in ("/tracks", f"/albums/{markup['album_id']}", f"/albums/{long['album_id']}", *views):
        page.goto(path)
        expect(page.locator("main h1").first).to_be_visible()
        expect(page.locator(".skeleton, .skeleton-grid")).to_have_count(0)
        for width in (320, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            beyond = page.locator("main").evaluate("(main) => main.scrollWidth - main.clientWidth")
            assert beyond <= 0, (path, width)
        assert page.evaluate("window.harmed") is None


def test_a_name_from_right_to_left_turns_nothing_beside_it(page: Page) -> None:
    page.goto("/tracks?q=gnihton")
    page.get_by_role("grid").focus()
    page.keyboard.press("Delete")
    # The isolate around it ends the turn before the quotation mark, and so before the rest of the sentence.
    expect(page.get_by_role("dialog")).to_contain_text(f"\u201c\u2068{TURNED}\u2069\u201d can be restored")


def test_the_keys_keep_their_place_when_a_row_goes(page: Page, api: httpx.Client) -> None:
    for track in api.get("/tracks").json()["items"]:
        api.delete(f"/tracks/{track['id']}")
    until(lambda: len(api.get("/trash").json()["items"]) == 3, what="the trash")
    page.set_viewport_size(PHONE)
    page.goto("/trash")
    restore = page.get_by_role("button", name="Restore ")
    expect(restore).to_have_count(3)
    second = restore.nth(1).get_attribute("aria-label")
    restore.first.focus()
    page.keyboard.press("Enter")
    expect(restore).to_have_count(2)
    assert second is not None
    expect(page.get_by_role("button", name=second)).to_be_focused()
    for left in (1, 0):
        page.keyboard.press("Enter")
        expect(restore).to_have_count(left)
    # Nothing is left to stand at: the view itself.
    expect(page.get_by_role("heading", name="The trash is empty")).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()
