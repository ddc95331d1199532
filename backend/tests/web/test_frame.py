"""The frame around every view."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from mus.api.web_page import VIEWS
from web.browsing import PHONE, WIDE, serious_axe_findings

pytestmark = pytest.mark.slow


def test_every_view_opens_by_its_address_and_back_leads_to_the_one_before(page: Page) -> None:
    page.goto("/")
    for view in ("artists", "jobs", "trash"):
        page.get_by_role("navigation", name="Main").get_by_role("link", name=view.title()).click()
        page.wait_for_url(f"**/{view}")
        expect(page).to_have_title(f"{view.title()} · mus")
    page.go_back()
    page.wait_for_url("**/jobs")
    expect(page).to_have_title("Jobs · mus")
    page.go_forward()
    page.wait_for_url("**/trash")
    for view in VIEWS:
        page.goto(f"/{view}")
        expect(page.locator("main h1, main h2").first).to_be_visible()
        expect(page.get_by_text("This view has a fault")).to_have_count(0)


def test_an_address_that_was_cut_off_is_not_found_and_leads_on(page: Page) -> None:
    page.goto("/albums/%E0%A4%A")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="To the albums").click()
    expect(page.get_by_role("heading", name="Albums", level=1)).to_be_visible()


def test_the_frame_is_there_before_any_script(page: Page) -> None:
    page.route("**/*.js", lambda route: route.abort())
    page.goto("/")
    expect(page.get_by_text("mus", exact=True)).to_be_visible()


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)])
def test_axe_finds_nothing_serious_in_any_view(page: Page, scheme: str, size: dict[str, int]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    for view in VIEWS:
        page.goto(f"/{view}")
        expect(page.locator("main h1, main h2").first).to_be_visible()
        assert serious_axe_findings(page) == [], view


def test_the_page_is_used_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_attached()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_a_phone_has_the_same_views_in_a_bar_below(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.goto("/")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    page.get_by_role("link", name="More").click()
    page.get_by_role("link", name="Duplicates").click()
    page.wait_for_url("**/duplicates")
    for view in VIEWS:
        page.goto(f"/{view}")
        expect(page.locator("main h1, main h2").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
