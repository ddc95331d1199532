"""The mount guard: a library that lost its disk is offline, not deleted (DESIGN §5)."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.errors import LibraryOfflineError, TemporaryError
from mus.jobs.services import services
from mus.jobs.telling import tell_library
from mus.ledger.job_states import JobState
from mus.library.file_reading import signed_64
from mus.library.paths import shown
from mus.library.walk import skip_reason
from mus.persistence.known_tracks import live_count, missing_since_count
from mus.persistence.libraries import LocalLibrary
from mus.persistence.models import Job, Library, utc_now
from mus.persistence.unit_of_work import UnitOfWork

#: Deletions that the watcher reports in several jobs count together within this time.
_LATELY = timedelta(minutes=10)
_CONFIRM = "If the files are really gone, scan with confirm_missing"


def check_root(library: LocalLibrary, *, has_live_tracks: bool, confirmed: bool = False) -> None:
    """Raises LibraryOfflineError when the root is no folder, cannot be listed, or is empty though it had tracks.

    An empty folder is fine for a library that never had tracks, and when a person confirmed it. What a fresh
    file system brings along (`lost+found`), and mus's own trash, are nothing.
    """
    root = library.root
    name = _name(library)
    try:
        with os.scandir(root) as entries:
            is_empty = all(
                skip_reason(entry.name, is_dir=True) is not None for entry in entries if entry.name != b".nomedia"
            )
    except FileNotFoundError:
        raise _offline(f"The music folder {name} is not there. Is its disk mounted?") from None
    except NotADirectoryError:
        raise _offline(f"{name} is a file, not a music folder") from None
    except OSError as error:
        raise _offline(f"The music folder {name} cannot be read: {error.strerror}") from None
    if is_empty and has_live_tracks and not confirmed:
        raise _offline(f"The music folder {name} is empty, though it had tracks. Is its disk mounted?", _CONFIRM)


def check_still_there(library: LocalLibrary) -> None:
    """Raises TemporaryError when the root is away: then files that are not found have not vanished. Blocking.

    Another machine, which may take the next attempt, may well have it.
    """
    try:
        check_root(library, has_live_tracks=True)
    except LibraryOfflineError as error:
        raise TemporaryError(error.user_message, recovery_actions=error.recovery_actions) from error


def check_file_system(library: LocalLibrary) -> None:
    """Raises LibraryOfflineError when the root lies on another file system than before.

    To be asked only when none of the library's tracks was found: device numbers change by themselves too.
    """
    if library.device is not None and device_of(library) not in {None, library.device}:
        raise _offline(
            f"Another disk than before is at the music folder {_name(library)}, and none of its tracks are "
            "on it. Is the right disk mounted?",
            _CONFIRM,
        )


async def check_losses(session: AsyncSession, library_id: int, gone: int, *, confirmed: bool = False) -> None:
    """Raises LibraryOfflineError when `gone` tracks at once are too many to be believed.

    Call it in the transaction that marks them missing, after `hold_tracks`: of jobs that do so at the same time,
    the second sees what the first has marked.
    """
    if confirmed or not gone:
        return
    min_tracks, fraction = await _thresholds(session, library_id)
    lately = await missing_since_count(session, library_id, await _last_judged(session, library_id))
    live = await live_count(session, library_id)
    lost, had = gone + lately, live + lately
    if lost >= min_tracks and lost > fraction * had:
        raise _offline(
            f"{lost} of {had} tracks are gone at once, so nothing was marked missing. Is a disk unmounted?",
            _CONFIRM,
        )


async def _thresholds(session: AsyncSession, library_id: int) -> tuple[int, float]:
    """The library's own, else those of the settings."""
    settings = services().settings
    own = (
        await session.execute(
            select(Library.guard_min_tracks, Library.guard_fraction).where(Library.id == library_id)
        )
    ).one()
    return (
        settings.guard_min_tracks if own.guard_min_tracks is None else own.guard_min_tracks,
        settings.guard_fraction if own.guard_fraction is None else own.guard_fraction,
    )


async def _last_judged(session: AsyncSession, library_id: int) -> datetime:
    """Since when losses count: what a finished scan took for gone, this guard or a person has agreed to."""
    since = utc_now() - _LATELY
    scans = await session.execute(
        select(Job.arguments, Job.finished_at).where(
            Job.task == "scan_library", Job.state == JobState.SUCCEEDED, Job.finished_at > since
        )
    )
    ends = [
        row.finished_at
        for row in scans
        # A scan of one folder has judged nothing about the others.
        if row.arguments.get("library_id") == library_id and not row.arguments.get("path")
    ]
    return max(ends, default=since)


def _name(library: LocalLibrary) -> str:
    """The folder for people: where machines have it in different places, with the machine."""
    name = shown(library.root)
    return name if library.root == library.stored_root else f"{name} on {socket.gethostname()}"


def _offline(message: str, *more: str) -> LibraryOfflineError:
    return LibraryOfflineError(message, recovery_actions=("Mount the disk and scan again", *more))


async def mark_offline(job: RunningJob, library_id: int, error: LibraryOfflineError) -> None:
    async with job.effect() as work:
        await work.session.execute(
            update(Library).where(Library.id == library_id).values(online=False, offline_reason=error.user_message)
        )
        tell_library(work, library_id, offline_reason=error.user_message)


async def mark_online(work: UnitOfWork, library: LocalLibrary, *, device: int | None) -> None:
    """`device` is the root's now, from `device_of`; None where it could not be told."""
    if not library.online:
        tell_library(work, library.id, offline_reason=None)
    await work.session.execute(
        update(Library)
        .where(Library.id == library.id)
        .values(online=True, offline_reason=None, device=device or library.device)
    )


def device_of(library: LocalLibrary) -> int | None:
    """The device of the library's root. Blocking."""
    try:
        return signed_64(os.stat(library.root).st_dev)
    except OSError:
        return None
