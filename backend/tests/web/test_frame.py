"""The frame around every view."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from mus.api.web_page import VIEWS
from web.browsing import PHONE, serious_axe_findings

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_view(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
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
