"""What people do with libraries: see, add, change and remove them, over HTTP and on the command line alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.config import Settings
from mus.errors import BadRequestError, ConfigurationError, ConflictError
from mus.jobs.library_jobs import FOLLOW_TASK, REMOVE_TASK, cancel_jobs_of
from mus.jobs.scan_requests import scan_job
from mus.jobs.schedules import OFF, ScheduleFieldError, checked_crontab, own_scan_crontabs, set_own_scan
from mus.jobs.telling import tell_library_change
from mus.ledger.lease import WATCHER, lease_row
from mus.library.paths import shown, unescaped
from mus.library.states import LIVE_STATES
from mus.persistence.database import Database
from mus.persistence.libraries import (
    LocalLibrary,
    all_libraries,
    hold_libraries,
    library_named,
    on_this_machine,
    overlapping,
    refuse_overlap,
)
from mus.persistence.models import Job, Library, Track, TrashEntry, utc_now
from mus.persistence.moved_library import has_its_files, move_root

WatchSetting = Literal["auto", "events", "polling", "off"]
LONGEST_NAME = 100
MOST_GUARDED = 2**31 - 1


class LibraryChange(TypedDict, total=False):
    """What a person wants; what is not named stays. None is what the settings, or the common schedule, say."""

    name: str
    #: A folder on this machine, or a root as the database has it: as text, escaped where it is no UTF-8.
    root: str
    watch: WatchSetting
    #: Five fields in UTC, or `off`.
    scan_crontab: str | None
    guard_min_tracks: int | None
    guard_fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLibrary:
    """A library as the API and the command line show it; see `LibraryChange` for what people set."""

    id: int
    name: str
    root: str
    #: Whose files are believed to be in their places.
    tracks: int
    online: bool
    offline_reason: str | None
    watch: str
    #: `events`, `polling` or `off` as it is now, and why; None where nothing watches.
    watch_mode: str | None
    watch_reason: str | None
    scan_crontab: str | None
    guard_min_tracks: int | None
    guard_fraction: float | None
    removing: bool


class LibraryFieldError(BadRequestError):
    """A value that cannot be: `field` names which."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


async def shown_libraries(session: AsyncSession, settings: Settings) -> list[ShownLibrary]:
    """All of them, the oldest first."""
    libraries = await all_libraries(session)
    crontabs = await own_scan_crontabs(session)
    counts = await session.execute(
        select(Track.library_id, func.count()).where(Track.status.in_(LIVE_STATES)).group_by(Track.library_id)
    )
    tracks: dict[int, int] = dict(counts.all())
    is_watched = await is_watcher_alive(session, settings)
    return [
        ShownLibrary(
            id=library.id,
            name=library.name,
            root=shown(library.root),
            tracks=tracks.get(library.id, 0),
            online=library.online,
            offline_reason=library.offline_reason,
            watch=library.watch,
            watch_mode=library.watch_mode if is_watched else None,
            watch_reason=library.watch_reason if is_watched else None,
            scan_crontab=crontabs.get(library.id),
            guard_min_tracks=library.guard_min_tracks,
            guard_fraction=library.guard_fraction,
            removing=library.removing_since is not None,
        )
        for library in libraries
    ]


async def is_watcher_alive(session: AsyncSession, settings: Settings) -> bool:
    """Whether somebody watches, so that what the rows say of it holds."""
    lease = await lease_row(session, WATCHER)
    return lease is not None and (utc_now() - lease.beat_at).total_seconds() < settings.dead_after_seconds


async def shown_library(session: AsyncSession, settings: Settings, name_or_id: str) -> ShownLibrary:
    """Raises NotFoundError."""
    wanted = (await library_named(session, name_or_id)).id
    return next(library for library in await shown_libraries(session, settings) if library.id == wanted)


async def add_library(
    database: Database, settings: Settings, change: LibraryChange, *, requested_by: str
) -> tuple[int, str]:
    """Add one, and ask for its first scan; returns its id and the scan's. `change` names it and its root.

    Raises LibraryFieldError for what cannot be, and ConflictError for a name or a folder that another has.
    """
    values = _checked(change)
    folder = await asyncio.to_thread(_folder, change["root"], settings)
    while True:
        seen = await _others(database, settings, besides=None)
        await asyncio.to_thread(_check_apart, folder, seen, settings)
        async with database.unit_of_work() as work:
            await hold_libraries(work.session)
            now = await all_libraries(work.session)
            if _places(now) != _stored_places(seen):
                continue  # another one came meanwhile: look at the folders again
            _check_name_is_free(values["name"], now)
            library = Library(id=await _new_id(work.session), root=settings.roots.stored(folder), **values)
            work.session.add(library)
            await work.session.flush()
            await _set_scan(work.session, library.id, change, settings)
            (scan,) = await broker.enqueue_many([scan_job(library.id, requested_by=requested_by)])
            tell_library_change(work, library.id, added=True)
            return library.id, scan


