"""taskiq's side of `job_measures.py`: one worker process on a stream, everything else as it comes.

taskiq worker --workers 1 --max-async-tasks SLOTS on_taskiq:broker
python on_taskiq.py fill|enqueue …        BENCH_URL, BENCH_QUEUE
"""

from __future__ import annotations

import asyncio
import os

import marks
from producer import Producer, at_once, main
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_URL"], queue_name=os.environ["BENCH_QUEUE"])


@broker.task(task_name="bench_job")
async def bench_job(kind: str, token: int, seconds: float = 0.0) -> None:
    marks.note(kind, token)
    if seconds:
        await asyncio.sleep(seconds)
        marks.note(kind.upper(), token)


class TaskiqProducer(Producer):
    async def one(self, level: str, kind: str, token: int) -> int | None:
        await bench_job.kiq(kind, token)
        return None

    async def many(self, level: str, kind: str, count: int, seconds: float) -> None:
        await at_once(lambda token: bench_job.kiq(kind, token, seconds), count)


async def produce(arguments: list[str]) -> None:
    await broker.startup()
    await TaskiqProducer().run(arguments)
    await broker.shutdown()


if __name__ == "__main__":
    main(produce)
