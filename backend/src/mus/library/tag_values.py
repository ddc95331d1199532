"""From the names and strings that tags carry to a track's clean fields.

Every tag format is first brought to *raw tags*: names without case, spaces, `_`, `-`, `/` (`album artist`,
`ALBUMARTIST`, `MusicBrainz/Album Artist Id`), each with its values in order. Tags are untrusted input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mus.library.misread_text import repaired
from mus.library.reading_rules import ReadingRules
from mus.library.repeated import repeated

RawTags = dict[str, list[str]]

SHORT_TEXT = 4 * 1024
LYRICS_TEXT = 256 * 1024
DATE_TEXT = 64
MAX_VALUES = 64
MAX_NUMBER = 99_999

#: ID3's frames of text, MP4's atoms, and their raw names; both are read by `plain_tags/` and by mutagen.
ID3_FRAMES = {
    b"TIT2": "title",
    b"TPE1": "artist",
    b"TPE2": "albumartist",
    b"TALB": "album",
    b"TRCK": "tracknumber",
    b"TPOS": "discnumber",
    b"TCOM": "composer",
    b"TDRC": "date",
    b"TCMP": "compilation",
    b"TSOT": "titlesort",
    b"TSOP": "artistsort",
    b"TSO2": "albumartistsort",
    b"TSOA": "albumsort",
}
MP4_ATOMS = {
    b"\xa9nam": "title",
    b"\xa9ART": "artist",
    b"aART": "albumartist",
    b"\xa9alb": "album",
    b"\xa9day": "date",
    b"\xa9gen": "genre",
    b"\xa9wrt": "composer",
    b"\xa9cmt": "comment",
    b"\xa9lyr": "lyrics",
    b"sonm": "titlesort",
    b"soar": "artistsort",
    b"soaa": "albumartistsort",
    b"soal": "albumsort",
}
MUSICBRAINZ_OWNER = b"http://musicbrainz.org"

_SEPARATORS = str.maketrans("", "", " _-/\0")
_ALIASES = {
    "track": "tracknumber",
    "trck": "tracknumber",
    "totaltracks": "tracktotal",
    "disc": "discnumber",
    "totaldiscs": "disctotal",
    "partofset": "discnumber",
    "author": "artist",
    "ensemble": "albumartist",
    "albumtitle": "album",
    "description": "comment",
    "comments": "comment",
    "itunescompilation": "compilation",
    "iscompilation": "compilation",
    "cpil": "compilation",
    "tcmp": "compilation",
    "unsyncedlyrics": "lyrics",
    "unsynclyrics": "lyrics",
    "tsot": "titlesort",
    "sonm": "titlesort",
    "titlesortorder": "titlesort",
    "tsop": "artistsort",
    "soar": "artistsort",
    "artistsortorder": "artistsort",
    "tso2": "albumartistsort",
    "soaa": "albumartistsort",
    "albumartistsortorder": "albumartistsort",
    "tsoa": "albumsort",
    "soal": "albumsort",
    "albumsortorder": "albumsort",
}
_MUSICBRAINZ = {
    "recording": "musicbrainztrackid",
    "track": "musicbrainzreleasetrackid",
    "release": "musicbrainzalbumid",
    "release_group": "musicbrainzreleasegroupid",
}
_MUSICBRAINZ_LISTS = {"artist": "musicbrainzartistid", "album_artist": "musicbrainzalbumartistid"}
_GAINS = {"track_gain": "replaygaintrackgain", "album_gain": "replaygainalbumgain"}
_PEAKS = {"track_peak": "replaygaintrackpeak", "album_peak": "replaygainalbumpeak"}
_R128 = {"track_gain": "r128trackgain", "album_gain": "r128albumgain"}

_HAS_MUSICBRAINZ = frozenset({*_MUSICBRAINZ.values(), *_MUSICBRAINZ_LISTS.values()})
_HAS_REPLAYGAIN = frozenset({*_GAINS.values(), *_PEAKS.values(), *_R128.values()})

#: Fields of one text that the files of an album mostly share, by the name of the tag.
_TEXTS = {
    "album": "album", "composer": "composer", "comment": "comment", "artistsort": "artist_sort",
    "albumartistsort": "album_artist_sort", "albumsort": "album_sort",
}  # fmt: skip
#: All tags that the files of an album mostly share.
_OF_ALBUM = frozenset({
    *_TEXTS, "albumartist", "albumartists", "genre", "date", "year", "discnumber", "disctotal",
    "compilation",
})  # fmt: skip

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"\s*(\d{1,9})(?:\s*/\s*(\d{1,9}))?")
_YEAR = re.compile(r"(?<!\d)([12]\d{3})(?!\d)")
#: Of C0 and C1 but tab and line ends. A terminal acts on them, and no display shows them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
#: A date says a digit at least; taggers write 0 and 0000-00-00 for "no date".
_SAYS_A_DATE = re.compile(r"[1-9]")
_FLOAT = re.compile(r"\s*([+-]?\d{1,9}(?:[.,]\d{1,20})?(?:e[+-]?\d{1,2})?)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def raw_name(name: str) -> str:
    """The name under which raw tags hold a tag."""
    plain = name[:200].translate(_SEPARATORS).casefold()
    return _ALIASES.get(plain, plain)


def clean_text(value: str, limit: int = SHORT_TEXT) -> str:
    """Valid UTF-8 without control characters and outer space, at most `limit` characters. Line ends stay."""
    if len(value) > limit:
        value = value[:limit]
    if not value.isascii():
        # A byte order mark opens each further value of an ID3v2 UTF-16 frame.
        value = value.encode("utf-8", "replace").decode("utf-8").replace("\ufeff", "")
    if not value.isprintable():
        value = _CONTROLS.sub("", value)
    return value.strip()


def tag_fields(raw: RawTags, rules: ReadingRules, *, is_opus: bool = False) -> dict[str, Any]:
    """A FileReading's tag fields, without those that no tag has, `title` among them."""
    raw = repaired(raw)
    of_album = {name: texts for name, texts in raw.items() if name in _OF_ALBUM}
    fields = _album_fields(of_album, rules).copy()
    values = raw.get
    if (artist := values("artist", ())) or "artists" in raw:
        fields |= _artist_fields(artist, values("artists", ()), rules)
    if (titles := values("title")) and (title := _first_of(titles)):
        fields["title"] = title
    if "titlesort" in raw and (title_sort := _first_of(raw["titlesort"])):
        fields["title_sort"] = title_sort
    if "lyrics" in raw and (lyrics := _first_of(raw["lyrics"], LYRICS_TEXT)):
        fields["lyrics"] = lyrics
    number_of, total_of = values("tracknumber", ()), values("tracktotal", ())
    if number_of or total_of:
        _number(fields, "track", number_of, total_of)
    if not _HAS_MUSICBRAINZ.isdisjoint(raw) and (musicbrainz := _musicbrainz(raw)):
        fields["musicbrainz"] = musicbrainz
    if not _HAS_REPLAYGAIN.isdisjoint(raw) and (replaygain := _replaygain(raw, is_opus=is_opus)):
        fields["replaygain"] = replaygain
    return fields


