"""The sound inside a file, by PyAV: opened safely, its packets in order, and their hash. Nothing is decoded here.

PyAV is imported when first used, so that a reader of tags does not pay for it.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mus.library.file_reading import FileStat
from mus.library.safe_open import UnreadableFileError, open_inside
from mus.library.tag_layout import Layout, Window, look

#: FFmpeg's demuxer by `audio_formats.sniff`. It is named, never guessed: a playlist or a list of
#: other files that calls itself `.mp3` would make FFmpeg open what it names.
_DEMUXERS = {
    "mp3": "mp3",
    "flac": "flac",
    "mp4": "mov",
    "aac": "aac",
    "vorbis": "ogg",
    "opus": "ogg",
    "ogg-flac": "ogg",
    "speex": "ogg",
    "wav": "wav",
    "aiff": "aiff",
    "wma": "asf",
    "ape": "ape",
    "wavpack": "wv",
    "musepack": "mpc",
    "dsf": "dsf",
}
#: Two files of one sound have equal hashes; 128 bits leave no chance of another reason.
HASH_BYTES = 16
_READ_BYTES = 1024 * 1024


def kind_of(layout: Layout, path: bytes) -> str:
    """As `audio_formats.sniff`; an mp3 that begins with junk is one by its name. Raises UnreadableFileError."""
    kind = layout.kind or ("mp3" if path.lower().endswith(b".mp3") else "")
    if kind not in _DEMUXERS:
        raise UnreadableFileError("No sound was found in this file")
    return kind


@contextmanager
def opened_sound(descriptor: int, layout: Layout, path: bytes) -> Iterator[tuple[Any, Any]]:
    """FFmpeg's container and first audio stream. Raises UnreadableFileError, also for what FFmpeg raises inside."""
    import av

    demuxer = "mpc8" if layout.head.startswith(b"MPCK") else _DEMUXERS[kind_of(layout, path)]
    # The descriptor's own name: what was opened and checked is what FFmpeg reads.
    name = f"/proc/self/fd/{descriptor}" if os.path.exists("/proc/self/fd") else f"/dev/fd/{descriptor}"
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(name, format=demuxer, options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise UnreadableFileError("There is no sound in this file")
            yield container, container.streams.audio[0]
    except av.FFmpegError as error:
        raise UnreadableFileError(f"The sound cannot be read: {error.strerror or 'it is damaged'}") from None
    except UnreadableFileError:
        raise
    except Exception:  # noqa: BLE001 - what PyAV makes of a damaged file is the file's fault, not the program's
        raise UnreadableFileError("The sound cannot be read: it is damaged") from None


def packets(container: Any, stream: Any, *, broke_off: Callable[[Any], None] | None = None) -> Iterator[Any]:
    """The stream's packets that hold something; what comes before damage counts, and `broke_off` is told of it."""
    import av

    came = False
    try:
        for packet in container.demux(stream):
            if packet.size:
                came = True
                yield packet
    except av.FFmpegError as error:
        if not came:
            raise
        if broke_off is not None:
            broke_off(error)


class SoundHash:
    """A hash over the packets of one sound, fed in order. Tags and pictures lie outside them.

    FFmpeg takes the tags at the end of a Monkey's Audio file for part of its last packet: there the bytes between
    the tags are hashed in the packets' place.
    """

    def __init__(self, descriptor: int, size: int, layout: Layout, codec: str) -> None:
        self._hash = hashlib.blake2b(codec.encode(), digest_size=HASH_BYTES)
        self._is_whole = layout.kind == "ape"
        if self._is_whole:
            self._add_between(descriptor, layout.start, end_of_sound(descriptor, size))

    def add(self, packet: Any) -> None:
        if not self._is_whole:
            self._hash.update(packet)

    def digest(self) -> bytes:
        return self._hash.digest()

    def _add_between(self, descriptor: int, start: int, end: int) -> None:
        while start < end and (part := os.pread(descriptor, min(_READ_BYTES, end - start), start)):
            self._hash.update(part)
            start += len(part)


def end_of_sound(descriptor: int, size: int) -> int:
    """Where an APEv2 tag, and an ID3v1 tag behind it, begin."""
    if os.pread(descriptor, 3, max(0, size - 128)) == b"TAG":
        size -= 128
    footer = os.pread(descriptor, 32, max(0, size - 32))
    if footer.startswith(b"APETAGEX") and len(footer) == 32:
        length, flags = int.from_bytes(footer[12:16], "little"), int.from_bytes(footer[20:24], "little")
        size -= length + (32 if flags & 1 << 31 else 0)
    return max(0, size)


@dataclass(frozen=True, slots=True)
class HeardSound:
    """The hash of a file's sound, and which version of the file that is. No hash: no sound could be read."""

    path: bytes
    audio_hash: bytes | None = None
    stat: FileStat | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, without the path, which both ends know."""
        return {
            "audio_hash": self.audio_hash and self.audio_hash.hex(),
            "stat": self.stat and self.stat.as_json(),
        }

    @classmethod
    def from_json(cls, path: bytes, values: Mapping[str, Any]) -> HeardSound:
        audio_hash, stat = values["audio_hash"], values["stat"]
        return cls(path, audio_hash and bytes.fromhex(audio_hash), stat and FileStat(*stat))


def hear(root: bytes, path: bytes) -> HeardSound:
    """Hash the sound of the file at `path`, relative to `root`: one pass over the file.

    The same sound gives the same hash whatever its tags and pictures say. Never raises for what a file holds or
    lacks.
    """
    try:
        descriptor, before = open_inside(root, path)
    except UnreadableFileError:
        return HeardSound(path)
    try:
        audio_hash = _hash_of(descriptor, before.st_size, path)
        return HeardSound(path, audio_hash, FileStat.of(os.fstat(descriptor)))
    except (UnreadableFileError, OSError):
        return HeardSound(path)
    finally:
        os.close(descriptor)


def _hash_of(descriptor: int, size: int, path: bytes) -> bytes | None:
    layout = look(Window(descriptor, size))
    if size == 0 or layout.cut_short:
        return None
    with opened_sound(descriptor, layout, path) as (container, stream):
        sound = SoundHash(descriptor, size, layout, stream.codec_context.name)
        came = False
        for packet in packets(container, stream):
            sound.add(packet)
            came = True
    return sound.digest() if came else None
