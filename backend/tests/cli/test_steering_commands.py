"""`mus jobs` and `mus queues` beside a worker that runs: what is typed here reaches the job there."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mus_commands import command
from sqlalchemy import select, text

from fault_worker import CREATE_EFFECTS, endless, failing, leaf
from forked_process import run_forked
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.models import Job
from mus.worker import load_job_modules, worker_running
from waiting import until
from worker_processes import environment


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


class Shell:
    """Runs `mus` on the data folder and broker of a test."""

    def __init__(self, settings: Settings) -> None:
        self._environment = environment(settings)

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run_forked, command(*arguments), env=self._environment, timeout=60)

    async def json(self, *arguments: str) -> Any:
        done = await self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def started(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command(*arguments), env=self._environment, stdout=asyncio.subprocess.PIPE
        )


@pytest.fixture
async def shell(runtime: Runtime, settings: Settings, no_schedules: None) -> AsyncIterator[Shell]:
    """With a worker on all queues."""
    async with runtime.database.unit_of_work() as work:
        await work.session.execute(text(CREATE_EFFECTS))
    load_job_modules([], list(Queue))
    patient = settings.model_copy(update={"dead_after_seconds": 30.0})
    async with worker_running(Runtime(patient, runtime.database, runtime.connection), list(Queue)):
        yield Shell(settings)


async def enqueue(runtime: Runtime, task: Any, queue: Queue = Queue.LOW, **arguments: Any) -> str:
    async with runtime.database.unit_of_work():
        return await broker.enqueue(queue, task, **arguments)


async def in_state(runtime: Runtime, job_id: str, *states: str) -> Job:
    async def look() -> Job | None:
        async with runtime.database.reading() as session:
            job = (await session.scalars(select(Job).where(Job.id == job_id))).one()
        return job if job.state in states else None

    return await until(look, what=f"{' or '.join(states)} of {job_id}")


async def test_a_running_job_is_watched_and_cancelled(shell: Shell, runtime: Runtime) -> None:
    job_id = await enqueue(runtime, endless)
    await in_state(runtime, job_id, "running")
    watching, as_json = (
        await shell.started("jobs", "watch", job_id),
        await shell.started("jobs", "watch", job_id, "--json"),
    )
    assert watching.stdout is not None
    assert as_json.stdout is not None
    # Into a pipe each line comes when it is news, not when a buffer is full.
    assert b"test_endless    0%  running: at it" in await watching.stdout.readline()
    first = json.loads(await as_json.stdout.readline())
    assert (first["job_id"], first["type"], first["state"]) == (job_id, "progress", "running")
    moved = await shell.run("jobs", "move", job_id, "high_priority")
    assert (moved.returncode, moved.stderr) == (
        1,
        "mus: Only a queued or retrying job can be moved; this one is running\n",
    )
    retried = await shell.run("jobs", "retry", job_id)
    assert retried.returncode == 1
    assert "Only a failed or cancelled job can be retried; this one is running" in retried.stderr
    cancelled = await shell.run("jobs", "cancel", job_id)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"Job {job_id} is running, and stops soon\n")
    await in_state(runtime, job_id, "cancelled")
    said, said_as_json = (await watching.communicate())[0], (await as_json.communicate())[0]
    assert (watching.returncode, as_json.returncode) == (1, 1)
    assert said.rstrip().endswith(b"cancelled")
    last = json.loads(said_as_json.splitlines()[-1])
    assert (last["type"], last["state"]) == ("cancelled", "cancelled")
    again = await shell.run("jobs", "cancel", job_id)
    assert (again.returncode, again.stderr) == (1, "mus: The job was cancelled already\n")


async def test_the_jobs_of_a_paused_queue_wait_until_it_is_resumed(shell: Shell, runtime: Runtime) -> None:
    paused = await shell.json("queues", "pause", "low_priority")
    assert (paused["name"], paused["paused_by"]) == ("low_priority", "mus queues pause")
    waiting = [await enqueue(runtime, leaf, name=f"low {number}") for number in range(3)]
    moved = await shell.json("jobs", "move", waiting[0], "high_priority")
    assert moved == {"id": waiting[0], "state": "queued", "queue": "high_priority"}
    await in_state(runtime, waiting[0], "succeeded")
    table = (await shell.run("queues")).stdout.splitlines()
    assert table[3].split()[:3] == ["low_priority", "paused", "since"]
    [high, _, low] = (await shell.json("queues", "list"))["items"]
    assert (high["workers"], low["workers"], low["depth"], low["running"]) == (1, 1, 2, 0)
    resumed = await shell.run("queues", "resume", "low_priority")
    assert resumed.stdout.startswith("low_priority goes on: ")
    for job_id in waiting:
        await in_state(runtime, job_id, "succeeded")


async def test_a_failed_job_is_shown_retried_and_cleared(shell: Shell, runtime: Runtime) -> None:
    job_id = await enqueue(runtime, failing, how="person")
    await in_state(runtime, job_id, "failed")
    header, row = (await shell.run("jobs", "list", "--state", "failed")).stdout.splitlines()
    assert header.split() == ["id", "task", "queue", "state", "done", "created", "took"]
    assert row.split()[:6] == [job_id, "test_failing", "low_priority", "failed", "your", "turn"]
    watched = await shell.run("jobs", "watch", job_id)
    assert (watched.returncode, watched.stdout.count("\n")) == (1, 1)
    assert "failed: your turn" in watched.stdout
    retried = await shell.run("jobs", "retry", job_id)
    [again] = {job["id"] for job in (await shell.json("jobs", "list", "--task", "test_failing"))["items"]} - {
        job_id
    }
    assert retried.stdout == f"Job {again} is queued: it does {job_id} again\n"
    await in_state(runtime, again, *TERMINAL_STATES)
    lines = (await shell.run("jobs", "show", again)).stdout.splitlines()
    values = {line.split()[0]: line.split()[1] for line in lines if not line.startswith("  ")}
    assert (values["retry_of"], values["retry_number"], values["attempt"]) == (job_id, "1", "1")
    assert [line.split()[4] for line in lines if line.startswith("  2")] == ["enqueued", "started", "failed"]
    [group] = (await shell.json("jobs", "failures", "--queue", "low_priority"))["items"]
    assert (group["count"], group["reason"], group["last_job"]) == (1, "your turn", again), "it stands for both"
    assert (await shell.json("queues", "clear", "low_priority"))["cleared"] == 1
    assert (await shell.json("jobs", "failures"))["items"] == []
    kept = (await shell.json("jobs", "list", "--state", "failed", "--cleared"))["items"]
    assert [job["id"] for job in kept] == [again, job_id]


async def test_a_job_that_has_succeeded_is_watched_in_one_line_with_its_result(
    shell: Shell, runtime: Runtime
) -> None:
    job_id = await enqueue(runtime, leaf, name="a leaf")
    await in_state(runtime, job_id, "succeeded")
    watched = await shell.run("jobs", "watch", job_id)
    assert watched.returncode == 0
    assert watched.stdout.endswith("test_leaf  100%  succeeded: name a leaf\n")
    message = await shell.json("jobs", "watch", job_id)
    assert (message["type"], message["result"]) == ("completed", {"name": "a leaf"})
