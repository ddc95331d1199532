"""Copies of a SQLite database that others go on using, and a copy put back in its place. Blocking.

By SQLite's online backup interface, inside a read transaction of our own: a copy in steps begins anew whenever
another process commits in between (33 times in 2,000 steps beside one busy writer, and never came to an end), but
not while its connection holds a snapshot. Writers go on meanwhile, and the log grows by what they write. VACUUM
INTO would hold the same snapshot, costs more, and cannot tell how far it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mus
from mus.errors import AdminRequiredError
from mus.library.paths import shown
from mus.persistence.sqlite_upkeep import DamagedDatabaseError, SqliteUpkeep

#: What SQLite's header says a copy is for: `file` and other tools show it.
APPLICATION_ID = int.from_bytes(b"mus ", "big")
#: Copies that mus makes by itself are kept so many of a kind.
KEPT_COPIES = 3
#: Of one step: 4 MiB.
_PAGES = 1024
_TABLES = frozenset({"alembic_version", "libraries", "tracks", "jobs"})
#: How long to wait for others' write transactions.
_BUSY_SECONDS = 60.0
_FINDINGS = 10
#: What SQLite keeps beside a database.
SIDE_FILES = ("-wal", "-shm", "-journal")

#: Called with a stage, and how many of how many bytes are done.
Tell = Callable[[str, int, int], None]


def _untold(stage: str, done: int, total: int) -> None:
    """For nobody."""


class NotACopyError(Exception):
    """The file holds no database of mus."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a database file."""

    #: Revision of the schema.
    schema: str
    tracks: int
    jobs: int
    #: When it was copied, and by which mus; None for a database that is no copy.
    made_at: datetime | None
    version: str | None


def write_copy(database: Path, target: Path, *, tell: Tell = _untold, overwrite: bool = False) -> Contents:
    """Copy `database` as it is at this moment to `target` (mode 0600), checked and whole, or not at all.

    Written beside as `<target>.tmp` and renamed. Raises AdminRequiredError when the target is there already, or
    cannot be written, and when the database is damaged.
    """
    part = target.with_name(f"{target.name}.tmp")
    _require_free(target, overwrite=overwrite)
    with _writing(target), _own_file(part) as descriptor:
        try:
            _copy_pages(database, part, tell)
            # The copy says that it has a log, as the original does. It is a file by itself: no log, no lock file.
            os.pwrite(descriptor, b"\x01\x01", 18)
            with closing(_opened(part)) as copy:
                _stamp(copy)
                tell("checking", 0, 0)
                _check(copy)
                contents = _contents(copy)
            os.fsync(descriptor)
            _require_free(target, overwrite=overwrite)
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        sync_folder(target.parent)
    return contents


def keep_copy(database: Path, kind: str, *, tell: Tell = _untold) -> Path:
    """A copy that mus makes by itself, in `backups` beside the database; older ones of this kind go.

    Returns where it is. Raises AdminRequiredError as `write_copy` does.
    """
    folder = database.parent / "backups"
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = folder / f"{kind}-{now}.db"
    with _writing(target):
        folder.mkdir(mode=0o700, exist_ok=True)
    write_copy(database, target, tell=tell)
    for older in sorted(folder.glob(f"{kind}-*.db"))[:-KEPT_COPIES]:
        older.unlink(missing_ok=True)
    return target


def contents_of(file: Path) -> Contents:
    """Check a database file that nobody uses from end to end, and tell what is in it.

    Raises NotACopyError for anything that is no database of mus, and DamagedDatabaseError.
    """
    try:
        with closing(_opened(file)) as connection:
            # What it brings along as code (views, triggers) must not reach beyond it.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables >= _TABLES:
                raise NotACopyError("it has none of the tables of mus")
            _check(connection)
            return _contents(connection)
    except sqlite3.DatabaseError as error:
        # What is cut off in the middle opens, and is found out later.
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise NotACopyError("it is no SQLite database") from error
        raise DamagedDatabaseError([str(error)]) from error


def is_sound(database: Path) -> bool:
    """Whether a database that others may be using can be read from end to end.

    Raises AdminRequiredError when that cannot be told now.
    """
    try:
        with closing(_opened(database)) as connection:
            _check(connection)
    except DamagedDatabaseError:
        return False
    except sqlite3.DatabaseError as error:
        if not _tells_of_damage(error):
            raise AdminRequiredError(f"The database {database} cannot be read: {error}") from error
        return False
    return True


def highest_delivery(database: Path) -> int:
    """The highest number that a message about a job of this database has; 0 without any."""
    try:
        with closing(_opened(database)) as connection:
            return connection.execute("SELECT coalesce(max(delivery), 0) FROM jobs").fetchone()[0] or 0
    except sqlite3.OperationalError:
        return 0  # it has no such table: nothing was ever delivered


def unstamp(copy: Path) -> None:
    """Make a copy a database of its own again."""
    with _writing(copy), closing(_opened(copy)) as connection:
        connection.execute("DROP TABLE IF EXISTS backup_origin")
        connection.execute("PRAGMA application_id = 0")


