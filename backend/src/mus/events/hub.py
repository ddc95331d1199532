"""Hears what all processes tell, and hands it to those who watch.

    async with hub.watching(["01a2…"]) as watch:
        async for event in watch: ...        # how the job stands, what follows, its end

One connection to the broker serves all watchers of a process, and none while nobody watches. The rows are read at
the beginning, every few seconds, and whenever the broker was lost, so a message that got lost delays nothing for
long and changes no end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker_address import CLIENT_OPTIONS, CONNECT_SECONDS, lasting_options
from mus.errors import NotFoundError
from mus.events.messages import (
    JobMessage,
    LibraryMessage,
    all_channel,
    decode_batch,
    job_channel,
    job_messages,
)
from mus.events.watch import EventKind, Watch
from mus.ledger.deliveries import new_id
from mus.ledger.job_states import STARTABLE_STATES, JobState
from mus.persistence.database import Database
from mus.persistence.models import Job, utc_now

logger = logging.getLogger(__name__)

#: Between two looks at the rows, and while the broker is away.
_LOOK_SECONDS, _LOOK_WITHOUT_BROKER_SECONDS = 5.0, 1.0
#: Between two messages of a running job, whoever tells them, and of one kind about one library.
_EVERY_SECONDS = 0.4
#: Jobs that a snapshot shows: open ones, and those that ended lately.
MOST_OPEN, MOST_QUEUED, MOST_ENDED = 500, 200, 500
_LATELY = timedelta(minutes=1)
_OVERLAP = timedelta(seconds=10)
_REMEMBERED_JOBS = 10_000
_PAUSE_SECONDS, _SUBSCRIBE_SECONDS, _CLOSE_SECONDS = 0.5, 1.0, 2.0


class EventHub:
    """All watchers of a process."""

    def __init__(self, database: Database, broker_url: str, queue_name: str) -> None:
        self._database = database
        self._broker_url = broker_url
        self._all = all_channel(queue_name)
        self._watches: set[Watch] = set()
        #: The newest message of each job, the last heard of last: older ones are passed over.
        self._known: OrderedDict[str, JobMessage] = OrderedDict()
        self._untold_jobs: dict[str, JobMessage] = {}
        self._untold_library: dict[tuple[str, int], LibraryMessage] = {}
        #: Where this hub wakes its own listener.
        self._own = f"{self._all}:{new_id()}"
        #: While it is connected.
        self._redis: Redis | None = None
        #: Held by who sends by it. One that is closed while a connection is still being opened knows nothing of it,
        #: and nobody closes that.
        self._sending = asyncio.Lock()
        self._broker_is_away = False
        #: Channels that the broker has confirmed.
        self._live: set[str] = set()
        self._live_changed = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._closed = False

    @asynccontextmanager
    async def watching(
        self, job_ids: Iterable[str] | None = None, *, ended_since: datetime | None = None, again: bool = False
    ) -> AsyncIterator[Watch]:
        """Watch these jobs to their ends, or (None) all that are no other's part, and the libraries.

        The first event is how they stand (`reset` when the watcher comes `again`), with those that ended since
        `ended_since`, or within the last minute. Raises NotFoundError for a job that there is not.
        """
        watch = Watch(None if job_ids is None else frozenset(job_ids))
        self._watches.add(watch)
        try:
            self._start()
            # First listen, then look: what happens in between is heard.
            await self._listen_to(watch)
            await self._show(watch, EventKind.RESET if again else EventKind.SNAPSHOT, ended_since)
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches:
                await self._stop()
            elif watch.job_ids is not None:
                await self._wake_listener()

    async def aclose(self) -> None:
        """End every watch."""
        self._closed = True
        for watch in self._watches:
            watch.close()
        await self._stop()

    # ------------------------------------------------------------- snapshots

    async def _show(self, watch: Watch, kind: EventKind, ended_since: datetime | None = None) -> None:
        async with self._database.reading() as session:
            ids = (
                await _shown_jobs(session, ended_since or utc_now() - _LATELY)
                if watch.job_ids is None
                else sorted(watch.job_ids)
            )
            found = await job_messages(session, ids)
        if watch.job_ids is not None and (missing := watch.job_ids.difference(row.job_id for row in found)):
            raise NotFoundError(f"There is no job {min(missing)}")
        self._hear(found)
        # What was told to it while the rows were read is in `_known`, and may be newer than they are.
        jobs = dict.fromkeys([*(message.job_id for message in found), *watch.waiting_jobs])
        newest = {message.job_id: message for message in found} | {
            job_id: self._known[job_id] for job_id in jobs if job_id in self._known
        }
        watch.begin(kind, [newest[job_id] for job_id in jobs if job_id in newest])

    async def _show_all_again(self) -> None:
        for watch in list(self._watches):
            with suppress(NotFoundError, SQLAlchemyError):
                await self._show(watch, EventKind.RESET)

    # ---------------------------------------------------------------- telling

    def _hear(self, messages: Iterable[JobMessage]) -> None:
        """Take note of how jobs stand, and tell: their ends at once, all else every now and then."""
        ends: list[JobMessage] = []
        for message in messages:
            known = self._known.get(message.job_id)
            if known is not None and (known.is_last or message.order < known.order or _is_same(known, message)):
                continue
            self._known[message.job_id] = message
            self._known.move_to_end(message.job_id)
            if message.is_last:
                self._untold_jobs.pop(message.job_id, None)
                ends.append(message)
            else:
                self._untold_jobs[message.job_id] = message
        while len(self._known) > _REMEMBERED_JOBS:
            self._known.popitem(last=False)
        self._tell(ends)

    def _tell(self, messages: Sequence[JobMessage]) -> None:
        if messages:
            for watch in self._watches:
                watch.tell_jobs(messages)

    async def _tell_now_and_then(self) -> None:
        while True:
            jobs, self._untold_jobs = self._untold_jobs, {}
            self._tell(list(jobs.values()))
            library, self._untold_library = self._untold_library, {}
            for news in library.values():
                for watch in self._watches:
                    if watch.job_ids is None:
                        watch.tell_library(news)
            await asyncio.sleep(_EVERY_SECONDS)

    # ---------------------------------------------------------------- hearing

    def _start(self) -> None:
        if self._closed:
            raise RuntimeError("the hub is closed")
        if not self._loops:
            self._broker_is_away = False
            self._loops = [
                asyncio.create_task(self._listen(), name="mus-events"),
                asyncio.create_task(self._look_now_and_then(), name="mus-events-rows"),
                asyncio.create_task(self._tell_now_and_then(), name="mus-events-telling"),
            ]

    async def _stop(self) -> None:
        loops, self._loops = self._loops, []
        self._known.clear()
        self._untold_jobs.clear()
        self._untold_library.clear()
        # redis-py answers a cancel while it connects with an error of its own (seen on 8.1.0): once more, then. But
        # not while it closes what it has open.
        while pending := [task for task in loops if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=_CLOSE_SECONDS)

    async def _listen(self) -> None:
        """Only this task touches the subscription: redis-py's is not for two at once (seen on 8.1.0)."""
        lost = False
        while True:
            try:
                # No second try inside the client: a connection that was lost has lost messages too.
                async with (
                    Redis.from_url(
                        self._broker_url,
                        **CLIENT_OPTIONS,
                        **lasting_options(self._broker_url),
                        retry=Retry(NoBackoff(), 0),
                    ) as redis,
                    redis.pubsub() as pubsub,
                ):
                    await self._listen_on(redis, pubsub, anew=lost)
            except (RedisError, OSError) as error:
                logger.debug("listening for events was interrupted: %r", error)
            self._broker_is_away = lost = True
            self._live_changed.set()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen_on(self, redis: Redis, pubsub: PubSub, *, anew: bool) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await pubsub.subscribe(self._all, self._own, *self._wanted_channels())
            self._redis, self._broker_is_away = redis, False
            if anew:
                await self._show_all_again()
            async for message in pubsub.listen():
                await self._heard(pubsub, message)
        finally:
            # Before it is closed: what is sent on a closed client opens a connection that nobody closes.
            self._redis = None
            self._live.clear()
            async with self._sending:
                pass

    async def _heard(self, pubsub: PubSub, message: dict[str, Any]) -> None:
        kind, channel = message["type"], message["channel"]
        if kind == "message" and channel == self._own:
            wanted = self._wanted_channels()
            subscribed = self._live - {self._all, self._own}
            if new := wanted - subscribed:
                await pubsub.subscribe(*new)
            if old := subscribed - wanted:
                await pubsub.unsubscribe(*old)
        elif kind == "message":
            self._take(message["data"])
        elif kind == "subscribe":
            self._live.add(channel)
            self._live_changed.set()
        elif kind == "unsubscribe":
            self._live.discard(channel)

    def _wanted_channels(self) -> set[str]:
        return {job_channel(job_id) for watch in self._watches for job_id in watch.job_ids or ()}

    async def _listen_to(self, watch: Watch) -> None:
        """Return when what is told from now on is heard, or the broker turns out to be away."""
        needed = {self._all, *map(job_channel, watch.job_ids or ())}
        with suppress(TimeoutError):
            async with asyncio.timeout(_SUBSCRIBE_SECONDS):
                while not needed <= self._live and not self._broker_is_away:
                    self._live_changed.clear()
                    await self._wake_listener()
                    await self._live_changed.wait()

    async def _wake_listener(self) -> None:
        with suppress(RedisError, OSError):
            # Its turn included: while the broker stands still, many who leave at once wait together.
            async with asyncio.timeout(_SUBSCRIBE_SECONDS), self._sending:
                if self._redis is not None and self._own in self._live:
                    await self._redis.publish(self._own, "channels")

    def _take(self, text: str) -> None:
        messages = decode_batch(text)
        self._hear(message for message in messages if isinstance(message, JobMessage))
        for message in messages:
            if isinstance(message, LibraryMessage):
                noted = self._untold_library.setdefault(message.key, message)
                if noted is not message:
                    noted.add(message)

    async def _look_now_and_then(self) -> None:
        last, looked = utc_now(), time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_WITHOUT_BROKER_SECONDS)
            if not self._broker_is_away and time.monotonic() - looked < _LOOK_SECONDS:
                continue
            since, last, looked = last - _OVERLAP, utc_now(), time.monotonic()
            try:
                async with self._database.reading() as session:
                    ids = {job_id for watch in self._watches for job_id in watch.job_ids or ()}
                    ids.update(job_id for job_id, message in self._known.items() if not message.is_last)
                    if any(watch.job_ids is None for watch in self._watches):
                        ids.update(await _shown_jobs(session, since))
                    found = await job_messages(session, sorted(ids))
            except SQLAlchemyError as error:
                logger.debug("the rows of watched jobs could not be read: %r", error)
                continue
            self._hear(found)


def _is_same(one: JobMessage, other: JobMessage) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in JobMessage.__slots__ if name != "timestamp")


async def _shown_jobs(session: AsyncSession, ended_since: datetime) -> list[str]:
    """Ids of the jobs, no other's parts, that are open or have ended since then; the newest of each kind."""
    whole = Job.parent_id.is_(None)
    newest = Job.id.desc()
    at_work = (JobState.RUNNING, JobState.WAITING)
    queries = (
        select(Job.id).where(whole, Job.state.in_(at_work)).order_by(newest).limit(MOST_OPEN),
        select(Job.id).where(whole, Job.state.in_(STARTABLE_STATES)).order_by(newest).limit(MOST_QUEUED),
        select(Job.id)
        .where(whole, Job.finished_at >= ended_since)
        .order_by(Job.finished_at.desc())
        .limit(MOST_ENDED),
    )
    found: dict[str, None] = {}
    for query in queries:
        found.update(dict.fromkeys((await session.scalars(query)).all()))
    return sorted(found)
