"""Readers can be killed, can hang and can be cancelled; every file still gets its own answer."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import wave
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path

import pytest
import uvloop

from audio_files import make_audio
from mus.errors import AdminRequiredError
from mus.library.integrity import Integrity
from mus.library.listening import Aspect
from mus.library.reader_pool import ReaderPool

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def pool() -> AsyncIterator[ReaderPool]:
    async with ReaderPool(1) as pool:
        yield pool


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0)


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def many(root: Path, count: int) -> list[bytes]:
    """Hard links to one song are as many files to a reader."""
    make_audio(root / "00000.mp3", seconds=0.2, tags={"title": "Song"})
    for number in range(1, count):
        os.link(root / "00000.mp3", root / f"{number:05}.mp3")
    return [b"%05d.mp3" % number for number in range(count)]


async def test_readings_come_in_the_order_of_the_paths(tmp_path: Path, pool: ReaderPool) -> None:
    paths = [*many(tmp_path, 60), b"gone.mp3"]

    readings = await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)

    assert [reading.path for reading in readings] == paths
    assert [reading.title for reading in readings] == ["Song"] * 60 + ["gone"]
    assert readings[-1].vanished
    assert readings[0].stat is not None
    assert await pool.run("read", os.fsencode(tmp_path), [], file_timeout_seconds=10) == []


async def test_names_that_are_not_utf8_cross_both_ways(tmp_path: Path, pool: ReaderPool) -> None:
    root = tmp_path / os.fsdecode(b"m\xfcsic")
    root.mkdir()
    sound = make_audio(tmp_path / "song.mp3").read_bytes()
    (root / os.fsdecode(b"caf\xe9\n.mp3")).write_bytes(sound)

    (reading,) = await pool.run("read", os.fsencode(root), [b"caf\xe9\n.mp3"], file_timeout_seconds=10)

    assert (reading.path, reading.title, reading.error_message) == (b"caf\xe9\n.mp3", "caf%E9%0A", None)


async def test_analyses_run_under_the_memory_limit(tmp_path: Path, pool: ReaderPool) -> None:
    path = make_audio(tmp_path / "song.flac")

    (analysis,) = await pool.run(
        "analyse", os.fsencode(tmp_path), [b"song.flac"], thumbnails_dir=tmp_path, file_timeout_seconds=10
    )

    assert analysis.duration_seconds == 1.0
    assert analysis.stat is not None
    assert analysis.stat.size == path.stat().st_size


async def test_a_child_is_used_again_and_reading_imports_no_decoder(tmp_path: Path, pool: ReaderPool) -> None:
    paths = many(tmp_path, 2)
    await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)
    (child,) = pool.process_ids
    await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)

    assert pool.process_ids == [child]
    mapped = Path(f"/proc/{child}/maps").read_text()
    assert "libvips" not in mapped
    assert "libavformat" not in mapped
    limits = Path(f"/proc/{child}/limits").read_text().splitlines()
    assert any("Max address space" in line and str(2 * 1024**3) in line for line in limits)
    assert any("Max core file size" in line and line.split()[4] == "0" for line in limits)


async def test_no_more_children_than_its_size_and_all_gone_when_closed(tmp_path: Path) -> None:
    paths = many(tmp_path, 10)
    async with ReaderPool(2, nice=5) as pool:
        runs = [pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10) for _ in range(8)]
        assert [len(readings) for readings in await asyncio.gather(*runs)] == [10] * 8
        children = pool.process_ids
        assert len(children) == 2
        assert all(os.getpriority(os.PRIO_PROCESS, child) >= 5 for child in children)

    assert not any(is_alive(child) for child in children)


async def test_a_killed_reader_costs_no_file_its_reading(tmp_path: Path, pool: ReaderPool) -> None:
    paths = many(tmp_path, 3000)
    running = asyncio.create_task(pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10))
    await until(lambda: pool.process_ids)
    (first,) = pool.process_ids
    await until(lambda: opened_inside(first, tmp_path))
    os.kill(first, signal.SIGKILL)

    readings = await running

    assert [reading.path for reading in readings] == paths
    assert {reading.title for reading in readings} == {"Song"}
    assert pool.process_ids != [first]


def opened_inside(process_id: int, folder: Path) -> bool:
    """Whether the process is at a file right now."""
    try:
        links = list(Path(f"/proc/{process_id}/fd").iterdir())
        return any(link.readlink().is_relative_to(folder) for link in links)
    except OSError:
        return False


async def test_a_file_that_crashes_each_reader_is_blamed_and_the_others_are_read(
    tmp_path: Path, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = many(tmp_path, 40)
    arm(tmp_path, monkeypatch, name="00017.mp3", action="os.kill(os.getpid(), 11)")

    readings = await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)

    assert [reading.error_message for reading in readings if reading.error_message] == [
        "The reader crashed on this file"
    ]
    assert readings[17].error_message is not None
    assert [reading.path for reading in readings] == paths


async def test_a_file_that_hangs_is_given_up_and_the_others_are_read(
    tmp_path: Path, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = many(tmp_path, 40)
    arm(tmp_path, monkeypatch, name="00000.mp3", action="os.kill(os.getpid(), signal.SIGSTOP)")

    readings = await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=0.3)

    assert readings[0].error_message == "Reading this file took longer than 0.3 s"
    assert {reading.error_message for reading in readings[1:]} == {None}


async def test_a_file_that_crashes_two_listeners_could_not_be_checked(
    tmp_path: Path, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = many(tmp_path, 4)
    arm(tmp_path, monkeypatch, name="00002.mp3", action="os.kill(os.getpid(), 11)")

    found = await pool.run("listen", os.fsencode(tmp_path), paths, aspects=[*Aspect], file_timeout_seconds=10)

    assert [listening.unchecked for listening in found] == [None, None, "The reader crashed on this file", None]
    assert [listening.integrity for listening in found if listening.unchecked is None] == [Integrity.SOUND] * 3


@pytest.mark.slow
async def test_a_file_that_takes_long_is_not_given_up_while_its_sound_gets_on(
    tmp_path: Path, pool: ReaderPool
) -> None:
    long = tmp_path / "long.wav"
    seconds, rate = 3 * 3600, 8000
    with wave.open(str(long), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"")
    head = bytearray(long.read_bytes())
    # Silence that takes no place on the disk, and longer than three seconds to be heard.
    head[4:8] = (36 + 2 * seconds * rate).to_bytes(4, "little")
    head[40:44] = (2 * seconds * rate).to_bytes(4, "little")
    long.write_bytes(head)
    os.truncate(long, len(head) + 2 * seconds * rate)

    (listening,) = await pool.run(
        "listen", os.fsencode(tmp_path), [b"long.wav"], aspects=[*Aspect], file_timeout_seconds=3
    )

    assert (listening.unchecked, listening.integrity, listening.true_peak) == (None, Integrity.SOUND, 0.0)
    (child,) = pool.process_ids
    status = Path(f"/proc/{child}/status").read_text()
    peak_kilobytes = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kilobytes < 150_000, "its memory does not grow with the length"


def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, action: str) -> None:
    """Stand in for a bug in a library: children act like that when they open the file `name`."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def hook(event, arguments):\n"
        f"    if event == 'open' and str(arguments[0]).endswith(\"/{name}'\"):\n"
        f"        {action}\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))


