"""arq's side of `job_measures.py`: one worker, everything else as it comes.

python on_arq.py worker|fill|enqueue …        BENCH_URL, BENCH_QUEUE, BENCH_SLOTS
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import marks
import uvloop
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import func, run_worker
from producer import Producer, at_once, main

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_URL"])
QUEUE = os.environ["BENCH_QUEUE"]


async def bench_job(context: dict[Any, Any], kind: str, token: int, seconds: float = 0.0) -> None:
    marks.note(kind, token)
    if seconds:
        await asyncio.sleep(seconds)
        marks.note(kind.upper(), token)


class WorkerSettings:
    functions = (func(bench_job, name="bench_job"),)
    redis_settings = SETTINGS
    queue_name = QUEUE
    max_jobs = int(os.environ["BENCH_SLOTS"])


class ArqProducer(Producer):
    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def one(self, level: str, kind: str, token: int) -> int | None:
        await self._redis.enqueue_job("bench_job", kind, token, _queue_name=QUEUE)
        return None

    async def many(self, level: str, kind: str, count: int, seconds: float) -> None:
        await at_once(
            lambda token: self._redis.enqueue_job("bench_job", kind, token, seconds, _queue_name=QUEUE), count
        )


async def produce(arguments: list[str]) -> None:
    redis = await create_pool(SETTINGS)
    await ArqProducer(redis).run(arguments)
    await redis.aclose()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.set_event_loop(uvloop.new_event_loop())
        run_worker(WorkerSettings)
    else:
        main(produce)
