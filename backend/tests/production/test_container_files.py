"""What lies in `docker/` agrees with the code and with itself; supervisor itself reads its file."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from supervisor.options import ServerOptions

from mus.config import Settings, load_settings

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
CONF = DOCKER / "production" / "supervisord.conf"
DOCKERFILE = (DOCKER / "production" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DOCKER / "docker-compose.yml").read_text(encoding="utf-8"))
NAMES = {f"MUS_{name.upper()}" for name in Settings.model_fields}
WORKER = (
    "mus worker mus.jobs.file_system_jobs mus.jobs.edit_jobs mus.jobs.metadata_jobs "
    "--queue high_priority --queue medium_priority --queue low_priority"
)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The programs of supervisord.conf as supervisor reads them, as in the container."""
    for name, value in {
        "SUPERVISOR_SOCKET": str(tmp_path / "supervisor.sock"),
        "MUS_DATA_DIR": "/srv/my data",
        "START_DRAGONFLY": "true",
        "START_EMBEDDED_VALKEY": "false",
        "WORKER_STOP_SECONDS": "30",
    }.items():
        monkeypatch.setenv(name, value)
    options = ServerOptions()
    options.realize(["-c", str(CONF)])
    assert options.nodaemon
    assert (options.configroot.supervisord.logfile_maxbytes, options.logfile) == (0, "/dev/fd/1")
    assert options.parse_warnings == []
    found = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert all(len(group.process_configs) == 1 for group in options.process_group_configs)
    return found


def test_the_programs_start_and_stop_as_documented(programs: dict[str, Any]) -> None:
    by_stop = [name for name, _ in sorted(programs.items(), key=lambda item: -item[1].priority)]
    assert by_stop[:3] == ["watcher", "api", "streaq-worker"]
    assert set(by_stop[3:5]) == {"dragonfly", "embedded-valkey"}
    assert by_stop[5:] == ["ledger"]
    assert programs["dragonfly"].autostart
    assert not programs["embedded-valkey"].autostart
    assert programs["streaq-worker"].command == WORKER
    assert programs["streaq-worker"].stopwaitsecs == 30
    for name, program in programs.items():
        assert program.autorestart, name
        assert program.stopsignal.name == "SIGTERM"
        # A worker's readers must outlive the jobs that drain, and nothing may outlive a kill.
        assert (program.stopasgroup, program.killasgroup) == (False, True)
        assert {program.stdout_logfile, program.stderr_logfile} == {"/dev/fd/1", None}, name


def test_the_commands_of_the_programs_are_commands_of_mus(programs: dict[str, Any]) -> None:
    for name, program in programs.items():
        words = shlex.split(program.command)
        if words[0] != "mus":
            assert (name, words[0]) == ("dragonfly", "dragonfly")
            continue
        told = subprocess.run(
            [sys.executable, "-P", "-m", *words[:2], "--help"], capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr


def test_dragonfly_runs_with_the_same_flags_everywhere(programs: dict[str, Any]) -> None:
    flags = shlex.split(programs["dragonfly"].command)[1:]
    assert "--dir=/srv/my data/dragonfly" in flags
    here = {"--port", "--unixsocket", "--unixsocketperm", "--dir"}
    service = COMPOSE["services"]["dragonfly"]
    assert [flag for flag in flags if flag.split("=")[0] not in here] == [
        flag for flag in service["command"][1:] if flag.split("=")[0] not in here
    ]
    threads, memory = (
        int(re.search(rf"--{name}=(\d+)", " ".join(flags))[1])  # type: ignore[index]
        for name in ("proactor_threads", "maxmemory")
    )
    assert memory >= 256 * 2**20 * threads
    assert f"FROM {service['image']} AS dragonfly" in DOCKERFILE


def test_dragonfly_listens_where_the_image_and_the_entry_point_look(programs: dict[str, Any]) -> None:
    (socket,) = re.findall(r"--unixsocket=(\S+)", programs["dragonfly"].command)
    assert f"MUS_DRAGONFLY_URL=unix://{socket}" in DOCKERFILE
    entry_point = (DOCKER / "production" / "entrypoint.py").read_text(encoding="utf-8")
    assert f'"unix://{socket}"' in entry_point


def test_compose_gives_a_worker_time_to_stop(programs: dict[str, Any]) -> None:
    worker = COMPOSE["services"]["streaq-worker"]
    assert worker["command"].split() == WORKER.split()
    drain = Settings.model_fields["drain_seconds"].default
    assert int(worker["stop_grace_period"].removesuffix("s")) >= drain + 10
    assert "container_name" not in worker


def test_the_documented_time_to_stop_is_enough_for_all_programs(programs: dict[str, Any]) -> None:
    document = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (documented,) = set(re.findall(r"--stop-timeout (\d+)", document))
    # One of the two brokers runs.
    assert int(documented) >= sum(
        program.stopwaitsecs for name, program in programs.items() if name != "embedded-valkey"
    )


def test_the_image_and_make_compile_the_largest_libraries_without_docstrings() -> None:
    for built in (DOCKERFILE, (ROOT / "Makefile").read_text(encoding="utf-8")):
        assert re.search(
            r"uv sync [^\n]*\\?\n[^\n]*python -P -m mus\.cli\.bare_libraries\n", built.replace("$(UV)", "uv")
        )


def test_containers_are_given_settings_that_exist() -> None:
    given = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    given |= set(re.findall(r"^(?:ENV)?\s+(MUS_\w+)=", DOCKERFILE, flags=re.MULTILINE))
    assert {name for name in given if name.startswith("MUS_")} <= NAMES


def test_the_example_of_an_environment_names_every_setting_with_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    found = [re.match(r"#?(MUS_\w+)=(.*)", line) for line in lines]
    example = {match[1]: match[2] for match in found if match}
    assert example.keys() == NAMES
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    defaults = load_settings()
    for name, value in example.items():
        if value:
            monkeypatch.setenv(name, value)
    assert load_settings() == defaults


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Settings")[1].split("\n## ")[0]
    first_cells = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `MUS_"))
    assert set(re.findall(r"`(MUS_\w+)`", first_cells)) == NAMES
