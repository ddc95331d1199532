"""The whole watcher on a real folder: what it enqueues, and how it heals."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from mus.broker.embedded_server import EmbeddedServer
from mus.library.file_systems import Mount
from mus.persistence.models import Library
from mus.watcher import library_watcher, notice, watcher
from mus.watcher.filter import Noticed
from mus.watcher.inotify import EventsLostError, Inotify, InotifyTree
from mus.watcher.notice import NoEventsError, OtherEvents, Polling
from waiting import until
from watcher.scene import Scene, opened_scene


@pytest.fixture(autouse=True)
def _quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_watcher, "_ROOT_SECONDS", 0.1)
    for name in ("_LIBRARIES_SECONDS", "_PING_SECONDS"):
        monkeypatch.setattr(watcher, name, 0.1)


@pytest.fixture
async def scene(tmp_path: Path, broker_url: str, queue_name: str) -> AsyncIterator[Scene]:
    async with opened_scene(tmp_path, broker_url, queue_name) as scene:
        yield scene


async def test_the_start_enqueues_a_quick_scan(scene: Scene) -> None:
    async with scene.watched():
        assert [job.task for job in await scene.jobs()] == ["scan_library"]


async def test_a_created_file_is_enqueued_on_the_high_queue(scene: Scene) -> None:
    async with scene.watched():
        (scene.music / "a.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"a.mp3")
    assert ("process_file_created", "high_priority") in await scene.jobs_by_task()


async def test_files_renamed_into_place_are_enqueued_one_after_the_other(scene: Scene, tmp_path: Path) -> None:
    async with scene.watched():
        for n in range(3):
            (tmp_path / "made.tmp").write_bytes(os.urandom(100_000))
            (tmp_path / "made.tmp").rename(scene.music / f"{n}.mp3")
            await scene.wait_for("process_file_created", b"%d.mp3" % n)


async def test_a_slowly_written_file_is_enqueued_once_and_only_when_it_is_whole(scene: Scene) -> None:
    async with scene.watched():
        with (scene.music / "slow.mp3").open("wb") as file:
            for n in range(6):
                file.write(b"music")
                file.flush()
                # Other files settle while this one is written, so its turn would have come.
                (scene.music / f"{n}.mp3").write_bytes(b"music")
                await scene.wait_for("process_file_created", b"%d.mp3" % n)
                assert b"slow.mp3" not in await scene.enqueued("process_file_created")
        await scene.wait_for("process_file_created", b"slow.mp3")
        (scene.music / "last.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"last.mp3")
    assert (await scene.enqueued("process_file_created")).count(b"slow.mp3") == 1


async def test_a_known_file_that_changes_is_modified(scene: Scene) -> None:
    await scene.add_file("A/known.mp3")
    async with scene.watched():
        (scene.music / "A/known.mp3").write_bytes(b"other music")
        await scene.wait_for("process_file_modified", b"A/known.mp3")
    assert ("process_file_modified", "medium_priority") in await scene.jobs_by_task()


async def test_a_deleted_file_is_enqueued_on_the_high_queue(scene: Scene) -> None:
    await scene.add_file("A/known.mp3")
    async with scene.watched():
        (scene.music / "A/known.mp3").unlink()
        await scene.wait_for("process_file_deletion", b"A/known.mp3")
    assert ("process_file_deletion", "high_priority") in await scene.jobs_by_task()


async def test_a_rename_is_one_move_with_both_paths(scene: Scene) -> None:
    await scene.add_file("A/old.mp3")
    (scene.music / "B").mkdir()
    async with scene.watched():
        (scene.music / "A/old.mp3").rename(scene.music / "B/new.mp3")
        await scene.wait_for("process_file_move", b"A/old.mp3", b"B/new.mp3")
    assert ("process_file_move", "medium_priority") in await scene.jobs_by_task()
    assert len(await scene.jobs()) == 2


async def test_a_renamed_folder_moves_all_that_is_in_it(scene: Scene) -> None:
    for n in range(20):
        await scene.add_file(f"Artist/Album {n % 3}/{n}.mp3")
    async with scene.watched():
        (scene.music / "Artist").rename(scene.music / "Renamed")
        await scene.wait_for(
            "process_file_move",
            *(b"Artist/Album %d/%d.mp3" % (n % 3, n) for n in range(20)),
            *(b"Renamed/Album %d/%d.mp3" % (n % 3, n) for n in range(20)),
        )
    assert len(await scene.jobs()) == 2


async def test_a_folder_moved_out_is_deleted_and_moved_in_is_created(scene: Scene, tmp_path: Path) -> None:
    await scene.add_file("Artist/Album/1.mp3")
    await scene.add_file("Artist/2.mp3")
    async with scene.watched():
        (scene.music / "Artist").rename(tmp_path / "outside")
        await scene.wait_for("process_file_deletion", b"Artist/Album/1.mp3", b"Artist/2.mp3")
        (tmp_path / "outside").rename(scene.music / "Back")
        await scene.wait_for("process_file_created", b"Back/Album/1.mp3", b"Back/2.mp3")


async def test_files_in_folders_made_in_the_same_instant_are_found(scene: Scene) -> None:
    async with scene.watched():
        for n in range(10):
            folder = scene.music / f"{n}/deep/deeper"
            folder.mkdir(parents=True)
            (folder / "a.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", *(b"%d/deep/deeper/a.mp3" % n for n in range(10)))
    assert len(await scene.enqueued("process_file_created")) == 10


async def test_hundreds_of_files_copied_in_cost_few_jobs(scene: Scene) -> None:
    async with scene.watched():
        await asyncio.to_thread(_make_files, scene.music / "New", 600)
        await scene.wait_for("process_file_created", *(b"New/%d/%d.mp3" % (n % 20, n) for n in range(600)))
    assert len(await scene.jobs()) <= 8
    assert len(await scene.enqueued("process_file_created")) == 600


async def test_thousands_of_files_copied_in_cost_few_jobs(scene: Scene) -> None:
    async with scene.watched():
        await asyncio.to_thread(_make_files, scene.music / "New", 5000)
        await scene.wait_for_scan()
    # Twenty full ones, and a part more for each pause in a copying that takes long.
    assert len(await scene.jobs()) <= 50


def _make_files(folder: Path, count: int) -> None:
    for n in range(count):
        (folder / str(n % 20)).mkdir(parents=True, exist_ok=True)
        (folder / f"{n % 20}/{n}.mp3").write_bytes(b"music")


async def test_names_with_newlines_percents_and_quotes_arrive(scene: Scene) -> None:
    names = ["line\nbreak.mp3", "100%41.mp3", "\"quote'.mp3", "\t tab.mp3", "日本語/ü.mp3", "\x7f\x01.mp3"]
    async with scene.watched():
        for name in names:
            (scene.music / name).parent.mkdir(exist_ok=True)
            (scene.music / name).write_bytes(b"music")
        await scene.wait_for("process_file_created", *(name.encode() for name in names))


async def test_skipped_files_and_a_nomedia_folder_make_no_job(scene: Scene) -> None:
    (scene.music / "quiet").mkdir()
    (scene.music / "quiet/.nomedia").touch()
    async with scene.watched():
        for name in ("cover.jpg", ".hidden.mp3", "a.mp3.part", "quiet/b.mp3"):
            (scene.music / name).write_bytes(b"music")
        (scene.music / "last.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"last.mp3")
        assert await scene.enqueued("process_file_created") == [b"last.mp3"]
        (scene.music / "quiet/.nomedia").unlink()
        await scene.wait_for_scan()


# ------------------------------------------------------------ healing


async def test_a_name_that_is_not_utf_8_arrives(scene: Scene) -> None:
    async with scene.watched():
        (scene.music / os.fsdecode(b"\xff")).mkdir()
        (scene.music / os.fsdecode(b"\xff/\xfe.mp3")).write_bytes(b"music")
        await scene.wait_for("process_file_created", b"\xff/\xfe.mp3")
    assert len(await scene.jobs()) == 2


async def test_a_name_that_is_not_utf_8_ends_watchfiles_for_good(tmp_path: Path) -> None:
    events = OtherEvents(os.fsencode(tmp_path))
    await events.open()
    try:
        (tmp_path / os.fsdecode(b"\xff.mp3")).write_bytes(b"music")
        delivered: list[Noticed] = []
        for _ in range(2):
            with pytest.raises(NoEventsError, match="Unable to decode"):
                await events.read(delivered.append)
    finally:
        events.close()


async def test_events_that_fail_heal_with_a_scan_and_when_they_keep_failing_by_polling(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_watcher, "events_of", OtherEvents)
    monkeypatch.setattr(notice, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(library_watcher, "_LONGEST_POLLING_AFTER_DEATH_SECONDS", 1.5)
    async with scene.watched():
        (scene.music / os.fsdecode(b"\xff0.mp3")).write_bytes(b"music")
        await scene.wait_for_scan()
        (scene.music / "next.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"next.mp3")
        (scene.music / os.fsdecode(b"\xff1.mp3")).write_bytes(b"music")
        await scene.wait_for_scan()
        (scene.music / os.fsdecode(b"\xfe.mp3")).write_bytes(b"music")
        await scene.wait_for("process_file_created", b"\xfe.mp3")
        assert await has_mode(scene, "polling")
        # Events are tried again after a pause, and work.
        await until(lambda: has_mode(scene, "events"), seconds=30, what="events")


async def test_lost_events_lead_to_a_scan_and_what_was_made_meanwhile_is_watched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = InotifyTree.read
    lost = asyncio.Event()

    def read(tree: InotifyTree) -> Noticed:
        noticed = real(tree)
        if noticed.paths and not lost.is_set():
            lost.set()
            raise EventsLostError
        return noticed

    monkeypatch.setattr(InotifyTree, "read", read)
    async with scene.watched():
        (scene.music / "New").mkdir()
        await scene.wait_for_scan()
        (scene.music / "New/1.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"New/1.mp3")


async def mode_of(scene: Scene) -> tuple[str | None, str | None]:
    """How the library is watched, and why."""
    async with scene.runtime.database.reading() as session:
        library = await session.get_one(Library, scene.library_id)
    return library.watch_mode, library.watch_reason


async def has_mode(scene: Scene, mode: str) -> bool:
    return (await mode_of(scene))[0] == mode


async def test_the_mode_stands_in_the_librarys_row_with_its_reason(scene: Scene) -> None:
    async with scene.watched():
        await until(lambda: has_mode(scene, "events"), seconds=30, what="events")
        assert await mode_of(scene) == ("events", "the file system tells of changes")


async def test_a_library_is_watched_as_a_person_set_it_from_then_on(scene: Scene) -> None:
    await scene.set_library(watch="polling")
    async with scene.watched():
        await until(lambda: has_mode(scene, "polling"), seconds=30, what="polling")
        assert await mode_of(scene) == ("polling", "as set")
        await scene.set_library(watch="off")
        await until(lambda: has_mode(scene, "off"), seconds=30, what="off")
        (scene.music / "unseen.mp3").write_bytes(b"music")
        await scene.set_library(watch="events")
        await until(lambda: has_mode(scene, "events"), seconds=30, what="events")
        await scene.wait_for_scan()
        (scene.music / "seen.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"seen.mp3")
        # A scan is to find what came while nobody watched.
        assert b"unseen.mp3" not in await scene.enqueued("process_file_created")


async def test_a_root_that_vanishes_and_returns_is_scanned_each_time_and_deletes_nothing(
    scene: Scene, tmp_path: Path
) -> None:
    await scene.add_file("A/known.mp3")
    async with scene.watched():
        scene.music.rename(tmp_path / "unmounted")
        await scene.wait_for_scan()
        (tmp_path / "unmounted").rename(scene.music)
        await scene.wait_for_scan()
        (scene.music / "new.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"new.mp3")
    assert await scene.enqueued("process_file_deletion") == []


async def test_a_root_that_is_removed_with_all_its_files_deletes_nothing(scene: Scene) -> None:
    for n in range(3):
        await scene.add_file(f"A/{n}.mp3")
    async with scene.watched():
        shutil.rmtree(scene.music)
        await scene.wait_for_scan()
        scene.music.mkdir()
        await scene.wait_for_scan()
        (scene.music / "new.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"new.mp3")
    assert await scene.enqueued("process_file_deletion") == []


async def test_a_root_that_is_replaced_within_an_instant_is_watched_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The new folder may get the inode of the old one, so that looking at it tells nothing.
    monkeypatch.setattr(library_watcher, "_ROOT_SECONDS", 1000.0)
    async with scene.watched():
        scene.music.rmdir()
        scene.music.mkdir()
        await scene.wait_for_scan()
        (scene.music / "new.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"new.mp3")


async def test_another_folder_in_the_place_of_the_root_is_watched(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with scene.watched():
        scene.music.rename(tmp_path / "first")
        (tmp_path / "other").rename(scene.music)
        await scene.wait_for_scan()
        (scene.music / "new.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"new.mp3")


async def test_a_root_that_is_missing_at_the_start_is_waited_for(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.music.rmdir()
    async with scene.watched():
        scene.music.mkdir()
        await scene.wait_for_scan()
        (scene.music / "new.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"new.mp3")
    assert caplog.text.count("is not there; waiting") == 1


async def test_a_library_that_is_added_is_watched_and_one_that_moves_is_followed(
    scene: Scene, tmp_path: Path
) -> None:
    async with scene.watched():
        for name in ("second", "third"):
            (tmp_path / name).mkdir()
            async with scene.runtime.database.unit_of_work() as work:
                if name == "second":
                    work.session.add(Library(name=name, root=os.fsencode(tmp_path / name), online=True))
                else:
                    change = update(Library).where(Library.name == "second")
                    await work.session.execute(change.values(root=os.fsencode(tmp_path / name)))
            await scene.wait_for_scan()
            (tmp_path / name / f"{name}.mp3").write_bytes(b"music")
            await scene.wait_for("process_file_created", f"{name}.mp3".encode())


async def test_a_broker_that_comes_back_leads_to_a_scan(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "broker")
    server.start()
    await server.ready()
    async with opened_scene(tmp_path / "scene", server.url, "{returning}") as scene, scene.watched():
        await asyncio.to_thread(server.stop)
        (scene.music / "meanwhile.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"meanwhile.mp3")
        server = EmbeddedServer(tmp_path / "broker")
        server.start()
        try:
            await scene.wait_for_scan()
        finally:
            await asyncio.to_thread(server.stop)


# ------------------------------------------------------------ polling


async def test_polling_finds_what_events_would_tell(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "_POLL_SECONDS", 0.1)
    monkeypatch.setattr(library_watcher, "_REMOTE_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(library_watcher, "eventless_mount", lambda root: Mount(b"1", b"0:1", root, "nfs4"))
    for name in ("A/old.mp3", "A/gone.mp3", "B/changed.mp3", "C/1.mp3", "same.mp3"):
        await scene.add_file(name)
    async with scene.watched():
        assert (await mode_of(scene))[1] == f"nfs4 at {scene.music} does not tell of changes made elsewhere"
        (scene.music / "A/old.mp3").rename(scene.music / "A/new.mp3")
        await scene.wait_for("process_file_move", b"A/old.mp3", b"A/new.mp3")
        (scene.music / "A/gone.mp3").unlink()
        (scene.music / "B/changed.mp3").write_bytes(b"other music")
        shutil.rmtree(scene.music / "C")
        (scene.music / os.fsdecode(b"\xff.mp3")).write_bytes(b"music")
        await scene.wait_for("process_file_deletion", b"A/gone.mp3", b"C/1.mp3")
        await scene.wait_for("process_file_modified", b"B/changed.mp3")
        await scene.wait_for("process_file_created", b"\xff.mp3")
    assert b"same.mp3" not in await scene.enqueued("process_file_modified")


async def test_polling_concludes_nothing_from_a_folder_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "A/B").mkdir(parents=True)
    (tmp_path / "A/B/1.mp3").write_bytes(b"music")
    polling = Polling(os.fsencode(tmp_path))
    await polling.open()
    scandir = os.scandir

    def failing(path: bytes) -> object:
        if path.endswith(b"/A"):
            raise OSError(5, "Input/output error")
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr("mus.library.walk.os.scandir", failing)
        assert polling.changes().paths == set()
    assert polling.changes().paths == set()
    (tmp_path / "A/B/1.mp3").unlink()
    assert polling.changes().paths == {b"A/B/1.mp3"}


# ------------------------------------------------------------ limits

PAST_THE_LIMIT = """
import asyncio, os, sys
from mus.watcher.notice import Events, NoEventsError

