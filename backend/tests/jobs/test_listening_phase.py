"""Listening comes behind the slow phase, is kept while the sound stays, and no file can stop it for ever."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import mutagen
import pytest
from music_library import MusicLibrary, worker_of
from sqlalchemy import select, update

from audio_files import empty_mp4, make_audio
from mus.broker.queues import Queue
from mus.broker.streaq_broker import Options, broker
from mus.ledger.job_states import TERMINAL_STATES
from mus.library.listening import ASPECT_VERSIONS, Aspect
from mus.persistence.models import Edit, Job, Track, TrackSound, utc_now
from mus.persistence.track_sounds import loudness_of
from waiting import until

#: What has no SQL of its own is tried on one database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"])
_TASKS = ("process_slow_metadata", "listen_to_tracks")


@pytest.fixture
async def library(music: MusicLibrary) -> AsyncIterator[MusicLibrary]:
    """With a worker for everything."""
    async with worker_of(music.runtime, [*Queue]):
        yield music


def without(music: MusicLibrary, *aspects: str) -> MusicLibrary:
    """The same library for a worker that has these aspects off."""
    off = {f"analyse_{aspect}": False for aspect in aspects}
    settings = music.runtime.settings.model_copy(update=off)
    return dataclasses.replace(music, runtime=dataclasses.replace(music.runtime, settings=settings))


async def heard(music: MusicLibrary) -> dict[str, TrackSound | None]:
    """Wait until nothing is left to analyse and to listen to; returns what counts of each track's sound."""

    async def is_over() -> bool:
        async with music.runtime.database.reading() as session:
            still = select(Job.id).where(Job.task.in_(_TASKS), Job.state.not_in(TERMINAL_STATES))
            return (await session.execute(still)).first() is None

    await until(is_over, seconds=60, what="the end of all listening")
    tracks = await music.tracks()
    async with music.runtime.database.reading() as session:
        sounds = {sound.track_id: sound for sound in await session.scalars(select(TrackSound))}
    return {
        name: sound if (sound := sounds.get(track.id)) and sound.audio_hash == track.audio_hash else None
        for name, track in tracks.items()
    }


async def set_sounds(music: MusicLibrary, **values: Any) -> None:
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(update(TrackSound).values(**values))


async def set_job(music: MusicLibrary, task: str, **values: Any) -> None:
    async with music.runtime.database.unit_of_work() as work:
        await work.session.execute(update(Job).where(Job.task == task).values(**values))


def versions(sound: TrackSound | None) -> tuple[int, ...]:
    assert sound is not None
    return sound.loudness_version, sound.integrity_version, sound.waveform_version


ALL = tuple(ASPECT_VERSIONS[aspect] for aspect in Aspect)


async def test_tracks_are_complete_first_and_listened_to_behind(library: MusicLibrary) -> None:
    for number in range(1, 9):
        make_audio(library.root / f"{number}.flac", seconds=1.0, tags={"album": "A", "album_artist": "B"})
    await library.scan()
    sounds = await heard(library)
    assert {track.status for track in (await library.tracks()).values()} == {"COMPLETE"}
    assert {versions(sound) for sound in sounds.values()} == {ALL}
    assert {sound.integrity for sound in sounds.values() if sound} == {"sound"}
    analysed, listened = [await library.jobs(task) for task in _TASKS]
    for job in listened:
        part = [other for other in analysed if other.arguments == job.arguments]
        assert min(other.started_at for other in part) < job.started_at  # type: ignore[type-var,operator]
    async with library.runtime.database.reading() as session:
        loudness = await loudness_of(session, await library.track("3.flac"))
    assert loudness.track is not None
    assert loudness.track.gain_db == pytest.approx(-18 + 8.6, abs=0.2)
    assert loudness.album == loudness.track, "eight times the same"


async def test_what_was_heard_is_kept_with_the_sound_and_goes_with_it(library: MusicLibrary) -> None:
    path = make_audio(library.root / "1.flac", seconds=1.0, tags={"title": "Old"})
    await library.scan()
    await heard(library)
    await set_sounds(library, integrity_notes=["from the first time"])

    tags = mutagen.File(path)
    tags["title"] = "New"
    tags.save()
    await library.change("process_file_modified", "1.flac")
    sound = (await heard(library))["1.flac"]
    assert (await library.track("1.flac")).title == "New"
    assert versions(sound) == ALL
    assert sound is not None
    assert sound.integrity_notes == ["from the first time"]

    make_audio(path, seconds=1.0, pitch=2.0)
    await library.change("process_file_modified", "1.flac")
    sound = (await heard(library))["1.flac"]
    assert versions(sound) == ALL
    assert sound is not None
    assert sound.integrity_notes == []


