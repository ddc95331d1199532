"""Files that are not what they seem: each gives one clear sentence; none raises, blocks or leads outside."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import SUFFIXES, make_audio
from mus.errors import ErrorCategory
from mus.library.file_reading import FileReading
from mus.library.tag_reader import read_tags

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 5000


def read(path: Path) -> FileReading:
    return read_tags(os.fsencode(path.parent), os.fsencode(path.name))


def error_of(path: Path) -> str:
    reading = read(path)
    assert reading.error_message is not None
    assert reading.error_category == ErrorCategory.USER_FIXABLE
    assert reading.title == path.stem
    return reading.error_message


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").touch()

    assert error_of(tmp_path / "song.mp3") == "The file is empty"
    assert read(tmp_path / "song.mp3").stat is not None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_with_a_songs_name_is_recognised(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song{suffix}"
    path.write_bytes(PNG)

    assert "it begins like a PNG picture" in error_of(path)


def test_the_sentence_names_both_kinds(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(PNG)
    (tmp_path / "song.flac").write_bytes(bytes(5000))

    assert error_of(tmp_path / "song.mp3") == "This is not an mp3 file: it begins like a PNG picture"
    assert error_of(tmp_path / "song.flac").startswith("This is not a flac file: it begins like a file of zeros")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_an_error(tmp_path: Path, suffix: str, seed: int) -> None:
    path = tmp_path / f"song{suffix}"
    path.write_bytes(random.Random(seed).randbytes(200_000))

    assert "nothing in it is known as sound" in error_of(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_in_its_beginning_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"title": "T", "comment": "x" * 3000})
    path.write_bytes(path.read_bytes()[:30])

    assert error_of(path)


@pytest.mark.parametrize("suffix", [".m4a", ".alac.m4a", ".wav", ".aiff", ".dsf"])
def test_sound_that_ends_before_its_container_says_so_is_cut_short(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}")
    path.write_bytes(path.read_bytes()[:-8000])

    assert error_of(path) == "The file is cut short: part of it is missing"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mislabelled_file_is_read_by_its_content(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"right{suffix}", tags={"title": "T"})
    right = read(path)
    wrong = path.rename(tmp_path / ("wrong.flac" if suffix == ".mp3" else "wrong.mp3"))

    assert (read(wrong).title, read(wrong).format) == ("T", right.format)


def test_a_vanished_file_is_told_from_a_bad_one(tmp_path: Path) -> None:
    reading = read(tmp_path / "gone.mp3")

    assert (reading.vanished, reading.error_message, reading.stat) == (True, "The file is gone", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_said_to_be_so(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3")
    path.chmod(0)

    assert error_of(path) == "mus is not allowed to read this file"
    assert read(path).stat is not None


def test_a_pipe_a_socket_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "link.mp3").symlink_to("pipe.mp3")

    assert error_of(tmp_path / "pipe.mp3") == "This is a named pipe, not a file with music"
    assert error_of(tmp_path / "link.mp3") == "This is a named pipe, not a file with music"
    assert error_of(tmp_path / "folder.mp3") == "This is a folder, not a file with music"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.mp3"))
        assert error_of(tmp_path / "s.mp3") == "This is a socket, not a file with music"


def test_links_are_followed_inside_the_root_and_not_out_of_it(tmp_path: Path) -> None:
    root = tmp_path / "music"
    make_audio(root / "real/song.mp3", tags={"title": "Inside"})
    make_audio(tmp_path / "outside/song.mp3", tags={"title": "Secret"})
    make_audio(tmp_path / "music-2/song.mp3", tags={"title": "Neighbour"})
    (root / "inner.mp3").symlink_to("real/song.mp3")
    (root / "inner").symlink_to("real")
    (root / "file.mp3").symlink_to(tmp_path / "outside/song.mp3")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "neighbour").symlink_to("../music-2")
    (root / "nowhere.mp3").symlink_to("nothing")
    (root / "loop.mp3").symlink_to("loop.mp3")
    (tmp_path / "root-link").symlink_to("music")

    def look(path: bytes, root: Path = root) -> FileReading:
        return read_tags(os.fsencode(root), path)

    assert look(b"inner.mp3").title == look(b"inner/song.mp3").title == "Inside"
    assert look(b"real/song.mp3", tmp_path / "root-link").title == "Inside"
    for path in (b"file.mp3", b"folder/song.mp3", b"neighbour/song.mp3", b"../outside/song.mp3"):
        assert look(path).error_message == "This link leads out of the library's folder"
        assert look(path).duration_seconds is None
    assert look(b"nowhere.mp3").error_message == "This link leads nowhere"
    assert look(b"loop.mp3").error_message is not None


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path: Path) -> None:
    sound = make_audio(tmp_path / "song.mp3").read_bytes()
    name = b"caf\xe9 \xff.mp3"
    (tmp_path / os.fsdecode(name)).write_bytes(sound)

    reading = read_tags(os.fsencode(tmp_path), name)

    assert (reading.title, reading.path) == ("caf%E9 %FF", name)


def test_a_tag_on_a_broken_header_still_leaves_the_sound(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "T"})
    path.write_bytes(path.read_bytes().replace(b"ID3\x04", b"ID3\x09", 1))

    reading = read(path)

    assert (reading.title, reading.format, reading.error_message) == ("song", "mp3", None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(data=st.data())
def test_no_damage_to_a_header_raises(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"fuzz{suffix}"
    whole = make_audio(
        path, seconds=0.2, tags={"title": "T", "artist": ["A", "B"], "tracknumber": 1}, picture=PNG[:400]
    ).read_bytes()[:60_000]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(damaged) - 1, 3000)))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        damaged[at : at + len(piece)] = piece
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])

    reading = read(path)

    assert FileReading.from_json(reading.path, reading.as_json()) == reading
    assert reading.title
