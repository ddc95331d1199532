"""Scans, next to other scanners on the same files: what a person waits for from the request to the last track."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import corpora
from measuring import Measuring
from mutagen import File
from process_trees import run
from scanners import Mpd, Mus, Scanner, mus_up

HERE = Path(__file__).parent
#: Short scans are asked for several times in a round.
AGAIN = 3
CHANGED_SHARE = 0.01
HELD = "while `mus up` ran, low_priority was paused: the analysis of each file waited, nothing else ran"


def scanned(m: Measuring, tracks: int) -> Path:
    """mus's data folder for that corpus, after a first scan; the measures of one run share it."""
    mus = Mus(_shared(m, tracks))
    if not (mus.data / ".scanned").exists():
        mus.forget()
        music = m.corpus(tracks)
        m.say(f"{tracks:,} tracks are scanned first")
        corpora.warm(music)
        mus.scan(music)
        (mus.data / ".scanned").touch()
    return mus.data


@contextmanager
def scanned_by_mpd(m: Measuring, tracks: int) -> Iterator[Mpd | None]:
    """MPD, running, with its database of that corpus; None if it is not to be measured."""
    if not m.has_mpd():
        yield None
        return
    mpd = Mpd(_shared(m, tracks))
    try:
        mpd.scan(m.corpus(tracks))
        yield mpd
    finally:
        mpd.close()


def _shared(m: Measuring, tracks: int) -> Path:
    return m.options.scratch / f"scanned {tracks}"


def first_scan(m: Measuring) -> None:
    """First scan of an unknown library, cache warm, and cold where the machine lets it be dropped."""
    tracks = m.options.tracks
    _first_scans(m, m.corpus(tracks), f"first scan, {tracks:,} tracks", expected=tracks, cold=True)


def other_libraries(m: Measuring) -> None:
    """First scan of full-length files, and of files with large pictures."""
    for name in ("full-length", "pictures"):
        music = m.corpus(name)
        count = len(corpora.audio_files(music))
        _first_scans(m, music, f"first scan, {name} ({count:,} tracks)", expected=count)


def _first_scans(m: Measuring, music: Path, figure: str, *, expected: int, cold: bool = False) -> None:
    with _scanners(m, slow=False) as contenders:
        if len(contenders) > 1:
            m.remark("both from the start of the program: MPD scans by itself when it has no database")
            # Seen in `ps -L -o comm,cls` during its update; CPU times do not suffer from that.
            m.remark("MPD scans at the scheduler's idle priority: a machine that is busy makes its times longer")
        corpora.warm(music)
        m.say("a first round for memory, not timed")
        for contender in contenders:
            done = _forgotten(contender).scan(music, with_memory=True)
            m.note(f"most memory, {figure}", contender.name, "MiB", done.peak_mib or 0.0)
            if done.tracks not in (None, expected):
                m.remark(f"{figure}: {contender.name} found {done.tracks} of {expected} tracks")
        for contender in m.turns(figure, contenders):
            done = _forgotten(contender).scan(music)
            m.note(figure, contender.name, "s", done.seconds)
            m.note(f"CPU, {figure}", contender.name, "s", done.cpu_seconds)
        if not cold:
            return
        for contender in m.turns(f"cold, {figure}", contenders):
            _forgotten(contender)
            if not m.drop_caches():
                m.remark("only with a warm cache: this machine's cannot be dropped, or was not to be")
                return
            m.note(f"cold, {figure}", contender.name, "s", contender.scan(music).seconds)


def no_change(m: Measuring) -> None:
    """Scan with no change: the command alone, the command next to a running mus, and by the API of that."""
    tracks = m.options.tracks
    music, data = m.corpus(tracks), scanned(m, tracks)
    figure = f"scan with no change, {tracks:,} tracks"
    with ExitStack() as stack:
        alone = Mus(data.parent)
        mpd = stack.enter_context(scanned_by_mpd(m, tracks))
        contenders: list[Scanner] = [alone, *([mpd] if mpd else [])]
        for contender in contenders:
            contender.scan(music)
        for contender in m.turns(f"{figure}, command", contenders):
            m.note(f"{figure}, command", contender.name, "s", [contender.scan(music).seconds for _ in range(AGAIN)])
        server = stack.enter_context(mus_up(music, data))
        server.hold_slow_phase()
        m.remark(HELD)
        for name, seconds in (
            ("command beside mus up", lambda: alone.scan(music).seconds),
            ("API", server.scan),
        ):
            for contender in m.turns(f"{figure}, {name}", contenders):
                values = [seconds() if contender is alone else contender.scan(music).seconds for _ in range(AGAIN)]
                m.note(f"{figure}, {name}", contender.name, "s", values)


def no_change_large(m: Measuring) -> None:
    """Scan with no change of the large library, by the command and by the API."""
    tracks = m.options.large
    music, data = m.corpus(tracks), scanned(m, tracks)
    figure = f"scan with no change, {tracks:,} tracks"
    alone = Mus(data.parent)
    for _ in m.rounds(f"{figure}, command"):
        m.note(f"{figure}, command", "mus", "s", [alone.scan(music).seconds for _ in range(AGAIN)])
    with mus_up(music, data) as server:
        server.hold_slow_phase()
        m.remark(HELD)
        for _ in m.rounds(f"{figure}, API"):
            m.note(f"{figure}, API", "mus", "s", [server.scan() for _ in range(AGAIN)])


