"""A first look at where a file's tags, pictures and sound lie, by a few small reads.

tinytag is fast because it skips what it does not know; this finds the files whose tags it would misread
(they go to mutagen), whether there is a cover, and files whose sound is not all there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mus.library.audio_formats import mpeg_frame_length, sniff

HEAD_BYTES = 4096
_LARGEST_BLOCK = 64 * 1024
_MAX_PARTS = 4096
#: From "Crossover" on, which tinytag 2.3 leaves out of its list: each number is the next genre to it.
_MISNUMBERED_GENRES = range(139, 192)
#: Frames that tinytag does not read: relative volume (ReplayGain's old form) and encrypted or linked ones.
_ONLY_MUTAGEN = frozenset({b"RVA2", b"XRVA", b"LINK", b"AENC"})
#: Frames that hold text, beside those that begin with T.
_TEXT_FRAMES = frozenset({b"COMM", b"USLT", b"SYLT", b"UFID"})
_LONGEST_TEXT = 1024 * 1024


@dataclass(slots=True)
class Layout:
    """What the first look found."""

    #: As `audio_formats.sniff`, of the bytes after ID3v2 tags; None is nothing known.
    kind: str | None
    #: The bytes from which `kind` was told.
    head: bytes = b""
    #: Where they lie in the file.
    start: int = 0
    has_id3v2: bool = False
    has_apev2: bool = False
    #: tinytag is known to misread or to leave out something here.
    only_mutagen: bool = False
    has_cover: bool = False
    cut_short: bool = False


class Window:
    """Bytes of a file by position; those of its beginning, and of the last place, are read once."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self.head = os.pread(descriptor, HEAD_BYTES, 0)
        self._block, self._block_start = b"", 0

    def at(self, position: int, count: int) -> bytes:
        if position + count <= len(self.head):
            return self.head[position : position + count]
        if position >= self.size:
            return b""
        offset = position - self._block_start
        if offset < 0 or offset + count > len(self._block):
            # Who goes on from one block into the next, as through the pages of an Ogg file, gets larger ones.
            goes_on = self._block and 0 <= offset <= len(self._block)
            size = min(2 * len(self._block), _LARGEST_BLOCK) if goes_on else HEAD_BYTES
            self._block = os.pread(self.descriptor, max(count, size), position)
            self._block_start, offset = position, 0
        return self._block[offset : offset + count]


def look(window: Window) -> Layout:
    """Find the layout of a file of at least one byte."""
    if not window.head.startswith(b"ID3"):
        layout = Layout(sniff(window.head), window.head)
        start = 0
    else:
        layout = Layout(None, has_id3v2=True)
        start = _walk_id3v2(window, layout)
        layout.start = start
        layout.head = window.at(start, HEAD_BYTES)
        layout.kind = sniff(layout.head)
        if layout.kind is None and (more := layout.head.lstrip(b"\0")) and len(more) >= 4:
            # Some taggers reserve more than they say: the sound begins after a run of zeros.
            layout.kind, layout.only_mutagen = sniff(more), True
        if layout.kind != "mp3":
            layout.only_mutagen = True
        if start >= window.size:
            layout.cut_short = True
    if layout.kind == "mp3":
        layout.only_mutagen |= not _frames_follow(layout.head, window.size - start)
    if layout.kind in {"mp3", "aac"}:
        _look_at_end(window, layout)
    elif layout.kind == "flac":
        _walk_flac(window, start, layout)
    elif layout.kind == "mp4":
        _walk_mp4(window, layout)
    elif layout.kind in {"wav", "aiff"}:
        _walk_chunks(window, layout)
    elif layout.kind == "dsf":
        layout.cut_short = int.from_bytes(layout.head[12:20], "little") > window.size
    return layout


def synchsafe(data: bytes) -> int:
    """ID3v2's 28-bit number of four bytes, or -1 if a high bit is set."""
    if len(data) < 4 or (data[0] | data[1] | data[2] | data[3]) & 0x80:
        return -1
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def _walk_id3v2(window: Window, layout: Layout) -> int:
    """Go through the frames; returns where the tag ends."""
    header = window.at(0, 10)
    size = synchsafe(header[6:10])
    if len(header) < 10 or size < 0:
        layout.only_mutagen = True
        return len(header)
    version, flags = header[3], header[5]
    end = 10 + size + (10 if version == 4 and flags & 0x10 else 0)
    # Unsynchronisation, extended header, and version 2.2 are beyond tinytag or beyond this walk.
    if version not in {3, 4} or flags & 0xE0:
        layout.only_mutagen = True
        layout.has_cover = version == 2 and b"PIC" in window.head
        return end
    position = 10
    for _ in range(_MAX_PARTS):
        if position + 10 > 10 + size:
            return end
        frame = window.at(position, 10)
        name = frame[:4]
        if len(frame) < 10 or name == b"\0\0\0\0":
            return end
        length = int.from_bytes(frame[4:8], "big") if version == 3 else synchsafe(frame[4:8])
        # Sizes that are not synchsafe in 2.4 (an iTunes bug) show as a next frame without a name.
        if length < 0 or not name.isalnum() or frame[9] or position + 10 + length > 10 + size:
            break
        if name == b"APIC":
            layout.has_cover = True
        elif name[0] == 0x54 or name in _TEXT_FRAMES:  # T
            if length > _LONGEST_TEXT or (name == b"TCON" and _is_coded(window.at(position + 10, min(length, 16)))):
                break
        elif name in _ONLY_MUTAGEN:
            break
        position += 10 + length
    layout.only_mutagen = True
    return end


