"""Damaged music of every format, through real readers: none dies, hangs or balloons, and what they say is clean.

Damage follows each format's structure: lengths that lie, blocks that come twice or not at all, tags of one
format in front of another. With MUS_TEST_FUZZ_EXAMPLES=5000 so many files of each format are tried, other ones
each time; a file that is found stays in pytest's temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import SUFFIXES, make_audio
from mus.library.analysis import Analysis
from mus.library.audio_formats import mpeg_frame_length
from mus.library.file_reading import FileReading
from mus.library.reader_pool import ReaderPool
from mus.library.sound import HeardSound
from mus.library.tag_values import LYRICS_TEXT, MAX_VALUES

EXAMPLES = int(os.environ.get("MUS_TEST_FUZZ_EXAMPLES", "0"))
FILE_SECONDS = 20.0
#: An analyser that has imported its libraries takes about 90 MB.
MOST_MEMORY_KB = 400_000
TAGS = {
    "title": "Ångström",
    "artist": ["A", "B"],
    "albumartist": "C",
    "album": "Album",
    "tracknumber": 3,
    "tracktotal": 9,
    "discnumber": 1,
    "date": "2001-02-03",
    "genre": ["Jazz", "Fusion"],
    "comment": "Words",
    "lyrics": "La\nla",
    "compilation": 1,
    "musicbrainz_trackid": "a3b1c0c0-0000-4000-8000-000000000001",
    "replaygain_track_gain": "-6.50 dB",
    "replaygain_track_peak": "0.98",
}
#: What breaks parsers where text or a number is expected.
ODD_BYTES = (
    b"\0", b"\0\0\0\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xfe", b"\xfe\xff",
    b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\x1b[2J", b"nan", b"inf", b"1e309", b"-1", b"9" * 30, b"(139)",
    b"ID3\x04\0\xf0\x7f\x7f\x7f\x7f", b"TAG", b"APETAGEX", b"fLaC", b"OggS", b"RIFF", b"ftyp", b"\xff\xfb\x90\x64",
)  # fmt: skip


class Block(NamedTuple):
    """A part of a file that says how long it is: its bytes, and where its length stands."""

    start: int
    end: int
    length_at: int
    length_bytes: int
    order: Any = "big"


@cache
def whole(suffix: str) -> bytes:
    return make_audio(_folder / f"whole{suffix}", seconds=0.2, tags=TAGS, picture=_picture()).read_bytes()


_folder = Path()


@pytest.fixture(autouse=True, scope="module")
def _sounds(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _folder
    _folder = tmp_path_factory.mktemp("whole")


@cache
def _picture() -> bytes:
    gradient = pyvips.Image.xyz(30, 30)[0].cast("uchar")
    return bytes(gradient.bandjoin([gradient, gradient]).copy(interpretation="srgb").pngsave_buffer())


def blocks(data: bytes, start: int = 0) -> list[Block]:
    """The parts of a file of any format, inner ones too."""
    head = data[start : start + 16]
    if head.startswith(b"ID3") and len(head) >= 10:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        frames = list(_chunks(data, start + 10, start + 10 + size, 4, 4, 10))
        return [Block(start, start + 10 + size, start + 6, 4), *frames, *blocks(data, start + 10 + size)]
    if head.startswith(b"fLaC"):
        return list(_chunks(data, start + 4, len(data), 1, 3, 4))
    if head.startswith(b"OggS"):
        return list(_pages(data, start))
    if head[4:8] == b"ftyp":
        return list(_atoms(data, start, len(data)))
    if head.startswith((b"RIFF", b"FORM")):
        order = "little" if head.startswith(b"RIFF") else "big"
        parts = list(_chunks(data, start + 12, len(data), 4, 4, 8, order))
        inner = [block for part in parts for block in blocks(data[: part.end], part.start + 8)]
        return [Block(start, len(data), start + 4, 4, order), *parts, *inner]
    if head.startswith(b"\x30\x26\xb2\x75"):
        header_end = start + int.from_bytes(data[start + 16 : start + 24], "little")
        outer = _chunks(data, start, len(data), 16, 8, 0, "little")
        return [*outer, *_chunks(data, start + 30, header_end, 16, 8, 0, "little")]
    if head.startswith(b"wvpk"):
        return [*_chunks(data, start, len(data), 4, 4, 8, "little"), *_ape(data)]
    if head.startswith(b"DSD "):
        return [*_chunks(data, start, len(data), 4, 8, 0, "little"), *blocks(data, _number(data, start + 20))]
    return [*_mpeg_frames(data, start), *_ape(data)]


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little") or len(data)


def _chunks(
    data: bytes, at: int, end: int, name: int, length: int, header: int, order: Any = "big"
) -> Iterator[Block]:
    """Blocks of a name, a length and a content; with a `header` of 0 the length counts all of the block."""
    while at + name + length < min(end, len(data)):
        size = int.from_bytes(data[at + name : at + name + length], order)
        stop = at + header + size + (size % 2 if header == 8 and name == 4 else 0)
        if stop <= at or stop > end:
            return
        yield Block(at, stop, at + name, length, order)
        at = stop


def _pages(data: bytes, at: int) -> Iterator[Block]:
    while data[at : at + 4] == b"OggS" and at + 27 < len(data):
        table = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(table) + sum(table)
        yield Block(at, end, at + 26, 1)
        yield Block(at + 27 + len(table), end, at + 27, max(1, len(table)))
        at = end


def _atoms(data: bytes, at: int, end: int) -> Iterator[Block]:
    while at + 8 <= end:
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8 or at + size > end:
            return
        yield Block(at, at + size, at, 4)
        if (
            name in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"ilst"}
            or data[at + 12 : at + 16] == b"data"
        ):
            yield from _atoms(data, at + 8, at + size)
        elif name in {b"meta", b"stsd"}:
            yield from _atoms(data, at + (12 if name == b"meta" else 16), at + size)
        at += size


def _mpeg_frames(data: bytes, at: int) -> Iterator[Block]:
    while at < len(data):
        size = mpeg_frame_length(data, at)
        if at + 6 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
            size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        if not size:
            yield Block(at, min(at + 80, len(data)), at + 4, 4, "little")
            return
        yield Block(at, at + size, at + 2, 2)
        at += size


def _ape(data: bytes) -> Iterator[Block]:
    footer = data.rfind(b"APETAGEX")
    if footer >= 0:
        size = int.from_bytes(data[footer + 12 : footer + 16], "little")
        start = footer + 32 - size
        yield Block(start, footer + 32, footer + 12, 4, "little")
        while start < footer:
            length = int.from_bytes(data[start : start + 4], "little")
            end = data.find(b"\0", start + 8) + 1 + length
            if end <= start:
                return
            yield Block(start, end, start, 4, "little")
            start = end


class Damaged(bytes):
    """Bytes that hypothesis does not print whole."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@st.composite
