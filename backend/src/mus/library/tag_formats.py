"""The tags of a file by raw names, whatever its format: read, set and saved with mutagen. Part of `tag_writer`.

Names under which other programs may have put the same tag are those that the reader (`tag_values.raw_name`) takes
for it: a tag that is set is set under its usual name, and the others go, so that a file never says two things.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import mutagen.apev2

from mus.library.tag_values import clean_text, raw_name

#: Halves of one tag in some formats: the name of each, by the field.
PAIRS = {"track": ("tracknumber", "tracktotal"), "disc": ("discnumber", "disctotal")}
_PAIR_OF = {name: (field, half) for field, names in PAIRS.items() for half, name in enumerate(names)}
#: Raw names that stand for one tag.
_ALIKE = {"date": {"date", "year"}} | {
    name: {name, f"{name}order"} for name in ("titlesort", "artistsort", "albumartistsort", "albumsort")
}
#: As MusicBrainz Picard labels them in ID3v2, MP4 and ASF.
LABELS = {
    "musicbrainztrackid": "MusicBrainz Track Id",
    "musicbrainzreleasetrackid": "MusicBrainz Release Track Id",
    "musicbrainzalbumid": "MusicBrainz Album Id",
    "musicbrainzreleasegroupid": "MusicBrainz Release Group Id",
    "musicbrainzartistid": "MusicBrainz Artist Id",
    "musicbrainzalbumartistid": "MusicBrainz Album Artist Id",
}
UNDERSCORED = {
    "musicbrainztrackid": "MUSICBRAINZ_TRACKID",
    "musicbrainzreleasetrackid": "MUSICBRAINZ_RELEASETRACKID",
    "musicbrainzalbumid": "MUSICBRAINZ_ALBUMID",
    "musicbrainzreleasegroupid": "MUSICBRAINZ_RELEASEGROUPID",
    "musicbrainzartistid": "MUSICBRAINZ_ARTISTID",
    "musicbrainzalbumartistid": "MUSICBRAINZ_ALBUMARTISTID",
    "replaygaintrackgain": "REPLAYGAIN_TRACK_GAIN",
    "replaygainalbumgain": "REPLAYGAIN_ALBUM_GAIN",
    "replaygaintrackpeak": "REPLAYGAIN_TRACK_PEAK",
    "replaygainalbumpeak": "REPLAYGAIN_ALBUM_PEAK",
}


class UnfitValueError(Exception):
    """The format has no room for this value: why, for people."""


def names_alike(name: str) -> set[str]:
    return _ALIKE.get(name, {name})


def halves(text: str) -> tuple[str, str]:
    """Of "3/12"; empty where there is none."""
    number, _, total = text.partition("/")
    return number.strip(), total.strip()


def _cleaned(values: Iterable[Any]) -> list[str]:
    """As the reader sees them: each once, without what is empty."""
    parts = (clean_text(part, len(part)) for value in values for part in str(value).split("\0"))
    return list(dict.fromkeys(part for part in parts if part))


class Tags:
    """One tag structure of a file. `values` and `put` go by raw names; an empty list is no such tag."""

    def values(self, name: str) -> list[str]:
        if name in _PAIR_OF:
            field, half = _PAIR_OF[name]
            value = self._pair(field)[half]
            return [value] if value else []
        return _cleaned(self._values(name))

    def put(self, changes: Mapping[str, list[str]]) -> None:
        for field, names in PAIRS.items():
            if not changes.keys().isdisjoint(names):
                pair = zip(names, self._pair(field), strict=True)
                number, total = (next(iter(changes.get(name, [now])), "") for name, now in pair)
                self._put_pair(field, number, total)
        for name, values in changes.items():
            if name not in _PAIR_OF:
                self._put(name, values)

    def save(self, file: BinaryIO) -> None:
        raise NotImplementedError

    def _values(self, name: str) -> Iterable[Any]:
        raise NotImplementedError

    def _put(self, name: str, values: list[str]) -> None:
        raise NotImplementedError

    def _pair(self, field: str) -> tuple[str, str]:
        """Number and total; both may be in the first half's tag, as "3/12"."""
        number, total = PAIRS[field]
        first, second = halves(next(iter(_cleaned(self._values(number))), ""))
        return first, next(iter(_cleaned(self._values(total))), second)

    def _put_pair(self, field: str, number: str, total: str) -> None:
        if total and not number:
            raise UnfitValueError(f"A file of this kind holds a {field}_total only beside a {field}_number")
        first, second = PAIRS[field]
        self._put(first, [f"{number}/{total}" if total else number] if number else [])
        self._put(second, [])


