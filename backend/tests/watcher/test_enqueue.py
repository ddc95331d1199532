"""Which jobs come of settled changes: on a real database, with real broker and ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from mus.errors import TemporaryError
from mus.jobs.scan_requests import scan_job
from mus.ledger.lease import WATCHER, Lease
from mus.library.paths import escaped
from mus.library.scan_plan import KnownTrack
from mus.library.walk import FoundFile
from mus.persistence.models import LeaseRow
from mus.watcher.enqueue import MOST_CHANGES, PATHS_IN_A_JOB, Enqueuer, sort_changes
from mus.watcher.settle import Look, Settled
from watcher.scene import Scene, opened_scene


@pytest.fixture
async def scene(tmp_path_factory: pytest.TempPathFactory, broker_url: str, queue_name: str) -> AsyncIterator[Scene]:
    async with opened_scene(tmp_path_factory.mktemp("scene"), broker_url, queue_name) as scene:
        yield scene


@pytest.fixture
async def lease(scene: Scene) -> AsyncIterator[Lease]:
    """Held: this process is the watcher."""
    lease = Lease(
        scene.runtime.database,
        WATCHER,
        beat_seconds=5.0,
        dead_after_seconds=20.0,
        data_dir=scene.runtime.settings.data_dir,
    )
    await lease.acquire()
    yield lease
    await lease.release()


def file(path: bytes, inode: int = 1, *, size: int = 10) -> FoundFile:
    return FoundFile(path, size, 1000, 2000, inode, 5)


def track(path: bytes, inode: int = 1, *, size: int = 10, status: str = "COMPLETE") -> KnownTrack:
    return KnownTrack(1, path, size, 1000, 2000, inode, 5, status, None)


def present(*files: FoundFile) -> list[Settled]:
    return [Settled(found.path, Look(found)) for found in files]


def gone(*paths: bytes) -> list[Settled]:
    return [Settled(path, None) for path in paths]


# ------------------------------------------------------------ sorting


def test_new_files_are_created_and_known_ones_modified() -> None:
    jobs = sort_changes([file(b"new", 1), file(b"known", 2, size=11)], [], [track(b"known", 2)], [])
    assert (jobs.created, jobs.modified) == ([b"new"], [b"known"])


def test_a_file_that_was_missing_is_created_again() -> None:
    assert sort_changes([file(b"a")], [], [track(b"a", status="MISSING")], []).created == [b"a"]


def test_a_version_that_the_database_has_makes_no_job() -> None:
    assert not list(sort_changes([file(b"a")], [], [track(b"a")], []).calls())


def test_a_vanished_file_and_a_new_one_with_its_inode_are_a_move() -> None:
    jobs = sort_changes([file(b"new", 3), file(b"other", 4)], [b"old.mp3"], [], [track(b"old.mp3", 3)])
    assert jobs.moved == [b"old.mp3", b"new"]
    assert jobs.created == [b"other"]
    assert jobs.deleted == []


def test_a_file_renamed_over_another_is_a_move() -> None:
    jobs = sort_changes([file(b"b.mp3", 3)], [b"a.mp3"], [track(b"b.mp3", 4)], [track(b"a.mp3", 3)])
    assert jobs.moved == [b"a.mp3", b"b.mp3"]


def test_a_hard_link_that_stays_is_no_move_of_the_one_that_goes() -> None:
    jobs = sort_changes([file(b"b.mp3", 3)], [b"a.mp3"], [track(b"b.mp3", 3)], [track(b"a.mp3", 3)])
    assert (jobs.moved, jobs.modified, jobs.deleted) == ([], [], [b"a.mp3"])


def test_an_inode_that_was_given_to_another_file_is_no_move() -> None:
    jobs = sort_changes([file(b"new.mp3", 3, size=11)], [b"old.mp3"], [], [track(b"old.mp3", 3)])
    assert (jobs.moved, jobs.created, jobs.deleted) == ([], [b"new.mp3"], [b"old.mp3"])


def test_tracks_below_a_vanished_folder_are_deleted_and_strangers_are_not() -> None:
    below = [track(b"Old/1.mp3", 1), track(b"Old/2.mp3", 2), track(b"Old/3.mp3", 3, status="MISSING")]
    assert sort_changes([], [b"Old", b"notes"], [], below).deleted == [b"Old/1.mp3", b"Old/2.mp3"]


def test_a_vanished_audio_file_without_a_track_is_deleted_all_the_same() -> None:
    assert sort_changes([], [b"a.mp3"], [], []).deleted == [b"a.mp3"]


@given(
    st.dictionaries(st.integers(0, 400), st.tuples(st.booleans(), st.booleans(), st.integers(0, 30)), max_size=300)
)
def test_every_change_is_in_one_place_and_no_job_is_too_long(states: dict[int, tuple[bool, bool, int]]) -> None:
    names = {number: b"%d.mp3" % number for number in states}
    here = [file(names[n], inode) for n, (_, is_here, inode) in states.items() if is_here]
    away = [names[n] for n, (_, is_here, _) in states.items() if not is_here]
    # Known files that are still there have changed, else they would make no job.
    known = {
        names[n]: track(names[n], inode if not is_here else inode + 100)
        for n, (is_known, is_here, inode) in states.items()
        if is_known
    }
    jobs = sort_changes(
        here, away, [known[f.path] for f in here if f.path in known], [known[p] for p in away if p in known]
    )
    calls = list(jobs.calls())
    assert all(0 < len(paths) <= PATHS_IN_A_JOB for _, _, paths in calls)
    assert all(len(paths) % 2 == 0 for _, task, paths in calls if task == "process_file_move")
    assert sorted(path for _, _, paths in calls for path in paths) == sorted(names.values())


# ------------------------------------------------------------ enqueueing


async def test_changes_become_jobs_on_their_queues_with_escaped_paths(scene: Scene, lease: Lease) -> None:
    await scene.add_tracks(track(b"known.mp3", 2), track(b"old.mp3", 3), track(b"gone.mp3", 4))
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    name = b"line\nbreak \xff%.mp3"
    enqueuer.add(present(file(name, 1), file(b"known.mp3", 2, size=11), file(b"new.mp3", 3)))
    enqueuer.add(gone(b"old.mp3", b"gone.mp3"))
    assert await enqueuer.flush(0.0)
    assert await scene.jobs_by_task() == {
        ("process_file_created", "high_priority"): [[escaped(name)]],
        ("process_file_deletion", "high_priority"): [["gone.mp3"]],
        ("process_file_modified", "medium_priority"): [["known.mp3"]],
        ("process_file_move", "medium_priority"): [["old.mp3", "new.mp3"]],
    }
    assert {job.requested_by for job in await scene.jobs()} == {"watcher"}
    assert enqueuer.next_due is None


async def test_thousands_of_changes_cost_few_jobs_and_more_cost_one_scan(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    enqueuer.add(present(*(file(b"%d.mp3" % n, n) for n in range(MOST_CHANGES))))
    await enqueuer.flush(0.0)
    assert len(await scene.jobs()) == MOST_CHANGES / PATHS_IN_A_JOB
    enqueuer.add(present(*(file(b"x%d.mp3" % n, n) for n in range(MOST_CHANGES + 1))))
    assert len(enqueuer) == 0
    await enqueuer.flush(100.0)
    scan = (await scene.jobs())[-1]
    assert (scan.task, scan.queue) == ("scan_library", "high_priority")
    asked = scan_job(scene.library_id, requested_by="watcher")
    assert scan.arguments == asked.arguments
    assert (scan.dedupe_key, scan.exclusive_key) == (asked.dedupe_key, asked.exclusive_key)
    assert (scan.arguments["mode"], scan.arguments["path"]) == ("quick", "")


async def test_a_stream_of_changes_is_gathered(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    for step in range(200):
        enqueuer.add(present(*(file(b"%d.mp3" % n, n) for n in range(step * 5, step * 5 + 5))))
        await enqueuer.flush(step * 0.05)
    await enqueuer.flush(100.0)
    jobs = await scene.jobs()
    assert sum(len(job.arguments["paths"]) for job in jobs) == 1000
    assert len(jobs) <= 40, "four a second"


async def test_files_that_come_one_by_one_do_not_wait_for_each_other(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    for step in range(80):
        enqueuer.add(present(file(b"%d.mp3" % step, step)))
        await enqueuer.flush(step * 0.051)
        assert len(enqueuer) == 0


async def test_more_vanished_tracks_than_one_job_carries_are_judged_by_a_scan(scene: Scene, lease: Lease) -> None:
    await scene.add_tracks(*(track(b"Old/%d.mp3" % n, n) for n in range(PATHS_IN_A_JOB + 1)))
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    enqueuer.add(gone(b"Old"))
    await enqueuer.flush(0.0)
    assert [job.task for job in await scene.jobs()] == ["scan_library"]


async def test_a_version_that_was_handed_on_is_not_handed_on_again_soon(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    for now, found in ((0.0, file(b"a.mp3")), (1.0, file(b"a.mp3")), (2.0, file(b"a.mp3", size=11))):
        enqueuer.add(present(found))
        await enqueuer.flush(now)
    assert len(await scene.jobs()) == 2
    enqueuer.add(gone(b"a.mp3"))
    await enqueuer.flush(3.0)
    enqueuer.add(present(file(b"a.mp3", size=11)))
    await enqueuer.flush(4.0)
    assert len(await scene.jobs()) == 4


@pytest.mark.parametrize("what", ["files", "scan"])
async def test_changes_are_kept_while_the_database_is_busy(
    scene: Scene, lease: Lease, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    if what == "files":
        enqueuer.add(present(file(b"a.mp3")))
    else:
        enqueuer.add_scan("a test")

    def busy() -> None:
        raise TemporaryError("The database was busy for too long")

    with monkeypatch.context() as patched:
        patched.setattr(scene.runtime.database, "unit_of_work", busy)
        assert not await enqueuer.flush(0.0)
        assert enqueuer.next_due == 1.0
        assert await enqueuer.flush(0.5), "not due yet"
        assert not await enqueuer.flush(1.0)
        assert enqueuer.next_due == 3.0
    assert await scene.jobs() == []
    assert await enqueuer.flush(3.0)
    assert len(await scene.jobs()) == 1
    assert enqueuer.next_due is None


async def test_changes_are_kept_while_the_database_cannot_be_read(
    scene: Scene, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    enqueuer.add(present(file(b"a.mp3")))

    def broken() -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    with monkeypatch.context() as patched:
        patched.setattr(scene.runtime.database, "reading", broken)
        assert not await enqueuer.flush(0.0)
    assert len(enqueuer) == 1


async def test_deletions_can_be_dropped_when_the_root_is_in_doubt(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    enqueuer.add([*gone(b"a.mp3"), *present(file(b"b.mp3"))])
    enqueuer.drop_gone()
    await enqueuer.flush(0.0)
    assert [job.arguments["paths"] for job in await scene.jobs()] == [["b.mp3"]]


async def test_a_watcher_that_lost_its_lease_enqueues_nothing(scene: Scene, lease: Lease) -> None:
    enqueuer = Enqueuer(scene.runtime.database, scene.library_id, lease)
    async with scene.runtime.database.unit_of_work() as work:
        await work.session.execute(update(LeaseRow).values(holder="another"))
    enqueuer.add(present(file(b"a.mp3")))
    assert not await enqueuer.flush(0.0)
    enqueuer.add_scan("a test")
    assert not await enqueuer.flush(100.0)
    assert await scene.jobs() == []
