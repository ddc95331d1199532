"""Cursors: opaque texts that say where the next page of a list begins.

A cursor is base64url of JSON `[scope, value, id]`, the value a list where there are several. The scope names the
list with its order and filters, so that a cursor cannot silently be used with others.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from mus.errors import BadRequestError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 2**63 - 1
#: A cursor longer than this is none of ours: the longest holds a title of 4,096 characters, or a path.
LONGEST_CURSOR = 32_000


def scope_of(*parts: object) -> str:
    """A short name for a list with its order and filters."""
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]


def encoded(scope: str, value: Any, row_id: int | str) -> str:
    """The cursor after the row with this sort value and id."""
    text = json.dumps([scope, _plain(value), row_id], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(cursor: str, scope: str, kind: type | tuple[type, ...], id_kind: type = int) -> tuple[Any, Any]:
    """The sort value (of `kind`, or None) and id in a cursor.

    Raises BadRequestError for one that was not made here, or was made for another order or filter.
    """
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
        found_scope, plain, row_id = json.loads(text)
        if found_scope != scope and type(found_scope) is str and len(found_scope) == len(scope):
            # Before the values are looked at: those of another list are of other kinds.
            raise BadRequestError(
                "The cursor belongs to another list, or to one with another order or other filters",
                recovery_actions=("Begin again without a cursor",),
            )
        value = None if plain is None else _valued(plain, kind)
        row_id = _valued(row_id, id_kind)
        if found_scope != scope:
            raise ValueError(found_scope)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise BadRequestError("The cursor is not one of ours") from None
    return value, row_id


def _plain(value: Any) -> str | int | float | list[Any] | None:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    assert value is None or isinstance(value, str | int | float)
    return value


def _valued(plain: Any, kind: type[Any] | tuple[type[Any], ...]) -> Any:
    if isinstance(kind, tuple):
        if type(plain) is not list:
            raise ValueError(plain)
        return tuple(_valued(each, its_kind) for each, its_kind in zip(plain, kind, strict=True))
    if kind is float and type(plain) in {int, float}:
        return float(plain)
    if kind is datetime and type(plain) is int:
        return _EPOCH + timedelta(microseconds=plain)
    if kind is bytes and type(plain) is str:
        return plain.encode("latin-1")
    if kind is int and type(plain) is int and abs(plain) <= _LARGEST:
        return plain
    if kind is str and type(plain) is str:
        plain.encode()  # a lone surrogate is a ValueError
        return plain
    raise ValueError(plain)
