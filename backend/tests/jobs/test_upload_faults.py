"""Uploads that go to their places together, while the worker that moves them is killed or frozen."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from edit_worker import EDIT_WORKER, PLACE_STEPS
from music_library import MusicLibrary, result_of, worker_of

from mus.config import Settings
from mus.library.staged_uploads import staged_files, staged_path
from waiting import until
from worker_processes import doomed_process, has_stopped, is_free

pytestmark = pytest.mark.slow

BATCH = "0123abcd"
ALBUM = ["A/1.mp3", "A/2.mp3", "B/3.mp3"]


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """What is between the steps is the file system's alone."""
    kind: str = request.param
    return kind


def staged(music: MusicLibrary) -> dict[str, bytes]:
    """The album waits in its batch; what is in its files."""
    places = {place: os.fsdecode(staged_path(BATCH, place.encode())) for place in ALBUM}
    music.write(*places.values())
    return {place: (music.root / path).read_bytes() for place, path in places.items()}


def seen(root: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".")}


async def frozen(process: subprocess.Popen[bytes], music: MusicLibrary) -> bool:
    """Whether it stands still, and not in a transaction, its heartbeat's perhaps."""
    if not await has_stopped(process):
        return False
    if await is_free(music.runtime.database):
        return True
    process.send_signal(signal.SIGCONT)
    return False


async def ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


async def woken_and_ended(process: subprocess.Popen[bytes]) -> bool:
    """Continued at each look: it may have been about to freeze itself once more."""
    process.send_signal(signal.SIGCONT)
    return process.poll() is not None


@pytest.mark.parametrize("step", PLACE_STEPS)
async def test_a_worker_killed_at_any_step_leaves_all_of_a_batch_to_be_placed(
    music: MusicLibrary, settings: Settings, step: str
) -> None:
    content = staged(music)
    with doomed_process(settings, EDIT_WORKER, step) as worker:
        job_id = await music.enqueue("place_uploads", library_id=music.id, batch=BATCH)
        await until(lambda: ended(worker), what="the worker's death")
        assert worker.returncode == -signal.SIGKILL
    async with worker_of(music.runtime):
        assert result_of(await music.ended(job_id)) == {"placed": 3, "paths": ALBUM}
    assert seen(music.root) == content
    assert sorted(await music.tracks()) == ALBUM
    assert not (music.root / ".mus-uploads").exists()


async def test_a_worker_killed_while_it_takes_files_back_leaves_none_of_them_in_its_place(
    music: MusicLibrary, settings: Settings, tmp_path: Path
) -> None:
    content = staged(music)
    (tmp_path / "elsewhere").mkdir()
    (music.root / "B").symlink_to(tmp_path / "elsewhere")
    with doomed_process(settings, EDIT_WORKER, "one taken back") as worker:
        job_id = await music.enqueue("place_uploads", library_id=music.id, batch=BATCH)
        await until(lambda: ended(worker), what="the worker's death")
        assert worker.returncode == -signal.SIGKILL
    assert len(seen(music.root)) == 1
    # What was decided stays so, whether or not they could go by now.
    (music.root / "B").unlink()
    async with worker_of(music.runtime):
        job = await music.ended(job_id)
    assert (job.state, (job.error_details or {})["files"][0]["path"]) == ("failed", ALBUM[2])
    assert seen(music.root) == {}
    waiting = {file.place.decode(): file.size for file in staged_files(bytes(music.root), BATCH)}
    assert waiting == {place: len(data) for place, data in content.items()}


async def test_a_worker_that_was_taken_for_dead_takes_nothing_away_that_another_has_placed(
    music: MusicLibrary, settings: Settings, tmp_path: Path
) -> None:
    content = staged(music)
    wakes = tmp_path / "wakes"
    with doomed_process(settings, EDIT_WORKER, "frozen with one placed", str(wakes)) as worker:
        job_id = await music.enqueue("place_uploads", library_id=music.id, batch=BATCH)
        await until(lambda: frozen(worker, music), what="the worker to stand still")
        async with worker_of(music.runtime):
            assert result_of(await music.ended(job_id))["placed"] == 3
        # Somebody takes one of them elsewhere: the frozen worker will find it nowhere.
        (music.root / ALBUM[2]).unlink()
        wakes.touch()
        worker.terminate()
        await until(lambda: woken_and_ended(worker), what="its end")
    assert seen(music.root) == {place: content[place] for place in ALBUM[:2]}
