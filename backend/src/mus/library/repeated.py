"""What the files of an album share comes again with each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def repeated(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of its arguments alone that keeps what it returned last, for the same arguments.

    They are compared and not hashed, as texts that were just read have no hash yet. Neither they nor what it
    returned are to be changed by anybody.
    """
    last: tuple[tuple[object, ...], Result] | None = None

    def kept(*arguments: object) -> Result:
        nonlocal last
        known = last
        if known is None or known[0] != arguments:
            last = known = arguments, function(*arguments)
        return known[1]

    return kept
