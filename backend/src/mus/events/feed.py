"""Tells what was committed, soon and never too often.

The ledger notes which jobs changed; ten times a second at most their rows are read together and told. A running job
is told of every 0.4 s, its end at once. So a scan of 100,000 files, whose chunks end many times a second, sends few
messages: those of parts go out only where somebody listens to that very part.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import islice

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from mus.events.messages import (
    JobMessage,
    LibraryMessage,
    LibraryMessageType,
    all_channel,
    encode_batch,
    job_channel,
    job_messages,
    tracks_message,
)
from mus.persistence.database import Database
from mus.persistence.models import utc_now

logger = logging.getLogger(__name__)

_GATHER_SECONDS, _LOOK_SECONDS = 0.02, 0.1
#: Between two messages of one running job.
_JOB_EVERY_SECONDS = 0.4
#: Between two messages of one kind about one library.
_LIBRARY_EVERY_SECONDS = 1.0
_CLOSE_SECONDS = 1.0
#: A broker that takes longer hears nothing of what changed just now.
_ANSWER_SECONDS = 5.0
#: Jobs that are told of together.
MOST_JOBS_AT_ONCE = 500
_REMEMBERED_JOBS = 10_000


class EventFeed:
    """One process's voice. What it cannot say is dropped: listeners read the rows anyway."""

    def __init__(self, database: Database, redis: Redis, queue_name: str) -> None:
        self._database = database
        self._redis = redis
        self._all = all_channel(queue_name)
        self._jobs: dict[str, None] = {}
        self._library: dict[tuple[str, int], LibraryMessage] = {}
        self._told_jobs: dict[str, float] = {}
        self._told_library = 0.0
        self._news = asyncio.Event()

    def jobs_changed(self, job_ids: Iterable[str]) -> None:
        self._jobs.update(dict.fromkeys(job_ids))
        self._news.set()

    def tracks_changed(
        self, kind: LibraryMessageType, library_id: int, count: int, track_ids: Iterable[int] | None = None
    ) -> None:
        """`count` tracks of a library were added, updated or deleted; which ones, where that is known."""
        if count:
            self._note(tracks_message(kind, library_id, count, track_ids))

    def library_changed(self, library_id: int, *, offline_reason: str | None) -> None:
        """A library went offline, for that reason, or came back."""
        online = offline_reason is None
        kind = LibraryMessageType.LIBRARY_ONLINE if online else LibraryMessageType.LIBRARY_OFFLINE
        self._note(
            LibraryMessage(type=kind, library_id=library_id, reason=offline_reason, timestamp=utc_now().isoformat())
        )

    def library_told(self, kind: LibraryMessageType, library_id: int) -> None:
        """A library was added, changed or removed."""
        self._note(LibraryMessage(type=kind, library_id=library_id, timestamp=utc_now().isoformat()))

    def _note(self, message: LibraryMessage) -> None:
        noted = self._library.setdefault(message.key, message)
        if noted is not message:
            noted.add(message)
        self._news.set()

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Tell for the block, and what is left at its end, if the broker takes it within a second."""
        closing = asyncio.Event()
        task = asyncio.create_task(self._run(closing), name="mus-feed")
        try:
            yield
        finally:
            closing.set()
            self._news.set()
            # Ended by a word rather than by a cancel alone: redis-py answers one of those with an error of its own
            # while it connects (seen on 8.1.0).
            await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)

    async def _run(self, closing: asyncio.Event) -> None:
        while not closing.is_set():
            await self._news.wait()
            if not closing.is_set():
                await asyncio.sleep(_GATHER_SECONDS)
            self._news.clear()
            await self._tell(time.monotonic())
            await _pause(closing, _LOOK_SECONDS - _GATHER_SECONDS)
            if self._jobs or self._library:
                self._news.set()
        self._told_jobs.clear()
        self._told_library = 0.0
        await self._tell(time.monotonic())

    async def _tell(self, now: float) -> None:
        # The others' turn comes: thousands at once would be one message of many megabytes.
        changed = list(islice(self._jobs, MOST_JOBS_AT_ONCE))
        for job_id in changed:
            del self._jobs[job_id]
        library = self._due_library(now)
        if not (changed or library):
            return
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                heard = await self._heard(changed)
            if self._all not in heard:
                # As a rule nobody watches: the rows of a thousand jobs a second need not be read for that.
                changed, library = [job_id for job_id in changed if job_channel(job_id) in heard], []
            messages: list[JobMessage] = []
            if changed:
                async with self._database.reading() as session:
                    messages = await job_messages(session, changed)
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._publish(self._due(messages, now), library, heard)
        except (RedisError, OSError, SQLAlchemyError) as error:
            logger.debug("events of %d jobs were not told: %r", len(changed), error)

    async def _heard(self, job_ids: list[str]) -> set[str]:
        """The channels somebody listens to: that of all, and these jobs' own. Who begins later begins with the
        rows as they stand by then."""
        listeners = await self._redis.pubsub_numsub(self._all, *map(job_channel, job_ids))
        return {str(channel) for channel, count in listeners if count}

    def _due(self, messages: list[JobMessage], now: float) -> list[JobMessage]:
        """Those that are to be told now; the others' turn comes."""
        due: list[JobMessage] = []
        for message in messages:
            if message.parent_id is not None:
                pass  # of a part, each change is told to those who listen to that very part
            elif message.is_last:
                self._told_jobs.pop(message.job_id, None)
            elif now - self._told_jobs.get(message.job_id, 0.0) < _JOB_EVERY_SECONDS:
                self._jobs[message.job_id] = None
                continue
            else:
                self._told_jobs[message.job_id] = now
            due.append(message)
        if len(self._told_jobs) > _REMEMBERED_JOBS:
            self._told_jobs.clear()
        return due

    def _due_library(self, now: float) -> list[LibraryMessage]:
        if not self._library or now - self._told_library < _LIBRARY_EVERY_SECONDS:
            return []
        self._told_library = now
        due, self._library = list(self._library.values()), {}
        return due

    async def _publish(self, due: list[JobMessage], library: list[LibraryMessage], heard: set[str]) -> None:
        whole = [message for message in due if message.parent_id is None] if self._all in heard else []
        async with self._redis.pipeline(transaction=False) as pipe:
            for message in due:
                if (channel := job_channel(message.job_id)) in heard:
                    pipe.publish(channel, json.dumps(message.as_json(), separators=(",", ":")))
            if whole or library:
                pipe.publish(self._all, encode_batch([*whole, *library]))
            await pipe.execute()


async def _pause(ended: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()
