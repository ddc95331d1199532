"""Full-text search over the tracks: by SQLite's FTS5, and by PostgreSQL's own, in the same words.

What a track is found by is made where its tags are read (`mus.library.track_words`): words taken apart and folded
by us, as the servers' own ways differ with version, locale and extension. `tracks.words` holds them, SQLite with an
index beside it that triggers keep, PostgreSQL as a tsvector with a GIN index.

What people type is never query syntax: every word is quoted, must match, and matches the beginning of a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, column, func, literal, literal_column, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY

from mus.library.text import COLUMN_END, words_of
from mus.library.track_words import SEARCHED_COLUMNS, album_name, artist_name
from mus.persistence.models import Track


@dataclass(frozen=True, slots=True)
class Search:
    """What tracks are to be found by."""

    #: Phrases that the index is asked for, all of which must be there.
    phrases: tuple[Phrase, ...] = ()
    #: Signs that no index has, to be looked for inside the texts.
    signs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Phrase:
    words: tuple[str, ...]
    #: Whether the last word may be the beginning of one.
    is_prefix: bool


def search_for(*, query: str | None = None, artist: str | None = None, album: str | None = None) -> Search:
    """The search for what somebody typed, for the artist and the album of just this name, alone or among others;
    case and accents do not matter."""
    phrases: list[Phrase] = []
    typed = (query or "").replace("\0", " ").split()
    if found := [words for word in typed if (words := words_of(word))]:
        phrases += [Phrase(words, is_prefix=True) for words in found]
    if artist is not None:
        phrases.append(Phrase((artist_name(artist),), is_prefix=False))
    if album is not None:
        phrases.append(Phrase((album_name(album),), is_prefix=False))
    # What the indexes cannot have, signs, is left out beside other words; but alone, "!!!" is a band.
    return Search(tuple(phrases), () if found else tuple(typed))


def hits(search: Search) -> Select[Any]:
    """Ids of the tracks with all the phrases, by SQLite's index, in the order of ids."""
    query = " AND ".join(
        '"' + " ".join(phrase.words) + '"' + ("*" if phrase.is_prefix else "") for phrase in search.phrases
    )
    index = table("tracks_fts", column("rowid", Integer))
    return select(index.c.rowid).where(literal_column("tracks_fts").op("MATCH")(query))


def is_seen_in_words(search: Search) -> bool:
    """Whether `in_words` finds what the index does: of some scripts SQLite takes parts of words for words."""
    return all(word.isascii() for phrase in search.phrases for word in phrase.words)


def in_words(phrase: Phrase) -> ColumnElement[bool]:
    """Whether the phrase is in a track's words, for SQLite and without its index."""
    end = "" if phrase.is_prefix else " "
    text = literal(" ").concat(Track.words).concat(end)
    return func.instr(text, f" {' '.join(phrase.words)}{end}") > 0


def has_phrases(search: Search) -> ColumnElement[bool]:
    """Whether a track has all the phrases, for PostgreSQL."""
    query = " & ".join(
        "(" + " <-> ".join(f"'{word}'" for word in phrase.words) + (":*" if phrase.is_prefix else "") + ")"
        for phrase in search.phrases
    )
    return Track.words.op("@@")(literal(query, TSQUERY))


def has_sign(sign: str, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Whether one of a track's texts contains it."""
    pattern = "%" + re.sub(r"([%_\\])", r"\\\1", sign) + "%"
    columns = [getattr(Track, name) for name in SEARCHED_COLUMNS]
    return or_(
        *(
            column.like(pattern, escape="\\") if is_sqlite else column.ilike(pattern, escape="\\")
            for column in columns
        )
    )


def indexed(words: str) -> str:
    """A track's words (`track_words`) in the form that PostgreSQL reads.

    They are numbered for what is typed as one word and indexed as several ("AC/DC"); none runs from one column
    into the next.
    """
    return " ".join(
        f"'{word}':{min(position, _LAST_POSITION)}"
        for position, word in enumerate(words.split(), 1)
        if word != COLUMN_END
    )


#: PostgreSQL's positions end there.
_LAST_POSITION = 16_383
