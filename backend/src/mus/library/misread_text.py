"""Tags whose text was decoded by a wrong encoding: put right where that is certain, left alone where it is not.

ID3 knows Latin-1 and Unicode; taggers wrote whatever their system spoke into the first. What the file says is never
changed. Certain means that real text in Latin-1 does not look so:

    UTF-8       bytes of several-byte characters, and nothing else above ASCII: "BjÃ¶rk". Also doubly encoded.
    UTF-16      a byte order mark and NULs in text that claims to be of single bytes
    Cyrillic    whole words of letters above U+00C0, never one mixed with ASCII letters, and in all of the file's
    (cp1251,    tags together the letters that Russian is mostly made of; in Latin scripts three accented letters in
    KOI8-R)     a row are rare, and whole words of them are none
    Shift-JIS   control characters, which no text has, that begin kana, in one of the file's tags

Chinese and Korean encodings share their bytes with each other: nothing about them is certain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import chain

RawTags = dict[str, list[str]]

#: What every misread text has: a byte that leads several in UTF-8 and one that follows, in Latin-1 or in Windows'
#: form of it; a control character; a byte order mark; three accented letters in a row. Little other text has it.
_SUSPICIOUS = re.compile(
    r"[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    r"|[\u0080-\u009f]|\u00ff\u00fe|\u00fe\u00ff|[\u00a8\u00b8\u00c0-\u00ff]{3}"
)
_HIGH = re.compile(r"[\u0080-\u00ff]")
_HIGH_WORD = re.compile(r"[A-Za-z\u00a8\u00b8\u00c0-\u00ff]+")
_ALL_HIGH = re.compile(r"[\u00a8\u00b8\u00c0-\u00ff]+")
_CONTROL = re.compile(r"[\u0080-\u009f]")
#: Two thirds of any Russian, Ukrainian or Bulgarian text.
_COMMON_CYRILLIC = frozenset("оеаинтсрвлкмд")
_FEWEST_LETTERS = 6
_COMMON_SHARE = 0.6


def repaired(raw: RawTags) -> RawTags:
    """The same tags with misread text put right; the same object when there is nothing to do."""
    # All at once, as most of it is only looked at. No pattern runs across what is put between.
    every = "\1".join(chain.from_iterable(raw.values()))
    if every.isascii() or not _HIGH.search(every) or not _SUSPICIOUS.search(every):
        return raw
    suspects = [text for values in raw.values() for text in values if not text.isascii() or "\0" in text]
    cyrillic = _cyrillic_encoding(suspects)
    is_japanese = any(_is_kana(found) for text in suspects if (found := _as_shift_jis(text)) is not None)
    return {
        name: [_repaired(text, cyrillic, is_japanese=is_japanese) for text in values]
        for name, values in raw.items()
    }


def _repaired(text: str, cyrillic: str | None, *, is_japanese: bool) -> str:
    if text.startswith(("\u00ff\u00fe", "\u00fe\u00ff")) and "\0" in text:
        return _as(text, "utf-16") or text
    if text.isascii():
        return text
    if (found := _as_utf8(text)) is not None:
        return _as_utf8(found) or found
    if is_japanese and (found := _as_shift_jis(text)) is not None:
        return found
    if cyrillic is not None and _is_cyrillic_shaped(text):
        return _as(text, cyrillic) or text
    return text


def _as(text: str, encoding: str, declared: str = "latin-1") -> str | None:
    try:
        return text.encode(declared).decode(encoding)
    except UnicodeError:
        return None


def _as_utf8(text: str) -> str | None:
    """None where it is not UTF-8's bytes read as Latin-1, or as Windows' form of it."""
    if text.isascii():
        return None
    found = _as(text, "utf-8")
    return _as(text, "utf-8", "cp1252") if found is None else found


def _as_shift_jis(text: str) -> str | None:
    if _CONTROL.search(text) is None or (found := _as(text, "cp932")) is None:
        return None
    odd = any(unicodedata.category(char) in {"Cc", "Co", "Cn"} or "\uff61" <= char <= "\uff9f" for char in found)
    return None if odd else found


def _is_kana(text: str) -> bool:
    kana = sum("\u3041" <= char <= "\u30fa" for char in text)
    return kana >= 2 and 3 * kana >= sum(char.isalpha() for char in text)


def _is_cyrillic_shaped(text: str) -> bool:
    """Whether every word with a letter above ASCII is made of such letters alone."""
    return _HIGH.search(text) is not None and all(
        word.isascii() or _ALL_HIGH.fullmatch(word) for word in _HIGH_WORD.findall(text)
    )


def _cyrillic_encoding(values: Iterable[str]) -> str | None:
    shaped = [text for text in values if not text.isascii() and max(text) <= "\u00ff"]
    if not shaped or not all(_is_cyrillic_shaped(text) for text in shaped if _as_utf8(text) is None):
        return None
    joined = " ".join(shaped)
    if sum(map(len, _ALL_HIGH.findall(joined))) < _FEWEST_LETTERS or _CONTROL.search(joined):
        return None
    for encoding in ("cp1251", "koi8-r"):
        found = _as(joined, encoding)
        if found is None:
            continue
        letters = [char for char in found if char.isalpha() and not char.isascii()]
        common = sum(char.lower() in _COMMON_CYRILLIC for char in letters)
        small = sum(char.islower() for char in letters)
        # Read as the other of the two, words begin small and go on in capitals; and what is no Cyrillic at all
        # begins words with the letters that Russian never does.
        is_odd = re.search(r"[а-яё][А-ЯЁ]|\b[ьъыЬЪЫ]", found) is not None
        if letters and 2 * small >= len(letters) and common >= _COMMON_SHARE * len(letters) and not is_odd:
            return encoding
    return None
