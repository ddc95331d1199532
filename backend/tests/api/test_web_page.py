"""The page as the server sends it; what a browser makes of it is tested in tests/web."""

from __future__ import annotations

import gzip
import re

import httpx
import pytest

from mus.api.web_page import HERE, VIEWS, WebPage

Client = httpx.AsyncClient
#: Of all scripts together, compressed.
MOST_SCRIPT_BYTES = 150_000


@pytest.fixture
def database_kind() -> str:
    """The page is the same on every database."""
    return "sqlite"


def test_the_server_knows_the_views_that_the_page_routes_to() -> None:
    routes = set(re.findall(r'^  "/(\w+)', (HERE / "routes.js").read_text(), re.MULTILINE))
    assert routes == set(VIEWS)


def test_the_scripts_are_light() -> None:
    scripts = [file for name, file in WebPage.read().files.items() if name.endswith((".js", ".mjs"))]
    assert 0 < sum(len(file.compressed or b"") for file in scripts) <= MOST_SCRIPT_BYTES


def test_comments_stay_here_and_every_line_of_a_script_where_it_was() -> None:
    files = WebPage.read().files
    for path in HERE.rglob("*.js"):
        written = path.read_text().splitlines()
        sent = files[path.relative_to(HERE).as_posix()].content.decode().splitlines()
        assert len(sent) == len(written)
        left_out = [line.strip() for line, kept in zip(written, sent, strict=True) if kept != line]
        assert all(line.startswith(("//", "/**", "*")) for line in left_out), path.name
        assert not any(line.lstrip().startswith("//") for line in sent), path.name


def test_every_text_that_the_page_asks_for_by_name_is_there() -> None:
    texts = (HERE / "text" / "en.js").read_text()
    for script in sorted(HERE.rglob("*.js")):
        for name in re.findall(r'\bt\(\s*"([\w.]+)"', script.read_text()):
            for part in name.split("."):
                assert re.search(rf"\b{part}: ", texts), f"{script.name} asks for {name}"


def test_the_page_names_nothing_of_other_servers() -> None:
    for name, file in WebPage.read().files.items():
        if name.endswith((".js", ".css", ".svg", ".webmanifest")):
            found = re.findall(rb"https?://(?!www\.w3\.org/2000/svg)[^\s\"')]+", file.content)
            assert found == [], name


async def test_the_page_answers_at_each_of_its_addresses_and_at_no_other(client: Client) -> None:
    document = await client.get("http://127.0.0.1/")
    assert (document.status_code, document.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path in ("/albums", "/albums/a%2Fb", "/jobs/0123", "/tracks?q=x"):
        assert (await client.get(f"http://127.0.0.1{path}")).text == document.text
    for path in ("/album", "/web", "/web/index.html", "/albums.html"):
        answer = await client.get(f"http://127.0.0.1{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    # Who looks at it is told by the page; a program is told by a problem, below /api everybody.
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "If-None-Match": document.headers["etag"]}
    shown = await client.get("http://127.0.0.1/album", headers=browser)
    assert (shown.status_code, shown.text) == (404, document.text)
    assert shown.headers["content-security-policy"] == document.headers["content-security-policy"]
    assert (await client.post("http://127.0.0.1/album", headers=browser)).status_code == 404
    for path in ("/api/v1/album", "/web/0123/main.js"):
        answer = await client.get(f"http://127.0.0.1{path}", headers=browser)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    fresh = {"If-None-Match": document.headers["etag"]}
    assert (await client.get("http://127.0.0.1/jobs", headers=fresh)).status_code == 304


async def test_every_file_that_the_page_names_is_kept_for_good_by_the_browser(client: Client) -> None:
    document = (await client.get("http://127.0.0.1/")).text
    addresses = set(re.findall(r'"(/web/[^"]+)"', document))
    assert len(addresses) > 30
    for address in addresses:
        found = await client.get(f"http://127.0.0.1{address}", headers={"Accept-Encoding": "gzip"})
        assert found.status_code == 200, address
        assert "immutable" in found.headers["cache-control"]
        assert found.content


async def test_who_takes_no_compressed_files_gets_plain_ones(client: Client) -> None:
    page = WebPage.read()
    plain = await client.get(
        f"http://127.0.0.1/web/{page.version}/main.js", headers={"Accept-Encoding": "identity"}
    )
    assert plain.content == page.files["main.js"].content
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(page.files["main.js"].compressed or b"") == plain.content


@pytest.mark.parametrize("name", ["../app.py", "..%2Fapp.py", "index.html", "vendor", "", "%00", "README.md"])
async def test_nothing_but_the_files_of_the_page_is_served(client: Client, name: str) -> None:
    version = WebPage.read().version
    assert (await client.get(f"http://127.0.0.1/web/{version}/{name}")).status_code == 404
    assert (await client.get("http://127.0.0.1/web/0123456789abcdef/main.js")).status_code == 404


async def test_the_page_may_run_its_own_scripts_only(client: Client) -> None:
    policy = (await client.get("http://127.0.0.1/")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