async def test_only_what_lacks_is_found_out_and_what_is_off_is_not(music: MusicLibrary) -> None:
    make_audio(music.root / "1.flac", seconds=1.0)
    deaf = without(music, *Aspect)
    async with worker_of(deaf.runtime, [*Queue]):
        await music.scan()
        assert await heard(music) == {"1.flac": None}
        assert await music.jobs("listen_to_tracks") == []
    partly = without(music, "waveform", "integrity")
    async with worker_of(partly.runtime, [*Queue]):
        await music.scan(queue=Queue.LOW)
        assert versions((await heard(music))["1.flac"]) == (ALL[0], 0, 0)
    await set_sounds(music, integrated_lufs=-99.0)
    async with worker_of(music.runtime, [*Queue]):
        await music.scan(queue=Queue.LOW)
        sound = (await heard(music))["1.flac"]
    assert versions(sound) == ALL
    assert sound is not None
    assert (sound.integrated_lufs, sound.integrity) == (-99.0, "sound"), "the loudness was not measured again"


async def test_a_file_that_kills_its_listeners_is_set_aside_until_it_is_read_anew(
    music: MusicLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 5):  # of one part, and so of one batch
        make_audio(music.root / f"{number}.flac", seconds=1.0)
    site = tmp_path / "site"
    site.mkdir()
    # Stands in for a bug in a decoder.
    (site / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith(\"/1.flac'\") and 'numpy' in sys.modules:\n"
        "        os.kill(os.getpid(), 11)\n"
        "sys.addaudithook(hook)\n"
    )
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(site))
        async with worker_of(music.runtime, [*Queue]):
            await music.scan()
            sounds = await heard(music)
    broken, good = sounds["1.flac"], sounds["5.flac"]
    assert await music.statuses() == {"1.flac": "COMPLETE", "5.flac": "COMPLETE"}
    assert broken is not None
    assert versions(broken) == ALL, "it is not tried again for ever"
    assert broken.integrity == "unchecked"
    assert broken.integrity_notes == ["Could not be checked: The reader crashed on this file"]
    assert good is not None
    assert good.integrity == "sound"
    async with worker_of(music.runtime, [*Queue]):
        await music.scan(queue=Queue.LOW)
        assert (await heard(music))["1.flac"].integrity == "unchecked"  # type: ignore[union-attr]
        await music.scan(mode="full")
        assert (await heard(music))["1.flac"].integrity == "sound"  # type: ignore[union-attr]


@on_sqlite
@pytest.mark.parametrize("task", _TASKS)
async def test_a_file_at_which_the_worker_died_twice_is_set_aside(music: MusicLibrary, task: str) -> None:
    for number in (1, 2, 3):
        make_audio(music.root / f"{number}.flac", seconds=1.0)
    async with worker_of(music.runtime):
        await music.scan()
    track_id = (await music.track("2.flac")).id
    # As two attempts leave it: the first died with a batch, the second when this file was alone.
    died = {"at": [track_id], "suspects": [track_id], "attempt": 2}
    if task == "listen_to_tracks":
        await set_job(music, "process_slow_metadata", state="cancelled")
        await music.set_tracks(Track.id > 0, status="COMPLETE", analysis_version=99, audio_hash=b"1" * 16)
        await music.enqueue(task, Queue.LOW, part=track_id % 4)
    await set_job(music, task, attempt=3, checkpoint=died)
    async with worker_of(music.runtime, [*Queue]):
        await heard(music)
        track, sound = await music.track("2.flac"), (await heard(music))["2.flac"]
        if task == "listen_to_tracks":
            assert track.status == "COMPLETE"
            assert sound is not None
            assert sound.integrity == "unchecked"
            return
        assert (track.status, track.error_category) == ("ERROR", "user_fixable")
        assert track.error_message == "The worker that opened this file died, and died again when it was alone"
        assert sorted(await music.statuses()) == ["1.flac", "2.flac", "3.flac"]
        await music.change("process_file_modified", "2.flac")
        await heard(music)
        assert (await music.track("2.flac")).status == "COMPLETE", "a retry by hand is a new chance"


@on_sqlite
async def test_suspects_are_taken_one_by_one_and_go_free(music: MusicLibrary) -> None:
    music.write_many(9)
    async with worker_of(music.runtime):
        await music.scan()
    ids = [track.id for track in (await music.tracks()).values() if track.id % 4 == 1]
    await set_job(music, "process_slow_metadata", attempt=2, checkpoint={"at": ids, "suspects": [], "attempt": 1})
    async with worker_of(music.runtime, [*Queue]):
        await heard(music)
    assert {*(await music.statuses()).values()} == {"COMPLETE"}