def put_in_place(copy: Path, database: Path, *, tell: Tell) -> None:
    """Make `database` what `copy` is, in one transaction, while others go on using it.

    What they read at the moment they read to its end; after it they see the new contents. Dying at any moment
    leaves the old database or the new one. Raises AdminRequiredError when somebody keeps the database locked, or
    the disk is full.
    """

    def step(status: int, remaining: int, total: int) -> None:
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise AdminRequiredError("Another process keeps the database locked: try again")
        tell("restoring", (total - remaining) * page_bytes, total * page_bytes)

    with _writing(database), closing(_opened(copy)) as source, closing(_opened(database)) as target:
        page_bytes = source.execute("PRAGMA page_size").fetchone()[0]
        target.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        source.backup(target, pages=_PAGES, progress=step)
        # All of it went through the log, which nobody else would cut off for days.
        with closing(SqliteUpkeep(database)) as upkeep:
            upkeep.checkpoint()


def move_into_place(copy: Path, database: Path) -> None:
    """Where there is no database. A log that was left behind is another database's, and would be taken for ours."""
    with _writing(database):
        for suffix in SIDE_FILES:
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        with copy.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(copy, database)
        sync_folder(database.parent)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises AdminRequiredError when so much will not fit on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # whoever writes will say it
    if free < needed_bytes:
        raise AdminRequiredError(
            f"There is not enough space in {folder}: {in_mib(needed_bytes)} are needed, {in_mib(free)} are free",
            recovery_actions=("Free some disk space",),
        )


def in_mib(number_of_bytes: int) -> str:
    return f"{number_of_bytes / (1 << 20):,.1f} MiB"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no such thing
            raise
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------ in detail


def _opened(file: Path) -> sqlite3.Connection:
    """Autocommit; never makes a file that is not there."""
    return sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )


def _copy_pages(database: Path, part: Path, tell: Tell) -> None:
    with closing(_opened(database)) as source, closing(_opened(part)) as copy:
        page_bytes = source.execute("PRAGMA page_size").fetchone()[0]
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # takes the snapshot
        pages = source.execute("PRAGMA page_count").fetchone()[0]
        require_space(part.parent, pages * page_bytes)
        # Synced once, at the end; and a half copy is of no use.
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("PRAGMA journal_mode = OFF")
        source.backup(
            copy,
            pages=_PAGES,
            progress=lambda _, remaining, total: tell(
                "copying", (total - remaining) * page_bytes, total * page_bytes
            ),
        )
        source.execute("ROLLBACK")


def _stamp(copy: sqlite3.Connection) -> None:
    copy.execute("PRAGMA synchronous = OFF")
    copy.execute("PRAGMA journal_mode = MEMORY")
    copy.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    copy.execute("CREATE TABLE IF NOT EXISTS backup_origin (made_at TEXT NOT NULL, version TEXT NOT NULL)")
    copy.execute("DELETE FROM backup_origin")
    copy.execute("INSERT INTO backup_origin VALUES (?, ?)", (datetime.now(UTC).isoformat(), mus.__version__))


def _check(connection: sqlite3.Connection) -> None:
    rows = connection.execute(f"PRAGMA integrity_check({_FINDINGS})").fetchall()
    findings = [str(row[0]) for row in rows]
    if findings != ["ok"]:
        raise DamagedDatabaseError(findings)


def _contents(connection: sqlite3.Connection) -> Contents:
    def one(query: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = connection.execute(query).fetchone()
        return row

    schema = one("SELECT version_num FROM alembic_version")
    if schema is None:
        raise NotACopyError("it has no schema yet")
    is_copy = one("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'backup_origin'") is not None
    origin = one("SELECT made_at, version FROM backup_origin") if is_copy else None
    tracks, jobs = (one(f"SELECT count(*) FROM {table}") for table in ("tracks", "jobs"))  # noqa: S608 - constants
    assert tracks is not None
    assert jobs is not None
    return Contents(
        schema=_printable(schema[0]),
        tracks=tracks[0],
        jobs=jobs[0],
        made_at=_instant(origin[0]) if origin else None,
        version=_printable(origin[1]) if origin else None,
    )


def _printable(text: object) -> str:
    """Who knows where the file comes from: no control characters for whoever reads this on a terminal."""
    return shown(str(text)[:40].encode("utf-8", "replace"))


def _instant(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _require_free(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise AdminRequiredError(f"{target} is a folder: name a file")
    if not overwrite and os.path.lexists(target):
        raise AdminRequiredError(f"{target} is there already: name another file, or give --force")


@contextmanager
def _own_file(part: Path) -> Iterator[int]:
    """A file that this process alone writes; one that a killed process left is taken over."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AdminRequiredError(f"{part} is being written by another process") from None
        # Whoever held it before us may have given it its final name.
        if not os.path.lexists(part) or not os.path.samestat(os.fstat(descriptor), os.lstat(part)):
            raise AdminRequiredError(f"{part} was written by another process just now: try again")
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _tells_of_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Tell for people what went wrong with writing a file. Raises AdminRequiredError."""
    try:
        yield
    except DamagedDatabaseError as damage:
        raise AdminRequiredError(
            f"The database is damaged: {damage.findings[0]}", details={"findings": damage.findings}
        ) from damage
    except sqlite3.DatabaseError as error:
        if _tells_of_damage(error):
            raise AdminRequiredError(f"The database is damaged: {error}") from error
        raise AdminRequiredError(f"{target} cannot be written: {error}") from error
    except OSError as error:
        raise AdminRequiredError(f"{target} cannot be written: {error.strerror or error}") from error
