"""The history of what people changed in files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "edits",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("track_id", _ID, sa.ForeignKey("tracks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("new_path", sa.LargeBinary(), nullable=True),
        sa.Column("part", sa.LargeBinary(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=True),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("undoes", sa.BigInteger(), nullable=True),
        sa.Column("undone_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_edits_track", "edits", ["track_id", "id"])
    op.create_index("ix_edits_job", "edits", ["job_id", "id"])
    op.create_index("ix_edits_finished", "edits", ["finished_at"])
    op.create_index(
        "ix_edits_open",
        "edits",
        ["track_id"],
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_table(
        "edit_pictures",
        sa.Column("digest", sa.String(length=32), primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "edit_picture_uses",
        sa.Column("edit_id", _ID, sa.ForeignKey("edits.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("digest", sa.String(length=32), primary_key=True),
    )
    op.create_index("ix_edit_picture_uses_digest", "edit_picture_uses", ["digest"])


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
