"""mus's side of `job_measures.py`: a job that notes when it ran, and the processes that enqueue it.

mus worker on_mus mus.jobs.file_system_jobs mus.jobs.metadata_jobs
python on_mus.py fill|probe|flood|enqueue …        settings come from MUS_*
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import marks
from producer import Producer, main

from mus.broker.queues import Queue
from mus.broker.runtime import opened
from mus.broker.streaq_broker import Connection, broker
from mus.config import load_settings
from mus.persistence.database import Database

LEVELS = {"high": Queue.HIGH, "medium": Queue.MEDIUM, "low": Queue.LOW}
_CHUNK = 500


@broker.task("bench_job")
async def bench_job(*, kind: str, token: int, seconds: float = 0.0) -> dict[str, Any] | None:
    marks.note(kind, token)
    if seconds:
        await asyncio.sleep(seconds)
        marks.note(kind.upper(), token)
    return None


class MusProducer(Producer):
    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    async def one(self, level: str, kind: str, token: int) -> int:
        committed: list[int] = []

        async def note_commit() -> None:
            committed.append(time.monotonic_ns())

        async with self._database.unit_of_work() as work:
            work.after_commit(note_commit)
            await broker.enqueue(LEVELS[level], bench_job, kind=kind, token=token)
        return committed[0]

    async def many(self, level: str, kind: str, count: int, seconds: float) -> None:
        for begin in range(0, count, _CHUNK):
            async with self._database.unit_of_work():
                await broker.enqueue_many(
                    [
                        broker.job(LEVELS[level], bench_job, kind=kind, token=token, seconds=seconds)
                        for token in range(begin, min(begin + _CHUNK, count))
                    ]
                )

    async def waiting(self, level: str) -> int:
        stream = f"streaq:{self._connection.queue_name}:queues:{LEVELS[level]}"
        length: int = await self._connection.redis.xlen(stream)
        return length


async def produce(arguments: list[str]) -> None:
    async with opened(load_settings()) as runtime:
        await MusProducer(runtime.database, runtime.connection).run(arguments)


if __name__ == "__main__":
    main(produce)
