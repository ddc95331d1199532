"""Text as people compare, sort and find it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mus.library import text as text_module
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.text import _PLAIN as PLAIN_LETTERS
from mus.library.text import _is_accent as is_accent
from mus.library.text import _signs_apart as signs_apart
from mus.library.text import _SignTable, folded, without_article, words_of
from mus.library.track_words import derived


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("  Björk\tGuðmundsdóttir ", "bjork gudmundsdottir"),
        ("Straße", "strasse"),
        ("ＡＢＢＡ", "abba"),
        ("İstanbul", "istanbul"),
        ("Øyvind Ærlig", "oyvind aerlig"),
        ("Łódź, Đorđe", "lodz, dorde"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
        ("Ὀδυσσεύς", "οδυσσευσ"),
        ("Ёлка", "елка"),
        ("Việt Nam", "viet nam"),
        ("الْحَمْدُ", "الحمد"),
        ("ไทย", "ไทย"),
        ("हिन्दी", "हिन्दी"),
        ("Don’t – “Stop”", 'don\'t - "stop"'),
        ("℡", "tel"),
        (None, ""),
        (" ", ""),
    ],
)
def test_names_that_people_take_for_one_have_one_form(text: str | None, form: str) -> None:
    assert folded(text) == unicodedata.normalize("NFKD", form)


def folded_sign_by_sign(text: str) -> str:
    """What `folded` is, of which it is a faster form."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    kept = (char for char in plain if not is_accent(unicodedata.combining(char)))
    return " ".join("".join(kept).translate(PLAIN_LETTERS).split())


def words_sign_by_sign(text: str) -> list[str]:
    plain = folded_sign_by_sign(text)
    plain = re.sub(r"(?<=\w)'(?=\w)", "", plain)
    separated = "".join(char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in plain)
    return signs_apart(separated).split()


@given(st.text(max_size=40) | st.text("ねこカ゛がกำไทยก็ខ្មែរ漢字한국 \u0308\u0e31\U00020000x'-é", max_size=12))
@example("がぎ カ゛ ไทย ก็ 漢字 x")
def test_tables_of_signs_say_what_is_known_of_each(text: str) -> None:
    if text.isascii():
        text += "é"
    assert folded(text) == folded_sign_by_sign(text)
    assert list(words_of(text)) == words_sign_by_sign(text)


def test_a_table_of_signs_does_not_grow_for_ever() -> None:
    every = "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x30000)]))
    for start in range(0, len(every), 500):
        words_of(every[start : start + 500])
    assert max(len(table) for table in (text_module._FOLDED, text_module._SEPARATED)) == _SignTable._MOST
    assert folded("Björk") == "bjork"


@given(st.text(max_size=40))
def test_the_form_of_a_form_is_itself_and_words_are_made_of_letters_and_numbers(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    for word in words_of(text):
        assert word
        assert all(char.isalnum() or unicodedata.category(char)[0] == "M" for char in word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("椎名林檎", ("椎", "名", "林", "檎")),
        ("夜空 Love夜", ("夜", "空", "love", "夜")),
        ("夜2020年", ("夜", "2020", "年")),
        ("ที่นี่", ("ที่", "นี่")),
        ("사랑", (unicodedata.normalize("NFKD", "사랑"),)),
    ],
)
def test_of_a_script_without_spaces_each_sign_is_a_word(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("The Beatles", "beatles"),
        ("THE  THE", "the"),
        ("The", "the"),
        ("Theory", "theory"),
        ("A-ha", "a-ha"),
        ("L’Amour", "amour"),
        ("Los Lobos", "lobos"),
    ],
)
def test_an_article_does_not_count_unless_it_is_all_there_is(name: str, key: str) -> None:
    assert without_article(folded(name), DEFAULT_RULES.sorted_without) == key


def test_articles_can_be_others_or_none() -> None:
    assert without_article(folded("Die Ärzte"), ReadingRules(articles="die der das").sorted_without) == "arzte"
    assert without_article(folded("The Beatles"), ReadingRules(articles="").sorted_without) == "the beatles"


def test_the_articles_are_in_one_order_in_every_process() -> None:
    program = "from mus.library.reading_rules import DEFAULT_RULES; print(DEFAULT_RULES.sorted_without)"
    orders = {
        subprocess.run(
            [sys.executable, "-P", "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(orders) == 1


@pytest.mark.parametrize(
    ("separators", "text", "names"),
    [
        (";", "Queen; David Bowie", ["Queen", "David Bowie"]),
        (";", "AC/DC", ["AC/DC"]),
        (";", "Earth, Wind & Fire", ["Earth, Wind & Fire"]),
        ("; / feat.", "A/B feat. C; D", ["A", "B", "C", "D"]),
        ("feat", "Defeat Featherstone", ["Defeat Featherstone"]),
        ("", "A; B", ["A; B"]),
    ],
)
def test_several_names_in_one_text_are_told_apart_where_a_separator_is(
    separators: str, text: str, names: list[str]
) -> None:
    assert [part.strip() for part in ReadingRules(separators=separators).split(text)] == names


def test_a_sort_name_decides_however_the_name_begins() -> None:
    words = derived({"title": "The End", "title_sort": "Zend", "artist": "The Doors"}, DEFAULT_RULES.sorted_without)
    assert (words.title_key, words.artist_key) == ("zend", "doors")
