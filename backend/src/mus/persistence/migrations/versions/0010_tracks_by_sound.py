"""Tracks are found by the hash of their sound: moved ones, and copies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_tracks_audio_hash",
        "tracks",
        ["audio_hash"],
        sqlite_where=sa.text("audio_hash IS NOT NULL"),
        postgresql_where=sa.text("audio_hash IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
