"""Text as people compare it: without case, accents and spare spaces."""

from __future__ import annotations

import unicodedata


def sort_key(text: str | None) -> str:
    """The form in which names are sorted and compared: "Björk", "BJORK" and " bjork " have the same one."""
    if not text:
        return ""
    if text.isascii():
        return " ".join(text.lower().split())
    # Casefolding can give composed letters and NFKD upper-case ones ("℡"), hence one before and one after.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    return " ".join("".join(char for char in folded if not unicodedata.combining(char)).split())
