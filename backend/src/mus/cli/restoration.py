"""How `mus restore` works: all is prepared in a copy beside the database, which takes its place in one step."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

import mus
from mus.cli.migrate import schema_revision
from mus.config import Settings
from mus.errors import AdminRequiredError
from mus.ledger.restored_jobs import begin_anew
from mus.library.paths import shown
from mus.persistence import sqlite_copies
from mus.persistence.database import SCHEMA_REVISION, Database, is_known_schema, migration_lock
from mus.persistence.libraries import all_libraries, on_this_machine, refuse_overlap, renumber_track_changes
from mus.persistence.moved_library import adopt_files, point_at, renew_covers
from mus.persistence.sqlite_copies import Contents, NotACopyError, Tell
from mus.persistence.sqlite_upkeep import DamagedDatabaseError

#: Does a quick scan of every library.
_SCAN_TASK = "scheduled_scans"
#: Held by those who work on a data folder, as long as they do.
_OWNERS = ("up.lock", "broker/owner.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredLibrary:
    name: str
    #: Its folder on this machine, as text.
    music: str
    is_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done."""

    contents: Contents
    jobs_begun_anew: int
    libraries: tuple[RestoredLibrary, ...]
    #: Files taken for the ones that were read on another disk.
    files_adopted: int
    covers_to_make: int
    #: The database that was there before.
    kept: Path | None = None


async def require_known_schema(settings: Settings) -> None:
    """Raises AdminRequiredError for a database that a newer mus has written, that is empty, or cannot be read."""
    file = Path(settings.sqlalchemy_url.database or "")
    if await _schema_of(file) is None:
        raise AdminRequiredError(f"The database {file} is empty: there is nothing to back up")


