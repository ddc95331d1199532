"""The API over a real database and a real broker; rows are put into the tables directly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.rows import add_library, app_of, calling
from mus.api.server import serving
from mus.broker.runtime import Runtime
from mus.broker.streaq_broker import broker
from mus.config import Settings
from mus.persistence.database import Database
from mus.persistence.models import Library


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """These tests run on both databases."""
    kind: str = request.param
    return kind


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    music = tmp_path / "music"
    music.mkdir()
    return Settings(music_dir=music, data_dir=tmp_path / "data", port=0, database_url=database_url)


@pytest.fixture
async def runtime(
    settings: Settings, database: Database, broker_url: str, queue_name: str
) -> AsyncIterator[Runtime]:
    async with broker.connected(database, broker_url, queue_name) as connection:
        yield Runtime(settings, database, connection)


@pytest.fixture
async def library(runtime: Runtime) -> Library:
    """One library, whose folder is the music folder."""
    assert runtime.settings.music_dir is not None
    return await add_library(runtime, "Music", runtime.settings.music_dir)


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """The API, called within this process."""
    async with calling(runtime) as client:
        yield client


@pytest.fixture
async def served(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """The API behind a real HTTP server."""
    async with (
        serving(runtime.settings, runtime, app_of(runtime.settings)) as address,
        httpx.AsyncClient(base_url=f"{address}/api/v1", trust_env=False) as client,
    ):
        yield client