async def change_library(
    database: Database, settings: Settings, name_or_id: str, change: LibraryChange, *, requested_by: str
) -> int:
    """Do as the person wants; returns its id. In another folder its tracks keep their ids, and a scan is asked for.

    Raises NotFoundError, LibraryFieldError for what cannot be, and ConflictError for a name or a folder that
    another has, a folder without its files, and a library that is on its way out.
    """
    values = _checked(change)
    async with database.reading() as session:
        before = await library_named(session, name_or_id)
    library_id = before.id
    folder = await asyncio.to_thread(_folder, change["root"], settings) if "root" in change else None
    if folder is not None and settings.roots.stored(folder) == before.root:
        folder = None
    while True:
        seen = await _others(database, settings, besides=library_id)
        if folder is not None:
            await asyncio.to_thread(_check_apart, folder, seen, settings)
            await _check_has_files(database, library_id, folder)
        async with database.unit_of_work() as work:
            await hold_libraries(work.session)
            now = await all_libraries(work.session)
            library = await work.session.get(Library, library_id)
            if library is None or library.removing_since is not None:
                raise ConflictError(f"The library {before.name} is being removed")
            others = [other for other in now if other.id != library_id]
            if folder is not None and _places(others) != _stored_places(seen):
                continue
            if "name" in values:
                _check_name_is_free(values["name"], others)
            if folder is not None:
                await _check_trash_rests(work.session, library)
                await cancel_jobs_of(broker.ledger, work, library.id)
            for field, value in values.items():
                setattr(library, field, value)
            await _set_scan(work.session, library.id, change, settings)
            if folder is not None:
                await move_root(work.session, library, settings.roots.stored(folder))
                options = Options(exclusive_key=f"library:{library.id}", requested_by=requested_by)
                await broker.enqueue(Queue.HIGH, FOLLOW_TASK, options, library_id=library.id)
            tell_library_change(work, library.id)
            return library.id


async def request_removal(
    database: Database, settings: Settings, name_or_id: str, *, force: bool, requested_by: str
) -> str:
    """Stop all that happens to a library and enqueue the job that forgets it; returns the job's id.

    Raises NotFoundError; and ConflictError, unless `force`, while files lie in its trash, which nobody could
    restore afterwards, and for the one that MUS_MUSIC_DIR names, which the next start would make again.
    """
    async with database.unit_of_work() as work:
        await hold_libraries(work.session)
        library = await library_named(work.session, name_or_id)
        if not force:
            await _check_trash_is_empty(work.session, library)
            _check_is_not_set(library, settings)
        if library.removing_since is None:
            await cancel_jobs_of(broker.ledger, work, library.id)
            library.removing_since = utc_now()
            tell_library_change(work, library.id)
        key = f"remove-library:{library.id}"
        return await broker.enqueue(
            Queue.HIGH,
            REMOVE_TASK,
            Options(dedupe_key=key, exclusive_key=f"library:{library.id}", requested_by=requested_by),
            library_id=library.id,
        )


async def _new_id(session: AsyncSession) -> int | None:
    """One that no library ever had, so that no job about a removed one concerns this; None is the database's own.

    SQLite gives the highest id anew once its row is gone, and the table was made so.
    """
    if session.get_bind().dialect.name != "sqlite":
        return None
    highest = [
        await session.scalar(select(func.max(Library.id))),
        await session.scalar(select(func.max(Job.arguments["library_id"].as_integer()))),
    ]
    return max(number or 0 for number in highest) + 1


# ------------------------------------------------------------ what cannot be


def _checked(change: LibraryChange) -> dict[str, Any]:
    """The columns to be written. Raises LibraryFieldError."""
    values: dict[str, Any] = {
        field: change[field] for field in ("watch", "guard_min_tracks", "guard_fraction") if field in change
    }
    if "name" in change:
        values["name"] = _checked_name(change["name"])
    if values.get("watch", "auto") not in get_args(WatchSetting):
        raise LibraryFieldError("watch", f"It is one of {', '.join(get_args(WatchSetting))}")
    least, part = values.get("guard_min_tracks"), values.get("guard_fraction")
    if least is not None and not 1 <= least <= MOST_GUARDED:
        raise LibraryFieldError("guard_min_tracks", "It is a number above 0")
    if part is not None and not 0 < part <= 1:
        raise LibraryFieldError("guard_fraction", "It is above 0, and at most 1")
    return values


def _checked_name(given: str) -> str:
    name = given.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise LibraryFieldError("name", f"It has between 1 and {LONGEST_NAME} characters")
    if not name.isprintable() or "/" in name or name in {".", ".."}:
        raise LibraryFieldError("name", "It has no slash and no control characters: it stands in addresses")
    if name.isdecimal():
        raise LibraryFieldError("name", "It is not all digits: that would be another library's id")
    return name


