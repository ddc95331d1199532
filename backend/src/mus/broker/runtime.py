"""What every process of mus opens first: the database, migrated, and the way to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from mus.broker.admin_alert import alert_for
from mus.broker.embedded_server import embedded_server
from mus.broker.metrics_hash import flushed
from mus.broker.streaq_broker import Connection, broker
from mus.config import Settings
from mus.errors import BrokerUnavailableError
from mus.persistence.database import Database


@dataclass(frozen=True, slots=True)
class Runtime:
    """The open parts of this process."""

    settings: Settings
    database: Database
    connection: Connection


@asynccontextmanager
async def opened(settings: Settings, *, wait_for_broker_seconds: float = 30.0) -> AsyncIterator[Runtime]:
    """Open database and broker for the block; the embedded Valkey where no broker is configured.

    Raises AdminRequiredError or ConfigurationError when the data folder or the database cannot be used. A
    configured broker that is down is no error: jobs wait in their rows until it answers.
    """
    database = Database(settings.sqlalchemy_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.migrate()
        url = settings.dragonfly_url
        if url is None:
            server = await stack.enter_async_context(embedded_server(settings.data_dir))
            url = server.url
            try:
                await server.ready(wait_for_broker_seconds)
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(f"The embedded broker did not start: {error.user_message}") from error
        connection = await stack.enter_async_context(
            broker.connected(database, url, settings.queue_name, alert=alert_for(settings))
        )
        await stack.enter_async_context(flushed(connection))
        yield Runtime(settings, database, connection)
