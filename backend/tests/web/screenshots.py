"""Pictures of the page for the README: `make screenshots`.

Everything in them is made up and made here: names, sounds, covers.
"""

from __future__ import annotations

import colorsys
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyvips
from playwright.sync_api import Browser, Page

from audio_files import make_audio
from cli.mus_commands import mus_up, until
from web.browsing import PHONE, WIDE, chromium, started_browser

ARTISTS = (
    "Northern Lamps", "Ada Ferrow", "The Slow Harbour", "Milk & Meridian", "Orchard Radio", "Paper Comets",
    "Ines Valmont", "Quiet Machinery", "Salt Choir", "Tamsin Reed Trio",
)  # fmt: skip
FIRST = ("Glass", "Low", "Amber", "Distant", "Tidal", "Winter", "Paper", "Second", "Hollow", "Open")
SECOND = ("Gardens", "Signals", "Rooms", "Weather", "Letters", "Lights", "Coast", "Hours", "Maps", "Birds")
GENRES = ("Folk", "Ambient", "Jazz", "Electronic", "Indie", "Classical")
ALBUMS, TRACKS = 28, 7


def picture(draw: random.Random) -> bytes:
    """A cover: a few soft shapes on a gradient."""
    hue = draw.random()

    def colour(turn: float, light: float) -> str:
        red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, light, 0.5)
        return f"rgb({red * 255:.0f},{green * 255:.0f},{blue * 255:.0f})"

    shapes = "".join(
        f'<circle cx="{draw.randrange(600)}" cy="{draw.randrange(600)}" r="{draw.randrange(60, 260)}" '
        f'fill="{colour(draw.choice((0.08, 0.5, 0.92)), draw.uniform(0.3, 0.75))}" opacity="0.55"/>'
        for _ in range(draw.randrange(3, 7))
    )
    bars = "".join(
        f'<rect x="{60 + 20 * place}" y="{520 - height}" width="9" height="{height}" rx="4" fill="#fffc"/>'
        for place, height in enumerate(draw.randrange(10, 90) for _ in range(24))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="600"><defs>'
        f'<linearGradient id="g" x2="1" y2="1"><stop stop-color="{colour(0, 0.25)}"/>'
        f'<stop offset="1" stop-color="{colour(0.12, 0.5)}"/></linearGradient></defs>'
        f'<rect width="600" height="600" fill="url(#g)"/>{shapes}{bars}</svg>'
    )
    return bytes(pyvips.Image.svgload_buffer(svg.encode()).flatten().jpegsave_buffer(Q=85))


def make_music(root: Path) -> None:
    draw = random.Random(4)
    for number in range(ALBUMS):
        artist = ARTISTS[number % len(ARTISTS)]
        album = f"{FIRST[number % 10]} {SECOND[(number * 7 + number // 10) % 10]}"
        cover = picture(draw)
        for track in range(1, TRACKS + 1):
            make_audio(
                root / artist / album / f"{track:02}.mp3",
                seconds=draw.choice((97, 131, 178)),
                tags={
                    "title": f"{draw.choice(FIRST)} {draw.choice(SECOND)}",
                    "artist": artist,
                    "albumartist": artist,
                    "album": album,
                    "tracknumber": str(track),
                    "date": str(1998 + (number * 5) % 27),
                    "genre": GENRES[number % len(GENRES)],
                },
                picture=cover,
            )


def take(browser: Browser, address: str, folder: Path) -> None:
    for scheme in ("light", "dark"):
        with opened(browser, address, scheme, WIDE) as page:
            page.goto("/")
            shoot(page, folder / f"albums-{scheme}.webp")
            page.goto("/albums?q=amber")
            page.locator("main a[href^='/albums/']").first.click()
            page.get_by_role("button", name="Play", exact=True).first.click()
            shoot(page, folder / f"album-{scheme}.webp")
            page.goto("/tracks")
            shoot(page, folder / f"tracks-{scheme}.webp")
            page.goto("/jobs")
            shoot(page, folder / f"jobs-{scheme}.webp")
    with opened(browser, address, "dark", PHONE) as page:
        page.goto("/")
        shoot(page, folder / "phone.webp")


@contextmanager
def opened(browser: Browser, address: str, scheme: str, size: dict[str, int]) -> Iterator[Page]:
    context = browser.new_context(base_url=address, color_scheme=scheme, viewport=size, device_scale_factor=1.5)
    yield context.new_page()
    context.close()


def shoot(page: Page, path: Path) -> None:
    # The page lets no text become script, so it is asked from here.
    until(lambda: page.evaluate("[...document.images].every((image) => image.complete)"), what="the pictures")
    page.wait_for_timeout(700)
    picture = pyvips.Image.pngload_buffer(page.screenshot())
    picture.webpsave(str(path), Q=80, effort=6)


def main(folder: Path) -> None:
    if chromium() is None:
        sys.exit("No Chromium: `apt install chromium` as root, or name one in MUS_TEST_CHROMIUM")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        make_music(Path(home) / "Music")
        with mus_up(Path(home), "--music", Path(home) / "Music") as up, started_browser() as browser:
            up.said("files found")
            with httpx.Client(base_url=f"{up.address()}/api/v1", trust_env=False) as client:
                # With their covers, and something still to do for the picture of the jobs.
                until(lambda: not client.get("/tracks?status=PENDING&limit=1").json()["items"], what="the covers")
            take(browser, up.address(), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
