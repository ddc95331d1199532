"""Where a token is set, the page asks for it once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cli.mus_commands import mus_up
from web.browsing import serious_axe_findings

pytestmark = pytest.mark.slow
TOKEN = "correct horse battery staple"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[str]:
    with mus_up(tmp_path_factory.mktemp("home"), "--music", music, api_token=TOKEN) as up:
        up.said("files found")
        yield up.address()


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_nothing_is_shown_before_the_token_and_everything_after_it(page: Page) -> None:
    page.goto("/albums?sort=year")
    expect(page.get_by_label("Token")).to_be_focused()
    assert serious_axe_findings(page) == []
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("This is not the token.")
    sign_in(page, TOKEN)
    # Where one wanted to go, with what needs the cookie: lists, pictures, the stream of events.
    expect(page.get_by_role("link", name="Harbour").first).to_be_visible()
    assert page.url.endswith("/albums?sort=year")
    expect(page.get_by_role("link", name="Nothing to do").or_(page.get_by_text("jobs run")).first).to_be_visible()
    assert TOKEN not in page.evaluate("document.cookie + JSON.stringify(localStorage)")
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.get_by_role("link", name="Harbour").first).to_be_visible()


def test_who_signs_out_sees_nothing_more(page: Page) -> None:
    page.goto("/settings")
    sign_in(page, TOKEN)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/tracks")
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_session_that_ended_leads_to_the_door_and_back(page: Page) -> None:
    page.goto("/jobs")
    sign_in(page, TOKEN)
    expect(page.get_by_role("button", name="Scan now")).to_be_visible()
    page.context.clear_cookies()
    page.get_by_role("button", name="Scan now").click()
    sign_in(page, TOKEN)
    expect(page.get_by_role("button", name="Scan now")).to_be_visible()
