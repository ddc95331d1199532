"""What the ledger hands to the broker: deliveries, named so that no two are ever alike."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


def new_id() -> str:
    """32 hex digits that sort by time of creation: 12 of milliseconds, 20 random."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one attempt of one job."""

    job_id: str
    attempt: int
    number: int
    task: str
    queue: str
    run_after: datetime | None = None

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.attempt}.{self.number}"


def parse_delivery_id(delivery_id: str) -> tuple[str, int, int]:
    """`job.attempt.n` apart. Raises ValueError for anything else that came out of a queue."""
    job_id, attempt, number = delivery_id.split(".")
    return job_id, int(attempt), int(number)


class Publisher(Protocol):
    """The broker, as the ledger sees it."""

    async def publish(self, deliveries: list[Delivery]) -> None:
        """Put messages on their queues. Raises BrokerUnavailableError when none may have arrived."""

    async def missing(self, delivery_ids: list[str]) -> set[str]:
        """Those the broker no longer knows. Raises BrokerUnavailableError."""

    async def waiting(self, queue: str) -> set[str] | None:
        """All that the broker has on a queue; None when that is too much to go through. Raises
        BrokerUnavailableError."""

    async def taken_by(self, worker_id: str, queues: Sequence[str]) -> list[str]:
        """Ids of the deliveries that a worker took from its queues and was not done with. Raises
        BrokerUnavailableError."""

    async def announce_cancel(self, job_id: str) -> None:
        """Tell all workers that a running job shall stop. Best effort: reconcile looks as well."""

    async def announce_queues(self) -> None:
        """Tell all workers that a queue was paused or resumed. Best effort: reconcile looks as well."""

    def jobs_changed(self, job_ids: Iterable[str]) -> None:
        """The rows of these jobs have changed, and that is committed: tell whoever watches, soon."""
