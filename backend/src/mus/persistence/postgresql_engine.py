"""The engine for PostgreSQL: connections that notice a server that went away, and text that it can hold.

All of it runs under READ COMMITTED, the default: every conditional update is checked again on the newest row by
the server itself. Sessions that only read see one snapshot (`Database.reading`).
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mus.broker_address import TCP_PROBES
from mus.json_text import decoded, encoded_text

#: Connections that a process keeps open, and those it may open beside them. A worker has one more, for its beats.
POOL_SIZE = 5
POOL_OVERFLOW = 5
POOL_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 10

#: What SQL states begin with after which another try may help: a lost connection, a transaction that was rolled
#: back in favour of others (deadlock, serialization), too few connections or too little disk, a lock that was not
#: to be had, a server that stops or starts.
_PASSING = ("08", "40", "53", "55P03", "57P", "25P03")
#: PostgreSQL's text holds no NUL, and UTF-8 no halves of surrogate pairs.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def postgresql_engine(url: URL, *, lock_timeout_seconds: float) -> AsyncEngine:
    """An engine whose statements wait that long for a row that others hold."""
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        json_serializer=encoded_text,
        json_deserializer=decoded,
        connect_args={
            "async_creator_fn": _connect,
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "server_settings": {
                "application_name": "mus",
                "lock_timeout": f"{lock_timeout_seconds * 1000:.0f}",
                # A worker that was frozen, or lost its network, in the middle of a transaction must not hold its
                # rows for the two hours that TCP takes to find out.
                "idle_in_transaction_session_timeout": f"{lock_timeout_seconds * 1000:.0f}",
                "tcp_keepalives_idle": "30",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
                # No query here runs for so long that compiling it pays.
                "jit": "off",
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "before_cursor_execute", _storable, retval=True)
    return engine


def is_passing(error: DBAPIError) -> bool:
    """Whether another try may help: the transaction was rolled back, or the server cannot be reached just now."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_PASSING)


async def _connect(**arguments: Any) -> asyncpg.Connection:
    try:
        connection = await asyncpg.connect(**arguments)
    except ssl.SSLError:
        raise
    except (OSError, TimeoutError) as error:
        # As an error of the driver, which SQLAlchemy translates: 08001.
        raise asyncpg.exceptions.ClientCannotConnectError(f"it cannot be reached: {error}") from error
    # The server's own probes do not tell this side. The driver has no option for it, nor another way to its socket.
    own = connection._transport.get_extra_info("socket")
    if own is not None and own.family != socket.AF_UNIX:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in TCP_PROBES.items():
            own.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    # A server that stopped has closed its connections, which the driver knows without asking: a ping at each
    # checkout (`pool_pre_ping`) is a transaction of its own, three round trips beside a job's four or so.
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _storable(
    _connection: Any,
    _cursor: Any,
    statement: str,
    parameters: Any,
    _context: Any,
    executemany: bool,  # noqa: FBT001
) -> tuple[str, Any]:
    """Replace what text cannot hold by U+FFFD: what is looked for with it is found nowhere, and no error."""
    # An insert of many rows in one statement has them in one tuple.
    if executemany and isinstance(parameters[0], tuple):
        return statement, [_row(row) for row in parameters]
    return statement, _row(parameters)


def _row(parameters: Any) -> Any:
    if not any(type(value) is str and _UNSTORABLE.search(value) for value in parameters):
        return parameters
    return tuple(_UNSTORABLE.sub("\ufffd", value) if type(value) is str else value for value in parameters)
