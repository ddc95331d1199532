"""Other disks inside a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def bound(disk: Path, folder: Path) -> Iterator[None]:
    """The disk is mounted at the folder. Skips the test where that is not allowed."""
    mounted = subprocess.run(["mount", "--bind", disk, folder], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
