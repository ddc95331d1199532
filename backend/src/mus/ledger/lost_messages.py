"""Rows that are due and have no message on the broker are published again.

How soon after a message is lost, with a look every R seconds (`Settings.reconcile_seconds`):

    never published, as the broker was down             at the next look
    at most 2,000 jobs of its queue wait                at the next look
    more wait, and many messages were lost at once      when a look comes upon the first: the rest in the same look
    more wait, and few were lost                        within R × (waiting jobs of the queue / 2,000 + 1)
    taken by a worker that died before it started it    at the look that follows its death
    its data is there, and it is on no queue            as above, once at most 200 messages are on that queue

Why not all of them at each look: a worker that goes through 20,000 rows and keys every five seconds spends a third
of a second of its one thread on it each time, and a job a person waits for stands behind that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, bindparam, or_, select, tuple_, update

from mus.errors import BrokerUnavailableError
from mus.ledger.deliveries import Delivery, Publisher, parse_delivery_id
from mus.ledger.job_rows import PAUSED, jobs, one_of, queues
from mus.ledger.job_states import STARTABLE_STATES
from mus.ledger.ledger import Ledger
from mus.metrics import DELIVERIES_REPUBLISHED, count
from mus.persistence.models import WorkerRow, utc_now
from mus.persistence.prepared import Prepared

logger = logging.getLogger(__name__)

#: A row committed this recently is still being published by whoever wrote it. One published further ahead than
#: this was written by a clock that ran ahead, and shall not have to wait until that time comes.
PUBLISH_GRACE = timedelta(seconds=1)
#: Rows of one query, one question to the broker and one write transaction.
PAGE = 500
#: Pages of one queue in one look, while nothing is found lost.
PAGES_A_LOOK = 4

_WAITING = and_(one_of(jobs.c.state, STARTABLE_STATES), jobs.c.cancel_requested_at.is_(None))
_QUEUES = Prepared(
    select(jobs.c.queue)
    .distinct()
    .where(
        one_of(jobs.c.state, STARTABLE_STATES),
        jobs.c.queue.not_in(select(queues.c.name).where(queues.c.paused_at.is_not(None))),
    )
)
_KEY = (jobs.c.id, jobs.c.attempt, jobs.c.delivery)
_DEAD = Prepared(select(WorkerRow.id, WorkerRow.queues).where(WorkerRow.state == "dead"))
_NEVER_PUBLISHED = Prepared(
    select(*_KEY).where(_WAITING, ~PAUSED, jobs.c.published_at.is_(None)).order_by(jobs.c.id).limit(PAGE)
)
_PUBLISHED = Prepared(
    select(*_KEY)
    .where(
        _WAITING,
        jobs.c.queue == bindparam("on"),
        jobs.c.id > bindparam("after"),
        or_(jobs.c.published_at < bindparam("before"), jobs.c.published_at > bindparam("ahead")),
    )
    .order_by(jobs.c.id)
    .limit(PAGE)
)


class LostMessages:
    """One worker's search for them. It goes round each queue's rows in the order of their ids, a few at a time."""

    def __init__(self, ledger: Ledger, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher
        #: The last id looked at on each queue. A queue that is not here is looked through from its begin to its
        #: end: when this worker is new, and when the queue was paused or empty at the last look.
        self._after: dict[str, str] = {}
        #: Dead workers that left nothing behind any more.
        self._buried: set[str] = set()

    async def publish_again(self) -> None:
        """Look once. A broker that is out of reach ends the look; the next one begins where it ended."""
        try:
            await self._publish_what_the_dead_took()
            await self._publish_never_published()
            waiting = [row.queue for row in await self._look(_QUEUES)]
            self._after = {queue: after for queue, after in self._after.items() if queue in waiting}
            for queue in waiting:
                await self._look_through(queue)
        except BrokerUnavailableError as error:
            logger.warning("jobs wait for the broker: %s", error)

    async def _publish_what_the_dead_took(self) -> None:
        """What a worker took from the broker and did not start before it died is there, but nobody's: the broker
        would give it to another after the idle time-out only."""
        dead = await self._look(_DEAD)
        self._buried.intersection_update(worker.id for worker in dead)
        for worker in dead:
            if worker.id not in self._buried:
                taken = await self._publisher.taken_by(worker.id, worker.queues)
                if taken:
                    await self._renew_and_publish([parse_delivery_id(delivery_id) for delivery_id in taken])
                self._buried.add(worker.id)

    async def _publish_never_published(self) -> None:
        while rows := await self._look(_NEVER_PUBLISHED):
            if not await self._renew_and_publish(rows):
                break

    async def _look_through(self, queue: str) -> None:
        pages = PAGES_A_LOOK if queue in self._after else None
        after = self._after.get(queue, "")
        before = utc_now() - PUBLISH_GRACE
        # Asked before the rows: what is published from here on is not among them.
        waiting = await self._publisher.waiting(queue)
        while pages is None or pages > 0:
            rows = await self._look(
                _PUBLISHED, on=queue, after=after, before=before, ahead=utc_now() + PUBLISH_GRACE
            )
            lost = await self._without_message(rows, waiting)
            if lost:
                await self._renew_and_publish(lost)
                pages = None  # who lost one may have lost them all
            elif pages is not None:
                pages -= 1
            after = rows[-1].id if len(rows) == PAGE else ""
            if not after:
                break
            await asyncio.sleep(0)
        self._after[queue] = after

    async def _look(self, statement: Prepared, **values: str | datetime) -> list[Any]:
        return await self._ledger.database.look(lambda look: look.all(statement, values))

    async def _without_message(self, rows: Sequence[Any], waiting: Container[str] | None) -> list[Any]:
        delivery_ids = [f"{row.id}.{row.attempt}.{row.delivery}" for row in rows]
        missing = await self._publisher.missing(delivery_ids)
        return [
            row
            for row, delivery_id in zip(rows, delivery_ids, strict=True)
            if delivery_id in missing or (waiting is not None and delivery_id not in waiting)
        ]

    async def _renew_and_publish(self, rows: Sequence[Any]) -> int:
        """Returns how many: a row that was moved on meanwhile is nobody's business any more."""
        # A new number first: if this process dies before the publish, the next look finds it missing again,
        # and a copy of the old message that still turns up is a repeat.
        mine = (
            select(jobs.c.id)
            .where(
                # By the primary key; the rest is the condition that nobody moved them on.
                jobs.c.id.in_([row[0] for row in rows]),
                tuple_(*_KEY).in_([tuple(row) for row in rows]),
                _WAITING,
            )
            .order_by(jobs.c.id)
            # Two workers that find the same ones (PostgreSQL): each row is one's or the other's.
            .with_for_update(skip_locked=True)
        )
        async with self._ledger.database.unit_of_work() as work:
            renewed = (
                await work.session.execute(
                    update(jobs)
                    .where(jobs.c.id.in_(mine.scalar_subquery()))
                    .values(delivery=jobs.c.delivery + 1, published_at=utc_now())
                    .returning(*_KEY, jobs.c.task, jobs.c.queue, jobs.c.run_after)
                )
            ).all()
        if renewed:
            logger.info("publishing %d jobs again whose messages were lost", len(renewed))
            # In the order in which they came.
            try:
                await self._publisher.publish([Delivery(*row) for row in sorted(renewed)])
            except BrokerUnavailableError:
                await self._note_unpublished(renewed)
                raise
            count(DELIVERIES_REPUBLISHED, amount=len(renewed))
        return len(renewed)

    async def _note_unpublished(self, rows: Sequence[Row[Any]]) -> None:
        """So that the first look after the outage finds them, however many others wait."""
        keys = [tuple(row[: len(_KEY)]) for row in rows]
        async with self._ledger.database.unit_of_work() as work:
            await work.session.execute(
                update(jobs)
                .where(jobs.c.id.in_([key[0] for key in keys]), tuple_(*_KEY).in_(keys), _WAITING)
                .values(published_at=None)
            )
