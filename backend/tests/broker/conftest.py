from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from broker_rules import NO_FUNCTIONS
from mus.broker.embedded_server import EmbeddedServer


@pytest.fixture(scope="session")
def judged_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey with DragonflyDB's rules in front of it; see the package `dragonfly_rules`."""
    folder = tmp_path_factory.mktemp("judged")
    server = EmbeddedServer(folder, extra_arguments=NO_FUNCTIONS)
    server.start()
    try:
        server.wait_until_ready()
        command = [sys.executable, "-m", "dragonfly_rules", server.socket_path, folder / "s"]
        with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as judge:
            assert judge.stdout is not None
            try:
                url = judge.stdout.readline().strip()
                assert url, "the judge did not start"
                yield url
            finally:
                judge.terminate()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey in cluster mode, alone with all slots."""
    server = EmbeddedServer(
        tmp_path_factory.mktemp("cluster"),
        extra_arguments=(
            *NO_FUNCTIONS,
            *("--cluster-enabled", "yes", "--bind", "127.0.0.1"),
            *("--port", str(free_port()), "--cluster-port", str(free_port())),
        ),
    )
    server.start()
    try:
        server.wait_until_ready()
        with redis.Redis(unix_socket_path=str(server.socket_path), decode_responses=True) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
                pass
        yield server.url
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
