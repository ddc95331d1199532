"""Queues and workers, as they are now; pause, resume, clear."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from mus.api.dependencies import CallerDep, RuntimeDep, requested_by
from mus.api.job_schemas import FailuresCleared, QueueHistoryItem, QueueItem, QueuesHistory, WorkerItem
from mus.api.problems import FieldError, problems
from mus.api.schemas import Page
from mus.api.views import queue_item
from mus.broker.queues import Queue, queue_named
from mus.broker.runtime import Runtime
from mus.errors import BadRequestError, NotFoundError
from mus.ledger import steering
from mus.ledger.queries import queue_figures, workers
from mus.ledger.throughput import queue_history

router = APIRouter(tags=["queues"])

#: Of a history: a day of minutes.
MOST_STEPS = 1440

QueueParam = Annotated[str, Path(max_length=100, description=", ".join(Queue))]


@router.get("/queues", responses=problems(), summary="The queues, most urgent first")
async def list_queues(runtime: RuntimeDep) -> Page[QueueItem]:
    async with runtime.database.reading() as session:
        figures = await queue_figures(session, list(Queue))
    return Page(items=[queue_item(queue) for queue in figures])


@router.get("/queues/history", responses=problems(), summary="What the queues did lately, step by step, for charts")
async def get_queue_history(
    runtime: RuntimeDep,
    minutes: Annotated[int, Query(ge=1, le=43_200, description="How far back")] = 60,
    step: Annotated[int, Query(ge=1, le=86_400, description="Seconds of a step")] = 60,
) -> QueuesHistory:
    """Steps begin at whole multiples of `step` in UTC; the last is not over yet. At most 1,440 of them."""
    steps = -(-minutes * 60 // step)
    if steps > MOST_STEPS:
        least = -(-minutes * 60 // MOST_STEPS)
        raise FieldError(
            "query", "step", f"Must be {least} or more for {minutes} minutes: {MOST_STEPS} steps at most"
        )
    async with runtime.database.reading() as session:
        history = await queue_history(session, list(Queue), steps=steps, step=timedelta(seconds=step))
    return QueuesHistory(
        first=history.first,
        step_seconds=step,
        steps=steps,
        queues=[QueueHistoryItem.model_validate(asdict(queue)) for queue in history.queues],
    )


@router.post(
    "/queues/{name}/pause", responses=problems(404, 503), summary="Start no more jobs of a queue, on any worker"
)
async def pause_queue(runtime: RuntimeDep, caller: CallerDep, name: QueueParam) -> QueueItem:
    """Those that run go on. It lasts until it is resumed, across restarts."""
    queue = _queue(name)
    async with runtime.database.unit_of_work():
        await steering.pause(runtime.connection.ledger, queue, paused_by=requested_by(caller))
    return await _item(runtime, queue)


@router.post("/queues/{name}/resume", responses=problems(404, 503), summary="Let a queue's jobs start again")
async def resume_queue(runtime: RuntimeDep, name: QueueParam) -> QueueItem:
    queue = _queue(name)
    async with runtime.database.unit_of_work():
        await steering.resume(runtime.connection.ledger, queue)
    return await _item(runtime, queue)


@router.delete(
    "/queues/{name}/failed", responses=problems(404, 503), summary="Clear a queue's failed jobs off the lists"
)
async def clear_failed(runtime: RuntimeDep, name: QueueParam) -> FailuresCleared:
    """Their rows and histories stay: `/jobs?cleared=true` shows them."""
    queue = _queue(name)
    return FailuresCleared(queue=queue, count=await steering.clear_failed(runtime.connection.ledger, queue))


def _queue(name: str) -> Queue:
    """Raises NotFoundError for a name that no queue has: it is a part of the address."""
    try:
        return queue_named(name)
    except BadRequestError as error:
        raise NotFoundError(error.user_message, details=error.details) from None


async def _item(runtime: Runtime, queue: Queue) -> QueueItem:
    async with runtime.database.reading() as session:
        (figures,) = await queue_figures(session, [queue])
    return queue_item(figures)


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