def damaged(draw: Callable[[Any], Any], suffix: str) -> Damaged:
    data = bytearray(whole(suffix))
    for _ in range(draw(st.integers(1, 4))):
        parts = blocks(bytes(data)) or [Block(0, len(data), 0, 4)]
        part = draw(st.sampled_from(parts))
        border = draw(st.sampled_from([part.start, part.end, part.length_at]))
        near = max(0, min(len(data), border + draw(st.integers(-4, 40))))
        match draw(st.integers(0, 9)):
            case 0:
                for _ in range(draw(st.integers(1, 12))):
                    if data:
                        data[min(near, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
                    near = max(0, min(len(data) - 1, border + draw(st.integers(0, 60))))
            case 1 | 2:
                honest = int.from_bytes(data[part.length_at : part.length_at + part.length_bytes], part.order)
                highest = (1 << 8 * part.length_bytes) - 1
                lies = [
                    0,
                    1,
                    7,
                    honest - 1,
                    honest + 1,
                    highest,
                    highest >> 1,
                    (highest >> 1) + 1,
                    len(data),
                    highest - 7,
                ]
                lie = draw(st.sampled_from(lies)) & highest
                data[part.length_at : part.length_at + part.length_bytes] = lie.to_bytes(
                    part.length_bytes, part.order
                )
            case 3:
                del data[near:]
            case 4:
                times = draw(st.sampled_from([1, 2, 300]))
                data[part.end : part.end] = data[part.start : part.end][:4000] * times
            case 5:
                del data[part.start : part.end]
            case 6:
                other = draw(st.sampled_from(parts))
                first, second = sorted((part, other))
                if first.end <= second.start:
                    between = data[first.end : second.start]
                    swapped = data[second.start : second.end] + between + data[first.start : first.end]
                    data[first.start : second.end] = swapped
            case 7:
                data[near:near] = draw(
                    st.one_of(st.binary(max_size=64), st.sampled_from(ODD_BYTES), st.just(bytes(5000)))
                )
            case 8:
                odd = draw(st.sampled_from(ODD_BYTES))
                data[near : near + len(odd)] = odd
            case _:
                guest = whole(draw(st.sampled_from(SUFFIXES)))
                part = draw(st.sampled_from(blocks(guest) or [Block(0, 400, 0, 4)]))
                place = draw(st.sampled_from([0, near, len(data)]))
                data[place:place] = guest[part.start : part.end][:8000]
    return Damaged(_with_right_sums(bytes(data)) if draw(st.booleans()) else data)


def _with_right_sums(data: bytes) -> bytes:
    """Ogg pages with the checksums of what is in them now, so that damage gets past FFmpeg's first look."""
    fixed = bytearray(data)
    for page in list(_pages(data, max(0, data.find(b"OggS"))))[::2][:40]:
        if page.end <= len(data):
            fixed[page.start + 22 : page.start + 26] = bytes(4)
            fixed[page.start + 22 : page.start + 26] = _ogg_sum(fixed[page.start : page.end]).to_bytes(4, "little")
    return bytes(fixed)


def _ogg_sum(page: bytes) -> int:
    register = 0
    for byte in page:
        register = (register << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[register >> 24 ^ byte]
    return register


def _ogg_table_entry(index: int) -> int:
    register = index << 24
    for _ in range(8):
        register = register << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if register & 0x80000000 else 0)
    return register


_OGG_TABLE = [_ogg_table_entry(index) for index in range(256)]


class Readers:
    """Two real readers, for code that is not async."""

    def __init__(self, thumbnails_dir: Path) -> None:
        self._runner = asyncio.Runner()
        self._thumbnails_dir = thumbnails_dir
        self._pools = self._runner.run(self._opened())
        self._children: dict[ReaderPool, int] = {}

    async def _opened(self) -> list[ReaderPool]:
        return [ReaderPool(1) for _ in range(2)]

    def run(self, operation: Any, path: Path, *, reader: int = 0) -> Any:
        pool = self._pools[reader]
        (result,) = self._runner.run(
            pool.run(
                operation,
                os.fsencode(path.parent),
                [os.fsencode(path.name)],
                thumbnails_dir=self._thumbnails_dir,
                file_timeout_seconds=FILE_SECONDS,
            )
        )
        (child,) = pool.process_ids or (0,)
        assert child == self._children.setdefault(pool, child), f"a reader died: {result}"
        return result

    def most_memory_kb(self) -> int:
        statuses = [Path(f"/proc/{child}/status").read_text() for child in self._children.values()]
        return max(int(status.partition("VmHWM:")[2].split()[0]) for status in statuses)

    def close(self) -> None:
        for pool in self._pools:
            self._runner.run(pool.aclose())
        self._runner.close()


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[Readers]:
    readers = Readers(tmp_path / "thumbnails")
    yield readers
    readers.close()


def check_clean(value: Any) -> None:
    if isinstance(value, str):
        assert value.encode("utf-8").decode("utf-8") == value
        assert not [char for char in value if unicodedata.category(char) == "Cc" and char not in "\t\n\r"]
        assert len(value) <= LYRICS_TEXT
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(1 << 63) <= value < 1 << 63
    elif isinstance(value, list):
        assert len(value) <= MAX_VALUES
        for each in value:
            check_clean(each)
    elif isinstance(value, dict):
        for each in value.values():
            check_clean(each)


def check_file(readers: Readers, path: Path) -> None:
    reading: FileReading = readers.run("read", path)
    heard: HeardSound = readers.run("hear", path)
    analysis: Analysis = readers.run("analyse", path)

    for result in (reading, heard, analysis):
        values = json.loads(json.dumps(result.as_json(), allow_nan=False))
        check_clean(values)
        assert type(result).from_json(result.path, values) == result
    # A process whose hashes have another seed reads the same.
    assert readers.run("read", path, reader=1) == reading
    assert reading.title
    assert (reading.error_message is None) == (reading.format is not None)
    assert (analysis.error_message is None) == (analysis.duration_seconds is not None)
    if analysis.error_message is None:
        assert analysis.audio_hash == (heard.audio_hash and heard.audio_hash.hex())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by /proc")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_harms_a_reader_or_gets_through_it(tmp_path: Path, readers: Readers, suffix: str) -> None:
    path = tmp_path / f"fuzzed{suffix}"

    @settings(
        max_examples=EXAMPLES or 20,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=damaged(suffix))
    def check(data: Damaged) -> None:
        path.write_bytes(data)
        check_file(readers, path)

    check_file(readers, make_audio(path, seconds=0.2, tags=TAGS, picture=_picture()))
    check()
    assert readers.most_memory_kb() < MOST_MEMORY_KB
