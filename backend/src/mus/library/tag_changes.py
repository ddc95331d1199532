"""What a person wants changed in a file's tags, checked, and what that means for the tags themselves.

Inside, tags go by the reader's raw names (`tag_values.raw_name`): `{"title": ["Sinnerman"], "artists": []}`, where
an empty list removes. That form is also what the history keeps, so that undoing is one more change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from mus.library.tag_values import LYRICS_TEXT, MAX_NUMBER, MAX_VALUES, SHORT_TEXT

RawChanges = dict[str, list[str]]

#: ID3v2.4's and ISO 8601's dates, as far as a release has one.
_DATE = re.compile(r"[12]\d{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("Must be one line, without control characters")
    return _stripped(text)


def _lines(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL_BUT_LINES.search(text):
        raise ValueError("Must not have control characters")
    return _stripped(text)


def _stripped(text: str) -> str:
    # What the reader takes away as well: it would not come back.
    text = text.replace("\ufeff", "").strip()
    if not text:
        raise ValueError("Must not be empty: null removes it")
    return text


def _date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise ValueError("Must be a year, 1999-05 or 1999-05-31")
    return text


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError("Must be a MusicBrainz id, as 89ad4ac3-39f7-470e-963a-56509c546377")
    return text


def _picture_id(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("Must be the id of a picture, or null")
    return text


Line = Annotated[str, Field(max_length=SHORT_TEXT), AfterValidator(_line)]
Comment = Annotated[str, Field(max_length=SHORT_TEXT), AfterValidator(_lines)]
Lyrics = Annotated[str, Field(max_length=LYRICS_TEXT), AfterValidator(_lines)]
Date = Annotated[str, Field(max_length=10), AfterValidator(_date)]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER, strict=True)]
Total = Annotated[int, Field(ge=1, le=MAX_NUMBER, strict=True)]
Year = Annotated[int, Field(ge=1000, le=2999, strict=True)]
Names = Annotated[list[Line], Field(min_length=1, max_length=MAX_VALUES)]
Uuid = Annotated[str, AfterValidator(_uuid), WithJsonSchema({"type": "string", "pattern": f"^{_UUID.pattern}$"})]
PictureId = Annotated[
    str, AfterValidator(_picture_id), WithJsonSchema({"type": "string", "pattern": f"^{_DIGEST.pattern}$"})
]
Uuids = Annotated[list[Uuid], Field(min_length=1, max_length=MAX_VALUES)]
Gain = Annotated[float, Field(ge=-100, le=100)]
Peak = Annotated[float, Field(ge=0, le=1000)]


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MusicBrainzChanges(_Changes):
    recording: Uuid | None = None
    track: Uuid | None = None
    release: Uuid | None = None
    release_group: Uuid | None = None
    artist: Uuids | None = None
    album_artist: Uuids | None = None


class ReplayGainChanges(_Changes):
    """Gains in dB, peaks with 1.0 as full scale."""

    track_gain: Gain | None = None
    album_gain: Gain | None = None
    track_peak: Peak | None = None
    album_peak: Peak | None = None


class TagChanges(_Changes):
    """The tags to be set; null removes one, and what is left out stays as it is."""

    title: Line | None = None
    artist: Line | None = None
    artists: Names | None = None
    album_artist: Line | None = None
    album_artists: Names | None = None
    album: Line | None = None
    track_number: Number | None = None
    track_total: Total | None = None
    disc_number: Number | None = None
    disc_total: Total | None = None
    date: Date | None = None
    year: Year | None = None
    genre: Line | None = None
    genres: Names | None = None
    composer: Line | None = None
    comment: Comment | None = None
    compilation: bool | None = None
    lyrics: Lyrics | None = None
    title_sort: Line | None = None
    artist_sort: Line | None = None
    album_artist_sort: Line | None = None
    album_sort: Line | None = None
    musicbrainz: MusicBrainzChanges | None = None
    replaygain: ReplayGainChanges | Literal["measured"] | None = Field(
        default=None, description="`measured`: what mus has measured of each track and its album"
    )
    cover: PictureId | None = Field(
        default=None, description="Id of a picture from `POST /pictures`; null removes every picture in the file"
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> TagChanges:
        for one, other in (("date", "year"), ("genre", "genres")):
            if {one, other} <= self.model_fields_set:
                raise ValueError(f"Give {one} or {other}, not both")
        return self

    def as_json(self) -> dict[str, Any]:
        """Without what was not named; `TagChanges(**changes.as_json())` is the same."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def is_empty(self) -> bool:
        return not self.raw() and "cover" not in self.model_fields_set and not self.wants_measured

    @property
    def wants_measured(self) -> bool:
        """Whether each track's own measured ReplayGain is to be written: `with_replaygain` says what that is."""
        return self.replaygain == "measured"

    def with_replaygain(self, values: Mapping[str, float]) -> TagChanges:
        """The same changes with these ReplayGain values in the place of `measured`."""
        return TagChanges.model_validate(self.as_json() | {"replaygain": dict(values)})

    def raw(self) -> RawChanges:
        """By raw names; without the cover."""
        raw: RawChanges = {}
        for field in self.model_fields_set & _PLAIN.keys():
            value = getattr(self, field)
            raw[_PLAIN[field]] = [] if value is None else [str(value)]
        for field in ("date", "year"):
            if field in self.model_fields_set:
                value = getattr(self, field)
                raw["date"] = [] if value is None else [str(value)]
        for field in ("genre", "genres"):
            if field in self.model_fields_set:
                raw["genre"] = _as_list(getattr(self, field))
        if "compilation" in self.model_fields_set:
            raw["compilation"] = ["1"] if self.compilation else []
        self._add_names(raw, "artist", "artists", "artist")
        self._add_names(raw, "album_artist", "album_artists", "albumartist")
        for part, names in (("musicbrainz", _MUSICBRAINZ), ("replaygain", _REPLAYGAIN)):
            if part in self.model_fields_set and getattr(self, part) != "measured":
                self._add_part(raw, getattr(self, part), names)
        return raw

    def _add_names(self, raw: RawChanges, field: str, listed: str, name: str) -> None:
        """One text to show and the single names. A file has both only where they differ."""
        shown, single = field in self.model_fields_set, listed in self.model_fields_set
        if shown and single and getattr(self, field) is not None:
            raw[name], raw[f"{name}s"] = _as_list(getattr(self, field)), _as_list(getattr(self, listed))
        elif shown or single:
            raw[name], raw[f"{name}s"] = _as_list(getattr(self, listed if single else field)), []

    @staticmethod
    def _add_part(raw: RawChanges, part: BaseModel | None, names: Mapping[str, str]) -> None:
        for field, name in names.items():
            if part is None:
                raw[name] = []
            elif field in part.model_fields_set:
                raw[name] = _shown(field, getattr(part, field))


