"""Full-text search over the tracks: by SQLite's FTS5, and by PostgreSQL's own.

SQLite's index, `tracks_fts`, is kept by triggers that the first migration makes. PostgreSQL has a column for it,
`tracks.words`, with a GIN index: whoever writes the searched columns writes `indexed` of them there. Its words are
taken apart and folded here and not by the server, whose parsers know languages and addresses, whose `lower` knows
what its locale does, and whose `unaccent` is an extension that not everybody may install.

What people type is never query syntax: every word is quoted, must match, and matches the beginning of a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, column, literal, literal_column, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY

from mus.library.text import sort_key
from mus.persistence.models import Track

SEARCHED_COLUMNS = ("title", "artist", "album_artist", "album", "genre", "composer")

#: Scripts written without spaces: the tokenizer takes a whole phrase for one word, so a word is looked for
#: inside it instead. Ranges: Thai to Myanmar, Khmer, kana to CJK ideographs, their compatibility forms, the rest.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


#: Letters and numbers, as SQLite's tokenizer has it.
_WORD = re.compile(r"[^\W_]+")
#: PostgreSQL's words have 2,046 bytes at most.
_LONGEST_WORD = 500


def matching(query: str, *, is_sqlite: bool) -> ColumnElement[bool] | None:
    """The condition on tracks for what somebody typed; None when nothing was."""
    typed = query.replace("\0", " ").split()
    if not typed:
        return None
    # What the indexes cannot have, signs, is left out beside other words; but alone, "!!!" is a band.
    unspaced = [word for word in typed if _is_unspaced(word)]
    in_index = _is_tokenized if is_sqlite else _words
    indexed = [word for word in typed if not _is_unspaced(word) and in_index(word)]
    looked_for = unspaced if unspaced or indexed else typed
    conditions = [_contains(word, is_sqlite=is_sqlite) for word in looked_for]
    if indexed:
        conditions.append(Track.id.in_(_index_hits(indexed)) if is_sqlite else _has_words(indexed))
    return and_(*conditions)


def indexed(texts: Iterable[str | None]) -> str:
    """What `tracks.words` holds for the searched columns' texts, in the form that PostgreSQL reads.

    Words are numbered for what is typed as one word and indexed as several ("AC/DC"); none runs from one column
    into the next.
    """
    lexemes: list[str] = []
    position = 1
    for text in texts:
        for word in _words(text):
            lexemes.append(f"'{word}':{position}")
            position += 1
        position += 1
    return " ".join(lexemes)


def _words(text: str | None) -> list[str]:
    """The words of a text, folded as in sort keys."""
    return [word[:_LONGEST_WORD] for word in _WORD.findall(sort_key(text))] if text else []


def _has_words(typed: list[str]) -> ColumnElement[bool]:
    query = " & ".join("(" + " <-> ".join(f"'{word}'" for word in _words(each)) + ":*)" for each in typed)
    return Track.words.op("@@")(literal(query, TSQUERY))


def fts_query(words: list[str]) -> str:
    """FTS5's query for words: each a quoted prefix, all of them wanted."""
    return " AND ".join('"' + word.replace('"', '""') + '"*' for word in words)


def _index_hits(words: list[str]) -> Select[Any]:
    index = table("tracks_fts", column("rowid", Integer))
    return select(index.c.rowid).where(literal_column("tracks_fts").op("MATCH")(fts_query(words)))


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


def _is_tokenized(word: str) -> bool:
    """Whether SQLite's tokenizer finds anything in it: letters, numbers, private use."""
    return any((category := unicodedata.category(char))[0] in "LN" or category == "Co" for char in word)
