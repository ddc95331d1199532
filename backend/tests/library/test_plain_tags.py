"""What compiled code reads is what the tag libraries read; what is not quite plain is left to them."""

from __future__ import annotations

import copy
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import mutagen
import mutagen.id3
import pytest

from audio_files import make_audio
from mus.library import tag_reader, tag_values
from mus.library.file_reading import FileReading
from mus.library.mutagen_tags import read as read_by_mutagen
from mus.library.reading_rules import DEFAULT_RULES, ReadingRules
from mus.library.tag_layout import Layout, Window, look
from mus.library.tag_reader import (
    Plain,
    nothing_is_opened,
    nothing_is_plain,
    open_plain,
    read_plain,
    read_tags,
)
from mus.library.tag_values import sound_fields, tag_fields
from mus.library.track_words import TrackWords, derived

COMPILED = pytest.mark.skipif(read_plain is nothing_is_plain, reason="mus was installed without a C compiler")
PLAIN = (".mp3", ".flac", ".m4a", ".alac.m4a", ".ogg", ".opus", ".wav")
PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 150_000
TEXTS = {
    "title": "Ночь & Tag", "artist": ["One", "Two"], "albumartist": "One", "album": "夜空", "tracknumber": 3,
    "tracktotal": 12, "discnumber": 0, "date": "2001-02-03", "genre": ["Rock", "Jazz; Blues"], "composer": "Ä. Ö.",
    "comment": "A comment", "compilation": 1, "lyrics": "La\nla", "artistsort": "Two, One",
    "musicbrainz_trackid": "00000001-1111-4111-8111-111111111111", "replaygain_track_gain": "-7.25 dB",
}  # fmt: skip


def plainly_read(path: Path) -> Plain | None:
    with path.open("rb") as file:
        return read_plain(file.fileno(), path.stat().st_size)


def layout_of(path: Path) -> Layout:
    with path.open("rb") as file:
        return look(Window(file.fileno(), path.stat().st_size))


def plain_fields(path: Path) -> dict[str, Any]:
    plain = plainly_read(path)
    assert plain is not None, "this is plain"
    raw, sound_format, *sound, has_cover = plain
    fields = tag_fields(raw, DEFAULT_RULES, is_opus=sound_format == "opus")
    return fields | sound_fields(*sound) | {"format": sound_format, "has_embedded_cover": has_cover}


def fields_by_mutagen(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        found = read_by_mutagen(file, layout_of(path), DEFAULT_RULES)
    assert found is not None
    return found


def assert_alike(path: Path) -> None:
    mine, its = plain_fields(path), fields_by_mutagen(path)
    # Each counts other bytes as sound, and MP4 tells two lengths: of the movie, and of its track.
    for fields in (mine, its):
        del fields["bitrate_kbps"]
    assert mine.pop("duration_seconds") == pytest.approx(its.pop("duration_seconds"), abs=0.05)
    assert mine == its


def read(path: Path) -> FileReading:
    return read_tags(os.fsencode(path.parent), os.fsencode(path.name))


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("picture", [None, PICTURE], ids=["bare", "with picture"])
@COMPILED
def test_an_ordinary_file_is_read_as_mutagen_reads_it(tmp_path: Path, suffix: str, picture: bytes | None) -> None:
    assert_alike(make_audio(tmp_path / f"song{suffix}", tags=TEXTS, picture=picture))
    assert_alike(make_audio(tmp_path / f"untagged{suffix}"))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("encoding", [0, 1, 2, 3])
@COMPILED
def test_id3_in_each_of_its_encodings_is_read_as_mutagen_reads_it(
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
        mutagen.id3.TDRC(encoding=encoding, text=["2001-02-03"]),
        mutagen.id3.UFID(owner="http://musicbrainz.org", data=b"00000001-1111-4111-8111-111111111111"),
    ):
        tags.add(frame)
    tags.save(path, v2_version=version, v1=0)

    assert_alike(path)


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found[data[at : at + 4]] = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return found


def riff(*chunks: tuple[bytes, bytes], more: int = 0) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4 + more) + b"WAVE" + body


