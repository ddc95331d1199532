"""SAQ's side of `job_measures.py`: one worker, everything else as it comes.

python on_saq.py worker|fill|enqueue …        BENCH_URL, BENCH_QUEUE, BENCH_SLOTS
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import marks
from producer import Producer, at_once, main
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from saq.types import Context
from saq.worker import start

queue = RedisQueue(Redis.from_url(os.environ["BENCH_URL"]), name=os.environ["BENCH_QUEUE"])


async def bench_job(context: Context, *, kind: str, token: int, seconds: float = 0.0) -> None:
    marks.note(kind, token)
    if seconds:
        await asyncio.sleep(seconds)
        marks.note(kind.upper(), token)


settings: dict[str, Any] = {
    "queue": queue,
    "functions": [("bench_job", bench_job)],
    "concurrency": int(os.environ["BENCH_SLOTS"]),
}


class SaqProducer(Producer):
    async def one(self, level: str, kind: str, token: int) -> int | None:
        await queue.enqueue("bench_job", kind=kind, token=token)
        return None

    async def many(self, level: str, kind: str, count: int, seconds: float) -> None:
        await at_once(lambda token: queue.enqueue("bench_job", kind=kind, token=token, seconds=seconds), count)


async def produce(arguments: list[str]) -> None:
    await queue.connect()
    await SaqProducer().run(arguments)
    await queue.disconnect()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        start("on_saq.settings")
    else:
        main(produce)
