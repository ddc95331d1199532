"""Files that are not plain, by the tag libraries: tinytag where it is fast and reads right, mutagen for the rest.

Beside this module, only its parts `mutagen_tags` and `refused_headers` import either, and who needs neither does
not import this one: it is a third of a reader's start.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, BinaryIO

from tinytag import TinyTag

from mus.library import mutagen_tags
from mus.library.reading_rules import ReadingRules
from mus.library.tag_layout import Layout
from mus.library.tag_values import RawTags, dated, raw_name, sound_fields, tag_fields

#: A tinytag attribute and the raw tag it holds.
_TINYTAG_TEXTS = (
    ("title", "title"),
    ("artist", "artist"),
    ("album", "album"),
    ("albumartist", "albumartist"),
    ("composer", "composer"),
    ("comment", "comment"),
    ("genre", "genre"),
    ("year", "date"),
)
_TINYTAG_NUMBERS = (
    ("track", "tracknumber"),
    ("track_total", "tracktotal"),
    ("disc", "discnumber"),
    ("disc_total", "disctotal"),
)
_TINYTAG_KINDS = frozenset({"mp3", "flac", "mp4", "wav"})


def by_library(file: BinaryIO, layout: Layout, rules: ReadingRules) -> dict[str, Any] | None:
    """A FileReading's fields; None if no sound was found, or the libraries trip over the file. Raises OSError."""
    found = None
    if layout.kind in _TINYTAG_KINDS and not layout.only_mutagen:
        found = _guarded(lambda: _by_tinytag(file, layout, rules))
    return found if found is not None else _guarded(lambda: mutagen_tags.read(file, layout, rules))


def _guarded(read: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """None for whatever a tag library trips over: the file is bad then, not the program."""
    try:
        return read()
    except OSError as error:
        # Not the disk's: a library's own "not enough data", or a seek to where a wrong length leads.
        if error.errno in {None, errno.EINVAL, errno.EOVERFLOW}:
            return None
        raise
    except Exception:  # noqa: BLE001 - tag libraries raise what their parsing happens to hit
        return None


def embedded_cover(file: BinaryIO, kind: str, max_bytes: int) -> bytes | None:
    """The picture inside a file of `kind` (`audio_formats.sniff`), its front cover if it has one.

    None without one, past `max_bytes`, or if its tags are broken.
    """
    found = _guarded(lambda: {"picture": mutagen_tags.cover(file, kind, max_bytes)})
    return found["picture"] if found else None


def _by_tinytag(file: BinaryIO, layout: Layout, rules: ReadingRules) -> dict[str, Any] | None:
    """None if the file holds something that tinytag leaves out or mixes up."""
    file.seek(0)
    tag = TinyTag.get(file_obj=file)
    other = tag.other
    # tinytag drops the difference between ARTIST and ARTISTS.
    if "artist" in other or (tag.artist is not None and "\0" in tag.artist):
        return None
    sound_format = layout.kind
    if layout.kind == "mp4":
        codec = (tag.mime_type or "").partition('codecs="')[2]
        sound_format = "aac" if codec.startswith("mp4a") else "alac" if codec.startswith("alac") else None
    if sound_format is None or not tag.duration or not tag.samplerate:
        return None
    raw: RawTags = {}
    for attribute, name in _TINYTAG_TEXTS:
        if value := getattr(tag, attribute):
            raw[name] = [value]
    for attribute, name in _TINYTAG_NUMBERS:
        if (number := getattr(tag, attribute)) or (number == 0 and layout.kind != "mp4"):
            raw[name] = [str(number)]
    for key, values in other.items():
        raw.setdefault(raw_name(key), []).extend(values)
    if layout.kind == "mp3":
        _amend_id3(raw)
        if layout.has_apev2:
            mutagen_tags.fill_from_apev2(file, raw)
    fields = tag_fields(raw, rules)
    fields["format"] = sound_format
    fields |= sound_fields(tag.duration, tag.bitrate, tag.samplerate, tag.channels)
    return fields


def _amend_id3(raw: RawTags) -> None:
    """What tinytag passes on undecoded."""
    for value in raw.get("ufid", ()):
        owner, _, identifier = value.partition("\0")
        if owner == "http://musicbrainz.org":
            raw["musicbrainztrackid"] = [identifier]
    if "date" in raw and "tdat" in raw:
        raw["date"] = [dated(raw["date"][0], raw["tdat"][0])]
