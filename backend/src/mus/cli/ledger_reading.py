"""The ledger opened for a command: to look only, or to act as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import select

from mus.broker.queues import Queue, queue_named
from mus.cli.options import WrongUsageError
from mus.config import Settings
from mus.errors import AdminRequiredError, BadRequestError, NotFoundError
from mus.persistence.database import Database
from mus.persistence.models import Job


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncIterator[Database]:
    """The database that is there. Raises AdminRequiredError when there is none: reading makes none."""
    database = Database(settings.sqlalchemy_url)
    try:
        check_exists(settings, database)
        await database.migrate()
        yield database
    finally:
        await database.close()


def check_exists(settings: Settings, database: Database) -> None:
    """Raises AdminRequiredError when the data folder holds no database."""
    if database.is_sqlite and database.url.database and not Path(database.url.database).exists():
        raise AdminRequiredError(
            f"The data folder {str(settings.data_dir)!r} holds no library yet: `mus up` or `mus scan` makes it"
        )


async def whole_id(database: Database, beginning: str) -> str:
    """The one job id that begins so. Raises NotFoundError, and WrongUsageError when several do."""
    async with database.reading() as session:
        ids = (
            await session.scalars(select(Job.id).where(Job.id.startswith(beginning, autoescape=True)).limit(2))
        ).all()
    if not ids:
        raise NotFoundError(f"There is no job {beginning}")
    if len(ids) > 1:
        raise WrongUsageError(f"several jobs begin with {beginning}: give more of the id")
    return ids[0]


def queue_of(name: str) -> Queue:
    """Raises WrongUsageError, with the names there are, for any other."""
    try:
        return queue_named(name)
    except BadRequestError as error:
        raise WrongUsageError(f"{error.user_message}: {', '.join(error.details['queues'])}") from None


# ------------------------------------------------------------ printing


def console() -> Console:
    """Into a pipe or a file: lines as long as they are, nothing cut."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=250)


def plain(value: Any) -> Any:
    """JSON-ready."""
    return value.isoformat() if isinstance(value, datetime) else value


def local(moment: str | None) -> str:
    """An instant as the clock on the wall shows it."""
    if moment is None:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """`0.3 s`, `12 s`, `3 min`, `5.2 h`, `4.0 d`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for longest, unit_seconds, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < longest:
            return f"{seconds / unit_seconds:.0f} {unit}"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"
