"""The states of a job, and every way from one to another.

STATE_MACHINE.md draws this table and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"  # due, or waits for `run_after`; a message is or will be at the broker
    RUNNING = "running"  # a worker has it
    WAITING = "waiting"  # a parent whose children run: no worker, no slot
    RETRYING = "retrying"  # failed for now; waits for its next attempt
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for good; `error_category` says who can act
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
#: States from which a delivery may start the job.
STARTABLE_STATES = frozenset({JobState.QUEUED, JobState.RETRYING})


@dataclass(frozen=True, slots=True)
class JobTransition:
    """One row of the table: `source` None is a job that does not exist yet."""

    source: JobState | None
    event: str
    target: JobState
    set_by: str
    tells: str


_S = JobState
TRANSITIONS: tuple[JobTransition, ...] = (
    JobTransition(None, "enqueued", _S.QUEUED, "enqueue", "progress"),
    JobTransition(_S.QUEUED, "started", _S.RUNNING, "worker", "progress"),
    JobTransition(_S.QUEUED, "cancelled", _S.CANCELLED, "cancel", "cancelled"),
    JobTransition(_S.QUEUED, "held back by another like it", _S.QUEUED, "worker", "progress"),
    JobTransition(_S.QUEUED, "moved to another queue", _S.QUEUED, "move", "progress"),
    JobTransition(_S.RETRYING, "moved to another queue", _S.RETRYING, "move", "progress"),
    JobTransition(_S.RETRYING, "held back by another like it", _S.RETRYING, "worker", "progress"),
    JobTransition(_S.RETRYING, "started", _S.RUNNING, "worker", "progress"),
    JobTransition(_S.RETRYING, "cancelled", _S.CANCELLED, "cancel", "cancelled"),
    JobTransition(_S.RUNNING, "succeeded", _S.SUCCEEDED, "worker", "completed"),
    JobTransition(_S.RUNNING, "waits for its children", _S.WAITING, "worker", "progress"),
    JobTransition(_S.RUNNING, "failed or cancelled with children that run", _S.WAITING, "worker", "progress"),
    JobTransition(_S.RUNNING, "failed for now", _S.RETRYING, "worker", "progress"),
    JobTransition(_S.RUNNING, "failed for good", _S.FAILED, "worker", "error"),
    JobTransition(_S.RUNNING, "cancelled", _S.CANCELLED, "worker", "cancelled"),
    JobTransition(_S.RUNNING, "snoozed", _S.QUEUED, "worker", "progress"),
    JobTransition(_S.RUNNING, "handed back at shutdown", _S.QUEUED, "worker", "progress"),
    JobTransition(_S.RUNNING, "its worker died", _S.QUEUED, "reconcile", "progress"),
    JobTransition(_S.RUNNING, "its worker died once too often", _S.FAILED, "reconcile", "error"),
    JobTransition(_S.RUNNING, "its worker died after a cancel", _S.CANCELLED, "reconcile", "cancelled"),
    JobTransition(_S.WAITING, "last child ended", _S.SUCCEEDED, "the last child's finish", "completed"),
    JobTransition(_S.WAITING, "last child failed", _S.FAILED, "the last child's finish", "error"),
    JobTransition(
        _S.WAITING, "last child ended after a cancel", _S.CANCELLED, "the last child's finish", "cancelled"
    ),
)
