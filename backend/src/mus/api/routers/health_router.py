"""Whether mus is well, and if not, what is down."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import mus
from mus.api.dependencies import RuntimeDep
from mus.api.problems import problems
from mus.api.schemas import (
    BrokerHealth,
    DatabaseHealth,
    Health,
    HealthStatus,
    LibraryHealth,
    WatcherHealth,
    WatchMode,
    WorkerHealth,
)
from mus.api.security import is_authorized
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.ledger.lease import WATCHER, lease_row
from mus.ledger.queries import paused_queues, workers
from mus.library.file_systems import read_only_reason
from mus.persistence.libraries import all_libraries
from mus.persistence.models import LeaseRow, Library, utc_now

router = APIRouter(tags=["health"])

BROKER_TIMEOUT_SECONDS = 1.0
DATABASE_TIMEOUT_SECONDS = 5.0
FOLDER_TIMEOUT_SECONDS = 1.0


@router.get(
    "/health",
    responses={**problems(), 503: {"model": Health, "description": "The database cannot be used"}},
    # Without a token only the status is set, and so told.
    response_model_exclude_unset=True,
    summary="Whether mus is well",
)
async def get_health(runtime: RuntimeDep, request: Request, response: Response) -> Health:
    health = await read_health(runtime)
    if health.status is HealthStatus.UNAVAILABLE:
        response.status_code = 503
    response.headers["Cache-Control"] = "no-store"
    return health if is_authorized(request.scope) else Health(status=health.status)


async def read_health(runtime: Runtime) -> Health:
    """Look at the database, the broker, the workers and the libraries."""
    broker_task = asyncio.create_task(_broker(runtime))
    kind = runtime.database.url.get_backend_name()
    started = time.perf_counter()
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS), runtime.database.reading() as session:
            await session.execute(text("SELECT 1"))
            latency = _milliseconds_since(started)
            libraries = await all_libraries(session)
            found = await workers(session, dead_after_seconds=runtime.settings.dead_after_seconds)
            paused = await paused_queues(session)
            watching = await lease_row(session, WATCHER)
    except (SQLAlchemyError, OSError, TimeoutError):
        return Health(
            status=HealthStatus.UNAVAILABLE,
            version=mus.__version__,
            database=DatabaseHealth(ok=False, kind=kind, latency_ms=None),
            broker=await broker_task,
        )
    broker = await broker_task
    served = {queue for worker in found if worker.alive for queue in worker.row.queues}
    watched = watching is not None and _watcher(watching, runtime.settings.dead_after_seconds).alive
    well = broker.ok and served.issuperset(Queue) and all(library.online for library in libraries)
    return Health(
        status=HealthStatus.OK if well else HealthStatus.DEGRADED,
        version=mus.__version__,
        database=DatabaseHealth(ok=True, kind=kind, latency_ms=latency),
        broker=broker,
        workers=[
            WorkerHealth(
                id=worker.row.id,
                host=worker.row.host,
                alive=worker.alive,
                queues=worker.row.queues,
                last_beat_age=round(worker.last_beat_seconds, 3),
            )
            for worker in found
            if worker.row.state != "stopped"
        ],
        watcher=None if watching is None else _watcher(watching, runtime.settings.dead_after_seconds),
        # In good order: a person has paused them.
        paused_queues=sorted(paused),
        libraries=[await _library(runtime, library, watched=watched) for library in libraries],
    )


def _watcher(row: LeaseRow, dead_after_seconds: float) -> WatcherHealth:
    age = max(0.0, (utc_now() - row.beat_at).total_seconds())
    return WatcherHealth(
        host=row.host, alive=age < dead_after_seconds, since=row.held_since, last_beat_age=round(age, 3)
    )


async def _broker(runtime: Runtime) -> BrokerHealth:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_SECONDS):
            info: dict[str, Any] = await runtime.connection.redis.info("server")
    except (RedisError, OSError, TimeoutError):
        return BrokerHealth(ok=False, kind=None, version=None, latency_ms=None)
    kind, version = broker_kind(info)
    return BrokerHealth(ok=True, kind=kind, version=version, latency_ms=_milliseconds_since(started))


def broker_kind(info: dict[str, Any]) -> tuple[Literal["dragonfly", "valkey", "redis"], str]:
    """Which server its `INFO server` comes from: all of them tell some `redis_version` as well."""
    if "dragonfly_version" in info:
        return "dragonfly", str(info["dragonfly_version"]).removeprefix("df-").removeprefix("v")
    if "valkey_version" in info or info.get("server_name") == "valkey":
        return "valkey", str(info.get("valkey_version", info.get("redis_version", "")))
    return "redis", str(info.get("redis_version", ""))


async def _library(runtime: Runtime, library: Library, *, watched: bool) -> LibraryHealth:
    writable, read_only_reason = await _writable(runtime.settings.roots.here(library.root))
    return LibraryHealth(
        id=library.id,
        name=library.name,
        online=library.online,
        offline_reason=library.offline_reason,
        watch_mode=WatchMode(library.watch_mode) if watched and library.watch_mode else None,
        watch_reason=library.watch_reason if watched else None,
        writable=writable,
        read_only_reason=read_only_reason,
    )


#: Looks at roots that have not come back: on a share whose server is away each would hold a thread for good.
_looks: dict[bytes, asyncio.Future[tuple[bool | None, str | None]]] = {}


async def _writable(root: bytes) -> tuple[bool | None, str | None]:
    """Whether files below the root can be changed by this machine, and why not; None where it is not to be seen."""
    look = _looks.get(root)
    if look is None:
        look = asyncio.ensure_future(asyncio.to_thread(_look_at, root))
        _looks[root] = look
        look.add_done_callback(lambda _: _looks.pop(root, None))
    done, _ = await asyncio.wait({look}, timeout=FOLDER_TIMEOUT_SECONDS)
    return look.result() if done else (None, "the folder does not answer")


def _look_at(root: bytes) -> tuple[bool | None, str | None]:
    if not os.path.isdir(root):
        return None, "the folder is not on this machine"
    reason = read_only_reason(root)
    return reason is None, reason


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
