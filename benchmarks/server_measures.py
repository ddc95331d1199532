"""What `mus up` does while it runs: watching, answering, waiting."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import corpora
from measuring import Measuring
from process_trees import cpu_seconds, memory_mib, run, wait_until
from scan_measures import HELD, scanned, scanned_by_mpd
from scanners import MUS, Mpd, Mus, MusServer, clean_environment, mus_up

COPIED = 10_000
ARRIVALS = 40
PAGE = 100
#: Requests of each kind in a round.
REQUESTS = 40
IDLE_SECONDS = 20.0
SORTS = ("title", "-added_at", "artist", "album", "-duration", "year")
SEARCHES = {
    "one letter": ("a", "k", "n"),
    "two letters": ("am", "ke", "no"),
    "three letters": ("amb", "kes", "nor"),
    "a whole word": ("amber", "kestrel", "north"),
    "the beginning of a word": ("quar", "tund", "zeph"),
    "two words": ("amber birch", "river quartz", "north harbor"),
    "not of ASCII": ("ночь", "größe", "夜空"),
    "nothing found": ("zzqx", "qqqq", "amber zzqx"),
}


def copied_in(m: Measuring) -> None:
    """Files copied into the folder while it is watched, until `GET /tracks` shows all of them."""
    count = m.options.scaled(COPIED, 100)
    source = m.corpus(max(count + 10, m.options.tracks))
    files = corpora.audio_files(source)[: count + 10]
    corpora.warm(source)
    figure = f"{count:,} files copied in while watching, until all are shown"
    contenders = ["mus", *(["MPD"] if m.has_mpd() else [])]
    for contender in m.turns(figure, contenders):
        if contender in m.found.skipped:
            continue
        with tempfile.TemporaryDirectory(dir=m.options.scratch) as scratch:
            folder = Path(scratch)
            _copy(files[:10], source, folder / "music")
            with _watched_by_mus(folder) if contender == "mus" else _watched_by_mpd(folder) as shown:
                wait_until(lambda shown=shown: shown() == 10, "the first files")
                began = time.perf_counter()
                _copy(files[10:], source, folder / "music")
                copied = time.perf_counter() - began
                try:
                    wait_until(lambda shown=shown: shown() == len(files), "all files", seconds=90, every=0.05)
                except TimeoutError:
                    if contender == "mus":
                        raise
                    m.skip(contender, f"90 s after the copying it showed {shown()} of {len(files)} files")
                else:
                    m.note(figure, contender, "s", time.perf_counter() - began)
                    m.note("the copying itself", contender, "s", copied)


@contextmanager
def _watched_by_mus(folder: Path) -> Iterator[Callable[[], int]]:
    with mus_up(folder / "music", folder / "data") as server:

        def shown() -> int:
            # The whole list is asked for only when it is likely to be whole.
            known = server.tracks()
            return sum(1 for _ in _all_tracks(server)) if known % 1_000 == 10 else known

        server.settle(60)
        yield shown


@contextmanager
def _watched_by_mpd(folder: Path) -> Iterator[Callable[[], int]]:
    mpd = Mpd(folder, watching=True)
    try:
        mpd.scan(folder / "music")
        yield mpd.tracks
    finally:
        mpd.close()


def _copy(files: list[Path], source: Path, music: Path) -> None:
    for path in files:
        place = music / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _all_tracks(server: MusServer) -> Iterator[object]:
    cursor = ""
    while True:
        page = server.get(f"/tracks?limit=500{cursor}")
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={urllib.parse.quote(page['next_cursor'])}"


def watch_latency(m: Measuring) -> None:
    """A file renamed into the watched folder, until `GET /tracks` shows it, one at a time."""
    for tracks in dict.fromkeys((m.options.slow_tracks, m.options.tracks)):
        _watch(m, tracks)


def _watch(m: Measuring, tracks: int) -> None:
    music = m.corpus(tracks)
    folder = m.options.scratch / "watching"
    shutil.rmtree(folder, ignore_errors=True)
    figure = f"a file renamed into place, until it is shown, {tracks:,} tracks"
    with _arrivals(music) as arrivals:
        Mus(folder).scan(music)
        with mus_up(music, folder / "mus") as server:
            if not server.settle(90):
                server.hold_slow_phase()
                m.remark(f"{tracks:,} tracks: {HELD}")
            sources = [path for path in corpora.audio_files(music) if path.suffix == ".mp3"]
            for number in m.rounds(figure):
                times = []
                for turn in range(m.options.scaled(ARRIVALS, 3)):
                    name = f"arrival {number} {turn}.mp3"
                    shutil.copyfile(sources[turn % len(sources)], folder / name)
                    began = time.perf_counter()
                    os.rename(folder / name, arrivals / name)
                    wait_until(
                        lambda name=name: _newest(server).endswith(name), "the file", seconds=30, every=0.002
                    )
                    times.append((time.perf_counter() - began) * 1000)
                m.note(figure, "mus", "ms", times)
    shutil.rmtree(folder, ignore_errors=True)


def _newest(server: MusServer) -> str:
    items = server.get("/tracks?sort=-added_at&limit=1")["items"]
    return str(items[0]["path"]) if items else ""


@contextmanager
def _arrivals(music: Path) -> Iterator[Path]:
    folder = music / "New Arrivals"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def lists(m: Measuring) -> None:
    """Pages and searches of the large library over HTTP, on one connection: first pages, deep ones, words."""
    tracks = m.options.large
    requests = m.options.scaled(REQUESTS, 3)
    with mus_up(m.corpus(tracks), scanned(m, tracks)) as server:
        server.hold_slow_phase()
        m.remark(f"answers are read whole, {PAGE} tracks each; {HELD}")
        kinds = {f"first page by {sort}": [f"/tracks?limit={PAGE}&sort={sort}"] for sort in SORTS}
        for sort in ("title", "-added_at", "artist"):
            kinds[f"deep page by {sort}"] = [_deep(server, sort, tracks)]
        for kind, words in SEARCHES.items():
            kinds[f"search, {kind}"] = [f"/tracks?limit={PAGE}&q={urllib.parse.quote(word)}" for word in words]
        for paths in kinds.values():
            for path in paths:
                server.body(path)
        for _ in m.rounds(f"lists of {tracks:,} tracks"):
            everything: list[float] = []
            for kind, paths in kinds.items():
                times = []
                for turn in range(requests):
                    began = time.perf_counter()
                    server.body(paths[turn % len(paths)])
                    times.append((time.perf_counter() - began) * 1000)
                m.note(f"{kind}, {tracks:,} tracks", "mus", "ms", times)
                everything += times
            m.note(f"all of these together, {tracks:,} tracks", "mus", "ms", everything)


def _deep(server: MusServer, sort: str, tracks: int) -> str:
    """The request for a page nine tenths down the list."""
    cursor = ""
    for _ in range(max(1, tracks * 9 // 10 // 500)):
        after = server.get(f"/tracks?limit=500&sort={sort}{cursor}")["next_cursor"]
        if after is None:
            break
        cursor = f"&cursor={urllib.parse.quote(after)}"
    return f"/tracks?limit={PAGE}&sort={sort}{cursor}"


def idle(m: Measuring) -> None:
    """Memory of all processes together (PSS) and share of a core, while nobody asks for anything."""
    seconds = max(2.0, IDLE_SECONDS * m.options.scale)
    for tracks in dict.fromkeys((m.options.slow_tracks, m.options.tracks)):
        music = m.corpus(tracks)
        with mus_up(music, scanned(m, tracks)) as server:
            if not server.settle(120 if tracks == m.options.slow_tracks else 5):
                server.hold_slow_phase()
                m.remark(f"{tracks:,} tracks: {HELD}")
            time.sleep(seconds)
            for _ in m.rounds(f"mus, {tracks:,} tracks"):
                _look_at_idle(m, "mus", tracks, server.pid, seconds)
        with scanned_by_mpd(m, tracks) as mpd:
            for _ in m.rounds(f"MPD, {tracks:,} tracks") if mpd else ():
                _look_at_idle(m, "MPD", tracks, mpd.pid, seconds / 2)


def _look_at_idle(m: Measuring, contender: str, tracks: int, pid: int, seconds: float) -> None:
    began, used = time.perf_counter(), cpu_seconds(pid)
    time.sleep(seconds)
    share = (cpu_seconds(pid) - used) / (time.perf_counter() - began)
    m.note(f"idle memory, {tracks:,} tracks", contender, "MiB", memory_mib(pid))
    m.note(f"idle CPU, {tracks:,} tracks", contender, "% of a core", share * 100)


def start_up(m: Measuring) -> None:
    """`mus --help`, and `mus up` until its API answers, on a library that is known."""
    tracks = m.options.tracks
    music, data = m.corpus(tracks), scanned(m, tracks)
    ready = f"ready to answer, {tracks:,} tracks known"
    with scanned_by_mpd(m, tracks) as mpd:
        for _ in m.rounds("start-up"):
            helped = [run([*MUS, "--help"], environment=clean_environment()).seconds for _ in range(5)]
            m.note("`mus --help`", "mus", "s", helped)
            with mus_up(music, data) as server:
                m.note(ready, "mus", "s", server.ready_seconds)
                server.settle(5)
            if mpd is not None:
                mpd.close()
                mpd.start(music)
                m.note(ready, "MPD", "s", mpd.ready_seconds)
