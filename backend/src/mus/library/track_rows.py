"""What a reading of a file comes to in the tracks table, in the form in which it goes there.

Made where files are read, so that whoever stores many of them has little to do with each: a first scan waits for
that process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from mus.errors import ErrorCategory
from mus.json_text import encoded_text
from mus.library.file_reading import FileReading, FileStat

#: Columns that have a reading's value of the same name as it is, and those that have it as JSON.
PLAIN_COLUMNS = (
    "title", "artist", "album_artist", "album", "track_number", "track_total", "disc_number", "disc_total", "date",
    "year", "genre", "compilation", "duration_seconds", "bitrate_kbps", "sample_rate_hz", "channels", "format",
    "title_key", "artist_key", "album_key", "words",
)  # fmt: skip
JSON_COLUMNS = ("artists", "album_artists", "genres")
#: And those of which most readings say nothing.
RARE_PLAIN_COLUMNS = (
    "composer", "comment", "lyrics", "error_category", "error_message", "title_sort", "artist_sort",
    "album_artist_sort", "album_sort",
)  # fmt: skip
RARE_JSON_COLUMNS = ("musicbrainz", "replaygain")


class ReadRow(NamedTuple):
    """A FileReading on its way into the table."""

    path: bytes
    stat: FileStat | None
    changed_while_reading: bool
    vanished: bool
    error_category: ErrorCategory | None
    error_message: str | None
    #: Values of PLAIN_COLUMNS and JSON_COLUMNS.
    common: list[Any]
    #: And of RARE_PLAIN_COLUMNS and RARE_JSON_COLUMNS; empty where the reading says nothing of these.
    rare: list[Any]

    @classmethod
    def of(cls, reading: FileReading) -> ReadRow:
        rare = [*_rare_plain(reading), *_as_json(_rare_json(reading))]
        return cls(
            reading.path,
            reading.stat,
            reading.changed_while_reading,
            reading.vanished,
            reading.error_category,
            reading.error_message,
            [*_plain(reading), *_as_json(_json(reading))],
            rare if rare != _NOTHING else [],
        )

    def as_json(self) -> list[Any]:
        """JSON-ready, without the path, which both ends know."""
        _, stat, *values = self
        return [None if stat is None else stat.as_json(), *values]

    @classmethod
    def from_json(cls, path: bytes, values: list[Any]) -> ReadRow:
        """`values` is used up."""
        if stat := values[0]:
            values[0] = FileStat._make(stat)
        if category := values[_CATEGORY]:
            values[_CATEGORY] = ErrorCategory(category)
        return cls(path, *values)


def _values_of(columns: Sequence[str]) -> Callable[[FileReading], tuple[Any, ...]]:
    return itemgetter(*map(FileReading._fields.index, columns))


_CATEGORY = ReadRow._fields.index("error_category") - 1
_NOTHING: list[Any] = [None] * (len(RARE_PLAIN_COLUMNS) + len(RARE_JSON_COLUMNS))
_plain, _json = _values_of(PLAIN_COLUMNS), _values_of(JSON_COLUMNS)
_rare_plain, _rare_json = _values_of(RARE_PLAIN_COLUMNS), _values_of(RARE_JSON_COLUMNS)


def _as_json(values: Iterable[Any]) -> list[str | None]:
    return [None if value is None else encoded_text(value) for value in values]