def _is_coded(genre: bytes) -> bool:
    """Whether a genre is given by number, as "17" and "(4)(51)Eurodisco": tinytag reads the first one at most."""
    text = genre[1:].replace(b"\0", b"").lstrip(b"\xff\xfe\xef\xbb\xbf")
    return text[:1] == b"(" or text[:1].isdigit()


def _frames_follow(head: bytes, available: int) -> bool:
    """Whether valid MPEG frames follow each other; tinytag would search all of a file for the next one."""
    position, frames = 0, 0
    while position + 4 <= len(head) and frames < 6:
        length = mpeg_frame_length(head, position)
        if not length:
            return frames > 0 and position >= available - 512
        frames += 1
        position += length
    return True


def _look_at_end(window: Window, layout: Layout) -> None:
    """For an APEv2 tag, perhaps before an ID3v1 tag, and for that one's genre."""
    tail = window.at(max(0, window.size - 160), 160)
    layout.has_apev2 = tail[-32:].startswith(b"APETAGEX")
    if tail[-128:].startswith(b"TAG"):
        layout.has_apev2 |= tail[:-128][-32:].startswith(b"APETAGEX")
        layout.only_mutagen |= tail[-1] in _MISNUMBERED_GENRES


def _walk_flac(window: Window, start: int, layout: Layout) -> None:
    position = start + 4
    for _ in range(_MAX_PARTS):
        header = window.at(position, 4)
        if len(header) < 4:
            layout.cut_short = True
            return
        kind = header[0] & 0x7F
        if kind > 6:  # reserved: a wrong block size before it, which the libraries find their way around
            return
        layout.has_cover |= kind == 6
        position += 4 + int.from_bytes(header[1:4], "big")
        if header[0] & 0x80:
            break
    layout.cut_short = position >= window.size


def _mp4_atoms(window: Window, position: int, end: int) -> list[tuple[bytes, int, int]]:
    """Name, start of the content and end of each atom between two positions of an MP4 file."""
    atoms: list[tuple[bytes, int, int]] = []
    while position + 8 <= end and len(atoms) < _MAX_PARTS:
        header = window.at(position, 16)
        if len(header) < 8:
            break
        length, content = int.from_bytes(header[:4], "big"), position + 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), position + 16
        elif length == 0:
            length = end - position
        if length < content - position:
            break
        atoms.append((header[4:8], content, position + length))
        position += length
    return atoms


def _walk_mp4(window: Window, layout: Layout) -> None:
    if window.head[4:8] != b"ftyp":
        layout.only_mutagen = True
    position, end = 0, window.size
    for name, skipped in ((b"moov", 0), (b"udta", 0), (b"meta", 4), (b"ilst", 0)):
        atoms = _mp4_atoms(window, position, end)
        if name == b"moov":
            layout.cut_short = any(stop > window.size for _, _, stop in atoms) or all(
                atom != b"moov" for atom, _, _ in atoms
            )
        inner = next((atom for atom in atoms if atom[0] == name), None)
        if inner is None:
            return
        position, end = inner[1] + skipped, min(inner[2], window.size)
    names = {name for name, _, _ in _mp4_atoms(window, position, end)}
    layout.has_cover = b"covr" in names
    layout.only_mutagen |= b"gnre" in names  # a genre by its number


def _walk_chunks(window: Window, layout: Layout) -> None:
    """Chunks of RIFF (little-endian) and of AIFF (big-endian)."""
    is_riff = layout.kind == "wav"
    if window.head.startswith((b"RF64", b"BW64")):
        layout.only_mutagen = True
        return
    position, found_sound = 12, False
    for _ in range(_MAX_PARTS):
        header = window.at(position, 8)
        if len(header) < 8:
            break
        length = int.from_bytes(header[4:8], "little" if is_riff else "big")
        if header[:4] in {b"data", b"SSND"}:
            found_sound = True
            # A recorder that could not seek back leaves the greatest number, or near it.
            if position + 8 + length > window.size and length < 0x7FFF_0000:
                layout.cut_short = True
        elif header[:4].lower() == b"id3 ":
            layout.has_cover |= b"APIC" in window.at(position + 8, HEAD_BYTES)
        position += 8 + length + length % 2
    layout.cut_short |= not found_sound