async def restored(settings: Settings, file: Path, tell: Tell) -> Restored:
    """Put the database in `file` in the place of the one that the settings mean, which others may be using.

    Raises AdminRequiredError for a file that is no backup, is damaged, or comes from a newer mus, and for a disk
    that is full; nothing is changed then.
    """
    target = Path(settings.sqlalchemy_url.database or "")
    _refuse_file(file, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise AdminRequiredError(f"The data folder {target.parent} cannot be made: {error.strerror}") from error
    with migration_lock(str(target)) as lock:
        await lock
        with _copied(file, target, tell) as copy:
            contents = _checked(file, copy, tell)
            there = target.exists() and target.stat().st_size > 0
            if there and not sqlite_copies.is_sound(target):
                with _nobody_works(settings.data_dir, target):
                    done = await _prepared(settings, copy, contents, tell, above_delivery=0)
                    kept = _set_aside(target)
                    sqlite_copies.move_into_place(copy, target)
                return replace(done, kept=kept)
            schema = await _schema_of(target) if there else None
            above = sqlite_copies.highest_delivery(target) if there else 0
            done = await _prepared(settings, copy, contents, tell, above_delivery=above)
            if not there:
                sqlite_copies.move_into_place(copy, target)
                return done
            if schema is not None:
                done = replace(done, kept=sqlite_copies.keep_copy(target, "before-restore", tell=tell))
            sqlite_copies.put_in_place(copy, target, tell=tell)
            return done


async def _prepared(
    settings: Settings, copy: Path, contents: Contents, tell: Tell, *, above_delivery: int
) -> Restored:
    """Make the copy what is to be in the place of the database: nobody else uses it yet."""
    prepared = Database(URL.create("sqlite+aiosqlite", database=str(copy)))
    try:
        await prepared.migrate(keep_copy=False)
        if settings.music_dir is not None:
            await point_at(prepared, settings.music_dir, settings.roots)
        async with prepared.reading() as session:
            libraries = [on_this_machine(library, settings.roots) for library in await all_libraries(session)]
        refuse_overlap(libraries, settings.data_dir)
        tell("comparing with the disk", 0, 0)
        adopted = await adopt_files(prepared, settings.roots)
        covers = await renew_covers(prepared, settings.thumbnails_dir)
        await renumber_track_changes(prepared)
        begun = await begin_anew(prepared, above_delivery=above_delivery, due_task=_SCAN_TASK)
    finally:
        await prepared.close()
    sqlite_copies.unstamp(copy)
    return Restored(
        contents=contents,
        jobs_begun_anew=begun,
        libraries=tuple(
            RestoredLibrary(name=library.name, music=shown(library.root), is_there=os.path.isdir(library.root))
            for library in libraries
        ),
        files_adopted=adopted,
        covers_to_make=covers,
    )


def _refuse_file(file: Path, target: Path) -> None:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there" if not file.exists() else "is no file"
        raise AdminRequiredError(f"{file} {what}: name a file that `mus backup` wrote")
    if target.exists() and file.samefile(target):
        raise AdminRequiredError(f"{file} is the database itself")
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        raise AdminRequiredError(f"{file} is a database in use, not a backup: write one with `mus backup`")


@contextmanager
def _copied(file: Path, target: Path, tell: Tell) -> Iterator[Path]:
    """A copy of the file beside the database, gone at the end; so is what a process that was killed left."""
    copy = target.with_name(f"{target.name}.restoring")
    beside = [copy.with_name(copy.name + suffix) for suffix in ("", *sqlite_copies.SIDE_FILES, ".migrating")]

    def clean() -> None:
        for path in beside:
            path.unlink(missing_ok=True)

    try:
        clean()
        # This copy, the log that takes it up, and the copy of what is there.
        there = target.stat().st_size if target.exists() else 0
        sqlite_copies.require_space(target.parent, 2 * file.stat().st_size + there)
        tell("reading", 0, 0)
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(file, "rb") as source, open(descriptor, "wb") as written:
            shutil.copyfileobj(source, written, 1 << 20)
        yield copy
    except OSError as error:
        raise AdminRequiredError(f"{file} cannot be restored: {error.strerror or error}") from error
    finally:
        clean()


def _checked(file: Path, copy: Path, tell: Tell) -> Contents:
    tell("checking", 0, 0)
    try:
        contents = sqlite_copies.contents_of(copy)
    except NotACopyError as error:
        raise AdminRequiredError(f"{file} is no backup of mus: {error}") from None
    except DamagedDatabaseError as damage:
        raise AdminRequiredError(
            f"{file} is damaged, and nothing was changed: {shown(damage.findings[0].encode('utf-8', 'replace'))}",
            details={"findings": damage.findings},
        ) from None
    if not is_known_schema(contents.schema):
        raise AdminRequiredError(
            f"{file} was written by a newer mus ({contents.version or 'of unknown version'}, schema "
            f"{contents.schema}; mus {mus.__version__} knows those up to {SCHEMA_REVISION}): install that one first"
        )
    return contents


async def _schema_of(file: Path) -> str | None:
    """Raises AdminRequiredError where it is a newer mus's."""
    database = Database(URL.create("sqlite+aiosqlite", database=str(file)))
    try:
        revision = await schema_revision(database)
    except DBAPIError as error:
        raise AdminRequiredError(f"The database {file} cannot be used: {error.orig}") from error
    finally:
        await database.close()
    if revision is not None and not is_known_schema(revision):
        raise AdminRequiredError(
            f"The database was written by a newer version of mus: its schema is {revision}, and mus "
            f"{mus.__version__} knows those up to {SCHEMA_REVISION}"
        )
    return revision


# ------------------------------------------------------------------ a damaged database


@contextmanager
def _nobody_works(data_dir: Path, target: Path) -> Iterator[None]:
    """While it lasts no mus works on the data folder. Raises AdminRequiredError when one does.

    A damaged file cannot be written through SQLite; and to take it away under those who have it open would leave
    them writing where nobody reads.
    """
    with ExitStack() as stack:
        for name in _OWNERS:
            path = data_dir / name
            if not path.exists():
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AdminRequiredError(
                    f"The database {target} is damaged, and mus works on it: stop mus, and restore again"
                ) from None
        yield


def _set_aside(target: Path) -> Path:
    """Keep what is there of a damaged database, with its log."""
    folder = target.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    for suffix in ("-wal", ""):
        file = target.with_name(target.name + suffix)
        if file.exists():
            os.replace(file, kept.with_name(kept.name + suffix))
    return kept
