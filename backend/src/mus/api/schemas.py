"""Tracks, libraries and health as they go over the wire. Durations are in seconds, sizes in bytes, times in UTC."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mus.errors import ErrorCategory
from mus.library.integrity import Integrity
from mus.library.states import TrackState
from mus.persistence.duplicates import DuplicateKind

T = TypeVar("T")


RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Page(BaseModel, Generic[T]):
    """A part of a list. `next_cursor` fetches the next one; null on the last."""

    items: list[T]
    next_cursor: str | None = None


# ---------------------------------------------------------------------------------------------------- tracks


class Watch(StrEnum):
    AUTO = "auto"  # events where the file system has them, else polling
    EVENTS = "events"
    POLLING = "polling"
    OFF = "off"  # scans alone find what changes


class WatchMode(StrEnum):
    EVENTS = "events"
    POLLING = "polling"
    OFF = "off"


class TrackError(BaseModel):
    category: ErrorCategory
    message: str


class TrackItem(BaseModel):
    id: int
    library: str
    path: str = Field(description="Inside the library's folder; bytes that are not UTF-8 are percent-escaped")
    title: str
    artist: str | None
    album_artist: str | None
    album: str | None
    track_number: int | None
    disc_number: int | None
    year: int | None
    genre: str | None
    duration: float | None = Field(description="Seconds")
    size: int = Field(description="Bytes")
    format: str | None
    status: TrackState
    error: TrackError | None = Field(description="Set while the status is ERROR")
    added_at: datetime
    updated_at: datetime
    has_cover: bool
    artist_id: str | None = Field(description="Of `artist`, or of the first of several")
    album_id: str | None = Field(description="Null without an album")


class TrackCount(BaseModel):
    total: int


class TrashItem(BaseModel):
    track: TrackItem
    path: str = Field(description="Where it was, and where it is restored to unless something is there again")
    deleted_at: datetime
    state: str = Field(description="`trashed`; or `moving`, `restoring`, `purging` while a job is at it")


class DuplicateTrack(TrackItem):
    """One of several, with what tells which to keep."""

    bitrate: int | None = Field(description="kbit/s")
    sample_rate: int | None = Field(description="Hz")
    channels: int | None
    integrity: Integrity | None = Field(description="Null until it was checked, or with it off")


class DuplicateGroup(BaseModel):
    kind: DuplicateKind
    tracks: list[DuplicateTrack]


class Waveform(BaseModel):
    """How a track looks to a player."""

    duration: float | None = Field(description="Seconds")
    pieces: int = Field(
        description="Equal parts of the track, whatever its length: 1000, fewer only in the shortest"
    )
    peaks: list[float] = Field(
        description="Lowest and highest sample of each piece by turns, over all channels; 1 is full scale"
    )


class ReplayGain(BaseModel):
    """ReplayGain 2.0, of the sound itself, whatever the file's tags say."""

    track_gain: float | None = Field(description="dB to -18 LUFS; null for silence")
    track_peak: float = Field(description="True peak; 1 is full scale")
    album_gain: float | None = Field(
        description="As `track_gain`, of the album's tracks together; null until all of them are known"
    )
    album_peak: float | None


class TrackLoudnessItem(BaseModel):
    """Loudness as EBU R 128 measures it."""

    integrated_lufs: float | None = Field(description="Null for silence, and for less than 0.4 s")
    true_peak_dbtp: float | None = Field(description="Null for digital silence")
    replaygain: ReplayGain


class TrackIntegrity(BaseModel):
    state: Integrity = Field(
        description="`sound`: nothing speaks against it; `damaged`: it plays, but is not what it was; "
        "`unchecked`: it could not be checked"
    )
    notes: list[str] = Field(description="Why, in plain words")


class TrackTags(TrackItem):
    """A track with all that its file's tags say."""

    title_sort: str | None = Field(description="By what the title is sorted, if its tags say so")
    artist_sort: str | None
    album_artist_sort: str | None
    album_sort: str | None
    artists: list[str]
    album_artists: list[str]
    genres: list[str]
    track_total: int | None
    disc_total: int | None
    date: str | None
    composer: str | None
    comment: str | None
    compilation: bool
    lyrics: str | None
    musicbrainz: dict[str, Any]
    replaygain: dict[str, Any] = Field(description="What the file's tags say")


class TrackTagsFound(BaseModel):
    items: list[TrackTags] = Field(description="In the order asked for, each once; what is no track is left out")


class TrackDetail(TrackTags):
    loudness: TrackLoudnessItem | None = Field(description="What mus measured; null until it has, or with it off")
    integrity: TrackIntegrity | None = Field(description="Null until it was checked, or with it off")
    bitrate: int | None = Field(description="kbit/s")
    sample_rate: int | None = Field(description="Hz")
    channels: int | None


