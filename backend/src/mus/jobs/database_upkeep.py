"""The database checked for damage, and kept quick and small, while everybody goes on working with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mus.broker.job_runner import RunningJob
from mus.errors import AdminRequiredError, TemporaryError
from mus.jobs.retention import give_way_to_shutdown
from mus.jobs.services import services
from mus.persistence.sqlite_upkeep import DamagedDatabaseError, SqliteUpkeep

T = TypeVar("T")

#: Between two steps, so that writers who wait come first.
_PAUSE_SECONDS = 0.02


async def keep_database_well(job: RunningJob) -> dict[str, Any]:
    """Returns what was done. Done twice, or again after it died at any line, it finds less to do.

    Raises AdminRequiredError when the database is damaged, before anything is written, and TemporaryError when
    others held its lock for too long.
    """
    database = services().database
    if not database.is_sqlite:
        await job.report(force=True, stage="analysing tables")
        return {"analysed": await database.analyse_tables()}
    if not database.url.database:
        return {}
    file = Path(database.url.database)
    try:
        upkeep = await asyncio.to_thread(SqliteUpkeep, file)
        try:
            return await _keep_sqlite_well(job, upkeep)
        finally:
            upkeep.close()
    except DamagedDatabaseError as damage:
        raise _damaged(file, damage.findings) from damage
    except sqlite3.OperationalError as error:
        raise TemporaryError(f"The database could not be tended now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(file, [str(error)]) from error


def _damaged(file: Path, findings: list[str]) -> AdminRequiredError:
    return AdminRequiredError(
        f"The database {file} is damaged: {findings[0]}",
        details={"findings": findings},
        recovery_actions=(
            "Stop mus",
            "Restore a backup (`mus restore FILE`), or save what can be read: "
            f'sqlite3 "{file}" .recover | sqlite3 "{file}.new"',
            "Check the disk",
        ),
    )


async def _keep_sqlite_well(job: RunningJob, upkeep: SqliteUpkeep) -> dict[str, Any]:
    await job.report(force=True, stage="checking the database")
    await _in_thread(upkeep, upkeep.check)
    await job.report(force=True, stage="tidying the search index")
    merges = await _stepwise(job, upkeep, upkeep.merge_search_index())
    await _in_thread(upkeep, upkeep.analyse)
    before = upkeep.bytes
    not_shrunk: str | None = None
    if upkeep.has_much_free():
        await job.report(force=True, stage="giving free space back")
        if upkeep.shrinks_in_steps:
            await _stepwise(job, upkeep, upkeep.shrink())
        else:
            not_shrunk = await _in_thread(upkeep, upkeep.vacuum)
    log_cut = await _in_thread(upkeep, upkeep.checkpoint)
    return {
        "check": "ok",
        "merges": merges,
        "log_cut": log_cut,
        "bytes": upkeep.bytes,
        "bytes_given_back": before - upkeep.bytes,
        "bytes_free": upkeep.free_bytes,
        "not_shrunk": not_shrunk,
    }


async def _stepwise(job: RunningJob, upkeep: SqliteUpkeep, steps: Iterator[None]) -> int:
    count = 0
    while await _in_thread(upkeep, lambda: next(steps, StopIteration)) is not StopIteration:
        count += 1
        give_way_to_shutdown(job)
        await job.report()
        await asyncio.sleep(_PAUSE_SECONDS)
    return count


async def _in_thread(upkeep: SqliteUpkeep, step: Callable[[], T]) -> T:
    """Run a step beside the event loop; a job that is stopped interrupts it, and waits for its thread."""
    running = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            # Again and again: an interrupt that comes between two statements is forgotten.
            upkeep.interrupt()
            await asyncio.wait({running}, timeout=0.1)
        with suppress(sqlite3.Error, DamagedDatabaseError):
            running.result()
        raise
