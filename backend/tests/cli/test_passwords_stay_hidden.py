"""Passwords in the addresses of broker and database: in nothing that mus shows, logs or stores."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from audio_files import write_library
from broker.secured_broker import PASSWORD, USER, SecuredBroker, credentials, secured_broker
from cli.mus_commands import mus, mus_up, until

pytestmark = pytest.mark.slow
DATABASE_PASSWORD = "d@ta/b:se?#%42"


@pytest.fixture
def secured() -> Iterator[SecuredBroker]:
    with secured_broker() as running:
        yield running


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_library(tmp_path / "music", {"Artist/Album/1.mp3": {"title": "Song"}})


def hidden(text: str) -> None:
    """No password in any form, nor enough of one to be of use."""
    for password in (PASSWORD, DATABASE_PASSWORD):
        for form in (password, quote(password), quote(password, safe=""), password[:6], password[-6:]):
            assert form not in text, text[max(0, text.find(form) - 300) :][:600]


def fetched(address: str, path: str) -> str:
    with urllib.request.urlopen(address + path, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_of_everything_that_runs_and_breaks(
    tmp_path: Path, music: Path, secured: SecuredBroker, database_url: str, log_format: str
) -> None:
    given = {
        "dragonfly_url": secured.tls_url,
        "database_url": make_url(database_url)
        .set(password=DATABASE_PASSWORD)
        .render_as_string(hide_password=False),
        "log_level": "DEBUG",
        "log_format": log_format,
    }
    with mus_up(tmp_path, "--music", music, **given) as up:
        address = up.address()
        up.said("Scanned Music: 1 files found")
        hidden("\n".join(up.processes().values()))
        doctor = mus(tmp_path, "doctor", **given)
        assert "ok    broker: Valkey" in doctor.stdout
        shown = [doctor.stdout, doctor.stderr, mus(tmp_path, "jobs", **given).stdout]
        # Everybody reconnects, and says why it must.
        secured.tls.close()
        until(lambda: '"ok":false' in fetched(address, "/api/v1/health"), what="a broker that is away")
        up.said("was interrupted")
        away = mus(tmp_path, "doctor", **given)
        assert "fail  broker: does not answer" in away.stdout
        shown += [away.stdout, away.stderr, fetched(address, "/api/v1/health"), fetched(address, "/metrics")]
        secured.tls.open()
        until(lambda: '"ok":false' not in fetched(address, "/api/v1/health"), what="the broker")
        done = mus(tmp_path, "scan", "--json", **given)
        assert '"state": "succeeded"' in done.stdout
        jobs = fetched(address, "/api/v1/jobs")
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
        for text in (*shown, jobs, done.stdout, done.stderr, up.output):
            hidden(text)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dragonfly_url": "redis://{user}@127.0.0.1:{port}"}, "invalid username-password pair"),
        ({"dragonfly_url": "rediss://{user}@localhost:{tls_port}"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"dragonfly_url": "redis://{user}@127.0.0.1:1"}, "does not answer"),
        ({"dragonfly_url": "redis://{user}@nowhere.invalid"}, "does not answer"),
        ({"dragonfly_url": "unix://{user}@/not/there.sock"}, "does not answer"),
        ({"dragonfly_url": "redis://{user}@host/x"}, "MUS_DRAGONFLY_URL"),
        ({"database_url": "postgresql+asyncpg://u:{database}@127.0.0.1:1/db"}, "cannot be used"),
        ({"database_url": "postgresql+asyncpg://u:{database}@nowhere.invalid/db"}, "cannot be used"),
        ({"database_url": "postgresql+asyncpg://u:{database}@127.0.0.1:x/db"}, "MUS_DATABASE_URL"),
        ({"database_url": "postgresql+asyncpg://u:{database}@127.0.0.1:1/db?ssl=verify-full"}, "cannot be used"),
    ],
)
def test_of_commands_that_get_nowhere(
    tmp_path: Path, secured: SecuredBroker, wrong: dict[str, str], said: str
) -> None:
    given = {
        name: form.format(
            user=credentials(USER, PASSWORD + "x"),
            port=secured.port,
            tls_port=secured.tls.port,
            database=quote(DATABASE_PASSWORD, safe=""),
        )
        for name, form in wrong.items()
    }
    told = mus(tmp_path, "doctor", "--data", tmp_path, log_level="DEBUG", **given)
    assert told.returncode in {1, 2}
    assert said in told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    hidden(told.stdout + told.stderr)
    if "database_url" in wrong:
        migrated = mus(tmp_path, "migrate", "--wait", "1", "--data", tmp_path, log_level="DEBUG", **given)
        assert said in migrated.stderr
        assert "Traceback" not in migrated.stderr
        hidden(migrated.stdout + migrated.stderr)
