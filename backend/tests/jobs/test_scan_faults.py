"""Scans while things break: worker, broker, database, disk, and the patience of whoever asked."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import mutagen.flac
import pytest
from music_library import FAST_QUEUES, MusicLibrary, counts, counts_in, new_library, worker_of
from sqlalchemy import func, select

from audio_files import make_audio
from broker_rules import NO_FUNCTIONS
from mus.broker.embedded_server import EmbeddedServer
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.jobs.scan_walk import CHUNK
from mus.jobs.services import services
from mus.ledger import steering
from mus.ledger.job_states import TERMINAL_STATES
from mus.persistence.database import Database
from mus.persistence.models import Job, JobEvent, Track
from waiting import until
from worker_processes import dead, doomed_process, worker_process

pytestmark = pytest.mark.slow

FILES = 3000
SCAN_WORKER = Path(__file__).parent / "scan_worker.py"


async def tracks_so_far(library: MusicLibrary) -> int:
    async with library.runtime.database.reading() as session:
        return (await session.execute(select(func.count()).select_from(Track))).scalar_one()


async def assert_whole(library: MusicLibrary, scan: Job, files: int = FILES) -> None:
    """Every file is listed once, the scan's totals are right, and the database is sound."""
    assert scan.state == "succeeded", (scan.error_message, scan.error_details)
    assert scan.result is not None
    assert counts_in(scan.result) == counts(found=files, added=files)
    assert (scan.children_open, scan.progress) == (0, 1.0)
    await assert_sound(library, files)
    async with library.runtime.database.reading() as session:
        states = await session.execute(select(Job.state).where(Job.parent_id == scan.id))
        assert set(states.scalars()) == {"succeeded"}


@pytest.fixture
def tmp_path(memory_path: Path) -> Path:
    """Thousands of files in every test, and nothing that a disk would do otherwise."""
    return memory_path


sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])


