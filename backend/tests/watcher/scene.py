"""A library with a real folder, database and broker, and what the watcher enqueued for it."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from mus.broker.runtime import Runtime, opened
from mus.config import Settings
from mus.jobs import JOB_MODULES
from mus.library.paths import unescaped
from mus.library.scan_plan import KnownTrack
from mus.persistence.models import Job, Library, Track
from mus.watcher.watcher import watch
from waiting import until


@dataclass
class Scene:
    runtime: Runtime
    library_id: int
    music: Path

    async def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        async with self.runtime.database.reading() as session:
            return list((await session.scalars(select(Job).order_by(Job.created_at, Job.id))).all())

    async def jobs_by_task(self) -> dict[tuple[str, str], list[Any]]:
        """The paths of each job, by task and queue."""
        found: dict[tuple[str, str], list[Any]] = {}
        for job in await self.jobs():
            found.setdefault((job.task, job.queue), []).append(job.arguments.get("paths"))
        return found

    async def enqueued(self, task: str) -> list[bytes]:
        """The paths of all jobs of a task."""
        return [unescaped(path) for job in await self.jobs() if job.task == task for path in job.arguments["paths"]]

    async def wait_for(self, task: str, *paths: bytes) -> None:
        """Until jobs of `task` name all of these paths."""

        async def are_there() -> bool:
            return set(paths) <= set(await self.enqueued(task))

        await until(are_there, seconds=30, what=f"{task} of {paths[:5]}")

    async def wait_for_scan(self) -> Job:
        """Until a quick scan is queued; it is then taken as done, so that the next one makes a row of its own."""

        async def queued() -> Job | None:
            return next(
                (job for job in await self.jobs() if job.task == "scan_library" and job.state == "queued"), None
            )

        scan = await until(queued, seconds=30, what="a quick scan")
        async with self.runtime.database.unit_of_work() as work:
            await work.session.execute(update(Job).where(Job.id == scan.id).values(state="succeeded"))
        return scan

    async def add_tracks(self, *tracks: KnownTrack) -> None:
        async with self.runtime.database.unit_of_work() as work:
            for track in tracks:
                fields = {**track._asdict(), "id": None, "library_id": self.library_id}
                work.session.add(
                    Track(**fields, title="", title_key="", artist_key="", album_key="", compilation=False)
                )

    async def add_file(self, name: str, content: bytes = b"music") -> KnownTrack:
        """A file that is there and known."""
        path = self.music / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        stat = path.stat()
        track = KnownTrack(
            0, os.fsencode(name), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev,
            "COMPLETE", None,
        )  # fmt: skip
        await self.add_tracks(track)
        return track

    async def set_library(self, **values: Any) -> None:
        async with self.runtime.database.unit_of_work() as work:
            await work.session.execute(update(Library).where(Library.id == self.library_id).values(**values))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch for the block; the scan of the start is awaited and taken as done."""
        stopping = asyncio.Event()
        watching = asyncio.create_task(watch(self.runtime, stopping))
        try:
            await self.wait_for_scan()
            yield
        finally:
            stopping.set()
            await watching


@asynccontextmanager
async def opened_scene(folder: Path, broker_url: str, queue_name: str, **settings: Any) -> AsyncIterator[Scene]:
    for module in JOB_MODULES:
        importlib.import_module(module)
    music = folder / "music"
    music.mkdir(parents=True)
    async with opened(
        Settings(data_dir=folder / "data", dragonfly_url=broker_url, queue_name=queue_name, **settings)
    ) as runtime:
        async with runtime.database.unit_of_work() as work:
            library = Library(name="music", root=os.fsencode(music), online=True)
            work.session.add(library)
            await work.session.flush()
            library_id = library.id
        yield Scene(runtime, library_id, music)
    shutil.rmtree(folder, ignore_errors=True)
