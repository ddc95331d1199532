"""What fuzzing, and the strange files that tag libraries keep for their own tests, showed to be read wrongly."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import mutagen.id3
import numpy as np
import pytest
from mutagen.oggvorbis import OggVorbis

from audio_files import id3_frames, make_audio, tag_apev2
from mus.errors import ErrorCategory
from mus.library.file_reading import FileReading
from mus.library.safe_open import FiniteFile
from mus.library.tag_reader import read_tags


def read(path: Path) -> FileReading:
    return read_tags(os.fsencode(path.parent), os.fsencode(path.name))


def encode(path: Path, container: str, codec: str, *, rate: int, options: dict[str, str] | None = None) -> Path:
    """A fifth of a second of silence."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        kind = "s16p" if codec == "wavpack" else "s16"
        stream = output.add_stream(codec, rate=rate, layout="stereo", format=kind)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, rate // 5), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"SS\0", id="shorter than its header"),
        pytest.param(b"ZZ" + b"\xff" * 8 + b"\x7f", id="ends behind the last possible byte"),
        pytest.param(b"ZZ\x03" * 5000, id="one of thousands"),
    ],
)
def test_a_musepack_packet_that_leads_nowhere_is_the_files_fault(tmp_path: Path, packet: bytes) -> None:
    path = tmp_path / "song.mpc"
    path.write_bytes(b"MPCK" + packet + bytes(40))

    reading = read(path)

    assert reading.error_message == "The file is damaged: it begins as Musepack, but no sound was found in it"
    assert reading.error_category == ErrorCategory.USER_FIXABLE


def test_a_read_of_more_than_the_file_has_makes_no_room_for_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    with FiniteFile(os.open(path, os.O_RDONLY), 10) as file:
        assert file.read(4) == b"0123"
        assert file.read(1 << 62) == b"456789"
        file.seek(20)
        assert file.read(1 << 62) == b""


@pytest.mark.parametrize(
    ("text", "genres"),
    [
        ("(52)(17)", ["Electronic", "Rock"]),
        ("(4)Eurodisco", ["Disco", "Eurodisco"]),
        ("(RX)", ["Remix"]),
        ("(139)", ["Crossover"]),
        ("191", ["Psybient"]),
    ],
)
@pytest.mark.parametrize("encoding", [0, 1])
def test_genres_given_by_number_are_all_read(tmp_path: Path, text: str, genres: list[str], encoding: int) -> None:
    path = make_audio(tmp_path / "song.mp3")
    mutagen.id3.delete(path)
    # mutagen writes the names, so the frame is put together here.
    content = bytes([encoding]) + text.encode("utf-16" if encoding else "latin-1")
    frame = b"TCON" + len(content).to_bytes(4, "big") + bytes(2) + content
    path.write_bytes(b"ID3\x03\0\0\0\0\0" + bytes([len(frame)]) + frame + path.read_bytes())

    assert read(path).genres == genres


@pytest.mark.parametrize("number", [138, 139, 140, 191])
def test_the_later_numbers_of_id3v1_and_mp4_are_their_genres(tmp_path: Path, number: int) -> None:
    name = mutagen.id3.TCON.GENRES[number]
    mp3 = make_audio(tmp_path / "song.mp3")
    mp3.write_bytes(mp3.read_bytes() + b"TAG" + bytes(124) + bytes([number]))
    m4a = make_audio(tmp_path / "song.m4a", tags={"genre": "AB"})
    data = bytearray(m4a.read_bytes())
    at = data.index(b"\xa9gen")
    data[at : at + 4], data[at + 12 : at + 16] = b"gnre", bytes(4)
    data[at + 20 : at + 22] = (number + 1).to_bytes(2, "big")
    m4a.write_bytes(data)

    assert [read(path).genre for path in (mp3, m4a)] == [name, name]


def test_a_number_of_no_genre_is_none(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3")
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(124) + b"\xc0")

    assert read(path).genre is None


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".m4a", ".wv"])
def test_control_characters_are_left_out_of_texts_and_line_ends_are_not(tmp_path: Path, suffix: str) -> None:
    path = make_audio(
        tmp_path / f"song{suffix}", tags={"title": "A\x1b[2J\x07B\x9bC\x7f", "lyrics": "one\r\n\ttwo"}
    )

    assert (read(path).title, read(path).lyrics) == ("A[2JBC", "one\r\n\ttwo")


