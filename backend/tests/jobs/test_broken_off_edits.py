"""Edits that were broken off: what came of them is told right whatever else has happened to the file since."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from music_library import MusicLibrary, busy_file, result_of, worker_of
from sqlalchemy import select, update

from audio_files import make_audio
from mus.broker.queues import Queue
from mus.library.file_reading import FileStat
from mus.persistence.models import Edit, Track
from waiting import until


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """What is between the steps is the file system's alone."""
    kind: str = request.param
    return kind


@pytest.fixture
async def library(music: MusicLibrary) -> AsyncIterator[MusicLibrary]:
    async with worker_of(music.runtime, [*Queue]):
        yield music


async def broken_off(library: MusicLibrary, *, landed: bool) -> int:
    """The track of A/1.mp3: its worker was killed after the copy was ready, or after it took the file's place."""
    library.write("A/1.mp3", "A/2.mp3")
    await library.scan()
    track = await library.track("A/1.mp3")
    old = (library.root / "A/1.mp3").read_bytes()
    result_of(await library.run("edit_track", track_id=track.id, changes={"title": "Sinnerman"}))
    if not landed:
        os.replace(library.root / "A/1.mp3", library.root / "A/.mus-edit-1.mp3")
        (library.root / "A/1.mp3").write_bytes(old)
        await library.scan()
    async with library.runtime.database.unit_of_work() as work:
        values = {"state": "writing", "part": b".mus-edit-1.mp3", "finished_at": None}
        await work.session.execute(update(Edit).values(values))
    return track.id


async def states(library: MusicLibrary) -> list[str]:
    async with library.runtime.database.reading() as session:
        return list(await session.scalars(select(Edit.state)))


async def test_a_change_that_is_in_the_file_stays_in_the_history_though_the_file_cannot_be_read_just_now(
    library: MusicLibrary,
) -> None:
    await broken_off(library, landed=True)
    with busy_file(library.root / "A/1.mp3"):
        await library.run("edit_upkeep", Queue.LOW)
    await library.run("edit_upkeep", Queue.LOW)
    assert await states(library) == ["done"]


async def test_a_change_that_was_in_the_file_stays_in_the_history_though_it_was_changed_again_since(
    library: MusicLibrary,
) -> None:
    await broken_off(library, landed=True)
    make_audio(library.root / "A/1.mp3", seconds=0.3, tags={"title": "Theirs"})
    result_of(await library.run("edit_upkeep", Queue.LOW))
    assert await states(library) == ["done"]
    await library.scan()
    assert (await library.track("A/1.mp3")).title == "Theirs"


@pytest.mark.parametrize("replaced", [True, False])
async def test_what_is_known_of_the_sound_stays_unless_the_file_was_replaced_since(
    library: MusicLibrary, *, replaced: bool
) -> None:
    track_id = await broken_off(library, landed=True)
    async with library.runtime.database.reading() as session:
        [source] = [
            FileStat(*(versions or {})["source"]) for versions in await session.scalars(select(Edit.versions))
        ]

    async def analysed() -> bool:
        return (await library.track("A/1.mp3")).status == "COMPLETE"

    await until(analysed, what="the analysis")
    # Its worker died before the track followed.
    known = {"status": "COMPLETE", "analysis_version": 99, "duration_seconds": 0.123}
    await library.set_tracks(Track.id == track_id, title="1", **source._asdict(), **known)
    if replaced:
        make_audio(library.root / "A/1.mp3", seconds=0.6, tags={"title": "Theirs"})
    result_of(await library.run("edit_upkeep", Queue.LOW))
    track = await library.track("A/1.mp3")
    assert track.title == ("Theirs" if replaced else "Sinnerman")
    assert (track.analysis_version < 99, track.duration_seconds != 0.123) == (replaced, replaced)


@pytest.mark.parametrize("landed", [True, False])
async def test_a_track_whose_folder_was_renamed_while_its_edit_lay_broken_off_can_be_edited_and_deleted(
    library: MusicLibrary, *, landed: bool
) -> None:
    track_id = await broken_off(library, landed=landed)
    os.rename(library.root / "A", library.root / "B")
    await library.scan()
    assert (await library.track("B/1.mp3")).id == track_id
    result_of(await library.run("edit_track", track_id=track_id, changes={"album": "Pastel Blues"}))
    assert await states(library) == ["done"] * (1 + landed)
    assert list(library.root.rglob(".mus-edit-*")) == []
    result_of(await library.run("delete_track_by_id", track_id=track_id))


async def test_an_edit_stays_open_while_the_disk_of_its_file_is_away(library: MusicLibrary) -> None:
    await broken_off(library, landed=True)
    os.rename(library.root, library.root.with_name("away"))
    await library.run("edit_upkeep", Queue.LOW)
    assert await states(library) == ["writing"]
    os.rename(library.root.with_name("away"), library.root)
    await library.run("edit_upkeep", Queue.LOW)
    assert await states(library) == ["done"]
