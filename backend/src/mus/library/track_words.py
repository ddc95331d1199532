"""By what a track is sorted and found: its keys, and the words and names that search knows it by.

Made where tags are read, and again when the rules change (`persistence.search` looks things up in it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from mus.library.repeated import repeated
from mus.library.text import COLUMN_END, fold, folded, joined_words_of, without_article, words_in

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


_OF_TRACK = frozenset({"title", "title_sort", "artist", "artist_sort"})
_ALBUM_COLUMNS = tuple(name for name in SEARCHED_COLUMNS if name not in _OF_TRACK)
#: Columns that words and keys are derived from.
SOURCES = (*SEARCHED_COLUMNS, *_SEARCHED_LISTS)


def derived(fields: Mapping[str, Any], articles: tuple[str, ...]) -> TrackWords:
    """Keys and words of a track with these fields (`SOURCES`; those that are empty may lack)."""
    said = fields.get
    title, title_sort = said("title") or "", said("title_sort")
    plain = fold(title)
    words, joined = found_in(title, plain)
    columns, more = {words: None}, joined
    if title_sort:
        words, joined = found_by(title_sort)
        columns[words] = None
        more |= joined
    artist = _artist_words(said("artist"), said("artist_sort"), said("artists"), articles)
    album = _album_words(list(map(said, _ALBUM_COLUMNS)), said("album_artists"), said("genres"), articles)
    return TrackWords(
        title_key=(folded(title_sort) if title_sort else without_article(plain, articles))[:_KEY_LENGTH],
        artist_key=artist.key,
        album_key=album.key,
        words=f" {COLUMN_END} ".join(
            [
                *{**columns, **artist.columns, **album.columns},
                " ".join([*{**more, **artist.more, **album.more}, *artist.names, *album.names]),
            ]
        ),
    )


class _Words(NamedTuple):
    """What some of a track's columns and lists give."""

    key: str
    #: The words of each, those that are alike once.
    columns: dict[str, None]
    #: What people type for some of them.
    more: dict[str, None]
    names: list[str]


# A track has its title for itself. The rest comes again with the next of its album, but for the artist of some.


@repeated
def _artist_words(
    artist: str | None, artist_sort: str | None, artists: Sequence[str] | None, articles: tuple[str, ...]
) -> _Words:
    every = [artist, *(artists or ())]
    return _Words(
        name_key(artist_sort, artist, articles),
        *_found_by_all([artist, artist_sort, *every]),
        [artist_name(each) for each in dict.fromkeys(every) if each],
    )


@repeated
def _album_words(
    columns: list[str | None],
    album_artists: Sequence[str] | None,
    genres: Sequence[str] | None,
    articles: tuple[str, ...],
) -> _Words:
    said = dict(zip(_ALBUM_COLUMNS, columns, strict=True))
    album = said["album"]
    names = dict.fromkeys(genre_name(each) for each in genres or (said["genre"],) if each)
    return _Words(
        name_key(said["album_sort"], album, articles),
        *_found_by_all([*columns, *(album_artists or ()), *(genres or ())]),
        [album_name(album), *names] if album else [*names],
    )


def _found_by_all(texts: Iterable[str | None]) -> tuple[dict[str, None], dict[str, None]]:
    columns: dict[str, None] = {}
    more: dict[str, None] = {}
    for text in texts:
        if text:
            words, joined = found_by(text)
            columns[words] = None
            more |= joined
    return columns, more


def name_key(sort_name: str | None, name: str | None, articles: tuple[str, ...]) -> str:
    """By what a name is sorted."""
    # A sort name says itself where the article goes: "Beatles, The".
    return (folded(sort_name) if sort_name else without_article(folded(name), articles))[:_KEY_LENGTH]


@lru_cache(maxsize=4096)  # artists, albums and genres come again and again
def found_by(text: str) -> tuple[str, dict[str, None]]:
    """Its words, and what people type in place of some of them."""
    return found_in(text, folded(text))


def found_in(text: str, plain: str) -> tuple[str, dict[str, None]]:
    """As `found_by`, of a text that is `plain` once it is folded. It keeps nothing: a title comes once."""
    return " ".join(words_in(plain)), dict.fromkeys(joined_words_of(text))


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