@COMPILED
def test_a_wav_file_is_plain_where_the_libraries_agree_about_it(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    has = chunks_of(make_audio(path, tags=TEXTS).read_bytes())
    form, sound, tag = (b"fmt ", has[b"fmt "]), (b"data", has[b"data"]), (b"id3 ", has[b"id3 "])
    written_by = (b"LIST", b"INFOISFT\x04\0\0\0abc\0")
    extensible = b"\xfe\xff" + form[1][2:16] + struct.pack("<HHIH", 22, 16, 3, 1) + bytes(14)
    for plain in (
        riff(form, sound, tag),
        riff(tag, form, written_by, (b"odd ", b"1"), sound),
        riff((b"fmt ", extensible), (b"fact", bytes(4)), sound, (b"ID3 ", tag[1])),
        riff((b"fmt ", b"\x03\0" + form[1][2:]), sound),
    ):
        path.write_bytes(plain)
        assert_alike(path)
    for not_plain in (
        riff(form, sound, (b"LIST", b"INFOINAM\x02\0\0\0A\0"), tag),
        riff(form, sound, (b"LIST", b"INFOISFT\x40\0\0\0A\0"), tag),
        riff(form, sound, tag, (b"ID3 ", tag[1])),
        riff(form, sound, (b"Id3 ", tag[1])),
        riff(form, sound, (b"id3 ", b"TAG" + tag[1][3:])),
        riff(form, sound, (b"id3 ", tag[1][:-100])),
        riff(form, form, sound),
        riff(form, sound, sound),
        riff(form),
        riff(sound, tag),
        riff((b"fmt ", b"\x02\0" + form[1][2:]), sound),
        riff((b"fmt ", form[1][:8]), sound),
        riff((b"fmt ", extensible[:20]), sound),
        riff(form, sound, more=100),
        riff(form, sound, more=-100),
        riff(form, sound)[:-10],
        riff(form, sound, (b"\0dd ", b"1")),
        riff(form, sound).replace(b"RIFF", b"RF64"),
    ):
        path.write_bytes(not_plain)
        assert plainly_read(path) is None


@COMPILED
def test_what_only_id3v1_says_is_left_to_the_libraries(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.mp3", tags={"title": "T", "artist": "A"})
    assert plainly_read(path) is not None
    old = b"TAG" + b"T".ljust(30, b"\0") + b"A".ljust(30, b"\0") + b"Album".ljust(30, b"\0") + bytes(34) + b"\xff"
    with path.open("ab") as file:
        file.write(old)

    assert plainly_read(path) is None


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
@COMPILED
def test_what_is_not_plain_in_id3_is_left_to_the_libraries(
    tmp_path: Path, frames: list[tuple[bytes, bytes]]
) -> None:
    sound = make_audio(tmp_path / "sound.mp3").read_bytes()
    path = tmp_path / "odd.mp3"
    body = b"".join(name + bytes((0, 0, 0, len(data), 0, 0)) + data for name, data in frames)
    path.write_bytes(b"ID3\x04\0\0\0\0\0" + bytes((len(body),)) + body + sound)

    assert plainly_read(path) is None


@COMPILED
def test_a_picture_in_the_comment_of_a_flac_file_is_no_cover_and_no_tag(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags={"title": "T", "coverart": "AAAA"})

    assert_alike(path)


@COMPILED
@pytest.mark.parametrize("suffix", PLAIN)
def test_tags_of_megabytes_are_left_to_the_libraries(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags={"title": "T", "lyrics": "La" * 700_000})

    assert plainly_read(path) is None


@COMPILED
@pytest.mark.parametrize("suffix", PLAIN)
def test_a_file_that_is_shorter_than_it_is_said_to_be_is_not_plain(tmp_path: Path, suffix: str) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags=TEXTS)
    size = path.stat().st_size
    with path.open("rb") as file:
        assert read_plain(file.fileno(), size) is not None
        if suffix != ".flac":  # of which only the beginning is read
            assert read_plain(file.fileno(), size + 100_000) is None
        for wrong in (0, -1, 1, 3, 2**62):
            assert read_plain(file.fileno(), wrong) is None
    descriptor = os.open(tmp_path, os.O_RDONLY)  # a folder, of which no bytes are read
    assert read_plain(descriptor, size) is None
    os.close(descriptor)


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@COMPILED
def test_a_plain_file_is_opened_read_and_closed_in_one_go(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags=TEXTS)
    before = descriptors()
    opened = open_plain(os.fsencode(path), os.fsencode(tmp_path) + b"/")
    assert opened is not None
    numbers, plain, has_changed, _ = opened
    stat = path.stat()
    assert numbers == (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
    assert (plain, has_changed) == (plainly_read(path), False)
    assert descriptors() == before


@COMPILED
def test_one_that_is_not_plain_is_handed_over_open(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    for content in (b"", b"no sound" * 1000):
        path.write_bytes(content)
        opened = open_plain(os.fsencode(path), os.fsencode(tmp_path) + b"/")
        assert opened is not None
        _, plain, _, descriptor = opened
        assert plain is None
        assert os.read(descriptor, 8) == content[:8]
        os.close(descriptor)


@COMPILED
def test_what_is_no_file_below_the_prefix_is_not_opened(tmp_path: Path) -> None:
    root, outside = tmp_path / "music", tmp_path / "music of others"
    song = make_audio(root / "a" / "song.flac", tags=TEXTS)
    secret = make_audio(outside / "secret.flac", tags=TEXTS)
    os.mkfifo(root / "pipe.flac")
    (root / "folder.flac").mkdir()
    (root / "link.flac").symlink_to(song)
    (root / "out.flac").symlink_to(secret)
    (root / "b").symlink_to(outside)
    prefix = os.fsencode(root) + b"/"
    before = descriptors()
    assert open_plain(os.fsencode(song), prefix) is not None
    names = ["pipe.flac", "folder.flac", "link.flac", "out.flac", "b/secret.flac", "nothing.flac", "x" * 5000]
    for path in [*(os.fsencode(root / name) for name in names), os.fsencode(secret), prefix, b""]:
        assert open_plain(path, prefix) is None, path
    assert open_plain(os.fsencode(song), os.fsencode(song) + b"/") is None
    assert descriptors() == before
    with pytest.raises(ValueError, match="null byte"):
        open_plain(os.fsencode(song) + b"\0", prefix)


@COMPILED
def test_a_time_that_has_no_nanoseconds_in_64_bits_is_left_to_python_which_bounds_it(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac", tags=TEXTS)
    for seconds in (9_300_000_000, -9_300_000_000):
        os.utime(path, (seconds, seconds))
        if path.stat().st_mtime == seconds:  # the file system has such times
            assert open_plain(os.fsencode(path), os.fsencode(tmp_path) + b"/") is None
            assert (read(path).stat or (0, 0))[1] == (2**63 - 1) * (1 if seconds > 0 else -1)


SAID = (
    {"title": ["One"], "artist": ["A"], "album": ["X"], "date": ["2001"], "tracknumber": ["1/2"]},
    {"title": ["Two"], "artist": ["A"], "album": ["X"], "date": ["2001"], "tracknumber": ["2/2"]},
    {"title": ["Two"], "artist": ["A", "B"], "album": ["X"], "date": ["2001"], "discnumber": ["2"]},
    {"artist": ["A"], "artists": ["A", "B"], "album": ["X"], "titlesort": ["Two"], "comment": ["c"]},
    {"title": ["Two"], "album": ["X"], "date": ["2001"], "genre": ["Rock; Pop"], "albumsort": ["Y"]},
    {"artist": ["A"], "artistsort": ["The A"], "album": ["AC/DC"], "albumartist": ["B", "A"], "compilation": ["1"]},
)  # fmt: skip


def test_what_the_file_before_said_counts_for_no_other() -> None:
    other_rules = ReadingRules(separators="/", articles="a")

    def words(fields: dict[str, Any], rules: ReadingRules) -> TrackWords:
        return derived(fields, rules.sorted_without)

    def alone(raw: tag_values.RawTags, rules: ReadingRules) -> tuple[dict[str, Any], TrackWords]:
        fields = tag_fields({"album": ["nobody's"], "artist": ["nobody"]}, rules)
        words(fields, rules)
        fields = tag_fields(raw, rules)
        return fields, words(fields, rules)

    expected = {
        (at, rules): alone(SAID[at], rules) for at in range(len(SAID)) for rules in (DEFAULT_RULES, other_rules)
    }
    made = random.Random(3)
    for _ in range(500):
        at, rules = made.choice(list(expected))
        # As a reader has them: the same texts, and no object of before.
        fields = tag_fields(copy.deepcopy(SAID[at]), rules)
        assert (fields, words(copy.deepcopy(fields), rules)) == expected[at, rules]
        fields["album"] = "changed"
        fields.pop("artist", None)


def test_long_values_are_cut() -> None:
    for name in ("artist", "artists", "albumartist", "genre", "tracknumber", "discnumber", "date", "year"):
        for values in (["1" * 1000], ["1", "2"] * 300, ["1\0" * 2_000_000]):
            fields = tag_fields({name: values}, DEFAULT_RULES)
            assert all(len(text) <= tag_values.SHORT_TEXT for text in map(str, fields.values()) if "[" not in text)


@COMPILED
def test_an_audit_hook_sees_what_is_opened(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "song.flac")
    script = (
        "import sys\n"
        "from mus.library.tag_reader import read_tags\n"
        "sys.addaudithook(lambda event, told: event == 'open' and print(told[0]))\n"
        f"read_tags({os.fsencode(tmp_path)!r}, b'song.flac')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == repr(os.fsencode(path))


@pytest.mark.parametrize("suffix", PLAIN)
def test_without_compiled_code_the_libraries_read_the_same(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_audio(tmp_path / f"song{suffix}", tags=TEXTS, picture=PICTURE)
    usual = read(path)
    monkeypatch.setattr(tag_reader, "read_plain", nothing_is_plain)
    monkeypatch.setattr(tag_reader, "open_plain", nothing_is_opened)
    its = read(path)

    assert its.duration_seconds == pytest.approx(usual.duration_seconds, abs=0.05)
    assert usual._replace(duration_seconds=None, bitrate_kbps=None) == its._replace(
        duration_seconds=None, bitrate_kbps=None
    )


ODD_BYTES = (
    b"\0", b"\0\0\0\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xfe", b"\xc0\x80", b"=", b"TXXX",
    b"TYER", b"moov", b"data", b"OggS\0", b"\xff\xfb\x90\x64", b"Info", b"TAG",
)  # fmt: skip


def damaged(data: bytes, made: random.Random) -> bytes:
    """Changed in some places of its head or its end."""
    found = bytearray(data)
    for _ in range(made.choice((1, 1, 2, 5))):
        head = made.choice((100, 3000))
        at = (
            made.randrange(min(head, len(found)))
            if made.random() < 0.7
            else -1 - made.randrange(min(300, len(found)))
        )
        match made.randrange(6):
            case 0 | 1:
                found[at] = made.randrange(256)
            case 2:
                found[at:at] = made.choice(ODD_BYTES)
            case 3:
                odd = made.choice(ODD_BYTES)
                found[at : at + len(odd) or None] = odd
            case 4:
                del found[at : at + made.choice((1, 4, 50))]
            case _:
                del found[at:]
        if len(found) < 10:
            return bytes(found)
    return bytes(found)


@COMPILED
@pytest.mark.parametrize("suffix", PLAIN)
def test_a_damaged_file_is_not_plain_or_is_read_as_the_libraries_read_it(tmp_path: Path, suffix: str) -> None:
    made = random.Random(suffix)
    whole = make_audio(tmp_path / f"song{suffix}", tags=TEXTS).read_bytes()
    path = tmp_path / f"damaged{suffix}"
    compared = 0
    for _ in range(600):
        path.write_bytes(damaged(whole, made))
        if (plain := plainly_read(path)) is None:
            continue
        layout = layout_of(path)
        assert (layout.cut_short, layout.only_mutagen) == (False, False)
        assert layout.has_cover == plain[-1]
        try:
            its = fields_by_mutagen(path)
        except mutagen.MutagenError:  # of a wrong bit that says nothing
            continue
        mine = plain_fields(path)
        for fields in (mine, its):
            del fields["bitrate_kbps"], fields["duration_seconds"]
        assert mine == its
        compared += 1
    assert compared > 100
