"""Scans, from the request to the tracks: what is added, updated, moved, missing, and what is left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from music_library import MusicLibrary, busy_file, counts, counts_in, worker_of
from sqlalchemy import select, update

from audio_files import SUFFIXES, make_audio
from metric_samples import forget_counts
from mus.broker.metrics_hash import flush, read_sums
from mus.broker.queues import Queue
from mus.broker.streaq_broker import broker
from mus.jobs import scan_walk
from mus.jobs.scan_read import _with_stats
from mus.jobs.scan_walk import CHUNK
from mus.ledger import steering
from mus.library.file_reading import FileStat, failed_reading
from mus.library.paths import escaped, unescaped
from mus.persistence.models import Job, JobEvent, Track
from waiting import until

# ------------------------------------------------------------------ first and next


async def test_a_first_scan_lists_every_format_with_its_tags(library: MusicLibrary) -> None:
    for number, suffix in enumerate(SUFFIXES):
        make_audio(
            library.root / f"Artist/Album/{number:02}{suffix}",
            tags={"title": f"Song {number}", "artist": "Ártist", "album": "Album", "tracknumber": str(number + 1)},
        )
    result = await library.scan()
    assert counts_in(result) == counts(found=len(SUFFIXES), added=len(SUFFIXES))
    tracks = await library.tracks()
    for number, suffix in enumerate(SUFFIXES):
        path = f"Artist/Album/{number:02}{suffix}"
        track, stat = tracks[path], (library.root / path).stat()
        assert (track.status, track.error_message) == ("PENDING", None), path
        assert (track.title, track.artist, track.album) == (f"Song {number}", "Ártist", "Album"), path
        assert track.track_number == number + 1, path
        assert (track.title_key, track.artist_key) == (f"song {number}", "artist")
        assert (track.size, track.mtime_ns, track.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        assert track.duration_seconds == pytest.approx(1.0, abs=0.2), path
    row = await library.row()
    assert (row.online, row.device) == (True, library.root.stat().st_dev)


async def test_a_scan_with_no_change_reads_nothing(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.ogg", "B/3.flac")
    await library.scan()
    before = await library.jobs("read_files")
    result = await library.scan()
    assert counts_in(result) == counts(found=3, unchanged=3)
    assert len(await library.jobs("read_files")) == len(before)


async def test_each_scan_is_counted_whether_it_found_something_or_not(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.ogg")
    forget_counts()
    for _ in range(3):
        await library.scan()
    await library.scan(mode="full")

    async def are_counted() -> bool:
        # Once its end stands, which is what a scan was waited for.
        assert await flush(library.runtime.connection)
        sums = await read_sums(library.runtime.connection)
        scans = [sums.get(("mus_scans_total", "succeeded", mode)) for mode in ("quick", "full")]
        return (*scans, sums.get(("mus_scan_files_total", "unchanged"))) == (3, 1, 4)

    await until(are_counted, what="three quick scans and a full one, and 4 times an unchanged file")


async def test_changed_new_and_deleted_files_are_told_apart(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3", "3.mp3")
    await library.scan()
    before = await library.identities()
    make_audio(library.root / "2.mp3", seconds=0.3, tags={"title": "Changed"})
    library.write("4.mp3")
    (library.root / "3.mp3").unlink()
    result = await library.scan()
    assert counts_in(result) == counts(found=3, added=1, updated=1, missing=1, unchanged=1)
    tracks = await library.tracks()
    assert tracks["2.mp3"].title == "Changed"
    assert tracks["3.mp3"].status == "MISSING"
    assert tracks["3.mp3"].title == "3", "everything known of it is kept"
    after = await library.identities()
    assert {path: after[path] for path in ("1.mp3", "2.mp3")} == {path: before[path] for path in ("1.mp3", "2.mp3")}


async def test_a_missing_file_that_is_back_is_the_same_track(library: MusicLibrary, tmp_path: Path) -> None:
    library.write("1.mp3", "2.mp3")
    await library.scan()
    before = await library.identities()
    shutil.move(library.root / "2.mp3", tmp_path / "2.mp3")
    assert (await library.scan())["missing"] == 1
    assert (await library.scan())["missing"] == 0, "it is missing once"
    shutil.copy(tmp_path / "2.mp3", library.root / "2.mp3")
    result = await library.scan()
    assert counts_in(result) == counts(found=2, updated=1, unchanged=1)
    assert await library.identities() == before


async def test_a_full_scan_reads_every_file_again(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3", "3.mp3")
    await library.scan()
    await library.set_tracks(Track.library_id == library.id, title="wrong")
    os.rename(library.root / "3.mp3", library.root / "4.mp3")
    result = await library.scan(mode="full")
    assert counts_in(result) == counts(found=3, updated=2, moved=1)
    assert {track.title for track in (await library.tracks()).values()} == {"1", "2", "3"}


async def test_an_empty_folder_is_fine_for_a_library_that_never_had_tracks(library: MusicLibrary) -> None:
    assert counts_in(await library.scan()) == counts()
    assert (await library.row()).online


async def test_a_second_scan_waits_for_the_first_and_both_succeed(library: MusicLibrary) -> None:
    library.write_many(300)
    first, second = await library.enqueue_scan(), await library.enqueue_scan()
    jobs = [await library.ended(job_id) for job_id in (first, second)]
    assert [job.state for job in jobs] == ["succeeded", "succeeded"]
    earlier, later = sorted(jobs, key=lambda job: job.finished_at)
    # By what was written when: the times are those of before a transaction could begin.
    history = select(JobEvent.job_id, JobEvent.event).order_by(JobEvent.id)
    async with library.runtime.database.reading() as session:
        events = [tuple(row) for row in await session.execute(history)]
    of_earlier = [place for place, (job_id, _) in enumerate(events) if job_id == earlier.id]
    assert events.index((later.id, "started")) > of_earlier[-1]
    assert counts_in(earlier.result) == counts(found=300, added=300)
    assert counts_in(later.result) == counts(found=300, unchanged=300)


async def test_the_later_steps_of_a_large_scan_are_larger(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CHUNK", 5), ("_LARGE_CHUNK", 12), ("_LARGE_LIBRARY", 10)):
        monkeypatch.setattr(scan_walk, name, value)
    library.write_many(43)
    job = await library.ended(await library.enqueue_scan())
    assert counts_in(job.result) == counts(found=43, added=43)
    chunks = await library.jobs("read_files")
    assert sorted(len(chunk.arguments["paths"]) for chunk in chunks) == [5, 5, 9, 12, 12]
    assert len({path for chunk in chunks for path in chunk.arguments["paths"]}) == 43


async def test_the_steps_of_a_scan_are_jobs_of_a_few_hundred_files(library: MusicLibrary) -> None:
    files = 2 * CHUNK + 100
    library.write_many(files)
    job = await library.ended(await library.enqueue_scan())
    assert counts_in(job.result) == counts(found=files, added=files)
    assert (job.units_done, job.units_total, job.progress) == (files, files, 1.0)
    chunks = await library.jobs("read_files")
    assert sorted(len(chunk.arguments["paths"]) for chunk in chunks) == [100, CHUNK, CHUNK]
    assert {chunk.parent_id for chunk in chunks} == {job.id}
    # In the order of their names, and so are the ids of the new tracks.
    tracks = await library.tracks()
    for chunk in chunks:
        paths = chunk.arguments["paths"]
        ids = [tracks[path].id for path in paths]
        assert (paths, ids) == (sorted(paths), sorted(ids))


# ------------------------------------------------------------------ a part of it


async def test_a_scan_of_a_folder_leaves_the_rest_alone(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.mp3", "AB/3.mp3", "B/4.mp3")
    (library.root / "B/broken.mp3").write_bytes(b"x" * 999)
    await library.scan()
    for name in ("A/1.mp3", "AB/3.mp3", "B/4.mp3"):
        (library.root / name).unlink()
    library.write("A/new.mp3", "B/new.mp3")
    result = await library.scan(path="A")
    assert counts_in(result) == counts(found=2, added=1, missing=1, unchanged=1), "nor do others' errors count"
    statuses = await library.statuses()
    assert (statuses["A/1.mp3"], statuses["AB/3.mp3"], statuses["B/4.mp3"]) == ("MISSING", "PENDING", "PENDING")
    assert "B/new.mp3" not in statuses


async def test_a_scan_of_a_folder_that_vanished_finds_its_tracks_missing_or_where_they_went(
    library: MusicLibrary,
) -> None:
    library.write("A/X/1.mp3", "A/X/Deep/2.mp3", "A/Y/3.mp3", "B/4.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "A/X/1.mp3", library.root / "A/Y/moved.mp3")
    shutil.rmtree(library.root / "A/X")
    (library.root / "B/4.mp3").unlink()
    result = await library.scan(path="A/X/Deep")
    assert counts_in(result) == counts(found=2, moved=1, missing=1, unchanged=1)
    after = await library.identities()
    assert after["A/Y/moved.mp3"] == before["A/X/1.mp3"]
    assert (await library.statuses())["B/4.mp3"] == "PENDING", "that was not asked"


@pytest.mark.parametrize("path", ["Nowhere", "../outside", "A/../../outside", ".hidden", "link"])
async def test_a_scan_of_what_is_no_folder_of_the_library_fails_at_once(library: MusicLibrary, path: str) -> None:
    library.write("A/1.mp3", ".hidden/2.mp3", "../outside/3.mp3")
    (library.root / "link").symlink_to(library.root.parent / "outside")
    job = await library.failed_scan(path=path)
    assert job.error_category == "user_fixable"
    assert await library.tracks() == {}


async def test_a_scan_may_be_asked_for_by_a_file(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.mp3", "B/3.mp3")
    assert counts_in(await library.scan(path="A/1.mp3")) == counts(found=2, added=2)


async def test_an_unknown_mode_or_library_fails_at_once(library: MusicLibrary) -> None:
    job = await library.failed_scan(mode="sideways")
    assert (job.error_category, job.attempt) == ("user_fixable", 1)
    job = await library.run("scan_library", library_id=999)
    assert (job.state, job.error_category) == ("failed", "user_fixable")


# ------------------------------------------------------------------ passed over


async def test_every_file_is_found_or_skipped_with_a_reason(library: MusicLibrary, tmp_path: Path) -> None:
    library.write("A/1.mp3", "A/2.mp3", "B/3.mp3", ".hidden.mp3", "@eaDir/4.mp3", "D/5.mp3")
    (library.root / "C.mp3.part").write_bytes(b"x")
    make_audio(tmp_path / "outside.mp3")
    (library.root / "A/cover.jpg").write_bytes(b"x")
    (library.root / "A/link.mp3").symlink_to(tmp_path / "outside.mp3")
    (library.root / "A/loop").symlink_to(library.root)
    (library.root / "D/.nomedia").touch()
    result = await library.scan()
    assert result["found"] == 3
    assert result["skipped_reasons"] == {
        "hidden": 1, "partial download": 1, "system folder": 1, "not audio": 1, "link": 2, ".nomedia folder": 1,
    }  # fmt: skip
    passed_over = {"@eaDir", "D"}
    on_disk = sum(
        len(files) + len([name for name in folders if name in passed_over or (Path(folder) / name).is_symlink()])
        for folder, folders, files in os.walk(library.root)
        if Path(folder).name not in passed_over
    )
    assert result["found"] + result["skipped"] == on_disk
    assert set(await library.tracks()) == {"A/1.mp3", "A/2.mp3", "B/3.mp3"}


async def test_tracks_leave_with_a_nomedia_file_and_come_back_without_it(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/Deep/2.mp3", "3.mp3")
    await library.scan()
    before = await library.identities()
    (library.root / "A/.nomedia").touch()
    assert (await library.scan())["missing"] == 2
    assert set(await library.identities()) == {"3.mp3"}
    (library.root / "A/.nomedia").unlink()
    await library.scan()
    assert await library.identities() == before


async def test_names_that_are_no_text_and_forms_of_one_text_are_tracks_of_their_own(library: MusicLibrary) -> None:
    names = [b"line\nbreak.mp3", b"tab\t%41.mp3", b"latin-\xe9.mp3", b"n" * 251 + b".mp3"]
    names += [b"\xc3\xa9.mp3", b"e\xcc\x81.mp3"]  # composed and not
    make_audio(library.root / "one.mp3", tags={"title": "One"})
    for name in names:
        shutil.copy(library.path("one.mp3"), library.path(name))
    assert (await library.scan())["added"] == 7
    assert {os.fsencode(path) for path in await library.tracks()} == {b"one.mp3", *names}
    assert counts_in(await library.scan()) == counts(found=7, unchanged=7)
    assert all(unescaped(escaped(name)) == name for name in names)


async def test_a_file_of_a_time_that_no_database_has_room_for_keeps_nobody_out(library: MusicLibrary) -> None:
    library.write("1.mp3", "2.mp3", "3.ogg")
    for name in ("2.mp3", "3.ogg"):
        os.utime(library.root / name, ns=(0, 10_413_792_000 * 10**9))  # in 2300, where the file system takes it
    assert counts_in(await library.scan()) == counts(found=3, added=3)
    assert counts_in(await library.scan()) == counts(found=3, unchanged=3)
    assert counts_in(await library.scan(mode="full")) == counts(found=3, updated=3)
    os.utime(library.root / "2.mp3")
    assert counts_in(await library.scan()) == counts(found=3, unchanged=2, updated=1)


# ------------------------------------------------------------------ bad files


async def test_bad_files_are_errors_with_reasons_and_stop_nothing(library: MusicLibrary) -> None:
    library.write("good.mp3", "cut.flac", "cut.m4a")
    for name in ("cut.flac", "cut.m4a"):
        os.truncate(library.root / name, (library.root / name).stat().st_size // 2)
    (library.root / "empty.mp3").touch()
    (library.root / "random.flac").write_bytes(bytes(range(256)) * 40)
    (library.root / "picture.mp3").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 4000)
    result = await library.scan()
    assert counts_in(result) == counts(found=6, added=6, failed=5)
    tracks = await library.tracks()
    reasons = {path: track.error_message for path, track in tracks.items() if track.status == "ERROR"}
    assert set(reasons) == {"cut.flac", "cut.m4a", "empty.mp3", "random.flac", "picture.mp3"}
    assert "cut short" in str(reasons["cut.flac"])
    assert reasons["empty.mp3"] == "The file is empty"
    assert {tracks[path].error_category for path in reasons} == {"user_fixable"}
    assert {tracks[path].title for path in reasons} == {"cut", "empty", "random", "picture"}
    assert counts_in(await library.scan()) == counts(found=6, unchanged=6, failed=5), "none is read in vain"


def test_a_file_that_crashes_its_reader_is_an_error_of_the_version_that_is_there(tmp_path: Path) -> None:
    make_audio(tmp_path / "1.mp3")
    # What the pool gives for a file whose child died: it knows the path alone.
    crashed = [failed_reading(name, "The reader crashed on this file") for name in (b"1.mp3", b"2.mp3")]
    there, gone = _with_stats(os.fsencode(tmp_path), crashed)
    assert there.stat == FileStat.of((tmp_path / "1.mp3").stat())
    assert (there.error_message, there.vanished) == ("The reader crashed on this file", False)
    assert gone.vanished


async def test_an_error_keeps_the_tags_that_were_known_and_goes_when_the_file_is_whole(
    library: MusicLibrary,
) -> None:
    library.write("a.flac")
    await library.scan()
    before = await library.track("a.flac")
    whole = (library.root / "a.flac").read_bytes()
    (library.root / "a.flac").write_bytes(whole[: len(whole) // 2])
    assert counts_in(await library.scan()) == counts(found=1, updated=1, failed=1)
    broken = await library.track("a.flac")
    assert (broken.status, broken.title, broken.artist) == ("ERROR", "a", "Somebody")
    (library.root / "a.flac").write_bytes(whole)
    assert counts_in(await library.scan()) == counts(found=1, updated=1)
    mended = await library.track("a.flac")
    assert (mended.id, mended.added_at) == (before.id, before.added_at)
    assert (mended.status, mended.error_message, mended.error_category) == ("PENDING", None, None)


async def test_a_file_that_is_busy_is_an_error_for_now_and_read_by_the_next_scan(library: MusicLibrary) -> None:
    library.write("a.mp3")
    with busy_file(library.root / "a.mp3"):
        assert counts_in(await library.scan()) == counts(found=1, added=1, failed=1)
    track = await library.track("a.mp3")
    assert (track.status, track.error_category) == ("ERROR", "temporary")
    [look] = await library.jobs("process_file_modified")
    assert look.run_after is not None, "nor does it wait for the next scan"
    assert counts_in(await library.scan()) == counts(found=1, updated=1)
    assert (await library.track("a.mp3")).status == "PENDING"


async def test_a_file_young_and_broken_gets_another_look_soon(library: MusicLibrary) -> None:
    library.write("a.flac", "old.flac")
    for name in ("a.flac", "old.flac"):
        os.truncate(library.root / name, 2000)
    os.utime(library.root / "old.flac", (1, 1))
    await library.scan()
    [look] = await library.jobs("process_file_modified")
    assert look.run_after is not None
    assert look.arguments["paths"] == ["a.flac", "old.flac"], "its time was set just now, as copying programs do"


async def test_a_file_with_a_huge_picture_is_a_track_like_any_other(library: MusicLibrary) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + os.urandom(1 << 20) * 50
    make_audio(library.root / "big.mp3", tags={"title": "Big"}, picture=picture)
    library.write("small.mp3")
    assert counts_in(await library.scan()) == counts(found=2, added=2)
    track = await library.track("big.mp3")
    assert (track.title, track.status) == ("Big", "PENDING")
    assert track.size > 50 * (1 << 20)


async def test_a_tag_as_long_as_a_book_is_cut_for_the_index_alone(library: MusicLibrary) -> None:
    make_audio(library.root / "a.mp3", tags={"title": "é" * 900, "artist": "字" * 900})
    await library.scan()
    track = await library.track("a.mp3")
    assert len(track.title) == 900
    assert max(len(key.encode()) for key in (track.title_key, track.artist_key)) <= 800


# ------------------------------------------------------------------ meanwhile


async def test_files_that_vanish_between_walk_and_read_are_told_from_found_ones(music: MusicLibrary) -> None:
    music.write("known.mp3", "stays.mp3")
    async with worker_of(music.runtime):
        await music.scan()
    music.write("new.mp3")
    os.utime(music.root / "known.mp3", (1, 1))
    os.utime(music.root / "stays.mp3", (1, 1))
    async with worker_of(music.runtime, [Queue.HIGH]):  # walks, but reads nothing
        scan_id = await music.walked_scan()
    (music.root / "known.mp3").unlink()
    (music.root / "new.mp3").unlink()
    async with worker_of(music.runtime):
        job = await music.ended(scan_id)
    assert job.state == "succeeded", job.error_message
    assert counts_in(job.result) == counts(found=1, updated=1, missing=1)
    assert job.result["skipped_reasons"] == {"vanished during the scan": 2}
    assert await music.statuses() == {"known.mp3": "MISSING", "stays.mp3": "PENDING"}


async def test_a_file_that_comes_back_before_the_end_is_not_missing(music: MusicLibrary) -> None:
    music.write("a.mp3", "b.mp3")
    async with worker_of(music.runtime):
        await music.scan()
    kept = (music.root / "a.mp3").read_bytes()
    (music.root / "a.mp3").unlink()
    async with worker_of(music.runtime, [Queue.HIGH]):
        scan_id = await music.walked_scan()
    (music.root / "a.mp3").write_bytes(kept)
    async with worker_of(music.runtime):
        job = await music.ended(scan_id)
    assert job.result is not None
    assert job.result["missing"] == 0
    assert (await music.statuses())["a.mp3"] == "PENDING"


@pytest.mark.parametrize("mode", ["quick", "full"])
async def test_files_that_swap_names_between_walk_and_read_keep_their_tracks(
    music: MusicLibrary, mode: str
) -> None:
    music.write("a.mp3", "b.mp3")
    async with worker_of(music.runtime):
        await music.scan()
    before = await music.identities()
    if mode == "quick":
        for name in ("a.mp3", "b.mp3"):  # a new ctime: to be read again, and yet known by inode, size and mtime
            (music.root / name).chmod(0o640)
    async with worker_of(music.runtime, [Queue.HIGH]):
        scan_id = await music.enqueue_scan(mode=mode)
        await music.in_state(scan_id, "waiting")
    for old, new in (("a.mp3", "c"), ("b.mp3", "a.mp3"), ("c", "b.mp3")):
        (music.root / old).rename(music.root / new)
    async with worker_of(music.runtime):
        await music.ended(scan_id)
        [job] = await music.jobs("process_file_move")
        await music.ended(job.id)
    assert await music.identities() == {"a.mp3": before["b.mp3"], "b.mp3": before["a.mp3"]}
    assert {path: track.title for path, track in (await music.tracks()).items()} == {"a.mp3": "b", "b.mp3": "a"}


async def test_a_part_that_fails_makes_the_scan_fail_and_says_why(music: MusicLibrary) -> None:
    music.write("a.mp3")
    async with worker_of(music.runtime, [Queue.HIGH]):
        scan_id = await music.walked_scan()
    async with music.runtime.database.unit_of_work() as work:
        chunk = (await work.session.execute(select(Job.id).where(Job.task == "read_files"))).scalar_one()
        await steering.cancel(music.runtime.connection.ledger, chunk)
    async with worker_of(music.runtime):
        job = await music.ended(scan_id)
        assert (job.state, job.error_category) == ("failed", "admin_required")
        assert job.error_message == "1 of 1 parts of the scan failed; the first: it was cancelled"
        assert counts_in(await music.scan()) == counts(found=1, added=1), "the next scan completes it"


async def test_what_an_older_mus_stored_of_a_chunk_and_did_not_end_is_not_stored_again(music: MusicLibrary) -> None:
    music.write("A/1.mp3")
    stored = {"added": 1, "updated": 0, "vanished": 0, "gone": []}
    async with music.runtime.database.unit_of_work() as work:
        job_id = await broker.enqueue(Queue.MEDIUM, "read_files", library_id=music.id, paths=["A/1.mp3"], full=True)
        await work.session.execute(update(Job).where(Job.id == job_id).values(checkpoint=stored))
    async with worker_of(music.runtime, [Queue.MEDIUM]):
        job = await music.ended(job_id)
    assert (job.state, job.result) == ("succeeded", stored)
    assert await music.tracks() == {}
