"""What the tests' brokers refuse, and which one they use."""

from __future__ import annotations

import hashlib
import os
import secrets

import redis

#: DragonflyDB has no Redis Functions and no OBJECT, and a managed broker no DEBUG: whoever leans on them shall fail
#: here too (DESIGN §3).
NO_FUNCTIONS = (
    *("--user", "default", "on", "nopass", "~*", "&*", "+@all"),
    *("-function", "-fcall", "-fcall_ro", "-object", "-debug"),
)

#: A broker for the whole suite, which need not be its alone: nothing there is flushed, and what the tests leave is
#: deleted. Tests that kill or empty their broker start one of their own all the same.
NAMED_BROKER = os.environ.get("MUS_TEST_BROKER_URL")

_RUN = secrets.token_hex(4)


def queue_of(whose: str) -> str:
    """A queue of one test's own; in braces as in production, for one DragonflyDB hash slot."""
    return f"{{test-{_RUN}-{hashlib.sha256(whose.encode()).hexdigest()[:12]}}}"


def forget_queues(url: str) -> None:
    """Delete every key of this run's queues."""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"*{{test-{_RUN}-*", count=1000):
            client.delete(key)
