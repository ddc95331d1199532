"""What the fuzzer of `test_contract.py` is told: it loads this by itself, in a process of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import schemathesis

#: Longer addresses are refused by the HTTP parser (llhttp, 64 KiB), in its own words and as text.
_LONGEST_QUERY = 60_000


@schemathesis.hook
def filter_query(_context: Any, query: dict[str, Any] | None) -> bool:
    try:
        return len(urlencode(query or {}, doseq=True)) < _LONGEST_QUERY
    except (UnicodeError, TypeError):
        return True
