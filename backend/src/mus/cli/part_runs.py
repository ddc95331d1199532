"""The parts of `mus up`, each in a process of its own, from its settings to its end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from mus.cli.wrong_usage import WrongUsageError
from mus.errors import BadRequestError, ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mus.config import Settings


def work(settings: Settings, modules: list[str] | None = None, queue: list[str] | None = None) -> None:
    """Raises WrongUsageError for a queue or a module that is not there."""
    from mus.broker.queues import Queue, queue_named
    from mus.cli.event_loop import run
    from mus.cli.scan_desk import scan_desk
    from mus.worker import load_job_modules, run_worker

    try:
        queues = [queue_named(name) for name in queue or ()] or list(Queue)
    except BadRequestError as error:
        raise WrongUsageError(error.user_message) from None
    try:
        load_job_modules(modules or (), queues)
    except ConfigurationError as error:
        raise WrongUsageError(error.user_message) from error
    run(run_worker(settings, modules or (), queues, beside=scan_desk))


def serve_and_watch(settings: Settings, app: FastAPI | None = None) -> None:
    """`app` is the API's application where it was made already."""
    from mus.cli.event_loop import run

    run(_serve_and_watch(settings, app))


async def _serve_and_watch(settings: Settings, app: FastAPI | None) -> None:
    """Until SIGTERM or SIGINT: watching ends first, since it makes jobs, then serving."""
    from mus.api.server import serving
    from mus.broker.runtime import opened
    from mus.watcher.watcher import load_jobs, watch

    load_jobs()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with opened(settings) as runtime, serving(settings, runtime, app):
        await watch(runtime, stopping)
