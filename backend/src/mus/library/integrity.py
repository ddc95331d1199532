"""Whether a file's sound is all there and undamaged, as far as its decoder and its checksums tell.

A false alarm is worse than damage that nobody notices: what good files are known to hold (tags and junk around the
sound of an MP3, a first frame that refers to what was cut off) counts as no damage.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from typing import Any

from mus.library.sound import end_of_sound
from mus.library.tag_layout import Layout, synchsafe


class Integrity(StrEnum):
    SOUND = "sound"  # nothing speaks against it
    DAMAGED = "damaged"  # it plays, but not as it once did; the notes say why
    UNCHECKED = "unchecked"  # it could not be checked; the note says why


#: Frames without a frame around them that tells where they begin: junk may look like one, and a frame may refer to
#: one before it that was cut off.
_BARE_STREAMS = frozenset({"mp3", "aac"})
#: Packets of a bare stream until its decoder must have all it refers to: 511 bytes of an MP3 of 8 kbit/s.
_RUN_IN = 20
#: Good packets after trouble in a bare stream that show that it was inside the sound, not in junk behind it.
_SOUND_GOES_ON = 3
#: Less than the header promises, in seconds and as a part, that is not rounding, padding or a miscounted frame.
_MISSING_SECONDS, _MISSING_PART = 1.0, 0.002
_OGG_KINDS = frozenset({"vorbis", "opus", "ogg-flac", "speex"})
#: An Ogg page is at most so long.
_OGG_PAGE_BYTES = 27 + 255 + 255 * 255


class IntegrityCheck:
    """Listens along while a file is decoded, packet by packet in order."""

    def __init__(self, descriptor: int, size: int, layout: Layout, kind: str, stream: Any) -> None:
        self._kind = kind
        self._end = end_of_sound(descriptor, size) if kind in _BARE_STREAMS else size
        self._is_page_cut = kind in _OGG_KINDS and _ends_inside_a_page(descriptor, size)
        self._md5 = FlacMd5.of(stream)
        self._packets = 0
        #: Where an ID3v2 tag inside the stream ends, of the last one.
        self._tag_end = 0
        self._places = 0
        self._first_seconds = 0.0
        #: Trouble of which is not known yet whether sound follows, and since how many good packets.
        self._doubtful: list[float] = []
        self._good_since = 0

    def add_packet(self, packet: Any, seconds: float, *, has_trouble: bool) -> None:
        """A packet, `seconds` into the sound, was decoded; or not, or not well. None: there should be one."""
        self._packets += 1
        is_bare = self._kind in _BARE_STREAMS
        if has_trouble:
            if not (is_bare and (self._packets <= _RUN_IN or self._is_no_sound(packet))):
                self._doubtful.append(seconds)
            self._good_since = 0
            return
        self._good_since += 1
        if self._doubtful and self._good_since >= (_SOUND_GOES_ON if is_bare else 1):
            self._settle()

    def _is_no_sound(self, packet: Any) -> bool:
        """Whether a packet lies behind the sound, or in a tag between two that somebody put in a row."""
        if packet is None or packet.pos is None:
            return False
        data = bytes(packet)
        tag = data.find(b"ID3")
        if tag >= 0 and (length := synchsafe(data[tag + 6 : tag + 10])) >= 0:
            self._tag_end = packet.pos + tag + 10 + length
        return bool(packet.pos >= self._end or packet.pos < self._tag_end)

    def add_frame(self, frame: Any) -> None:
        """A decoded frame, in order."""
        if self._md5 is not None:
            self._md5.add(frame)

    def _settle(self) -> None:
        if self._places == 0 and self._doubtful:
            self._first_seconds = self._doubtful[0]
        self._places += len(self._doubtful)
        self._doubtful = []

    def notes(self, seconds: float, *, promised_seconds: float) -> list[str]:
        """What is wrong, in plain words, after `seconds` of sound were decoded; nothing means sound.

        `promised_seconds` is what the header says, 0 where it says nothing.
        """
        verdict = None if self._md5 is None else self._md5.fits()
        if verdict:
            return []
        if self._kind not in _BARE_STREAMS:
            self._settle()
        notes: list[str] = []
        if self._places:
            count = "One piece" if self._places == 1 else f"{self._places} pieces"
            first = "" if self._places == 1 else "the first "
            notes.append(f"{count} of the sound cannot be decoded, {first}at {clock(self._first_seconds)}")
        if promised_seconds - seconds > max(_MISSING_SECONDS, promised_seconds * _MISSING_PART):
            notes.append(f"The end is missing: {clock(seconds)} of {clock(promised_seconds)} are there")
        if self._is_page_cut:
            notes.append("The end is missing: the last Ogg page is cut")
        if verdict is False:
            notes.append("The sound is not what was encoded: its MD5 is another one than the file says")
        return notes


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _ends_inside_a_page(descriptor: int, size: int) -> bool:
    tail_start = max(0, size - _OGG_PAGE_BYTES)
    tail = os.pread(descriptor, _OGG_PAGE_BYTES, tail_start)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return False  # junk behind the last page: nothing is known
    header = tail[at : at + 27]
    if len(header) < 27:
        return True
    segments = tail[at + 27 : at + 27 + header[26]]
    return len(segments) < header[26] or at + 27 + len(segments) + sum(segments) > len(tail)


class FlacMd5:
    """The MD5 of a FLAC's samples beside the one in its STREAMINFO (RFC 9639, §8.2)."""

    def __init__(self, streaminfo: bytes) -> None:
        numbers = int.from_bytes(streaminfo[10:18], "big")
        self._channels = ((numbers >> 41) & 0x7) + 1
        self._bits = ((numbers >> 36) & 0x1F) + 1
        self._samples = numbers & ((1 << 36) - 1)
        self._expected = streaminfo[18:34]
        self._decoded = 0
        self._is_other = False
        self._hash = hashlib.md5(usedforsecurity=False)

    @classmethod
    def of(cls, stream: Any) -> FlacMd5 | None:
        """For a FLAC whose STREAMINFO has an MD5; encoders that do not know it leave zeros."""
        extradata = stream.codec_context.extradata
        if stream.codec_context.name != "flac" or extradata is None:
            return None
        streaminfo = bytes(extradata)[-34:]
        return cls(streaminfo) if len(streaminfo) == 34 and any(streaminfo[18:]) else None

    def add(self, frame: Any) -> None:
        samples = frame.to_ndarray()
        container_bits = samples.dtype.itemsize * 8
        if frame.layout.nb_channels != self._channels or samples.dtype.kind != "i" or self._bits > container_bits:
            self._is_other = True
            return
        self._decoded += frame.samples
        if frame.format.is_planar:
            samples = samples.T
        # FFmpeg puts the bits at the top of 16 or 32; the MD5 is over as few whole bytes as hold them.
        if shift := container_bits - self._bits:
            samples = samples >> shift
        width = (self._bits + 7) // 8
        if width < samples.dtype.itemsize:
            samples = samples.reshape(-1, 1).view("u1")[:, :width]
        self._hash.update(samples.tobytes())

    def fits(self) -> bool | None:
        """None where it cannot be told: several sounds in one file, or one whose form changes."""
        if self._is_other or (self._samples and self._decoded > self._samples):
            return None
        return self._hash.digest() == self._expected
