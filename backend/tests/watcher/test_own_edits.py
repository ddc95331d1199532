"""mus's own edits, seen by a real watcher: nobody else's change."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobs.music_library import MusicLibrary, result_of, worker_of
from mus.jobs import edits, renames
from waiting import until
from watcher.scene import Scene, opened_scene


@pytest.fixture
async def scene(tmp_path: Path, broker_url: str, queue_name: str) -> AsyncIterator[Scene]:
    async with opened_scene(tmp_path, broker_url, queue_name, settle_seconds=0.05) as scene:
        yield scene


async def _watched_jobs(scene: Scene) -> list[tuple[str, Any]]:
    return [(job.task, job.arguments.get("paths")) for job in await scene.jobs() if job.requested_by == "watcher"]


async def test_edits_and_renames_bring_no_job_of_the_watcher_even_before_they_are_committed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = MusicLibrary(scene.runtime, scene.library_id, scene.music)
    library.write("A/1.mp3", "A/2.mp3")
    async with worker_of(scene.runtime):
        await library.scan()
    ids = {path: track.id for path, track in (await library.tracks()).items()}
    before = await library.identities()
    seen: list[str] = []
    async with scene.watched():
        async with worker_of(scene.runtime):
            # A commit that takes long: the watcher meets the file while its track tells nothing of it.
            for module in (edits, renames):
                commit = module._commit  # type: ignore[attr-defined]

                async def slow(*arguments: Any, _commit: Any = commit, **options: Any) -> None:
                    name = f"{len(seen)}.flac"
                    seen.append(name)
                    (scene.music / name).write_bytes(b"somebody else's")
                    await scene.wait_for("process_file_created", os.fsencode(name))
                    await _commit(*arguments, **options)

                monkeypatch.setattr(module, "_commit", slow)
            for number in (1, 2):
                job = await library.run(
                    "edit_track",
                    track_id=ids[f"A/{number}.mp3"],
                    changes={"title": "Sinnerman", "album": "Pastel Blues"},
                    rename_pattern="{album}/{title} " + str(number) + " {artist}",
                )
                assert result_of(job) == {"edited": 1, "renamed": 1}
            (scene.music / "last.flac").write_bytes(b"somebody else's")
            await scene.wait_for("process_file_created", b"last.flac")
            for created in await library.jobs("process_file_created"):
                await library.ended(created.id)
            result = await library.scan()
            assert (result["updated"], result["moved"], result["missing"]) == (0, 0, 0)
        jobs = [(task, paths) for task, paths in await _watched_jobs(scene) if task != "scan_library"]
        assert len(seen) == 4, "each commit was met by the watcher"
        assert [(task, paths) for task, paths in jobs if not str(paths).count(".flac")] == []
        tracks = await library.tracks()
        for number in (1, 2):
            path = f"Pastel Blues/Sinnerman {number} Somebody.mp3"
            assert (tracks[path].id, tracks[path].added_at) == before[f"A/{number}.mp3"]
            assert tracks[path].mtime_ns == (scene.music / path).stat().st_mtime_ns


async def test_a_change_by_somebody_else_right_after_an_edit_is_seen(scene: Scene) -> None:
    library = MusicLibrary(scene.runtime, scene.library_id, scene.music)
    library.write("1.mp3", "2.mp3")
    async with worker_of(scene.runtime):
        await library.scan()
    ids = {path: track.id for path, track in (await library.tracks()).items()}
    async with scene.watched(), worker_of(scene.runtime):
        job = await library.run("edit_track", track_id=ids["1.mp3"], changes={"title": "Mine"})
        result_of(job)
        library.write("1.mp3")
        await scene.wait_for("process_file_modified", b"1.mp3")

        async def theirs() -> bool:
            return (await library.track("1.mp3")).title == "1"

        await until(theirs, what="the other program's title")