async def assert_sound(library: MusicLibrary, files: int) -> None:
    tracks = await library.tracks()
    assert len(tracks) == files
    assert {track.status for track in tracks.values()} <= {"PENDING", "COMPLETE"}
    if not library.runtime.database.is_sqlite:
        return
    database = sqlite3.connect(library.runtime.settings.data_dir / "mus.db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        database.close()


# ------------------------------------------------------------------ workers


async def test_a_worker_killed_while_it_reads_is_succeeded_by_another(
    music: MusicLibrary, settings: Settings
) -> None:
    music.write_many(FILES)
    with worker_process(settings) as doomed:
        scan_id = await music.enqueue_scan()
        await until(lambda: tracks_so_far(music), what="the first tracks")
        os.kill(doomed.pid, signal.SIGKILL)
        await until(lambda: dead(doomed), what="its death")
    assert await tracks_so_far(music) < FILES
    async with worker_of(music.runtime):
        scan = await music.ended(scan_id)
    await assert_whole(music, scan)


@pytest.mark.parametrize(
    ("effects", "are_read", "mode"),
    [(1, False, "quick"), (2, True, "full"), (4, True, "quick"), (4, False, "full")],
)
async def test_a_worker_killed_in_the_middle_of_its_walk_has_nothing_read_or_counted_twice(
    music: MusicLibrary, settings: Settings, effects: int, are_read: bool, mode: str
) -> None:
    for number in range(4):
        music.write_many(CHUNK, f"Album {number}")
    with doomed_process(settings, SCAN_WORKER, "kill", str(effects)) as doomed:
        scan_id = await music.enqueue_scan(mode=mode)
        await until(lambda: dead(doomed), what="its death")
    assert "found" not in ((await music.job(scan_id)).checkpoint or {}), "the walk was not over"
    assert len(await music.jobs("read_files")) == effects - 1
    if are_read:
        async with worker_of(music.runtime, [Queue.MEDIUM]):
            await until(lambda: all_ended(music, "read_files"), what="the chunks that were enqueued")
    async with worker_of(music.runtime):
        scan = await music.ended(scan_id)
    assert scan.attempt == 2
    await assert_whole(music, scan, 4 * CHUNK)
    paths = [path for chunk in await music.jobs("read_files") for path in chunk.arguments["paths"]]
    assert len(paths) == len(set(paths)) == 4 * CHUNK
    assert (scan.units_done, scan.units_total) == (4 * CHUNK, 4 * CHUNK)


@sqlite_only
@pytest.mark.parametrize("effects", [1, 2, 3, 5])
async def test_a_worker_killed_at_any_step_of_a_scans_end_leaves_every_track_its_file(
    music: MusicLibrary, settings: Settings, effects: int
) -> None:
    for number in range(5):
        tags = {"title": f"Song {number}", "artist": "Somebody", "tracknumber": str(number)}
        make_audio(music.root / f"{number}.flac", seconds=0.3, tags=tags, pitch=1 + number / 8)
    async with worker_of(music.runtime, list(Queue)):
        await music.scan()
        await until(lambda: all_complete(music), what="the analysis")
    before = {name: id_ for name, (id_, _) in (await music.identities()).items()}
    # Two swap their places, one goes elsewhere as a copy, all three with other tags; one is renamed, one deleted.
    os.rename(music.root / "0.flac", music.root / "swap")
    os.rename(music.root / "1.flac", music.root / "0.flac")
    os.rename(music.root / "swap", music.root / "1.flac")
    shutil.copyfile(music.root / "2.flac", music.root / "New.flac")
    os.rename(music.root / "3.flac", music.root / "Renamed.flac")
    for name in ("2.flac", "4.flac"):
        (music.root / name).unlink()
    for name in ("0.flac", "1.flac", "New.flac"):
        audio = mutagen.flac.FLAC(music.root / name)
        audio["title"] = f"Now {name}"
        audio.save()
    with doomed_process(settings, SCAN_WORKER, "finish", str(effects)) as doomed:
        scan_id = await music.enqueue_scan()
        await until(lambda: dead(doomed), what="its death")
    async with worker_of(music.runtime):
        scan = await music.ended(scan_id)
    assert scan.state == "succeeded", scan.error_message
    assert counts_in(scan.result or {}) == counts(found=4, moved=4, missing=1)
    assert {name: id_ for name, (id_, _) in (await music.identities()).items()} == {
        "0.flac": before["1.flac"],
        "1.flac": before["0.flac"],
        "New.flac": before["2.flac"],
        "Renamed.flac": before["3.flac"],
    }
    assert {name: (await music.track(name)).title for name in ("0.flac", "New.flac", "Renamed.flac")} == {
        "0.flac": "Now 0.flac", "New.flac": "Now New.flac", "Renamed.flac": "Song 3",
    }  # fmt: skip


async def all_complete(library: MusicLibrary) -> bool:
    return all(track.status == "COMPLETE" for track in (await library.tracks()).values())


async def all_ended(library: MusicLibrary, task: str) -> bool:
    return all(job.state in TERMINAL_STATES for job in await library.jobs(task))


async def test_a_scan_handed_back_at_shutdown_loses_no_attempt_and_counts_nothing_twice(
    music: MusicLibrary, settings: Settings
) -> None:
    music.write_many(FILES)
    settings = settings.model_copy(update={"drain_seconds": 0.0})
    with worker_process(settings):
        scan_id = await music.enqueue_scan()
        await until(lambda: tracks_so_far(music), what="the first tracks")
    async with worker_of(music.runtime):
        scan = await music.ended(scan_id)
    assert scan.attempt == 1
    await assert_whole(music, scan)


# ------------------------------------------------------------------ the broker


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A broker that a test may break."""
    server = EmbeddedServer(tmp_path / "b", extra_arguments=NO_FUNCTIONS)
    await asyncio.to_thread(server.start)
    try:
        await server.ready(10)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_broker_killed_and_started_again_costs_a_scan_nothing(
    settings: Settings, database: Database, own_broker: EmbeddedServer, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"dragonfly_url": own_broker.url})
    async with broker.connected(database, own_broker.url, settings.queue_name) as connection:
        runtime = Runtime(settings, database, connection)
        music = await new_library(runtime, tmp_path / "music")
        music.write_many(FILES)
        async with worker_of(runtime):
            scan_id = await music.enqueue_scan()
            await until(lambda: tracks_so_far(music), what="the first tracks")
            assert own_broker.process_id is not None
            os.kill(own_broker.process_id, signal.SIGKILL)
            await own_broker.ready(10)
            await assert_whole(music, await music.ended(scan_id))


# ------------------------------------------------------------------ the database


def _lock_at_the_first_track(connection: sqlite3.Connection) -> None:
    """In one go: on a busy machine the whole scan went by between the first tracks and the lock."""
    deadline = time.monotonic() + 30
    while not connection.execute("SELECT EXISTS (SELECT 1 FROM tracks)").fetchone()[0]:
        assert time.monotonic() < deadline, "no track came"
        time.sleep(0.001)
    connection.execute("BEGIN IMMEDIATE")


@sqlite_only
async def test_a_database_locked_for_seconds_delays_a_scan_and_no_more(
    music: MusicLibrary, settings: Settings
) -> None:
    music.write_many(FILES)
    async with worker_of(music.runtime):
        scan_id = await music.enqueue_scan()
        file = settings.data_dir / "mus.db"
        other = sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)
        await asyncio.to_thread(_lock_at_the_first_track, other)
        before = await tracks_so_far(music)
        assert before < FILES
        # Longer than it takes to be declared dead: nobody could have written a heartbeat.
        await asyncio.sleep(2 * settings.dead_after_seconds)
        assert await tracks_so_far(music) == before
        other.execute("ROLLBACK")
        other.close()
        await assert_whole(music, await music.ended(scan_id))


@pytest.fixture
def small_disk(settings: Settings) -> Iterator[Path]:
    """The data folder on a disk of its own, with a file that fills most of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    settings.data_dir.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(settings.data_dir)], check=True)
    try:
        yield settings.data_dir / "ballast"
    finally:
        subprocess.run(["umount", "--lazy", str(settings.data_dir)], check=True)


