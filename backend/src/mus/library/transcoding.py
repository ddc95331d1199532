"""Making another format of a file's sound, for players that cannot play the file itself.

The same file gives the same bytes each time: who was sent a part of what one attempt made can go on with what the
next one makes. PyAV is imported when first used, so that a reader of tags does not pay for it. Memory does not grow
with the file's length.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

from mus.errors import ErrorCategory
from mus.library.file_reading import FileStat
from mus.library.safe_open import UnreadableFileError, explain, open_inside
from mus.library.sound import opened_sound, packets
from mus.library.tag_layout import Window, look


class TargetFormat(StrEnum):
    """Formats that every browser plays one of."""

    OPUS = "opus"
    MP3 = "mp3"


class Encoding(NamedTuple):
    """How a format is made, and what it is to be called."""

    container: str
    encoder: str
    options: dict[str, str]
    container_options: dict[str, str]
    media_type: str
    suffix: str
    #: For guesses of how large it will be.
    bytes_a_second: int


#: Raised when other bytes are made of the same file: what was made before is not used any more.
ENCODING_VERSION = 1
#: No time, version or random number in it. Both note how many samples at both ends are none of the sound: Opus in
#: its header and its last page, MP3 in the frame that LAME is known by.
_REPEATABLE = {"fflags": "+bitexact"}
ENCODINGS = {
    TargetFormat.OPUS: Encoding(
        "ogg",
        "libopus",
        {"b": "160000", "vbr": "on"},
        _REPEATABLE,
        "audio/ogg; codecs=opus",
        ".opus",
        20_000,
    ),
    TargetFormat.MP3: Encoding(
        "mp3",
        "libmp3lame",
        {"flags": "+qscale", "global_quality": "0"},  # LAME's -V 0
        {**_REPEATABLE, "id3v2_version": "0"},
        "audio/mpeg",
        ".mp3",
        32_000,
    ),
}
#: A longer sound is none that anybody made: a few bytes can decode to hours.
_LONGEST_SECONDS = 100 * 3600.0


@dataclass(frozen=True, slots=True)
class TranscodeOrder:
    """What to make of a file, and where it goes."""

    format: TargetFormat
    #: An empty file that is there, absolute.
    target: str
    #: The version of the file that is meant.
    expected: FileStat
    most_bytes: int
    #: What of the sound's beginning is left out.
    start_seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "target": self.target,
            "expected": self.expected.as_json(),
            "most_bytes": self.most_bytes,
            "start_seconds": self.start_seconds,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TranscodeOrder:
        expected = FileStat(*values["expected"])
        return cls(**{**values, "format": TargetFormat(values["format"]), "expected": expected})


@dataclass(frozen=True, slots=True)
class Transcoded:
    """How it went; with `error_message` set, only that and the other fields of the error count."""

    seconds: float = 0.0
    vanished: bool = False
    error_category: ErrorCategory | None = None
    error_message: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Transcoded:
        given = dict(values)
        if category := given.get("error_category"):
            given["error_category"] = ErrorCategory(category)
        return cls(**given)


def transcode(
    root: bytes, path: bytes, order: TranscodeOrder, *, report: Callable[[], None] = lambda: None
) -> Transcoded:
    """Decode the file at `path`, relative to `root`, and write it anew. Never raises for what a file holds or
    lacks.

    Whatever is damaged is passed over, as players do. `report` is called whenever it gets on.
    """
    try:
        descriptor, found = open_inside(root, path)
    except UnreadableFileError as error:
        return _failed(error)
    target = None
    try:
        if not _is_version(found, order.expected):
            raise _CHANGED
        target = _Target(order.target)
        layout = look(Window(descriptor, found.st_size))
        with opened_sound(descriptor, layout, path) as (container, stream):
            encoder = _Encoder(order, target, stream.codec_context.channels)
            for frame in _frames(container, stream, order.start_seconds):
                encoder.add(frame)
                report()
            encoder.finish()
        if not _is_version(os.fstat(descriptor), order.expected):
            raise _CHANGED
        return Transcoded(encoder.seconds)
    except UnreadableFileError as error:
        if target is not None and target.failure is not None:
            reason = f"The transcoded file cannot be written: {target.failure.strerror}"
            return Transcoded(error_category=ErrorCategory.TEMPORARY, error_message=reason)
        return _failed(error)
    except OSError as error:
        return _failed(explain(error))
    finally:
        os.close(descriptor)
        if target is not None:
            target.close()


_CHANGED = UnreadableFileError("The file was changed meanwhile", category=ErrorCategory.TEMPORARY)


def _is_version(found: os.stat_result, expected: FileStat) -> bool:
    return FileStat.of(found)[:2] == expected[:2]


def _failed(error: UnreadableFileError) -> Transcoded:
    return Transcoded(vanished=error.vanished, error_category=error.category, error_message=error.message)


def _frames(container: Any, stream: Any, start_seconds: float) -> Iterator[Any]:
    """The decoded sound from `start_seconds` on, to within a frame."""
    import av

    context = stream.codec_context
    # A listener waits for the first second of it only: one core keeps far ahead of them.
    context.thread_count = 1
    first = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
    if start_seconds > 0:
        with suppress(av.FFmpegError):  # a container that knows no places is decoded from its beginning
            container.seek(int((first + start_seconds) * av.time_base))
    at = first
    for packet in _with_end(packets(container, stream, broke_off=lambda _: None)):
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            continue
        for frame in frames:
            if frame.samples <= 0 or frame.sample_rate <= 0:
                continue
            # A frame without a time follows the one before it.
            at = (at if frame.time is None else frame.time) + frame.samples / frame.sample_rate
            if start_seconds > 0 and at <= first + start_seconds:
                continue
            yield frame


def _with_end(arriving: Iterator[Any]) -> Iterator[Any]:
    yield from arriving
    yield None  # what the decoder kept back


class _Target(io.FileIO):
    """The file that is written. What goes wrong with it is no fault of the file that is read."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        super().__init__(os.open(path, flags), "r+")
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """All of it."""
        view = memoryview(data)
        try:
            while view:
                view = view[super().write(view) :]
        except OSError as error:
            self.failure = error
            raise
        return len(data)


