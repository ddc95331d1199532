"""A folder as a file system shows it that ignores case (SMB, FAT), where there is none to be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def case_ignored(root: Path) -> Iterator[None]:
    """Meanwhile this process finds what lies in the folder by any spelling when it looks at a path: by lstat(2).

    Listings, opened files and other processes see the names as they are.
    """
    lstat, listdir, top = os.lstat, os.listdir, os.fsencode(root)

    def spelled(path: bytes) -> bytes:
        found = top
        for name in path.removeprefix(top).strip(b"/").split(b"/"):
            try:
                names = listdir(found)
            except OSError:
                names = []
            alike = [other for other in names if _caseless(other) == _caseless(name)]
            found = os.path.join(found, name if name in names or not alike else alike[0])
        return found

    def lstat_without_case(path: Any, **options: Any) -> os.stat_result:
        if options or isinstance(path, int) or not os.fsencode(path).startswith(top + b"/"):
            return lstat(path, **options)
        return lstat(spelled(os.fsencode(path)))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "lstat", lstat_without_case)
        yield


def _caseless(name: bytes) -> str:
    return os.fsdecode(name).casefold()
