"""Read a file's tags: tinytag where it is fast and reads right, mutagen for the rest.

Measured on full-length files (DESIGN §10): tinytag is 2 to 4 times faster on mp3, m4a and wav and a little on
flac, but reads all of an Ogg file; mutagen reads an Ogg file's two ends. Beside this module, only its parts
`mutagen_tags` and `refused_headers` import either library.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from tinytag import TinyTag

from mus.library import mutagen_tags
from mus.library.audio_formats import other_kind
from mus.library.file_reading import FileReading, FileStat, failed_reading, title_from_name
from mus.library.plain_tags import plain_tags
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.safe_open import CUT_SHORT, FiniteFile, UnreadableFileError, explain, open_inside
from mus.library.tag_layout import Layout, Window, look
from mus.library.tag_values import RawTags, bounded, dated, raw_name, sane_duration, tag_fields
from mus.library.track_words import derived

_NAMES = {
    "mp4": "MP4",
    "wavpack": "WavPack",
    "musepack": "Musepack",
    "vorbis": "Ogg Vorbis",
    "ogg-flac": "Ogg FLAC",
    "opus": "Opus",
    "speex": "Speex",
    "ape": "Monkey's Audio",
}
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


def read_tags(
    root: bytes, path: bytes, rules: ReadingRules = DEFAULT_RULES, *, called: bytes | None = None
) -> FileReading:
    """Read the file at `path`, relative to `root`. Never raises for what a file holds or lacks.

    `called` is the path whose name a file without a title goes by, if it is another.
    """
    try:
        descriptor, before = open_inside(root, path)
    except UnreadableFileError as error:
        stat = FileStat.of(error.stat_result) if error.stat_result else None
        return failed_reading(path, str(error), category=error.category, stat=stat, vanished=error.vanished)
    stat = FileStat.of(before)
    try:
        fields = _read(descriptor, before.st_size, path, rules)
        after = os.fstat(descriptor)
    except UnreadableFileError as error:
        return failed_reading(path, str(error), category=error.category, stat=stat)
    except OSError as error:
        reason = explain(error)
        return failed_reading(path, str(reason), category=reason.category, stat=stat)
    finally:
        os.close(descriptor)
    fields.setdefault("title", "")
    fields["title"] = fields["title"] or title_from_name(called or path)
    fields |= derived(fields, rules.sorted_without)._asdict()
    fields["stat"] = stat
    fields["changed_while_reading"] = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    return FileReading.of(path, fields)


def embedded_cover(file: BinaryIO, kind: str, max_bytes: int) -> bytes | None:
    """The picture inside a file of `kind` (`audio_formats.sniff`), its front cover if it has one.

    None without one, past `max_bytes`, or if its tags are broken.
    """
    found = _guarded(lambda: {"picture": mutagen_tags.cover(file, kind, max_bytes)})
    return found["picture"] if found else None


def _read(descriptor: int, size: int, path: bytes, rules: ReadingRules) -> dict[str, Any]:
    if size == 0:
        raise UnreadableFileError("The file is empty")
    window = Window(descriptor, size)
    layout = look(window)
    if layout.kind is None:
        kind = other_kind(layout.head)
        # An mp3 may begin with junk; a known other kind of file is none.
        if kind is not None or not path.lower().endswith(b".mp3"):
            raise UnreadableFileError(_not_what_it_says(path, kind))
    if layout.cut_short:
        raise UnreadableFileError(CUT_SHORT)
    if (plain := plain_tags(window, layout)) is not None:
        fields = tag_fields(plain.raw, rules, is_opus=plain.format == "opus")
        fields["format"] = plain.format
        fields["has_embedded_cover"] = plain.has_cover or layout.has_cover
        _set_sound(fields, plain.duration_seconds, plain.bitrate_kbps, plain.sample_rate_hz, plain.channels)
        return fields
    with FiniteFile(os.dup(descriptor), size) as file:
        found = _by_library(file, layout, rules)
    if found is None:
        if layout.kind is None:
            raise UnreadableFileError(_not_what_it_says(path, None))
        name = _NAMES.get(layout.kind, layout.kind)
        raise UnreadableFileError(f"The file is damaged: it begins as {name}, but no sound was found in it")
    found["has_embedded_cover"] = found.get("has_embedded_cover", False) or layout.has_cover
    return found


def _by_library(file: BinaryIO, layout: Layout, rules: ReadingRules) -> dict[str, Any] | None:
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


def _not_what_it_says(path: bytes, kind: str | None) -> str:
    suffix = os.path.splitext(path)[1].decode("ascii", "replace").lstrip(".").lower()
    article = "an" if suffix[:1] in {"a", "m", "o", "s"} else "a"
    begins = f"it begins like {kind}" if kind else "nothing in it is known as sound"
    return f"This is not {article} {suffix} file: {begins}"


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
    _set_sound(fields, tag.duration, tag.bitrate, tag.samplerate, tag.channels)
    return fields


def _amend_id3(raw: RawTags) -> None:
    """What tinytag passes on undecoded."""
    for value in raw.get("ufid", ()):
        owner, _, identifier = value.partition("\0")
        if owner == "http://musicbrainz.org":
            raw["musicbrainztrackid"] = [identifier]
    if "date" in raw and "tdat" in raw:
        raw["date"] = [dated(raw["date"][0], raw["tdat"][0])]


def _set_sound(
    fields: dict[str, Any],
    duration: float | None,
    bitrate_kbps: float | None,
    sample_rate: float | None,
    channels: float | None,
) -> None:
    fields["duration_seconds"] = sane_duration(duration)
    fields["bitrate_kbps"] = bounded(bitrate_kbps, 1_000_000)
    fields["sample_rate_hz"] = bounded(sample_rate, 100_000_000)
    fields["channels"] = bounded(channels, 255)
