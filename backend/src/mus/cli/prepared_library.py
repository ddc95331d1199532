"""The database and the library that the settings mean, made where they are not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mus.cli.given_settings import NO_MUSIC
from mus.cli.wrong_usage import WrongUsageError

if TYPE_CHECKING:
    from mus.config import Settings
    from mus.persistence.database import Database
    from mus.persistence.libraries import LocalLibrary


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
