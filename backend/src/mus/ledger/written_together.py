"""Starts and common ends of jobs: short conditional writes, those that are ready together in one transaction.

A process that is killed before the commit has started, or ended, none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mus.errors import TemporaryError
from mus.gathering import Gathering
from mus.persistence.database import Database
from mus.persistence.prepared import Transaction

logger = logging.getLogger(__name__)

#: What is done in a transaction; its result is what the condition found, and None is one, no error.
Write = Callable[[Transaction], Any]


class WrittenTogether:
    """Call it with a write, and await its result once that is committed. Raises what the write raises, or as
    `Database.transact` does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # PostgreSQL commits the transactions of many connections together by itself, and there a row that somebody
        # holds would keep all the others of its group.
        self._write: Callable[[Write], Awaitable[Any]] = (
            Gathering(self._together) if database.is_sqlite else database.transact
        )

    async def __call__(self, write: Write) -> Any:
        return await self._write(write)

    async def _together(self, writes: Sequence[Write]) -> list[Any]:
        try:
            return await self._database.transact(lambda transaction: [write(transaction) for write in writes])
        except TemporaryError:
            raise  # it is the database's, whoever asks
        except Exception as error:
            if len(writes) == 1:
                raise
            # One of them cannot be written, such as a result that is no JSON, and must not keep the others.
            logger.debug("%d writes are done one at a time: %r", len(writes), error)
            return [await self._alone(write) for write in writes]

    async def _alone(self, write: Write) -> Any:
        try:
            return await self._database.transact(write)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            return error
