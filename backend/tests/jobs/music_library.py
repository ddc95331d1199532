"""A library with a real folder, and the jobs that a test has done to it."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from audio_files import make_audio, write_library
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import Options, broker
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.paths import escaped
from mus.persistence.batch_operations import hold_tracks
from mus.persistence.models import Job, Library, Track
from mus.worker import load_job_modules, worker_running
from waiting import until

#: Scans and watched changes without the analysis that follows them.
FAST_QUEUES = (Queue.HIGH, Queue.MEDIUM)


@asynccontextmanager
async def worker_of(runtime: Runtime, queues: Iterable[Queue] = FAST_QUEUES) -> AsyncIterator[None]:
    """A real worker in this process, which has begun to listen."""
    connection = runtime.connection

    async def listens() -> bool:
        [(_, subscribers)] = await connection.redis.pubsub_numsub(connection.control_channel)
        return subscribers > 0

    async with worker_running(runtime, list(queues)):
        await until(listens, what="the worker")
        yield


@dataclass
class MusicLibrary:
    """The library's row and folder. Paths are given as text and stand for their bytes on disk."""

    runtime: Runtime
    id: int
    root: Path

    # ------------------------------------------------------------------ files

    def write(self, *names: str, seconds: float = 0.2) -> None:
        """Real audio files, each with its name as title; a `.nomedia` is an empty one."""
        for name in names:
            if name.endswith(".nomedia"):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).touch()
                continue
            make_audio(self.root / name, seconds=seconds, tags={"title": Path(name).stem, "artist": "Somebody"})

    def write_many(self, count: int, folder: str = "Album") -> list[str]:
        """`count` small files that differ; made by copying one."""
        names = [f"{folder}/{number:04}.wav" for number in range(count)]
        write_library(self.root, {names[0]: None})
        sound = (self.root / names[0]).read_bytes()
        for name in names[1:]:
            (self.root / name).write_bytes(sound)
        return names

    def path(self, name: str | bytes) -> bytes:
        return os.path.join(os.fsencode(self.root), os.fsencode(name))

    # ------------------------------------------------------------------- jobs

    async def enqueue(self, task: str, queue: Queue = Queue.HIGH, **arguments: Any) -> str:
        async with self.runtime.database.unit_of_work():
            return await broker.enqueue(queue, task, Options(requested_by="test"), **arguments)

    async def enqueue_scan(self, queue: Queue = Queue.HIGH, **arguments: Any) -> str:
        """As the API does: one scan of a library runs at a time."""
        options = Options(exclusive_key=f"library:{self.id}", requested_by="test")
        async with self.runtime.database.unit_of_work():
            return await broker.enqueue(queue, "scan_library", options, library_id=self.id, **arguments)

    async def job(self, job_id: str) -> Job:
        async with self.runtime.database.reading() as session:
            return (await session.execute(select(Job).where(Job.id == job_id))).scalar_one()

    async def ended(self, job_id: str, *, seconds: float = 30.0) -> Job:
        async def look() -> Job | None:
            job = await self.job(job_id)
            return job if job.state in TERMINAL_STATES else None

        return await until(look, seconds=seconds, what=f"the end of job {job_id}")

    async def in_state(self, job_id: str, state: str) -> Job:
        async def look() -> Job | None:
            job = await self.job(job_id)
            return job if job.state == state else None

        return await until(look, what=f"state {state} of job {job_id}")

    async def staged(self, job_id: str, stage: str) -> None:
        async def look() -> bool:
            return (await self.job(job_id)).stage == stage

        await until(look, what=f"stage {stage} of job {job_id}")

    async def run(self, task: str, queue: Queue = Queue.HIGH, **arguments: Any) -> Job:
        """Enqueue a job and wait for its end."""
        return await self.ended(await self.enqueue(task, queue, **arguments))

    async def scan(self, **arguments: Any) -> dict[str, Any]:
        """A scan that succeeds; its result."""
        return result_of(await self.ended(await self.enqueue_scan(**arguments)))

    async def walked_scan(self) -> str:
        """A scan whose walk is over; where no worker serves the medium queue, nothing is read yet."""
        scan_id = await self.enqueue_scan()
        await self.in_state(scan_id, "waiting")
        return scan_id

    async def failed_scan(self, **arguments: Any) -> Job:
        job = await self.ended(await self.enqueue_scan(**arguments))
        assert job.state == "failed", job.result
        return job

    async def change(self, task: str, *names: str | bytes) -> dict[str, Any]:
        """A watched change that succeeds; its result."""
        return result_of(await self.run(task, library_id=self.id, paths=as_arguments(*names)))

    async def jobs(self, task: str) -> list[Job]:
        async with self.runtime.database.reading() as session:
            return list((await session.scalars(select(Job).where(Job.task == task).order_by(Job.id))).all())

    # ----------------------------------------------------------------- tracks

    async def tracks(self) -> dict[str, Track]:
        """Every row by its path; a parked one's path ends in NUL and its id."""
        async with self.runtime.database.reading() as session:
            rows = (await session.scalars(select(Track).where(Track.library_id == self.id))).all()
        return {os.fsdecode(row.path): row for row in rows}

    async def track(self, name: str) -> Track:
        return (await self.tracks())[name]

    async def identities(self) -> dict[str, tuple[int, Any]]:
        """Id and added_at of each live track by path."""
        return {
            path: (row.id, row.added_at)
            for path, row in (await self.tracks()).items()
            if row.status in {"PENDING", "COMPLETE", "ERROR"}
        }

    async def statuses(self) -> dict[str, str]:
        return {path: row.status for path, row in (await self.tracks()).items()}

    async def set_tracks(self, *conditions: Any, **values: Any) -> None:
        async with self.runtime.database.unit_of_work() as work:
            await hold_tracks(work.session, self.id)
            await work.session.execute(update(Track).where(*conditions).values(**values))

    async def move_root(self, root: Path) -> None:
        """The folder was moved as a whole, and the library's row follows."""
        async with self.runtime.database.unit_of_work() as work:
            await work.session.execute(update(Library).where(Library.id == self.id).values(root=os.fsencode(root)))
        self.root = root

    async def set_online(self, online: bool) -> None:
        async with self.runtime.database.unit_of_work() as work:
            await work.session.execute(update(Library).where(Library.id == self.id).values(online=online))

    async def row(self) -> Library:
        async with self.runtime.database.reading() as session:
            return (await session.execute(select(Library).where(Library.id == self.id))).scalar_one()