@sqlite_only
async def test_a_full_disk_fails_a_scan_for_now_and_there_is_nothing_to_repair(
    small_disk: Path, music: MusicLibrary
) -> None:
    music.write_many(FILES)
    async with worker_of(music.runtime):
        free = os.statvfs(small_disk.parent).f_bavail * os.statvfs(small_disk.parent).f_frsize
        small_disk.write_bytes(b"\0" * (free - 400_000))
        scan_id = await music.enqueue_scan()
        await until(lambda: disk_is_full(small_disk.parent), what="the full disk")
        assert await tracks_so_far(music) < FILES
        small_disk.unlink()
        scan = await music.ended(scan_id, seconds=60)
        # None where it was the start of an attempt that could not be written.
        assert await temporary_reasons(music) <= {"The disk of the data folder is full or failing"}
        await assert_whole(music, scan)


async def disk_is_full(folder: Path) -> bool:
    try:
        probe = folder / "probe"
        probe.write_bytes(b"\0" * 16_384)
        probe.unlink()
    except OSError:
        (folder / "probe").unlink(missing_ok=True)
        return True
    return False


async def temporary_reasons(library: MusicLibrary) -> set[str]:
    """Why attempts failed that were made again."""
    async with library.runtime.database.reading() as session:
        rows = await session.execute(select(JobEvent.details).where(JobEvent.event == "failed for now"))
        return {details["error_message"] for details in rows.scalars() if details}


# ------------------------------------------------------------------ cancelled


