"""A browser for each module, and for each test a page that must not complain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from audio_files import write_library
from cli.mus_commands import mus_up
from web.browsing import CHROMIUM_VARIABLE, WIDE, Faults, chromium, started_browser

#: A scan of a few files on a busy machine.
expect.set_options(timeout=15_000)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module's tests go to one worker: each that had some of them started a browser and a mus of its own."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


# Its driver's event loop runs in this thread while it lives: no test with a loop of its own may come between.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip(f"no Chromium: `apt install chromium` as root, or name one in {CHROMIUM_VARIABLE}")
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The music of this module's mus: two albums with covers of one artist, and one track of another."""
    root = tmp_path_factory.mktemp("music")
    for album, year in (("Harbour", 1999), ("Lighthouse", 2004)):
        write_library(
            root,
            {
                f"Anna Adler/{album}/{number:02}.mp3": {
                    "title": [f"{album} {number}"],
                    "artist": ["Anna Adler"],
                    "album": [album],
                    "tracknumber": [str(number)],
                    "date": [str(year)],
                    "genre": ["Folk"],
                }
                for number in (1, 2, 3)
            },
        )
    write_library(root, {"Bert/single.flac": {"title": ["A <b>bold</b> one"], "artist": ["Bert & Co"]}})
    return root


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[str]:
    """A `mus up` of this module's tests, once its first scan is over."""
    home = tmp_path_factory.mktemp("home")
    with mus_up(home, "--music", music) as up:
        address = up.address()
        up.said("files found")
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A new page that knows where mus is; what it reports as an error, or asks of others, fails the test."""
    context = browser.new_context(base_url=address, viewport=WIDE)
    faults = Faults(context, address)
    page = context.new_page()
    try:
        yield page
    finally:
        context.close()
    assert faults.errors == []
    assert faults.strangers == []
