"""Whether a library's tracks may have changed, told by a number: for what is made of all tracks and kept.

And lists by year and by the time of the last change from indexes of their own, filters by format from that of the
rest.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "libraries", sa.Column("track_changes", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.drop_index("ix_tracks_status", "tracks")
    op.create_index(
        "ix_tracks_status",
        "tracks",
        [
            "status",
            "id",
            "library_id",
            "format",
            "year",
            "duration_seconds",
            "size",
            "disc_number",
            "track_number",
        ],
    )
    op.create_index("ix_tracks_updated", "tracks", ["updated_at", "id"])
    op.create_index("ix_tracks_year", "tracks", ["year", "id"])


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
