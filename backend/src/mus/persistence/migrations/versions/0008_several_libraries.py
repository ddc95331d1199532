"""What each library has of its own: how it is watched, when it is scanned, and when it is taken for offline."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("watch", sa.String(length=16), server_default=sa.text("'auto'"), nullable=False),
        sa.Column("guard_min_tracks", sa.Integer(), nullable=True),
        sa.Column("guard_fraction", sa.Float(), nullable=True),
        sa.Column("watch_mode", sa.String(length=16), nullable=True),
        sa.Column("watch_reason", sa.Text(), nullable=True),
        sa.Column("removing_since", sa.BigInteger(), nullable=True),
    ):
        op.add_column("libraries", column)
    # In SQL: Alembic adds a foreign key by a second statement, which SQLite does not have.
    number = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(f"ALTER TABLE schedules ADD COLUMN library_id {number} REFERENCES libraries (id) ON DELETE CASCADE")


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
