"""Messages on their way to the broker, in the order in which their transactions were committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import bindparam, update

from mus.errors import BrokerUnavailableError, TemporaryError
from mus.gathering import Gathering
from mus.ledger.deliveries import Delivery, Publisher
from mus.persistence.database import Database
from mus.persistence.models import Job
from mus.persistence.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: A job that comes alone goes out at once. Of many that come one by one a few go out together: a message by itself
#: takes as much of the process as its row does, and one of several a quarter of that.
_APART_SECONDS = 0.002


class OutgoingMessages:
    """Those of several transactions go out in one round trip, when the one before is over."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._publishing = Gathering[list[Delivery], None](self._publish, apart_seconds=_APART_SECONDS)

    def hand_over(self, work: UnitOfWork, delivery: Delivery) -> None:
        """Publish a delivery after the commit, together with the transaction's others."""
        if not work.outbox:
            work.after_commit(lambda: self._publish_soon(work.outbox))
        work.outbox.append(delivery)

    async def idle(self) -> None:
        """Wait until all that was committed is published, or known not to be."""
        await self._publishing.idle()

    async def _publish_soon(self, deliveries: list[Delivery]) -> None:
        published = self._publishing(deliveries)
        # A single one does not keep its caller from the next. Who enqueues many goes no faster than the broker.
        if len(deliveries) > 1:
            # What is committed goes out though its caller is cancelled: else it waited for reconcile.
            await asyncio.shield(published)

    async def _publish(self, groups: Sequence[list[Delivery]]) -> list[None]:
        deliveries = [delivery for group in groups for delivery in group]
        try:
            await self._publisher.publish(deliveries)
        except BrokerUnavailableError as error:
            # The rows stand; reconcile publishes them once the broker answers.
            logger.warning("%d jobs wait for the broker: %s", len(deliveries), error)
            await self._note_unpublished(deliveries)
        return [None] * len(groups)

    async def _note_unpublished(self, deliveries: list[Delivery]) -> None:
        try:
            async with self._database.unit_of_work() as work:
                connection = await work.session.connection()
                await connection.execute(
                    update(Job)
                    .where(Job.id == bindparam("b_id"), Job.delivery == bindparam("b_delivery"))
                    .values(published_at=None),
                    [{"b_id": delivery.job_id, "b_delivery": delivery.number} for delivery in deliveries],
                )
        except TemporaryError as error:
            logger.warning("that they wait could not be noted, reconcile will see it: %s", error)
