"""Editing tags, covers and names: the intent, the copy, the rename, the commit, and a way back."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pyvips
from music_library import MusicLibrary, counts, counts_in, result_of
from sqlalchemy import select

from mus.library.sound import hear
from mus.persistence.edit_repository import keep_picture
from mus.persistence.models import Edit, Job, Track


def picture(shade: int) -> bytes:
    return bytes((pyvips.Image.black(50, 50, bands=3) + shade).cast("uchar").jpegsave_buffer())


async def scanned(library: MusicLibrary, *names: str) -> dict[str, int]:
    """Ids of new tracks by path."""
    library.write(*names)
    await library.scan()
    return {path: track.id for path, track in (await library.tracks()).items()}


async def edited(
    library: MusicLibrary, track_id: int, pattern: str | None = None, **changes: Any
) -> dict[str, Any]:
    job = await library.run("edit_track", track_id=track_id, changes=changes, rename_pattern=pattern)
    return result_of(job)


async def history(library: MusicLibrary) -> list[Edit]:
    async with library.runtime.database.reading() as session:
        return list((await session.scalars(select(Edit).order_by(Edit.id))).all())


async def undone(library: MusicLibrary, *edit_ids: int) -> Job:
    return await library.run("undo_edits", edit_ids=list(edit_ids))


async def kept(library: MusicLibrary, data: bytes) -> str:
    async with library.runtime.database.unit_of_work() as work:
        return await keep_picture(work.session, data)


def leftovers(library: MusicLibrary) -> list[str]:
    return [str(path) for path in library.root.rglob(".mus-*")]


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
    assert edit.before["tags"] == {"title": ["1"], "date": [], "artist": ["Somebody"], "artists": []}
