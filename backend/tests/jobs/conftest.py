from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from music_library import MusicLibrary, new_library, worker_of

from mus.broker.runtime import Runtime


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """These tests run on both databases."""
    kind: str = request.param
    return kind


@pytest.fixture
async def music(runtime: Runtime, tmp_path: Path) -> MusicLibrary:
    """A library whose folder is empty; no worker runs."""
    return await new_library(runtime, tmp_path / "music")


@pytest.fixture
async def library(music: MusicLibrary) -> AsyncIterator[MusicLibrary]:
    """The same with a worker for scans and watched changes; nothing is analysed."""
    async with worker_of(music.runtime):
        yield music


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another file system than pytest's."""
    folder = Path("/dev/shm") / f"mus-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)
