"""What the jobs of a worker process share: settings, database, and the processes that read files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from mus.broker.queues import POLICIES, Queue
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.errors import LibraryGoneError
from mus.library.reader_pool import ReaderPool
from mus.library.reader_process import NICENESS
from mus.library.reading_rules import ReadingRules
from mus.library.walk import WalkDigest
from mus.persistence.database import Database
from mus.persistence.libraries import LocalLibrary, on_this_machine
from mus.persistence.models import Library
from mus.persistence.prepared import Prepared


class InStep(NamedTuple):
    """A library whose folder was as the database has it when it was walked."""

    #: Of the library's row: one that is made later may get the id of one that was removed.
    created_at: datetime
    #: Of the row too: where it is still the same, no live track was written to since.
    track_changes: int
    #: What the walk found.
    walk: WalkDigest


@dataclass(frozen=True, slots=True)
class JobServices:
    settings: Settings
    database: Database
    #: Reads tags for scans and watched files.
    readers: ReaderPool
    #: Reads at a lower scheduling priority, for work nobody waits for.
    patient_readers: ReaderPool
    #: Held by a scan's chunk that is being stored.
    storing: asyncio.Lock
    #: By library id.
    in_step: dict[int, InStep] = field(default_factory=dict)


_services: JobServices | None = None


def services() -> JobServices:
    """The services of this process. Raises RuntimeError where no worker runs."""
    if _services is None:
        raise RuntimeError("jobs run inside `job_services` only")
    return _services


@asynccontextmanager
async def job_services(runtime: Runtime) -> AsyncIterator[JobServices]:
    """Open the services for the block."""
    global _services
    settings = runtime.settings
    size, rules = settings.reader_processes, ReadingRules.of(settings.tag_separators, settings.sort_articles)
    async with (
        ReaderPool(size, rules=rules, nice=NICENESS) as readers,
        ReaderPool(size, rules=rules, nice=POLICIES[Queue.LOW].niceness) as patient_readers,
    ):
        _services = JobServices(settings, runtime.database, readers, patient_readers, asyncio.Lock())
        try:
            yield _services
        finally:
            _services = None


_LIBRARY = Prepared(
    select(Library.id, Library.name, Library.root, Library.device, Library.online, Library.removing_since).where(
        Library.id == bindparam("wanted")
    )
)


async def find_library(library_id: int) -> LocalLibrary:
    """The library, with its folder on this machine. Raises LibraryGoneError, while it is being removed too."""
    library = await services().database.look(lambda look: look.one(_LIBRARY, {"wanted": library_id}))
    return _local(library, library_id)


async def library_in(session: AsyncSession, library_id: int) -> LocalLibrary:
    """As `find_library`, in a reading that is under way."""
    return _local(await session.get(Library, library_id), library_id)


def _local(library: Any, library_id: int) -> LocalLibrary:
    if library is None:
        raise LibraryGoneError(f"There is no library {library_id}")
    if library.removing_since is not None:
        raise LibraryGoneError(f"The library {library.name} is being removed")
    return on_this_machine(library, services().settings.roots)
