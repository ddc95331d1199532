"""Whatever is done to a file, its track stays the same one: its id, its date, and what was known of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import mutagen
import pytest
from music_library import MusicLibrary, counts, counts_in, new_library, worker_of

from audio_files import id3_frames, make_audio
from mus.broker.queues import Queue
from mus.broker.runtime import Runtime
from waiting import until


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def heard(runtime: Runtime, tmp_path: Path) -> AsyncIterator[MusicLibrary]:
    """A library whose files are analysed as well."""
    library = await new_library(runtime, tmp_path / "music")
    async with worker_of(runtime, list(Queue)):
        yield library


_ASF = {"title": "Title", "artist": "Author", "genre": "WM/Genre"}


def write(library: MusicLibrary, name: str, *, pitch: float = 1.0) -> Path:
    """Every sound has one length: only the sound itself tells."""
    tags = {"title": f"Song {pitch}", "artist": "Somebody", "album": "One", "tracknumber": "1"}
    return make_audio(library.root / name, seconds=0.3, tags=tags, pitch=pitch)


def retag(file: Path, **tags: str) -> None:
    if file.suffix in {".aiff", ".wav"}:
        audio = mutagen.File(file)
        id3_frames({name: [text] for name, text in tags.items()}, None, add=audio.tags.add)
    elif file.suffix == ".wma":
        audio = mutagen.File(file)
        audio.tags.update({_ASF[name]: text for name, text in tags.items()})
    else:
        audio = mutagen.File(file, easy=True)
        audio.update(tags)
    audio.save()


async def analysed(library: MusicLibrary) -> None:
    async def look() -> bool:
        return all(row.status in {"COMPLETE", "MISSING"} for row in (await library.tracks()).values())

    await until(look, what="the analysis of every track")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus", ".wav", ".wma", ".wv", ".aiff"])
async def test_a_file_moved_and_retagged_at_once_keeps_its_track(heard: MusicLibrary, suffix: str) -> None:
    for number in range(3):
        write(heard, f"Old/{number}{suffix}", pitch=1 + number / 8)
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    for number in range(3):
        # Another inode, other times, other tags: only the sound is what it was.
        new = heard.root / "New" / f"{9 - number}{suffix}"
        new.parent.mkdir(exist_ok=True)
        shutil.copyfile(heard.root / "Old" / f"{number}{suffix}", new)
        retag(new, title=f"Another {number}", artist="Else")
    shutil.rmtree(heard.root / "Old")
    result = await heard.scan()
    assert counts_in(result) == counts(found=3, moved=3)
    after = await heard.identities()
    assert after == {f"New/{9 - number}{suffix}": before[f"Old/{number}{suffix}"] for number in range(3)}
    assert (await heard.track(f"New/9{suffix}")).title == "Another 0"


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg"])
async def test_before_any_analysis_a_file_is_known_by_its_tags_and_its_length(
    library: MusicLibrary, suffix: str
) -> None:
    for number in range(3):
        write(library, f"Old/{number}{suffix}", pitch=1 + number / 8)
    await library.scan()
    before = await library.identities()
    (library.root / "New").mkdir()
    for number in range(3):
        shutil.copyfile(library.root / f"Old/{number}{suffix}", library.root / f"New/x{number}{suffix}")
        retag(library.root / f"New/x{number}{suffix}", genre="Polka")
    shutil.rmtree(library.root / "Old")
    assert counts_in(await library.scan()) == counts(found=3, moved=3)
    after = await library.identities()
    assert after == {f"New/x{number}{suffix}": before[f"Old/{number}{suffix}"] for number in range(3)}


async def test_files_that_swapped_their_names_and_were_retagged_keep_their_tracks(heard: MusicLibrary) -> None:
    write(heard, "a.flac", pitch=1)
    write(heard, "b.flac", pitch=2)
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    os.rename(heard.root / "a.flac", heard.root / "c.flac")
    os.rename(heard.root / "b.flac", heard.root / "a.flac")
    os.rename(heard.root / "c.flac", heard.root / "b.flac")
    retag(heard.root / "a.flac", title="Was b")
    retag(heard.root / "b.flac", title="Was a")
    result = await heard.scan()
    assert counts_in(result) == counts(found=2, moved=2)
    assert await heard.identities() == {"a.flac": before["b.flac"], "b.flac": before["a.flac"]}
    assert (await heard.track("a.flac")).title == "Was b"


async def test_a_retagged_file_moved_over_another_leaves_that_one_missing_with_its_tags(
    heard: MusicLibrary,
) -> None:
    write(heard, "a.mp3", pitch=1)
    write(heard, "b.mp3", pitch=2)
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    retag(heard.root / "a.mp3", title="Louder")
    os.rename(heard.root / "a.mp3", heard.root / "b.mp3")
    result = await heard.scan()
    assert counts_in(result) == counts(found=1, moved=1, missing=1)
    assert await heard.identities() == {"b.mp3": before["a.mp3"]}
    rows = (await heard.tracks()).values()
    assert {(row.id, row.title, row.status) for row in rows if row.status == "MISSING"} == {
        (before["b.mp3"][0], "Song 2", "MISSING")
    }


async def test_a_copy_takes_over_when_the_file_it_was_made_of_goes(heard: MusicLibrary) -> None:
    write(heard, "a.mp3")
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    shutil.copyfile(heard.root / "a.mp3", heard.root / "b.mp3")
    await heard.scan()
    await analysed(heard)
    assert len(await heard.identities()) == 2
    (heard.root / "a.mp3").unlink()
    result = await heard.scan()
    assert counts_in(result) == counts(found=1, moved=1)
    assert await heard.identities() == {"b.mp3": before["a.mp3"]}


async def test_two_copies_that_were_met_together_stay_two_tracks(heard: MusicLibrary) -> None:
    write(heard, "a.mp3")
    write(heard, "b.mp3")
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    (heard.root / "a.mp3").unlink()
    assert counts_in(await heard.scan()) == counts(found=1, unchanged=1, missing=1)
    assert await heard.identities() == {"b.mp3": before["b.mp3"]}
    # It comes back, by another name and with other tags.
    write(heard, "New/c.mp3")
    retag(heard.root / "New/c.mp3", title="Else")
    assert counts_in(await heard.scan()) == counts(found=2, unchanged=1, moved=1)
    assert await heard.identities() == {"b.mp3": before["b.mp3"], "New/c.mp3": before["a.mp3"]}


async def test_an_inode_that_was_used_again_is_no_proof(heard: MusicLibrary) -> None:
    write(heard, "a.mp3", pitch=1)
    await heard.scan()
    await analysed(heard)
    [(known, _)] = (await heard.identities()).values()
    inode = (heard.root / "a.mp3").stat().st_ino
    (heard.root / "a.mp3").unlink()
    write(heard, "b.mp3", pitch=2)
    await heard.set_tracks(inode=(heard.root / "b.mp3").stat().st_ino)  # as ext4 does, if this file system does not
    assert inode
    result = await heard.scan()
    assert counts_in(result) == counts(found=1, added=1, missing=1)
    assert known not in {id_ for id_, _ in (await heard.identities()).values()}


@pytest.mark.parametrize("created_first", [True, False])
async def test_watched_a_carried_and_retagged_file_keeps_its_track(
    heard: MusicLibrary, created_first: bool
) -> None:
    write(heard, "a.mp3")
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    shutil.copyfile(heard.root / "a.mp3", heard.root / "b.mp3")
    retag(heard.root / "b.mp3", title="Else")
    (heard.root / "a.mp3").unlink()
    if created_first:
        await heard.change("process_file_created", "b.mp3")
        await heard.change("process_file_deletion", "a.mp3")
    else:
        await heard.change("process_file_deletion", "a.mp3")
        await heard.change("process_file_created", "b.mp3")

    async def follows() -> bool:
        return await heard.identities() == {"b.mp3": before["a.mp3"]}

    # If the new file came first, its own track may need its analysis before it is known for what it is.
    await until(follows, what="the track at its new place")
    assert len(await heard.tracks()) == 1


async def test_a_sound_that_several_tracks_have_tells_only_together_with_a_name_or_tags(
    heard: MusicLibrary,
) -> None:
    """Silence between songs is alike on many albums."""
    for number in range(3):
        make_audio(
            heard.root / f"Album/{number}.flac", seconds=0.3, tags={"title": f"Silence {number}", "album": "A"}
        )
    await heard.scan()
    await analysed(heard)
    before = await heard.identities()
    (heard.root / "Album/0.flac").unlink()
    (heard.root / "Album/1.flac").unlink()
    make_audio(heard.root / "Other/9.flac", seconds=0.3, tags={"title": "Pause", "artist": "Else", "album": "B"})
    make_audio(
        heard.root / "Other/8.flac", seconds=0.3, tags={"title": "Silence 1", "artist": "Else", "album": "B"}
    )
    assert counts_in(await heard.scan()) == counts(found=3, unchanged=1, added=1, moved=1, missing=1)
    after = await heard.identities()
    assert after["Other/8.flac"] == before["Album/1.flac"]
    assert after["Other/9.flac"][0] not in {id_ for id_, _ in before.values()}
