"""Queues and workers, as they are now."""

from __future__ import annotations

from fastapi import APIRouter

from mus.api.dependencies import RuntimeDep
from mus.api.problems import problems
from mus.api.schemas import Page, QueueItem, WorkerItem
from mus.broker.queues import Queue
from mus.ledger.queries import queue_figures, workers

router = APIRouter(tags=["queues"])


@router.get("/queues", responses=problems(), summary="The queues, most urgent first")
async def list_queues(runtime: RuntimeDep) -> Page[QueueItem]:
    async with runtime.database.reading() as session:
        figures = await queue_figures(session, list(Queue))
    return Page(
        items=[
            QueueItem(
                name=queue.name,
                depth=queue.depth,
                running=queue.running,
                waiting=queue.waiting,
                oldest_wait=queue.oldest_wait_seconds,
                rate=queue.finished_per_minute,
            )
            for queue in figures
        ]
    )


@router.get("/workers", responses=problems(), summary="Workers, those of the last day included")
async def list_workers(runtime: RuntimeDep) -> Page[WorkerItem]:
    async with runtime.database.reading() as session:
        found = await workers(session, dead_after_seconds=runtime.settings.dead_after_seconds)
    return Page(
        items=[
            WorkerItem(
                id=worker.row.id,
                host=worker.row.host,
                pid=worker.row.pid,
                queues=worker.row.queues,
                state=worker.row.state,
                alive=worker.alive,
                last_beat_at=worker.row.beat_at,
                last_beat_age=worker.last_beat_seconds,
                started_at=worker.row.started_at,
                running_jobs=worker.running_jobs,
            )
            for worker in found
        ]
    )
