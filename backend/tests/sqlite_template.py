"""SQLite databases that are migrated already: to copy one takes a hundredth of the time of making it."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import URL

from mus.persistence.database import Database


class SqliteTemplate:
    """A database that is migrated once, for copies."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def copy_to(self, url: URL) -> None:
        """Put a migrated database where `url` names a file that is not there yet."""
        assert url.database is not None
        if not self._file.exists():
            database = Database(f"sqlite+aiosqlite:///{self._file}")
            await database.migrate()
            await database.close()
            assert not self._file.with_name(f"{self._file.name}-wal").exists(), "not all of it is in the file"
        folder = Path(url.database).parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy(self._file, url.database)
