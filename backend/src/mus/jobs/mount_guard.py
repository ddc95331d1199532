"""The mount guard: a library that lost its disk is offline, not deleted (DESIGN §5)."""

from __future__ import annotations

import os
from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.job_runner import RunningJob
from mus.errors import LibraryOfflineError
from mus.jobs.services import services
from mus.library.file_reading import signed_64
from mus.library.paths import shown
from mus.persistence.batch_operations import lately_missing_count, live_count
from mus.persistence.models import Library

#: Deletions that the watcher reports in several jobs count together within this time.
_LATELY = timedelta(minutes=10)
_CONFIRM = "If the files are really gone, scan with confirm_missing"


def check_root(library: Library, *, has_live_tracks: bool, confirmed: bool = False) -> None:
    """Raises LibraryOfflineError when the root is no folder, cannot be listed, or is empty though it had tracks.

    An empty folder is fine for a library that never had tracks, and when a person confirmed it.
    """
    root = library.root
    name = shown(root)
    try:
        with os.scandir(root) as entries:
            is_empty = next(iter(entries), None) is None
    except FileNotFoundError:
        raise _offline(f"The music folder {name} is not there. Is its disk mounted?") from None
    except NotADirectoryError:
        raise _offline(f"{name} is a file, not a music folder") from None
    except OSError as error:
        raise _offline(f"The music folder {name} cannot be read: {error.strerror}") from None
    if is_empty and has_live_tracks and not confirmed:
        raise _offline(f"The music folder {name} is empty, though it had tracks. Is its disk mounted?", _CONFIRM)


async def check_losses(session: AsyncSession, library_id: int, gone: int, *, confirmed: bool = False) -> None:
    """Raises LibraryOfflineError when `gone` tracks at once are too many to be believed."""
    settings = services().settings
    if confirmed or not gone:
        return
    lately = await lately_missing_count(session, library_id, _LATELY)
    live = await live_count(session, library_id)
    lost, had = gone + lately, live + lately
    if lost >= settings.guard_min_tracks and lost > settings.guard_fraction * had:
        raise _offline(
            f"{lost} of {had} tracks are gone at once, so nothing was marked missing. Is a disk unmounted?",
            _CONFIRM,
        )


def _offline(message: str, *more: str) -> LibraryOfflineError:
    return LibraryOfflineError(message, recovery_actions=("Mount the disk and scan again", *more))


async def mark_offline(job: RunningJob, library_id: int, error: LibraryOfflineError) -> None:
    async with job.effect() as work:
        await work.session.execute(
            update(Library).where(Library.id == library_id).values(online=False, offline_reason=error.user_message)
        )


async def mark_online(session: AsyncSession, library: Library) -> None:
    try:
        device: int | None = signed_64(os.stat(library.root).st_dev)
    except OSError:
        device = library.device
    await session.execute(
        update(Library).where(Library.id == library.id).values(online=True, offline_reason=None, device=device)
    )
