"""What steers jobs: paused queues, limits and manual retries of jobs, schedules that people edit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_by", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    for column in (
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("4"), nullable=False),
        sa.Column("retry_number", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error_reason", sa.String(length=200), nullable=True),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.Column("delay_seconds", sa.Float(), nullable=True),
    ):
        op.add_column("jobs", column)
    op.create_index(
        "ix_jobs_retry_of",
        "jobs",
        ["retry_of"],
        unique=False,
        sqlite_where=sa.text("retry_of IS NOT NULL"),
        postgresql_where=sa.text("retry_of IS NOT NULL"),
    )
    # The few that wait for a moment, among any number that just wait: reconcile looks at them every few seconds.
    op.create_index(
        "ix_jobs_run_after",
        "jobs",
        ["run_after"],
        unique=False,
        sqlite_where=sa.text("run_after IS NOT NULL"),
        postgresql_where=sa.text("run_after IS NOT NULL"),
    )
    for column in (
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("edited_at", sa.BigInteger(), nullable=True),
        sa.Column("last_job_id", sa.String(length=32), nullable=True),
    ):
        op.add_column("schedules", column)
    # Names of schedules stand in addresses and on the command line.
    op.execute("UPDATE schedules SET name = 'quick-scan' WHERE name = 'quick scan'")
    # What failed before has no reason written down; its message serves.
    op.execute("UPDATE jobs SET error_reason = substr(error_message, 1, 200) WHERE state = 'failed'")


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
