"""JSON, by the fast library; what that refuses goes by Python's own.

That is half a surrogate pair, as in the name of a file that is not UTF-8, a number past 64 bits, and keys that are
no text.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def encoded(value: Any) -> bytes:
    """Raises TypeError for what JSON has no form of."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def decoded(text: bytes | str) -> Any:
    """Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def encoded_text(value: Any) -> str:
    """For a database's column."""
    return encoded(value).decode()