@on_sqlite
async def test_listening_makes_room_for_the_slow_phase(music: MusicLibrary) -> None:
    make_audio(music.root / "1.flac", seconds=0.5)
    deaf = without(music, *Aspect)
    async with worker_of(deaf.runtime, [*Queue]):
        await music.scan()
        await heard(music)
    part = (await music.track("1.flac")).id % 4
    # Nobody looks for jobs whose message is lost: one of the slow phase waits for ever, due.
    settings = music.runtime.settings.model_copy(update={"reconcile_seconds": 3600.0})
    idle = dataclasses.replace(music.runtime, settings=settings)
    async with worker_of(idle, [*Queue]):
        async with music.runtime.database.unit_of_work():
            later = Options(delay_until=utc_now() + timedelta(hours=1))
            waiting = await broker.enqueue(Queue.LOW, "process_slow_metadata", later, part=0)
        async with music.runtime.database.unit_of_work() as work:
            await work.session.execute(update(Job).where(Job.id == waiting).values(run_after=None, state="queued"))
        listening = await music.enqueue("listen_to_tracks", Queue.LOW, part=part)

        async def stood_back() -> bool:
            job = await music.job(listening)
            return job.run_after is not None and job.state != "running"

        await until(stood_back, what="the listening to stand back")
    assert await heard_now(music) == []
    await set_job(music, "process_slow_metadata", state="cancelled")
    async with worker_of(music.runtime, [*Queue]):
        assert versions((await heard(music))["1.flac"]) == ALL


async def heard_now(music: MusicLibrary) -> list[TrackSound]:
    async with music.runtime.database.reading() as session:
        return list(await session.scalars(select(TrackSound)))


@on_sqlite
async def test_sound_of_which_nothing_can_be_decoded_is_an_error_until_the_file_changes(
    library: MusicLibrary,
) -> None:
    path = make_audio(library.root / "1.m4a", seconds=2.0, tags={"title": "Holes"})
    whole = path.read_bytes()
    empty_mp4(path)
    await library.scan()
    await heard(library)
    track = await library.track("1.m4a")
    assert (track.status, track.error_category) == ("ERROR", "user_fixable")
    assert track.error_message == "Nothing of the sound can be decoded: the file is damaged"
    path.write_bytes(whole)
    await library.change("process_file_modified", "1.m4a")
    assert versions((await heard(library))["1.m4a"]) == ALL
    assert (await library.track("1.m4a")).status == "COMPLETE"


@on_sqlite
async def test_a_file_that_vanished_is_tried_a_few_times_and_not_for_ever(music: MusicLibrary) -> None:
    for number in (1, 5):
        make_audio(music.root / f"{number}.flac", seconds=0.5)
    deaf = without(music, *Aspect)
    async with worker_of(deaf.runtime, [*Queue]):
        await music.scan()
        await heard(music)
    (music.root / "1.flac").unlink()
    track_id = (await music.track("1.flac")).id
    await music.enqueue("listen_to_tracks", Queue.LOW, part=track_id % 4)
    async with worker_of(music.runtime, [*Queue]):
        sound = (await heard(music))["1.flac"]
        assert sound is not None
        assert (sound.attempts, *versions(sound)) == (3, 0, 0, 0)


@on_sqlite
@pytest.mark.parametrize("suffix", [".flac", ".opus"])
async def test_what_was_measured_is_written_into_files_when_asked_and_can_be_taken_back(
    library: MusicLibrary, suffix: str
) -> None:
    for number in (1, 2):
        tags = {"title": str(number), "album": "One", "albumartist": "Somebody"}
        make_audio(library.root / f"{number}{suffix}", tags=tags, pitch=number, seconds=1.0)
    await library.scan()
    await heard(library)
    tracks = await library.tracks()
    ids = [track.id for track in tracks.values()]
    job = await library.run("edit_tracks", Queue.MEDIUM, track_ids=ids, changes={"replaygain": "measured"})
    assert job.result == {"edited": 2, "failures": []}
    async with library.runtime.database.reading() as session:
        for track in (await library.tracks()).values():
            measured = await loudness_of(session, track)
            assert measured.track is not None
            assert measured.album is not None
            written = track.replaygain or {}
            assert written["track_gain"] == pytest.approx(measured.track.gain_db, abs=0.01)
            assert written["album_gain"] == pytest.approx(measured.album.gain_db, abs=0.01)
    assert all((await heard(library)).values()), "the sounds are what they were"
    async with library.runtime.database.reading() as session:
        edits = (await session.scalars(select(Edit.id))).all()
    assert (await library.run("undo_edits", edit_ids=list(edits))).state == "succeeded"
    assert [track.replaygain for track in (await library.tracks()).values()] == [None, None]


@on_sqlite
async def test_what_is_not_measured_yet_cannot_be_written(music: MusicLibrary) -> None:
    music.write("1.mp3")
    async with worker_of(music.runtime):
        await music.scan()
        [track] = (await music.tracks()).values()
        job = await music.run("edit_track", track_id=track.id, changes={"replaygain": "measured"})
    assert (job.state, job.error_message) == ("failed", "The loudness of 1.mp3 is not known, or not yet")
