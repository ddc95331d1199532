"""The slow phase: exact lengths and covers for what a scan listed; the track rows are its work list."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pyvips
from music_library import MusicLibrary, busy_file, counts, counts_in, worker_of
from sqlalchemy import select

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.jobs import slow_phase
from mus.jobs.slow_phase import request_analysis
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.analysis import ANALYSIS_VERSION
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path
from mus.persistence.models import Job, Track
from mus.persistence.work_lists import MAX_LOOKS, PARTS
from waiting import until


@pytest.fixture
async def library(music: MusicLibrary) -> AsyncIterator[MusicLibrary]:
    """With a worker for everything."""
    async with worker_of(music.runtime, [*Queue]):
        yield music


def picture(width: int, height: int) -> bytes:
    gradient = pyvips.Image.xyz(width, height)[0].linear(0.2, 0).cast("uchar")
    return bytes(gradient.bandjoin([gradient, gradient]).copy(interpretation="srgb").write_to_buffer(".png"))


async def analysed(library: MusicLibrary) -> dict[str, Track]:
    """Wait until no slow job is left; returns the tracks."""

    async def is_over() -> bool:
        async with library.runtime.database.reading() as session:
            still = select(Job.id).where(Job.task == "process_slow_metadata", Job.state.not_in(TERMINAL_STATES))
            return (await session.execute(still)).first() is None

    await until(is_over, what="the end of the slow phase")
    return await library.tracks()


def thumbnails(library: MusicLibrary, track: Track) -> list[tuple[int, int]]:
    """Width and height of a track's thumbnails, which are WebP."""
    assert track.cover is not None
    sizes: list[tuple[int, int]] = []
    for size in THUMBNAIL_SIZES:
        data = thumbnail_path(library.runtime.settings.thumbnails_dir, track.cover, size).read_bytes()
        assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
        image = pyvips.Image.new_from_buffer(data, "")
        sizes.append((image.width, image.height))
    return sizes


async def test_a_scanned_track_becomes_complete_with_exact_length_and_cover(library: MusicLibrary) -> None:
    make_audio(library.root / "A/1.mp3", seconds=2.5, picture=picture(1500, 900))
    make_audio(library.root / "B/2.ogg", seconds=1.25)
    (library.root / "B/folder.png").write_bytes(picture(200, 100))
    make_audio(library.root / "C/3.flac", seconds=1.0)
    await library.scan()
    tracks = await analysed(library)
    assert {track.status for track in tracks.values()} == {"COMPLETE"}
    assert {track.analysis_version for track in tracks.values()} == {ANALYSIS_VERSION}
    assert tracks["A/1.mp3"].duration_seconds == pytest.approx(2.5, abs=0.002)
    assert tracks["B/2.ogg"].duration_seconds == pytest.approx(1.25, abs=0.002)
    assert thumbnails(library, tracks["A/1.mp3"]) == [(300, 180), (1000, 600)]
    assert thumbnails(library, tracks["B/2.ogg"]) == [(200, 100), (200, 100)], "never enlarged"
    assert tracks["C/3.flac"].cover is None
    assert counts_in(await library.scan()) == counts(found=3, unchanged=3)


async def test_a_broken_picture_is_no_fault_of_the_track(library: MusicLibrary) -> None:
    make_audio(library.root / "1.mp3", picture=picture(400, 400)[:500])
    await library.scan()
    track = (await analysed(library))["1.mp3"]
    assert (track.status, track.cover, track.error_message) == ("COMPLETE", None, None)


async def test_sound_that_cannot_be_analysed_is_an_error_until_the_file_changes(library: MusicLibrary) -> None:
    make_audio(library.root / "1.ogg", seconds=3.0, tags={"title": "Holes"})
    whole = (library.root / "1.ogg").read_bytes()
    pages = [at for at in range(len(whole)) if whole.startswith(b"OggS", at)]
    # The headers, and the last page with the length: tags read well, but no sound is between.
    (library.root / "1.ogg").write_bytes(whole[: pages[2]] + b"\0" * (pages[-1] - pages[2]))
    await library.scan()
    track = (await analysed(library))["1.ogg"]
    assert track.status == "ERROR"
    assert track.error_category == "user_fixable"
    assert track.error_message
    (library.root / "1.ogg").write_bytes(whole)
    await library.scan()
    mended = (await analysed(library))["1.ogg"]
    assert (mended.id, mended.status, mended.error_message) == (track.id, "COMPLETE", None)


async def test_a_file_changed_before_its_analysis_is_analysed_as_it_is_now(music: MusicLibrary) -> None:
    make_audio(music.root / "1.mp3", seconds=1.0)
    async with worker_of(music.runtime):
        await music.scan()
    make_audio(music.root / "1.mp3", seconds=2.0)
    async with worker_of(music.runtime, [*Queue]):
        track = (await analysed(music))["1.mp3"]
        assert track.status == "PENDING", "nobody has told of the change yet"
        assert track.analysis_attempts == MAX_LOOKS
        await music.change("process_file_modified", "1.mp3")
        track = (await analysed(music))["1.mp3"]
    assert track.status == "COMPLETE"
    assert track.duration_seconds == pytest.approx(2.0, abs=0.002)