class ErrorItem(BaseModel):
    """A file that could not be read or analysed."""

    track_id: int
    library: str
    path: str
    title: str
    category: ErrorCategory
    message: str
    since: datetime


class ErrorReason(BaseModel):
    """Files in ERROR for one reason."""

    category: ErrorCategory
    reason: str = Field(description="The message, with … where it differs from file to file")
    count: int
    latest: datetime = Field(description="Since when the latest of them is in ERROR")
    message: str = Field(description="That one's, whole")


class LibraryItem(BaseModel):
    id: int
    name: str
    root: str = Field(description="Its folder; bytes that are not UTF-8 are percent-escaped")
    tracks: int = Field(description="Those whose file is believed to be in its place")
    online: bool
    offline_reason: str | None
    watch: Watch = Field(description="How it is to be watched")
    watch_mode: WatchMode | None = Field(description="How it is watched just now; null when nothing watches it")
    watch_reason: str | None = Field(description="Why so")
    scan_crontab: str | None = Field(
        description="When a quick scan comes by itself, in UTC; `off` for never, null for the common `quick-scan`"
    )
    guard_min_tracks: int | None = Field(description="Its own mount guard; null for the setting")
    guard_fraction: float | None
    removing: bool = Field(description="A job is about to forget it")


class LibraryFolders(BaseModel):
    path: str = Field(description="Of the folder that they lie in, inside the library")
    items: list[str] = Field(description="Their names; bytes that are not UTF-8 are percent-escaped")


class LibraryAdded(LibraryItem):
    scan_job_id: str = Field(description="Its first scan")


NameOfLibrary = Annotated[
    str, Field(min_length=1, max_length=100, description="Without a slash, and not all digits")
]
RootOfLibrary = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="An absolute path of a folder on the API's machine, apart from others'",
    ),
]
OwnCrontab = Annotated[
    str, Field(max_length=100, description="Five fields in UTC, or `off`; null is the common `quick-scan`")
]
GuardMinTracks = Annotated[int, Field(ge=1, le=2**31 - 1, description="Losses at once below which it never acts")]
GuardFraction = Annotated[float, Field(gt=0, le=1, description="Part of all tracks above which losses at once are")]


class LibraryNew(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: NameOfLibrary
    root: RootOfLibrary
    watch: Watch = Watch.AUTO
    scan_crontab: OwnCrontab | None = None
    guard_min_tracks: GuardMinTracks | None = None
    guard_fraction: GuardFraction | None = None


class LibraryEdit(BaseModel):
    """What is left out stays as it is; null is what the settings, or the common schedule, say."""

    model_config = ConfigDict(extra="forbid")

    name: NameOfLibrary = ""
    root: RootOfLibrary = ""
    watch: Watch = Watch.AUTO
    scan_crontab: OwnCrontab | None = None
    guard_min_tracks: GuardMinTracks | None = None
    guard_fraction: GuardFraction | None = None


# ---------------------------------------------------------------------------------------------------- health


class HealthStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"  # broker, a library, or every worker of some queue is down; the rest goes on working
    UNAVAILABLE = "unavailable"  # the database cannot be used


class DatabaseHealth(BaseModel):
    ok: bool
    kind: str
    latency_ms: float | None


class BrokerHealth(BaseModel):
    ok: bool
    kind: Literal["dragonfly", "valkey", "redis"] | None
    version: str | None
    latency_ms: float | None


class WorkerHealth(BaseModel):
    id: str
    host: str
    alive: bool
    queues: list[str]
    last_beat_age: float = Field(description="Seconds")


class WatcherHealth(BaseModel):
    """The one that leads, of however many run."""

    host: str
    alive: bool
    since: datetime
    last_beat_age: float = Field(description="Seconds")


class LibraryHealth(BaseModel):
    id: int
    name: str
    online: bool
    offline_reason: str | None
    watch_mode: WatchMode | None = Field(description="Null when nothing watches it")
    watch_reason: str | None = Field(description="Why it is watched so")
    writable: bool | None = Field(
        description="Whether files can be deleted and restored; null when the folder is not on this API's machine"
    )
    read_only_reason: str | None = Field(description="Why not")


class Health(BaseModel):
    """Without a valid token `status` is all there is."""

    status: HealthStatus
    version: str | None = None
    database: DatabaseHealth | None = None
    broker: BrokerHealth | None = None
    workers: list[WorkerHealth] | None = None
    watcher: WatcherHealth | None = Field(default=None, description="Null when none runs")
    paused_queues: list[str] | None = None
    libraries: list[LibraryHealth] | None = None
