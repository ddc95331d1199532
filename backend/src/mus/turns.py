"""What is looked at every few seconds is looked at in the same moments.

A process at rest wakes for a heartbeat, for lost messages, for each lane and each library. Each by itself was ten
times in five seconds, and each time its code and what it asks had left the processor's caches.
"""

from __future__ import annotations

import time


def until_turn(every_seconds: float) -> float:
    """Seconds until the next of those moments; never so few that they are but the clock's own error."""
    left = every_seconds - time.monotonic() % every_seconds
    return left if left > every_seconds / 10 else left + every_seconds
