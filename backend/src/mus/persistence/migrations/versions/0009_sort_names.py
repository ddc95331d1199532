"""Names to sort by, and search by words of our own on SQLite as on PostgreSQL.

Keys and words of the tracks that are there are made anew by a job when a worker starts (`mus.jobs.renewed_words`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=50), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    for name in ("title_sort", "artist_sort", "album_artist_sort", "album_sort"):
        op.add_column("tracks", sa.Column(name, sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        _index_words()


def _index_words() -> None:
    for event in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER tracks_fts_{event}")
    op.execute("DROP TABLE tracks_fts")
    # The words are folded and taken apart already. Nothing ranks by length: `columnsize=0` spares a row for each.
    op.execute(
        "CREATE VIRTUAL TABLE tracks_fts USING fts5(words, content='tracks', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 0', prefix='2 3', columnsize=0)"
    )
    # A track without words is not in the index: what is not there cannot be deleted from it. One trigger for both,
    # as nothing says which of two would be first, and the old words must be.
    add = "INSERT INTO tracks_fts (rowid, words) SELECT new.id, new.words WHERE new.words IS NOT NULL;"
    remove = (
        "INSERT INTO tracks_fts (tracks_fts, rowid, words) "
        "SELECT 'delete', old.id, old.words WHERE old.words IS NOT NULL;"
    )
    op.execute(f"CREATE TRIGGER tracks_fts_insert AFTER INSERT ON tracks BEGIN {add} END")
    op.execute(f"CREATE TRIGGER tracks_fts_delete AFTER DELETE ON tracks BEGIN {remove} END")
    # An upsert names every column: without the condition each changed file would be indexed again for nothing.
    op.execute(
        "CREATE TRIGGER tracks_fts_update AFTER UPDATE OF words ON tracks WHEN old.words IS NOT new.words "
        f"BEGIN {remove} {add} END"
    )


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
