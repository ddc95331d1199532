"""Jobs, live, and what a person can do to them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from audio_files import make_audio
from cli.mus_commands import Up, mus_up, until
from web.browsing import serious_axe_findings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Music that takes a while to listen to, and one file that is none."""
    root = tmp_path_factory.mktemp("music")
    for number in range(12):
        make_audio(
            root / f"Long/{number:02}.flac", seconds=60, tags={"title": f"Long {number}"}, pitch=1 + number / 50
        )
    (root / "broken.mp3").write_bytes(b"no sound in here " * 100)
    return root


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Iterator[Up]:
    with mus_up(tmp_path_factory.mktemp("home"), "--music", music) as up:
        up.said("files found")
        yield up


@pytest.fixture(scope="module")
def address(up: Up) -> str:
    return up.address()


def api(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/api/v1", trust_env=False)


def test_a_paused_queue_says_so_to_everyone_and_is_resumed(page: Page, address: str) -> None:
    page.goto("/jobs")
    low = page.get_by_role("article", name="Low priority")
    low.get_by_role("button", name="Pause").click()
    expect(low.get_by_text("paused", exact=True)).to_be_visible()
    with api(address) as client:
        assert client.get("/queues").json()["items"][2]["paused"] is True
    assert serious_axe_findings(page) == []
    low.get_by_role("button", name="Resume").click()
    expect(low.get_by_text("paused", exact=True)).to_have_count(0)


def test_a_job_that_waits_is_cancelled_and_run_again(page: Page, address: str) -> None:
    with api(address) as client:
        client.post("/queues/high_priority/pause").raise_for_status()
        job = client.post("/scans", json={"path": "Long"}).json()["job_id"]
    try:
        page.goto("/jobs?tab=waiting")
        waiting = page.get_by_role("row", name="Scan a library")
        waiting.get_by_role("button", name="Cancel").click()
        expect(waiting).to_have_count(0)
        page.goto(f"/jobs/{job}")
        expect(page.get_by_role("main").get_by_text("cancelled", exact=True)).to_be_visible()
        page.get_by_role("button", name="Try again").click()
        page.wait_for_url(re.compile(rf"/jobs/(?!{job})"))
        expect(page.get_by_role("main").get_by_text("waits", exact=True)).to_be_visible()
        assert serious_axe_findings(page) == []
    finally:
        with api(address) as client:
            client.post("/queues/high_priority/resume").raise_for_status()
    # Nobody reloads: the job is followed to its end.
    expect(page.get_by_role("main").get_by_text("done", exact=True)).to_be_visible()
    expect(page.get_by_text("12 found · 12 unchanged")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Started")).to_be_visible()


def test_a_scan_asked_for_by_a_double_click_runs_once_and_is_seen_without_a_reload(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: request.method == "POST" and asked.append(request.url))
    page.goto("/jobs?tab=ended")
    rows = page.get_by_role("row", name="Scan a library")
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    before = rows.count()
    page.get_by_role("button", name="Scan now").dblclick()
    expect(rows).to_have_count(before + 1)
    assert len(asked) == 1


def test_a_file_that_cannot_be_read_is_listed_with_its_reason_and_tried_again(page: Page, music: Path) -> None:
    page.goto("/failures")
    files = page.get_by_role("listitem").filter(has_text="broken.mp3")
    expect(files).to_be_visible()
    assert serious_axe_findings(page) == []
    make_audio(music / "broken.mp3", seconds=0.5, tags={"title": "Whole again"})
    page.get_by_role("button", name="Try again: broken.mp3").click()
    expect(page.get_by_text("Nothing has failed")).to_be_visible()


def test_the_workers_show_that_they_live(page: Page) -> None:
    page.goto("/workers")
    expect(page.get_by_role("row").nth(1).get_by_text("alive")).to_be_visible()
    assert serious_axe_findings(page) == []


def test_a_connection_that_drops_is_told_and_taken_up_again_without_a_reload(
    page: Page, up: Up, address: str
) -> None:
    page.goto("/jobs")
    expect(page.get_by_role("article", name="Low priority")).to_be_visible()
    page.evaluate("window.here = true")
    server = up.part("serve-and-watch")
    os.kill(server, signal.SIGKILL)
    expect(page.get_by_role("status").filter(has_text="Connection lost")).to_be_visible()
    until(lambda: _answers(address), what="the next server")
    expect(page.get_by_role("status").filter(has_text="Connection lost")).to_be_hidden()
    with api(address) as client:
        job = client.post("/scans", json={}).json()["job_id"]
    expect(page.locator(f'a[href="/jobs/{job}"]').first).to_be_visible()
    assert page.evaluate("window.here") is True


def _answers(address: str) -> bool:
    try:
        with api(address) as client:
            return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False
