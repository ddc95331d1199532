"""What a job has read of a file is not stored over what another made of it meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest
from music_library import MusicLibrary, counts, counts_in, result_of

from audio_files import make_audio
from mus.jobs import scan_finish, scan_read, watched_changes
from mus.persistence.models import Track


@pytest.fixture(params=[scan_read, scan_finish, watched_changes], ids=lambda module: module.__name__)
def module(request: pytest.FixtureRequest) -> ModuleType:
    """What reads files and stores what they say: a scan's chunks, its end, and the watcher's jobs."""
    reader: ModuleType = request.param
    return reader


async def scanned(library: MusicLibrary) -> tuple[Track, Track]:
    """The tracks of a.mp3, which is at c.mp3 by now where a scan's end is to read it, and b.mp3."""
    library.write("a.mp3", "b.mp3")
    await library.scan()
    tracks = await library.tracks()
    return tracks["a.mp3"], tracks["b.mp3"]


async def read_and_overtaken(
    library: MusicLibrary,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], Awaitable[Any]],
) -> dict[str, Any]:
    """All files are read by the module's job, and `meanwhile` is done between its reading and its storing. Returns
    the job's result, once what it had compared again is."""
    read, paths = module.read, {path.name for path in library.root.iterdir()}

    async def read_and_be_overtaken(*arguments: Any) -> Any:
        readings = await read(*arguments)
        monkeypatch.setattr(module, "read", read)
        await meanwhile()
        return readings

    if module is scan_finish:
        # In a full scan the file of a track that moved is read once it has moved.
        (library.root / "a.mp3").rename(library.root / "c.mp3")
    monkeypatch.setattr(module, "read", read_and_be_overtaken)
    if module is watched_changes:
        result = await library.change("process_file_modified", *sorted(paths))
    else:
        result = await library.scan(mode="full")
    assert module.read is read, "it was overtaken"
    for comparison in await library.jobs("process_file_move"):
        result_of(await library.ended(comparison.id))
    return result


async def test_a_file_that_is_deleted_while_the_end_of_a_scan_reads_it_does_not_come_back(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await scanned(library)

    async def deleted() -> None:
        result_of(await library.run("delete_track_by_id", track_id=first.id))

    await read_and_overtaken(library, scan_finish, monkeypatch, deleted)
    assert {track.id: track.status for track in (await library.tracks()).values()} == {
        first.id: "TRASHED",
        second.id: "PENDING",
    }


async def test_a_file_that_is_edited_while_it_is_read_says_what_it_was_given(
    library: MusicLibrary, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await scanned(library)

    async def edited() -> None:
        result_of(await library.run("edit_track", track_id=first.id, changes={"title": "Sinnerman"}))

    result = await read_and_overtaken(library, module, monkeypatch, edited)
    assert [track.title for track in (await library.tracks()).values() if track.id == first.id] == ["Sinnerman"]
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    if module is scan_finish:
        assert counts_in(result) == counts(found=2, updated=1, moved=1)
        assert result["skipped"] == 0, "it did not vanish"


async def test_a_change_that_another_job_has_read_too_is_stored_once_and_a_later_one_is_read_again(
    library: MusicLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await scanned(library)
    make_audio(library.root / "a.mp3", seconds=0.3, tags={"title": "Read by both"})
    make_audio(library.root / "b.mp3", seconds=0.3, tags={"title": "Read by one"})

    async def read_by_another() -> None:
        make_audio(library.root / "b.mp3", seconds=0.4, tags={"title": "Read by the other"})
        await library.change("process_file_modified", "a.mp3", "b.mp3")

    await read_and_overtaken(library, watched_changes, monkeypatch, read_by_another)
    titles = {track.id: track.title for track in (await library.tracks()).values()}
    assert titles == {first.id: "Read by both", second.id: "Read by the other"}
    [comparison] = await library.jobs("process_file_move")
    assert comparison.arguments["paths"] == ["b.mp3"]
