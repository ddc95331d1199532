"""Listening to one file: loudness, integrity and waveform, in one pass over its decoded sound.

PyAV and NumPy are imported when first used, so that a reader of tags does not pay for them. Memory does not grow
with the file's length.
"""

# Paths are bytes here, which pathlib does not take.

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mus.errors import ErrorCategory
from mus.library.analysis import promised_seconds
from mus.library.integrity import Integrity, IntegrityCheck, clock
from mus.library.loudness import Loudness
from mus.library.safe_open import UnreadableFileError, explain, open_inside
from mus.library.sound import SoundHash, kind_of, opened_sound, packets
from mus.library.tag_layout import Layout, Window, look

if TYPE_CHECKING:
    from mus.library.sound_meters import LoudnessMeter, SoundSteps, WaveformMeter


class Aspect(StrEnum):
    """What listening finds out; each can be switched off."""

    LOUDNESS = "loudness"
    INTEGRITY = "integrity"
    WAVEFORM = "waveform"


#: Raised when an aspect's values are computed anew: tracks with those of an older version are listened to again.
ASPECT_VERSIONS = {Aspect.LOUDNESS: 1, Aspect.INTEGRITY: 1, Aspect.WAVEFORM: 1}

#: Of what FFmpeg's demuxers log as errors, the one that no good file causes: a page of an Ogg stream that does not
#: fit its checksum. "invalid pts -104", for one, comes of files that are whole.
_PAGE_IS_DAMAGED = "CRC mismatch"

#: A longer sound is none that anybody made: a few bytes can decode to hours.
_LONGEST_SECONDS = 100 * 3600.0


