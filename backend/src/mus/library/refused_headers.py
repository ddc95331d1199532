"""The sound's headers and the tags of files that mutagen refuses although they play. Part of `tag_reader`."""

from __future__ import annotations

import contextlib
import io
import struct
from types import SimpleNamespace
from typing import Any, BinaryIO

import mutagen
import mutagen.apev2
import mutagen.flac
import mutagen.id3
import mutagen.mp3

_MAX_PARTS = 256
_MAX_TAG_BYTES = 64 * 1024 * 1024
_MAX_WAVPACK_BLOCK_BYTES = 1024 * 1024
_WAVPACK_RATE = 0x27
_DSD_FLAG = 1 << 31


def open_refused(file: BinaryIO, kind: str) -> Any:
    """An object with `info` and `tags` as mutagen's have; None if there is no sound. Raises what mutagen raises."""
    file.seek(0)
    opened = _OPENERS.get(kind)
    return opened(file) if opened else None


def _mp3(file: BinaryIO) -> Any:
    """The tag is broken."""
    return SimpleNamespace(info=mutagen.mp3.MPEGInfo(file), tags=None)


def _flac(file: BinaryIO) -> Any:
    """A metadata block behind the first one is broken."""
    head = file.read(42)
    if len(head) < 42 or not head.startswith((b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")):
        return None
    return SimpleNamespace(info=mutagen.flac.StreamInfo(head[8:]), tags=None, pictures=[])


def _wav(file: BinaryIO) -> Any:
    """RF64 (EBU Tech 3306): WAV of more than 4 GiB, its 64-bit lengths in a chunk of their own."""
    info, tags = SimpleNamespace(sample_rate=0, channels=0, bitrate=0, length=0.0), None
    if not file.read(12).startswith((b"RF64", b"BW64")):
        return None
    position, data_bytes = 12, 0
    for _ in range(_MAX_PARTS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        if name == b"ds64" and length >= 24:
            data_bytes = struct.unpack("<8xQ", file.read(16))[0]
        elif name == b"fmt " and length >= 16:
            _, info.channels, info.sample_rate, rate_bytes = struct.unpack("<HHII", file.read(12))
            info.bitrate = rate_bytes * 8
        elif name == b"data" and length == 0xFFFF_FFFF:
            length = data_bytes
        elif name.lower() == b"id3 " and length <= _MAX_TAG_BYTES:
            with contextlib.suppress(mutagen.MutagenError):
                tags = mutagen.id3.ID3(io.BytesIO(file.read(length)), translate=False)
        if name == b"data" and info.bitrate:
            info.length = length * 8 / info.bitrate
        position += 8 + length + length % 2
    return SimpleNamespace(info=info, tags=tags)


def _wavpack(file: BinaryIO) -> Any:
    """A rate that has no number in the block's header, as 176,400 Hz: it stands in a part of its own."""
    head = file.read(32)
    if len(head) < 32 or not head.startswith(b"wvpk"):
        return None
    block_bytes, samples, flags = struct.unpack("<4xI4xI8xI", head[:28])
    parts = io.BytesIO(file.read(max(0, min(block_bytes, _MAX_WAVPACK_BLOCK_BYTES) - 24)))
    rate = 0
    while len(part := parts.read(2)) == 2:
        length = part[1] << 1
        if part[0] & 0x80:
            length |= int.from_bytes(parts.read(2), "little") << 9
        content = parts.read(length)
        if part[0] & 0x3F == _WAVPACK_RATE:
            rate = int.from_bytes(content[:3], "little")
    if not rate:
        return None
    rate *= 4 if flags & _DSD_FLAG else 1
    seconds = samples / rate if samples != 0xFFFF_FFFF else 0.0
    info = SimpleNamespace(sample_rate=rate, channels=1 if flags & 4 else 2, bitrate=0, length=seconds)
    file.seek(0)
    tags = None
    with contextlib.suppress(mutagen.MutagenError):
        tags = mutagen.apev2.APEv2(file)
    return SimpleNamespace(info=info, tags=tags)


_OPENERS = {"mp3": _mp3, "flac": _flac, "wav": _wav, "wavpack": _wavpack}