@contextmanager
def busy_file(path: Path) -> Iterator[None]:
    """While it lasts, opening the file fails for others with EAGAIN, as on a disk that has a hiccup.

    By a write lease (fcntl(2), F_SETLEASE), which the kernel takes away after 45 s.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        # By default the kernel ends a process whose lease is wanted; SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        deadline = time.monotonic() + 20
        while not _leased(descriptor):
            assert time.monotonic() < deadline, f"somebody keeps {path} open"
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _leased(descriptor: int) -> bool:
    """Not while anybody else has the file open, as a reader that has just looked at it may."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    return True


def as_arguments(*names: str | bytes) -> list[str]:
    return [escaped(os.fsencode(name)) for name in names]


def result_of(job: Job) -> dict[str, Any]:
    assert job.state == "succeeded", (job.state, job.error_message, job.error_details)
    assert job.result is not None
    return job.result


async def new_library(runtime: Runtime, root: Path, *, name: str = "Music") -> MusicLibrary:
    load_job_modules([], list(Queue))
    root.mkdir(parents=True, exist_ok=True)
    async with runtime.database.unit_of_work() as work:
        row = Library(name=name, root=os.fsencode(root))
        work.session.add(row)
        await work.session.flush()
        return MusicLibrary(runtime, row.id, root)


def counts(**expected: int) -> dict[str, int]:
    """A scan's counts, 0 where nothing is said."""
    names = ("found", "added", "updated", "moved", "missing", "unchanged", "failed")
    return dict.fromkeys(names, 0) | expected


def counts_in(result: dict[str, Any]) -> dict[str, int]:
    return {name: result[name] for name in counts()}


async def scanned(library: MusicLibrary, *names: str) -> dict[str, int]:
    """Ids of new tracks by path."""
    library.write(*names)
    await library.scan()
    return {path: track.id for path, track in (await library.tracks()).items()}
