"""A worker, an API or a watcher that obeys its control block.

    python -m chaos.process worker|serve|watch CONTROL_FILE          settings come from MUS_*

Everything is done by wrapping the real classes from outside: the product has no switches for it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from anyio import CancelScope
from fastapi import FastAPI
from pydantic import BaseModel

from chaos.control_block import ControlBlock, shift_clock
from mus.api import server
from mus.api.server import serve
from mus.broker import streaq_broker
from mus.broker.job_runner import JobRunner
from mus.broker.streaq_broker import Options, broker
from mus.cli.console_logs import log_to_stderr
from mus.cli.event_loop import run
from mus.cli.parent_pipe import stop_with_parent
from mus.config import load_settings
from mus.ledger.ledger import Ledger
from mus.watcher.watcher import run_watcher
from mus.worker import run_worker

JOBS_PATH = "/chaos/jobs"


class WantedJob(BaseModel):
    queue: str
    task: str
    arguments: dict[str, Any]
    exclusive_key: str | None = None


def add_route_for_jobs() -> None:
    """A route of the API process that enqueues any job: mus itself has none, and its enqueueing is what matters."""
    create_app = server.create_app

    def with_jobs(*arguments: Any, **options: Any) -> FastAPI:
        app = create_app(*arguments, **options)

        @app.post(JOBS_PATH, status_code=202)
        async def enqueue(wanted: list[WantedJob]) -> list[str]:
            jobs = [
                broker.job(job.queue, job.task, Options(exclusive_key=job.exclusive_key), **job.arguments)
                for job in wanted
            ]
            async with broker.ledger.database.unit_of_work():
                return await broker.enqueue_many(jobs)

        return app

    server.create_app = with_jobs


def run_messages_twice(block: ControlBlock) -> None:
    """While the block says so, every message that comes is run twice at the same time."""
    deliver = JobRunner.deliver

    async def deliver_twice(self: JobRunner, delivery_id: str) -> None:
        if not block.get("runs_twice"):
            await deliver(self, delivery_id)
            return
        twin = asyncio.create_task(deliver(self, delivery_id))
        try:
            await deliver(self, delivery_id)
        finally:
            # Not in a task of the lane, so it ends by itself or by the worker's drain.
            with CancelScope(shield=True):
                await asyncio.wait({twin})

    JobRunner.deliver = deliver_twice  # type: ignore[method-assign]


def count_starts(block: ControlBlock) -> None:
    start = Ledger.start

    async def counted_start(self: Ledger, *arguments: Any) -> Any:
        started = await start(self, *arguments)
        block.count("repeats" if started is None else "started")
        return started

    Ledger.start = counted_start  # type: ignore[method-assign]


def shorten_backoff() -> None:
    """2, 8 and 32 s between attempts would be most of a run."""
    assert hasattr(streaq_broker, "backoff_seconds")
    streaq_broker.backoff_seconds = lambda attempt, **_: 0.1 * 3 ** (attempt - 1)


async def _telling_where_it_stands(work: Coroutine[Any, Any, None]) -> None:
    """On SIGUSR1, the stacks of all threads and tasks go to the log: for a process that does not stop."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        faulthandler.dump_traceback(all_threads=True)
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=sys.stderr)

    loop.add_signal_handler(signal.SIGUSR1, tell)
    await work


def main() -> None:
    role, control_file = sys.argv[1:]
    block = ControlBlock(Path(control_file))
    shift_clock(block)
    import chaos.tasks  # noqa: F401 - registers them

    settings = load_settings()
    stop_with_parent(settings.drain_seconds)
    log_to_stderr(settings.log_level, settings.log_format, part=role)
    work: Coroutine[Any, Any, None]
    if role == "worker":
        run_messages_twice(block)
        count_starts(block)
        shorten_backoff()
        work = run_worker(settings, [], [])
    elif role == "serve":
        add_route_for_jobs()
        work = serve(settings)
    else:
        work = run_watcher(settings)
    run(_telling_where_it_stands(work))


if __name__ == "__main__":
    main()
