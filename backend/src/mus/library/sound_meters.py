"""What is measured in decoded sound: its loudness and true peak, and its waveform.

NumPy is imported here: only the process that decodes imports this module.
"""

from __future__ import annotations

import math
from typing import Any

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from mus.library.loudness import LoudnessBlocks
from mus.library.waveform import PIECES

Samples = NDArray[np.float64]
#: Frames of the filter graph; loudness is measured at each one's end: BS.1770's blocks of 400 ms
#: overlap by three quarters.
_STEPS_PER_SECOND = 10
#: Taps of the interpolating filter for each value between two samples.
_TAPS = 24
#: Samples whose in-between values come from one row of a matrix product.
_RUN = 32


class SoundSteps:
    """Cuts decoded frames of one format into steps of 100 ms, with the loudness of the 400 ms that end there."""

    def __init__(self, frame: Any, *, measure_loudness: bool) -> None:
        self.form = form_of(frame)
        self._loudness = measure_loudness
        self._graph = graph = av.filter.Graph()
        # FFmpeg's filters may start threads; an analyser has one core.
        graph.threads = 1
        self._source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base,
        )
        if measure_loudness:
            middle = graph.add("ebur128", "metadata=1:framelog=quiet")
        else:
            middle = graph.add("asetnsamples", f"n={max(1, frame.sample_rate // _STEPS_PER_SECOND)}:p=0")
        last = graph.add("aformat", "sample_fmts=dbl")
        self._sink = graph.add("abuffersink")
        self._source.link_to(middle)
        middle.link_to(last)
        last.link_to(self._sink)
        graph.configure()

    def push(self, frame: Any) -> list[tuple[Samples, float | None]]:
        """Feed a frame, None at the end; returns the steps it completes: samples by channel, and their LUFS."""
        if frame is not None:
            frame.pts = None
        self._source.push(frame)
        steps: list[tuple[Samples, float | None]] = []
        while True:
            try:
                step: Any = self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return steps
            # No number: the rest at the end, which is shorter than a step.
            lufs = step.metadata.get("lavfi.r128.M") if self._loudness else None
            samples = step.to_ndarray().reshape(-1, step.layout.nb_channels)
            steps.append((samples, None if lufs is None else float(lufs)))


def form_of(frame: Any) -> tuple[Any, ...]:
    """What stays the same in a sound that goes through one filter graph."""
    return frame.sample_rate, frame.format.name, frame.layout.name


class LoudnessMeter:
    """Collects the blocks of a sound, and its true peak."""

    def __init__(self) -> None:
        self.blocks = LoudnessBlocks()
        self._peaks: list[TruePeakMeter] = []
        self._form: tuple[Any, ...] = ()

    def add(self, form: tuple[Any, ...], samples: Samples, lufs: float | None) -> None:
        if lufs is not None:
            self.blocks.add(lufs)
        if form != self._form:
            self._form = form
            self._peaks.append(TruePeakMeter(rate_hz=form[0], channels=samples.shape[1]))
        self._peaks[-1].add(samples)

    def true_peak(self) -> float:
        return max((meter.peak() for meter in self._peaks), default=0.0)