@pytest.mark.parametrize("outdated", [False, True])
async def test_a_file_that_vanished_is_looked_at_a_few_times_and_not_for_ever(
    music: MusicLibrary, outdated: bool
) -> None:
    music.write("1.mp3", "2.mp3")
    async with worker_of(music.runtime):
        await music.scan()
    if outdated:
        await music.set_tracks(Track.id > 0, status="COMPLETE", analysis_version=ANALYSIS_VERSION - 1)
    (music.root / "2.mp3").unlink()
    async with music.runtime.database.unit_of_work() as work:
        await request_analysis(work.session, with_outdated=True)
    async with worker_of(music.runtime, [*Queue]):
        tracks = await analysed(music)
        assert tracks["1.mp3"].status == "COMPLETE"
        assert tracks["2.mp3"].status == ("COMPLETE" if outdated else "PENDING"), "a scan decides what is missing"
        assert tracks["2.mp3"].analysis_attempts == MAX_LOOKS
        assert tracks["2.mp3"].error_message is None
        assert (await music.scan())["missing"] == 1
        assert (await analysed(music))["2.mp3"].status == "MISSING"


async def test_a_busy_file_is_analysed_once_it_is_free(music: MusicLibrary) -> None:
    music.write("1.mp3")
    async with worker_of(music.runtime):
        await music.scan()
    async with worker_of(music.runtime, [*Queue]):
        with busy_file(music.root / "1.mp3"):
            job = (await music.jobs("process_slow_metadata"))[0]
            job = await music.in_state(job.id, "retrying")
            assert "Nothing can be analysed now" in str(job.error_message)
        await music.set_tracks(Track.id > 0, analysis_attempts=MAX_LOOKS)
        await music.scan()
        assert (await analysed(music))["1.mp3"].status == "COMPLETE", "a scan grants it new looks"


async def test_thumbnails_that_cannot_be_written_are_made_once_they_can(library: MusicLibrary) -> None:
    thumbnails_dir = library.runtime.settings.thumbnails_dir
    thumbnails_dir.parent.mkdir(parents=True, exist_ok=True)
    thumbnails_dir.write_bytes(b"a file in the folder's place: nothing can be written below it")
    make_audio(library.root / "1.mp3", picture=picture(400, 400))
    await library.scan()

    async def is_refused() -> Job | None:
        jobs = await library.jobs("process_slow_metadata")
        return next((job for job in jobs if job.state == "retrying"), None)

    job = await until(is_refused, what="the trouble with the thumbnails")
    assert "The thumbnails cannot be written" in str(job.error_message)
    assert (await library.track("1.mp3")).status == "PENDING"
    thumbnails_dir.unlink()
    track = (await analysed(library))["1.mp3"]
    assert track.status == "COMPLETE"
    assert thumbnails(library, track) == [(300, 300), (400, 400)]


async def test_jobs_that_go_on_for_each_other_tell_how_much_of_all_the_work_is_done(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_phase, "BATCH", 1)
    monkeypatch.setattr(slow_phase, "LONGEST_SECONDS", 0.05)  # less than a reader takes to start
    monkeypatch.setattr(slow_phase, "_PAUSE_SECONDS", 0.0)
    library.write_many(3 * PARTS)
    await library.scan()
    await analysed(library)
    jobs = await library.jobs("process_slow_metadata")
    assert len(jobs) > PARTS
    for part in range(PARTS):
        done = 0
        for job in sorted((job for job in jobs if job.arguments["part"] == part), key=lambda job: job.id):
            assert (job.arguments["done"], job.units_total) == (done, 3)
            done = job.units_done
        assert done == 3


async def test_the_newest_tracks_come_first_and_offline_libraries_wait(music: MusicLibrary) -> None:
    music.write_many(60)
    async with worker_of(music.runtime):
        await music.scan()
    await music.set_online(False)
    async with worker_of(music.runtime, [*Queue]):
        tracks = await analysed(music)
        assert {track.status for track in tracks.values()} == {"PENDING"}
        assert {track.analysis_attempts for track in tracks.values()} == {0}
        await music.scan()
        tracks = await analysed(music)
    assert {track.status for track in tracks.values()} == {"COMPLETE"}
    in_order = sorted(tracks.values(), key=lambda track: track.updated_at)
    for part in range(PARTS):
        ids = [track.id for track in in_order if track.id % PARTS == part]
        assert ids == sorted(ids, reverse=True)


async def test_asking_twice_makes_one_job_for_each_part_with_work(music: MusicLibrary) -> None:
    music.write_many(2)
    async with worker_of(music.runtime):
        await music.scan()
    for _ in range(2):
        async with music.runtime.database.unit_of_work() as work:
            await request_analysis(work.session)
    jobs = await music.jobs("process_slow_metadata")
    assert sorted(job.arguments["part"] for job in jobs) == [1, 2]


async def test_what_an_older_version_analysed_is_analysed_again_after_a_scan_that_came_by_itself(
    library: MusicLibrary,
) -> None:
    library.write("1.mp3")
    await library.scan()
    await analysed(library)
    await library.set_tracks(Track.id > 0, analysis_version=ANALYSIS_VERSION - 1, duration_seconds=99.0)
    await library.scan()
    assert (await analysed(library))["1.mp3"].duration_seconds == 99.0
    await library.scan(queue=Queue.LOW)
    track = (await analysed(library))["1.mp3"]
    assert (track.status, track.analysis_version) == ("COMPLETE", ANALYSIS_VERSION)
    assert track.duration_seconds == pytest.approx(0.2, abs=0.002)
