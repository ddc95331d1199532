"""The embedded Valkey with real processes: they start it, join it, are killed and take over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from mus.broker import embedded_server as module
from mus.broker.embedded_server import EmbeddedServer, embedded_server
from mus.errors import BrokerUnavailableError, ConfigurationError

OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from mus.broker.embedded_server import embedded_server

async def main():
    async with embedded_server(Path(sys.argv[1])) as server:
        await server.ready()
        print("ready", server.process_id, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@contextlib.contextmanager
def other_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the embedded server of a folder, and leaves when its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


def client_of(server: EmbeddedServer) -> Redis:
    return Redis.from_url(server.url, decode_responses=True)


async def until(condition: Callable[[], Any], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.005)


def is_alive(process_id: int) -> bool:
    try:
        # A killed child that nobody waited for yet is still listed.
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return False


async def test_it_answers_on_a_private_socket_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with embedded_server(tmp_path / "data") as server:
        await server.ready()
        assert server.is_owner
        with client_of(server) as client:
            assert client.ping()
            settings = client.config_get("*")
        process_id = server.process_id
        assert process_id is not None
        folder = server.socket_path.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
    assert {name: settings[name] for name in ("port", "save", "appendonly", "appendfsync")} == {
        "port": "0",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
    }
    assert (settings["maxmemory-policy"], settings["dir"]) == ("noeviction", str(folder))
    assert server.process_id is None
    assert not is_alive(process_id)
    assert not server.socket_path.exists()


async def test_a_killed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with embedded_server(tmp_path) as server:
        await server.ready()
        with client_of(server) as client:
            client.set("kept", "yes")
        for _ in range(2):
            process_id = server.process_id
            assert process_id is not None
            killed_at = time.monotonic()
            os.kill(process_id, signal.SIGKILL)
            await until(lambda: server.process_id not in {None, process_id})  # noqa: B023
            await server.ready()
            assert time.monotonic() - killed_at < 2
            with client_of(server) as client:
                assert client.get("kept") == "yes"


@pytest.mark.parametrize("what", ["zeros at the end", "no manifest that it knows"])
async def test_data_that_cannot_be_read_is_set_aside_and_it_starts_empty(tmp_path: Path, what: str) -> None:
    async with embedded_server(tmp_path) as server:
        await server.ready()
        with client_of(server) as client:
            client.set("lost", "yes")
    (data,) = tmp_path.rglob("appendonlydir")
    (written,) = data.glob("*.incr.aof" if what == "zeros at the end" else "*.manifest")
    with written.open("ab") as file:
        file.write(bytes(4096))
    for kept in (None, "yes"):
        async with embedded_server(tmp_path) as server:
            await server.ready(30)
            with client_of(server) as client:
                assert (client.get("lost"), client.get("kept")) == (None, kept)
                client.set("kept", "yes")
    assert (data.with_suffix(".damaged") / written.name).stat().st_size >= 4096


async def test_data_outlives_a_stop_and_a_start(tmp_path: Path) -> None:
    for expected in (None, "yes"):
        async with embedded_server(tmp_path) as server:
            await server.ready()
            with client_of(server) as client:
                assert client.get("kept") == expected
                client.set("kept", "yes")


async def test_when_the_owner_is_killed_a_joined_process_takes_over(tmp_path: Path) -> None:
    with other_process(tmp_path) as owner:
        async with embedded_server(tmp_path) as server:
            await server.ready()
            assert not server.is_owner
            first = server.process_id
            with client_of(server) as client:
                client.set("kept", "yes")
            owner.kill()
            killed_at = time.monotonic()
            await until(lambda: server.is_owner and server.process_id not in {None, first})
            await server.ready()
            assert time.monotonic() - killed_at < 2
            assert first is not None
            assert not is_alive(first)
            with client_of(server) as client:
                assert client.get("kept") == "yes"
    assert server.process_id is None


async def test_when_the_owner_leaves_a_joined_process_takes_over(tmp_path: Path) -> None:
    async with embedded_server(tmp_path) as first:
        await first.ready()
        with other_process(tmp_path) as other, client_of(first) as client:
            client.set("kept", "yes")
            await asyncio.to_thread(first.stop)
            assert not first.is_owner
            await until(lambda: _get(client, "kept") == "yes")
            assert other.stdin is not None
            other.stdin.close()
            assert other.wait(10) == 0
            assert first.process_id is None
            assert not first.socket_path.exists()


def _get(client: Redis, key: str) -> Any:
    try:
        return client.get(key)
    except RedisError:
        return None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_an_owner_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    with other_process(tmp_path) as owner:
        watcher = EmbeddedServer(tmp_path)
        process_id = watcher.process_id
        assert process_id is not None
        owner.kill()
        await until(lambda: not is_alive(process_id))
        # The kernel lets go of a dead process's lock in a moment of its own.
        await until(lambda: watcher.process_id is None)


async def test_a_server_that_lives_on_is_adopted_and_never_doubled(tmp_path: Path) -> None:
    """As on macOS, where nothing ends the server of an owner that was killed."""
    orphan = EmbeddedServer(tmp_path)
    assert orphan._start_server()
    orphan.wait_until_ready()
    process_id = orphan.process_id
    async with embedded_server(tmp_path) as server:
        await server.ready()
        await until(lambda: server.is_owner)
        assert not server._start_server()
        assert server.process_id == process_id
        assert orphan._process is not None
        os.kill(orphan._process.pid, signal.SIGKILL)
        orphan._process.wait()
        await until(lambda: server.process_id not in {None, process_id})
        await server.ready()
    assert server.process_id is None


async def test_an_adopted_server_is_stopped_by_who_adopted_it(tmp_path: Path) -> None:
    orphan = EmbeddedServer(tmp_path)
    assert orphan._start_server()
    orphan.wait_until_ready()
    async with embedded_server(tmp_path) as server:
        await until(lambda: server.is_owner)
    assert orphan._process is not None
    assert orphan._process.wait(5) == 0
    assert not server.socket_path.exists()


async def test_a_stale_socket_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "server.sock").write_text("left by a crash")
    async with embedded_server(tmp_path) as server:
        await server.ready()


async def test_a_data_folder_with_a_long_path_gets_a_socket_in_a_private_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    # 60 letters, but 120 bytes.
    data_dir = tmp_path / ("é" * 60)
    async with embedded_server(data_dir) as server:
        await server.ready()
        assert server.socket_path.parent == runtime / "mus"
        assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700
        # A process with another environment finds the same socket.
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert EmbeddedServer(data_dir).url == server.url


async def test_a_runtime_folder_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mus").mkdir()
    (tmp_path / "mus").chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="belongs to this user alone"):
        EmbeddedServer(tmp_path / ("x" * 120))


async def test_a_server_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    async with embedded_server(tmp_path, extra_arguments=("--nonsense", "1")) as server:
        with pytest.raises(BrokerUnavailableError, match="Bad directive"):
            await server.ready(timeout_seconds=20)


async def test_a_server_that_is_not_there_in_time_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError, match="does not answer"):
        await EmbeddedServer(tmp_path).ready(timeout_seconds=0.05)


def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"The broker's folder .* cannot be used"):
        EmbeddedServer(tmp_path / "data")


def test_without_a_server_for_this_platform_the_person_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "riscv64")
    with pytest.raises(ConfigurationError, match="MUS_DRAGONFLY_URL"):
        module.find_binary()


async def test_the_log_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_KEPT", 4000)
    async with embedded_server(tmp_path) as server:
        await server.ready()
        log = tmp_path / "broker" / "server.log"
        with log.open("a") as file:
            file.write("x" * 5000)
        await until(lambda: log.stat().st_size < 4000)
        assert server.process_id is not None
