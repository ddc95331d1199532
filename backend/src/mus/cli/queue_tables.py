"""Queues for people, as a table, and for programs, as JSON; and what is done with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from mus.broker.queues import Queue
from mus.cli.existing_database import existing_database, require_database
from mus.cli.options import queue_of
from mus.cli.terminal import duration, local_time, plain, table_console
from mus.config import Settings
from mus.ledger import steering
from mus.ledger.ledger import Ledger
from mus.ledger.queries import queue_figures, workers

QueueAction = Callable[[Ledger, Queue], Coroutine[Any, Any, dict[str, Any]]]


async def listed(settings: Settings) -> list[dict[str, Any]]:
    """The queues, most urgent first, and how many living workers serve each."""
    async with existing_database(settings) as database, database.reading() as session:
        figures = await queue_figures(session, list(Queue))
        found = await workers(session, dead_after_seconds=settings.dead_after_seconds)
    serving = [queue for worker in found if worker.alive for queue in worker.row.queues]
    return [
        {name: plain(value) for name, value in asdict(queue).items()} | {"workers": serving.count(queue.name)}
        for queue in figures
    ]


async def acted(settings: Settings, action: QueueAction, name: str) -> dict[str, Any]:
    """Do something with a queue, through the broker that runs or one of our own; how the queue stands then, and
    what `action` returns."""
    from mus.broker.runtime import opened

    queue = queue_of(name)
    require_database(settings)
    async with opened(settings) as runtime:
        done = await action(runtime.connection.ledger, queue)
        async with runtime.database.reading() as session:
            (figures,) = await queue_figures(session, [queue])
    return {key: plain(value) for key, value in asdict(figures).items()} | done


async def paused(ledger: Ledger, queue: Queue) -> dict[str, Any]:
    async with ledger.database.unit_of_work():
        await steering.pause(ledger, queue, paused_by="mus queues pause")
    return {}


async def resumed(ledger: Ledger, queue: Queue) -> dict[str, Any]:
    async with ledger.database.unit_of_work():
        await steering.resume(ledger, queue)
    return {}


async def cleared(ledger: Ledger, queue: Queue) -> dict[str, Any]:
    return {"cleared": await steering.clear_failed(ledger, queue)}


def print_queues(queues: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": list(queues)}))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("queue", "state", "waits", "runs", "with parts", "failed", "oldest wait", "per minute", "workers"):
        table.add_column(name, no_wrap=True, justify="left" if name in {"queue", "state"} else "right")
    for queue in queues:
        state = "[green]open[/]"
        if queue["paused_at"] is not None:
            state = f"[yellow]paused[/] since {local_time(queue['paused_at'])}"
        table.add_row(
            queue["name"],
            state,
            f"{queue['depth']:,}",
            f"{queue['running']:,}",
            f"{queue['waiting']:,}",
            f"{queue['failed']:,}",
            duration(queue["oldest_wait_seconds"]),
            f"{queue['finished_per_minute']:.1f}",
            str(queue["workers"]),
        )
    table_console().print(table)
