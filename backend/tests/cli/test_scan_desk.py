"""`mus scan` beside a worker: that does the work, and the command only asks and shows."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer
from mus_commands import command
from sqlalchemy import select

from audio_files import write_library
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.cli.commands import app
from mus.cli.scan_call import FLAGS, WITH_VALUE, PlainScan, plain_scan
from mus.cli.scan_desk import scan_desk
from mus.config import Settings
from mus.ledger import steering
from mus.persistence.models import Job
from mus.worker import load_job_modules, worker_running
from waiting import until
from worker_processes import environment


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_library(tmp_path / "music", {"Can/Tago Mago/01.mp3": {"title": "Paperhouse"}})


@pytest.fixture
async def desk(runtime: Runtime) -> AsyncIterator[None]:
    """A worker in this process with its desk open."""
    load_job_modules([], list(Queue))
    async with worker_running(runtime, list(Queue)), scan_desk(runtime, list(Queue)):
        yield


async def started(settings: Settings, *arguments: str | Path, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *arguments,
        env={**environment(settings), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def scans(runtime: Runtime) -> list[Job]:
    async with runtime.database.reading() as session:
        return list((await session.scalars(select(Job).where(Job.task == "scan_library"))).all())


async def pause(runtime: Runtime) -> None:
    async with runtime.database.unit_of_work():
        await steering.pause(broker.ledger, Queue.HIGH, paused_by=None)


async def resume(runtime: Runtime) -> None:
    async with runtime.database.unit_of_work():
        await steering.resume(broker.ledger, Queue.HIGH)


async def test_a_worker_does_the_scan_and_the_command_opens_no_database(
    desk: None, runtime: Runtime, settings: Settings, music: Path
) -> None:
    ask = (sys.executable, "-X", "importtime", "-P", "-m", "mus", "scan", "--music", music, "--json")
    for counts in ({"found": 1, "added": 1}, {"found": 1, "unchanged": 1}):
        told, imported = await (await started(settings, *ask)).communicate()
        answer: dict[str, Any] = json.loads(told)
        assert counts.items() <= answer.items()
        assert answer["seconds"] > 0
        # What makes the command quick: most of a second of imports is not there.
        assert b"sqlalchemy" not in imported
        assert b"pydantic" not in imported
        assert b"typer" not in imported
    assert {(job.requested_by, job.state) for job in await scans(runtime)} == {("mus scan", "succeeded")}


def test_the_plain_forms_are_options_of_the_command() -> None:
    taken = {
        name: (parameter.name, parameter.is_flag)
        for parameter in typer.main.get_command(app).commands["scan"].params  # type: ignore[attr-defined]
        for name in parameter.opts
    }
    for plain, is_flag in ((WITH_VALUE, False), (FLAGS, True)):
        assert {name: taken[name] for name in plain} == {name: (field, is_flag) for name, field in plain.items()}
    typed = ["--music", "a", "--data=b", "--path", "/c/../d", "--full", "--json", "--no-wait"]
    assert plain_scan(typed) == PlainScan(music="a", data="b", path="/c/../d", full=True, as_json=True, wait=False)


@pytest.mark.parametrize(
    "typed",
    [
        ["--help"],
        ["--path", "../A"],
        ["--music"],
        ["--data", "--json"],
        ["--music", "a", "--library", "b"],
    ],
)
def test_what_takes_the_parser_is_no_plain_form(typed: list[str]) -> None:
    assert plain_scan(typed) is None


async def test_a_folder_is_scanned_by_its_name_or_place_whatever_bytes_it_has(
    desk: None, runtime: Runtime, settings: Settings, music: Path
) -> None:
    odd = os.fsencode(music) + b"/Cr\xfcxshadows \xe2\x80\x93 100%"
    os.mkdir(odd)
    for name in (b"/1.mp3", b"/2.mp3"):
        shutil.copy(music / "Can/Tago Mago/01.mp3", odd + name)
    for path, found in ((os.path.basename(odd), 2), (odd, 2), (b"Can/Tago Mago", 1)):
        scan = await started(settings, *command("scan", "--music", music, "--json", "--path", os.fsdecode(path)))
        told, complaint = await scan.communicate()
        assert scan.returncode == 0, complaint
        assert json.loads(told)["found"] == found
    assert {job.requested_by for job in await scans(runtime)} == {"mus scan"}


async def test_a_scan_that_nobody_waits_for_is_told_as_it_stands(
    desk: None, runtime: Runtime, settings: Settings, music: Path
) -> None:
    await pause(runtime)
    scan = await started(settings, *command("scan", "--music", music, "--no-wait"))
    told, _ = await scan.communicate()
    (job,) = await scans(runtime)
    assert (scan.returncode, told) == (0, f"The scan is queued: job {job.id}\n".encode())


async def test_what_cannot_be_is_told_as_without_a_worker(
    desk: None, settings: Settings, music: Path, tmp_path: Path
) -> None:
    for arguments, status, complaint in (
        (["--library", "Talks"], 2, b"mus: There is no library 'Talks': there are none yet\n"),
        (["--music", str(settings.data_dir)], 2, b"must not lie inside each other"),
        (["--music", str(tmp_path / "none")], 2, b"does not exist"),
        (["--music", str(music), "--path", str(tmp_path)], 2, b"is not inside the library's folder"),
    ):
        scan = await started(settings, *command("scan", *arguments))
        _, told = await scan.communicate()
        assert (scan.returncode, complaint in told) == (status, True), told


async def test_ctrl_c_reaches_the_scan_and_why_it_waits_the_person(
    desk: None, runtime: Runtime, settings: Settings, music: Path
) -> None:
    await pause(runtime)
    scan = await started(settings, *command("scan", "--music", music, "--json"))
    assert scan.stderr is not None
    assert b"the scan waits, high_priority is paused" in await scan.stderr.readline()
    scan.send_signal(signal.SIGINT)
    told, _ = await scan.communicate()
    assert (scan.returncode, json.loads(told)["state"]) == (130, "cancelled")
    assert [job.state for job in await scans(runtime)] == ["cancelled"]


async def test_a_command_that_means_another_database_is_not_served(
    desk: None, runtime: Runtime, settings: Settings, music: Path, tmp_path: Path
) -> None:
    other = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    scan = await started(
        settings,
        *command("scan", "--music", music, "--json"),
        MUS_DATABASE_URL=other,
        MUS_QUEUE_NAME=settings.queue_name + "-other",
    )
    told, complaint = await scan.communicate()
    assert scan.returncode == 0, complaint
    assert json.loads(told)["added"] == 1
    assert await scans(runtime) == []


@pytest.mark.slow
async def test_when_the_worker_dies_the_command_goes_on_with_the_same_scan(
    runtime: Runtime, settings: Settings, music: Path
) -> None:
    load_job_modules([], list(Queue))
    await pause(runtime)
    worker = await started(settings, *command("worker"))

    async def is_open() -> bool:
        return (settings.data_dir / "desk" / "scan.sock").exists()

    await until(is_open, what="the desk")
    scan = await started(settings, *command("scan", "--music", music, "--json"))
    assert scan.stderr is not None
    assert b"the scan waits" in await scan.stderr.readline()
    worker.kill()
    await worker.wait()
    await resume(runtime)
    told, complaint = await scan.communicate()
    assert scan.returncode == 0, complaint
    (job,) = await scans(runtime)
    assert (json.loads(told)["job_id"], job.state) == (job.id, "succeeded")
