"""The slow phase for one file: its exact length, the hash of its sound, and its cover as thumbnails.

PyAV and pyvips are imported when first used, so that a reader of tags does not pay for them.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mus.errors import ErrorCategory
from mus.library.cover_thumbnails import (
    MAX_PICTURE_BYTES,
    PictureError,
    folder_cover,
    write_thumbnails,
)
from mus.library.file_reading import FileStat
from mus.library.safe_open import CUT_SHORT, FiniteFile, UnreadableFileError, explain, open_inside
from mus.library.sound import SoundHash, kind_of, opened_sound, packets
from mus.library.tag_layout import Layout, Window, look

#: Raised when new values are computed: tracks analysed by an older one are analysed again.
ANALYSIS_VERSION = 2

#: Formats whose header gives the length, so that less of it means a file that is cut short.
#: Not WMA, whose header may count a second or more of buffering into it.
_LENGTH_IN_HEADER = frozenset({"flac", "mp4", "wav", "aiff", "ape", "wavpack", "musepack", "dsf"})
#: The number of frames, where a Xing header has one, and in a VBRI header.
_MP3_FRAMES = re.compile(rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})|VBRI.{10}(.{4})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the slow phase found. With `error_message` set, only `path` and `stat` count.

    `stat` tells which version of the file this is about.
    """

    path: bytes
    stat: FileStat | None = None
    changed_while_reading: bool = False
    vanished: bool = False
    error_category: ErrorCategory | None = None
    error_message: str | None = None
    duration_seconds: float | None = None
    #: Name of the thumbnails: `<first two digits>/<cover>_<size>.webp`. None is no cover.
    cover: str | None = None
    #: Why there is no cover although there is a picture.
    cover_note: str | None = None
    #: Of the audio packets without the tags, hex (`sound.SoundHash`).
    audio_hash: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, without what is empty and without the path, which both ends know."""
        values = {name: value for name in _NAMES if (value := getattr(self, name))}
        if self.stat is not None:
            values["stat"] = self.stat.as_json()
        return values

    @classmethod
    def from_json(cls, path: bytes, values: Mapping[str, Any]) -> Analysis:
        given = dict(values)
        if stat := given.get("stat"):
            given["stat"] = FileStat(*stat)
        if category := given.get("error_category"):
            given["error_category"] = ErrorCategory(category)
        return cls(path, **given)


_NAMES = tuple(name for name in Analysis.__dataclass_fields__ if name not in {"path", "stat"})


def analyse(root: bytes, path: bytes, thumbnails_dir: Path) -> Analysis:
    """Analyse the file at `path`, relative to `root`. Never raises for what a file holds or lacks.

    A broken picture leaves a note; thumbnails that cannot be written (a full disk) are a TEMPORARY error.
    """
    stat: FileStat | None = None
    try:
        descriptor, before = open_inside(root, path)
        stat = FileStat.of(before)
        with FiniteFile(descriptor, before.st_size) as file:
            if before.st_size == 0:
                raise UnreadableFileError("The file is empty")
            layout = look(Window(descriptor, before.st_size))
            if layout.cut_short:
                raise UnreadableFileError(CUT_SHORT)
            duration, audio_hash = _listen(descriptor, before.st_size, layout, path)
            cover, note = _cover(file, layout, root, path, thumbnails_dir)
            after = os.fstat(descriptor)
    except UnreadableFileError as error:
        if error.stat_result is not None:
            stat = FileStat.of(error.stat_result)
        return _failed(path, error, stat)
    except OSError as error:
        return _failed(path, explain(error), stat)
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    return Analysis(
        path,
        stat=stat,
        changed_while_reading=changed,
        duration_seconds=duration,
        audio_hash=audio_hash,
        cover=cover,
        cover_note=note,
    )


def _failed(path: bytes, error: UnreadableFileError, stat: FileStat | None) -> Analysis:
    return Analysis(
        path,
        stat=stat,
        vanished=error.vanished,
        error_category=error.category,
        error_message=error.message,
    )


def _listen(descriptor: int, size: int, layout: Layout, path: bytes) -> tuple[float, str]:
    """Seconds of sound from the packets' times, and the hash of the packets: nothing is decoded.

    Raises UnreadableFileError.
    """
    kind = kind_of(layout, path)
    with opened_sound(descriptor, layout, path) as (container, stream):
        sound = SoundHash(descriptor, size, layout, stream.codec_context.name)
        seconds = _demuxed_seconds(packets(container, stream), stream, kind, sound)
        promised = promised_seconds(kind, layout, stream)
    if seconds <= 0:
        raise UnreadableFileError("No sound was found in this file")
    if seconds < promised * 0.9 and promised - seconds > 0.25:
        raise UnreadableFileError(f"The file is cut short: {_minutes(seconds)} of {_minutes(promised)} are there")
    return seconds, sound.digest().hex()


def _demuxed_seconds(arriving: Iterable[Any], stream: Any, kind: str, sound: SoundHash) -> float:
    """Where the last packet ends, from the first one on, in seconds.

    Samples before time 0 (priming of AAC, Vorbis, Opus) do not count. MP3 numbers its packets from 0 and
    tells apart what to skip at both ends.
    """
    first: int | None = None
    end = total = skipped = 0
    for packet in arriving:
        sound.add(packet)
        duration = packet.duration or 0
        if duration >= 1 << 31:
            # An Ogg stream may end inside its last packet but one: FFmpeg's negative length, unsigned.
            duration -= 1 << 32
        total += duration
        if packet.pts is not None:
            first = packet.pts if first is None else first
            end = packet.pts + duration if duration < 0 else max(end, packet.pts + duration)
        if kind == "mp3" and packet.has_sidedata("skip_samples"):
            for data in packet.iter_sidedata():
                if data.data_type == "skip_samples":
                    sides = bytes(data)
                    skipped += int.from_bytes(sides[:4], "little") + int.from_bytes(sides[4:8], "little")
    length = end - max(first, 0) if first is not None else total
    seconds = float(length * stream.time_base)
    # A stream whose codec FFmpeg does not know has no rate; MP3's always has.
    return max(0.0, seconds - skipped / stream.rate) if skipped else seconds


def promised_seconds(kind: str, layout: Layout, stream: Any) -> float:
    """How long the header of the file says that its sound is; 0 where none says so.

    An MP3's count of frames is read here: with junk behind the sound, FFmpeg's `duration` is a guess by the size.
    """
    if kind != "mp3":
        return float(stream.duration * stream.time_base) if kind in _LENGTH_IN_HEADER and stream.duration else 0.0
    found = _MP3_FRAMES.search(layout.head[:512])
    samples_each = 1152 if stream.rate >= 32_000 else 576
    return int.from_bytes(found[1] or found[2], "big") * samples_each / stream.rate if found else 0.0


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _cover(
    file: BinaryIO, layout: Layout, root: bytes, path: bytes, thumbnails_dir: Path
) -> tuple[str | None, str | None]:
    """The cover's name, and why there is none if a picture was there."""
    from mus.library.tag_libraries import embedded_cover

    notes: list[str] = []
    embedded = embedded_cover(file, layout.kind, MAX_PICTURE_BYTES) if layout.kind else None
    for place, picture in (("embedded", embedded), ("folder", None)):
        data = picture if place == "embedded" else folder_cover(root, os.path.dirname(path))
        if data is None:
            continue
        try:
            return write_thumbnails(data, thumbnails_dir), None
        except PictureError as error:
            notes.append(f"The {place} picture cannot be used: {error}")
        except OSError as error:
            raise UnreadableFileError(
                f"The thumbnails cannot be written: {error.strerror or error}",
                category=ErrorCategory.TEMPORARY,
            ) from None
    return None, "; ".join(notes) or None