# ------------------------------------------------------------------------------------- Vorbis comments, ASF


_COMMENT_NAMES = {
    name: name.upper()
    for name in (
        "title", "artist", "artists", "albumartist", "albumartists", "album", "tracknumber", "tracktotal",
        "discnumber", "disctotal", "date", "genre", "composer", "comment", "compilation", "lyrics", "titlesort",
        "artistsort", "albumartistsort", "albumsort",
    )
} | UNDERSCORED  # fmt: skip
_R128 = {"replaygaintrackgain": "R128_TRACK_GAIN", "replaygainalbumgain": "R128_ALBUM_GAIN"}


class CommentTags(Tags):
    """Vorbis comments: FLAC, and Ogg with whatever sound."""

    def __init__(self, audio: Any, *, is_opus: bool) -> None:
        self._audio = audio
        self._is_opus = is_opus

    def _values(self, name: str) -> Iterable[Any]:
        if self._is_opus and name in _R128 and (found := self._audio.tags.get(_R128[name])):
            # RFC 7845 §5.2.1, and 5 dB to ReplayGain's reference: as the reader takes it.
            return [f"{int(found[0]) / 256 + 5:.2f} dB"] if str(found[0]).lstrip("+-").isdecimal() else []
        return [value for key in self._keys(name) for value in self._audio.tags[key]]

    def _keys(self, name: str) -> list[str]:
        return [key for key in self._audio.tags.as_dict() if raw_name(key) in names_alike(name)]

    def _put(self, name: str, values: list[str]) -> None:
        for key in self._keys(name):
            del self._audio.tags[key]
        label = _COMMENT_NAMES[name]
        if self._is_opus and name in _R128:
            label = _R128[name]
            if label in self._audio.tags:
                del self._audio.tags[label]
            values = [str(round((_decibels(value) - 5) * 256)) for value in values]
        if values:
            self._audio.tags[label] = values

    def _put_pair(self, field: str, number: str, total: str) -> None:
        for name, value in zip(PAIRS[field], (number, total), strict=True):
            self._put(name, [value] if value else [])

    def save(self, file: BinaryIO) -> None:
        file.seek(0)
        self._audio.save(file)


def _decibels(text: str) -> float:
    try:
        return float(text.lower().removesuffix("db").strip())
    except ValueError:
        raise UnfitValueError(f"{text!r} is no gain") from None


_ASF_NAMES = {
    "title": "Title",
    "artist": "Author",
    "artists": "WM/ARTISTS",
    "albumartist": "WM/AlbumArtist",
    "albumartists": "WM/ALBUMARTISTS",
    "album": "WM/AlbumTitle",
    "tracknumber": "WM/TrackNumber",
    "tracktotal": "TotalTracks",
    "discnumber": "WM/PartOfSet",
    "date": "WM/Year",
    "genre": "WM/Genre",
    "composer": "WM/Composer",
    "comment": "Description",
    "compilation": "WM/IsCompilation",
    "lyrics": "WM/Lyrics",
    "titlesort": "WM/TitleSortOrder",
    "artistsort": "WM/ArtistSortOrder",
    "albumartistsort": "WM/AlbumArtistSortOrder",
    "albumsort": "WM/AlbumSortOrder",
}


class AsfTags(Tags):
    def __init__(self, audio: Any) -> None:
        self._audio = audio

    def _values(self, name: str) -> Iterable[Any]:
        return [value for key in self._keys(name) for value in self._audio.tags[key]]

    def _keys(self, name: str) -> list[str]:
        return [key for key in self._audio.tags.as_dict() if raw_name(key.removeprefix("WM/")) in names_alike(name)]

    def _put(self, name: str, values: list[str]) -> None:
        for key in self._keys(name):
            del self._audio.tags[key]
        if values:
            picard = LABELS.get(name, "").replace("MusicBrainz ", "MusicBrainz/")
            self._audio.tags[_ASF_NAMES.get(name) or picard or UNDERSCORED[name]] = values

    def _put_pair(self, field: str, number: str, total: str) -> None:
        if field == "disc":
            super()._put_pair(field, number, total)
            return
        # Players take the number of a track for a number only if it stands alone.
        self._put("tracknumber", [number] if number else [])
        self._put("tracktotal", [total] if total else [])

    def save(self, file: BinaryIO) -> None:
        file.seek(0)
        self._audio.save(file)