async def test_cancelling_a_run_kills_its_child_and_the_pool_goes_on(tmp_path: Path, pool: ReaderPool) -> None:
    paths = many(tmp_path, 3000)
    running = asyncio.create_task(pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10))
    await until(lambda: pool.process_ids)
    (child,) = pool.process_ids
    await until(lambda: opened_inside(child, tmp_path))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until(lambda: not is_alive(child))
    assert len(await pool.run("read", os.fsencode(tmp_path), paths[:3], file_timeout_seconds=10)) == 3


async def test_a_reader_that_died_while_idle_is_replaced_without_a_word(tmp_path: Path, pool: ReaderPool) -> None:
    paths = many(tmp_path, 3)
    await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)
    os.kill(pool.process_ids[0], signal.SIGKILL)

    readings = await pool.run("read", os.fsencode(tmp_path), paths, file_timeout_seconds=10)

    assert [reading.title for reading in readings] == ["Song"] * 3


async def test_children_that_cannot_start_are_an_admins_matter(tmp_path: Path) -> None:
    async with ReaderPool(1, memory_limit_bytes=1024 * 1024) as pool:
        with pytest.raises(AdminRequiredError):
            await pool.run("read", os.fsencode(tmp_path), many(tmp_path, 1), file_timeout_seconds=10)


async def test_children_end_with_a_parent_that_is_killed_and_not_with_ctrl_c(tmp_path: Path) -> None:
    paths = many(tmp_path, 1)
    program = (
        "import asyncio, os, sys\n"
        "from mus.library.reader_pool import ReaderPool\n"
        "async def main():\n"
        "    async with ReaderPool(1) as pool:\n"
        f"        await pool.run('read', {os.fsencode(tmp_path)!r}, {paths!r}, file_timeout_seconds=10)\n"
        "        print(pool.process_ids[0], flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(await asyncio.to_thread(parent.stdout.readline))
        os.kill(child, signal.SIGINT)
        assert is_alive(child)
    finally:
        parent.kill()
        parent.communicate()

    await until(lambda: not is_alive(child))


def test_an_idle_reader_keeps_nothing_of_what_it_was_started_and_used_for(tmp_path: Path) -> None:
    class Job:
        """What a context holds while a job runs."""

    current: ContextVar[Job] = ContextVar("current")

    async def read(pool: ReaderPool, job: Job) -> None:
        current.set(job)
        await pool.run("read", os.fsencode(tmp_path), [b"gone.mp3"], file_timeout_seconds=10)

    async def read_for_two() -> None:
        jobs = [Job(), Job()]
        kept = [weakref.ref(job) for job in jobs]
        async with ReaderPool(1) as pool:
            while jobs:
                await asyncio.create_task(read(pool, jobs.pop()))
            await until(lambda: gc.collect() >= 0 and [job() for job in kept] == [None, None])

    # The worker's loop: asyncio's own keeps timers that were cancelled until their time has come.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read_for_two())
