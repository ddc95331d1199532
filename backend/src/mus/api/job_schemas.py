"""Jobs, scans, queues, workers and schedules as they go over the wire. Times are in UTC."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mus.broker.queues import Queue
from mus.errors import ErrorCategory
from mus.ledger.job_states import JobState


class JobAccepted(BaseModel):
    """A job that was enqueued, or one like it that waits already."""

    job_id: str
    state: JobState


class ScanAccepted(JobAccepted):
    job_ids: list[str] = Field(description="One for each library; `job_id` is the first")


class ErrorsRetried(BaseModel):
    count: int = Field(description="Files that are tried again")
    job_ids: list[str]


class JobError(BaseModel):
    category: ErrorCategory
    message: str


class JobItem(BaseModel):
    id: str
    task: str
    queue: str
    state: JobState
    attempt: int = Field(description="Automatic attempts so far; those of retries by hand are `retry_number`")
    max_attempts: int
    progress: float = Field(description="0 to 1")
    stage: str | None
    units_done: int
    units_total: int
    error: JobError | None
    parent: str | None
    children_open: int
    retry_of: str | None = Field(description="The failed job that a person had run again as this one")
    retry_number: int
    requested_by: str | None
    run_after: datetime | None
    next_attempt_at: datetime | None = Field(description="Of a job that is retrying")
    cancel_requested_at: datetime | None
    created_at: datetime
    published_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cleared_at: datetime | None = Field(description="When this failure was cleared off the lists")


class JobDetail(JobItem):
    arguments: dict[str, Any]
    result: dict[str, Any] | None
    error_details: dict[str, Any] | None = Field(description="Technical, for whoever runs mus")
    retried_as: str | None = Field(description="The latest retry by hand of this job")
    delivery: int
    worker: str | None


class QueueName(BaseModel):
    """Where a job is to wait."""

    model_config = ConfigDict(extra="forbid")

    queue: Queue


class FailureItem(BaseModel):
    """Failed jobs of one queue and task, for one reason."""

    queue: str
    task: str
    category: ErrorCategory | None
    reason: str | None = Field(description="The message, with … where it differs from job to job")
    count: int
    first_at: datetime | None
    last_at: datetime | None
    last_job: JobItem = Field(description="The newest of them")


class FailuresCleared(BaseModel):
    queue: str
    count: int = Field(description="Failed jobs that are on the lists no more")


class JobEventItem(BaseModel):
    at: datetime
    event: str
    attempt: int
    details: dict[str, Any] | None


class ScanMode(StrEnum):
    QUICK = "quick"  # reads files that seem changed
    FULL = "full"  # reads every file


class ScanRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    library: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Name or id; all libraries without one"
    )
    path: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="A folder inside the library, as paths of tracks are shown"
    )
    album: Annotated[str, Field(max_length=4096)] | None = None
    artist: Annotated[str, Field(max_length=4096)] | None = None
    mode: ScanMode = ScanMode.QUICK
    confirm_missing: bool = Field(
        default=False, description="The files that are gone at once are really gone: do not guard against it"
    )


class ScanItem(BaseModel):
    """A scan; the counts are null until it has ended."""

    job_id: str
    state: JobState
    requested_by: str | None
    library: str | None = Field(description="Null for a library that is gone")
    path: str
    mode: ScanMode | None = Field(description="Null for one that only another version of mus knows")
    confirm_missing: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None = Field(description="From the request to the end")
    progress: float
    stage: str | None
    found: int | None
    added: int | None
    updated: int | None
    moved: int | None
    missing: int | None
    unchanged: int | None
    skipped: int | None
    failed: int | None
    skipped_reasons: dict[str, int] | None
    error: JobError | None


class QueueItem(BaseModel):
    name: str
    depth: int = Field(description="Jobs that wait for a worker, for their time or for their next attempt")
    running: int
    waiting: int = Field(description="Jobs that wait for their parts; they hold no slot")
    oldest_wait: float | None = Field(description="Seconds; null when no job is due")
    rate: float = Field(description="Jobs ended per minute, over the last five minutes")
    failed: int = Field(description="Failed jobs that nobody cleared off the lists")
    paused: bool
    paused_at: datetime | None
    paused_by: str | None


class QueueHistoryItem(BaseModel):
    """What a queue did: one number for each step, the oldest first."""

    name: str
    started: list[int] = Field(description="Jobs whose last attempt was started then")
    succeeded: list[int]
    failed: list[int]
    cancelled: list[int]
    wait_median: list[float | None] = Field(
        description="Seconds from when a job was due to its start, of those that were started then; null for none"
    )
    wait_p95: list[float | None]


class QueuesHistory(BaseModel):
    """What the queues did, for charts."""

    first: datetime = Field(description="When the first step began")
    step_seconds: int
    steps: int
    queues: list[QueueHistoryItem]


class WorkerItem(BaseModel):
    id: str
    host: str
    pid: int
    queues: list[str]
    state: str = Field(description="`alive`, `dead` (taken for dead) or `stopped` (left in good order)")
    alive: bool = Field(description="Taken for alive, and heard of lately")
    last_beat_at: datetime
    last_beat_age: float = Field(description="Seconds")
    started_at: datetime
    running_jobs: int


# ------------------------------------------------------------------------------------------------- schedules


class ScheduleJob(BaseModel):
    id: str
    state: JobState


class ScheduleItem(BaseModel):
    name: str
    description: str
    task: str
    queue: str
    crontab: str = Field(description="Five fields, in UTC")
    default_crontab: str
    arguments: dict[str, Any] = Field(description="What its job is given")
    enabled: bool
    edited: bool = Field(description="A person changed it: defaults and settings do not reach it")
    next_due: datetime | None = Field(description="Null when it is disabled")
    last_fired_at: datetime | None = Field(description="When its job was last enqueued, by time or on request")
    last_job: ScheduleJob | None = Field(description="Null before the first, and once retention has forgotten it")


class ScheduleEdit(BaseModel):
    """What is left out, or null, stays as it is."""

    model_config = ConfigDict(extra="forbid")

    crontab: Annotated[str, Field(max_length=100)] | None = Field(
        default=None,
        description="Five fields, in UTC: minute, hour, day of the month, month, weekday. A time must fit them all",
    )
    enabled: bool | None = None
    arguments: dict[str, Any] | None = Field(
        default=None, description="Those named here; they must fit the task, as `days` above 0"
    )