def changed(m: Measuring) -> None:
    """Scan after one file of a hundred got another title."""
    tracks = m.options.tracks
    music = m.corpus(tracks)
    figure = f"scan after 1 % changed, {tracks:,} tracks"
    with scanned_by_mpd(m, tracks) as mpd:
        contenders: list[Scanner] = [Mus(scanned(m, tracks).parent), *([mpd] if mpd else [])]
        for contender in m.turns(figure, contenders):
            contender.scan(music)  # what the turn before put back
            with retagged(music, CHANGED_SHARE):
                m.note(figure, contender.name, "s", contender.scan(music).seconds)


def slow_peers(m: Measuring) -> None:
    """First scan, no change and 1 per cent changed next to beets and supysonic too, on the small library."""
    _all_scans(m, m.options.slow_tracks)


def slow_peers_large(m: Measuring) -> None:
    """The same on the library of the other measures: some 20 minutes a round for 20,000 tracks."""
    _all_scans(m, m.options.tracks)


def _all_scans(m: Measuring, tracks: int) -> None:
    music = m.corpus(tracks)
    with _scanners(m, slow=True) as contenders:
        m.remark("beets: `beet import` at first; later `beet import`, which sees what is new, and `beet update`")
        corpora.warm(music)
        for contender in m.turns(f"{tracks:,} tracks", contenders):
            done = _forgotten(contender).scan(music, with_memory=True)
            m.note(f"first scan next to all, {tracks:,} tracks", contender.name, "s", done.seconds)
            m.note(f"most memory next to all, {tracks:,} tracks", contender.name, "MiB", done.peak_mib or 0.0)
            contender.scan(music)
            m.note(f"no change next to all, {tracks:,} tracks", contender.name, "s", contender.scan(music).seconds)
            with retagged(music, CHANGED_SHARE):
                m.note(
                    f"1 % changed next to all, {tracks:,} tracks",
                    contender.name,
                    "s",
                    contender.scan(music).seconds,
                )


def slope(m: Measuring) -> None:
    """What a track costs in a first scan of the large library, next to one of the usual size."""
    sizes = (m.options.tracks, m.options.large)
    mus = Mus(m.options.scratch / "slope")
    for tracks in sizes:
        corpora.warm(m.corpus(tracks))
    wall, cpu = "wall time of a track, first scan", "CPU time of a track, first scan"
    for _ in m.rounds("slope"):
        costs = []
        for tracks in sizes:
            mus.forget()
            done = mus.scan(m.corpus(tracks))
            costs.append((done.seconds / tracks * 1e6, done.cpu_seconds / tracks * 1e6))
            m.note(f"first scan, {tracks:,} tracks, alone", "mus", "s", done.seconds)
            m.note(wall, f"mus, {tracks:,} tracks", "µs", costs[-1][0])
            m.note(cpu, f"mus, {tracks:,} tracks", "µs", costs[-1][1])
        both = f"of a track, {sizes[1]:,} tracks next to {sizes[0]:,}"
        m.note(f"wall time {both}", "mus", "×", costs[1][0] / costs[0][0])
        m.note(f"CPU time {both}", "mus", "×", costs[1][1] / costs[0][1])


def walk(m: Measuring) -> None:
    """The walk of a million empty files, and the comparison with as many simulated rows, without all else."""
    rows = m.options.rows
    root = m.corpus(f"empty-{rows}")
    for _ in m.rounds(f"{rows:,} rows"):
        done = json.loads(run([sys.executable, HERE / "walk_alone.py", root]).output)
        for name, value in done["seconds"].items():
            m.note(f"{name}, {rows:,} files", "mus", "s", value)
        m.note(f"memory of walk and rows, {rows:,} files", "mus", "MiB", done["mib"])


@contextmanager
def _scanners(m: Measuring, *, slow: bool) -> Iterator[list[Scanner]]:
    """Contenders that know nothing, gone with the block."""
    folder = m.options.scratch / m.found.name
    found = m.scanners(folder, slow=slow)
    try:
        yield found
    finally:
        for contender in found:
            contender.close()
        shutil.rmtree(folder, ignore_errors=True)


def _forgotten(contender: Scanner) -> Scanner:
    contender.forget()
    return contender


@contextmanager
def retagged(music: Path, share: float) -> Iterator[None]:
    """For the block a share of the files have another title; then the files that were there are back."""
    put_back(music)
    aside = _aside(music)
    files = [path for path in corpora.audio_files(music) if path.suffix in {".mp3", ".flac", ".ogg", ".m4a"}]
    chosen = random.Random(7).sample(files, max(1, min(len(files), round(len(files) * share))))
    aside.mkdir()
    (aside / "places.json").write_text(json.dumps([str(path) for path in chosen]))
    try:
        for number, path in enumerate(chosen):
            path.rename(aside / str(number))
            draft = aside / f"draft{path.suffix}"
            shutil.copyfile(aside / str(number), draft)
            audio = File(draft, easy=True)
            audio["title"] = "Changed"
            audio.save()
            draft.rename(path)
        yield
    finally:
        put_back(music)


def put_back(music: Path) -> None:
    """Undo what a run that was killed has left of `retagged`."""
    aside = _aside(music)
    if (aside / "places.json").exists():
        for number, path in enumerate(json.loads((aside / "places.json").read_text())):
            if (aside / str(number)).exists():
                (aside / str(number)).replace(path)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(music: Path) -> Path:
    return music.parent / f"{music.name}.aside"
