"""`mus migrate`, and which schema a database has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mus.cli.options import DataOption, read_settings

if TYPE_CHECKING:
    from mus.config import Settings
    from mus.persistence.database import Database


def migrate(
    data: DataOption = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long a PostgreSQL that does not answer is waited for."
        ),
    ] = 30,
) -> None:
    """Bring the database's schema up to date. The other commands do so by themselves.

    \b
    Example:
      mus migrate --data /srv/mus
    """
    settings = read_settings(data_dir=data)
    from mus.cli.event_loop import run
    from mus.persistence.database import SCHEMA_REVISION

    before = run(_migrate(settings, wait))
    if before == SCHEMA_REVISION:
        print(f"The schema is up to date: revision {before}")
    else:
        print(f"The schema was upgraded: revision {before or 'none'} to {SCHEMA_REVISION}")


async def _migrate(settings: Settings, wait_seconds: float) -> str | None:
    from mus.persistence.database import Database

    database = Database(settings.sqlalchemy_url)
    try:
        return await database.migrate(wait_seconds=wait_seconds)
    finally:
        await database.close()


async def schema_revision(database: Database) -> str | None:
    """The revision the database stands at; None when it has no tables yet, or is not there."""
    from pathlib import Path

    from sqlalchemy import inspect, text

    if database.is_sqlite and database.url.database and not Path(database.url.database).exists():
        return None
    async with database.reading() as session:
        connection = await session.connection()
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return None
        return (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
