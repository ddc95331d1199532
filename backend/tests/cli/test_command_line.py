"""What every command has in common: help that teaches, one line for what is wrong, exit statuses."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest
from mus_commands import command as mus_command
from mus_commands import environment
from mus_commands import started_mus as mus

import mus as package


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert mus(tmp_path, "--version").stdout == f"mus {package.__version__}\n"


@pytest.mark.parametrize(("arguments", "said"), [(["--version"], "mus "), (["up", "--port", "70000"], "mus: ")])
def test_a_line_is_written_in_one_piece_unbuffered_too(tmp_path: Path, arguments: list[str], said: str) -> None:
    # Each datagram is what was written at once; several processes of `mus up` share a terminal.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        variables = environment(tmp_path, PYTHONUNBUFFERED="1")
        subprocess.run(
            mus_command(*arguments), env=variables, stdout=theirs, stderr=theirs, cwd=tmp_path, check=False
        )
        piece = ours.recv(10_000, socket.MSG_DONTWAIT)
        assert piece.decode().startswith(said)
        assert piece.endswith(b"\n")
        with pytest.raises(BlockingIOError):
            ours.recv(10_000, socket.MSG_DONTWAIT)


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    shown = mus(tmp_path)
    assert shown.returncode == 0
    assert shown.stdout == mus(tmp_path, "--help").stdout
    for command in ("up", "scan", "jobs", "queues", "schedules", "doctor", "migrate", "serve", "worker", "watch"):
        assert re.search(rf"^  {command} ", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    [
        *("up", "scan", "doctor", "migrate", "serve", "worker", "watch"),
        *("jobs", "jobs list", "jobs show", "jobs cancel", "jobs retry"),
        *("jobs move", "jobs watch", "jobs failures"),
        *("queues", "queues list", "queues pause", "queues resume", "queues clear"),
        *("schedules", "schedules list", "schedules show", "schedules set"),
        *("schedules reset", "schedules run"),
    ],
)
def test_the_help_of_each_command_has_an_example(tmp_path: Path, command: str) -> None:
    shown = mus(tmp_path, *command.split(), "--help")
    assert shown.returncode == 0
    assert f"  mus {command}" in shown.stdout.split("Example", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        (["frobnicate"], {}, "frobnicate"),
        (["scan", "--frobnicate"], {}, "--frobnicate"),
        (["up", "--port", "70000"], {}, "--port"),
        (["serve", "--port", "http"], {}, "--port"),
        (["up", "--music", "no-such-folder"], {}, "no-such-folder' does not exist"),
        (["scan", "--music", "a-file"], {}, "a-file' is a file, not a folder"),
        (["scan", "--music", ".", "--data", "data"], {}, "must not lie inside each other"),
        (["scan", "--data", "a-file"], {}, "a-file' is a file, not a folder"),
        (["up"], {}, "--music DIR"),
        (["scan"], {}, "--music DIR"),
        (["up"], {"port": "many"}, "MUS_PORT"),
        (["scan"], {"dragonfly_url": "http://localhost"}, "MUS_DRAGONFLY_URL"),
        (["migrate"], {"database_url": "mysql://localhost"}, "MUS_DATABASE_URL"),
        (["migrate"], {"database_url": "postgresql+asyncpg://u:p@h:port/mus"}, "MUS_DATABASE_URL"),
        (["migrate"], {"database_url": "postgresql+asyncpg://u:p@h"}, "must name the database"),
        (["migrate"], {"database_url": "postgresql+asyncpg://h/mus?sslmode=require"}, "?ssl=require"),
        (["migrate"], {"database_url": "postgresql+asyncpg://h/mus?color=red"}, "?color="),
        (["worker"], {"log_level": "loud"}, "MUS_LOG_LEVEL"),
        (["up", "--host", "0.0.0.0"], {}, "MUS_API_TOKEN"),
        (["jobs", "--state", "asleep"], {}, "--state"),
        (["jobs", "list", "--queue", "slow_lane"], {}, "slow_lane"),
        (["worker", "--queue", "slow_lane"], {}, "slow_lane"),
        (["worker", "mus.jobs.metadata_jobs"], {}, "scan_library"),
        (["worker", "no.such.module"], {}, "no.such.module"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], named: str
) -> None:
    (tmp_path / "a-file").touch()
    told = mus(tmp_path, *arguments, **settings)
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.startswith("mus: ")
    assert named in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "mus").exists(), "a command that was wrong made a data folder"


def test_reading_jobs_makes_no_data_folder(tmp_path: Path) -> None:
    told = mus(tmp_path, "jobs")
    assert told.returncode == 1
    assert told.stderr.startswith("mus: The data folder")
    assert not (tmp_path / "mus").exists()


def test_migrate_says_from_where_to_where(tmp_path: Path) -> None:
    first = mus(tmp_path, "migrate")
    assert first.returncode == 0, first.stderr
    with sqlite3.connect(tmp_path / "mus" / "mus.db") as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    assert first.stdout == f"The schema was upgraded: revision none to {revision}\n"
    assert mus(tmp_path, "migrate").stdout == f"The schema is up to date: revision {revision}\n"
