"""Where library rows are found, and the first one is made. `mus.jobs.libraries` is what people do with them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mus.errors import ConfigurationError, ConflictError, NotFoundError
from mus.library.paths import shown
from mus.persistence.database import Database
from mus.persistence.models import Library
from mus.root_map import RootMap

#: PostgreSQL's advisory lock of `hold_libraries`; that on tracks is 770002.
_LIBRARIES_LOCK = 770003


@dataclass(frozen=True, slots=True)
class LocalLibrary:
    """A library as this machine sees it."""

    id: int
    name: str
    #: Its folder on this machine.
    root: bytes
    #: Its folder as the database, and so every machine, names it.
    stored_root: bytes
    device: int | None
    online: bool

    def stored_path(self, path: bytes) -> bytes:
        """An absolute path on this machine, as every machine understands it if it lies below the root."""
        return _moved(path, self.root, self.stored_root)

    def local_path(self, stored_path: bytes) -> bytes:
        """The way back from `stored_path`."""
        return _moved(stored_path, self.stored_root, self.root)


def _moved(path: bytes, old_root: bytes, new_root: bytes) -> bytes:
    below = os.path.join(old_root, b"")
    return os.path.join(new_root, path.removeprefix(below)) if path.startswith(below) else path


def on_this_machine(library: Library, roots: RootMap) -> LocalLibrary:
    """The library with its folder on this machine: whoever touches files goes through here."""
    return LocalLibrary(
        id=library.id,
        name=library.name,
        root=roots.here(library.root),
        stored_root=library.root,
        device=library.device,
        online=library.online,
    )


async def all_libraries(session: AsyncSession) -> list[Library]:
    """Every library, the default one first."""
    return list((await session.scalars(select(Library).order_by(Library.id))).all())


async def library_names(session: AsyncSession) -> dict[int, str]:
    """Names of the libraries by id."""
    return {library.id: library.name for library in await all_libraries(session)}


async def library_named(session: AsyncSession, name_or_id: str) -> Library:
    """The library of this name, or else of this id. Raises NotFoundError with the names there are."""
    return named(await all_libraries(session), name_or_id)


def named(libraries: Sequence[Library], name_or_id: str) -> Library:
    """As `library_named`, among all libraries."""
    for library in libraries:
        if library.name == name_or_id:
            return library
    for library in libraries:
        if str(library.id) == name_or_id:
            return library
    raise NotFoundError(
        f"There is no library {name_or_id!r}", details={"libraries": [library.name for library in libraries]}
    )


async def renumber_track_changes(database: Database) -> None:
    """Let every library's `track_changes` be higher than it ever was, in a SQLite database that takes another one's
    place.

    Processes keep what they made of the tracks by that number, and it must not come again for other tracks.
    """
    async with database.unit_of_work() as work:
        # SQLite's own `max`. Nobody writes a million times a second.
        now_us = time.time_ns() // 1000
        await work.session.execute(
            update(Library).values(track_changes=func.max(Library.track_changes + 1, now_us))
        )


async def ensure_library(
    database: Database, music_dir: Path, roots: RootMap, *, name: str = "Music"
) -> LocalLibrary:
    """The library whose root is `music_dir` on this machine; its row is made when there is none yet.

    `music_dir` may also be the root as the database has it. Folders are compared as real paths, so another link to
    the same folder is the same library. Raises ConflictError when this database already belongs to another folder.
    """
    existing = library_at(await _all(database), music_dir, roots)
    if existing is not None:
        return existing
    try:
        async with database.unit_of_work() as work:
            library = Library(name=name, root=roots.stored(os.fsencode(music_dir)))
            work.session.add(library)
    except IntegrityError:
        # Another process was first in the same instant: the name is unique.
        existing = library_at(await _all(database), music_dir, roots)
        if existing is None:
            raise
        return existing
    return on_this_machine(library, roots)


async def _all(database: Database) -> list[Library]:
    async with database.reading() as session:
        return await all_libraries(session)


def library_at(libraries: Sequence[Library], music_dir: Path, roots: RootMap) -> LocalLibrary | None:
    """The one of all libraries whose root is that folder; None where there is no library. Raises ConflictError when
    they all have other folders."""
    wanted = os.path.realpath(roots.here(os.fsencode(music_dir)))
    for library in libraries:
        local = on_this_machine(library, roots)
        if os.path.realpath(local.root) == wanted:
            return local
    if libraries:
        raise _another_folder(libraries, music_dir)
    return None


def _another_folder(libraries: Sequence[Library], music_dir: Path) -> ConflictError:
    stored = [shown(library.root) for library in libraries]
    advice = [
        "have that folder as one more library (`mus libraries add NAME DIR`)",
        "give another --data folder for other music",
        f"say MUS_ROOT_MAP={stored[0] if len(stored) == 1 else 'ROOT'}=… where that same folder is mounted here",
    ]
    actions = ["Add it: mus libraries add", "Use another data folder", "Set MUS_ROOT_MAP on this machine"]
    if len(stored) == 1:
        advice.append(
            "or take the library along to where its music is now (`mus backup FILE`, then `mus restore FILE "
            "--music DIR`)"
        )
        actions.append("Restore a backup of this one with --music")
    return ConflictError(
        f"This database belongs to the music in {', '.join(map(repr, stored))}, not to {str(music_dir)!r}: "
        f"{'; '.join(advice)}",
        details={"root": stored[0], "roots": stored},
        recovery_actions=tuple(actions),
    )


async def hold_libraries(session: AsyncSession) -> None:
    """Be the only one to add, move or remove libraries until the transaction ends. On SQLite whoever writes is.

    Jobs lock their own row, then tracks, then their library's row: whoever cancels jobs does so before it writes a
    library's row, or the two would wait for each other.
    """
    if session.get_bind().dialect.name != "sqlite":
        await session.execute(select(func.pg_advisory_xact_lock(_LIBRARIES_LOCK, 0)))


def overlapping(root: bytes, others: Sequence[LocalLibrary]) -> LocalLibrary | None:
    """The library whose folder, on this machine, is `root`, or lies in it or around it. Blocking."""
    real = os.path.realpath(root)
    for other in others:
        theirs = os.path.realpath(other.root)
        if os.path.commonpath([real, theirs]) in {real, theirs} or _is_same_folder(real, theirs):
            return other
    return None


def _is_same_folder(one: bytes, other: bytes) -> bool:
    """As two mounts of one folder are."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def refuse_overlap(libraries: list[LocalLibrary], data_dir: Path) -> None:
    """Raises ConfigurationError when the data folder and a library's root lie inside each other."""
    data = os.path.realpath(os.fsencode(data_dir))
    for library in libraries:
        root = os.path.realpath(library.root)
        if os.path.commonpath([root, data]) in {root, data}:
            raise ConfigurationError(
                f"the data folder {str(data_dir)!r} and the music folder {shown(library.root)!r} "
                "must not lie inside each other"
            )
