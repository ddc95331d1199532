"""All that a mus does, in one run of real processes over HTTP, as far as the broker hears of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

from audio_files import make_audio, write_library
from cli.mus_commands import Up, mus, mus_up, until

OPEN = {"queued", "running", "waiting", "retrying"}
TRACKS = 6


def live_through_everything(home: Path, url: str, is_looked_after: Callable[[], object] = lambda: True) -> None:
    """Scan, watch, steer, fail, be killed, and stop, on the broker at `url`.

    At the end a job waits for its next attempt until `is_looked_after`: reconcile asks for the messages of jobs
    that have waited for a second, and in a quick run no other job does.
    """
    music = write_library(home / "music", {f"A/{n:02}.mp3": {"title": f"Song {n}"} for n in range(TRACKS)})
    settings = {
        "dragonfly_url": url,
        "queue_name": "{mus}",
        # Nobody listens there: the call is tried again, later.
        "admin_webhook_url": "http://127.0.0.1:9/hook",
        "admin_webhook_secret": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
    }
    with mus_up(home, "--music", music, **settings) as up:
        address = up.address()
        up.said("Scanned Music")
        with httpx.Client(base_url=f"{address}/api/v1", trust_env=False, timeout=30) as api:
            _complete(api)
            _watch_changes(api, music)
            _steer(api)
            _listen(api, address)
            _die(api, up)
            _ask_too_often(api)
            _look(api, address, home, settings)
            _fail(api, music)
            until(is_looked_after, what="reconcile's look after a job that waits")
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
        assert "Traceback" not in up.output


def _state(api: httpx.Client, job_id: str) -> str:
    return str(api.get(f"/jobs/{job_id}").raise_for_status().json()["state"])


def _ended(api: httpx.Client, job_id: str) -> str:
    until(lambda: _state(api, job_id) not in OPEN, what=f"the end of {job_id}")
    return _state(api, job_id)


def _tracks(api: httpx.Client, **query: str) -> list[dict[str, Any]]:
    return list(api.get("/tracks", params=query).raise_for_status().json()["items"])


def _asked(answer: httpx.Response) -> str:
    return str(answer.raise_for_status().json()["job_id"])


def _complete(api: httpx.Client) -> None:
    """The slow phase."""
    until(lambda: len(_tracks(api, status="COMPLETE")) == TRACKS, what="every track's analysis")


def _watch_changes(api: httpx.Client, music: Path) -> None:
    make_audio(music / "B" / "new.mp3", tags={"title": "New"})
    until(lambda: _tracks(api, q="New"), what="the new file")
    (music / "B" / "new.mp3").rename(music / "B" / "moved.mp3")
    until(lambda: [track["path"] for track in _tracks(api, q="New")] == ["B/moved.mp3"], what="its new name")
    make_audio(music / "B" / "moved.mp3", tags={"title": "Changed"})
    until(lambda: _tracks(api, q="Changed"), what="the changed file")
    (music / "B" / "moved.mp3").unlink()
    until(lambda: _tracks(api, q="Changed", status="MISSING"), what="the file's absence")
    deleted = _tracks(api, q="Song")[0]["id"]
    assert _ended(api, _asked(api.delete(f"/tracks/{deleted}"))) == "succeeded"
    assert _ended(api, _asked(api.post(f"/tracks/{deleted}/restore"))) == "succeeded"


def _steer(api: httpx.Client) -> None:
    for queue in ("high_priority", "low_priority"):
        api.post(f"/queues/{queue}/pause").raise_for_status()
    moved = _asked(api.post("/scans", json={"path": "A"}))
    api.post(f"/jobs/{moved}/move", json={"queue": "low_priority"}).raise_for_status()
    cancelled = _asked(api.post("/schedules/retention/run"))
    api.delete(f"/jobs/{cancelled}").raise_for_status()
    assert _state(api, cancelled) == "cancelled"
    again = _asked(api.post(f"/jobs/{cancelled}/retry"))
    assert _state(api, moved) == _state(api, again) == "queued"
    for queue in ("high_priority", "low_priority"):
        api.post(f"/queues/{queue}/resume").raise_for_status()
    assert _ended(api, moved) == _ended(api, again) == "succeeded"
    api.delete("/queues/low_priority/failed").raise_for_status()


def _listen(api: httpx.Client, address: str) -> None:
    with api.stream("GET", "/events") as events:
        lines = events.iter_lines()
        assert next(lines)
        job_id = _asked(api.post("/scans", json={"mode": "full"}))
        with connect(f"{address.replace('http', 'ws', 1)}/api/v1/jobs/{job_id}/progress", proxy=None) as progress:
            while json.loads(progress.recv(timeout=30))["type"] not in {"completed", "error", "cancelled"}:
                pass
        for line in lines:
            if line.startswith("data:") and job_id in line and '"completed"' in line:
                return


def _die(api: httpx.Client, up: Up) -> None:
    killed = up.part("worker")
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in up.processes(), what="its end")
    assert up.part("worker") != killed
    until(lambda: api.get("/health").json()["status"] == "ok", what="good health")


def _ask_too_often(api: httpx.Client) -> None:
    def refused() -> bool:
        answer = api.post("/scans", json={"mode": "quick"})
        if answer.status_code == 429:
            return True
        assert _ended(api, _asked(answer)) == "succeeded"
        return False

    until(refused, what="a refusal")


def _look(api: httpx.Client, address: str, home: Path, settings: dict[str, str]) -> None:
    for path in ("/health", "/workers", "/queues", "/schedules", "/errors", "/failures", "/jobs"):
        api.get(path).raise_for_status()
    httpx.get(f"{address}/metrics", trust_env=False).raise_for_status()
    assert "broker" in mus(home, "doctor", **settings).stdout
    joined = mus(home, "scan", "--json", **settings)
    assert json.loads(joined.stdout)["found"] == TRACKS


def _fail(api: httpx.Client, music: Path) -> None:
    """The disk is gone: an admin is called, who does not answer yet."""
    shutil.move(music, music.with_name("elsewhere"))

    def is_called_later() -> bool:
        jobs = api.get("/jobs", params={"task": "call_admin_webhook"}).raise_for_status().json()["items"]
        return bool(jobs) and jobs[0]["state"] == "retrying"

    job_id = _asked(api.post("/schedules/quick-scan/run"))
    _ended(api, job_id)
    until(is_called_later, what="the call that is tried again")
