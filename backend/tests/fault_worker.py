"""A worker process with small tasks that leave traces, and that stops itself at a named point, once.

    python fault_worker.py [POINT SIGNAL MARKER]        settings come from MUS_*

The tasks are also imported by the tests, which enqueue them. Stopping is done by wrapping the real classes: the
product has no switches for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mus.broker.job_runner import current_job
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Connection, Options, broker
from mus.errors import Snooze, TemporaryError, UserFixableError
from mus.ledger.ledger import Ledger
from mus.persistence.unit_of_work import UnitOfWork

CREATE_EFFECTS = "CREATE TABLE IF NOT EXISTS effects (job VARCHAR(32), name VARCHAR(100))"
#: Jobs that come by themselves while a test waits for the effect of another.
BY_THEMSELVES = frozenset({"process_slow_metadata", "renew_words"})
POINTS = ("row written", "committed", "published", "started", "effect committed", "before finish")


async def _leave_trace(name: str) -> None:
    job = current_job()
    if job.checkpoint is not None:
        return
    async with job.effect() as work:
        await work.session.execute(
            text("INSERT INTO effects (job, name) VALUES (:job, :name)"), {"job": job.id, "name": name}
        )
        await job.keep(work, {"left": name})


@broker.task("test_leaf", timeout_seconds=60)
async def leaf(*, name: str, seconds: float = 0.0) -> dict[str, Any]:
    await asyncio.sleep(seconds)
    await _leave_trace(name)
    return {"name": name}


@broker.task("test_family", timeout_seconds=60, continuation="test_reunion")
async def family(*, name: str, children: int) -> dict[str, Any]:
    job = current_job()
    if job.checkpoint is None:
        async with job.effect() as work:
            for number in range(children):
                await broker.enqueue(
                    Queue.MEDIUM, leaf, Options(parent_id=job.id), name=f"{name}/{number}", seconds=0.01
                )
            await job.keep(work, {"children": children})
    return {"children": children}


@broker.task("test_reunion", timeout_seconds=60)
async def reunion() -> dict[str, Any]:
    await _leave_trace("reunion")
    return {"reunited": True}


@broker.task("test_endless", timeout_seconds=60)
async def endless() -> dict[str, Any]:
    while True:
        await current_job().report(stage="at it")
        await asyncio.sleep(0.01)


@broker.task("test_slow_to_answer", timeout_seconds=0.2)
async def slow_to_answer() -> dict[str, Any]:
    await asyncio.sleep(60)
    return {}


@broker.task("test_failing", timeout_seconds=60)
async def failing(*, how: str) -> dict[str, Any]:
    if how == "temporary":
        raise TemporaryError("the disk sulks")
    if how == "person":
        raise UserFixableError("your turn", recovery_actions=("do something",))
    if how == "snooze" and current_job().checkpoint is None:
        async with current_job().effect() as work:
            await current_job().keep(work, {"snoozed": True})
        raise Snooze(0.1, "come back")
    if how == "bug":
        raise ZeroDivisionError("a bug")
    return {"survived": how}


def stop_at(point: str, number: signal.Signals, marker: Path) -> None:
    """Wrap the classes so that this process is stopped when it first comes to `point`."""

    def stop() -> None:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), number)

    add, start, effect, finish = Ledger.add, Ledger.start, Ledger.effect, Ledger.finish
    publish, committed = Connection.publish, UnitOfWork.committed

    async def stopping_add(self: Ledger, jobs: Any) -> Any:
        ids = await add(self, jobs)
        stop()
        return ids

    async def stopping_committed(self: UnitOfWork) -> None:
        if self.outbox:
            stop()
        await committed(self)

    async def stopping_publish(self: Connection, deliveries: Any) -> None:
        await publish(self, deliveries)
        stop()

    async def stopping_start(self: Ledger, delivery_id: str, worker_id: str) -> Any:
        started = await start(self, delivery_id, worker_id)
        if started is not None:
            stop()
        return started

    @asynccontextmanager
    async def stopping_effect(self: Ledger, job: Any, **progress: Any) -> AsyncIterator[UnitOfWork]:
        async with effect(self, job, **progress) as work:
            yield work
        if job.task not in BY_THEMSELVES:
            stop()

    async def stopping_finish(self: Ledger, job: Any, *, result: Any) -> Any:
        stop()
        return await finish(self, job, result=result)

    owner, name, replacement = {
        "row written": (Ledger, "add", stopping_add),
        "committed": (UnitOfWork, "committed", stopping_committed),
        "published": (Connection, "publish", stopping_publish),
        "started": (Ledger, "start", stopping_start),
        "effect committed": (Ledger, "effect", stopping_effect),
        "before finish": (Ledger, "finish", stopping_finish),
    }[point]
    setattr(owner, name, replacement)


def main() -> None:
    from mus.config import load_settings
    from mus.worker import run_worker

    if len(sys.argv) > 1:
        point, number, marker = sys.argv[1:]
        stop_at(point, signal.Signals[number], Path(marker))
    asyncio.run(run_worker(load_settings(), [], []))


if __name__ == "__main__":
    # The tasks are registered by the module's own name, as the tests know them.
    sys.modules["fault_worker"] = sys.modules["__main__"]
    main()
