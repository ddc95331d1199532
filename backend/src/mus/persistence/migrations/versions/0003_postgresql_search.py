"""PostgreSQL's own full-text search, and keys that it sorts byte by byte. What tracks are found by is filled in by
a job (see 0009)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    words = sa.Column("words", sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"), nullable=True)
    op.add_column("tracks", words)
    if op.get_bind().dialect.name == "postgresql":
        for name in ("title_key", "artist_key", "album_key"):
            op.alter_column("tracks", name, type_=sa.Text(collation="C"))
        op.create_index("ix_tracks_words", "tracks", ["words"], postgresql_using="gin")


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
