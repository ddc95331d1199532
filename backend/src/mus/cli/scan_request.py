"""Asks for a scan, sees to it that somebody runs it, and follows its row to the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mus.broker.queues import Queue
from mus.broker.runtime import opened
from mus.broker.streaq_broker import broker
from mus.cli.given_settings import NO_MUSIC
from mus.cli.prepared_library import library_of
from mus.cli.scan_follower import Follower, ScanRow, scan_rows
from mus.cli.scan_terms import AskedScan, ScanEnd, ScanRequest
from mus.cli.wrong_usage import WrongUsageError
from mus.config import Settings
from mus.errors import NotFoundError
from mus.jobs.scan_requests import scan_job
from mus.ledger.job_states import JobState
from mus.library.paths import escaped, shown, unescaped
from mus.persistence.database import Database
from mus.persistence.libraries import (
    LocalLibrary,
    all_libraries,
    library_at,
    named,
    on_this_machine,
    refuse_overlap,
)
from mus.persistence.models import Job, Library, utc_now
from mus.worker import load_job_modules


def load_scan_jobs() -> None:
    """Import the jobs: those that this process may run, and those that they enqueue for others."""
    load_job_modules([], list(Queue))


async def request_scan(
    settings: Settings, request: ScanRequest, *, on_terminal: bool, asked: Sequence[AskedScan] = ()
) -> list[ScanEnd]:
    """Enqueue a scan of each library that is meant, and follow them if `request.wait`; how each ended.

    `load_scan_jobs` comes first. `asked` are the scans where a worker has enqueued them already.

    Raises WrongUsageError for a library that is not there or a path outside, and MusError for what keeps mus from
    working at all.
    """
    async with opened(settings) as runtime, AsyncExitStack() as stack:
        targets = await targets_of(runtime.database, settings, request)
        if len(asked) != len(targets):
            asked = await ask(runtime.database, targets, request)
        follower = Follower(runtime, asked, work=request.work)
        if request.wait:
            bar = stack.enter_context(_shown_progress([library for library, _ in targets], on_terminal=on_terminal))
            followed = await follower.follow(stack, bar)
            assert followed is not None
            rows, interrupted = followed
        else:
            rows, interrupted = await follower.rows(), False
        return ends_of(targets, asked, rows, interrupted)


def ends_of(
    targets: Sequence[tuple[LocalLibrary, str]],
    asked: Sequence[AskedScan],
    rows: Sequence[ScanRow],
    interrupted: bool,
) -> list[ScanEnd]:
    """What the command tells of each scan."""
    return [
        ScanEnd(
            job_id=scan.job_id,
            library=library.name,
            state=row.state,
            seconds=row.seconds,
            result=row.result or {},
            error=_error(row),
            interrupted=interrupted,
        )
        for (library, _), scan, row in zip(targets, asked, rows, strict=True)
    ]


async def targets_of(
    database: Database, settings: Settings, request: ScanRequest
) -> list[tuple[LocalLibrary, str]]:
    """The libraries that are meant, each with the path in it, as a job takes it. Raises WrongUsageError."""
    if request.only_set:
        library = await library_of(database, settings)
        return [(library, _path_in(library, request.path))]
    every = await _libraries(database)
    music_dir = settings.music_dir if request.library is None else None
    if music_dir is not None and library_at(every, music_dir, settings.roots) is None:
        await library_of(database, settings)
        every = await _libraries(database)
    rows = [row for row in every if row.removing_since is None]
    if request.library is not None:
        try:
            wanted = named(every, request.library)
        except NotFoundError as error:
            names = ", ".join(row.name for row in rows) or "none yet"
            raise WrongUsageError(f"{error.user_message}: there are {names}") from None
        rows = [row for row in rows if row is wanted]
    if not rows:
        raise WrongUsageError(NO_MUSIC if request.library is None else f"{request.library} is being removed")
    libraries = [on_this_machine(row, settings.roots) for row in rows]
    for library in libraries:
        refuse_overlap([library], settings.data_dir)
    if request.path is None or len(libraries) == 1:
        return [(library, _path_in(library, request.path)) for library in libraries]
    if os.path.isabs(request.path):
        for library in libraries:
            with contextlib.suppress(WrongUsageError):
                return [(library, _path_in(library, request.path))]
        raise WrongUsageError(f"--path {request.path!r} is not inside any library's folder")
    names = ", ".join(library.name for library in libraries)
    raise WrongUsageError(f"--path {request.path!r}: say in which library, by --library ({names})")


async def _libraries(database: Database) -> list[Library]:
    async with database.reading() as session:
        return await all_libraries(session)


async def ask(
    database: Database, targets: Sequence[tuple[LocalLibrary, str]], request: ScanRequest
) -> list[AskedScan]:
    """Enqueue the scans, or find those that wait or, for `request.join`, run already."""
    mode = "full" if request.full else "quick"
    if request.join:
        running = [await _newest_scan(database, library) for library, _ in targets]
        if all(running):
            return [AskedScan(job_id, is_ours=False) for job_id in running if job_id]
    asked_at = utc_now()
    async with database.unit_of_work():
        job_ids = await broker.enqueue_many(
            [
                scan_job(
                    library.id,
                    requested_by=request.requested_by,
                    mode=mode,
                    path=unescaped(path),
                    confirm_missing=request.confirm_missing,
                )
                for library, path in targets
            ]
        )
    rows = await scan_rows(database, job_ids)
    return [
        AskedScan(job_id, is_ours=row is not None and row.created_at >= asked_at)
        for job_id, row in zip(job_ids, rows, strict=True)
    ]


async def _newest_scan(database: Database, library: LocalLibrary) -> str | None:
    """The newest scan of the whole library, unless it failed. The watcher asked for it at its start, and a small
    library is scanned before anybody can look."""
    async with database.reading() as session:
        jobs = await session.execute(
            select(Job.id, Job.arguments)
            .where(Job.task == "scan_library", Job.state.not_in((JobState.FAILED, JobState.CANCELLED)))
            .order_by(Job.id.desc())
        )
        return next(
            (job.id for job in jobs if job.arguments["library_id"] == library.id and not job.arguments["path"]),
            None,
        )


def _path_in(library: LocalLibrary, given: str | None) -> str:
    """The path for the job's arguments: relative to the root, escaped; "" is the root itself.

    It need not exist: a scan of what is gone finds it missing. Raises WrongUsageError for one outside.
    """
    if given is None:
        return ""
    root = os.path.realpath(library.root)
    names = (root, library.root.rstrip(b"/"), library.stored_root.rstrip(b"/"))
    wanted = os.path.normpath(os.path.join(root, os.fsencode(given)))
    if not wanted.startswith(tuple(name + b"/" for name in names)) and wanted != root:
        wanted = os.path.realpath(os.fsencode(Path(given).absolute()))
    for base in names:
        if wanted == base:
            return ""
        if wanted.startswith(base + b"/"):
            return escaped(wanted[len(base) + 1 :])
    raise WrongUsageError(f"--path {given!r} is not inside the library's folder {shown(library.root)!r}")


def _error(row: ScanRow) -> dict[str, Any] | None:
    if row.error_message is None or row.state == JobState.SUCCEEDED:
        return None
    return {
        "category": row.error_category,
        "message": row.error_message,
        "recovery_actions": (row.error_details or {}).get("recovery_actions", []),
    }


@contextmanager
def _shown_progress(libraries: Sequence[LocalLibrary], *, on_terminal: bool) -> Iterator[Any]:
    if not on_terminal:
        yield None
        return
    from mus.cli.progress_bar import StageBar

    with StageBar(f"Scanning {', '.join(library.name for library in libraries)}") as bar:
        yield bar
