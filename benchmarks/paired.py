"""Arithmetic of measured values: percentiles, ratios of pairs, and how sure a change of them is. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: How often a change is told though there is none, at most.
ERROR = 0.025
#: Two runs on one machine differ by as much without any change of the program: another boot, another layout of
#: the disk, another neighbour. A smaller loss is none.
TOLERATED = 1.10


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratios(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[float]:
    """Of each round that both have, the quotient of its medians."""
    return [
        statistics.median(one) / statistics.median(other)
        for one, other in zip(ours, theirs, strict=False)
        if one and other and statistics.median(other)
    ]


def at_least(measured: Sequence[float], stored: Sequence[float]) -> float:
    """The factor by which the measured ratios are larger than the stored ones, at least; 0 if nothing is sure.

    The low end of the interval that Moses gave for the shift between two samples (Hollander and Wolfe,
    Nonparametric Statistical Methods, 4.3): the quotients of all pairs, so many of the smallest left out that it
    errs with a probability of at most `ERROR`. It supposes no distribution, and no single odd round decides.
    """
    if not measured or not stored:
        return 0.0
    quotients = sorted(one / other for one in measured for other in stored)
    total = math.comb(len(measured) + len(stored), len(measured))
    orders = _mann_whitney(len(measured), len(stored))
    left_out, so_far = 0, 0
    for count in orders:
        so_far += count
        if so_far / total > ERROR:
            break
        left_out += 1
    return quotients[left_out - 1] if left_out else 0.0


def _mann_whitney(first: int, second: int) -> list[int]:
    """How many orders of two samples have 0, 1, 2, … pairs the wrong way round."""
    # The Gaussian binomial coefficient, factor by factor.
    counts = [1]
    for factor in range(1, first + 1):
        longer = counts + [0] * (second + factor)
        for index in range(len(counts) - 1, -1, -1):
            longer[index + second + factor] -= counts[index]
        for index in range(factor, len(longer)):
            longer[index] += longer[index - factor]
        while longer and longer[-1] == 0:
            longer.pop()
        counts = longer
    return counts


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio to a peer, next to the stored one."""

    stored: float
    measured: float
    #: It became worse by this factor at least; 0 if that is not sure.
    worse_by_at_least: float

    @property
    def holds(self) -> bool:
        return self.worse_by_at_least <= TOLERATED


def compare(measured: Sequence[float], stored: Sequence[float], *, more_is_better: bool) -> Comparison:
    """Neither may be empty. A ratio is mus's value divided by the peer's, in the same round."""
    if more_is_better:
        worse = at_least([1 / ratio for ratio in measured], [1 / ratio for ratio in stored])
    else:
        worse = at_least(measured, stored)
    return Comparison(statistics.median(stored), statistics.median(measured), worse)
