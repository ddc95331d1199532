"""Read a file's tags: by compiled code where the file is as most are, by a tag library for the rest.

The compiled code, `plain_tags/`, reads mp3, flac, m4a, ogg, opus and wav by a few small reads, in a tenth of the
time that a library takes; whatever is not quite plain it leaves alone. An installation that was built without a C
compiler reads all by the libraries.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
from typing import Any

from mus.library.audio_formats import other_kind
from mus.library.file_reading import FileReading, FileStat, failed_reading, title_from_name
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.safe_open import (
    CUT_SHORT,
    FiniteFile,
    UnreadableFileError,
    explain,
    open_inside,
    real_prefix,
)
from mus.library.tag_layout import Window, look
from mus.library.tag_values import RawTags, sound_fields, tag_fields
from mus.library.track_words import TrackWords, derived

#: Of a plain file: raw tags, its format, seconds, kbit/s, sample rate, channels, whether there is a cover.
Plain = tuple[RawTags, str, float, float | None, int, int, bool]
#: What `open_plain` found: the numbers of its FileStat, the tags if it is plain, whether it changed meanwhile, and
#: the descriptor of one that is not plain, for whoever goes on with it.
Opened = tuple[tuple[int, int, int, int, int], Plain | None, bool, int]


def nothing_is_plain(descriptor: int, size: int) -> Plain | None:
    """In the place of the compiled `read_plain`."""


def nothing_is_opened(path: bytes, prefix: bytes) -> Opened | None:
    """In the place of the compiled `open_plain`, which opens and reads a file in one go: the calls for it took as
    long as to read its tags. None for a link, for whatever does not lie below the prefix, and where it cannot."""


try:
    from mus.library._plain_tags import open_plain as open_plain  # for others
    from mus.library._plain_tags import read_plain as read_plain
except ImportError:  # installed without a C compiler
    open_plain, read_plain = nothing_is_opened, nothing_is_plain

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


def read_tags(
    root: bytes, path: bytes, rules: ReadingRules = DEFAULT_RULES, *, called: bytes | None = None
) -> FileReading:
    """Read the file at `path`, relative to `root`. Never raises for what a file holds or lacks.

    `called` is the path whose name a file without a title goes by, if it is another.
    """
    opened = open_plain(os.path.join(root, path), real_prefix(root))
    if opened is not None:
        numbers, plain, has_changed, descriptor = opened
        stat = FileStat._make(numbers)
        if plain is not None:
            return _reading(path, _plain_fields(plain, rules), stat, rules, called, has_changed=has_changed)
    else:
        try:
            descriptor, found = open_inside(root, path)
        except UnreadableFileError as error:
            there = FileStat.of(error.stat_result) if error.stat_result else None
            return failed_reading(path, str(error), category=error.category, stat=there, vanished=error.vanished)
        stat = FileStat.of(found)
    try:
        fields = _read(descriptor, stat.size, path, rules, may_be_plain=opened is None)
        after = FileStat.of(os.fstat(descriptor))
    except UnreadableFileError as error:
        return failed_reading(path, str(error), category=error.category, stat=stat)
    except OSError as error:
        reason = explain(error)
        return failed_reading(path, str(reason), category=reason.category, stat=stat)
    finally:
        os.close(descriptor)
    has_changed = (stat.size, stat.mtime_ns) != (after.size, after.mtime_ns)
    return _reading(path, fields, stat, rules, called, has_changed=has_changed)


def _reading(
    path: bytes,
    fields: dict[str, Any],
    stat: FileStat,
    rules: ReadingRules,
    called: bytes | None,
    *,
    has_changed: bool,
) -> FileReading:
    if not fields.get("title"):
        fields["title"] = title_from_name(called or path)
    fields |= zip(TrackWords._fields, derived(fields, rules.sorted_without), strict=True)
    fields["stat"] = stat
    fields["changed_while_reading"] = has_changed
    return FileReading.of(path, fields)


def _plain_fields(plain: Plain, rules: ReadingRules) -> dict[str, Any]:
    raw, sound_format, *sound, has_cover = plain
    fields = tag_fields(raw, rules, is_opus=sound_format == "opus")
    fields |= {"format": sound_format, "has_embedded_cover": has_cover}
    return fields | sound_fields(*sound)


def _read(descriptor: int, size: int, path: bytes, rules: ReadingRules, *, may_be_plain: bool) -> dict[str, Any]:
    if size == 0:
        raise UnreadableFileError("The file is empty")
    if may_be_plain and (plain := read_plain(descriptor, size)) is not None:
        return _plain_fields(plain, rules)
    window = Window(descriptor, size)
    layout = look(window)
    if layout.kind is None:
        kind = other_kind(layout.head)
        # An mp3 may begin with junk; a known other kind of file is none.
        if kind is not None or not path.lower().endswith(b".mp3"):
            raise UnreadableFileError(_not_what_it_says(path, kind))
    if layout.cut_short:
        raise UnreadableFileError(CUT_SHORT)
    from mus.library.tag_libraries import by_library  # most readers need none

    with FiniteFile(os.dup(descriptor), size) as file:
        found = by_library(file, layout, rules)
    if found is None:
        if layout.kind is None:
            raise UnreadableFileError(_not_what_it_says(path, None))
        name = _NAMES.get(layout.kind, layout.kind)
        raise UnreadableFileError(f"The file is damaged: it begins as {name}, but no sound was found in it")
    found["has_embedded_cover"] = found.get("has_embedded_cover", False) or layout.has_cover
    return found


def _not_what_it_says(path: bytes, kind: str | None) -> str:
    suffix = os.path.splitext(path)[1].decode("ascii", "replace").lstrip(".").lower()
    article = "an" if suffix[:1] in {"a", "m", "o", "s"} else "a"
    begins = f"it begins like {kind}" if kind else "nothing in it is known as sound"
    return f"This is not {article} {suffix} file: {begins}"
