"""What makes tracks an album, and who are the artists: names, and ids made of them that stay what they are.

An album is the tracks of one library with one title and one artist, whatever their folders. It goes by its album
artist; without one a compilation goes by `VARIOUS`, and other tracks by their own artist. Names count as the same
whatever their case and accents (`text.folded`). A track without an album's title is on none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from mus.library.text import folded

VARIOUS = "Various Artists"
_ID_BYTES = 10


def album_artist_of(album_artist: str | None, artist: str | None, *, compilation: bool) -> str | None:
    """By whose name a track's album goes; None where no tag says so."""
    return album_artist or (VARIOUS if compilation else artist) or None


def artists_of(artist: str | None, artists: Sequence[str] | None) -> list[str]:
    """Everybody whose track it is, each once."""
    names = artists or ([artist] if artist else [])
    return list(dict.fromkeys(name for name in names if name))


@lru_cache(maxsize=4096)
def album_id(library_id: int, artist: str | None, title: str) -> str:
    return _digest(f"{library_id}\0{folded(artist)}\0{folded(title)}")


@lru_cache(maxsize=4096)
def artist_id(name: str) -> str:
    return _digest(folded(name))


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=_ID_BYTES).hexdigest()
