"""Shares that do what they are asked to, and say that it failed: as NFS does, which has no renameat2."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from mus.library import moves

#: Calls whose answer is lost, and the error that is told instead.
LOST = [("unlink", errno.ETIMEDOUT), ("unlink", errno.EIO), ("link", errno.EEXIST), ("link", errno.ETIMEDOUT)]


def lose_answer(monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, of: bytes) -> list[bytes]:
    """The next call of `os.<name>` for the file `of` is done, and its answer lost; the list then has its name."""
    was_lost: list[bytes] = []
    monkeypatch.setattr(moves, "_renamed_without_replacing", lambda *_: False)
    real = getattr(os, name)

    def lost(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        if arguments[0] == of:
            monkeypatch.setattr(os, name, real)
            was_lost.append(of)
            raise OSError(number, os.strerror(number), of)

    monkeypatch.setattr(os, name, lost)
    return was_lost
