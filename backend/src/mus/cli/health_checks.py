"""The checks of `mus doctor`, one line each."""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.queues import Queue
from mus.cli.check import Check
from mus.cli.library_checks import library_checks
from mus.cli.migrate import schema_revision
from mus.config import Settings
from mus.errors import MusError
from mus.jobs.libraries import shown_libraries
from mus.ledger.job_rows import is_newer
from mus.ledger.job_states import STARTABLE_STATES, JobState
from mus.ledger.lease import WATCHER, lease_row
from mus.ledger.queries import paused_queues, workers
from mus.library.file_systems import eventless_mount, file_system_type, is_remote, read_only_reason
from mus.library.listing import listed, plainly_listed
from mus.library.paths import shown
from mus.library.tag_reader import nothing_is_plain, read_plain
from mus.persistence.database import SCHEMA_REVISION, Database, is_known_schema
from mus.persistence.libraries import all_libraries, on_this_machine, refuse_overlap
from mus.persistence.models import Job, WorkerRow, utc_now
from mus.watcher.inotify_limits import advice, present_limit

_LOW_SPACE_BYTES, _NO_SPACE_BYTES = 1 << 30, 50 << 20
_SLOW_BROKER_SECONDS = 0.05
_STUCK_AFTER = timedelta(minutes=10)
#: Folders are counted no longer than this: what matters is the order of magnitude.
_COUNTING_SECONDS = 2.0
#: Each library that is watched takes one, and so does many another program of the same user.
_FEW_INSTANCES = 16


async def all_checks(settings: Settings) -> list[Check]:
    """Look at everything; nothing is changed, and no data folder is made."""
    roots: list[bytes] = []
    checks = [_python(), _data_folder(settings), *_libraries_of_code()]
    if settings.database_url is None and not (settings.data_dir / "mus.db").exists():
        checks.append(Check("database", "ok", "none yet: the first `mus up` or `mus scan` makes it"))
    else:
        found, roots = await _database(settings)
        checks += found
    checks.append(await _broker(settings))
    if settings.music_dir is not None:
        own = settings.roots.here(os.fsencode(settings.music_dir))
        roots = [*roots, *([] if own in roots else [own])]
    if not roots:
        checks.append(
            Check("music", "warn", "no music folder is known yet: `mus libraries add NAME DIR`, or MUS_MUSIC_DIR")
        )
    checks += [await asyncio.to_thread(_music_folder, root) for root in roots]
    local = [root for root in roots if os.path.isdir(root) and not is_remote(root)]
    checks += await asyncio.to_thread(_inotify, local)
    return checks


def _python() -> Check:
    # An older one than pyproject asks for would not have come as far as here.
    versions = f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    walk = "plain" if listed is plainly_listed else "compiled"
    reading = "plain" if read_plain is nothing_is_plain else "compiled"
    return Check("python", "ok", f"{versions}, {walk} walk of folders, {reading} reading of tags")


def _data_folder(settings: Settings) -> Check:
    folder = settings.data_dir
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return Check("data folder", "fail", f"{there} is not a folder: choose another with --data")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("data folder", "fail", f"{there} is not writable for this user: change its owner or mode")
    holds_database = settings.database_url is None
    if holds_database and file_system_type(os.fsencode(there)) in {"nfs", "nfs4", "cifs", "smb3"}:
        return Check(
            "data folder",
            "fail",
            f"{folder} lies on a network file system, where SQLite is not safe: use a local disk",
        )
    free = shutil.disk_usage(there).free
    space = f"{free / (1 << 30):.1f} GiB free"
    if free < _NO_SPACE_BYTES:
        return Check("data folder", "fail", f"{folder}: only {space}: free some space")
    if free < _LOW_SPACE_BYTES:
        return Check("data folder", "warn", f"{folder}: only {space}")
    return Check("data folder", "ok", f"{folder}, {space}" + ("" if folder.exists() else ", will be made"))


def _libraries_of_code() -> list[Check]:
    def pyvips() -> str:
        module: Any = importlib.import_module("pyvips")
        return f"pyvips {module.__version__}, libvips {'.'.join(str(module.version(part)) for part in range(3))}"

    def av() -> str:
        module: Any = importlib.import_module("av")
        return f"PyAV {module.__version__}, FFmpeg {module.ffmpeg_version_info}"

    return [_loads("covers", pyvips), _loads("audio", av)]