@repeated
def _artist_fields(artist: Sequence[str], artists: Sequence[str], rules: ReadingRules) -> dict[str, Any]:
    return _names("artist", artist, artists, rules)


@repeated
def _album_fields(raw: RawTags, rules: ReadingRules) -> dict[str, Any]:
    """What the tags of `_OF_ALBUM` come to. Whoever changes it, copies it."""
    values = raw.get
    fields: dict[str, Any] = {}
    for source, field in _TEXTS.items():
        if text := _first_of(values(source, ())):
            fields[field] = text
    fields |= _names("album_artist", values("albumartist", ()), values("albumartists", ()), rules)
    if genres := _split(_many(values("genre", ())), rules):
        fields["genre"], fields["genres"] = genres[0], genres
    _date(fields, values("date", ()), values("year", ()))
    _number(fields, "disc", values("discnumber", ()), values("disctotal", ()))
    if next(iter(values("compilation", ())), "").strip("\0 ").casefold() in {"1", "true", "yes"}:
        fields["compilation"] = True
    return fields


def sound_fields(
    duration: float | None, bitrate_kbps: float | None, sample_rate: float | None, channels: float | None
) -> dict[str, Any]:
    """A FileReading's fields about the sound, but its format."""
    return {
        "duration_seconds": sane_duration(duration),
        "bitrate_kbps": bounded(bitrate_kbps, 1_000_000),
        "sample_rate_hz": bounded(sample_rate, 100_000_000),
        "channels": bounded(channels, 255),
    }


def dated(year: str, day: str) -> str:
    """The date of ID3v2.3's TYER and TDAT (day and month, as DDMM)."""
    return f"{year}-{day[2:]}-{day[:2]}" if len(year) == 4 and len(day) == 4 and day.isdecimal() else year


