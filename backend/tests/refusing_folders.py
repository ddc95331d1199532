"""Folders in which nobody can write for a while, root included: read-only, or on a disk that is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mounts the folder onto itself, read-only. Skips the test where that is not allowed."""
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Mounts a disk of 256 kB at the folder, full but for a few kB. Skips the test where that is not allowed."""
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        (folder / "filler.bin").write_bytes(bytes(240 * 1024))
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
