"""Tags and pictures written into a copy: of every format, and read back by others."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import av
import mutagen
import mutagen.apev2
import mutagen.id3
import mutagen.wave
import pytest
import pyvips
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from audio_files import SUFFIXES, make_audio, tag_apev2
from mus.library.edit_order import EditedCopy, EditOrder, Picture
from mus.library.misread_text import repaired
from mus.library.sound import hear
from mus.library.tag_changes import TagChanges
from mus.library.tag_reader import read_tags
from mus.library.tag_writer import write_copy

ID = "0b8a1f2c-1111-2222-3333-444455556666"
#: Every field that can be set, and what the reader makes of it.
EVERYTHING: dict[str, Any] = {
    "title": "Tïtle ☃ 罪人",
    "artist": "Nina & Emil",
    "artists": ["Nina", "Emil"],
    "album_artist": "Nina",
    "album": "Pastel Blues",
    "track_number": 10,
    "track_total": 12,
    "disc_number": 1,
    "disc_total": 2,
    "date": "1965-10-31",
    "genres": ["Soul", "Something of its own"],
    "composer": "Traditional",
    "comment": "two\nlines",
    "compilation": True,
    "lyrics": "Oh, Sinnerman\nwhere you gonna run to?",
    "musicbrainz": {
        "recording": ID, "track": ID, "release": ID, "release_group": ID, "artist": [ID], "album_artist": [ID],
    },
    "replaygain": {"track_gain": -7.03, "track_peak": 0.5, "album_gain": 1.5, "album_peak": 1.0},
}  # fmt: skip
SORTED_BY = {"title_sort": "Ti", "artist_sort": "Ni", "album_artist_sort": "Al", "album_sort": "Pa"}
OLD = {"title": "Old", "artist": "Someone", "tracknumber": "9", "comment": "c", "genre": "Rock", "mood": "blue"}


def picture(shade: int) -> bytes:
    return bytes((pyvips.Image.black(40, 40, bands=3) + shade).cast("uchar").jpegsave_buffer())


def edit(file: Path, changes: TagChanges | None = None, **order: Any) -> EditedCopy:
    """Edit the file as a job does, the rename included."""
    part = f".mus-edit-1{file.suffix}"
    raw = order.pop("changes_by_name", None) or (changes.raw() if changes else {})
    order = EditOrder(part=part, changes=raw, **order)
    order = EditOrder.from_json(order.as_json())
    copy = write_copy(os.fsencode(file.parent), os.fsencode(file.name), order, file.parent / "thumbnails")
    assert (file.parent / part).exists() is (copy.error_message is None and not copy.unchanged)
    if (file.parent / part).exists():
        os.replace(file.parent / part, file)
    return EditedCopy.from_json(os.fsencode(file.name), copy.as_json())


def reading(file: Path) -> Any:
    return read_tags(os.fsencode(file.parent), os.fsencode(file.name))


def sound(file: Path) -> bytes | None:
    return hear(os.fsencode(file.parent), os.fsencode(file.name)).audio_hash


def by_ffmpeg(file: Path) -> dict[str, str]:
    with av.open(str(file)) as container:
        found = {**container.streams[0].metadata, **container.metadata}
    return {name.lower(): value for name, value in found.items()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_field_of_every_format_is_written_read_back_and_taken_back(suffix: str, tmp_path: Path) -> None:
    file = make_audio(tmp_path / f"x{suffix}", seconds=0.5, tags=OLD, picture=picture(1))
    before, heard = reading(file), sound(file)
    copy = edit(file, TagChanges(**EVERYTHING, **SORTED_BY), front=picture(2))
    assert copy.error_message is None
    read = reading(file)
    for field, value in EVERYTHING.items():
        if field == "replaygain":
            assert read.replaygain == pytest.approx(value, abs=0.01)
        else:
            assert getattr(read, field) == value, field
    assert (read.year, read.genre, sound(file)) == (1965, "Soul", heard)
    assert [each.data for each in copy.pictures_after] == [picture(2)]
    assert copy.after["titlesort"] == ["Ti"]
    if suffix not in {
        ".ape",
        ".mpc",
        ".dsf",
        ".aac",
        ".aiff",
        ".aif",
    }:  # FFmpeg reads none in these
        seen = by_ffmpeg(file)
        assert (seen["title"], seen["album"]) == (EVERYTHING["title"], EVERYTHING["album"])
        assert seen.get("mood", seen.get("wm/mood", "blue")) == "blue"
    undone = edit(
        file,
        changes_by_name=copy.before,
        pictures=copy.pictures_before,
        expected=copy.after,
        expected_pictures=[each.digest for each in copy.pictures_after],
    )
    assert undone.error_message is None
    read = reading(file)
    for name in before._fields:
        if name not in {"stat", "bitrate_kbps"}:
            assert getattr(read, name) == getattr(before, name), name
    assert [each.data for each in undone.pictures_after] == [picture(1)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_named_stays(suffix: str, tmp_path: Path) -> None:
    tags = {**OLD, "album": "A", "lyrics": "la", "musicbrainz_albumid": ID, "replaygain_track_gain": "-3.10 dB"}
    file = make_audio(tmp_path / f"x{suffix}", seconds=0.3, tags=tags, picture=picture(1))
    before = mutagen.File(file) if suffix != ".aac" else mutagen.id3.ID3(file)
    known = {name: str(before[name]) for name in (before.keys() if suffix == ".aac" else before.tags.keys())}
    assert edit(file, TagChanges(title="New", artist=None)).error_message is None
    after = mutagen.File(file) if suffix != ".aac" else mutagen.id3.ID3(file)
    now = {name: str(after[name]) for name in (after.keys() if suffix == ".aac" else after.tags.keys())}
    changed = {name for name in known.keys() | now.keys() if known.get(name) != now.get(name)}
    assert len(changed) == 2, changed
    read = reading(file)
    assert (read.title, read.artist, read.album, read.lyrics, read.has_embedded_cover) == (
        "New",
        None,
        "A",
        "la",
        True,
    )


def test_id3_is_written_in_the_version_that_is_set_and_frames_nobody_knows_come_along(tmp_path: Path) -> None:
    file = make_audio(tmp_path / "x.mp3", seconds=0.3, tags={**OLD, "date": "1999-05-31"})
    tag = mutagen.id3.ID3(file)
    tag.update_to_v23()
    tag.save(file, v2_version=3)
    content = file.read_bytes()
    unknown = b"XYZW" + struct.pack(">I", 200) + b"\0\0" + b"n" * 200
    size = sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True)) + len(unknown)
    synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    file.write_bytes(content[:6] + synchsafe + unknown + content[10:])
    changes = {"artists": ["A", "B"], "genres": ["Soul", "Jazz"], "title_sort": "S"}
    for composer, version in (("1", 4), ("2", 3), ("3", 4)):
        assert edit(file, TagChanges(**changes, composer=composer), id3_version=version).error_message is None
        written = file.read_bytes()
        assert written[3] == version
        assert b"XYZW" + (b"\0\0\1\x48" if version == 4 else b"\0\0\0\xc8") + b"\0\0" + b"n" * 200 in written
        read = reading(file)
        assert (read.title, read.date, read.composer) == ("Old", "1999-05-31", composer)
        assert (read.artist, read.artists) == ("A; B", ["A", "B"])
        assert mutagen.id3.ID3(file)["TPE1"].text == (["A", "B"] if version == 4 else ["A; B"])


def test_tags_at_an_mp3s_end_never_say_something_else(tmp_path: Path) -> None:
    file = make_audio(tmp_path / "x.mp3", seconds=0.3, tags={"title": "Old", "tracknumber": "1"})
    tag_apev2(file, {"title": ["Ape"], "artist": ["Ape"], "tracknumber": ["7"], "tracktotal": ["9"]}, None)
    with file.open("ab") as end:
        end.write(b"TAG" + b"Old".ljust(125, b"\0"))
    heard = sound(file)
    copy = edit(file, TagChanges(title="New", artist=None, track_total=3))
    assert copy.error_message is None
    assert copy.before["artist"] == ["Ape"]
    ape = mutagen.apev2.APEv2(file)
    assert {name: str(value) for name, value in ape.items()} == {"Title": "New", "Track": "7/3"}
    assert file.read_bytes()[-128:][:6] == b"TAGNew"
    assert (reading(file).title, reading(file).artist, sound(file)) == ("New", None, heard)


def test_the_info_list_of_a_wav_never_says_something_else(tmp_path: Path) -> None:
    file = make_audio(tmp_path / "x.wav", seconds=0.3)
    info = b"INFO" + b"".join(
        name + struct.pack("<I", len(text)) + text for name, text in ((b"INAM", b"Old\0"), (b"ISFT", b"Lavf\0\0"))
    )
    content = file.read_bytes()
    chunk = b"LIST" + struct.pack("<I", len(info)) + info
    file.write_bytes(b"RIFF" + struct.pack("<I", len(content) - 8 + len(chunk)) + content[8:] + chunk)
    assert reading(file).title == "Old"
    assert edit(file, TagChanges(title="A newer title", album="A")).error_message is None
    assert b"INAM" + struct.pack("<I", 14) + b"A newer title\0" in file.read_bytes()
    assert b"ISFT" in file.read_bytes()
    assert (reading(file).title, reading(file).album) == ("A newer title", "A")
    assert edit(file, TagChanges(title=None)).error_message is None
    assert reading(file).title == "x"


def test_a_cover_replaces_the_cover_and_no_picture_of_another_kind(tmp_path: Path) -> None:
    file = make_audio(tmp_path / "x.mp3", seconds=0.3, tags=OLD)
    tag = mutagen.id3.ID3(file)
    for kind, desc in ((0, ""), (4, "back"), (5, "artist")):
        tag.add(
            mutagen.id3.APIC(encoding=3, mime="image/jpeg", type=kind, desc=desc + str(kind), data=picture(kind))
        )
    tag.save(file)
    copy = edit(file, front=picture(99))
    assert [(each.kind, each.data) for each in copy.pictures_after] == [
        (3, picture(99)), (4, picture(4)), (5, picture(5)),
    ]  # fmt: skip
    assert copy.cover is not None
    assert list((tmp_path / "thumbnails").rglob(f"{copy.cover}_300.webp")) != []
    copy = edit(file, pictures=[])
    assert copy.pictures_after == []
    assert not reading(file).has_embedded_cover


@pytest.mark.parametrize(
    ("suffix", "changes", "told"),
    [
        (".m4a", {"track_number": 70_000}, "MP4 holds numbers of tracks up to 65,535"),
        (".mp3", {"track_total": 12}, "holds a track_total only beside a track_number"),
        (".mp3", {"genre": "17"}, "This file cannot hold what was to be written: genre would not read back right"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(
    suffix: str, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    file = make_audio(tmp_path / f"x{suffix}", seconds=0.3)
    content = file.read_bytes()
    assert told in str(edit(file, TagChanges(**changes)).error_message)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == [file.name]


def test_files_that_are_no_music_links_and_what_changed_since_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_text("no music")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "link.flac").symlink_to(make_audio(tmp_path / "real.flac", tags=OLD))
    for name in ("x.mp3", "empty.flac", "link.flac", "nothing.mp3"):
        copy = edit(
            tmp_path / "a" / ".." / name if name.startswith("..") else tmp_path / name, TagChanges(title="x")
        )
        assert copy.error_message
    copy = edit(tmp_path / "real.flac", TagChanges(title="x"), expected={"title": ["What it was"]})
    assert "changed by another program since" in str(copy.error_message)


def test_owner_mode_times_and_attributes_are_kept(tmp_path: Path) -> None:
    file = make_audio(tmp_path / "x.flac", seconds=0.3, tags=OLD)
    os.chmod(file, 0o4640)
    if os.geteuid() == 0:
        os.chown(file, 1234, 4321)
    os.setxattr(file, "user.a", b"b")
    os.utime(file, ns=(10**18 + 1, 10**18 + 2))
    before = file.stat()
    assert edit(file, TagChanges(title="New")).error_message is None
    after = file.stat()
    for name in ("st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(after, name) == getattr(before, name)
    assert after.st_mode & 0o777 == 0o640
    assert os.getxattr(file, "user.a") == b"b"


NASTY = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"'/\\;|=[]{}<>&%\u202e\ufeff\u0301 "),
    min_size=1,
    max_size=60,
)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus", ".wav", ".wma", ".wv"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=NASTY, artists=st.lists(NASTY, min_size=1, max_size=3), comment=NASTY, version=st.sampled_from([3, 4]))
def test_whatever_text_is_taken_reads_back_as_it_was(
    suffix: str, tmp_path: Path, title: str, artists: list[str], comment: str, version: int
) -> None:
    try:
        # What separates names would be read as several.
        names = [name.replace(";", ",") for name in artists]
        changes = TagChanges(title=title, artists=names, comment=comment)
    except ValidationError:
        return  # nothing but spaces
    # What looks like a wrong encoding is read as what it looks like.
    written = {"title": [title], "artist": names, "comment": [comment]}
    assume(repaired(written) == written)
    file = make_audio(tmp_path / f"x{suffix}", seconds=0.2, tags=OLD)
    heard = sound(file)
    copy = edit(file, changes, id3_version=version)
    assert sound(file) == heard
    assert copy.error_message is None
    read = reading(file)
    assert (read.title, read.comment) == (changes.title, changes.comment)
    assert changes.artists is not None
    assert read.artists == list(dict.fromkeys(changes.artists))


def test_pictures_survive_the_way_between_processes() -> None:
    one = Picture(4, "image/png", "the back", b"\0\xff")
    order = EditOrder(part="p", pictures=[one], front=b"\x01")
    assert EditOrder.from_json(order.as_json()) == order