def _as_list(value: str | list[str] | None) -> list[str]:
    if value is None:
        return []
    return list(dict.fromkeys(value)) if isinstance(value, list) else [value]


def _shown(field: str, value: Any) -> list[str]:
    if isinstance(value, float | int):
        # As ReplayGain 2.0 has it: https://wiki.hydrogenaudio.org/index.php?title=ReplayGain_2.0_specification
        return [f"{value:.2f} dB" if field.endswith("gain") else f"{value:.6f}"]
    return [text.lower() for text in _as_list(value)]


_PLAIN = {
    "title": "title",
    "album": "album",
    "track_number": "tracknumber",
    "track_total": "tracktotal",
    "disc_number": "discnumber",
    "disc_total": "disctotal",
    "composer": "composer",
    "comment": "comment",
    "lyrics": "lyrics",
    "title_sort": "titlesort",
    "artist_sort": "artistsort",
    "album_artist_sort": "albumartistsort",
    "album_sort": "albumsort",
}
_MUSICBRAINZ = {
    "recording": "musicbrainztrackid",
    "track": "musicbrainzreleasetrackid",
    "release": "musicbrainzalbumid",
    "release_group": "musicbrainzreleasegroupid",
    "artist": "musicbrainzartistid",
    "album_artist": "musicbrainzalbumartistid",
}
_REPLAYGAIN = {
    "track_gain": "replaygaintrackgain",
    "album_gain": "replaygainalbumgain",
    "track_peak": "replaygaintrackpeak",
    "album_peak": "replaygainalbumpeak",
}
#: Every raw name that changes may have.
RAW_NAMES = frozenset(
    {
        *_PLAIN.values(), *_MUSICBRAINZ.values(), *_REPLAYGAIN.values(),
        "artist", "artists", "albumartist", "albumartists", "date", "genre", "compilation",
    }
)  # fmt: skip
#: How people call a raw name.
SHOWN_NAMES = {
    **{raw: field for field, raw in _PLAIN.items()},
    **{raw: f"musicbrainz.{field}" for field, raw in _MUSICBRAINZ.items()},
    **{raw: f"replaygain.{field}" for field, raw in _REPLAYGAIN.items()},
    "artist": "artist",
    "artists": "artists",
    "albumartist": "album_artist",
    "albumartists": "album_artists",
    "date": "date",
    "genre": "genre",
    "compilation": "compilation",
}