# ----------------------------------------------------------------------------------------------------- MP4


_ATOMS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "albumartist": "aART",
    "album": "\xa9alb",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
    "comment": "\xa9cmt",
    "lyrics": "\xa9lyr",
    "titlesort": "sonm",
    "artistsort": "soar",
    "albumartistsort": "soaa",
    "albumsort": "soal",
}
_NUMBER_ATOMS = {"track": "trkn", "disc": "disk"}
_MEAN = "----:com.apple.iTunes:"
_MOST_IN_ATOM = 65_535


class Mp4Tags(Tags):
    def __init__(self, audio: Any) -> None:
        self._audio = audio

    def _values(self, name: str) -> Iterable[Any]:
        if name == "compilation":
            return ["1"] if self._audio.tags.get("cpil") else []
        if name in _ATOMS and (found := self._audio.tags.get(_ATOMS[name])):
            return list(found)
        return [
            bytes(value).decode("utf-8", "replace") for key in self._free(name) for value in self._audio.tags[key]
        ]

    def _free(self, name: str) -> list[str]:
        return [
            key
            for key in self._audio.tags
            if key.startswith("----:") and raw_name(key.rpartition(":")[2]) in names_alike(name)
        ]

    def _put(self, name: str, values: list[str]) -> None:
        for key in self._free(name):
            del self._audio.tags[key]
        if name == "compilation":
            self._audio.tags.pop("cpil", None)
            if values:
                self._audio.tags["cpil"] = values[0] == "1"
        elif name in _ATOMS:
            self._audio.tags.pop(_ATOMS[name], None)
            if values:
                self._audio.tags[_ATOMS[name]] = values
        elif values:
            label = LABELS.get(name) or UNDERSCORED.get(name, name).lower()
            label = label if not label.endswith("artists") else label.upper()
            self._audio.tags[_MEAN + label] = [value.encode() for value in values]

    def _pair(self, field: str) -> tuple[str, str]:
        found = self._audio.tags.get(_NUMBER_ATOMS[field]) or [(0, 0)]
        number, total = (*found[0], 0, 0)[:2]
        return str(number or ""), str(total or "")

    def _put_pair(self, field: str, number: str, total: str) -> None:
        pair = tuple(int(half) if half.isdecimal() else 0 for half in (number, total))
        if max(pair) > _MOST_IN_ATOM:
            raise UnfitValueError(f"MP4 holds numbers of {field}s up to {_MOST_IN_ATOM:,}")
        for name in PAIRS[field]:
            self._put(name, [])
        self._audio.tags.pop(_NUMBER_ATOMS[field], None)
        if any(pair):
            self._audio.tags[_NUMBER_ATOMS[field]] = [pair]

    def save(self, file: BinaryIO) -> None:
        file.seek(0)
        self._audio.save(file)


# ---------------------------------------------------------------------------------------------------- APEv2


_APE_NAMES = {
    "title": "Title",
    "artist": "Artist",
    "artists": "Artists",
    "albumartist": "Album Artist",
    "albumartists": "Albumartists",
    "album": "Album",
    "tracknumber": "Track",
    "discnumber": "Disc",
    "date": "Year",
    "genre": "Genre",
    "composer": "Composer",
    "comment": "Comment",
    "compilation": "Compilation",
    "lyrics": "Lyrics",
    "titlesort": "TitleSort",
    "artistsort": "ArtistSort",
    "albumartistsort": "AlbumArtistSort",
    "albumsort": "AlbumSort",
} | UNDERSCORED


class ApeTags(Tags):
    """APEv2: in a file of its own kind, or behind an mp3's sound."""

    def __init__(self, tags: Any) -> None:
        self._tags = tags

    def has(self, name: str) -> bool:
        names = PAIRS[_PAIR_OF[name][0]] if name in _PAIR_OF else (name,)
        return any(self._keys(each) for each in names)

    def _keys(self, name: str) -> list[str]:
        return [
            key
            for key, value in self._tags.items()
            if value.kind == mutagen.apev2.TEXT and raw_name(key) in names_alike(name)
        ]

    def _values(self, name: str) -> Iterable[Any]:
        return [value for key in self._keys(name) for value in self._tags[key]]

    def _put(self, name: str, values: list[str]) -> None:
        for key in self._keys(name):
            del self._tags[key]
        if values:
            self._tags[_APE_NAMES[name]] = values

    def save(self, file: BinaryIO) -> None:
        file.seek(0)
        self._tags.save(file)
