"""Full-text search over the tracks: by SQLite's FTS5, and by PostgreSQL's own, in the same words.

What a track is found by is made where its tags are read (`mus.library.track_words`): words taken apart and folded
by us, as the servers' own ways differ with version, locale and extension. `tracks.words` holds them, SQLite with an
index beside it that triggers keep, PostgreSQL as a tsvector with a GIN index.

What people type is never query syntax: every word is quoted, must match, and matches the beginning of a word.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, column, literal, literal_column, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY

from mus.library.text import COLUMN_END, words_of
from mus.library.track_words import SEARCHED_COLUMNS, album_name, artist_name
from mus.persistence.models import Track

#: Scripts written without spaces: a whole phrase would be one word, so what is typed is looked for inside the
#: texts instead. Ranges: Thai to Myanmar, Khmer, kana to CJK ideographs, their compatibility forms, the rest.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def matching(query: str, *, is_sqlite: bool) -> ColumnElement[bool] | None:
    """The condition on tracks for what somebody typed; None when nothing was."""
    typed = query.replace("\0", " ").split()
    if not typed:
        return None
    # What the indexes cannot have, signs, is left out beside other words; but alone, "!!!" is a band.
    unspaced = [word for word in typed if _is_unspaced(word)]
    in_index = [word for word in typed if not _is_unspaced(word) and words_of(word)]
    looked_for = unspaced if unspaced or in_index else typed
    conditions = [_contains(word, is_sqlite=is_sqlite) for word in looked_for]
    if in_index:
        conditions.append(_found([words_of(word) for word in in_index], is_sqlite=is_sqlite, whole=False))
    return and_(*conditions)


def by_artist(name: str, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Tracks of the artist of just this name, alone or among others; case and accents do not matter."""
    return _found([(artist_name(name),)], is_sqlite=is_sqlite, whole=True)


def by_album(name: str, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Tracks of an album of just this name; case and accents do not matter."""
    return _found([(album_name(name),)], is_sqlite=is_sqlite, whole=True)


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


def _found(phrases: list[tuple[str, ...]], *, is_sqlite: bool, whole: bool) -> ColumnElement[bool]:
    """Tracks with all these phrases: their last words whole, or as the beginning of words."""
    if is_sqlite:
        prefix = "" if whole else "*"
        query = " AND ".join('"' + " ".join(words) + '"' + prefix for words in phrases)
        index = table("tracks_fts", column("rowid", Integer))
        hits: Select[Any] = select(index.c.rowid).where(literal_column("tracks_fts").op("MATCH")(query))
        return Track.id.in_(hits)
    prefix = "" if whole else ":*"
    query = " & ".join("(" + " <-> ".join(f"'{word}'" for word in words) + prefix + ")" for words in phrases)
    return Track.words.op("@@")(literal(query, TSQUERY))


def _contains(word: str, *, is_sqlite: bool) -> ColumnElement[bool]:
    pattern = "%" + re.sub(r"([%_\\])", r"\\\1", word) + "%"
    columns = [getattr(Track, name) for name in SEARCHED_COLUMNS]
    return or_(
        *(
            column.like(pattern, escape="\\") if is_sqlite else column.ilike(pattern, escape="\\")
            for column in columns
        )
    )


def _is_unspaced(word: str) -> bool:
    return not word.isascii() and any(low <= ord(char) <= high for char in word for low, high in _UNSPACED)