def _check_name_is_free(name: str, others: Sequence[Library]) -> None:
    for other in others:
        if other.name.casefold() == name.casefold():
            raise ConflictError(f"There is a library {other.name} already", details={"library": other.name})


def _folder(text: str, settings: Settings) -> bytes:
    """The folder on this machine that `text` names. Raises LibraryFieldError. Blocking."""
    try:
        # As shown, a name that is not UTF-8 has its bytes percent-escaped; but `%41` may be a real name as well.
        candidates = dict.fromkeys((text.encode("utf-8", "surrogateescape"), unescaped(text)))
    except UnicodeEncodeError:
        raise LibraryFieldError("root", "It is no path") from None
    reason = "It is no folder on this machine"
    for candidate in candidates:
        if not os.path.isabs(candidate) or b"\0" in candidate:
            raise LibraryFieldError("root", "It is an absolute path, as /srv/music")
        here = settings.roots.here(os.path.normpath(candidate))
        try:
            with os.scandir(here) as entries:
                next(entries, None)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason = f"It cannot be read: {error.strerror}"
            continue
        return here
    raise LibraryFieldError("root", reason)


def _check_apart(folder: bytes, others: Sequence[LocalLibrary], settings: Settings) -> None:
    """Blocking."""
    stored = settings.roots.stored(folder)
    this = LocalLibrary(id=0, name="", root=folder, stored_root=stored, device=None, online=True)
    try:
        refuse_overlap([this], settings.data_dir)
    except ConfigurationError as error:
        raise LibraryFieldError("root", error.user_message) from None
    other = overlapping(folder, others)
    if other is not None:
        raise ConflictError(
            f"{shown(folder)} and the folder of the library {other.name}, {shown(other.root)}, must not lie inside "
            "each other",
            details={"library": other.name},
        )


async def _check_has_files(database: Database, library_id: int, folder: bytes) -> None:
    if not await has_its_files(database, library_id, folder):
        raise ConflictError(
            f"None of the library's files that were looked for are in {shown(folder)}: it is another folder, or "
            "not mounted",
            recovery_actions=("Name the folder that has the library's files", "Add it as another library"),
        )


async def _check_trash_rests(session: AsyncSession, library: Library) -> None:
    moving = (
        select(func.count())
        .select_from(TrashEntry)
        .join(Track)
        .where(Track.library_id == library.id, TrashEntry.state != "trashed")
    )
    if await session.scalar(moving):
        raise ConflictError(
            f"Files of the library {library.name} are on their way into its trash, or back: try again soon"
        )


async def _check_trash_is_empty(session: AsyncSession, library: Library) -> None:
    entries = select(func.count()).select_from(TrashEntry).join(Track).where(Track.library_id == library.id)
    if count := await session.scalar(entries):
        raise ConflictError(
            f"{count} deleted files lie in the trash of the library {library.name}: without it nothing could "
            "restore or purge them",
            details={"trashed": count},
            recovery_actions=(
                "Restore them",
                "Purge the trash",
                "Remove it with force: the files stay where they lie",
            ),
        )


def _check_is_not_set(library: Library, settings: Settings) -> None:
    if settings.music_dir is None:
        return
    if os.fsencode(settings.music_dir) in {library.root, settings.roots.here(library.root)}:
        raise ConflictError(
            f"MUS_MUSIC_DIR (or --music) names the folder of the library {library.name}: the next start would make "
            "it again, or refuse to start",
            recovery_actions=("Take it out of the settings and start again", "Remove it with force"),
        )


async def _set_scan(session: AsyncSession, library_id: int, change: LibraryChange, settings: Settings) -> None:
    if "scan_crontab" not in change:
        return
    crontab = change["scan_crontab"]
    if crontab is not None and crontab != OFF:
        try:
            crontab = checked_crontab(crontab)
        except ScheduleFieldError as error:
            raise LibraryFieldError("scan_crontab", error.reason) from None
    await set_own_scan(session, library_id, crontab, common=settings.scan_schedule)


# ------------------------------------------------------------ those there are


async def _others(database: Database, settings: Settings, *, besides: int | None) -> list[LocalLibrary]:
    async with database.reading() as session:
        libraries = await all_libraries(session)
    return [on_this_machine(library, settings.roots) for library in libraries if library.id != besides]


def _places(libraries: Sequence[Library]) -> set[tuple[int, bytes]]:
    return {(library.id, library.root) for library in libraries}


def _stored_places(libraries: Sequence[LocalLibrary]) -> set[tuple[int, bytes]]:
    return {(library.id, library.stored_root) for library in libraries}