def bounded(number: float | None, highest: int) -> int | None:
    """A positive whole number up to `highest`, else None."""
    if number is None or not math.isfinite(number) or not 1 <= number <= highest:
        return None
    return round(number)


def sane_duration(seconds: float | None) -> float | None:
    """Seconds, if they are finite, positive and less than a month."""
    return seconds if seconds is not None and math.isfinite(seconds) and 0 < seconds < 31 * 86_400 else None


def _first(raw: RawTags, name: str, limit: int = SHORT_TEXT) -> str | None:
    return _first_of(raw.get(name, ()), limit)


def _first_of(values: Sequence[str], limit: int = SHORT_TEXT) -> str | None:
    for value in values:
        if text := clean_text(value, limit):
            return text
    return None


def _names(field: str, one: Sequence[str], several: Sequence[str], rules: ReadingRules) -> dict[str, Any]:
    """The text and the list of names that a tag, and the tag of that list, come to."""
    names = _many(one)
    text = None
    if names:
        text = names[0] if len(names) == 1 else clean_text("; ".join(names))
    listed = _many(several) or _split(names, rules)
    if listed and text is None:
        text = clean_text("; ".join(listed))
    return ({field: text} if text else {}) | ({f"{field}s": listed} if listed else {})


def _many(values: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for value in values[:MAX_VALUES]:
        for part in value[: SHORT_TEXT * 4].split("\0"):
            if text := clean_text(part):
                found[text] = None
    return list(found)[:MAX_VALUES]


def _split(names: list[str], rules: ReadingRules) -> list[str]:
    """The names in names that hold several."""
    found = dict.fromkeys(part for name in names for text in rules.split(name) if (part := clean_text(text)))
    return list(found)[:MAX_VALUES]


def _number(fields: dict[str, Any], field: str, number_of: Sequence[str], total_of: Sequence[str]) -> None:
    total: str | None = None
    if (text := _first_of(number_of)) and (found := _NUMBER.match(text)):
        if int(found[1]) <= MAX_NUMBER:
            fields[f"{field}_number"] = int(found[1])
        total = found[2]
    if (text := _first_of(total_of)) and (found := _NUMBER.match(text)):
        total = found[1]
    if total and 0 < int(total) <= MAX_NUMBER:
        fields[f"{field}_total"] = int(total)


def _date(fields: dict[str, Any], date_of: Sequence[str], year_of: Sequence[str]) -> None:
    """A date as it is written, and its year."""
    dates = (_first_of(values, DATE_TEXT) for values in (date_of, year_of))
    date = next((text for text in dates if text and _SAYS_A_DATE.search(text)), None)
    if date is not None:
        fields["date"] = date
        if year := _YEAR.search(date):
            fields["year"] = int(year[1])


def _musicbrainz(raw: RawTags) -> dict[str, Any]:
    ids: dict[str, Any] = {}
    for name, source in _MUSICBRAINZ.items():
        if source in raw and (found := _uuids(raw[source])):
            ids[name] = found[0]
    for name, source in _MUSICBRAINZ_LISTS.items():
        if source in raw and (found := _uuids(raw[source])):
            ids[name] = found
    return ids


def _uuids(values: list[str]) -> list[str]:
    text = " ".join(values[:MAX_VALUES])[: SHORT_TEXT * 4]
    return list(dict.fromkeys(found.lower() for found in _UUID.findall(text)))[:MAX_VALUES]


def _replaygain(raw: RawTags, *, is_opus: bool) -> dict[str, float]:
    gains: dict[str, float] = {}
    for name, source in _GAINS.items():
        if (value := _float(raw, source)) is not None and abs(value) <= 100:
            gains[name] = value
    for name, source in _PEAKS.items():
        if (value := _float(raw, source)) is not None and 0 <= value <= 1000:
            gains[name] = value
    if is_opus:
        # RFC 7845 §5.2.1: Q7.8 fixed point, to -23 LUFS; ReplayGain 2.0 refers to -18 LUFS, 5 dB louder.
        for name, source in _R128.items():
            if (value := _float(raw, source)) is not None and -32_768 <= value <= 32_767:
                gains[name] = round(value / 256 + 5, 4)
    return gains


def _float(raw: RawTags, name: str) -> float | None:
    text = _first(raw, name)
    found = _FLOAT.match(text) if text else None
    value = float(found[1].replace(",", ".")) if found else math.nan
    return value if math.isfinite(value) else None
