"""What is told: how a job stands, and what became of tracks and libraries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.ledger.job_rows import jobs
from mus.ledger.job_states import TERMINAL_STATES, JobState
from mus.persistence.models import utc_now

_BATCH = 500
_COLUMNS = tuple(
    jobs.c[name]
    for name in (
        "id", "task", "queue", "state", "attempt", "delivery", "progress", "stage", "units_done", "units_total",
        "children_open", "result", "error_category", "error_message", "error_details", "parent_id", "retry_of",
        "requested_by", "run_after", "cancel_requested_at",
    )
)  # fmt: skip


class JobMessageType(StrEnum):
    PROGRESS = "progress"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"


_TYPES = {
    JobState.SUCCEEDED: JobMessageType.COMPLETED,
    JobState.FAILED: JobMessageType.ERROR,
    JobState.CANCELLED: JobMessageType.CANCELLED,
}
#: How far a job is within one delivery. A later delivery comes later, whatever its state.
_RANKS = {JobState.QUEUED: 0, JobState.RETRYING: 0, JobState.RUNNING: 1, JobState.WAITING: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """How a job stood when its row was read. The last one of a job is terminal: `is_last`."""

    type: JobMessageType
    job_id: str
    task: str
    queue: str
    parent_id: str | None
    timestamp: str
    state: JobState
    #: 0 to 1.
    progress: float
    stage: str | None
    details: dict[str, Any]
    #: Of a job that ended well.
    result: dict[str, Any] | None
    error_category: str | None
    user_message: str | None
    recovery_actions: list[str]

    @property
    def is_last(self) -> bool:
        return self.type is not JobMessageType.PROGRESS

    @property
    def order(self) -> tuple[int, int, int]:
        """Grows with every change of state: a message that was long under way must not turn a job back."""
        return self.details["attempt"], self.details["delivery"], _RANKS.get(self.state, 3)

    def as_json(self) -> dict[str, Any]:
        # Not `asdict`, which copies every value below: 150 µs.
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """Raises TypeError, KeyError or ValueError for what is no such message."""
        message = cls(**{**found, "type": JobMessageType(found["type"]), "state": JobState(found["state"])})
        _ = message.order
        return message


async def job_messages(session: AsyncSession, job_ids: Sequence[str]) -> list[JobMessage]:
    """How these jobs stand now, in the order of their ids; those there are."""
    found: list[JobMessage] = []
    connection = await session.connection()
    for start in range(0, len(job_ids), _BATCH):
        rows = await connection.execute(
            select(*_COLUMNS).where(jobs.c.id.in_(job_ids[start : start + _BATCH])).order_by(jobs.c.id)
        )
        found += [_message(row) for row in rows]
    return found


def _message(row: Any) -> JobMessage:
    state = JobState(row.state)
    failed = state in {JobState.FAILED, JobState.RETRYING}
    details = {
        "attempt": row.attempt,
        "delivery": row.delivery,
        "units_done": row.units_done,
        "units_total": row.units_total,
        "children_open": row.children_open,
        "retry_of": row.retry_of,
        "requested_by": row.requested_by,
        "next_attempt_at": _iso(row.run_after) if state is JobState.RETRYING else None,
        "cancel_requested_at": _iso(row.cancel_requested_at),
    }
    user_message = row.error_message if failed else None
    return JobMessage(
        type=_TYPES.get(state, JobMessageType.PROGRESS),
        job_id=row.id,
        task=row.task,
        queue=row.queue,
        parent_id=row.parent_id,
        timestamp=utc_now().isoformat(),
        state=state,
        progress=shown_progress(state, row.progress, row.units_done, row.units_total),
        stage=None if state in TERMINAL_STATES else row.stage,
        details=details,
        result=row.result if state is JobState.SUCCEEDED else None,
        error_category=row.error_category if failed else None,
        user_message=f"Retrying: {user_message}" if state is JobState.RETRYING else user_message,
        recovery_actions=list((row.error_details or {}).get("recovery_actions", [])) if failed else [],
    )


def shown_progress(state: str, progress: float, units_done: int, units_total: int) -> float:
    """0 to 1. A parent's own progress stands still while its parts count theirs."""
    if state in TERMINAL_STATES or not units_total:
        return progress
    return max(progress, min(1.0, units_done / units_total))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


class LibraryMessageType(StrEnum):
    TRACK_ADDED = "track_added"
    TRACK_UPDATED = "track_updated"
    TRACK_DELETED = "track_deleted"
    LIBRARY_OFFLINE = "library_offline"
    LIBRARY_ONLINE = "library_online"
    LIBRARY_ADDED = "library_added"
    LIBRARY_UPDATED = "library_updated"
    LIBRARY_REMOVED = "library_removed"


#: Past so many tracks a message tells how many, and no longer which.
MOST_TRACK_IDS = 100


@dataclass(slots=True, kw_only=True)
class LibraryMessage:
    """What became of a library or of tracks in it, gathered over a moment."""

    type: LibraryMessageType
    library_id: int
    #: Tracks concerned.
    count: int = 0
    #: Which ones; None when they are too many, or not known.
    track_ids: list[int] | None = None
    #: Why the library is offline.
    reason: str | None = None
    timestamp: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Messages with one key are told as one."""
        return self.type, self.library_id

    def add(self, other: LibraryMessage) -> None:
        """Take a later message with the same key into this one."""
        self.count += other.count
        self.reason, self.timestamp = other.reason, other.timestamp
        ids = None if self.track_ids is None or other.track_ids is None else self.track_ids + other.track_ids
        self.track_ids = ids if ids is None or len(ids) <= MOST_TRACK_IDS else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """Raises TypeError, KeyError or ValueError for what is no such message."""
        return cls(**{**found, "type": LibraryMessageType(found["type"])})


def tracks_message(
    kind: LibraryMessageType, library_id: int, count: int, track_ids: Iterable[int] | None = None
) -> LibraryMessage:
    """`track_ids` None: how many is known, which ones is not."""
    ids = None if track_ids is None else list(track_ids)
    return LibraryMessage(
        type=kind,
        library_id=library_id,
        count=count,
        track_ids=ids if ids is None or len(ids) <= MOST_TRACK_IDS else None,
        timestamp=utc_now().isoformat(),
    )


def encode_batch(messages: Sequence[JobMessage | LibraryMessage]) -> str:
    """Several messages as one on the channel that carries them all."""
    return json.dumps([message.as_json() for message in messages], separators=(",", ":"))


def decode_batch(text: str) -> list[JobMessage | LibraryMessage]:
    """What `encode_batch`, or one job's own channel, carries. What is no message is passed over."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    messages: list[JobMessage | LibraryMessage] = []
    for item in found if isinstance(found, list) else [found]:
        try:
            kind: type[JobMessage | LibraryMessage] = JobMessage if "job_id" in item else LibraryMessage
            messages.append(kind.from_json(item))
        except (TypeError, KeyError, ValueError):
            continue
    return messages


def job_channel(job_id: str) -> str:
    """Where one job's messages go."""
    return f"progress:{job_id}"


def all_channel(queue_name: str) -> str:
    """Where those of all jobs that are no other's part go, and those about libraries, in batches."""
    return f"mus:{queue_name}:events"
