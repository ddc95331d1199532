"""The three queues, most urgent first, and the policy of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from mus.errors import BadRequestError


class Queue(StrEnum):
    HIGH = "high_priority"
    MEDIUM = "medium_priority"
    LOW = "low_priority"


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How a worker serves a queue: jobs at a time, and the niceness of the processes that read files for it."""

    slots: int
    niceness: int = 0


def _policies() -> dict[Queue, QueuePolicy]:
    cores = os.cpu_count() or 1
    return {
        # What a person waits for: short jobs, and the walk of a scan.
        Queue.HIGH: QueuePolicy(slots=4),
        # More than there are readers: while one chunk is stored, one ends and one begins, all readers still read.
        Queue.MEDIUM: QueuePolicy(slots=cores + 3),
        Queue.LOW: QueuePolicy(slots=max(1, cores), niceness=10),
    }


POLICIES = _policies()


def follow_up_queue(queue: Queue) -> Queue:
    """Where the parts of a job go: a person waits for its start, its files are `medium_priority` work."""
    return Queue.MEDIUM if queue is Queue.HIGH else queue


def queue_named(name: str) -> Queue:
    """Raises BadRequestError, with the names there are, for any other."""
    try:
        return Queue(name)
    except ValueError:
        raise BadRequestError(
            f"There is no queue {name!r}: there are {', '.join(Queue)}",
            details={"queues": [queue.value for queue in Queue]},
        ) from None


#: How long a lane may sleep before it looks for delayed messages again that nobody told it of.
DELAYED_LOOK_SECONDS = 15.0


def consumer_name(worker_id: str, queue: str) -> str:
    """What the broker knows a worker's lane by."""
    return f"{worker_id}-{queue}"
