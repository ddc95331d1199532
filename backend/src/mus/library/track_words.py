"""By what a track is sorted and found: its keys, and the words and names that search knows it by.

Made where tags are read, and again when the rules change (`persistence.search` looks things up in it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mus.library.text import COLUMN_END, folded, joined_words_of, sort_key, words_of

#: Raised when the same tags give other keys or words: those of all tracks are made again.
WORDS_VERSION = 3
#: An index row of PostgreSQL holds 2,704 bytes; a character takes four at most.
_KEY_LENGTH = 200
#: Texts whose words a search finds, in the order of columns.
SEARCHED_COLUMNS = (
    "title", "artist", "album_artist", "album", "genre", "composer",
    "title_sort", "artist_sort", "album_artist_sort", "album_sort",
)  # fmt: skip
#: Lists of which only one or none is in the texts above.
_SEARCHED_LISTS = ("artists", "album_artists", "genres")
#: First signs of whole names: private use, so that no typed word is one.
_ARTIST, _ALBUM, _GENRE = "\ue001", "\ue002", "\ue003"


class TrackWords(NamedTuple):
    """What is derived from a track's tags."""

    title_key: str
    artist_key: str
    album_key: str
    #: Words in order, `text.COLUMN_END` between columns, whole names as `artist_name` makes them.
    words: str


#: Columns that words and keys are derived from.
SOURCES = (*SEARCHED_COLUMNS, *_SEARCHED_LISTS)


def derived(fields: Mapping[str, Any], articles: tuple[str, ...]) -> TrackWords:
    """Keys and words of a track with these fields (`SOURCES`; those that are empty may lack)."""
    title, artist, album = fields.get("title"), fields.get("artist"), fields.get("album")
    return TrackWords(
        title_key=name_key(fields.get("title_sort"), title, articles),
        artist_key=name_key(fields.get("artist_sort"), artist, articles),
        album_key=name_key(fields.get("album_sort"), album, articles),
        words=_words(fields),
    )


def name_key(sort_name: str | None, name: str | None, articles: tuple[str, ...]) -> str:
    """By what a name is sorted."""
    # A sort name says itself where the article goes: "Beatles, The".
    return (folded(sort_name) if sort_name else sort_key(name, articles))[:_KEY_LENGTH]


def _words(fields: Mapping[str, Any]) -> str:
    texts = [fields.get(name) for name in SEARCHED_COLUMNS]
    for name in _SEARCHED_LISTS:
        values = fields.get(name) or ()
        if len(values) > 1 or (values and values[0] not in texts):
            texts += values
    seen: dict[str, None] = {}
    more: dict[str, None] = {}
    for text in texts:
        if text:
            words, joined = found_by(text)
            seen[words] = None
            more.update(joined)
    artists = dict.fromkeys([fields.get("artist"), *(fields.get("artists") or ())])
    names = [artist_name(each) for each in artists if each]
    if album := fields.get("album"):
        names.append(album_name(album))
    genres = dict.fromkeys(fields.get("genres") or [fields.get("genre")])
    names += dict.fromkeys(genre_name(each) for each in genres if each)
    return f" {COLUMN_END} ".join([*seen, " ".join([*more, *names])])


@lru_cache(maxsize=4096)  # artists, albums and genres come again and again
def found_by(text: str) -> tuple[str, dict[str, None]]:
    """Its words, and what people type in place of some of them."""
    return " ".join(words_of(text)), dict.fromkeys(joined_words_of(text))


@lru_cache(maxsize=1024)
def artist_name(name: str) -> str:
    """The one word that stands for a track's artist of this name."""
    return _ARTIST + _digest(name)


@lru_cache(maxsize=1024)
def album_name(name: str) -> str:
    """The one word that stands for a track's album of this name."""
    return _ALBUM + _digest(name)


@lru_cache(maxsize=1024)
def genre_name(name: str) -> str:
    """The one word that stands for a track's genre of this name."""
    return _GENRE + _digest(name)


def _digest(name: str) -> str:
    return hashlib.blake2b(folded(name).encode("utf-8", "replace"), digest_size=8).hexdigest()
