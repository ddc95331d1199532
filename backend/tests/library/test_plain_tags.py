"""What is read by hand is what the tag libraries read; what is not quite plain is left to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutagen.id3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import make_audio
from mus.library.mutagen_tags import read as read_by_mutagen
from mus.library.plain_tags import PlainTags, plain_tags
from mus.library.reading_rules import DEFAULT_RULES
from mus.library.tag_layout import Window, look
from mus.library.tag_values import sound_fields, tag_fields

PLAIN = (".mp3", ".flac", ".m4a", ".alac.m4a", ".ogg", ".opus")
TEXTS = {
    "title": "Ночь & Tag", "artist": ["One", "Two"], "albumartist": "One", "album": "夜空", "tracknumber": 3,
    "tracktotal": 12, "discnumber": 0, "date": "2001-02-03", "genre": ["Rock", "Jazz; Blues"], "composer": "Ä. Ö.",
    "comment": "A comment", "compilation": 1, "lyrics": "La\nla", "artistsort": "Two, One",
    "musicbrainz_trackid": "00000001-1111-4111-8111-111111111111", "replaygain_track_gain": "-7.25 dB",
}  # fmt: skip


def by_hand(path: Path) -> PlainTags | None:
    with path.open("rb") as file:
        window = Window(file.fileno(), path.stat().st_size)
        return plain_tags(window, look(window))


def fields_by_hand(path: Path) -> dict[str, Any]:
    plain = by_hand(path)
    assert plain is not None, "this is to be read by hand"
    fields = tag_fields(plain.raw, DEFAULT_RULES, is_opus=plain.format == "opus")
    return fields | sound_fields(
        plain.duration_seconds, plain.bitrate_kbps, plain.sample_rate_hz, plain.channels
    ) | {"format": plain.format}  # fmt: skip


def fields_by_mutagen(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found = read_by_mutagen(file, look(Window(file.fileno(), path.stat().st_size)), DEFAULT_RULES)
    assert found is not None
    return found


def assert_alike(path: Path) -> None:
    mine, its = fields_by_hand(path), fields_by_mutagen(path)
    del its["has_embedded_cover"]
    # Each counts other bytes as sound, and MP4 tells two lengths: of the movie, and of its track.
    for fields in (mine, its):
        del fields["bitrate_kbps"]
    assert mine.pop("duration_seconds") == pytest.approx(its.pop("duration_seconds"), abs=0.05)
    assert mine == its


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("picture", [None, b"\x89PNG\r\n\x1a\n" + b"x" * 150_000], ids=["bare", "with picture"])
def test_an_ordinary_file_is_read_by_hand_as_mutagen_reads_it(
    tmp_path: Path, suffix: str, picture: bytes | None
) -> None:
    assert_alike(make_audio(tmp_path / f"song{suffix}", tags=TEXTS, picture=picture))
    assert_alike(make_audio(tmp_path / f"untagged{suffix}"))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("encoding", [0, 1, 2, 3])
def test_id3_in_each_of_its_encodings_is_read_by_hand_as_mutagen_reads_it(
    tmp_path: Path, version: int, encoding: int
) -> None:
    path = make_audio(tmp_path / "song.mp3")
    tags = mutagen.id3.ID3()
    for frame in (
        mutagen.id3.TIT2(encoding=encoding, text=["Größe"]),
        mutagen.id3.TPE1(encoding=encoding, text=["Ä"] if version == 3 else ["Ä", "Ö"]),
        mutagen.id3.TXXX(encoding=encoding, desc="replaygain_track_gain", text=["+1.5 dB"]),
        mutagen.id3.COMM(encoding=encoding, lang="deu", desc="", text=["Süß"]),
        mutagen.id3.COMM(encoding=encoding, lang="eng", desc="iTunNORM", text=["00 01"]),
        mutagen.id3.USLT(encoding=encoding, lang="deu", desc="", text="La\nla"),
        mutagen.id3.UFID(owner="http://musicbrainz.org", data=b"00000001-1111-4111-8111-111111111111"),
    ):
        tags.add(frame)
    tags.save(path, v2_version=version, v1=0)

    assert_alike(path)


def test_what_only_id3v1_says_is_left_to_the_libraries(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "T", "artist": "A"})
    assert by_hand(path) is not None
    old = b"TAG" + b"T".ljust(30, b"\0") + b"A".ljust(30, b"\0") + b"Album".ljust(30, b"\0") + bytes(34) + b"\xff"
    with path.open("ab") as file:
        file.write(old)

    assert by_hand(path) is None


@pytest.mark.parametrize(
    "frames",
    [
        [(b"TIT2", b"\x03One"), (b"TIT2", b"\x03Two")],
        [(b"TIT2", b"\x07unknown encoding")],
        [(b"TIT2", b"\x01\xff\xfeA\0B")],
        [(b"TCON", b"\x03Rock\0(17)")],
        [(b"SYLT", b"\x00eng\x02\x01\0La\0\0\0\0\0")],
        [(b"TDRC", b"\x032001"), (b"TYER", b"\x032002")],
    ],
    ids=["twice", "encoding", "half a letter", "numbered genre", "synchronised lyrics", "two years"],
)
def test_what_is_not_plain_in_id3_is_left_to_the_libraries(
    tmp_path: Path, frames: list[tuple[bytes, bytes]]
) -> None:
    sound = make_audio(tmp_path / "sound.mp3").read_bytes()
    path = tmp_path / "odd.mp3"
    body = b"".join(name + bytes((0, 0, 0, len(data), 0, 0)) + data for name, data in frames)
    path.write_bytes(b"ID3\x04\0\0\0\0\0" + bytes((len(body),)) + body + sound)

    assert by_hand(path) is None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(PLAIN), data=st.data())
def test_no_damage_to_a_file_raises_or_is_read_for_ever(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"song{suffix}"
    if not path.exists():
        make_audio(path, tags=TEXTS)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, min(len(whole), 3000) - 1))
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 4 :])

    by_hand(damaged)
