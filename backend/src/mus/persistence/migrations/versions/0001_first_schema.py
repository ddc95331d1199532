"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEARCHED = "title, artist, album_artist, album, genre, composer"


def upgrade() -> None:
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_job_events_job", "job_events", ["job_id", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("arguments", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("stage", sa.String(length=100), nullable=True),
        sa.Column("units_done", sa.Integer(), nullable=False),
        sa.Column("units_total", sa.Integer(), nullable=False),
        sa.Column("checkpoint", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error_category", sa.String(length=32), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_details", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("children_open", sa.Integer(), nullable=False),
        sa.Column("continuation", sa.String(length=100), nullable=True),
        sa.Column("continuation_queue", sa.String(length=50), nullable=True),
        sa.Column("continuation_id", sa.String(length=32), nullable=True),
        sa.Column("retry_of", sa.String(length=32), nullable=True),
        sa.Column("requested_by", sa.String(length=200), nullable=True),
        sa.Column("dedupe_key", sa.String(length=200), nullable=True),
        sa.Column("exclusive_key", sa.String(length=200), nullable=True),
        sa.Column("run_after", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("worker_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_jobs_finished", "jobs", ["finished_at"], unique=False)
    op.create_index("ix_jobs_parent", "jobs", ["parent_id"], unique=False)
    op.create_index("ix_jobs_state_queue", "jobs", ["state", "queue"], unique=False)
    op.create_index("ix_jobs_task", "jobs", ["task", "id"], unique=False)
    op.create_index(
        "uq_jobs_dedupe_waiting",
        "jobs",
        ["dedupe_key"],
        unique=True,
        sqlite_where=sa.text("state = 'queued' AND dedupe_key IS NOT NULL"),
        postgresql_where=sa.text("state = 'queued' AND dedupe_key IS NOT NULL"),
    )
    op.create_index(
        "uq_jobs_exclusive_active",
        "jobs",
        ["exclusive_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('running', 'waiting') AND exclusive_key IS NOT NULL"),
        postgresql_where=sa.text("state IN ('running', 'waiting') AND exclusive_key IS NOT NULL"),
    )
    op.create_table(
        "libraries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("offline_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("arguments", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("crontab", sa.String(length=100), nullable=False),
        sa.Column("next_due", sa.BigInteger(), nullable=False),
        sa.Column("last_fired_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tracks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("library_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_category", sa.String(length=32), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("analysis_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("analysis_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("artist", sa.Text(), nullable=True),
        sa.Column("artists", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("album_artist", sa.Text(), nullable=True),
        sa.Column("album_artists", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("album", sa.Text(), nullable=True),
        sa.Column("track_number", sa.Integer(), nullable=True),
        sa.Column("track_total", sa.Integer(), nullable=True),
        sa.Column("disc_number", sa.Integer(), nullable=True),
        sa.Column("disc_total", sa.Integer(), nullable=True),
        sa.Column("date", sa.String(length=64), nullable=True),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("genre", sa.Text(), nullable=True),
        sa.Column("genres", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("composer", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("compilation", sa.Boolean(), nullable=False),
        sa.Column("lyrics", sa.Text(), nullable=True),
        sa.Column("musicbrainz", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("replaygain", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("bitrate_kbps", sa.Integer(), nullable=True),
        sa.Column("sample_rate_hz", sa.Integer(), nullable=True),
        sa.Column("channels", sa.Integer(), nullable=True),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("cover", sa.String(length=64), nullable=True),
        sa.Column("audio_hash", sa.LargeBinary(), nullable=True),
        sa.Column("title_key", sa.Text(), nullable=False),
        sa.Column("artist_key", sa.Text(), nullable=False),
        sa.Column("album_key", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["library_id"],
            ["libraries.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("library_id", "path"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tracks_added", "tracks", ["added_at", "id"], unique=False)
    op.create_index("ix_tracks_album", "tracks", ["album_key", "id"], unique=False)
    op.create_index("ix_tracks_artist", "tracks", ["artist_key", "id"], unique=False)
    op.create_index("ix_tracks_inode", "tracks", ["inode"], unique=False)
    op.create_index("ix_tracks_status", "tracks", ["status", "id"], unique=False)
    op.create_index("ix_tracks_title", "tracks", ["title_key", "id"], unique=False)
    op.create_table(
        "trash_entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("track_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("original_path", sa.LargeBinary(), nullable=False),
        sa.Column("trash_path", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("track_id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _create_search()


def _create_search() -> None:
    new = ", ".join(f"new.{name}" for name in _SEARCHED.split(", "))
    old = ", ".join(f"old.{name}" for name in _SEARCHED.split(", "))
    add = f"INSERT INTO tracks_fts (rowid, {_SEARCHED}) VALUES (new.id, {new});"  # noqa: S608 - constants
    remove = f"INSERT INTO tracks_fts (tracks_fts, rowid, {_SEARCHED}) VALUES ('delete', old.id, {old});"  # noqa: S608
    # Nothing ranks by length, so `columnsize=0` spares a row for each track.
    op.execute(
        f"CREATE VIRTUAL TABLE tracks_fts USING fts5({_SEARCHED}, content='tracks', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 2', prefix='2 3', columnsize=0)"
    )
    # An upsert names every column: without the condition each changed file would be indexed again for nothing.
    changed = " OR ".join(f"old.{name} IS NOT new.{name}" for name in _SEARCHED.split(", "))
    op.execute(f"CREATE TRIGGER tracks_fts_insert AFTER INSERT ON tracks BEGIN {add} END")
    op.execute(f"CREATE TRIGGER tracks_fts_delete AFTER DELETE ON tracks BEGIN {remove} END")
    op.execute(
        f"CREATE TRIGGER tracks_fts_update AFTER UPDATE OF {_SEARCHED} ON tracks WHEN {changed} "
        f"BEGIN {remove} {add} END"
    )


def downgrade() -> None:
    raise NotImplementedError("a database is not taken back to an older mus: restore a backup instead")
