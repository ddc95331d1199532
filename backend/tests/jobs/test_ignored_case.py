"""On a disk that ignores case a renamed file is found by its old name too: it is one track all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from music_library import MusicLibrary, counts, counts_in
from sqlalchemy import insert, literal, select

from mus.library import file_systems
from mus.persistence.models import Track
from names_without_case import case_ignored


@pytest.fixture(params=[False, True], ids=["invented inodes", "lasting inodes"])
def disk(request: pytest.FixtureRequest, library: MusicLibrary, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library's folder lies on such a disk: as SMB and FAT, or as NTFS, whose inodes last."""
    if not request.param:
        kind = file_systems.file_system_type(library.path(""))
        monkeypatch.setattr(file_systems, "_INVENTED_INODES", frozenset({kind}))
    with case_ignored(library.root):
        yield


RENAMES = [("abba", "ABBA"), ("abba/gold", "abba/Gold"), ("abba/gold/1.mp3", "abba/gold/1.MP3")]


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize(("old", "new"), RENAMES)
async def test_a_rename_in_case_alone_is_a_rename(library: MusicLibrary, old: str, new: str) -> None:
    before = await renamed(library, old, new)
    result = await library.scan()
    assert await library.identities() == before
    moved = sum(path.startswith(new) for path in before)
    assert counts_in(result) == counts(found=3, moved=moved, unchanged=3 - moved)
    assert counts_in(await library.scan()) == counts(found=3, unchanged=3)
    assert len(await library.tracks()) == 3


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize(("old", "new"), RENAMES)
async def test_so_it_is_where_the_watcher_sees_it(library: MusicLibrary, old: str, new: str) -> None:
    before = await renamed(library, old, new)
    await library.change("process_file_move", old, new)
    assert await library.identities() == before
    assert len(await library.tracks()) == 3


@pytest.mark.usefixtures("disk")
async def test_or_where_the_watcher_sees_the_old_name_vanish_first(library: MusicLibrary) -> None:
    before = await renamed(library, "abba", "ABBA")
    await library.change("process_file_deletion", "abba/gold/1.mp3", "abba/gold/2.mp3")
    await library.change("process_file_created", "ABBA/gold/1.mp3", "ABBA/gold/2.mp3")
    assert await library.identities() == before


@pytest.mark.usefixtures("disk")
async def test_or_where_it_sees_the_new_name_alone_and_a_scan_finds_the_old_one_gone(library: MusicLibrary) -> None:
    """As it does: a look at the old name finds the file still."""
    before = await renamed(library, "abba", "ABBA")
    await library.change("process_file_created", "ABBA/gold/1.mp3", "ABBA/gold/2.mp3")
    await library.scan()
    assert await library.identities() == before
    assert len(await library.tracks()) == 3


@pytest.mark.usefixtures("disk")
async def test_a_track_that_was_made_by_a_wrong_spelling_does_not_take_the_older_ones_place(
    library: MusicLibrary,
) -> None:
    library.write("abba/1.mp3")
    await library.scan()
    before = await library.identities()
    same = [column for column in Track.__table__.c if column.name not in {"id", "path"}]
    copied = select(literal(b"Abba/1.mp3"), *same).where(Track.path == b"abba/1.mp3")
    async with library.runtime.database.unit_of_work() as work:
        await work.session.execute(insert(Track).from_select(["path", *(column.name for column in same)], copied))
    await library.scan()
    assert await library.identities() == before
    assert await library.statuses() == {"abba/1.mp3": "PENDING", "Abba/1.mp3": "MISSING"}


@pytest.mark.usefixtures("disk")
async def test_a_file_moved_over_another_by_another_spelling_is_the_moved_one(library: MusicLibrary) -> None:
    library.write("abba/1.mp3", "b/2.mp3")
    await library.scan()
    before = await library.identities()
    (library.root / "abba/1.mp3").unlink()
    (library.root / "b/2.mp3").rename(library.root / "abba/1.MP3")
    await library.scan()
    assert await library.identities() == {"abba/1.MP3": before["b/2.mp3"]}
    assert await library.statuses() == {"abba/1.mp3": "MISSING", "abba/1.MP3": "PENDING"}


async def renamed(library: MusicLibrary, old: str, new: str) -> dict[str, tuple[int, object]]:
    """What each track is to be afterwards, by its path."""
    library.write("abba/gold/1.mp3", "abba/gold/2.mp3", "b.mp3")
    await library.scan()
    before = await library.identities()
    (library.root / old).rename(library.root / new)
    return {
        new + path.removeprefix(old) if path.startswith(old) else path: identity
        for path, identity in before.items()
    }
