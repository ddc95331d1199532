"""Scans, from the request to the tracks."""

from __future__ import annotations

from music_library import MusicLibrary, counts, counts_in


async def test_a(library: MusicLibrary) -> None:
    library.write("A/1.mp3", "A/2.flac")
    result = await library.scan()
    assert counts_in(result) == counts(found=2, added=2)