@dataclass(frozen=True, slots=True)
class Listening:
    """What listening found. With `error_message` set only that and `path` count: there is nothing to keep.

    `unchecked` is why a file that can be read could not be listened to.
    """

    path: bytes
    #: Of the sound that was listened to: all below belongs to it.
    audio_hash: str | None = None
    vanished: bool = False
    error_category: ErrorCategory | None = None
    error_message: str | None = None
    #: Nothing of the sound can be decoded, though its codec is known.
    is_undecodable: bool = False
    unchecked: str | None = None
    integrated_lufs: float | None = None
    true_peak: float | None = None
    #: `LoudnessBlocks`, as bytes.
    loudness_blocks: bytes | None = None
    integrity: Integrity | None = None
    notes: list[str] = field(default_factory=list)
    waveform: bytes | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, without what is empty and without the path, which both ends know."""
        values = {name: value for name in _NAMES if (value := getattr(self, name)) != _EMPTY.get(name)}
        for name in _BLOBS & values.keys():
            values[name] = base64.b64encode(values[name]).decode()
        return values

    @classmethod
    def from_json(cls, path: bytes, values: Mapping[str, Any]) -> Listening:
        given = dict(values)
        for name in _BLOBS & given.keys():
            given[name] = base64.b64decode(given[name])
        for name, kind in (("error_category", ErrorCategory), ("integrity", Integrity)):
            if given.get(name):
                given[name] = kind(given[name])
        return cls(path, **given)


_EMPTY: dict[str, Any] = {"notes": [], "vanished": False, "is_undecodable": False}
_NAMES = tuple(name for name in Listening.__dataclass_fields__ if name != "path")
_BLOBS = frozenset({"loudness_blocks", "waveform"})


def listen(
    root: bytes, path: bytes, aspects: Collection[Aspect], *, report: Callable[[], None] = lambda: None
) -> Listening:
    """Listen to the file at `path`, relative to `root`. Never raises for what a file holds or lacks.

    `report` is called for every second of sound: a file that takes long is not one that hangs.
    """
    try:
        descriptor, found = open_inside(root, path)
    except UnreadableFileError as error:
        return Listening(path, vanished=error.vanished, error_category=error.category, error_message=error.message)
    try:
        size = found.st_size
        layout = look(Window(descriptor, size))
        with opened_sound(descriptor, layout, path) as (container, stream):
            return _Pass(descriptor, size, layout, path, stream, aspects, report).over(container)
    except UnreadableFileError as error:
        return Listening(path, error_category=error.category, error_message=error.message)
    except OSError as failed:
        reason = explain(failed)
        return Listening(path, error_category=reason.category, error_message=reason.message)
    finally:
        os.close(descriptor)


class _Pass:
    """One pass over one sound."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        layout: Layout,
        path: bytes,
        stream: Any,
        aspects: Collection[Aspect],
        report: Callable[[], None],
    ) -> None:
        from mus.library import sound_meters

        self._meters = sound_meters
        self._path, self._layout, self._stream, self._report = path, layout, stream, report
        self._kind = kind_of(layout, path)
        self._hash = SoundHash(descriptor, size, layout, stream.codec_context.name)
        self._check = (
            IntegrityCheck(descriptor, size, layout, self._kind, stream) if Aspect.INTEGRITY in aspects else None
        )
        self._loudness: LoudnessMeter | None = sound_meters.LoudnessMeter() if Aspect.LOUDNESS in aspects else None
        self._waveform: WaveformMeter | None = sound_meters.WaveformMeter() if Aspect.WAVEFORM in aspects else None
        self._steps: SoundSteps | None = None
        self._form: tuple[Any, ...] = ()
        self._seconds = self._reported = 0.0
        #: Why not all of the sound can be had, though that is no fault of the file.
        self._unsupported: str | None = None
        #: False once the decoder came across something that it was never taught; or something damaged alike.
        self._is_known = True

    def over(self, container: Any) -> Listening:
        context = self._stream.codec_context
        # One file, one core: more would be taken from whoever plays music on this machine.
        context.thread_count = 1
        if context.name == "flac":
            # Each frame's own checksum; the decoder leaves it out otherwise.
            context.options = {"err_detect": "crccheck"}
        with _logged() as log:
            for packet in packets(container, self._stream, broke_off=self._broke_off):
                self._hash.add(packet)
                damage = [text.strip() for _, _, text in log if _PAGE_IS_DAMAGED in text]
                log.clear()
                if context.name == "vorbis" and packet.has_sidedata("new_extradata"):
                    self._decode(context, None, log)
                    context = _next_link(packet)
                self._note(packet, damage + self._decode(context, packet, log))
                if self._seconds > _LONGEST_SECONDS:
                    self._unsupported = f"it is longer than {_LONGEST_SECONDS / 3600:.0f} hours"
                    break
            # What the decoder kept back; trouble with it would have shown before.
            self._decode(context, None, log)
        self._end_steps()
        return self._result()

    def _broke_off(self, error: Any) -> None:
        import av

        if isinstance(error, av.error.PatchWelcomeError):
            # An Ogg file of several sounds in a row, of which the next has another sample rate, for one.
            self._unsupported = f"FFmpeg does not know what comes at {clock(self._seconds)}"
        else:
            self._note(None, [error.strerror or "it is damaged"])

    def _note(self, packet: Any, troubles: list[str]) -> None:
        if self._check is not None:
            self._check.add_packet(packet, self._seconds, has_trouble=bool(troubles))

    def _decode(self, context: Any, packet: Any, log: list[tuple[int, str, str]]) -> list[str]:
        """Decode a packet and measure what comes of it; returns what the decoder complained of."""
        import av

        troubles: list[str] = []
        try:
            frames = context.decode(packet)
        except av.FFmpegError as error:
            troubles.append(error.strerror or "it is damaged")
            frames = []
            self._is_known &= not isinstance(error, av.error.PatchWelcomeError)
        for frame in frames:
            if frame.is_corrupt:
                troubles.append("it is damaged")
            self._measure(frame)
        troubles += [message.strip() for _, _, message in log]
        log.clear()
        return troubles

    def _measure(self, frame: Any) -> None:
        if frame.samples <= 0 or frame.sample_rate <= 0:
            return
        self._seconds += frame.samples / frame.sample_rate
        if self._seconds - self._reported >= 1.0:
            self._reported = self._seconds
            self._report()
        if self._check is not None:
            self._check.add_frame(frame)
        if self._loudness is None and self._waveform is None:
            return
        if self._steps is None or self._steps.form != self._meters.form_of(frame):
            self._end_steps()
            self._steps = self._meters.SoundSteps(frame, measure_loudness=self._loudness is not None)
        self._take(self._steps, frame)

    def _take(self, steps: SoundSteps, frame: Any) -> None:
        for samples, lufs in steps.push(frame):
            if self._loudness is not None:
                self._loudness.add(steps.form, samples, lufs)
            if self._waveform is not None:
                self._waveform.add(samples)

    def _end_steps(self) -> None:
        if self._steps is not None:
            self._take(self._steps, None)
            self._steps = None

    def _result(self) -> Listening:
        audio_hash = self._hash.digest().hex()
        if self._seconds == 0 and not self._is_known:
            self._unsupported = "FFmpeg does not know this form of it"
        if self._unsupported is not None:
            reason = f"The sound cannot be decoded: {self._unsupported}"
            return Listening(self._path, audio_hash=audio_hash, unchecked=reason)
        if self._seconds == 0:
            return Listening(
                self._path,
                audio_hash=audio_hash,
                is_undecodable=True,
                error_category=ErrorCategory.USER_FIXABLE,
                error_message="Nothing of the sound can be decoded: the file is damaged",
            )
        notes: list[str] = []
        if self._check is not None:
            notes = self._check.notes(
                self._seconds, promised_seconds=promised_seconds(self._kind, self._layout, self._stream)
            )
        loudness = None
        if self._loudness is not None:
            loudness = Loudness(self._loudness.blocks.integrated_lufs, self._loudness.true_peak())
        return Listening(
            self._path,
            audio_hash=audio_hash,
            integrated_lufs=loudness.integrated_lufs if loudness else None,
            true_peak=loudness.true_peak if loudness else None,
            loudness_blocks=self._loudness.blocks.as_bytes() if self._loudness else None,
            integrity=None if self._check is None else Integrity.DAMAGED if notes else Integrity.SOUND,
            notes=notes,
            waveform=self._waveform.as_bytes() if self._waveform else None,
        )


def _next_link(packet: Any) -> Any:
    """A decoder for the next one of several Vorbis streams in a row: FFmpeg's keeps the tables of the first, and
    makes noise of all that follow."""
    import av

    context = av.CodecContext.create("vorbis", "r")
    context.extradata = next(bytes(data) for data in packet.iter_sidedata() if data.data_type == "new_extradata")
    context.thread_count = 1
    return context


@contextmanager
def _logged() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's errors of the block, as they come: what decoders mend by themselves they only log."""
    from av import logging

    level, skips = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)
    try:
        with logging.Capture(local=True) as log:
            yield log
    finally:
        logging.set_level(level)
        logging.set_skip_repeated(skips)
