"""`mus up` with JSON logs and a scraper: what its processes count and say, seen from outside."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mus_commands import Up, mus_up, until

from audio_files import write_library
from metric_samples import Samples
from mus.cli.json_logs import MEMBERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def scrape(address: str) -> Samples:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        return Samples(answer.read().decode())


def objects(up: Up) -> list[dict[str, Any]]:
    """The log so far; what people read comes on stdout, which `Up` reads as well."""
    lines = [line for line in up.output.splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in lines if not line.startswith(("mus is up", "  music:", "Scanned"))]


def test_a_scan_and_a_new_file_show_in_metrics_and_logs(tmp_path: Path) -> None:
    music = write_library(tmp_path / "music", {f"A/{n:02}.mp3": {"title": f"Song {n}"} for n in range(5)})
    arguments = ("--music", music, "--log-level", "DEBUG")
    with mus_up(tmp_path, *arguments, log_format="json") as up:
        address = up.address()
        up.said("Scanned Music")

        def scan_is_counted() -> Samples | None:
            page = scrape(address)
            return page if page.get("mus_scans_total", outcome="succeeded", mode="quick") else None

        page = until(scan_is_counted, what="the scan")
        assert page is not None
        assert (page.get("mus_scan_files_total", outcome="added") or 0) >= 5
        assert page.get("mus_workers", state="alive") == 1
        assert page.get("mus_library_online", library="Music") == 1
        scans = [
            labels for labels in page.labels_of("mus_job_wait_seconds_count") if labels["task"] == "read_files"
        ]
        assert scans
        # Another process than the one that ran the scan.
        write_library(music, {"New/01.mp3": {"title": "New"}})

        def new_file_is_counted() -> bool:
            page = scrape(address)
            noticed = page.get("mus_watcher_changes_total", kind="created")
            return bool(noticed and page.get("mus_watcher_events_total", kind="added"))

        until(new_file_is_counted, what="the new file")
        up.process.terminate()
        assert up.process.wait(30) == 0
        log = objects(up)
    assert all(line.keys() >= set(MEMBERS) for line in log)
    assert {line["part"] for line in log} >= {"up", "api", "worker", "watcher"}
    of_jobs = [line for line in log if line["job"]]
    assert {line["part"] for line in of_jobs} == {"worker"}
    assert "scan_library" in {line["task"] for line in of_jobs}
    for line in of_jobs:
        assert line["delivery"].startswith(f"{line['job']}.")
    assert {"stopping"} <= {line["message"] for line in log if line["part"] == "up"}
