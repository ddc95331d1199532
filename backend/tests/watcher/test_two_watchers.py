"""Several `mus watch` processes on one library, killed and frozen by real signals, on both databases."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from forked_process import ForkedProcess
from mus.ledger.lease import WATCHER, lease_row
from mus.library.paths import unescaped
from mus.persistence.models import Job
from waiting import until
from watcher.scene import Scene, opened_scene
from worker_processes import freeze

pytestmark = pytest.mark.slow
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def scene(tmp_path: Path, broker_url: str, queue_name: str, database_url: str | None) -> AsyncIterator[Scene]:
    folder = tmp_path / "scene"
    url = database_url or f"sqlite+aiosqlite:///{folder}/shared.db"
    async with opened_scene(folder, broker_url, queue_name, database_url=url) as scene:
        yield scene


@pytest.fixture
async def start(scene: Scene, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a watcher on the machine of that name: one has a data folder to itself."""
    settings, started = scene.runtime.settings, list[subprocess.Popen[bytes]]()

    def start(machine: str, *, dead_after_seconds: float = 1000.0) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MUS_")} | {
            "MUS_DATA_DIR": str(tmp_path / machine),
            "MUS_DATABASE_URL": str(settings.database_url),
            "MUS_DRAGONFLY_URL": str(settings.dragonfly_url),
            "MUS_QUEUE_NAME": settings.queue_name,
            "MUS_BEAT_SECONDS": "0.1",
            "MUS_DEAD_AFTER_SECONDS": str(dead_after_seconds),
        }
        log = (tmp_path / f"{machine}.log").open("ab")
        with log:
            started.append(
                ForkedProcess[bytes]([sys.executable, "-P", "-m", "mus", "watch"], env=environment, stderr=log)
            )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


async def leads(scene: Scene, process: subprocess.Popen[bytes]) -> None:
    """Until that process is the watcher, and has asked for the scan of its start."""

    async def does() -> bool:
        assert process.poll() is None
        async with scene.runtime.database.reading() as session:
            row = await lease_row(session, WATCHER)
        return row is not None and row.pid == process.pid

    await until(does, seconds=60, what="the lease")
    await scene.wait_for_scan()


async def says(tmp_path: Path, machine: str, text: str) -> None:
    async def said() -> bool:
        return text in (tmp_path / f"{machine}.log").read_text()

    await until(said, seconds=60, what=f"{text!r} of {machine}")


async def enqueued_once(scene: Scene, name: str) -> None:
    (scene.music / name).write_bytes(name.encode())
    await scene.wait_for("process_file_created", name.encode())
    async with scene.runtime.database.reading() as session:
        rows = await session.scalars(select(Job.arguments).where(Job.task == "process_file_created"))
    paths = [unescaped(path) for arguments in rows for path in arguments["paths"]]
    assert paths.count(name.encode()) == 1


async def scans(scene: Scene) -> int:
    async with scene.runtime.database.reading() as session:
        return await session.scalar(select(func.count()).where(Job.task == "scan_library")) or 0


async def test_one_watches_and_another_follows_with_a_scan_when_it_is_killed(
    scene: Scene, start: Start, tmp_path: Path
) -> None:
    first = start("one", dead_after_seconds=2.0)
    await leads(scene, first)
    second = start("two", dead_after_seconds=2.0)
    await says(tmp_path, "two", "waiting to take over")
    await enqueued_once(scene, "a.mp3")
    assert await scans(scene) == 1
    first.kill()
    first.wait()
    await leads(scene, second)
    await enqueued_once(scene, "b.mp3")
    assert await scans(scene) == 2


async def test_one_that_was_frozen_finds_its_place_taken_and_doubles_nothing(
    scene: Scene, start: Start, tmp_path: Path
) -> None:
    frozen = start("one")
    await leads(scene, frozen)
    await freeze(frozen, scene.runtime.database)
    other = start("two", dead_after_seconds=1.0)
    await leads(scene, other)
    # The frozen one's events wait in its kernel queue: it sees this file when it wakes up.
    await enqueued_once(scene, "a.mp3")
    frozen.send_signal(signal.SIGCONT)
    await says(tmp_path, "one", "this process is the watcher no more")
    await says(tmp_path, "one", "waiting to take over")
    await enqueued_once(scene, "b.mp3")
    assert (await scene.enqueued("process_file_created")).count(b"a.mp3") == 1
    assert await scans(scene) == 2
    other.terminate()
    other.wait(10)
    await leads(scene, frozen)


async def test_one_that_stops_in_good_order_is_followed_at_once(scene: Scene, start: Start, tmp_path: Path) -> None:
    first = start("one")
    await leads(scene, first)
    second = start("two")
    third = start("three")
    await says(tmp_path, "two", "waiting to take over")
    await says(tmp_path, "three", "waiting to take over")
    third.terminate()
    assert await asyncio.to_thread(third.wait, 10) == 0, "one that waits stops as well"
    first.terminate()
    assert await asyncio.to_thread(first.wait, 10) == 0
    await leads(scene, second)


async def test_one_that_is_started_again_after_a_crash_does_not_wait_for_itself(scene: Scene, start: Start) -> None:
    first = start("one")
    await leads(scene, first)
    first.kill()
    first.wait()
    await leads(scene, start("one"))