def _loads(name: str, load: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", load())
    except Exception as error:  # noqa: BLE001 - a broken native library raises anything, and this is the finding
        return Check(name, "fail", f"the library does not load ({error}): install mus again for this platform")


# ------------------------------------------------------------ database


async def _database(settings: Settings) -> tuple[list[Check], list[bytes]]:
    database = Database(settings.sqlalchemy_url)
    try:
        return await _database_checks(database, settings)
    except (SQLAlchemyError, MusError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        address = database.url.render_as_string()
        advice = "restore a copy, or move it away" if database.is_sqlite else "look at it, and at MUS_DATABASE_URL"
        return [Check("database", "fail", f"{address} cannot be used: {reason}: {advice}")], []
    finally:
        await database.close()


async def _database_checks(database: Database, settings: Settings) -> tuple[list[Check], list[bytes]]:
    revision, newest = await schema_revision(database), SCHEMA_REVISION
    if database.is_sqlite:
        async with database.reading() as session:
            answer = (await session.execute(text("PRAGMA quick_check(1)"))).scalar_one()
        if answer != "ok":
            return [Check("database", "fail", f"damaged ({answer}): stop mus and restore a copy")], []
    if revision is not None and not is_known_schema(revision):
        message = f"it was written by a newer mus: its schema is {revision}, this mus knows those up to {newest}"
        return [Check("database", "fail", f"{message}: install that version again")], []
    if revision is None or revision != newest:
        message = f"its schema is {revision or 'empty'}, this mus has {newest}: run `mus migrate`"
        return [Check("database", "warn", message)], []
    kind = database.url.get_backend_name()
    checks = [Check("database", "ok", f"{kind}, schema {revision}" + (", sound" if database.is_sqlite else ""))]
    async with database.reading() as session:
        libraries = [on_this_machine(library, settings.roots) for library in await all_libraries(session)]
        checks += await library_checks(session, libraries, settings)
    try:
        refuse_overlap(libraries, settings.data_dir)
    except MusError as error:
        checks.append(Check("data folder", "fail", error.user_message))
    checks += await _jobs(database, settings)
    checks.append(await _watcher(database, settings))
    checks += await _polled(database, settings)
    return checks, [library.root for library in libraries]


async def _jobs(database: Database, settings: Settings) -> list[Check]:
    async with database.reading() as session:
        alive = [w for w in await workers(session, dead_after_seconds=settings.dead_after_seconds) if w.alive]
        overdue = utc_now() - _STUCK_AFTER
        waiting = await session.scalar(
            select(func.count()).where(
                Job.state.in_(STARTABLE_STATES),
                func.coalesce(Job.run_after, Job.created_at, type_=Job.created_at.type) < overdue,
            )
        )
        orphaned = await session.scalar(
            select(func.count())
            .select_from(Job)
            .outerjoin(WorkerRow, WorkerRow.id == Job.worker_id)
            .where(Job.state == JobState.RUNNING, or_(WorkerRow.id.is_(None), WorkerRow.state != "alive"))
        )
        paused = sorted(await paused_queues(session))
        lost = await _jobs_of_others(session)
    checks = []
    if lost:
        checks.append(Check("jobs", "warn", lost))
    if paused:
        checks.append(
            Check("queues", "warn", f"paused: {', '.join(paused)}; `mus queues resume {paused[0]}` lets it go on")
        )
    if alive:
        served = sorted({queue for worker in alive for queue in worker.row.queues})
        checks.append(Check("workers", "ok", f"{len(alive)} alive, serving {', '.join(served)}"))
    else:
        checks.append(Check("workers", "warn", "none runs: jobs wait until `mus up` or `mus worker` runs"))
    if orphaned:
        checks.append(
            Check("jobs", "warn", f"{orphaned} belong to a worker that is gone: a running worker takes them")
        )
    elif waiting and alive:
        checks.append(
            Check("jobs", "warn", f"{waiting} wait for more than 10 minutes: see `mus jobs --state queued`")
        )
    else:
        checks.append(Check("jobs", "ok", f"{waiting} wait for a worker" if waiting else "none is stuck"))
    return checks


async def _watcher(database: Database, settings: Settings) -> Check:
    async with database.reading() as session:
        row = await lease_row(session, WATCHER)
    if row is None:
        scans = "only scans find what changes until `mus up` or `mus watch` runs"
        return Check("watcher", "warn", f"none runs: {scans}")
    age = max(0.0, (utc_now() - row.beat_at).total_seconds())
    if age >= settings.dead_after_seconds:
        return Check(
            "watcher", "warn", f"{row.host} has not been heard of for {age:.0f} s: start `mus watch` again"
        )
    return Check("watcher", "ok", f"on {row.host} (process {row.pid}), since {row.held_since:%Y-%m-%d %H:%M} UTC")


async def _polled(database: Database, settings: Settings) -> list[Check]:
    """Libraries that are looked through again and again although nobody wanted that."""
    async with database.reading() as session:
        libraries = await shown_libraries(session, settings)
    return [
        Check("watching", "warn", f"{library.name} is polled: {library.watch_reason}")
        for library in libraries
        if library.watch_mode == "polling" and library.watch != "polling"
    ]


async def _jobs_of_others(session: AsyncSession) -> str | None:
    """Of waiting jobs that workers of this version do not run, what to do about them."""
    rows = await session.execute(
        select(Job.task, Job.queue, Job.version, func.count().label("jobs"))
        .where(Job.state.in_(STARTABLE_STATES))
        .group_by(Job.task, Job.queue, Job.version)
    )
    kinds = [row for row in rows if row.queue not in [*Queue] or is_newer(row.version)]
    if not kinds:
        return None
    what = ", ".join(sorted({f"{shown(row.task.encode())} on {shown(row.queue.encode())}" for row in kinds}))
    return (
        f"{sum(row.jobs for row in kinds)} were made by another version of mus ({what}): what this one does not "
        "know waits for a worker of that version; `mus jobs cancel ID` gives it up"
    )


# ------------------------------------------------------------ broker


async def _broker(settings: Settings) -> Check:
    from redis.exceptions import RedisError

    try:
        async with _broker_url(settings) as url:
            if url is None:
                return Check("broker", "ok", "the embedded Valkey, starts with mus")
            return await _broker_answers(url, embedded=settings.dragonfly_url is None)
    except (RedisError, OSError, TimeoutError) as error:
        what = "see that the server at MUS_DRAGONFLY_URL runs and lets this machine in"
        return Check("broker", "fail", f"does not answer ({' '.join(str(error).split()) or 'timed out'}): {what}")
    except MusError as error:
        return Check("broker", "fail", error.user_message)


@asynccontextmanager
async def _broker_url(settings: Settings) -> AsyncIterator[str | None]:
    """None where an embedded one will be started, but there is no data folder yet to start it in."""
    from mus.broker.embedded_server import embedded_server, find_binary

    if settings.dragonfly_url is not None:
        yield settings.dragonfly_url
    elif not settings.data_dir.is_dir():
        find_binary()
        yield None
    else:
        async with embedded_server(settings.data_dir) as server:
            await server.ready()
            yield server.url


async def _broker_answers(url: str, *, embedded: bool) -> Check:
    import redis.asyncio

    client = redis.asyncio.from_url(url, decode_responses=True)
    try:
        async with asyncio.timeout(5.0):
            about = await client.info("server")
            # What mus stands on; it needs no FUNCTION.
            await client.script_load("return 1")
            began = time.perf_counter()
            await client.ping()
            latency = time.perf_counter() - began
    finally:
        await client.aclose()
    kind, version = next(
        (kind, about[field])
        for kind, field in (
            ("DragonflyDB", "dragonfly_version"),
            ("Valkey", "valkey_version"),
            ("Redis", "redis_version"),
        )
        if field in about
    )
    line = f"{'embedded ' if embedded else ''}{kind} {version}, {latency * 1000:.1f} ms"
    if latency > _SLOW_BROKER_SECONDS:
        return Check("broker", "warn", f"{line}: that is slow; put it nearer")
    return Check("broker", "ok", line)


# ------------------------------------------------------------ music


def _music_folder(root: bytes) -> Check:
    name = shown(root)
    try:
        with os.scandir(root) as entries:
            number = sum(1 for _ in entries)
    except FileNotFoundError:
        return Check("music", "fail", f"{name} is not there: mount the disk, or put the folder back")
    except NotADirectoryError:
        return Check("music", "fail", f"{name} is a file, not a folder")
    except OSError as error:
        return Check("music", "fail", f"{name} cannot be read ({error.strerror}): let this user read it")
    kind = file_system_type(root) or "unknown file system"
    eventless = eventless_mount(root)
    how = "file-system events"
    if eventless is not None:
        where = "" if eventless.type == kind else f"{eventless.type} at {shown(eventless.point)}, "
        how = f"{where}polling: events of other machines do not arrive here"
    line = f"{name} ({kind}, {number:,} entries, {how})"
    if number == 0:
        return Check("music", "warn", f"{line}: it is empty; is the disk mounted?")
    if reason := read_only_reason(root):
        return Check("music", "ok", f"{line}; {reason}: tracks can be played, not deleted or restored")
    return Check("music", "ok", line)


def _inotify(roots: list[bytes]) -> list[Check]:
    watches, instances = present_limit("watches"), present_limit("instances")
    if watches is None or instances is None:
        return []
    folders, complete = _count_folders(roots)
    line = f"{folders:,}{'' if complete else '+'} folders, {watches[1]:,} watches allowed, {instances[1]} instances"
    if folders > watches[1] * 0.8:
        return [Check("inotify", "warn", f"{line}: {advice('watches', at_least=folders * 4)}")]
    if instances[1] < _FEW_INSTANCES:
        return [Check("inotify", "warn", f"{line}: {advice('instances')}")]
    return [Check("inotify", "ok", line)]


def _count_folders(roots: list[bytes]) -> tuple[int, bool]:
    deadline = time.monotonic() + _COUNTING_SECONDS
    count = 0
    for root in roots:
        for _ in os.walk(root):
            count += 1
            if time.monotonic() > deadline:
                return count, False
    return count, True