async def main():
    root = sys.argv[1]
    events = Events(os.fsencode(root))
    try:
        await events.open()
        print("watching")
        os.mkdir(root + "/one/too/many")
        await events.read(lambda noticed: None)
    except NoEventsError as error:
        print(error.is_lasting, error.reason)
    events.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("watches", 0, ["True the system watches no more folders"]),
        ("watches", 3, ["watching", "True the system watches no more folders"]),
        ("instances", 0, ["True the system allows no more watchers"]),
    ],
)
async def test_the_systems_limit_is_named_with_its_value_and_the_command_that_raises_it(
    tmp_path: Path, limit: str, value: int, said: list[str]
) -> None:
    (tmp_path / "one/too").mkdir(parents=True)
    name = f"max_inotify_{limit}"
    # Limits of a user namespace are its own: nothing else on the machine is touched.
    ended = await asyncio.to_thread(
        subprocess.run,
        ["unshare", "-Ur", "sh", "-c", f'echo {value} > /proc/sys/user/{name} && exec "$@"', "sh",
         sys.executable, "-c", PAST_THE_LIMIT, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        pytest.skip(f"no user namespaces here: {ended.stderr[-200:]}")
    lines = ended.stdout.splitlines()
    assert [line[: len(words)] for line, words in zip(lines, said, strict=True)] == said
    assert f"user.{name} is {value}; raise it for good" in lines[-1]
    assert f"`echo user.{name}=" in lines[-1]
    assert "| sudo tee /etc/sysctl.d/60-mus.conf && sudo sysctl --system`" in lines[-1]


async def test_past_the_limit_a_library_is_polled_and_says_why(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Inotify, folder: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)

    monkeypatch.setattr(Inotify, "add", full)
    monkeypatch.setattr(notice, "_POLL_SECONDS", 0.1)
    async with scene.watched():
        (scene.music / "a.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"a.mp3")
    mode, reason = await mode_of(scene)
    assert mode == "polling"
    assert "fs.inotify.max_user_watches is " in str(reason)
    assert str(reason) in caplog.text


# ------------------------------------------------------------ mounts

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def mount(folder: Path, *files: str) -> None:
    """An empty file system at the folder, with these files."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    for name in files:
        (folder / name).write_bytes(b"music")


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("place", ["", "disk"])
async def test_a_disk_that_is_mounted_and_unmounted_is_scanned_and_watched_each_time(
    scene: Scene, place: str
) -> None:
    folder = scene.music / place
    folder.mkdir(exist_ok=True)
    async with scene.watched():
        mount(folder, "there.mp3")
        try:
            await scene.wait_for_scan()
            (folder / "new.mp3").write_bytes(b"music")
            await scene.wait_for("process_file_created", os.fsencode(os.path.join(place, "new.mp3")))
        finally:
            unmount(folder)
        await scene.wait_for_scan()
        (folder / "below.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", os.fsencode(os.path.join(place, "below.mp3")))
    assert await scene.enqueued("process_file_deletion") == []


@needs_root
async def test_a_root_unmounted_and_mounted_again_within_an_instant_is_watched_anew(scene: Scene) -> None:
    mount(scene.music, "there.mp3")
    try:
        async with scene.watched():
            unmount(scene.music)
            mount(scene.music, "there.mp3")
            await scene.wait_for_scan()
            (scene.music / "new.mp3").write_bytes(b"music")
            await scene.wait_for("process_file_created", b"new.mp3")
    finally:
        unmount(scene.music)


# ------------------------------------------------------------ the process

WATCH = """
import asyncio
from mus.config import load_settings
from mus.watcher.watcher import run_watcher

asyncio.run(run_watcher(load_settings()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_watcher_process_ends_on_a_signal_within_moments(
    scene: Scene, broker_url: str, queue_name: str, number: signal.Signals
) -> None:
    data_dir = scene.runtime.settings.data_dir
    environment = {
        **os.environ,
        "MUS_DATA_DIR": str(data_dir),
        "MUS_DRAGONFLY_URL": broker_url,
        "MUS_QUEUE_NAME": queue_name,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", WATCH, env=environment, stderr=subprocess.PIPE
    )
    try:
        await scene.wait_for_scan()
        (scene.music / "a.mp3").write_bytes(b"music")
        await scene.wait_for("process_file_created", b"a.mp3")
        process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 5)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
