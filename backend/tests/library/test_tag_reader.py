"""Tags of every format come out alike, and no file, however bad, raises or blocks."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path
from typing import Any

import mutagen.id3
import pytest
from mutagen.flac import FLAC

from audio_files import SUFFIXES, flac_picture, id3_frames, make_audio, tag_apev2, write_library
from mus.errors import ErrorCategory
from mus.library.file_reading import FileReading, title_from_name
from mus.library.tag_reader import read_tags

RECORDING, RELEASE_TRACK, RELEASE, GROUP, ARTIST, GUEST = (f"{n:08d}-1111-4111-8111-111111111111" for n in range(6))
ALL_TAGS: dict[str, Any] = {
    "title": "Ночь & Tag",
    "artist": "One feat. Two",
    "artists": ["One", "Two"],
    "albumartist": "One",
    "album": "夜空",
    "tracknumber": 3,
    "tracktotal": 12,
    "discnumber": 1,
    "disctotal": 2,
    "date": "2001-02-03",
    "genre": ["Rock", "Jazz"],
    "composer": "Someone",
    "comment": "A comment",
    "compilation": 1,
    "lyrics": "First line\nSecond line",
    "musicbrainz_trackid": RECORDING,
    "musicbrainz_releasetrackid": RELEASE_TRACK,
    "musicbrainz_albumid": RELEASE,
    "musicbrainz_releasegroupid": GROUP,
    "musicbrainz_artistid": [ARTIST, GUEST],
    "musicbrainz_albumartistid": ARTIST,
    "replaygain_track_gain": "-7.25 dB",
    "replaygain_track_peak": "0.987654",
    "replaygain_album_gain": "+1.50 dB",
    "replaygain_album_peak": "1.0",
}
FORMATS = {
    ".mp3": "mp3",
    ".flac": "flac",
    ".m4a": "aac",
    ".mp4": "aac",
    ".alac.m4a": "alac",
    ".aac": "aac",
    ".ogg": "vorbis",
    ".oga": "flac",
    ".opus": "opus",
    ".wav": "wav",
    ".aiff": "aiff",
    ".aif": "aiff",
    ".wma": "wma",
    ".wv": "wavpack",
    ".ape": "ape",
    ".mpc": "musepack",
    ".dsf": "dsf",
}
PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 5000


def read(path: Path) -> FileReading:
    reading = read_tags(os.fsencode(path.parent), os.fsencode(path.name))
    assert FileReading.from_json(reading.path, reading.as_json()) == reading
    return reading


def error_of(path: Path) -> str:
    reading = read(path)
    assert reading.error_message is not None
    assert reading.error_category == ErrorCategory.USER_FIXABLE
    assert reading.title
    return reading.error_message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_tag_of_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags=ALL_TAGS, picture=PICTURE)

    reading = read(path)

    assert reading.error_message is None
    assert (reading.title, reading.artist, reading.album) == ("Ночь & Tag", "One feat. Two", "夜空")
    assert (reading.artists, reading.album_artist, reading.album_artists) == (["One", "Two"], "One", ["One"])
    assert (reading.track_number, reading.track_total) == (3, 12)
    assert (reading.disc_number, reading.disc_total) == (1, 2)
    assert (reading.date, reading.year) == ("2001-02-03", 2001)
    assert (reading.genre, reading.genres) == ("Rock", ["Rock", "Jazz"])
    assert (reading.composer, reading.comment) == ("Someone", "A comment")
    assert reading.compilation
    assert reading.lyrics == "First line\nSecond line"
    assert reading.musicbrainz == {
        "recording": RECORDING,
        "track": RELEASE_TRACK,
        "release": RELEASE,
        "release_group": GROUP,
        "artist": [ARTIST, GUEST],
        "album_artist": [ARTIST],
    }
    assert reading.replaygain == {
        "track_gain": -7.25,
        "track_peak": 0.987654,
        "album_gain": 1.5,
        "album_peak": 1.0,
    }
    assert reading.has_embedded_cover


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_tags_has_its_name_for_a_title_and_the_sound_is_known(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"03 - Some Song{suffix}")

    reading = read(path)

    assert reading.title == ("Some Song.alac" if "alac" in suffix else "Some Song")
    assert (reading.artist, reading.track_number, reading.has_embedded_cover) == (None, None, False)
    assert reading.format == FORMATS[suffix]
    assert reading.duration_seconds == pytest.approx(1.0, abs=0.06)
    assert reading.channels == 2
    assert reading.sample_rate_hz == (2_822_400 if suffix == ".dsf" else 48_000)
    assert reading.bitrate_kbps is not None
    assert reading.stat is not None
    assert (reading.stat.size, reading.stat.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_artists_are_kept_apart(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"artist": ["One", "Two"], "albumartist": ["One", "Two"]})

    reading = read(path)

    assert (reading.artist, reading.artists) == ("One; Two", ["One", "Two"])
    assert (reading.album_artist, reading.album_artists) == ("One; Two", ["One", "Two"])


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (b"01 Song.mp3", "Song"),
        (b"1-03 Song.mp3", "Song"),
        (b"2-03 - Song.mp3", "Song"),
        (b"3. Song.mp3", "Song"),
        (b"03_Song.mp3", "Song"),
        (b"99 Luftballons.mp3", "99 Luftballons"),
        (b"07.mp3", "07"),
        (b"1979.mp3", "1979"),
        (b"a/b/05 - Caf\xe9.mp3", "Caf%E9"),
    ],
)
def test_a_title_is_made_from_a_name(name: bytes, title: str) -> None:
    assert title_from_name(name) == title


def test_a_library_is_written_as_a_literal(tmp_path: Path) -> None:
    write_library(tmp_path, {"A/B/01.mp3": {"title": "T"}, "A/B/02.flac": None})

    assert read_tags(os.fsencode(tmp_path), b"A/B/01.mp3").title == "T"
    assert read_tags(os.fsencode(tmp_path), b"A/B/02.flac").title == "02"


def test_id3v1_alone_is_read(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3")
    tag = b"TAG" + b"Old Title".ljust(30, b"\0") + b"Old Artist".ljust(30, b"\0") + b"\0" * 30
    path.write_bytes(path.read_bytes() + tag + b"1999" + b"\0" * 29 + b"\x07" + b"\x08")
    mutagen.id3.delete(path, delete_v1=False)

    reading = read(path)

    assert (reading.title, reading.artist, reading.year) == ("Old Title", "Old Artist", 1999)
    assert (reading.track_number, reading.genre) == (7, "Jazz")


def test_apev2_on_an_mp3_fills_what_id3_lacks(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "From ID3"})
    tag_apev2(path, {"title": ["From APE"], "album": ["Album"], "replaygain_track_gain": ["-3.00 dB"]}, None)

    reading = read(path)

    assert (reading.title, reading.album) == ("From ID3", "Album")
    assert reading.replaygain == {"track_gain": -3.0}


@pytest.mark.parametrize("version", [3, 4])
def test_id3_before_a_flac_does_not_hide_the_flacs_own_tags(tmp_path: Path, version: int) -> None:
    path = make_audio(tmp_path / "song.flac", tags={"title": "Right"})
    id3 = mutagen.id3.ID3()
    id3_frames({"title": ["Wrong"]}, None, add=id3.add)
    id3.save(tmp_path / "tag", v2_version=version)
    path.write_bytes((tmp_path / "tag").read_bytes() + path.read_bytes())

    assert read(path).title == "Right"
    assert read(path).format == "flac"


def test_older_id3_versions_and_unsynchronisation_are_read(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "v23.mp3", tags={**ALL_TAGS, "date": "2001-02-03"}, picture=PICTURE)
    tags = mutagen.id3.ID3(path)
    tags.update_to_v23()
    tags.save(path, v2_version=3, v23_sep="/")
    v22 = b"TT2" + (6).to_bytes(3, "big") + b"\0Title" + b"TP1" + (3).to_bytes(3, "big") + b"\0Me"
    sound = make_audio(tmp_path / "v22.mp3").read_bytes()[45:]
    (tmp_path / "v22.mp3").write_bytes(b"ID3\x02\0\0" + struct.pack(">I", len(v22)) + v22 + sound)
    text = b"\x01\xff\xfe" + "Titlé".encode("utf-16-le")
    frame = b"TIT2" + struct.pack(">IH", len(text), 0) + text
    body = frame.replace(b"\xff\xfe", b"\xff\0\xfe")
    (tmp_path / "unsync.mp3").write_bytes(b"ID3\x03\0\x80" + struct.pack(">I", len(body)) + body + sound)

    assert read(path).date == "2001-02-03"
    assert read(path).musicbrainz["artist"] == [ARTIST, GUEST]  # type: ignore[index]
    assert (read(tmp_path / "v22.mp3").title, read(tmp_path / "v22.mp3").artist) == ("Title", "Me")
    assert read(tmp_path / "unsync.mp3").title == "Titlé"


def test_opus_gain_is_brought_to_replaygains_reference(tmp_path: Path) -> None:
    tags = {"r128_track_gain": "-1280", "r128_album_gain": "256"}
    path = make_audio(tmp_path / "song.opus", tags=tags)

    assert read(path).replaygain == {"track_gain": 0.0, "album_gain": 6.0}


def test_relative_volume_frames_are_replaygain(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "T"})
    tags = mutagen.id3.ID3(path)
    tags.add(mutagen.id3.RVA2(desc="track", channel=1, gain=-4.5, peak=0.5))
    tags.save(path)

    assert read(path).replaygain == {"track_gain": -4.5, "track_peak": 0.5}


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".wma", ".ape"])
def test_what_tags_hold_is_made_clean_and_bounded(tmp_path: Path, suffix: str) -> None:
    tags = {
        "title": " long " + "x" * 10_000,
        "lyrics": "y" * 1_000_000,
        "genre": [f"genre {number}" for number in range(200)],
        "date": "2525-07-01",
        "replaygain_track_gain": "NaN",
        "replaygain_track_peak": "1e99",
        "replaygain_album_gain": "-900 dB",
        "musicbrainz_albumid": "no id",
    }
    reading = read(make_audio(tmp_path / f"song{suffix}", tags=tags))

    assert len(reading.title) <= 4096
    assert len(reading.lyrics or "") == 256 * 1024
    assert len(reading.genres or []) == 64
    assert reading.year == 2525
    assert (reading.replaygain, reading.musicbrainz) == (None, None)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg"])
def test_numbers_that_are_none_or_too_large_are_left_out(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"tracknumber": "A3", "discnumber": "123456789/0"})

    assert (read(path).track_number, read(path).disc_number, read(path).disc_total) == (None, None, None)


def test_nul_and_broken_utf8_do_not_come_through(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags={"title": "Ti?tle", "artist": "Bad !! name"})
    path.write_bytes(path.read_bytes().replace(b"Ti?tle", b"Ti\0tle").replace(b"!!", b"\xed\xa0"))

    reading = read(path)

    assert reading.title == "Title"
    assert "\0" not in (reading.artist or "")
    (reading.artist or "").encode("utf-8")


def test_a_picture_of_50_mb_is_not_loaded(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "T"}, picture=PICTURE + b"x" * 50_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    reading = read(path)

    assert (reading.title, reading.has_embedded_cover) == ("T", True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_pictures_inside_vorbis_comments_of_a_flac_do_no_harm(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags={"title": "T"})
    audio = FLAC(path)
    audio.add_picture(flac_picture(PICTURE * 1000))
    audio.save()

    assert (read(path).title, read(path).has_embedded_cover) == ("T", True)
