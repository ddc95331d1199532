"""A track's waveform, as players draw it: a fixed number of pieces, whatever the track's length."""

from __future__ import annotations

from array import array

#: Pieces of a waveform, each with its lowest and its highest value: 2,000 bytes.
PIECES = 1000


def peaks_of(waveform: bytes) -> list[float]:
    """Lowest and highest value of each piece by turns, from -1 to 1."""
    return [round(value / 127, 3) for value in array("b", waveform)]
