"""A sliding window of requests per caller, counted on the broker so that all API processes count together."""

from __future__ import annotations

import asyncio
import math
import secrets

from redis.exceptions import RedisError

from mus.api.problems import RateLimitedError
from mus.broker.streaq_broker import Connection

#: Scans that one caller may ask for.
SCANS = 5
WINDOW_SECONDS = 300
_BROKER_TIMEOUT_SECONDS = 1.0


async def count_scan_request(connection: Connection, caller: str) -> dict[str, str]:
    """Count one request; returns the headers that tell what is left.

    Raises RateLimitedError for one too many. Nobody is limited while the broker is down.
    """
    key = f"mus:{connection.queue_name}:scan-requests:{caller}"
    member = secrets.token_hex(8)
    try:
        async with asyncio.timeout(_BROKER_TIMEOUT_SECONDS):
            # The broker's clock: those of several machines differ, and one may be set while it counts.
            seconds, microseconds = await connection.redis.time()
            now = seconds + microseconds / 1_000_000
            async with connection.redis.pipeline(transaction=True) as pipe:
                pipe.zremrangebyscore(key, 0, now - WINDOW_SECONDS)
                pipe.zadd(key, {member: now})
                pipe.zrange(key, 0, -1, withscores=True)
                pipe.expire(key, WINDOW_SECONDS)
                _, _, counted, _ = await pipe.execute()
            place = next(at for at, (name, _) in enumerate(counted) if name == member)
            if place >= SCANS:
                await connection.redis.zrem(key, member)
    except (RedisError, OSError, TimeoutError):
        return {}
    reset = min(max(1, math.ceil(float(counted[0][1]) + WINDOW_SECONDS - now)), WINDOW_SECONDS)
    headers = {
        "RateLimit-Limit": str(SCANS),
        "RateLimit-Remaining": str(max(0, SCANS - 1 - place)),
        "RateLimit-Reset": str(reset),
    }
    if place >= SCANS:
        raise RateLimitedError(
            f"More than {SCANS} scans in {WINDOW_SECONDS // 60} minutes: try again in {reset} s",
            retry_after_seconds=reset,
            headers=headers,
        )
    return headers
