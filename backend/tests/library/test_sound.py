"""The hash of a file's sound: whatever its tags say, and only that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mutagen.apev2
import pytest
import pyvips

from audio_files import SUFFIXES, make_audio
from mus.library.sound import hear

#: Begins like a frame of MPEG audio, which a demuxer must not take it for.
_LIKE_A_FRAME = "\u00ff\u00fb\u0090\u0064 and more"


def hashed(file: Path) -> bytes | None:
    return hear(os.fsencode(file.parent), os.fsencode(file.name)).audio_hash


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tags_and_pictures_do_not_change_the_hash_of_the_sound(suffix: str, tmp_path: Path) -> None:
    picture = None if suffix in {".ape", ".mpc"} else pyvips.Image.black(60, 60, bands=3).jpegsave_buffer()
    bare = make_audio(tmp_path / f"bare{suffix}")
    tags = {"title": "T" * 3000, "artist": _LIKE_A_FRAME, "comment": "c" * 777}
    tagged = make_audio(tmp_path / f"tagged{suffix}", tags=tags, picture=picture)
    assert hashed(bare) is not None
    assert hashed(bare) == hashed(tagged)


@pytest.mark.parametrize("suffix", [".mp3", ".aac", ".ape"])
def test_tags_behind_the_sound_do_not_change_its_hash(suffix: str, tmp_path: Path) -> None:
    file = make_audio(tmp_path / f"sound{suffix}")
    before = hashed(file)
    tag = mutagen.apev2.APEv2()
    tag["Title"], tag["Artist"] = "q" * 2000, _LIKE_A_FRAME
    tag.save(str(file))
    assert hashed(file) == before
    with file.open("ab") as end:
        end.write(b"TAG" + b"old".ljust(125, b"\0"))
    assert hashed(file) == before


def test_another_sound_has_another_hash(tmp_path: Path) -> None:
    hashes = {hashed(make_audio(tmp_path / f"{length}.mp3", seconds=length)) for length in (0.5, 1.0, 1.5)}
    assert len(hashes) == 3
    assert None not in hashes


def test_a_file_without_sound_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no sound at all")
    shutil.copyfile(make_audio(tmp_path / "whole.flac"), tmp_path / "cut.flac")
    with (tmp_path / "cut.flac").open("r+b") as cut:
        cut.truncate(40)
    for name in ("empty.mp3", "text.mp3", "cut.flac", "not there.mp3", "../outside.mp3"):
        assert hashed(tmp_path / name) is None
