"""What every test may lean on: a real broker on which Redis Functions are forbidden."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from mus.broker.embedded_server import EmbeddedServer

#: DragonflyDB has no Redis Functions: whoever leans on them shall fail here too (DESIGN §3).
NO_FUNCTIONS = ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-function", "-fcall", "-fcall_ro")


def pytest_configure(config: pytest.Config) -> None:
    # A streaQ worker never closes its own end of the stream to its consumers (worker.py, run_async).
    config.addinivalue_line("filterwarnings", "ignore:Unclosed <MemoryObject:ResourceWarning")


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real embedded Valkey, shared by all tests: use `queue_name` to stay apart."""
    server = EmbeddedServer(tmp_path_factory.mktemp("data"), extra_arguments=NO_FUNCTIONS)
    server.start()
    try:
        server.wait_until_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def queue_name() -> str:
    """A queue of this test's own; in braces as in production, for one DragonflyDB hash slot."""
    return f"{{test-{secrets.token_hex(6)}}}"