def test_the_name_of_an_unknown_codec_is_plain(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.m4a")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"m\x14\xffX"))

    assert read(path).format == "mx"


def test_several_names_of_one_tag_are_read_in_their_order(tmp_path: Path) -> None:
    """mutagen gives them in the order of a set, which is another one in each process."""
    path = make_audio(tmp_path / "song.ogg", tags={"title": "T"})
    names = ["ENSEMBLE", "ALBUM ARTIST", "ALBUMARTIST", "ALBUM-ARTIST", "ALBUM_ARTIST"]
    audio = OggVorbis(path)
    assert audio.tags is not None
    audio.tags.extend((name, f"Artist {number}") for number, name in enumerate(names))
    audio.save()

    assert read(path).album_artists == [f"Artist {number}" for number in range(5)]


@pytest.mark.parametrize("date", ["0", "0000", "0000-00-00", "\u00fe\u00ff"])
@pytest.mark.parametrize("suffix", [".mp3", ".flac"])
def test_a_date_of_zeros_is_none(tmp_path: Path, suffix: str, date: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"date": date})

    assert (read(path).date, read(path).year) == (None, None)


def id3v23(frames: dict[bytes, bytes]) -> bytes:
    """A tag that is put together here, as mutagen writes none with such frames."""
    body = b"".join(
        name + (len(text) + 1).to_bytes(4, "big") + bytes(2) + b"\0" + text for name, text in frames.items()
    )
    return b"ID3\x03\0\0\0\0" + bytes([len(body) >> 7, len(body) & 0x7F]) + body


@pytest.mark.parametrize(
    ("year", "day", "date"),
    [(b"2004", b"3112", "2004-12-31"), (b"2020-01-31", b"", "2020-01-31"), (b"2004", b"x", "2004")],
)
@pytest.mark.parametrize("genre", [b"Jazz", b"(8)"], ids=["by tinytag", "by mutagen"])
def test_a_year_in_id3v2_is_read_as_it_stands_and_id3v1s_is_not(
    tmp_path: Path, year: bytes, day: bytes, date: str, genre: bytes
) -> None:
    path = make_audio(tmp_path / "song.mp3")
    mutagen.id3.delete(path)
    tag = id3v23({b"TCON": genre, b"TYER": year, b"TDAT": day})
    path.write_bytes(tag + path.read_bytes() + b"TAG" + bytes(90) + b"1999" + bytes(30) + b"\x08")

    assert (read(path).date, read(path).genre) == (date, "Jazz")


@pytest.mark.parametrize("suffix", [".mp3", ".aiff"])
def test_a_time_of_day_has_one_form(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"date": "2009-09-04T14:20"})

    assert read(path).date == "2009-09-04T14:20"


def test_a_wav_file_with_64_bit_lengths_is_read_with_its_tags(tmp_path: Path) -> None:
    path = encode(tmp_path / "song.wav", "wav", "pcm_s16le", rate=48_000, options={"rf64": "always"})
    id3 = mutagen.id3.ID3()
    id3_frames({"title": ["Long"]}, None, add=id3.add)
    buffer = io.BytesIO()
    id3.save(buffer)
    tag = buffer.getvalue()
    path.write_bytes(path.read_bytes() + b"id3 " + len(tag).to_bytes(4, "little") + tag)

    reading = read(path)

    assert (reading.title, reading.format, reading.sample_rate_hz, reading.channels) == ("Long", "wav", 48_000, 2)
    assert (reading.duration_seconds, reading.bitrate_kbps) == (0.2, 1536)


def test_wavpack_of_a_rate_without_a_number_is_read_with_its_tags(tmp_path: Path) -> None:
    path = encode(tmp_path / "song.wv", "wv", "wavpack", rate=176_400)
    tag_apev2(path, {"title": ["High"]}, None)

    reading = read(path)

    assert (reading.title, reading.format, reading.sample_rate_hz) == ("High", "wavpack", 176_400)
    assert reading.duration_seconds == 0.2


def test_a_flac_file_whose_tags_are_broken_still_plays(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags={"title": "T"})
    data = bytearray(path.read_bytes())
    after_stream_info = 4 + 4 + 34
    assert data[after_stream_info] & 0x7F == 4, "a Vorbis comment"
    data[after_stream_info + 4 : after_stream_info + 8] = b"\xff" * 4  # the vendor's length
    path.write_bytes(data)

    reading = read(path)

    assert (reading.error_message, reading.title, reading.format) == (None, "song", "flac")
    assert reading.duration_seconds == 1.0


@pytest.mark.parametrize("suffix", [".mp3", ".m4a"])
def test_a_tag_without_a_value_says_nothing(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"title": "T", "xompilation": ["1"]})
    content = path.read_bytes()
    if suffix == ".mp3":
        custom = b"TXXX\0\0\0\x0c\0\0\3COMPILATION"
        path.write_bytes(
            b"ID3\4\0\0\0\0\0" + bytes((len(custom),)) + custom + content[content.index(b"\xff\xfb") :]
        )
    else:
        value = content.index(b"data", content.index(b"XOMPILATION"))
        path.write_bytes(content.replace(b"XOMPILATION", b"COMPILATION")[:value] + b"skip" + content[value + 4 :])

    reading = read(path)

    assert (reading.error_message, reading.compilation) == (None, False)
