"""One watcher: what it has still to be told, and whether it keeps up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mus.events.messages import JobMessage, LibraryMessage

#: A watcher who is that many messages behind is dropped, not waited for. What comes at once counts only when more
#: comes: whoever reads keeps up with any burst.
MOST_WAITING = 500


class EventKind(StrEnum):
    SNAPSHOT = "snapshot"  # how everything stands: the first event
    RESET = "reset"  # the same once more: what was known before may be outdated
    JOB = "job"
    LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a watcher is told; `jobs` of a snapshot are all there are, of a `job` event those with news."""

    kind: EventKind
    jobs: tuple[JobMessage, ...] = ()
    library: LibraryMessage | None = None


class Watch:
    """What one watcher has still to be told. Iterating ends when its jobs have ended, or it is closed."""

    def __init__(self, job_ids: frozenset[str] | None) -> None:
        self.job_ids = job_ids
        #: Set when the watcher was too slow, or the process ends: no more will come.
        self.closed = asyncio.Event()
        self.was_too_slow = False
        self._open = set(job_ids or ())
        self._shown: dict[str, JobMessage] = {}
        self._events: deque[Event] = deque()
        self._waiting = 0
        self._ready = asyncio.Event()

    def _wants(self, message: JobMessage) -> bool:
        return message.parent_id is None if self.job_ids is None else message.job_id in self._open

    def begin(self, kind: EventKind, messages: Sequence[JobMessage]) -> None:
        """Put a snapshot in the place of everything that waits."""
        self._events.clear()
        self._waiting = 0
        self._put(Event(kind, tuple(messages)))
        self._shown = {message.job_id: message for message in messages}
        self._open.difference_update(message.job_id for message in messages if message.is_last)

    def tell_jobs(self, messages: Iterable[JobMessage]) -> None:
        """Tell of those that it watches, but for what stood in the snapshot."""
        news = [
            message
            for message in messages
            if self._wants(message) and self._shown.pop(message.job_id, None) is not message
        ]
        if news:
            self._put(Event(EventKind.JOB, tuple(news)))
            self._open.difference_update(message.job_id for message in news if message.is_last)

    def tell_library(self, message: LibraryMessage) -> None:
        self._put(Event(EventKind.LIBRARY, library=message))

    def _put(self, event: Event) -> None:
        if self._waiting >= MOST_WAITING:
            self.was_too_slow = True
            self.close()
            return
        self._events.append(event)
        self._waiting += max(1, len(event.jobs))
        self._ready.set()

    def close(self) -> None:
        self.closed.set()
        self._ready.set()

    @property
    def waiting_jobs(self) -> list[str]:
        """Jobs of the events that wait."""
        return [message.job_id for event in self._events for message in event.jobs]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self.was_too_slow:
                raise StopAsyncIteration
            if self._events:
                event = self._events.popleft()
                self._waiting -= max(1, len(event.jobs))
                return event
            if self.closed.is_set() or (self.job_ids is not None and not self._open):
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
