"""What each library has of its own: how it is watched, and when it is scanned."""

from __future__ import annotations

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
