"""The database of a data folder that is there: commands that only read or change rows make none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select

from mus.cli.options import is_text
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.errors import AdminRequiredError, NotFoundError
from mus.persistence.database import Database
from mus.persistence.models import Job


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncIterator[Database]:
    """Opened for the block, its schema up to date. Raises AdminRequiredError when there is none."""
    database = Database(settings.sqlalchemy_url)
    try:
        require_database(settings)
        await database.migrate()
        yield database
    finally:
        await database.close()


def require_database(settings: Settings) -> None:
    """Raises AdminRequiredError when the data folder holds no database."""
    url = settings.sqlalchemy_url
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise AdminRequiredError(
            f"The data folder {str(settings.data_dir)!r} holds no library yet: `mus up` or `mus scan` makes it"
        )


async def whole_id(database: Database, beginning: str) -> str:
    """The one job id that begins so. Raises NotFoundError, and WrongUsageError when several do."""
    if not beginning or not is_text(beginning):
        # Every id begins with nothing: that is no way to name one.
        raise NotFoundError(f"There is no job {beginning!r}")
    async with database.reading() as session:
        ids = (
            await session.scalars(select(Job.id).where(Job.id.startswith(beginning, autoescape=True)).limit(2))
        ).all()
    if not ids:
        raise NotFoundError(f"There is no job {beginning}")
    if len(ids) > 1:
        raise WrongUsageError(f"several jobs begin with {beginning}: give more of the id")
    return ids[0]
