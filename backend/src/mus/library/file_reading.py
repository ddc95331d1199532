"""What a file's tags say: the value that crosses from a reader process to the jobs."""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

from mus.errors import ErrorCategory
from mus.library.paths import shown
from mus.library.track_words import derived

_MOST_NS = (1 << 63) - 1


class FileStat(NamedTuple):
    """Which version of a file this is, in signed 64-bit numbers, as in the database. Times before 1677 or after
    2262, which some file systems have room for, stand at the ends of these."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, stat: os.stat_result) -> FileStat:
        return cls(
            stat.st_size,
            _bounded(stat.st_mtime_ns),
            _bounded(stat.st_ctime_ns),
            signed_64(stat.st_ino),
            signed_64(stat.st_dev),
        )

    def as_json(self) -> list[int]:
        return list(self)


def _bounded(time_ns: int) -> int:
    return time_ns if -_MOST_NS <= time_ns <= _MOST_NS else _MOST_NS if time_ns > 0 else -_MOST_NS


def signed_64(number: int) -> int:
    """The same 64 bits as a signed number."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= 1 << 63 else number


class FileReading(NamedTuple):
    """One look at one file. With `error_message` set, only `path`, `stat` and `title` count.

    `stat` is None if the file could not even be looked at; then `vanished` tells whether it is gone.
    Everything is clean: valid UTF-8 without NUL, limited lengths, bounded numbers, finite floats.

    A tuple, as a scan makes two of each file, sends one to another process, and takes a row out of it.
    """

    path: bytes
    title: str
    stat: FileStat | None = None
    #: Size or mtime moved while it was read: read it again later.
    changed_while_reading: bool = False
    vanished: bool = False
    error_category: ErrorCategory | None = None
    error_message: str | None = None
    artist: str | None = None
    artists: list[str] | None = None
    album_artist: str | None = None
    album_artists: list[str] | None = None
    album: str | None = None
    track_number: int | None = None
    track_total: int | None = None
    disc_number: int | None = None
    disc_total: int | None = None
    date: str | None = None
    year: int | None = None
    genre: str | None = None
    genres: list[str] | None = None
    composer: str | None = None
    comment: str | None = None
    compilation: bool = False
    lyrics: str | None = None
    #: recording, track, release, release_group: ids; artist, album_artist: lists of ids.
    musicbrainz: dict[str, Any] | None = None
    #: track_gain, album_gain in dB to ReplayGain's reference; track_peak, album_peak with 1.0 as full scale.
    replaygain: dict[str, float] | None = None
    duration_seconds: float | None = None
    bitrate_kbps: int | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    #: mp3, flac, alac, aac, vorbis, opus, speex, wav, aiff, wma, ape, wavpack, musepack, dsf, or MP4's name
    #: of another codec.
    format: str | None = None
    has_embedded_cover: bool = False
    title_sort: str | None = None
    artist_sort: str | None = None
    album_artist_sort: str | None = None
    album_sort: str | None = None
    #: By what it is sorted and found (`track_words.TrackWords`).
    title_key: str = ""
    artist_key: str = ""
    album_key: str = ""
    words: str = ""

    @classmethod
    def of(cls, path: bytes, values: Mapping[str, Any]) -> FileReading:
        """With these attributes; the others are as for a file that says nothing of them."""
        return cls._make(chain((path,), map(values.get, _SENT, _UNSAID)))

    def as_json(self) -> list[Any]:
        """JSON-ready, without the path, which both ends know."""
        values: list[Any] = list(self[1:])
        if self.stat is not None:
            values[_STAT] = self.stat.as_json()
        return values

    @classmethod
    def from_json(cls, path: bytes, values: list[Any]) -> FileReading:
        """`values` is used up."""
        if stat := values[_STAT]:
            values[_STAT] = FileStat._make(stat)
        if category := values[_CATEGORY]:
            values[_CATEGORY] = ErrorCategory(category)
        return cls._make([path, *values])


#: What `as_json` sends, in this order, and what it is where nothing is known of it.
_SENT = FileReading._fields[1:]
_UNSAID = tuple(FileReading._field_defaults.get(name) for name in _SENT)
_STAT, _CATEGORY = _SENT.index("stat"), _SENT.index("error_category")


def failed_reading(
    path: bytes,
    message: str,
    *,
    category: ErrorCategory = ErrorCategory.USER_FIXABLE,
    stat: FileStat | None = None,
    vanished: bool = False,
) -> FileReading:
    """The reading of a file that cannot be read."""
    title = title_from_name(path)
    return FileReading(
        path,
        title,
        **derived({"title": title}, ())._asdict(),
        stat=stat,
        error_category=category,
        error_message=message,
        vanished=vanished,
    )


#: `03 - `, `3. `, `03_`, `1-03 `, `03) ` and, with a leading zero only, `03 `: "99 Luftballons" stays whole.
_LEADING_NUMBER = re.compile(
    r"(?:\d{1,2}-)?\d{1,3}(?:\s+-\s+|-(?=[^\W\d])|\.\s*(?!\d)|\)\s*|_+)|\d-\d{2}\s+|0\d{1,2}\s+"
)


def title_from_name(path: bytes) -> str:
    """A title for a file without one: its name without suffix and leading track number."""
    stem = shown(os.path.splitext(os.path.basename(path))[0])
    number = _LEADING_NUMBER.match(stem)
    return (stem[number.end() :].strip() if number else "") or stem.strip() or stem
