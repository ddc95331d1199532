"""Inserts that say what happens when the row is there already, which each database has in a module of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import sqlite


def insert_into(table: Any, *, is_sqlite: bool) -> sqlite.Insert:
    """An insert into a table or a mapped class, with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if is_sqlite:
        return sqlite.insert(table)
    # Not at the top: PostgreSQL's modules take 1.5 MiB, which SQLite does without.
    from sqlalchemy.dialects import postgresql

    # Both say it alike, as far as is used here; and one type spares its users two.
    insert: Any = postgresql.insert(table)
    same: sqlite.Insert = insert
    return same
