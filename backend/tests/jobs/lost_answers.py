"""Shares that do what they are asked to, and say that it failed: as NFS does, which has no renameat2."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from mus.library import moves

#: Calls whose answer is lost, and the error that is told instead.
LOST = [("unlink", errno.ETIMEDOUT), ("unlink", errno.EIO), ("link", errno.EEXIST), ("link", errno.ETIMEDOUT)]


def lose_answer(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """The next call of `os.<name>` is done, and its answer lost."""
    monkeypatch.setattr(moves, "_renamed_without_replacing", lambda *_: False)
    real = getattr(os, name)

    def lost(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        monkeypatch.setattr(os, name, real)
        raise OSError(number, os.strerror(number), arguments[0])

    monkeypatch.setattr(os, name, lost)
