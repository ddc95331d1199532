from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
