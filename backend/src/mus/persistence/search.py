"""Full-text search over the tracks: SQLite's FTS5; on PostgreSQL a plain ILIKE stands in.

The index, `tracks_fts`, and the triggers that keep it are made by the first migration.

What people type is never query syntax: every word is quoted, must match, and matches the beginning of a word.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, column, literal_column, or_, select, table

from mus.persistence.models import Track

SEARCHED_COLUMNS = ("title", "artist", "album_artist", "album", "genre", "composer")

#: Scripts written without spaces: the tokenizer takes a whole phrase for one word, so a word is looked for
#: inside it instead. Ranges: Thai to Myanmar, Khmer, kana to CJK ideographs, their compatibility forms, the rest.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def matching(query: str, *, is_sqlite: bool) -> ColumnElement[bool] | None:
    """The condition on tracks for what somebody typed; None when nothing was."""
    words = query.replace("\0", " ").split()
    if not words:
        return None
    if not is_sqlite:
        return and_(*(_contains(word, is_sqlite=is_sqlite) for word in words))
    indexed = [word for word in words if _is_indexed(word)]
    conditions = [_contains(word, is_sqlite=is_sqlite) for word in words if _is_unspaced(word)]
    if indexed:
        conditions.append(Track.id.in_(_index_hits(indexed)))
    if not conditions:
        # Signs alone, which the tokenizer drops: "!!!" is a band all the same.
        conditions = [_contains(word, is_sqlite=is_sqlite) for word in words]
    return and_(*conditions)


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


def _is_indexed(word: str) -> bool:
    """Whether the tokenizer finds anything in it: letters, numbers, private use."""
    return not _is_unspaced(word) and any(
        (category := unicodedata.category(char))[0] in "LN" or category == "Co" for char in word
    )
