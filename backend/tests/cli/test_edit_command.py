"""`mus edit`, `mus edits` and `mus undo`, as people type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audio_files import write_library
from cli.mus_commands import mus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_library(home / "music", {"a.mp3": {"title": "A"}, "b.mp3": {"title": "B"}})
    done = mus(home, "scan", "--music", home / "music", "--json")
    assert done.returncode == 0, done.stderr
    return home


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["1"], "say what to change: --set, --remove, --cover or --rename"),
        (["1", "--set", "title"], "--set takes FIELD=VALUE, not 'title'"),
        (["1", "--set", "titel=x"], "titel: There is no such field"),
        (["1", "--set", "year=soon"], "year: Must be a whole number"),
        (
            ["1", "--set", "musicbrainz.release=x"],
            "musicbrainz.release: Must be a MusicBrainz id, as 89ad4ac3-39f7-",
        ),
        (["1", "--rename", "{x}"], "{x} is no field"),
        (["1", "--set", "title=x", "--preview"], "--preview goes with --rename alone"),
        (["1", "--cover", "no such file"], "the picture 'no such file' cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_told(home: Path, arguments: list[str], told: str) -> None:
    done = mus(home, "edit", *arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_an_edit_waits_for_a_worker_and_a_preview_for_none(home: Path) -> None:
    said = mus(home, "edit", "1", "2", "--rename", "{title}/x", "--preview")
    assert said.returncode == 0, said.stderr
    assert {"a.mp3", "  -> A/x.mp3", "b.mp3", "  -> B/x.mp3"} == set(said.stdout.splitlines())
    done = mus(
        home, "edit", "1", "--set", "title=Sinnerman", "--set", "genres=Soul", "--set", "genres=Jazz", "--json"
    )
    assert done.returncode == 0, done.stderr
    job: Any = json.loads(done.stdout)
    shown = json.loads(mus(home, "jobs", "show", job["id"], "--json").stdout)["job"]
    assert (shown["task"], shown["state"], shown["requested_by"]) == ("edit_track", "queued", "mus edit")
    assert shown["arguments"]["changes"] == {"title": "Sinnerman", "genres": ["Soul", "Jazz"]}
    assert mus(home, "edits", "1").stdout == "Nothing was changed\n"
    for arguments, told in (
        (["undo"], "name an edit, or a job with --job"),
        (["undo", "7"], "There is no edit 7"),
        (["undo", "--job", job["id"]], "There is nothing of this job to take back"),
        (["edit", "99", "--remove", "title"], "There is no track 99"),
    ):
        assert told in mus(home, *arguments).stderr