class _Encoder:
    """Writes frames of any form, one after another, as one sound."""

    def __init__(self, order: TranscodeOrder, target: _Target, channels: int) -> None:
        self._order, self._encoding, self._file = order, ENCODINGS[order.format], target
        self._layout = "mono" if channels == 1 else "stereo"
        self._form: tuple[Any, ...] = ()
        self._resampler: Any = None
        self._samples = self._rate = 0
        self._output: Any = None
        self._stream: Any = None

    @property
    def seconds(self) -> float:
        return self._samples / self._rate if self._rate else 0.0

    def add(self, frame: Any) -> None:
        """Raises UnreadableFileError for a sound that is too long, OSError when it cannot be written."""
        import av

        if self._output is None:
            self._begin(frame.sample_rate)
        form = (frame.sample_rate, frame.format.name, frame.layout.name)
        if form != self._form:
            self._flush()
            self._form = form
            self._resampler = av.AudioResampler(
                format=self._stream.codec_context.format, layout=self._layout, rate=self._rate
            )
        # Gaps between a file's times are nothing that was heard before either.
        frame.pts = None
        self._encode(self._resampler.resample(frame))
        if self._file.tell() > self._order.most_bytes or self.seconds > _LONGEST_SECONDS:
            raise UnreadableFileError("This sound is too long to be transcoded")

    def finish(self) -> None:
        """Raises UnreadableFileError where there was no sound."""
        if self._output is None:
            raise UnreadableFileError(
                "The sound ends before this place"
                if self._order.start_seconds
                else "Nothing of the sound can be decoded: the file is damaged"
            )
        self._flush()
        self._mux(self._stream.encode(None))
        self._output.close()
        os.fsync(self._file.fileno())

    def _begin(self, rate: int) -> None:
        import av

        # Opus knows one rate; for MP3 that of CDs where it is one of its kind, as that costs nothing.
        self._rate = 44_100 if self._order.format is TargetFormat.MP3 and rate % 11_025 == 0 else 48_000
        encoding = self._encoding
        self._output = av.open(
            self._file, "w", format=encoding.container, container_options=dict(encoding.container_options)
        )
        self._stream = self._output.add_stream(
            encoding.encoder, rate=self._rate, layout=self._layout, options=dict(encoding.options)
        )

    def _flush(self) -> None:
        if self._resampler is not None:
            self._encode(self._resampler.resample(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            frame.pts, frame.time_base = self._samples, Fraction(1, self._rate)
            self._samples += frame.samples
            self._mux(self._stream.encode(frame))

    def _mux(self, encoded: list[Any]) -> None:
        for packet in encoded:
            self._output.mux(packet)
