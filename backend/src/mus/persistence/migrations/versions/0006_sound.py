"""What listening finds in a track's sound, in tables of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    zero = sa.text("0")
    op.create_table(
        "track_sound",
        sa.Column("track_id", number, nullable=False),
        sa.Column("audio_hash", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("loudness_version", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("integrity_version", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("waveform_version", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("integrated_lufs", sa.Float(), nullable=True),
        sa.Column("true_peak", sa.Float(), nullable=True),
        sa.Column("integrity", sa.String(length=16), nullable=True),
        sa.Column("integrity_notes", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("track_id"),
    )
    op.create_table(
        "track_sound_curves",
        sa.Column("track_id", number, nullable=False),
        sa.Column("loudness_blocks", sa.LargeBinary(), nullable=True),
        sa.Column("waveform", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["track_id"], ["track_sound.track_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("track_id"),
    )
    op.create_index("ix_track_sound_integrity", "track_sound", ["integrity", "track_id"])


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
