"""Libraries read and changed for the command line: as a table for people, as JSON for programs."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from mus.broker.runtime import Runtime, opened
from mus.cli.existing_database import existing_database
from mus.cli.terminal import table_console
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.errors import NotFoundError
from mus.jobs import JOB_MODULES
from mus.jobs.libraries import (
    LibraryChange,
    ShownLibrary,
    add_library,
    change_library,
    request_removal,
    shown_libraries,
    shown_library,
)
from mus.jobs.schedules import OFF
from mus.persistence.database import Database

_BY = "mus libraries"


async def listed(settings: Settings) -> list[ShownLibrary]:
    """All libraries."""
    async with existing_database(settings) as database, database.reading() as session:
        return await shown_libraries(session, settings)


async def found(settings: Settings, name: str) -> ShownLibrary:
    """One library. Raises WrongUsageError."""
    async with existing_database(settings) as database:
        return await _named(database, settings, name)


async def added(settings: Settings, change: LibraryChange) -> tuple[ShownLibrary, str]:
    """Add one; how it is then, and the id of its first scan."""
    async with opened(settings) as runtime:  # it may be the first one: then the database is made
        _load_tasks()
        library_id, scan = await add_library(runtime.database, settings, change, requested_by=_BY)
        return await _named(runtime.database, settings, str(library_id)), scan


async def changed(settings: Settings, name: str, change: LibraryChange) -> ShownLibrary:
    """Change it; how it is then. Raises WrongUsageError."""
    async with _opened(settings) as runtime:
        library_id = (await _named(runtime.database, settings, name)).id
        await change_library(runtime.database, settings, str(library_id), change, requested_by=_BY)
        return await _named(runtime.database, settings, str(library_id))


async def removed(settings: Settings, name: str, *, force: bool) -> dict[str, Any]:
    """Enqueue the job that forgets it. Raises WrongUsageError."""
    async with _opened(settings) as runtime:
        library = await _named(runtime.database, settings, name)
        job_id = await request_removal(runtime.database, settings, str(library.id), force=force, requested_by=_BY)
        return {"job_id": job_id, "state": "queued", "library": library.name}


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Runtime]:
    async with existing_database(settings):
        pass  # looked for first: what follows would make one
    _load_tasks()
    async with opened(settings) as runtime:
        yield runtime


async def _named(database: Database, settings: Settings, name: str) -> ShownLibrary:
    async with database.reading() as session:
        try:
            return await shown_library(session, settings, name)
        except NotFoundError as error:
            names = ", ".join(error.details["libraries"]) or "none yet"
            raise WrongUsageError(f"{error.user_message}: there are {names}") from None


def _load_tasks() -> None:
    for module in JOB_MODULES:
        importlib.import_module(module)


# ------------------------------------------------------------ printing


def print_added(answer: tuple[ShownLibrary, str], *, as_json: bool) -> None:
    library, scan = answer
    if as_json:
        print(json.dumps({**asdict(library), "scan_job_id": scan}))
    else:
        print(f"Added the library {library.name} ({library.root}); its first scan is job {scan}")


def print_changed(library: ShownLibrary, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(library)))
    else:
        print_list([library], settings, as_json=False)


def print_list(libraries: Sequence[ShownLibrary], settings: Settings, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": [asdict(library) for library in libraries]}))
        return
    if not libraries:
        print("There is no library yet: `mus libraries add NAME DIR` or `mus up --music DIR` makes one")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("id", "name", "folder", "tracks", "state", "watched by", "scanned (UTC)", "guard"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"id", "tracks"} else "left")
    for library in libraries:
        table.add_row(
            str(library.id),
            escape(library.name),
            escape(library.root),
            f"{library.tracks:,}",
            _state(library),
            _watched(library),
            "common" if library.scan_crontab is None else library.scan_crontab,
            _guard(library, settings),
        )
    table_console().print(table)
    for library in libraries:
        if library.offline_reason is not None and not library.online:
            print(f"{library.name} is offline: {library.offline_reason}")
        if library.watch_mode == "polling" and library.watch != "polling":
            print(f"{library.name} is polled: {library.watch_reason}")


def _state(library: ShownLibrary) -> str:
    return "being removed" if library.removing else "online" if library.online else "offline"


def _watched(library: ShownLibrary) -> str:
    now = library.watch_mode or ("off" if library.watch == OFF else "nobody runs")
    return now if library.watch in {"auto", now} else f"{now} (set: {library.watch})"


def _guard(library: ShownLibrary, settings: Settings) -> str:
    least = settings.guard_min_tracks if library.guard_min_tracks is None else library.guard_min_tracks
    part = settings.guard_fraction if library.guard_fraction is None else library.guard_fraction
    return f"{least:,} and {part:.4g}"
