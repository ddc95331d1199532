"""The tables. Times are aware UTC datetimes in Python and microseconds since the epoch in the database;
paths are bytes, relative to the library's root, as the file system has them.

Indexes tell their conditions for SQLite alone. Those of PostgreSQL are the same and stand in the migrations, which
make them: to be told here they would bring all that SQLAlchemy has for PostgreSQL into memory, 1.5 MiB.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, UserDefinedType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


def stored_time(value: datetime) -> int:
    """Microseconds since the epoch."""
    return (value - _EPOCH) // _MICROSECOND


class UtcTime(TypeDecorator[datetime]):
    """An instant: exact, sortable and alike on every database, which SQLite's text dates are not."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else stored_time(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class _TextSearchVector(UserDefinedType[str]):
    """PostgreSQL's `tsvector`, without the 1.5 MiB that come with SQLAlchemy's own."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TSVECTOR"


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcTime,
        bytes: LargeBinary,
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


#: SQLite numbers rows without gaps of reuse only for `INTEGER PRIMARY KEY AUTOINCREMENT`.
_Id = BigInteger().with_variant(Integer, "sqlite")
#: Sorted byte by byte as SQLite does, whatever language a PostgreSQL was set up with.
_Key = Text().with_variant(Text(collation="C"), "postgresql")


class Library(Base):
    """A named root folder."""

    __tablename__ = "libraries"

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    root: Mapped[bytes]
    #: st_dev of the root when a scan last succeeded; another one means that another file system is mounted.
    device: Mapped[int | None] = mapped_column(BigInteger)
    online: Mapped[bool] = mapped_column(Boolean, default=True)
    offline_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: How a person wants it watched: `auto`, `events`, `polling` or `off`.
    watch: Mapped[str] = mapped_column(String(16), default="auto", server_default=text("'auto'"))
    #: Losses at once that take it for offline; None is what the settings say.
    guard_min_tracks: Mapped[int | None] = mapped_column(Integer)
    guard_fraction: Mapped[float | None] = mapped_column(Float)
    #: How it is watched, and why so, as the watcher that led last has written.
    watch_mode: Mapped[str | None] = mapped_column(String(16))
    watch_reason: Mapped[str | None] = mapped_column(Text)
    #: Since when it is on its way out: nothing scans, watches or changes it any more.
    removing_since: Mapped[datetime | None]
    #: Raised by every transaction that may write its tracks, but for those in the trash and for what is to be
    #: analysed anew (`batch_operations.hold_tracks`).
    track_changes: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))


#: What lists are filtered and sorted by without an index of its own, so that it is found without the tracks' rows:
#: all of them together cost 1 us for every new track, where an index of sizes or durations would cost 2.
_FOUND_BY = ("library_id", "format", "year", "duration_seconds", "size", "disc_number", "track_number")


class Track(Base):
    """A file of the library, and what is known of it."""

    __tablename__ = "tracks"
    __table_args__ = (
        UniqueConstraint("library_id", "path"),
        Index("ix_tracks_inode", "inode"),
        Index("ix_tracks_status", "status", "id", *_FOUND_BY),
        Index("ix_tracks_title", "title_key", "id"),
        Index("ix_tracks_artist", "artist_key", "id"),
        Index("ix_tracks_album", "album_key", "id"),
        Index("ix_tracks_added", "added_at", "id"),
        Index("ix_tracks_updated", "updated_at", "id"),
        Index("ix_tracks_year", "year", "id"),
        Index("ix_tracks_duration", "duration_seconds", "id"),
        Index(
            "ix_tracks_audio_hash",
            "audio_hash",
            sqlite_where=text("audio_hash IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    library_id: Mapped[int] = mapped_column(ForeignKey("libraries.id"))
    path: Mapped[bytes]

    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    ctime_ns: Mapped[int] = mapped_column(BigInteger)
    #: Unsigned on some file systems: stored modulo 2**64 as a signed number (`walk.signed`).
    inode: Mapped[int] = mapped_column(BigInteger)
    device: Mapped[int] = mapped_column(BigInteger)

    status: Mapped[str] = mapped_column(String(16))
    error_category: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(Text)
    #: How often analysis was tried on this version of the file.
    analysis_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    #: Version of the analysis that the stored values come from; 0 is none yet. The slow phase's work list.
    analysis_version: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))

    title: Mapped[str] = mapped_column(Text)
    artist: Mapped[str | None] = mapped_column(Text)
    artists: Mapped[list[str] | None]
    album_artist: Mapped[str | None] = mapped_column(Text)
    album_artists: Mapped[list[str] | None]
    album: Mapped[str | None] = mapped_column(Text)
    title_sort: Mapped[str | None] = mapped_column(Text)
    artist_sort: Mapped[str | None] = mapped_column(Text)
    album_artist_sort: Mapped[str | None] = mapped_column(Text)
    album_sort: Mapped[str | None] = mapped_column(Text)
    track_number: Mapped[int | None] = mapped_column(Integer)
    track_total: Mapped[int | None] = mapped_column(Integer)
    disc_number: Mapped[int | None] = mapped_column(Integer)
    disc_total: Mapped[int | None] = mapped_column(Integer)
    date: Mapped[str | None] = mapped_column(String(64))
    year: Mapped[int | None] = mapped_column(Integer)
    genre: Mapped[str | None] = mapped_column(Text)
    genres: Mapped[list[str] | None]
    composer: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    compilation: Mapped[bool] = mapped_column(Boolean, default=False)
    lyrics: Mapped[str | None] = mapped_column(Text)
    #: MusicBrainz ids: recording, track, release, release_group; artist and album_artist as lists.
    musicbrainz: Mapped[dict[str, Any] | None]
    #: track_gain, album_gain (dB), track_peak, album_peak (1.0 is full scale).
    replaygain: Mapped[dict[str, Any] | None]

    duration_seconds: Mapped[float | None] = mapped_column(Float)
    bitrate_kbps: Mapped[int | None] = mapped_column(Integer)
    sample_rate_hz: Mapped[int | None] = mapped_column(Integer)
    channels: Mapped[int | None] = mapped_column(Integer)
    format: Mapped[str | None] = mapped_column(String(16))

    #: Name of the cover's thumbnails, from a hash of the picture; None is no cover, or none made yet.
    cover: Mapped[str | None] = mapped_column(String(64))
    #: Of the audio packets, tags left out; with an `analysis_version` of 0, of the file before it changed last.
    audio_hash: Mapped[bytes | None]

    #: By what it is sorted (`library.track_words`).
    title_key: Mapped[str] = mapped_column(_Key)
    artist_key: Mapped[str] = mapped_column(_Key)
    album_key: Mapped[str] = mapped_column(_Key)
    #: What search finds this track by (`search.indexed`); SQLite has an index of it in its table `tracks_fts`.
    words: Mapped[str | None] = mapped_column(Text().with_variant(_TextSearchVector(), "postgresql"), deferred=True)

    added_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class TrackSound(Base):
    """What listening found in a track's sound: kept when the file's tags change, as its `audio_hash` stays.

    A row whose hash is not its track's is about a sound that the track had once, and counts for nothing.
    """

    __tablename__ = "track_sound"
    __table_args__ = (Index("ix_track_sound_integrity", "integrity", "track_id"),)

    track_id: Mapped[int] = mapped_column(
        _Id, ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    audio_hash: Mapped[bytes]
    #: Times that nothing could be found out about this sound: the file was gone, was busy, was changed meanwhile.
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    #: Of `listening.ASPECT_VERSIONS`, what the values below come from; 0 is none yet.
    loudness_version: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    integrity_version: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    waveform_version: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    #: None is silence, or a sound too short to have a loudness.
    integrated_lufs: Mapped[float | None] = mapped_column(Float)
    #: 1.0 is full scale.
    true_peak: Mapped[float | None] = mapped_column(Float)
    #: `integrity.Integrity`, and why.
    integrity: Mapped[str | None] = mapped_column(String(16))
    integrity_notes: Mapped[list[str] | None]


class TrackSoundCurves(Base):
    """What takes place of a `TrackSound`: kept apart, as the search for tracks to listen to goes through all of
    those, and on a slow disk reads them."""

    __tablename__ = "track_sound_curves"

    track_id: Mapped[int] = mapped_column(
        _Id, ForeignKey("track_sound.track_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    #: `loudness.LoudnessBlocks`, for the album's loudness.
    loudness_blocks: Mapped[bytes | None]
    #: See `waveform.peaks_of`.
    waveform: Mapped[bytes | None]


class TrashEntry(Base):
    """The intent row of a deletion: written before the rename, so that a crash between the two is seen."""

    __tablename__ = "trash_entries"
    __table_args__ = (Index("ix_trash_entries_created", "created_at", "track_id"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    track_id: Mapped[int] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), unique=True)
    #: Where the file lay, relative to the root: a trashed track's own `path` is free for another file.
    original_path: Mapped[bytes]
    #: Absolute path of the file in the trash; below the library's root, it is that of the stored root.
    trash_path: Mapped[bytes]
    #: `moving` until the rename is known to have happened, then `trashed`; `restoring` on the way back,
    #: `purging` on the way out.
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Edit(Base):
    """A change to a track's file, from its intent on: what people can look at and undo (`mus.jobs.edits`)."""

    __tablename__ = "edits"
    __table_args__ = (
        Index("ix_edits_track", "track_id", "id"),
        Index("ix_edits_job", "job_id", "id"),
        Index("ix_edits_finished", "finished_at"),
        Index(
            "ix_edits_open",
            "track_id",
            sqlite_where=text("state <> 'done'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    track_id: Mapped[int] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"))
    job_id: Mapped[str] = mapped_column(String(32))
    requested_by: Mapped[str | None] = mapped_column(String(200))
    #: `tags` (with pictures) or `rename`.
    kind: Mapped[str] = mapped_column(String(16))
    #: `preparing` while the copy is made, `writing` from its being ready until the file is known to be in place,
    #: then `done`. An edit that came to nothing leaves no row.
    state: Mapped[str] = mapped_column(String(16))
    #: Where the file lay, and, of a rename, where it goes; relative to the root.
    path: Mapped[bytes]
    new_path: Mapped[bytes | None]
    #: Name of the copy, in the file's folder.
    part: Mapped[bytes | None]
    #: Numbers of the file before the edit and of the copy (`FileStat.as_json`): `{"source": [...], "copy": [...]}`.
    versions: Mapped[dict[str, Any] | None]
    #: `{"tags": {raw name: [values]}, "pictures": [{kind, mime, description, picture}] or null}`.
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    #: The edit that this one took back, and the one that took this back.
    undoes: Mapped[int | None] = mapped_column(BigInteger)
    undone_by: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class EditPicture(Base):
    """A picture that was put into files, or taken out of them: kept for undo as long as an edit names it."""

    __tablename__ = "edit_pictures"

    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    data: Mapped[bytes] = mapped_column(deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class EditPictureUse(Base):
    """That an edit names a picture."""

    __tablename__ = "edit_picture_uses"
    __table_args__ = (Index("ix_edit_picture_uses_digest", "digest"),)

    edit_id: Mapped[int] = mapped_column(ForeignKey("edits.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(32), primary_key=True)


class Job(Base):
    """A job's row: the truth about it. Only `mus.ledger` writes here (DESIGN §4)."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_dedupe_waiting",
            "dedupe_key",
            unique=True,
            sqlite_where=text("state = 'queued' AND dedupe_key IS NOT NULL"),
        ),
        Index(
            "uq_jobs_exclusive_active",
            "exclusive_key",
            unique=True,
            sqlite_where=text("state IN ('running', 'waiting') AND exclusive_key IS NOT NULL"),
        ),
        Index(
            "ix_jobs_run_after",
            "run_after",
            sqlite_where=text("run_after IS NOT NULL"),
        ),
        Index("ix_jobs_state_queue", "state", "queue"),
        Index("ix_jobs_parent", "parent_id"),
        Index(
            "ix_jobs_retry_of",
            "retry_of",
            sqlite_where=text("retry_of IS NOT NULL"),
        ),
        Index("ix_jobs_task", "task", "id"),
        Index("ix_jobs_finished", "finished_at"),
    )

    #: 12 hex digits of milliseconds, then 20 random ones: sorts by time of creation.
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    task: Mapped[str] = mapped_column(String(100))
    queue: Mapped[str] = mapped_column(String(50))
    arguments: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    #: Raised whenever a new attempt is granted; with `delivery` it fences every write of the job.
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    delivery: Mapped[int] = mapped_column(Integer, default=1)
    #: Attempts in all, a worker's death included; from the task's policy when the job was enqueued.
    max_attempts: Mapped[int] = mapped_column(Integer, default=4, server_default=text("4"))
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    stage: Mapped[str | None] = mapped_column(String(100))
    units_done: Mapped[int] = mapped_column(Integer, default=0)
    units_total: Mapped[int] = mapped_column(Integer, default=0)
    #: What a fenced effect left for a later attempt of the same job, written in the effect's transaction.
    checkpoint: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    error_category: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(Text)
    #: The message without what differs from case to case: failures are grouped by it.
    error_reason: Mapped[str | None] = mapped_column(String(200))
    error_details: Mapped[dict[str, Any] | None]
    parent_id: Mapped[str | None] = mapped_column(String(32))
    children_open: Mapped[int] = mapped_column(Integer, default=0)
    #: Task enqueued as the last child when the others are done; its end becomes this job's end.
    continuation: Mapped[str | None] = mapped_column(String(100))
    continuation_queue: Mapped[str | None] = mapped_column(String(50))
    #: That last child, once it was enqueued.
    continuation_id: Mapped[str | None] = mapped_column(String(32))
    #: The failed or cancelled job that a person asked to run again, by this one.
    retry_of: Mapped[str | None] = mapped_column(String(32))
    #: How often a person has asked, 0 for a job that is no retry; `attempt` counts the automatic ones.
    retry_number: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    requested_by: Mapped[str | None] = mapped_column(String(200))
    #: The mus that its arguments are from; None is one from before versions were noted.
    version: Mapped[str | None] = mapped_column(String(40))
    #: Unique among queued jobs.
    dedupe_key: Mapped[str | None] = mapped_column(String(200))
    #: Unique among running and waiting jobs: one scan a library.
    exclusive_key: Mapped[str | None] = mapped_column(String(200))
    run_after: Mapped[datetime | None]
    #: How long `run_after` lay ahead when it was written: a clock that was set back must not prolong the wait.
    delay_seconds: Mapped[float | None] = mapped_column(Float)
    cancel_requested_at: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    #: When a person cleared this failure away: lists pass over it, the history stays.
    cleared_at: Mapped[datetime | None]


class QueueRow(Base):
    """What people have decided about a queue. A queue without a row is as it comes."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    #: Set while no job of the queue may start.
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(String(200))


class JobEvent(Base):
    """One line of a job's history."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(default=utc_now)
    event: Mapped[str] = mapped_column(String(32))
    attempt: Mapped[int] = mapped_column(Integer)
    details: Mapped[dict[str, Any] | None]


class WorkerRow(Base):
    """A worker process. It lives while `beat` rises."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    queues: Mapped[list[str]]
    #: `alive`, `dead` (taken for dead, its jobs moved on) or `stopped` (left in good order).
    state: Mapped[str] = mapped_column(String(16))
    beat: Mapped[int] = mapped_column(BigInteger, default=0)
    beat_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime] = mapped_column(default=utc_now)


class LeaseRow(Base):
    """Who does what only one of several processes shall do. It lives while `beat` rises; no row, nobody."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    #: Another id each time the lease is taken: it fences what the holder writes.
    holder: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    beat: Mapped[int] = mapped_column(BigInteger, default=0)
    beat_at: Mapped[datetime] = mapped_column(default=utc_now)
    held_since: Mapped[datetime] = mapped_column(default=utc_now)


class Fact(Base):
    """A thing to be remembered of the database as a whole, by name."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Schedule(Base):
    """A job that comes again: fired by a conditional update of `next_due`, so once however many look."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    task: Mapped[str] = mapped_column(String(100))
    queue: Mapped[str] = mapped_column(String(50))
    arguments: Mapped[dict[str, Any]]
    #: Five fields, in UTC.
    crontab: Mapped[str] = mapped_column(String(100))
    next_due: Mapped[datetime]
    enabled: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())
    #: When a person changed it last: the defaults of the code and the settings no longer apply to it.
    edited_at: Mapped[datetime | None]
    last_fired_at: Mapped[datetime | None]
    last_job_id: Mapped[str | None] = mapped_column(String(32))
    #: The library whose own it is, in place of the common one; None for those that the code has.
    library_id: Mapped[int | None] = mapped_column(ForeignKey("libraries.id", ondelete="CASCADE"))
