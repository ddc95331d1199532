"""A real browser at a real mus."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

#: Found on the PATH, or named by this variable.
CHROMIUM_VARIABLE = "MUS_TEST_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    # Music plays without a loudspeaker, and a test's click is none of a person's.
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
]
PHONE = {"width": 390, "height": 800}
WIDE = {"width": 1280, "height": 800}
#: The browser reports each answer with an error status, and a connection that broke, as an error of its own.
_ANSWERS = re.compile(r"Failed to load resource|net::ERR_")


def chromium() -> str | None:
    """The browser's path; None where there is none."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def started_browser() -> Iterator[Browser]:
    # Chromium's sandbox needs a user who is not root.
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Faults:
    """What a page complained of, and what it asked of other servers."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self._origin = origin
        context.on("console", lambda said: said.type == "error" and self._complaint(said.text))
        context.on("weberror", lambda error: self._complaint(str(error.error)))
        context.on("request", lambda request: self._request(request.url))

    def _complaint(self, text: str) -> None:
        if not _ANSWERS.search(text):
            self.errors.append(text)

    def _request(self, url: str) -> None:
        if not url.startswith((self._origin, "data:", "blob:")):
            self.strangers.append(url)


def serious_axe_findings(page: Page) -> list[str]:
    """What axe finds serious or critical on the page as it stands: rule and place."""
    # The page lets no script in, so the rules come through the driver.
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]