class TruePeakMeter:
    """The highest value of the wave between its samples, by fourfold oversampling (BS.1770-4, annex 2).

    Twofold from 96 kHz on, and none from 192 kHz on. The filter is a sinc of 24 taps in a Kaiser window, twice as
    long as the one in the annex and so closer to the wave: 0.05 dB up to 0.4 of the sample rate.
    """

    def __init__(self, *, rate_hz: int, channels: int) -> None:
        factor = 4 if rate_hz < 96_000 else 2 if rate_hz < 192_000 else 1
        self._matrix, self._gain = _interpolation(factor)
        self._rest = np.zeros((_TAPS - 1, channels), np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._count = 0
        self._enough = max(_RUN, rate_hz // 4)
        self._peak = 0.0

    def add(self, samples: Samples) -> None:
        self._waiting.append(samples.astype(np.float32))
        self._count += len(samples)
        if self._count >= self._enough:
            self._measure(np.concatenate([self._rest, *self._waiting]))

    def peak(self) -> float:
        """Of all that was added; the last to be called."""
        silence = np.zeros((_TAPS + _RUN, self._rest.shape[1]), np.float32)
        self._measure(np.concatenate([self._rest, *self._waiting, silence]))
        return self._peak

    def _measure(self, samples: NDArray[np.float32]) -> None:
        runs = (len(samples) - _TAPS + 1) // _RUN
        self._rest, self._waiting = samples[runs * _RUN :], []
        self._count = len(self._rest) - _TAPS + 1
        for channel in samples.T:
            loudest = _loudest(channel)
            if math.isfinite(loudest):
                self._peak = max(self._peak, loudest)
            # No value between samples exceeds the highest of them by more than the filter's gain.
            if self._matrix is None or not math.isfinite(loudest) or loudest * self._gain <= self._peak:
                continue
            line = np.ascontiguousarray(channel)
            windows = np.lib.stride_tricks.sliding_window_view(line, _RUN + _TAPS - 1)[::_RUN][:runs]
            self._peak = max(self._peak, _loudest(np.ascontiguousarray(windows) @ self._matrix))


def _loudest(values: NDArray[np.float32]) -> float:
    return float(max(values.max(), -values.min())) if values.size else 0.0


def _interpolation(factor: int) -> tuple[NDArray[np.float32] | None, float]:
    """The matrix that makes of each run of samples the values between them, and how much those can exceed them."""
    if factor == 1:
        return None, 1.0
    offsets = np.arange(_TAPS) - _TAPS // 2 + 1
    distance = (np.arange(1, factor) / factor)[:, None] - offsets[None, :]
    window = np.i0(7.5 * np.sqrt(1 - (distance / (_TAPS / 2)) ** 2)) / np.i0(7.5)
    taps = np.sinc(distance) * window
    taps /= taps.sum(axis=1, keepdims=True)
    matrix = np.zeros((_RUN + _TAPS - 1, _RUN * (factor - 1)), np.float32)
    for at in range(_RUN):
        matrix[at : at + _TAPS, at * (factor - 1) : (at + 1) * (factor - 1)] = taps.T
    return matrix, float(np.abs(taps).sum(axis=1).max())


class WaveformMeter:
    """Lowest and highest value of equal pieces of a sound whose length is not known before its end."""

    #: Fine pieces kept at most; past that each two become one. Even, and many times `PIECES`.
    _MOST = 64 * PIECES

    def __init__(self) -> None:
        self._samples_each = 64
        self._fine: list[NDArray[np.float32]] = []
        self._count = 0
        self._rest = np.empty((0, 1))

    def add(self, samples: Samples) -> None:
        if samples.shape[1] != self._rest.shape[1]:
            self._end_piece()
            self._rest = samples[:0]
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._samples_each
        end = whole * self._samples_each
        self._rest = samples[end:]
        if whole:
            # All channels of a piece lie in one row: the lowest of a short row, as of one sample's channels, takes
            # ten times as long for each value.
            rows = samples[:end].reshape(whole, -1)
            self._keep(np.stack([rows.min(axis=1), rows.max(axis=1)]))

    def _keep(self, pieces: Samples) -> None:
        self._fine.append(pieces.astype(np.float32))
        self._count += pieces.shape[1]
        while self._count > self._MOST:
            low, high = np.concatenate(self._fine, axis=1)
            if len(low) % 2:
                low, high = np.append(low, low[-1]), np.append(high, high[-1])
            self._fine = [np.stack([low.reshape(-1, 2).min(axis=1), high.reshape(-1, 2).max(axis=1)])]
            self._count = self._fine[0].shape[1]
            self._samples_each *= 2

    def _end_piece(self) -> None:
        if self._rest.size:
            self._keep(np.array([[self._rest.min()], [self._rest.max()]]))
            self._rest = self._rest[:0]

    def as_bytes(self) -> bytes:
        """`PIECES` pairs at most, lowest and highest by turns, as signed bytes: 127 is full scale."""
        self._end_piece()
        if not self._fine:
            return b""
        values = np.concatenate(self._fine, axis=1)
        starts = np.linspace(0, values.shape[1], min(PIECES, values.shape[1]), endpoint=False).astype(np.intp)
        pairs = np.stack([np.minimum.reduceat(values[0], starts), np.maximum.reduceat(values[1], starts)], axis=1)
        scaled = np.rint(np.clip(np.nan_to_num(pairs), -1.0, 1.0) * 127)
        return bytes(scaled.astype(np.int8).tobytes())
