"""`mus libraries`, and scans of several, as people type them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mus_commands import QUICK, mus, mus_up, on_both_databases, until

from audio_files import write_library


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two folders with music; nothing knows of them yet."""
    write_library(tmp_path / "music", {"A/1.mp3": {"title": "One"}, "A/2.mp3": {"title": "Two"}})
    write_library(tmp_path / "talks", {"B/1.mp3": {"title": "Three"}})
    return tmp_path


def answered(home: Path, *arguments: str | Path, status: int = 0, **settings: str) -> dict[str, Any]:
    done = mus(home, *arguments, "--json", **settings)
    assert done.returncode == status, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@on_both_databases
def test_libraries_are_added_scanned_set_and_removed(home: Path, database_settings: dict[str, str]) -> None:
    on = database_settings
    assert answered(home, "libraries", "add", "Music", home / "music", **on)["id"] == 1
    added = answered(home, "libraries", "add", "Talks", home / "talks", "--scan", "5 4 * * *", **on)
    assert (added["name"], added["scan_crontab"], added["watch"]) == ("Talks", "5 4 * * *", "auto")
    every = answered(home, "scan", **on)
    assert (every["state"], every["found"], every["added"]) == ("succeeded", 3, 3)
    assert [(one["library"], one["found"]) for one in every["libraries"]] == [("Music", 2), ("Talks", 1)]
    assert answered(home, "scan", "--library", "Talks", **on)["unchanged"] == 1
    assert answered(home, "scan", "--path", home / "music" / "A", **on)["unchanged"] == 2
    assert answered(home, "scan", "--music", home / "talks", **on)["library"] == "Talks"
    change = ("--name", "Lectures", "--watch", "off", "--guard-min", "7", "--scan", "off")
    changed = answered(home, "libraries", "set", "Talks", *change, **on)
    assert (changed["name"], changed["watch"], changed["guard_min_tracks"]) == ("Lectures", "off", 7)
    table = mus(home, "libraries", **on).stdout.splitlines()
    assert [line.split() for line in table[1:]] == [
        ["1", "Music", str(home / "music"), "2", "online", "nobody", "runs", "common", "50", "and", "0.5"],
        ["2", "Lectures", str(home / "talks"), "1", "online", "off", "off", "7", "and", "0.5"],
    ]
    removed = answered(home, "libraries", "remove", "Lectures", "--yes", **on)
    assert removed["library"] == "Lectures"
    assert [item["removing"] for item in answered(home, "libraries", **on)["items"]] == [False, True]
    # A scan of the others runs the removal as well, as it has the same queue.
    assert answered(home, "scan", **on)["library"] == "Music"


def test_a_library_in_another_place_is_followed(home: Path) -> None:
    answered(home, "libraries", "add", "Music", home / "music")
    answered(home, "scan")
    shutil.copytree(home / "music", home / "moved")
    shutil.rmtree(home / "music")
    assert answered(home, "libraries", "set", "Music", "--root", home / "moved")["root"] == str(home / "moved")
    assert answered(home, "scan")["unchanged"] == 2


def test_an_unknown_folder_is_told_how_to_become_a_library(home: Path) -> None:
    answered(home, "scan", "--music", home / "music")
    told = mus(home, "scan", "--music", home / "talks")
    assert told.returncode == 1
    assert "`mus libraries add NAME DIR`" in told.stderr
    answered(home, "libraries", "add", "Talks", home / "talks")
    assert answered(home, "scan", "--music", home / "talks")["library"] == "Talks"
    # The settings may name any of them, and mean all.
    assert len(answered(home, "scan", music_dir=str(home / "talks"))["libraries"]) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["libraries", "set", "Nothing", "--watch", "off"], 2, "there are Music, Talks"),
        (["libraries", "remove", "Nothing", "--yes"], 2, "there are Music, Talks"),
        (["libraries", "set", "Music"], 2, "--name"),
        (["libraries", "set", "Music", "--watch", "sometimes"], 2, "auto, events, polling, off"),
        (["libraries", "set", "Music", "--scan", "now"], 2, "five fields"),
        (["libraries", "set", "Music", "--guard-min", "many"], 2, "--guard-min"),
        (["libraries", "set", "Music", "--guard-fraction", "2"], 2, "guard_fraction"),
        (["libraries", "set", "Music", "--name", "talks"], 1, "a library Talks already"),
        (["libraries", "add", "Third", "music/A"], 1, "must not lie inside each other"),
        (["libraries", "add", "Third", "nowhere"], 2, "no folder"),
        (["libraries", "--json", "remove", "Music"], 2, "after the subcommand"),
        (["scan", "--library", "Nothing"], 2, "there are Music, Talks"),
        (["scan", "--path", "A"], 2, "--library (Music, Talks)"),
        (["scan", "--library", "Music", "--music", "music"], 2, "--library"),
    ],
)
def test_what_cannot_be_is_one_line(two_libraries: Path, arguments: list[str], status: int, named: str) -> None:
    told = mus(two_libraries, *arguments)
    assert (told.returncode, told.stdout) == (status, "")
    assert named in told.stderr
    assert told.stderr.startswith("mus: ")
    assert told.stderr.count("\n") == 1


@pytest.fixture
def two_libraries(home: Path) -> Path:
    for name in ("Music", "Talks"):
        answered(home, "libraries", "add", name, home / name.lower())
    return home


def test_a_removal_asks_first(two_libraries: Path) -> None:
    asked = mus(two_libraries, "libraries", "remove", "Talks")  # nobody is there to answer
    assert asked.returncode != 0
    assert "Forget the library Talks" in asked.stderr
    assert [item["removing"] for item in answered(two_libraries, "libraries")["items"]] == [False, False]


@pytest.mark.slow
def test_a_library_added_while_mus_is_up_is_scanned_and_watched_and_its_removal_ends(home: Path) -> None:
    with mus_up(home, "--music", home / "music") as up:
        up.address()
        added = answered(home, "libraries", "add", "Talks", home / "talks", **QUICK)

        def items() -> dict[str, dict[str, Any]]:
            return {item["name"]: item for item in answered(home, "libraries", **QUICK)["items"]}

        until(lambda: items()["Talks"]["watch_mode"] == "events", what="watching")
        until(lambda: items()["Talks"]["tracks"] == 1, what="the first scan")
        shutil.copy(home / "talks/B/1.mp3", home / "talks/B/2.mp3")
        until(lambda: items()["Talks"]["tracks"] == 2, what="the new file")
        answered(home, "libraries", "remove", "Talks", "--yes", **QUICK)
        until(lambda: set(items()) == {"Music"}, what="the removal")
        assert (home / "talks/B/2.mp3").is_file()
        assert added["id"] == 2
