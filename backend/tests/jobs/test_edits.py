"""Editing tags, covers and names: the intent, the copy, the rename, the commit, and a way back."""

from __future__ import annotations

import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from edit_worker import EDIT_WORKER, TAG_STEPS
from edited_tracks import edited, history, leftovers, picture, undone
from music_library import MusicLibrary, counts, counts_in, result_of, scanned, worker_of
from sqlalchemy import update

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.config import Settings
from mus.jobs import edits as edits_module
from mus.jobs.services import services
from mus.ledger import steering
from mus.library.sound import hear
from mus.persistence.edit_repository import keep_picture
from mus.persistence.models import Job, Track
from refusing_folders import read_only
from waiting import until
from worker_processes import dead, doomed_process


async def kept(library: MusicLibrary, data: bytes) -> str:
    async with library.runtime.database.unit_of_work() as work:
        return await keep_picture(work.session, data)


def numbers(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def numbers_of(track: Track) -> tuple[int, ...]:
    return (track.size, track.mtime_ns, track.ctime_ns, track.inode)


# ------------------------------------------------------------------------------------------------ the edit


async def test_an_edit_changes_file_and_track_and_nothing_else_of_them(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3", "A/2.mp3")
    file = library.root / "A/1.mp3"
    os.chmod(file, 0o640)
    os.setxattr(file, "user.mood", b"blue")
    os.utime(file, ns=(1_000_000_000, 2_000_000_000))
    await library.scan()
    await library.set_tracks(
        Track.id == ids["A/1.mp3"], status="COMPLETE", duration_seconds=0.123, analysis_version=9
    )
    before, sound = await library.identities(), hear(os.fsencode(library.root), b"A/1.mp3").audio_hash
    result = await edited(library, ids["A/1.mp3"], title="Sinnerman", year=1965, artist=None)
    assert result == {"edited": 1}
    track = await library.track("A/1.mp3")
    assert (track.title, track.year, track.artist, track.title_key) == ("Sinnerman", 1965, None, "sinnerman")
    assert (track.status, track.duration_seconds, track.analysis_version) == ("COMPLETE", 0.123, 9)
    assert numbers_of(track) == numbers(file)
    assert await library.identities() == before
    found = file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, 2_000_000_000)
    assert os.getxattr(file, "user.mood") == b"blue"
    assert hear(os.fsencode(library.root), b"A/1.mp3").audio_hash == sound
    assert leftovers(library) == []
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    [edit] = await history(library)
    assert (edit.state, edit.kind, edit.requested_by) == ("done", "tags", "test")
    assert edit.before is not None
    assert edit.before["tags"] == {"title": ["1"], "date": [], "artist": ["Somebody"]}


async def test_an_edit_that_changes_nothing_writes_nothing(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    before = numbers(library.root / "1.mp3")
    assert await edited(library, ids["1.mp3"], title="1") == {"unchanged": 1}
    assert numbers(library.root / "1.mp3") == before
    assert await history(library) == []


async def test_without_a_title_a_track_goes_by_its_files_name(library: MusicLibrary) -> None:
    ids = await scanned(library, "03 - Sinnerman.mp3", "2.mp3")
    assert await edited(library, ids["03 - Sinnerman.mp3"], title=None) == {"edited": 1}
    track = await library.track("03 - Sinnerman.mp3")
    assert (track.title, track.title_key) == ("Sinnerman", "sinnerman")
    await library.scan(mode="full")
    assert (await library.track("03 - Sinnerman.mp3")).title == "Sinnerman"


async def test_covers_come_into_the_file_and_out_of_it_and_thumbnails_follow(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.flac")
    front, other = picture(10), picture(200)
    await edited(library, ids["1.flac"], cover=await kept(library, front))
    first = (await library.track("1.flac")).cover
    assert first is not None
    thumbnails = library.runtime.settings.thumbnails_dir
    assert (thumbnails / first[:2] / f"{first}_300.webp").is_file()
    await edited(library, ids["1.flac"], cover=await kept(library, other))
    second = (await library.track("1.flac")).cover
    assert second not in {None, first}
    await edited(library, ids["1.flac"], cover=None)
    assert (await library.track("1.flac")).cover is None
    edits = await history(library)
    for edit, cover in zip(reversed(edits), [second, first, None], strict=True):
        assert result_of(await undone(library, edit.id)) == {"undone": 1}
        assert (await library.track("1.flac")).cover == cover


async def test_what_an_edit_wrote_is_taken_back_and_brought_again(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    before = (library.root / "1.mp3").read_bytes()
    await edited(library, ids["1.mp3"], title="Sinnerman", genres=["Soul", "Jazz"])
    [first] = await history(library)
    result_of(await undone(library, first.id))
    track = await library.track("1.mp3")
    assert (track.title, track.genres) == ("1", None)
    assert len(before) // 2 < (library.root / "1.mp3").stat().st_size
    again = await undone(library, first.id)
    assert again.error_message == f"Edit {first.id} was undone already"
    second = (await history(library))[1]
    assert (second.undoes, (await history(library))[0].undone_by) == (first.id, second.id)
    result_of(await undone(library, second.id))
    track = await library.track("1.mp3")
    assert (track.title, track.genres) == ("Sinnerman", ["Soul", "Jazz"])
    assert (await history(library))[0].undone_by is None
    result_of(await undone(library, first.id))
    assert (await library.track("1.mp3")).title == "1"


async def test_an_edit_is_not_taken_back_over_a_later_change_of_the_same(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    await edited(library, ids["1.mp3"], title="One", album="A")
    await edited(library, ids["1.mp3"], title="Two")
    await edited(library, ids["1.mp3"], year=1999)
    first, second, third = await history(library)
    job = await undone(library, first.id)
    assert job.error_message == f"Edit {second.id} changed the same later: undo that one first"
    result_of(await undone(library, second.id))
    result_of(await undone(library, first.id))
    track = await library.track("1.mp3")
    assert (track.title, track.album, track.year) == ("1", None, 1999)
    # And not over what another program wrote.
    make_audio(library.root / "1.mp3", seconds=0.2, tags={"title": "1", "date": "2001"})
    await library.scan()
    job = await undone(library, third.id)
    assert "changed by another program since" in str(job.error_message)
    assert (await library.track("1.mp3")).year == 2001


async def test_the_history_goes_along_when_a_file_moves_and_goes_with_its_track(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3", "2.mp3")
    await edited(library, ids["1.mp3"], cover=await kept(library, picture(1)))
    (library.root / "A").mkdir()
    os.rename(library.root / "1.mp3", library.root / "A/1.mp3")
    await library.scan()
    [edit] = await history(library)
    result_of(await undone(library, edit.id))
    result_of(await library.run("delete_track_by_id", track_id=ids["1.mp3"]))
    job = await library.run("edit_track", track_id=ids["1.mp3"], changes={"title": "x"})
    assert job.error_message == f"Track {ids['1.mp3']} is in the trash"
    async with library.runtime.database.unit_of_work() as work:
        await work.session.delete(await work.session.get_one(Track, ids["1.mp3"]))
    assert await history(library) == []


# ------------------------------------------------------------------------------------------------- trouble


#: What is between the steps is the file system's alone.
sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.mark.slow
@sqlite_only
@pytest.mark.parametrize("step", TAG_STEPS)
async def test_a_worker_killed_at_any_step_leaves_a_whole_file_and_another_ends_the_edit(
    music: MusicLibrary, settings: Settings, step: str
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "A/1.mp3", "A/2.mp3")
    file = music.root / "A/1.mp3"
    old, sound = file.read_bytes(), hear(os.fsencode(music.root), b"A/1.mp3").audio_hash
    cover = await kept(music, picture(77))
    with doomed_process(settings, EDIT_WORKER, step) as worker:
        arguments: dict[str, Any] = {"changes": {"title": "Sinnerman", "cover": cover}, "rename_pattern": None}
        job_id = await music.enqueue("edit_track", track_id=ids["A/1.mp3"], **arguments)
        await until(lambda: dead(worker), what="the worker's death")
        assert worker.returncode == -signal.SIGKILL
    is_new = step in {"in place", "committed"}
    assert (file.read_bytes() == old) is not is_new
    assert hear(os.fsencode(music.root), b"A/1.mp3").audio_hash == sound, "old or new, it is whole"
    async with worker_of(music.runtime):
        assert result_of(await music.ended(job_id)) == {"edited": 1}
        assert counts_in(await music.scan()) == counts(found=2, unchanged=2)
    track = await music.track("A/1.mp3")
    assert (track.id, track.title, track.cover is not None) == (ids["A/1.mp3"], "Sinnerman", True)
    assert numbers_of(track) == numbers(file)
    assert leftovers(music) == []
    [edit] = await history(music)
    assert (edit.state, (edit.before or {})["tags"], (edit.after or {})["tags"]) == (
        "done", {"title": ["1"]}, {"title": ["Sinnerman"]},
    )  # fmt: skip


@pytest.mark.slow
@sqlite_only
@pytest.mark.parametrize("step", ["copy is known", "in place"])
async def test_what_a_job_left_that_nobody_runs_again_is_settled_by_whoever_comes_next(
    music: MusicLibrary, settings: Settings, step: str
) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, "1.mp3", "2.mp3")
    with doomed_process(settings, EDIT_WORKER, step) as worker:
        job_id = await music.enqueue("edit_track", track_id=ids["1.mp3"], changes={"title": "Sinnerman"})
        await until(lambda: dead(worker), what="the worker's death")
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
    assert len(await history(music)) == 1
    async with worker_of(music.runtime, [*Queue]):
        assert result_of(await music.run("edit_upkeep", Queue.LOW))["settled"] == 1
        landed = step == "in place"
        assert [edit.state for edit in await history(music)] == ["done"] * landed
        assert leftovers(music) == []
        assert (await music.track("1.mp3")).title == ("Sinnerman" if landed else "1")
        result_of(await music.run("delete_track_by_id", track_id=ids["1.mp3"]))


async def test_two_edits_at_once_are_both_done(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    changes = [{"title": "Sinnerman"}, {"album": "Pastel Blues"}, {"year": 1965}]
    jobs = [await library.enqueue("edit_track", track_id=ids["1.mp3"], changes=change) for change in changes]
    for job_id in jobs:
        assert result_of(await library.ended(job_id)) == {"edited": 1}
    track = await library.track("1.mp3")
    assert (track.title, track.album, track.year) == ("Sinnerman", "Pastel Blues", 1965)
    assert leftovers(library) == []


async def test_a_file_that_another_program_changes_meanwhile_keeps_its_change(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await scanned(library, "1.mp3")
    replace, tries = edits_module.replace, 0

    def overtaken(*arguments: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            make_audio(library.root / "1.mp3", seconds=0.4, tags={"title": "Theirs", "artist": "They"})
        return replace(*arguments)

    monkeypatch.setattr(edits_module, "replace", overtaken)
    assert await edited(library, ids["1.mp3"], title="Ours") == {"edited": 1}
    assert tries == 2, "the ledger tried again, with their file"
    track = await library.track("1.mp3")
    assert (track.title, track.artist) == ("Ours", "They")
    [edit] = await history(library)
    assert (edit.before or {})["tags"] == {"title": ["Theirs"]}
    assert leftovers(library) == []


async def test_a_file_that_another_program_had_replaced_before_its_edit_is_analysed_anew(
    music: MusicLibrary,
) -> None:
    async with worker_of(music.runtime, [*Queue]):
        make_audio(music.root / "1.flac", seconds=0.3, tags={"title": "One"})
        await music.scan()
        before = await analysed(music, "1.flac")
        make_audio(music.root / "1.flac", seconds=0.6, pitch=2, tags={"title": "Theirs", "artist": "They"})
        assert await edited(music, before.id, album="Ours") == {"edited": 1}
        track = await analysed(music, "1.flac")
    assert (track.id, track.title, track.artist, track.album) == (before.id, "Theirs", "They", "Ours")
    assert track.audio_hash != before.audio_hash
    assert track.duration_seconds == pytest.approx(0.6)
    assert numbers_of(track) == numbers(music.root / "1.flac")


async def analysed(library: MusicLibrary, name: str) -> Track:
    """The track, once what is known of its sound is that of its file."""

    async def look() -> Track | None:
        track = await library.track(name)
        sound = hear(os.fsencode(library.root), os.fsencode(name)).audio_hash
        return track if (track.status, track.audio_hash) == ("COMPLETE", sound) else None

    return await until(look, what=f"the analysis of {name}")


@pytest.mark.parametrize(
    ("change", "keeps"),
    [({"inode": 7}, False), ({"ctime_ns": 7}, False), ({"inode": 7, "ctime_ns": 7, "device": 7}, True)],
    ids=["another file", "changed within one tick", "read by another machine"],
)
async def test_which_version_of_a_file_was_read_is_told_before_an_edit_as_in_a_scan(
    library: MusicLibrary, change: dict[str, int], *, keeps: bool
) -> None:
    ids = await scanned(library, "1.mp3")
    known = {"status": "COMPLETE", "duration_seconds": 0.123, "analysis_version": 9, "audio_hash": b"known"}
    await library.set_tracks(Track.id == ids["1.mp3"], **known, **change)
    assert await edited(library, ids["1.mp3"], title="Sinnerman") == {"edited": 1}
    track = await library.track("1.mp3")
    assert (track.title, track.audio_hash) == ("Sinnerman", b"known")
    if keeps:
        assert (track.status, track.duration_seconds, track.analysis_version) == ("COMPLETE", 0.123, 9)
    else:
        assert (track.status, track.analysis_version) == ("PENDING", 0)
        assert track.duration_seconds == pytest.approx(0.2, abs=0.1)
    assert numbers_of(track) == numbers(library.root / "1.mp3")


async def test_a_full_disk_leaves_the_file_as_it_was(library: MusicLibrary) -> None:
    ids = await scanned(library, "1.mp3")
    content = (library.root / "1.mp3").read_bytes()
    pool = services().readers
    await pool.run("read", os.fsencode(library.root), [b"1.mp3"], file_timeout_seconds=30)
    for child in pool.process_ids:
        resource.prlimit(child, resource.RLIMIT_FSIZE, (len(content) // 2, len(content) // 2))
    job = await library.run("edit_track", track_id=ids["1.mp3"], changes={"title": "Sinnerman"})
    assert (job.state, job.error_category) == ("failed", "admin_required")
    assert job.error_message == "1.mp3: The file system reports an error: File too large"
    assert (library.root / "1.mp3").read_bytes() == content
    assert leftovers(library) == []
    assert await history(library) == []


async def test_in_a_folder_that_is_read_only_nothing_is_edited(library: MusicLibrary) -> None:
    ids = await scanned(library, "A/1.mp3")
    with read_only(library.root / "A"):
        job = await library.run("edit_track", track_id=ids["A/1.mp3"], changes={"title": "Sinnerman"})
        assert (job.error_category, job.error_message) == (
            "user_fixable",
            "A/1.mp3: mus may not write in this folder",
        )
        arguments: dict[str, Any] = {"changes": {}, "rename_pattern": "A/{title} b"}
        job = await library.run("edit_track", track_id=ids["A/1.mp3"], **arguments)
        assert job.error_message == "mus may not change A/1.mp3: its folder is read-only"
    assert await history(library) == []


async def test_other_names_of_the_file_keep_what_they_say(library: MusicLibrary, tmp_path: Path) -> None:
    ids = await scanned(library, "1.mp3")
    os.link(library.root / "1.mp3", tmp_path / "seeded.mp3")
    content = (tmp_path / "seeded.mp3").read_bytes()
    result = await edited(library, ids["1.mp3"], title="Sinnerman")
    assert result == {"edited": 1, "hard_links_kept_old": 1}
    assert (tmp_path / "seeded.mp3").read_bytes() == content


# ---------------------------------------------------------------------------------------------------- many


async def test_many_are_edited_in_one_job_and_taken_back_in_another(library: MusicLibrary) -> None:
    ids = await scanned(library, *(f"A/{number}.mp3" for number in range(5)), "A/broken.flac")
    (library.root / "A/2.mp3").unlink()
    with (library.root / "A/broken.flac").open("r+b") as broken:
        broken.truncate(60)
    job = await library.run(
        "edit_tracks", Queue.MEDIUM, track_ids=[*ids.values(), 999], changes={"album": "Blues"}, rename_pattern=None
    )
    result = result_of(job)
    assert (result["edited"], result["failed"]) == (4, 3)
    assert {failure["track_id"]: failure["message"] for failure in result["failures"]} == {
        ids["A/2.mp3"]: "A/2.mp3: The file is gone",
        ids["A/broken.flac"]: "A/broken.flac: The file is cut short: part of it is missing",
        999: "There is no track 999",
    }
    assert (job.units_done, job.units_total) == (7, 7)
    edit_ids = [edit.id for edit in await history(library)]
    assert result_of(await undone(library, *reversed(edit_ids)))["undone"] == 4
    assert {track.album for track in (await library.tracks()).values()} == {None}


async def test_a_job_about_many_goes_on_where_it_was_and_ends_between_two_files(music: MusicLibrary) -> None:
    async with worker_of(music.runtime):
        ids = await scanned(music, *(f"{number}.mp3" for number in range(12)))
        job_id = await music.enqueue(
            "edit_tracks", Queue.MEDIUM, track_ids=list(ids.values()), changes={"album": "Blues"}
        )
        await until(lambda: history(music), what="the first edit")
    async with worker_of(music.runtime):
        result = result_of(await music.ended(job_id))
        assert result == {"edited": 12, "failures": []}
        job_id = await music.enqueue(
            "edit_tracks", Queue.MEDIUM, track_ids=list(ids.values()), changes={"album": "Soul"}
        )

        async def begun() -> bool:
            return len(await history(music)) > 13

        await until(begun, what="the first edits")
        async with music.runtime.database.unit_of_work():
            await steering.cancel(music.runtime.connection.ledger, job_id)
        await music.ended(job_id)
        assert counts_in(await music.scan()) == counts(found=12, unchanged=12)
    edits = await history(music)
    assert {edit.state for edit in edits} == {"done"}
    albums = [track.album for track in (await music.tracks()).values()]
    assert albums.count("Soul") == len(edits) - 12
    assert leftovers(music) == []
