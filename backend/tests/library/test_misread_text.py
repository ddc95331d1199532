"""Tags in a wrong encoding: put right where it is certain, left alone where it is not."""

from __future__ import annotations

from pathlib import Path

import mutagen.id3
import pytest

from audio_files import make_audio
from mus.library.misread_text import repaired
from mus.library.tag_reader import read_tags

RUSSIAN = {"title": "Группа крови", "artist": "Кино", "album": "Группа крови"}


def as_latin_1(fields: dict[str, str], encoding: str) -> dict[str, list[str]]:
    return {name: [text.encode(encoding).decode("latin-1")] for name, text in fields.items()}


@pytest.mark.parametrize(
    ("encoding", "fields"),
    [
        ("utf-8", {"title": "Jóga", "artist": "Björk"}),
        ("utf-8", {"title": "さくら", "artist": "Кино"}),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp1251", {"title": "Мы", "artist": "Земфира", "album": "Live 2000"}),
        ("cp1251", {"title": "Їхав козак за Дунай", "artist": "Українська народна пісня"}),
        ("shift-jis", {"title": "さくら", "artist": "森山直太朗"}),
        ("shift-jis", {"title": "ハナミズキ"}),
    ],
)
def test_what_was_read_as_latin_1_is_read_as_what_it_is(encoding: str, fields: dict[str, str]) -> None:
    assert repaired(as_latin_1(fields, encoding)) == {name: [text] for name, text in fields.items()}


def test_utf_8_that_was_encoded_twice_is_decoded_twice() -> None:
    twice = "Sigur Rós".encode().decode("latin-1").encode().decode("latin-1")
    assert repaired({"artist": [twice]}) == {"artist": ["Sigur Rós"]}


def test_windows_quotes_between_the_bytes_are_no_hindrance() -> None:
    assert repaired({"title": ["Don’t".encode().decode("cp1252")]}) == {"title": ["Don’t"]}


NAMES = (
    """
Björk|Sigur Rós|Motörhead|Mötley Crüe|Café Tacvba|Françoise Hardy|Édith Piaf|Céline Dion|Beyoncé|Ágætis byrjun|Þórir
Øystein|Åge Aleksandersen|Röyksopp|Die Ärzte|Grönemeyer|Blümchen|Ñengo Flow|São Paulo|João Gilberto|CORAÇÃO|ÍSLAND|ÄÖÜ
éé|Ça ira|Þú ert ég|Æ|Œuvres|Müßiggang|Ãgua|Mañana|ÉÀÈ|Ólafur Arnalds|Für Elise|Île|À la claire fontaine|Queensrÿche
Hüsker Dü|Blue Öyster Cult|Åsa|Öðruvísi|Ýr|£100|50° Nord|½|Él|Tú|Ø|Åå|ÖÄ|naïve|Noël|ÐÐÐ|Þþ Æ|Ö|à ÿ|Übermäßig|¿Qué?
Dvořák|Łódź|Čechomor|Şebnem Ferah|İstanbul|Kārlis|Σωκράτης|עברית|日本語|한국어|‘quoted’|Ålesund|Hår|Dé Ñ|Ÿ|Ä|Ça va|Où
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_real_name_stays_as_it_is(name: str) -> None:
    assert repaired({"title": [name]}) == {"title": [name]}


@pytest.mark.parametrize(
    ("encoding", "fields"),
    [
        ("cp1253", {"title": "Ζορμπάς", "artist": "Μίκης Θεοδωράκης"}),
        ("cp1255", {"title": "ירושלים של זהב", "artist": "נעמי שמר"}),
        ("gbk", {"title": "月亮代表我的心", "artist": "邓丽君"}),
        ("big5", {"title": "月亮代表我的心", "artist": "鄧麗君"}),
        ("euc-kr", {"title": "강남스타일", "artist": "싸이"}),
    ],
)
def test_what_is_not_certain_is_left_alone(encoding: str, fields: dict[str, str]) -> None:
    misread = as_latin_1(fields, encoding)
    assert repaired(misread) == misread


def test_all_real_names_together_stay_as_they_are() -> None:
    assert repaired({"title": NAMES}) == {"title": NAMES}


@pytest.mark.parametrize("version", [3, 4])
def test_a_file_is_read_right_by_whichever_library_reads_it_and_is_not_changed(
    tmp_path: Path, version: int
) -> None:
    file = make_audio(tmp_path / "1.mp3")
    tags = mutagen.id3.ID3()
    for name, frame in (("title", "TIT2"), ("artist", "TPE1"), ("album", "TALB")):
        text = RUSSIAN[name].encode("cp1251").decode("latin-1")
        tags.add(getattr(mutagen.id3, frame)(encoding=mutagen.id3.Encoding.LATIN1, text=[text]))
    if version == 4:
        tags.add(mutagen.id3.RVA2(desc="track", channel=1, gain=-3.0, peak=0.9))  # which only mutagen reads
    tags.save(file, v2_version=version)
    before = file.read_bytes()
    reading = read_tags(bytes(tmp_path), b"1.mp3")
    assert {name: getattr(reading, name) for name in RUSSIAN} == RUSSIAN
    assert file.read_bytes() == before
