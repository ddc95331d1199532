"""Full-text search over the tracks: by SQLite's FTS5, and by PostgreSQL's own, in the same words.

What a track is found by is made where its tags are read (`mus.library.track_words`): words taken apart and folded
by us, as the servers' own ways differ with version, locale and extension. `tracks.words` holds them, SQLite with an
index beside it that triggers keep, PostgreSQL as a tsvector with a GIN index.

What people type is never query syntax: every word is quoted, must match, and matches the beginning of a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, column, literal, literal_column, select, table

from mus.library.text import COLUMN_END, NO_WORD, sign_word, words_of
from mus.library.track_words import album_name, artist_name, genre_name
from mus.persistence.models import Track


@dataclass(frozen=True, slots=True)
class Search:
    """What tracks are to be found by: phrases, all of which must be there."""

    phrases: tuple[Phrase, ...] = ()


@dataclass(frozen=True, slots=True)
class Phrase:
    words: tuple[str, ...]
    #: Whether the last word may be the beginning of one.
    is_prefix: bool


def search_for(
    *, query: str | None = None, artist: str | None = None, album: str | None = None, genre: str | None = None
) -> Search:
    """The search for what somebody typed, for the artist, the album and the genre of just this name, alone or among
    others; case and accents do not matter."""
    phrases: list[Phrase] = []
    typed = (query or "").replace("\0", " ").split()
    if found := [words for word in typed if (words := words_of(word))]:
        phrases += [Phrase(words, is_prefix=True) for words in found]
    else:
        # Beside words, signs are left out; but alone, "!!!" is a band.
        phrases += [Phrase((sign_word(signs) or NO_WORD,), is_prefix=True) for signs in typed]
    for name, of in ((artist, artist_name), (album, album_name), (genre, genre_name)):
        if name is not None:
            phrases.append(Phrase((of(name),), is_prefix=False))
    return Search(tuple(phrases))


def hits(search: Search) -> Select[Any]:
    """Ids of the tracks with all the phrases, by SQLite's index, in the order of ids."""
    query = " AND ".join(
        '"' + " ".join(phrase.words) + '"' + ("*" if phrase.is_prefix else "") for phrase in search.phrases
    )
    index = table("tracks_fts", column("rowid", Integer))
    return select(index.c.rowid).where(literal_column("tracks_fts").op("MATCH")(query))


def has_phrases(search: Search) -> ColumnElement[bool]:
    """Whether a track has all the phrases, for PostgreSQL."""
    from sqlalchemy.dialects.postgresql import TSQUERY  # not for SQLite: it brings 1.5 MiB

    query = " & ".join(
        "(" + " <-> ".join(f"'{word}'" for word in phrase.words) + (":*" if phrase.is_prefix else "") + ")"
        for phrase in search.phrases
    )
    return Track.words.op("@@")(literal(query, TSQUERY))


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
