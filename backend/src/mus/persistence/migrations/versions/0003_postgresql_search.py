"""PostgreSQL's own full-text search, and keys that it sorts byte by byte."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mus.persistence.search import SEARCHED_COLUMNS, indexed

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 1000


def upgrade() -> None:
    words = sa.Column("words", sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"), nullable=True)
    op.add_column("tracks", words)
    if op.get_bind().dialect.name == "postgresql":
        for name in ("title_key", "artist_key", "album_key"):
            op.alter_column("tracks", name, type_=sa.Text(collation="C"))
        _fill(op.get_bind())
        op.create_index("ix_tracks_words", "tracks", ["words"], postgresql_using="gin")


def _fill(connection: sa.Connection) -> None:
    searched = [sa.column(name, sa.Text()) for name in SEARCHED_COLUMNS]
    tracks = sa.table(
        "tracks", sa.column("id", sa.BigInteger()), sa.column("words", postgresql.TSVECTOR()), *searched
    )
    store = sa.update(tracks).where(tracks.c.id == sa.bindparam("track")).values(words=sa.bindparam("found"))
    last = 0
    while rows := connection.execute(
        sa.select(tracks.c.id, *searched).where(tracks.c.id > last).order_by(tracks.c.id).limit(_BATCH)
    ).all():
        connection.execute(store, [{"track": row.id, "found": indexed(row[1:])} for row in rows])
        last = rows[-1].id


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
