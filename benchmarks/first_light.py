"""Measure what a person waits for, on a library made for it: `make bench`.

    python benchmarks/first_light.py [--tracks 20000] [--music DIR] [--rounds 3]

Prints medians, timed from outside: first scan, scan with no change, both by the whole command; then, with `mus up`
running, scan with no change by HTTP, and the time from a file's rename into the watched folder until
`GET /tracks` shows it. The machine's cache is warm: everything is read once before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MUS = [sys.executable, "-m", "mus"]
WORDS = ("Amber", "Birch", "Cinder", "Delta", "Ember", "Fjord", "Ночь", "Été", "夜空", "Größe", "Żaba", "ひかり")
SHARES = (("mp3", 45), ("flac", 33), ("m4a", 9), ("ogg", 7), ("opus", 4), ("wav", 2))


def make_corpus(folder: Path, tracks: int) -> Path:
    """Albums of ten tagged files; every format has one recording, copied and tagged anew."""
    done = folder / ".made"
    if done.exists() and done.read_text() == str(tracks):
        return folder
    sys.path.insert(0, str(HERE.parent / "backend" / "tests"))
    from audio_files import make_audio

    shutil.rmtree(folder, ignore_errors=True)
    rng = random.Random(1)
    formats, weights = zip(*SHARES, strict=True)
    for number in range(tracks):
        if number % 10 == 0:
            artist = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {number // 50}"
            album = f"{rng.choice(WORDS)} {number // 10}"
            suffix = rng.choices(formats, weights)[0]
        title = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {number}"
        path = folder / artist / album / f"{number % 10 + 1:02} - {title}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        tags = {"title": title, "artist": artist, "albumartist": artist, "album": album, "genre": "Bench"}
        make_audio(path, seconds=3, tags={**tags, "tracknumber": str(number % 10 + 1), "date": "2001"})
        if number % 1000 == 999:
            print(f"  made {number + 1} of {tracks} files", file=sys.stderr)
    done.write_text(str(tracks))
    return folder


def scan(music: Path, data: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole `mus scan` command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [*MUS, "scan", "--music", str(music), "--data", str(data), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, json.loads(done.stdout)


def get(address: str, method: str = "GET", body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        address,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def wait_for(look: Any, seconds: float = 120.0) -> float:
    """Seconds until `look()` is true."""
    began = time.perf_counter()
    while not look():
        if time.perf_counter() - began > seconds:
            raise TimeoutError
        time.sleep(0.005)
    return time.perf_counter() - began


def watched(music: Path, data: Path, rounds: int) -> dict[str, list[float]]:
    """With `mus up` on the scanned library: scans by HTTP, and files renamed into the folder."""
    port = 8000 + os.getpid() % 20000
    api = f"http://127.0.0.1:{port}/api/v1"
    newest = f"{api}/tracks?sort=-added_at&limit=1"
    up = subprocess.Popen(
        [*MUS, "up", "--music", str(music), "--data", str(data), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    times: dict[str, list[float]] = {"scan with no change, HTTP": [], "renamed file shown": []}
    try:
        wait_for(lambda: answers(f"{api}/health"))
        wait_for(lambda: not get(f"{api}/jobs?state=running,queued,waiting&limit=1")["items"], seconds=900)
        for _ in range(rounds):
            began = time.perf_counter()
            job = get(f"{api}/scans", "POST", {"mode": "quick"})["job_id"]
            wait_for(lambda job=job: get(f"{api}/scans/{job}")["state"] in {"succeeded", "failed"})
            times["scan with no change, HTTP"].append(time.perf_counter() - began)
        source = next(music.rglob("*.mp3"))
        folder = music / "New Arrivals"
        folder.mkdir(exist_ok=True)
        for turn in range(rounds * 5):
            name = f"arrival {time.time_ns()} {turn}.mp3"
            shutil.copy(source, data / name)
            os.rename(data / name, folder / name)
            shown = wait_for(lambda name=name: get(newest)["items"][0]["path"].endswith(name))
            times["renamed file shown"].append(shown)
        shutil.rmtree(folder)
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
    return times


def answers(address: str) -> bool:
    try:
        get(address)
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=20_000)
    parser.add_argument("--music", type=Path, help="measure this library instead of a made one; it is copied first")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        if options.music:
            music = Path(shutil.copytree(options.music, Path(scratch) / "music"))
        else:
            music = make_corpus(HERE / ".corpus" / str(options.tracks), options.tracks)
        for path in music.rglob("*"):
            if path.is_file():
                path.read_bytes()
        times: dict[str, list[float]] = {"first scan": [], "scan with no change": []}
        for turn in range(options.rounds):
            data = Path(scratch) / f"data{turn}"
            seconds, result = scan(music, data)
            times["first scan"].append(seconds)
            seconds, _ = scan(music, data)
            times["scan with no change"].append(seconds)
        print(f"{result['found']} files, {result['failed']} failed; {os.cpu_count()} cores, warm cache")
        times |= watched(music, data, options.rounds)
        for name, values in times.items():
            print(
                f"{name:28} median {statistics.median(values):7.3f} s"
                f"   min {min(values):7.3f}   max {max(values):7.3f}   n {len(values)}"
            )


if __name__ == "__main__":
    main()
