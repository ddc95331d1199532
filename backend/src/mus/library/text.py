"""Text as people compare it: without case, accents, spare spaces and the many forms of one sign."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache


class _SignTable(dict[int, str | None]):
    """For `str.translate`: what becomes of each sign, found out once. To ask for the class of each sign took longer
    than all the rest of a title."""

    #: All that people write in. Whoever shows every sign there is has each looked up anew.
    _MOST = 20_000

    def __init__(self, of: Callable[[str], str | None]) -> None:
        super().__init__()
        self._of = of

    def __missing__(self, code: int) -> str | None:
        found = self._of(chr(code))
        if len(self) < self._MOST:
            self[code] = found
        return found


#: Letters that no normalisation takes apart, as the transform Latin-ASCII of Unicode CLDR has them; quotes, dashes.
_PLAIN = str.maketrans(
    {
        "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i", "ĸ": "q", "ł": "l",
        "ŋ": "n", "ŧ": "t", "ƀ": "b", "ɓ": "b", "ɖ": "d", "ɗ": "d", "ƒ": "f", "ɠ": "g", "ɨ": "i", "ƙ": "k",
        "ɲ": "n", "ɵ": "o", "ʉ": "u", "ʋ": "v", "ƴ": "y", "ƶ": "z", "ǝ": "e", "ə": "e",
        "‘": "'", "’": "'", "‛": "'", "ʼ": "'", "ʻ": "'", "′": "'", "`": "'", "´": "'",
        "“": '"', "”": '"', "„": '"', "‟": '"', "″": '"', "«": '"', "»": '"',
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
    }
)  # fmt: skip
#: Between the columns in a track's words: no phrase runs across it. Private use, so that nobody types it.
COLUMN_END = "\ue000"
_JOINED = re.compile(r"\S+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_LONGEST_WORD = 500
#: Scripts written without spaces: Thai to Myanmar, Khmer, kana to CJK ideographs, their compatibility forms, and
#: the rest.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3040, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_UNSPACED_SIGN = re.compile(f"[{''.join(f'{chr(low)}-{chr(high)}' for low, high in _UNSPACED)}]")


@lru_cache(maxsize=4096)  # artists, albums and genres come again and again
def folded(text: str | None) -> str:
    """The form in which names are compared: "Björk", "BJORK" and " bjork " have the same one.

    Accents go, as in the first level of the Unicode Collation Algorithm; vowel signs and viramas, which are letters
    of their scripts, stay.
    """
    return fold(text) if text else ""


def fold(text: str) -> str:
    """As `folded`, for what does not come again."""
    if text.isascii():
        return " ".join(text.lower().replace("`", "'").split())
    # Casefolding can give composed letters and NFKD upper-case ones ("℡"), hence one before and one after.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    return " ".join(plain.translate(_FOLDED).split())


def _folded_sign(char: str) -> str | None:
    return None if _is_accent(unicodedata.combining(char)) else _PLAIN.get(ord(char), char)


def _is_accent(combining_class: int) -> bool:
    """Accents above, below and through letters, Hebrew and Arabic points, the voicing of kana. Of the fixed classes
    between them, and of nuktas (7) and viramas (9), a reader of the script would miss each one."""
    return combining_class in {1, 8} or 10 <= combining_class <= 36 or combining_class >= 200


_FOLDED = _SignTable(_folded_sign)


def without_article(key: str, articles: tuple[str, ...]) -> str:
    """A folded text without an article at its beginning: "the beatles" goes by "beatles"; "the the" by "the".

    An article that ends with an apostrophe is part of the word it stands before.
    """
    article = _beginning(articles).match(key) if articles else None
    return key if article is None else key[article.end() :].lstrip()


@lru_cache(maxsize=16)
def _beginning(articles: tuple[str, ...]) -> re.Pattern[str]:
    begins = (article if article.endswith("'") else f"{article} " for article in articles)
    return re.compile(f"(?:{'|'.join(map(re.escape, begins))})(?=.)", re.DOTALL)


@lru_cache(maxsize=4096)
def words_of(text: str | None) -> tuple[str, ...]:
    """The words by which a text is found, in its order: letters and numbers, folded; "don't" is one.

    Of a script that is written without spaces each sign is a word: so any part of a text is found, as a phrase.
    """
    return tuple(words_in(folded(text)))


def words_in(plain: str) -> list[str]:
    """As `words_of`, of a text that is folded already."""
    if len(plain) <= _LONGEST_WORD:
        return _words_in(plain)
    return [word[:_LONGEST_WORD] for word in _words_in(plain)]


def _words_in(plain: str) -> list[str]:
    if plain.isascii() and plain.replace(" ", "").isalnum():
        return plain.split()
    if "'" in plain:
        plain = _APOSTROPHE.sub("", plain)
    if plain.isascii():
        return _ASCII_WORD.findall(plain)
    separated = plain.translate(_SEPARATED)
    if _UNSPACED_SIGN.search(separated):
        has_marks = not separated.replace(" ", "").isalnum()
        separated = _signs_apart(separated) if has_marks else separated.translate(_APART)
    return separated.split()


_SEPARATED = _SignTable(lambda char: char if char.isalnum() or unicodedata.category(char)[0] == "M" else " ")
_APART = _SignTable(lambda char: f" {char} " if _is_unspaced(char) else char)


def _signs_apart(text: str) -> str:
    """The text with spaces around each sign of an unspaced script; its vowels and tones stay with it."""
    apart: list[str] = []
    after_sign = False
    for char in text:
        if unicodedata.category(char)[0] != "M":
            is_sign = _is_unspaced(char)
            if is_sign or after_sign:
                apart.append(" ")
            after_sign = is_sign
        apart.append(char)
    return "".join(apart)


def _is_unspaced(char: str) -> bool:
    return _UNSPACED_SIGN.match(char) is not None


def joined_words_of(text: str | None) -> list[str]:
    """What people type for words with signs in them: "acdc" for "AC/DC", "rem" for "R.E.M."; and a word for signs
    that stand alone (`sign_word`)."""
    if not text or text.replace(" ", "").isalnum():
        return []
    found: list[str] = []
    for chunk in _JOINED.findall(text):
        if not chunk.isalnum():
            words = words_of(chunk)
            if len(words) > 1:
                found.append("".join(words)[:_LONGEST_WORD])
            elif not words and (signs := sign_word(chunk)):
                found.append(signs)
    return found


#: First sign of a word that stands for signs: private use, so that no typed word is one.
_SIGNS = "\ue004"
#: A word that no text has.
NO_WORD = "\ue005"


def sign_word(chunk: str) -> str | None:
    """The one word that stands for signs without a letter or a number: "!!!" is a band, and no tokenizer has it.

    It begins with that of fewer of them. None where nothing is left of them, as of an accent alone.
    """
    plain = folded(chunk)
    return _SIGNS + "".join(f"{ord(char):06x}" for char in plain)[:_LONGEST_WORD] if plain else None
