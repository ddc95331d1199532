"""The database of a data folder that is there: commands that only read or change rows make none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mus.config import Settings
from mus.errors import AdminRequiredError
from mus.persistence.database import Database


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncIterator[Database]:
    """Opened for the block, its schema up to date. Raises AdminRequiredError when there is none."""
    database = Database(settings.sqlalchemy_url)
    try:
        if database.is_sqlite and database.url.database and not Path(database.url.database).exists():
            raise AdminRequiredError(
                f"The data folder {str(settings.data_dir)!r} holds no library yet: `mus up` or `mus scan` makes it"
            )
        await database.migrate()
        yield database
    finally:
        await database.close()
