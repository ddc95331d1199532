"""What the container starts: who it runs as, the token, and `mus` and `streaq` by name."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.mus_commands import environment

PRODUCTION = Path(__file__).parents[3] / "docker" / "production"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def started(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The entry point with these arguments, run to its end, with its data folder below `home`."""
    return subprocess.run(
        [sys.executable, "-P", str(PRODUCTION / "entrypoint.py"), *arguments],
        env=environment(home, **{"data_dir": str(home / "data"), **settings}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=home,
    )


def token_of(home: Path) -> str:
    return (home / "data" / "api-token").read_text().strip()


# ------------------------------------------------------------ token


def test_a_token_is_made_once_and_kept_for_this_user_alone(tmp_path: Path) -> None:
    first = started(tmp_path, "mus", "serve", "--help", host="0.0.0.0")
    assert first.returncode == 0, first.stderr
    token = token_of(tmp_path)
    assert len(token) >= 40
    assert f"token is {token}\n" in first.stdout
    assert (tmp_path / "data" / "api-token").stat().st_mode & 0o777 == 0o600
    second = started(tmp_path, "mus", "serve", "--help", host="0.0.0.0")
    assert token_of(tmp_path) == token
    assert token not in second.stdout
    assert f"kept in {tmp_path / 'data' / 'api-token'}" in second.stdout


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0", "api_token": "own"}, {"host": "127.0.0.1"}, {}])
def test_no_token_is_made_where_one_is_set_or_none_is_needed(tmp_path: Path, settings: dict[str, str]) -> None:
    told = started(tmp_path, "mus", "serve", "--help", **settings)
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "data" / "api-token").exists()


def test_the_server_asks_for_the_token_that_was_made(tmp_path: Path) -> None:
    shown = "import sys; from mus.config import load_settings; print(load_settings().api_token.get_secret_value())"
    # What stands for `mus serve` here tells what it is given.
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif sys.orig_argv[-1] == 'serve':\n    {shown}\n    sys.exit()\n"
    )
    told = started(tmp_path, "mus", "serve", host="0.0.0.0", PYTHONPATH=str(tmp_path))
    assert told.stdout.splitlines()[-1] == token_of(tmp_path)


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api-token").touch()
    told = started(tmp_path, "mus", "serve", host="0.0.0.0")
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "is empty" in told.stderr


def test_other_commands_need_no_token_for_the_address_of_the_container(tmp_path: Path) -> None:
    told = started(tmp_path, "mus", "migrate", host="0.0.0.0")
    assert (told.returncode, told.stderr) == (0, "")
    assert "schema was upgraded" in told.stdout


# ------------------------------------------------------------ what is wrong is one line


def test_music_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    told = started(tmp_path, music_dir=str(tmp_path / "nowhere"))
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert f"the music folder '{tmp_path / 'nowhere'}' does not exist" in told.stderr


def test_no_music_at_all_is_one_line(tmp_path: Path) -> None:
    told = started(tmp_path)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "MUS_MUSIC_DIR" in told.stderr


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = started(tmp_path, "mus", "serve", data_dir=str(tmp_path / "file" / "data"))
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / "file" / "data") in told.stderr


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    told = started(tmp_path, "no-such-command")
    assert (told.returncode, told.stderr) == (
        1,
        "mus: 'no-such-command' cannot be run: No such file or directory\n",
    )


# ------------------------------------------------------------ who it runs as


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="mus-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_root
def test_as_root_it_gives_the_data_folder_away_and_becomes_its_owner(open_folder: Path) -> None:
    inner = open_folder / "data" / "thumbnails" / "aa"
    inner.mkdir(parents=True)
    (inner / "1.webp").touch()
    outside = open_folder / "outside"
    outside.touch()
    (inner / "link").symlink_to(outside)
    # It writes to the container's output by name, as supervisord does.
    script = 'id -u; id -g; id -G; echo opened anew >/dev/fd/1; touch "$MUS_DATA_DIR/new"; echo "$HOME"'
    told = started(
        open_folder,
        "sh",
        "-c",
        script,
        PUID="4321",
        PGID="4322",
        SUPERVISOR_SOCKET=str(open_folder / "run" / "s.sock"),
    )
    assert told.stderr == ""
    assert told.stdout.splitlines() == ["4321", "4322", "4322", "opened anew", str(open_folder / "data")]
    for path in (open_folder / "data", inner, inner / "1.webp", inner / "link", open_folder / "data" / "new"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (4321, 4322), path
    assert (open_folder / "run").stat().st_uid == 4321
    assert outside.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("user", ["", "0", "me", "-1", "99999999999"])
def test_an_id_that_nobody_can_run_as_is_one_line(tmp_path: Path, user: str) -> None:
    told = started(tmp_path, "true", PUID=user, PGID="1000", SUPERVISOR_SOCKET=str(tmp_path / "s.sock"))
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert f"PUID: {user!r}" in told.stderr


@needs_root
@pytest.mark.parametrize("inside", ["music", "music/data", "."])
def test_nothing_is_given_away_with_a_data_folder_that_overlaps_the_music(tmp_path: Path, inside: str) -> None:
    (tmp_path / "music" / "data").mkdir(parents=True)
    given = {"music_dir": str(tmp_path / "music"), "data_dir": str(tmp_path / inside)}
    told = started(tmp_path, "true", PUID="4321", PGID="1", SUPERVISOR_SOCKET=str(tmp_path / "s.sock"), **given)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "must not lie inside each other" in told.stderr
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {0}


# ------------------------------------------------------------ streaq


def test_streaq_worker_is_the_worker_of_mus(tmp_path: Path) -> None:
    told = started(tmp_path, "streaq", "worker", "mus.jobs.metadata_jobs", "--queue", "no_such_queue")
    assert told.returncode == 2
    assert "no_such_queue" in told.stderr
    assert "high_priority" in told.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], []])
def test_all_other_words_go_to_the_streaq_that_is_installed(tmp_path: Path, arguments: list[str]) -> None:
    told = started(tmp_path, "streaq", *arguments)
    installed = subprocess.run(
        [Path(sys.executable).with_name("streaq"), *arguments],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout + told.stderr == installed.stdout + installed.stderr != ""
    assert told.returncode == installed.returncode
