"""`mus migrate`, and what `mus up` prepares before its parts start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mus.cli.options import NO_MUSIC, DataOption, read_settings
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.config import Settings
    from mus.persistence.database import Database
    from mus.persistence.libraries import LocalLibrary


def migrate(data: DataOption = None) -> None:
    """Bring the database's schema up to date. The other commands do so by themselves.

    \b
    Example:
      mus migrate --data /srv/mus
    """
    settings = read_settings(data_dir=data)
    from mus.cli.event_loop import run
    from mus.persistence.database import SCHEMA_REVISION

    before = run(_migrate(settings))
    if before == SCHEMA_REVISION:
        print(f"The schema is up to date: revision {before}")
    else:
        print(f"The schema was upgraded: revision {before or 'none'} to {SCHEMA_REVISION}")


async def _migrate(settings: Settings) -> str | None:
    from mus.persistence.database import Database

    database = Database(settings.sqlalchemy_url)
    try:
        return await database.migrate()
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


async def prepared(settings: Settings) -> dict[str, Any]:
    """Migrate, and make the library's row. Returns the `root` of each, and whether it was `scanned` ever."""
    from mus.library.paths import shown
    from mus.persistence.database import Database
    from mus.persistence.libraries import all_libraries, on_this_machine

    database = Database(settings.sqlalchemy_url)
    try:
        await database.migrate()
        library = await library_of(database, settings)
        async with database.reading() as session:
            others = [other for other in await all_libraries(session) if other.id != library.id]
        roots = [library.root, *(on_this_machine(other, settings.roots).root for other in others)]
        # The device is noted by every scan that succeeds.
        return {"root": ", ".join(map(shown, roots)), "scanned": library.device is not None}
    finally:
        await database.close()


async def library_of(database: Database, settings: Settings) -> LocalLibrary:
    """The library that the settings mean, else the oldest; its row is made if need be.

    Raises WrongUsageError when none is named.
    """
    from mus.persistence.libraries import all_libraries, ensure_library, on_this_machine, refuse_overlap

    if settings.music_dir is not None:
        library = await ensure_library(database, settings.music_dir, settings.roots)
    else:
        async with database.reading() as session:
            libraries = await all_libraries(session)
        if not libraries:
            raise WrongUsageError(NO_MUSIC)
        library = on_this_machine(libraries[0], settings.roots)
    refuse_overlap([library], settings.data_dir)
    return library
