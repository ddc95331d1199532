"""Lists in every order from an index, and a smaller index of words.

Words of a single letter are looked for most while somebody types, and take longest: they have a prefix index now.
Those of two and three letters are found as fast without one.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_tracks_status", "tracks")
    op.create_index(
        "ix_tracks_status",
        "tracks",
        [
            "status",
            "id",
            "year",
            "duration_seconds",
            "size",
            "updated_at",
            "disc_number",
            "track_number",
            "library_id",
        ],
    )
    op.create_index("ix_trash_entries_created", "trash_entries", ["created_at", "track_id"])
    if op.get_bind().dialect.name == "sqlite":
        # The triggers on tracks name it, and go on.
        op.execute("DROP TABLE tracks_fts")
        op.execute(
            "CREATE VIRTUAL TABLE tracks_fts USING fts5(words, content='tracks', content_rowid='id', "
            "tokenize='unicode61 remove_diacritics 0', prefix='1', columnsize=0)"
        )
        # Not by 'rebuild': a track without words is not in the index.
        op.execute("INSERT INTO tracks_fts (rowid, words) SELECT id, words FROM tracks WHERE words IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
