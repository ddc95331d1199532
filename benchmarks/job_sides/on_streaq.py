"""Plain streaQ's side of `job_measures.py`: one worker, three priorities, everything else as it comes.

python on_streaq.py worker|fill|probe|flood|enqueue …        BENCH_URL, BENCH_QUEUE, BENCH_SLOTS
"""

from __future__ import annotations

import asyncio
import os
import sys

import marks
from producer import Producer, main
from streaq import Worker

worker = Worker(
    redis_url=os.environ["BENCH_URL"],
    queue_name=os.environ["BENCH_QUEUE"],
    priorities=["low", "medium", "high"],
    concurrency=int(os.environ["BENCH_SLOTS"]),
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(name="bench_job")
async def bench_job(kind: str, token: int, seconds: float = 0.0) -> None:
    marks.note(kind, token)
    if seconds:
        await asyncio.sleep(seconds)
        marks.note(kind.upper(), token)


class StreaqProducer(Producer):
    async def one(self, level: str, kind: str, token: int) -> int | None:
        await bench_job.enqueue(kind, token).start(priority=level)
        return None

    async def many(self, level: str, kind: str, count: int, seconds: float) -> None:
        for begin in range(0, count, 500):
            await worker.enqueue_many(
                [
                    bench_job.enqueue(kind, token, seconds).start(priority=level)
                    for token in range(begin, min(begin + 500, count))
                ]
            )

    async def waiting(self, level: str) -> int:
        return await worker.redis.xlen(worker.stream_key + level)


async def produce(arguments: list[str]) -> None:
    async with worker:
        await StreaqProducer().run(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker.run_sync()
    else:
        main(produce)
