"""Two APIs and two workers on one PostgreSQL, as on several machines: real processes, each with a data folder."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mus_commands import command
from sqlalchemy import func, select

from audio_files import write_library
from forked_process import ForkedProcess
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.models import Job, Library, Track
from waiting import until
from worker_processes import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FILES = 400


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


@pytest.fixture
def music(settings: Settings, tmp_path: Path) -> Path:
    return write_library(tmp_path / "music", {f"{n // 20:02}/{n:03}.wav": None for n in range(FILES)})


class Machine:
    """A process of mus with a data folder of its own, on the database and broker of the test."""

    def __init__(self, part: str, settings: Settings, music: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        own = settings.model_copy(
            update={"data_dir": folder, "port": port, "music_dir": music, "trusted_proxies": "127.0.0.1"}
        )
        self.address = f"http://127.0.0.1:{port}/api/v1"
        self._command, self._environment = command(part), environment(own)
        self.start()

    def start(self) -> None:
        self.process = ForkedProcess[str](self._command, env=self._environment, stderr=subprocess.PIPE, text=True)

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def stop(self) -> str:
        """What it had to say."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=30)[1]


@contextmanager
def machines(settings: Settings, music: Path, tmp_path: Path, *parts: str) -> Iterator[list[Machine]]:
    with ExitStack() as stack:
        started = []
        for number, part in enumerate(parts):
            machine = Machine(part, settings, music, tmp_path / f"machine {number}")
            stack.callback(machine.kill)
            started.append(machine)
        yield started


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


async def answers(client: httpx.AsyncClient, machine: Machine) -> bool:
    try:
        return (await client.get(f"{machine.address}/health")).status_code == 200
    except httpx.TransportError:
        assert machine.process.poll() is None, machine.process.communicate()[1]
        return False


async def open_jobs(runtime: Runtime) -> int:
    async with runtime.database.reading() as session:
        return await session.scalar(select(func.count()).where(Job.state.not_in(TERMINAL_STATES))) or 0


async def all_ended(runtime: Runtime) -> bool:
    return not await open_jobs(runtime)


async def test_equal_requests_at_two_apis_are_one_scan_that_two_workers_do_once(
    settings: Settings, runtime: Runtime, music: Path, tmp_path: Path, client: httpx.AsyncClient
) -> None:
    with machines(settings, music, tmp_path, "serve", "serve") as apis:
        for api in apis:
            await until(lambda api=api: answers(client, api), what="an API")
        # Nobody works yet, so the first of them waits, and is the answer to all others.
        asked = await asyncio.gather(
            *(
                # Each a caller of its own: nobody is limited.
                client.post(
                    f"{apis[number % 2].address}/scans",
                    json={"mode": "full"},
                    headers={"X-Forwarded-For": f"10.0.0.{number}"},
                )
                for number in range(12)
            )
        )
        assert {answer.status_code for answer in asked} == {202}
        (scan_id,) = {answer.json()["job_id"] for answer in asked}
        with machines(settings, music, tmp_path / "workers", "worker", "worker") as workers:
            await until(lambda: all_ended(runtime), seconds=60, what="the end of every job")
            said = [machine.stop() for machine in (*workers, *apis)]
    async with runtime.database.reading() as session:
        scan = (await session.execute(select(Job).where(Job.id == scan_id))).scalar_one()
        libraries = await session.scalar(select(func.count()).select_from(Library))
        tracks = await session.scalar(select(func.count()).select_from(Track))
        paths = await session.scalar(select(func.count(func.distinct(Track.path))))
    assert scan.result is not None
    assert (scan.state, scan.result["found"], scan.result["added"]) == ("succeeded", FILES, FILES)
    assert (libraries, tracks, paths) == (1, FILES, FILES)
    assert "Traceback" not in "".join(said)


async def test_a_worker_that_is_killed_in_a_scan_leaves_the_rest_to_the_other(
    settings: Settings, runtime: Runtime, music: Path, tmp_path: Path, client: httpx.AsyncClient
) -> None:
    with machines(settings, music, tmp_path, "serve", "worker", "worker") as (api, doomed, heir):
        await until(lambda: answers(client, api), what="the API")
        await client.post(f"{api.address}/scans", json={})

        async def begun() -> bool:
            async with runtime.database.reading() as session:
                return bool(await session.scalar(select(func.count()).select_from(Track)))

        await until(begun, what="the first tracks")
        doomed.kill()
        # Files that come and go meanwhile are another scan's.
        for number in range(0, FILES, 10):
            os.unlink(music / f"{number // 20:02}/{number:03}.wav")
        await until(lambda: all_ended(runtime), seconds=60, what="the end of the first scan")
        await client.post(f"{api.address}/scans", json={})
        await until(lambda: all_ended(runtime), seconds=60, what="the end of the second scan")
        assert heir.process.poll() is None
        left = await _listed(client, api, status="PENDING,COMPLETE")
    assert left == FILES - FILES // 10


async def _listed(client: httpx.AsyncClient, api: Machine, **params: Any) -> int:
    count, cursor = 0, None
    while True:
        answer = await client.get(
            f"{api.address}/tracks", params={"limit": 500, **params} | ({"cursor": cursor} if cursor else {})
        )
        page = answer.json()
        count, cursor = count + len(page["items"]), page["next_cursor"]
        if cursor is None:
            return count
