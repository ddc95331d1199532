"""Loudness as ITU-R BS.1770-4 and EBU R 128 define it, gated over one track or over several together.

A track's blocks of 400 ms are counted by their loudness, 0.01 LU apart: about a kilobyte from which the
loudness of a whole album follows without decoding again, to 0.01 LU.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

#: ReplayGain 2.0's reference.
REFERENCE_LUFS = -18.0
#: Quieter blocks never count.
ABSOLUTE_GATE_LUFS = -70.0
#: Blocks count that are at most so much quieter than the average of those above the absolute gate.
_RELATIVE_GATE_LU = 10.0
_BINS_PER_LU = 100
#: Louder than any sound is, floating-point files that go far beyond full scale included.
_LOUDEST_LUFS = 100.0
_BINS = round((_LOUDEST_LUFS - ABSOLUTE_GATE_LUFS) * _BINS_PER_LU)


@cache
def _energies() -> array[float]:
    """Of the middle of each bin."""
    return array("d", (10 ** ((ABSOLUTE_GATE_LUFS + (index + 0.5) / _BINS_PER_LU) / 10) for index in range(_BINS)))


class LoudnessBlocks:
    """How many blocks of a sound have which loudness."""

    def __init__(self, counts: Iterable[int] = ()) -> None:
        self._counts = array("L", counts or [0] * _BINS)

    def add(self, lufs: float) -> None:
        """Count a block; one below the absolute gate, or that is no number, is left out."""
        if ABSOLUTE_GATE_LUFS < lufs < math.inf:
            self._counts[min(int((lufs - ABSOLUTE_GATE_LUFS) * _BINS_PER_LU), _BINS - 1)] += 1

    @property
    def integrated_lufs(self) -> float | None:
        """The gated loudness; None for silence, and for what is shorter than a block."""
        mean = self._mean_energy(0)
        if mean is None:
            return None
        gate = _lufs(mean) - _RELATIVE_GATE_LU
        # The block in whose bin the gate lies counts with the middle of its bin, as its energy does.
        first = max(0, math.ceil((gate - ABSOLUTE_GATE_LUFS) * _BINS_PER_LU - 0.5))
        gated = self._mean_energy(first)
        return None if gated is None else _lufs(gated)

    def _mean_energy(self, first: int) -> float | None:
        total = sum(self._counts[first:])
        if not total:
            return None
        counted = zip(self._counts[first:], _energies()[first:], strict=True)
        return sum(count * energy for count, energy in counted) / total

    def as_bytes(self) -> bytes:
        """The bins that hold something, deflated."""
        used = [index for index, count in enumerate(self._counts) if count]
        numbers = [0] if not used else [used[0], *self._counts[used[0] : used[-1] + 1]]
        return zlib.compress(b"".join(number.to_bytes(4, "little") for number in numbers), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        unpacked = zlib.decompress(data)
        first, *counts = (int.from_bytes(unpacked[at : at + 4], "little") for at in range(0, len(unpacked), 4))
        return cls([0] * first + counts + [0] * (_BINS - first - len(counts)))

    @classmethod
    def together(cls, parts: Iterable[LoudnessBlocks]) -> Self:
        """The blocks of several sounds, as if they were one."""
        return cls(map(sum, zip(*(part._counts for part in parts), strict=True)))


def _lufs(energy: float) -> float:
    return 10 * math.log10(energy)


@dataclass(frozen=True, slots=True)
class Loudness:
    """Of a track, or of an album's tracks together."""

    integrated_lufs: float | None
    #: Of the wave between its samples, 1.0 is full scale.
    true_peak: float | None

    @property
    def true_peak_dbtp(self) -> float | None:
        return 20 * math.log10(self.true_peak) if self.true_peak else None

    @property
    def gain_db(self) -> float | None:
        """ReplayGain 2.0: what brings it to -18 LUFS."""
        return None if self.integrated_lufs is None else REFERENCE_LUFS - self.integrated_lufs
