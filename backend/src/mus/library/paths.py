"""Paths are bytes on disk and text everywhere else: two ways between them."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

#: What a terminal, a log line or a page must not be given: bytes that are no UTF-8, and control characters.
_UNSHOWABLE = re.compile(r"[\udc80-\udcff\x00-\x1f\x7f-\x9f]")
#: What would not survive JSON, a log line or the way back: lone surrogates, control characters, and `%` itself.
_UNSAFE = re.compile(r"[\udc80-\udcff\x00-\x1f\x7f%]")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def parked(path: bytes, track_id: int) -> bytes:
    """`path` for a track that is not there (any more) while another file has, or gets, that place.

    No file's path holds a NUL byte, so it is unique; `shown` leaves the addition out.
    """
    return path.partition(b"\0")[0] + b"\0%d" % track_id


def is_parked(path: bytes) -> bool:
    """Whether the path is one that `parked` made."""
    return b"\0" in path


def shown(path: bytes) -> str:
    """A path for people: UTF-8 text as it is; control characters and bytes that are not UTF-8 percent-escaped."""
    path = path.partition(b"\0")[0]
    return _UNSHOWABLE.sub(_percent, path.decode("utf-8", "surrogateescape"))


def escaped(path: bytes) -> str:
    """A path for a job's arguments: readable, JSON-safe, and `unescaped` gives the same bytes back."""
    return _UNSAFE.sub(_percent, path.decode("utf-8", "surrogateescape"))


def unescaped(text: str) -> bytes:
    """The path that `escaped` wrote."""
    return unquote_to_bytes(text) if "%" in text else text.encode()
