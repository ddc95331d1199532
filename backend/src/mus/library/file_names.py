"""Names for files out of their tags, by a pattern: `{album_artist}/{album}[ ({year})]/{track:02} - {title}`.

    {field}       a tag; {field:02} a number with at least two digits; {album_artist|artist} the first there is
    [ ... ]       vanishes as a whole when a field inside it is missing
    {{ }} [[ ]]   the signs themselves
    /             a folder; the file's own suffix is added

A field that is missing outside of brackets is an error, never a hole. The text of tags cannot make folders, and
every name can be carried to any file system: Windows' rules are the strictest and hold everywhere. Pure, no I/O.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mus.errors import BadRequestError
from mus.library.walk import MAX_PATH_BYTES, skip_reason

LONGEST_PATTERN = 500
LONGEST_NAME_BYTES = 255

#: Fields by the names of a track's columns.
_FIELDS: dict[str, str] = {
    name: name
    for name in (
        "title", "artist", "album_artist", "album", "track_number", "track_total", "disc_number", "disc_total",
        "year", "date", "genre", "composer",
    )
} | {"track": "track_number", "disc": "disc_number"}  # fmt: skip
FIELDS = tuple(_FIELDS)

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)")
_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{([^{}\[\]]*)\}|[\[\]{}]|[^\[\]{}]+")
_PLACEHOLDER = re.compile(r"([a-z_]+(?:\|[a-z_]+)*)(?::0?([1-9]))?")


class PatternError(BadRequestError):
    """A pattern that cannot be read."""


class UnnamableError(Exception):
    """A track that the pattern makes no name for: why, for people."""


@dataclass(frozen=True, slots=True)
class _Field:
    names: tuple[str, ...]
    width: int

    def text(self, tags: Mapping[str, str | int | None]) -> str | None:
        for name in self.names:
            value = tags.get(_FIELDS[name])
            if value not in (None, ""):
                return str(value).zfill(self.width)
        return None


@dataclass(frozen=True, slots=True)
class _Optional:
    parts: tuple[str | _Field, ...]


class NamePattern:
    """A pattern that was read. Raises PatternError where it cannot be."""

    def __init__(self, pattern: str) -> None:
        if not pattern.strip() or len(pattern) > LONGEST_PATTERN:
            raise PatternError(f"A pattern has 1 to {LONGEST_PATTERN} characters")
        self._parts = list(_parsed(pattern))
        if all(isinstance(part, str) for part in self._parts):
            raise PatternError("A pattern needs a field, as {title}: without one all files had the same name")

    def path_for(self, tags: Mapping[str, str | int | None], old_path: bytes) -> bytes:
        """The path, relative to the root. `tags` go by a track's columns. Raises UnnamableError."""
        text = "".join(self._pieces(tags))
        names = text.split("/")
        suffix = os.path.splitext(old_path)[1]
        try:
            written = [_safe_name(name) for name in names[:-1]] + [_safe_name(names[-1], suffix)]
        except UnnamableError:
            raise UnnamableError(f"The pattern gives {text!r}, which is no path") from None
        path = b"/".join(written)
        if len(path) > MAX_PATH_BYTES:
            raise UnnamableError("The path would be too long")
        return path

    def _pieces(self, tags: Mapping[str, str | int | None]) -> Iterator[str]:
        for part in self._parts:
            if isinstance(part, str):
                yield part
            elif isinstance(part, _Field):
                text = part.text(tags)
                if text is None:
                    raise UnnamableError(f"It has no {' or '.join(part.names)}")
                yield _without_signs(text)
            else:
                texts = [piece if isinstance(piece, str) else piece.text(tags) for piece in part.parts]
                if None not in texts:
                    yield from (
                        text if isinstance(piece, str) else _without_signs(text)
                        for piece, text in zip(part.parts, texts, strict=True)
                        if text is not None
                    )


def _parsed(pattern: str) -> Iterator[str | _Field | _Optional]:
    optional: list[str | _Field] | None = None
    for token in _TOKEN.finditer(pattern):
        text, inside = token[0], token[1]
        part: str | _Field
        if text == "[":
            if optional is not None:
                raise PatternError("[ ] cannot stand inside [ ]")
            optional = []
            continue
        if text == "]":
            if optional is None:
                raise PatternError("A ] has no [ before it; a sign of its own is ]]")
            if all(isinstance(piece, str) for piece in optional):
                raise PatternError("[ ] needs a field inside; a sign of its own is [[")
            yield _Optional(tuple(optional))
            optional = None
            continue
        if inside is not None:
            part = _field(inside)
        elif text in "{}":
            raise PatternError(f"A {text} stands alone; a sign of its own is {text * 2}")
        else:
            part = text[0] if text in {"{{", "}}", "[[", "]]"} else text
        if optional is None:
            yield part
        else:
            optional.append(part)
    if optional is not None:
        raise PatternError("A [ has no ] behind it; a sign of its own is [[")


def _field(inside: str) -> _Field:
    found = _PLACEHOLDER.fullmatch(inside)
    names = tuple(found[1].split("|")) if found else ()
    if found is None or not set(names) <= _FIELDS.keys():
        raise PatternError(f"{{{inside}}} is no field; there are {', '.join(FIELDS)}, and widths as {{track:02}}")
    return _Field(names, int(found[2] or 0))


def _without_signs(text: str) -> str:
    """The text of a tag as part of a name: composed letters, no sign that some file system forbids."""
    text = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", " ".join(text.split())))
    return text if text.strip(". ") else text.replace(".", "_")  # an album may well be called "..."


def _safe_name(name: str, suffix: bytes | None = None) -> bytes:
    """One part of a path; with a suffix it is the file's. Raises UnnamableError for an empty one."""
    name = _FORBIDDEN.sub("_", name).strip().rstrip(". ")
    if not name.strip("."):
        raise UnnamableError
    if name.startswith("."):
        name = "_" + name[1:]  # hidden, else
    if _RESERVED.match(name):
        name = f"_{name}"
    room = LONGEST_NAME_BYTES - len(suffix or b"")
    encoded = name.encode()
    if len(encoded) > room:
        # Not in the middle of a character, nor before the accents of one.
        cut = encoded[:room].decode("utf-8", "ignore")
        while cut and unicodedata.combining(name[len(cut)]):
            cut = cut[:-1]
        encoded = cut.rstrip(". ").encode()
    if suffix is None and skip_reason(encoded, is_dir=True) is not None:
        encoded = b"_" + encoded[: LONGEST_NAME_BYTES - 1]
    if not encoded:
        raise UnnamableError
    return encoded + (suffix or b"")


def safe_path(text: str) -> bytes:
    """A path that a person asked for, part by part as safe as a pattern's. Raises UnnamableError."""
    names = text.replace("\\", "/").split("/")
    stem, suffix = os.path.splitext(names[-1])
    parts = [_named(name) for name in (*names[:-1], stem)]
    return b"/".join([*parts[:-1], _safe_name(parts[-1].decode(), suffix.encode())])


def _named(name: str) -> bytes:
    if name.strip() in {"", ".", ".."}:
        raise UnnamableError(f"{name!r} is no name")
    return _safe_name(name)


def alike(path: bytes) -> str:
    """Equal for two paths that some file system takes for one: without case and forms of letters."""
    text = os.fsdecode(path)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