async def assert_cancelled(library: MusicLibrary, scan_id: str) -> None:
    async with library.runtime.database.unit_of_work():
        await steering.cancel(library.runtime.connection.ledger, scan_id)
    assert (await library.ended(scan_id)).state == "cancelled"
    async with library.runtime.database.reading() as session:
        rows = await session.execute(select(Job.state).where(Job.parent_id == scan_id))
        assert set(rows.scalars()) <= {"cancelled", "succeeded"}


async def test_a_cancelled_scan_stops_and_the_next_one_completes_it(music: MusicLibrary) -> None:
    music.write_many(FILES)
    async with worker_of(music.runtime):
        scan_id = await music.enqueue_scan()
        await until(lambda: tracks_so_far(music), what="the first tracks")
        await assert_cancelled(music, scan_id)
        stored = await tracks_so_far(music)
        assert stored < FILES
        assert counts_in(await music.scan()) == counts(found=FILES, added=FILES - stored, unchanged=stored)
        await assert_sound(music, FILES)


async def test_cancelling_a_scan_ends_its_readers_and_the_parts_that_wait(music: MusicLibrary) -> None:
    music.write_many(FILES)
    async with worker_of(music.runtime):
        readers = services().readers
        stopped: set[int] = set()

        async def all_readers_hang() -> bool:
            for pid in set(readers.process_ids) - stopped:
                os.kill(pid, signal.SIGSTOP)
                stopped.add(pid)
            return len(stopped) == music.runtime.settings.reader_processes

        scan_id = await music.enqueue_scan()
        await until(all_readers_hang, what="the readers")
        await music.in_state(scan_id, "waiting")
        await assert_cancelled(music, scan_id)
        assert stopped.isdisjoint(readers.process_ids)

        async def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in stopped)

        await until(gone, what="the end of the readers")
        parts = await music.jobs("read_files")
        assert {part.state for part in parts} == {"cancelled"}
        assert sum(len(part.arguments["paths"]) for part in parts) == FILES
        assert await music.jobs("finish_scan") == []
        assert counts_in(await music.scan()) == counts(found=FILES, added=FILES)
        await assert_sound(music, FILES)


@pytest.mark.parametrize(("effects", "state"), [(1, "running"), (2, "succeeded")])
async def test_a_scan_without_changes_is_one_job_also_when_its_worker_dies_before_or_after_it_closed_it(
    music: MusicLibrary, settings: Settings, effects: int, state: str
) -> None:
    music.write_many(10)
    async with worker_of(music.runtime):
        await music.scan()
    last_parts = [job.id for job in await music.jobs("finish_scan")]
    with doomed_process(settings, SCAN_WORKER, "kill", str(effects)) as doomed:
        scan_id = await music.enqueue_scan()
        await until(lambda: dead(doomed), what="its death")
    assert (await music.job(scan_id)).state == state
    async with worker_of(music.runtime):
        scan = await music.ended(scan_id)
    assert (scan.state, scan.attempt, scan.children_open) == ("succeeded", 1 if state == "succeeded" else 2, 0)
    assert counts_in(scan.result or {}) == counts(found=10, unchanged=10)
    assert [job.id for job in await music.jobs("finish_scan")] == last_parts


async def test_a_scan_that_hangs_on_a_dead_disk_can_be_cancelled(music: MusicLibrary, settings: Settings) -> None:
    for number in range(3):
        music.write_many(CHUNK, f"Album {number}")
    with doomed_process(settings, SCAN_WORKER, "hang"):
        scan_id = await music.enqueue_scan()

        async def hangs() -> bool:
            return len(await music.jobs("read_files")) == 1

        await until(hangs, what="the first folder")
        await assert_cancelled(music, scan_id)
    async with worker_of(music.runtime, FAST_QUEUES):
        assert counts_in(await music.scan()) == counts(found=3 * CHUNK, added=3 * CHUNK)
