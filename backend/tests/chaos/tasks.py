"""Small jobs that leave traces: every effect is a row, written under the job's fence.

`verification` knows what each of them must have left.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import text

from mus.broker.job_runner import current_job
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.errors import Snooze, TemporaryError, UserFixableError

CREATE_EFFECTS = "CREATE TABLE IF NOT EXISTS effects (job VARCHAR(32), name VARCHAR(100))"
STEPS = 3


async def _leave_trace(name: str, checkpoint: dict[str, Any]) -> None:
    job = current_job()
    async with job.effect() as work:
        await work.session.execute(
            text("INSERT INTO effects (job, name) VALUES (:job, :name)"), {"job": job.id, "name": name}
        )
        await job.keep(work, checkpoint)


@broker.task("chaos_leaf", timeout_seconds=60)
async def leaf(*, name: str, seconds: float = 0.0) -> dict[str, Any]:
    """One effect, after a while."""
    await asyncio.sleep(seconds)
    if current_job().checkpoint is None:
        await _leave_trace(name, {"left": name})
    return {"name": name}


@broker.task("chaos_steps", timeout_seconds=60)
async def steps(*, name: str, seconds: float = 0.0) -> dict[str, Any]:
    """Several effects; a later attempt goes on after the last one."""
    done = (current_job().checkpoint or {"done": 0})["done"]
    for step in range(done, STEPS):
        await asyncio.sleep(seconds)
        await _leave_trace(f"{name}/step {step}", {"done": step + 1})
    return {"name": name}


@broker.task("chaos_family", timeout_seconds=60, continuation="chaos_reunion")
async def family(*, name: str, children: int, depth: int = 1, endless_child: bool = False) -> dict[str, Any]:
    """Children in one effect, then a continuation; with `depth` 2 the children are families."""
    job = current_job()
    if job.checkpoint is None:
        async with job.effect() as work:
            for number in range(children):
                options, child = Options(parent_id=job.id), f"{name}/{number}"
                if depth > 1:
                    await broker.enqueue(
                        Queue.HIGH, family, options, name=child, children=children, depth=depth - 1
                    )
                else:
                    await broker.enqueue(Queue.MEDIUM, leaf, options, name=child, seconds=0.02)
            if endless_child:
                await broker.enqueue(Queue.LOW, endless, Options(parent_id=job.id), name=f"{name}/endless")
            await job.keep(work, {"children": children})
    return {"children": children}


@broker.task("chaos_reunion", timeout_seconds=60)
async def reunion() -> dict[str, Any]:
    if current_job().checkpoint is None:
        await _leave_trace("reunion", {"left": "reunion"})
    return {"reunited": True}


@broker.task("chaos_endless", timeout_seconds=600)
async def endless(*, name: str) -> dict[str, Any]:
    """Runs until it is cancelled, in lanes' slots that others need: it sleeps most of the time."""
    while True:
        await current_job().report(stage=name)
        await asyncio.sleep(0.3)


@broker.task("chaos_failing", timeout_seconds=60)
async def failing(*, name: str, how: str) -> dict[str, Any]:
    """`temporary` fails twice and then succeeds, `snooze` comes back once, `person` and `bug` fail for good."""
    job = current_job()
    if how == "temporary" and job.started.attempt <= 2:
        raise TemporaryError("the disk sulks")
    if how == "snooze" and job.checkpoint is None:
        async with job.effect() as work:
            await job.keep(work, {"snoozed": True})
        raise Snooze(0.2, "come back")
    if how == "person":
        raise UserFixableError("your turn", recovery_actions=("do something",))
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if (job.checkpoint or {}).get("left") is None:
        await _leave_trace(name, {"left": name})
    return {"survived": how}
