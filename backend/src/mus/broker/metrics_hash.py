"""Counters of all processes, added up in one hash at the broker.

A field is the JSON list of a metric's name and its labels' values, its value a number; see `mus.metrics.Key`. A
broker that lost its memory begins at zero, as every counter does after a restart, and Prometheus allows for that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache

from redis.exceptions import RedisError, WatchError

from mus.broker.streaq_broker import Connection
from mus.metrics import COUNTED, SUM, TALLY, Counter, Histogram, Key, Tally
from mus.turns import until_turn

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
_ANSWER_SECONDS = 1.0
#: How long the broker remembers which batch of a process came last: far longer than an answer can be late.
_MARK_SECONDS = 86_400
_LONGEST_LABEL = 100

_METRICS: Mapping[str, Counter | Histogram] = {metric.name: metric for metric in COUNTED}


def hash_key(queue_name: str) -> str:
    """Where the sums of a queue are."""
    return f"mus:{queue_name}:metrics"


@asynccontextmanager
async def flushed(connection: Connection) -> AsyncIterator[None]:
    """Tell the broker what this process counts, during the block and at its end."""
    stopping = asyncio.Event()
    task = asyncio.create_task(_keep_flushing(connection, stopping), name="mus-metrics")
    try:
        yield
    finally:
        # Not cancelled: redis-py answers a cancel while it connects with an error of its own (seen on 8.1.0).
        stopping.set()
        await task


async def _keep_flushing(connection: Connection, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            async with asyncio.timeout(until_turn(FLUSH_SECONDS)):
                await stopping.wait()
        except TimeoutError:
            pass
        try:
            await flush(connection)
        except Exception:
            # What is counted must never end the process that counts it.
            logger.exception("counters could not be told this time")


@cache
def _name_of(_process_id: int) -> str:
    """Of a process, for as long as it runs. Its forks have names of their own, though they inherit this memory:
    batches of two processes under one name would pass for repeats of each other."""
    return secrets.token_hex(8)


async def flush(connection: Connection, tally: Tally = TALLY, *, process: str | None = None) -> bool:
    """Add what was counted to the sums. False: the broker does not answer, and all of it is kept for the next try.

    Each batch is added once. With it, in one transaction, goes its number; when the answer to an earlier try was
    lost, that number tells whether it had arrived, and WATCH keeps a try that is still on its way from arriving
    after this one.
    """
    process = process or _name_of(os.getpid())
    while (batch := tally.batch()) is not None:
        key = hash_key(connection.queue_name)
        mark = f"{key}:{process}"
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), connection.redis.pipeline(transaction=True) as pipe:
                await pipe.watch(mark)
                if await pipe.get(mark) != str(batch.number):
                    pipe.multi()  # type: ignore[no-untyped-call]
                    for field, amount in batch.amounts.items():
                        pipe.hincrbyfloat(key, json.dumps(field), amount)
                    pipe.set(mark, batch.number, ex=_MARK_SECONDS)
                    # A field that somebody made unusable fails by itself; the others are added.
                    await pipe.execute(raise_on_error=False)
        except WatchError:
            continue
        except (RedisError, OSError, TimeoutError) as error:
            logger.debug("counters wait for the broker: %r", error)
            return False
        tally.confirm(batch)
    return True


async def read_sums(connection: Connection) -> dict[Key, float]:
    """The sums so far. Raises RedisError or OSError; what is no field of ours is left out."""
    # Any client of the broker can write there, so nothing is taken on trust: one odd field must not take all
    # the others from the page.
    found: dict[str, str] = await connection.redis.hgetall(hash_key(connection.queue_name))  # type: ignore[assignment]
    sums: dict[Key, float] = {}
    for field, value in found.items():
        key, amount = _known_key(field), _amount(value)
        if key is not None and amount is not None:
            sums[key] = sums.get(key, 0) + amount
    return sums


def _known_key(field: str) -> Key | None:
    try:
        parts = json.loads(field)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        return None
    name, *labels = parts
    metric = _METRICS.get(name)
    if isinstance(metric, Histogram):
        part, *labels = labels or [""]
        if part not in (*metric.bounds, SUM):
            return None
    if metric is None or len(labels) != len(metric.labels):
        return None
    # Printable: half a surrogate pair could not be encoded on the page.
    if not all(label.isprintable() and len(label) <= _LONGEST_LABEL for label in labels):
        return None
    return tuple(parts)


def _amount(value: str) -> float | None:
    try:
        amount = float(value)
    except ValueError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None
