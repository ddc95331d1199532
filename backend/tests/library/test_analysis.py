"""The slow phase: exact lengths, covers, and pictures or sounds that are broken."""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path

import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC

from audio_files import SUFFIXES, flac_picture, make_audio
from mus.errors import ErrorCategory
from mus.library.analysis import Analysis, analyse
from mus.library.cover_thumbnails import THUMBNAIL_SIZES, thumbnail_path


def picture(width: int, height: int, *, suffix: str = ".png") -> bytes:
    gradient = pyvips.Image.xyz(width, height)[0].linear(0.2, 0).cast("uchar")
    return bytes(gradient.bandjoin([gradient, gradient]).copy(interpretation="srgb").write_to_buffer(suffix))


def run(path: Path, thumbnails_dir: Path) -> Analysis:
    analysis = analyse(os.fsencode(path.parent), os.fsencode(path.name), thumbnails_dir)
    assert Analysis.from_json(analysis.path, analysis.as_json()) == analysis
    return analysis


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_length_is_exact_and_the_embedded_cover_is_found(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", seconds=2.0, tags={"title": "T"}, picture=picture(400, 300))

    analysis = run(path, tmp_path / "thumbnails")

    assert analysis.error_message is None
    # An ADTS stream does not say what its encoder padded; the Musepack file has whole frames.
    tolerance = 0.03 if suffix in {".aac", ".mpc"} else 0.006 if suffix == ".wma" else 1e-6
    assert analysis.duration_seconds == pytest.approx(2.0, abs=tolerance)
    assert analysis.cover is not None
    assert analysis.stat is not None
    assert analysis.stat.size == path.stat().st_size
    for size in THUMBNAIL_SIZES:
        thumbnail = pyvips.Image.new_from_file(str(thumbnail_path(tmp_path / "thumbnails", analysis.cover, size)))
        assert (thumbnail.width, thumbnail.height) == ((300, 225) if size == 300 else (400, 300))


def test_the_front_cover_is_preferred_to_other_pictures(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac")
    audio = FLAC(path)
    back = flac_picture(picture(50, 50))
    back.type = 4
    audio.add_picture(back)
    audio.add_picture(flac_picture(picture(60, 30)))
    audio.save()

    cover = run(path, tmp_path / "thumbnails").cover

    assert cover is not None
    assert pyvips.Image.new_from_file(str(thumbnail_path(tmp_path / "thumbnails", cover, 300))).width == 60


def test_the_folders_cover_is_used_when_the_file_has_none(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "Album" / "song.mp3")
    (path.parent / "AlbumArt.png").write_bytes(picture(40, 40))
    (path.parent / "FOLDER.JPG").write_bytes(picture(30, 20, suffix=".jpg"))
    (path.parent / "back.jpg").write_bytes(picture(10, 10, suffix=".jpg"))

    analysis = analyse(os.fsencode(tmp_path), b"Album/song.mp3", tmp_path / "thumbnails")

    assert analysis.cover is not None
    thumbnail = pyvips.Image.new_from_file(str(thumbnail_path(tmp_path / "thumbnails", analysis.cover, 300)))
    assert (thumbnail.width, thumbnail.height) == (30, 20)


def test_thumbnails_that_exist_are_not_made_again_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", picture=picture(1500, 900))
    first = run(path, tmp_path / "thumbnails")
    files = sorted((tmp_path / "thumbnails").rglob("*.*"))
    inodes = [file.stat().st_ino for file in files]

    assert run(path, tmp_path / "thumbnails").cover == first.cover
    assert [file.stat().st_ino for file in files] == inodes
    assert [file.name for file in files] == [f"{first.cover}_{size}.webp" for size in (1000, 300)]


def test_a_broken_picture_is_a_note_and_no_error(tmp_path: Path) -> None:
    whole = picture(400, 400)
    for name, data in (("text", b"hello"), ("half", whole[: len(whole) // 2]), ("svg", b"<svg/>")):
        path = make_audio(tmp_path / f"{name}.mp3", picture=data)
        analysis = run(path, tmp_path / "thumbnails")
        assert (analysis.error_message, analysis.cover) == (None, None)
        assert (analysis.cover_note or "").startswith("The embedded picture cannot be used: it is ")
    assert not list((tmp_path).rglob("*.tmp"))


def test_a_broken_embedded_picture_leaves_the_place_to_the_folders(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", picture=b"hello")
    (tmp_path / "cover.png").write_bytes(picture(20, 20))

    assert run(path, tmp_path / "thumbnails").cover is not None


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    path = make_audio(tmp_path / "song.mp3", picture=bomb)

    analysis = run(path, tmp_path / "thumbnails")

    assert analysis.cover_note == "The embedded picture cannot be used: it has 3600 megapixels"


def test_thumbnails_that_cannot_be_written_are_a_temporary_error(tmp_path: Path) -> None:
    (tmp_path / "thumbnails").write_text("a file where the folder should be")
    path = make_audio(tmp_path / "song.mp3", picture=picture(20, 20))

    analysis = run(path, tmp_path / "thumbnails")

    assert analysis.error_category == ErrorCategory.TEMPORARY
    assert "thumbnails cannot be written" in (analysis.error_message or "")


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".wv", ".dsf"])
def test_sound_that_is_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", seconds=4.0)
    os.truncate(path, path.stat().st_size // 2)

    analysis = run(path, tmp_path / "thumbnails")

    assert (analysis.error_message or "").startswith("The file is cut short")
    assert analysis.error_category == ErrorCategory.USER_FIXABLE
    assert analysis.duration_seconds is None


def test_junk_behind_an_mp3_is_no_sound_that_is_missing(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", seconds=4.0)
    path.write_bytes(path.read_bytes() + random.Random(1).randbytes(80_000))

    analysis = run(path, tmp_path / "thumbnails")

    assert analysis.error_message is None
    assert analysis.duration_seconds == pytest.approx(4.0, abs=0.5), "some junk looks like a frame"


def test_no_sound_and_no_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "zeros.mp3").write_bytes(bytes(100_000))
    (tmp_path / "picture.flac").write_bytes(picture(20, 20))

    assert run(tmp_path / "empty.mp3", tmp_path).error_message == "The file is empty"
    assert run(tmp_path / "zeros.mp3", tmp_path).error_message is not None
    assert run(tmp_path / "picture.flac", tmp_path).error_message == "No sound was found in this file"
    assert run(tmp_path / "gone.mp3", tmp_path).vanished


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(data=st.data())
def test_no_damage_raises(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"fuzz{suffix}"
    damaged = bytearray(make_audio(path, seconds=0.2, picture=picture(30, 30)).read_bytes()[:60_000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(damaged) - 1, 3000)))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        damaged[at : at + len(piece)] = piece
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])

    analysis = run(path, tmp_path / "thumbnails")

    assert (analysis.error_message is None) == (analysis.duration_seconds is not None)


def test_a_playlist_named_mp3_opens_no_other_file(tmp_path: Path) -> None:
    make_audio(tmp_path / "other.mp3")
    (tmp_path / "list.mp3").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/other.mp3\n")
    (tmp_path / "concat.mp3").write_text(f"ffconcat version 1.0\nfile {tmp_path}/other.mp3\n")

    assert run(tmp_path / "list.mp3", tmp_path).error_message is not None
    assert run(tmp_path / "concat.mp3", tmp_path).error_message is not None
