"""Scans, and which track a file is: moved, swapped, linked, overwritten, gone and back."""

from __future__ import annotations

import os
from pathlib import Path

from music_library import MusicLibrary, counts, counts_in

from audio_files import make_audio
from mus.persistence.models import Track


async def moved(library: MusicLibrary, *renames: tuple[str, str]) -> None:
    """Rename files or folders as one step, scan, and see that each track went along."""
    before = await library.identities()
    for number, (old, _) in enumerate(renames):
        os.rename(library.root / old, library.root / f"on-its-way-{number}")
    for number, (_, new) in enumerate(renames):
        (library.root / new).parent.mkdir(parents=True, exist_ok=True)
        os.rename(library.root / f"on-its-way-{number}", library.root / new)

    def new_path(path: str) -> str:
        for old, new in renames:
            if path == old or path.startswith(f"{old}/"):
                return new + path[len(old) :]
        return path

    expected = {new_path(path): identity for path, identity in before.items()}
    result = await library.scan()
    assert await library.identities() == expected
    changed = sum(new_path(path) != path for path in before)
    assert counts_in(result) == counts(found=len(before), moved=changed, unchanged=len(before) - changed)


async def test_a_renamed_file_keeps_its_track(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.mp3")
    await library.scan()
    await moved(library, ("A/1.mp3", "B/C/one.mp3"))
    await moved(library, ("B/C/one.mp3", "A/1.mp3"))


async def test_a_renamed_folder_keeps_its_tracks(library: MusicLibrary) -> None:
    library.write("A/X/1.mp3", "A/X/2.mp3", "A/3.mp3", "B/4.mp3")
    await library.scan()
    await moved(library, ("A", "Z"))


async def test_a_case_only_rename_is_a_rename(library: MusicLibrary) -> None:
    library.write("artist/song.mp3", "b.mp3")
    await library.scan()
    await moved(library, ("artist", "Artist"))
    await moved(library, ("Artist/song.mp3", "Artist/Song.mp3"))


async def test_two_files_that_swap_names_swap_their_tracks(library: MusicLibrary) -> None:
    library.write("a.mp3", "b.mp3")
    await library.scan()
    await moved(library, ("a.mp3", "b.mp3"), ("b.mp3", "a.mp3"))
    titles = {path: track.title for path, track in (await library.tracks()).items()}
    assert titles == {"a.mp3": "b", "b.mp3": "a"}


async def test_two_folders_that_swap_names_and_a_chain_keep_their_tracks(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.mp3", "B/1.mp3", "B/2.mp3", "x.mp3", "y.mp3", "z.mp3")
    await library.scan()
    await moved(library, ("A", "B"), ("B", "A"), ("x.mp3", "y.mp3"), ("y.mp3", "z.mp3"), ("z.mp3", "w.mp3"))


async def test_more_moves_than_one_transaction_takes_keep_their_tracks(library: MusicLibrary) -> None:
    library.write_many(1100, "A")
    await library.scan()
    await moved(library, ("A", "B"))


async def test_a_file_moved_over_another_is_the_moved_one_and_the_other_is_missing(library: MusicLibrary) -> None:
    library.write("a.mp3", "b.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "a.mp3", library.root / "b.mp3")
    result = await library.scan()
    assert counts_in(result) == counts(found=1, moved=1, missing=1)
    assert await library.identities() == {"b.mp3": before["a.mp3"]}
    [lost] = [track for track in (await library.tracks()).values() if track.status == "MISSING"]
    assert lost.id == before["b.mp3"][0]
    assert counts_in(await library.scan()) == counts(found=1, unchanged=1)


async def test_a_new_file_in_the_place_of_a_moved_one_is_a_new_track(library: MusicLibrary) -> None:
    library.write("a.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "a.mp3", library.root / "old a.mp3")
    make_audio(library.root / "a.mp3", seconds=0.3, tags={"title": "Another"})
    result = await library.scan()
    assert counts_in(result) == counts(found=2, added=1, moved=1)
    tracks = await library.tracks()
    assert tracks["old a.mp3"].id == before["a.mp3"][0]
    assert (tracks["old a.mp3"].title, tracks["a.mp3"].title) == ("a", "Another")


async def test_a_file_replaced_as_editors_do_keeps_its_track(library: MusicLibrary) -> None:
    library.write("a.mp3")
    await library.scan()
    before = await library.identities()
    make_audio(library.root / "new.tmp.mp3", tags={"title": "Edited"})
    os.rename(library.root / "new.tmp.mp3", library.root / "a.mp3")
    assert counts_in(await library.scan()) == counts(found=1, updated=1)
    assert await library.identities() == before
    assert (await library.track("a.mp3")).title == "Edited"


async def test_a_hard_link_is_a_track_of_its_own_until_it_turns_out_to_be_the_way_to_a_new_name(
    library: MusicLibrary,
) -> None:
    library.write("a.mp3")
    await library.scan()
    before = await library.identities()
    os.link(library.root / "a.mp3", library.root / "b.mp3")
    assert (await library.scan())["added"] == 1
    linked = await library.identities()
    assert linked["a.mp3"] == before["a.mp3"]
    assert counts_in(await library.scan()) == counts(found=2, unchanged=2)
    (library.root / "a.mp3").unlink()
    result = await library.scan()
    assert (result["missing"], result["moved"]) == (0, 1)
    assert await library.identities() == {"b.mp3": before["a.mp3"]}


async def test_a_hard_link_outside_the_scanned_folder_stays_what_it_is(library: MusicLibrary) -> None:
    library.write("A/a.mp3", "B/b.mp3")
    await library.scan()
    before = await library.identities()
    os.link(library.root / "A/a.mp3", library.root / "B/link.mp3")
    result = await library.scan(path="B")
    assert counts_in(result) == counts(found=2, added=1, unchanged=1)
    after = await library.identities()
    assert after.pop("B/link.mp3")[0] not in {id_ for id_, _ in before.values()}
    assert after == before


async def test_a_folder_that_became_a_link_to_its_new_place_moved(library: MusicLibrary) -> None:
    library.write("Old/1.mp3", "Old/2.mp3", "3.mp3")
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "Old", library.root / "New")
    (library.root / "Old").symlink_to("New")
    result = await library.scan()
    assert counts_in(result) == counts(found=3, moved=2, unchanged=1)
    expected = {path.replace("Old/", "New/"): identity for path, identity in before.items()}
    assert await library.identities() == expected


async def test_a_missing_track_that_turns_up_elsewhere_is_the_same_track(
    library: MusicLibrary, tmp_path: Path
) -> None:
    library.write("a.mp3", "broken.mp3", "b.mp3")
    (library.root / "broken.mp3").write_bytes(b"no music" * 99)
    await library.scan()
    before = await library.identities()
    os.rename(library.root / "a.mp3", tmp_path / "a.mp3")
    os.rename(library.root / "broken.mp3", tmp_path / "broken.mp3")
    assert (await library.scan())["missing"] == 2
    os.rename(tmp_path / "a.mp3", library.root / "c.mp3")
    os.rename(tmp_path / "broken.mp3", library.root / "d.mp3")
    result = await library.scan()
    assert counts_in(result) == counts(found=3, moved=2, unchanged=1, failed=1)
    assert await library.identities() == {
        "c.mp3": before["a.mp3"], "d.mp3": before["broken.mp3"], "b.mp3": before["b.mp3"],
    }  # fmt: skip
    statuses = await library.statuses()
    assert (statuses["c.mp3"], statuses["d.mp3"]) == ("PENDING", "ERROR")


async def test_an_overwritten_track_is_never_looked_at_on_the_disk(library: MusicLibrary) -> None:
    library.write("a.mp3", "b.mp3")
    await library.scan()
    os.rename(library.root / "a.mp3", library.root / "b.mp3")
    await library.scan()
    # As an older version left them: parked, whose path no system call takes, and yet live.
    await library.set_tracks(Track.status == "MISSING", status="PENDING")
    assert counts_in(await library.scan()) == counts(found=1, unchanged=1, missing=1)
