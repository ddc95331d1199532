"""What the tests of the API put into the tables, and how they call it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.routing import BaseRoute

from mus.api.app import create_app
from mus.broker.runtime import Runtime
from mus.config import Settings
from mus.library.reader_pool import ReaderPool
from mus.library.reading_rules import DEFAULT_RULES
from mus.library.states import TrackState
from mus.library.track_words import derived
from mus.persistence.models import Base, Library, Track
from mus.persistence.search import indexed

_numbers = itertools.count(1)


#: The routers of the first application, with what FastAPI builds for each at the first request that looks at it.
_built: list[BaseRoute] = []


def app_of(settings: Settings, runtime: Runtime | None = None) -> FastAPI:
    """The application, with the routers of the first one of this process.

    They are the same for all and keep nothing of requests, but FastAPI builds them anew for each: 65 ms of a test.
    """
    app = create_app(settings, runtime=runtime)
    included = [route for route in app.router.routes if hasattr(route, "original_router")]
    if not _built:
        _built.extend(included)
    start = app.router.routes.index(included[0])
    assert app.router.routes[start : start + len(_built)] == included
    app.router.routes[start : start + len(_built)] = _built
    return app


def calling(runtime: Runtime, settings: Settings | None = None, **client: Any) -> httpx.AsyncClient:
    app = app_of(settings or runtime.settings, runtime)
    return httpx.AsyncClient(transport=_Called(app), base_url="http://127.0.0.1/api/v1", **client)


class _Called(httpx.ASGITransport):
    """An application that is called without a server, which would begin and end it."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(app, raise_app_exceptions=False)
        self._inspectors: ReaderPool = app.state.inspectors

    async def aclose(self) -> None:
        await self._inspectors.aclose()


async def add(runtime: Runtime, *rows: Base) -> None:
    async with runtime.database.unit_of_work() as work:
        work.session.add_all(rows)


async def add_library(runtime: Runtime, name: str, root: Path) -> Library:
    library = Library(name=name, root=bytes(root))
    await add(runtime, library)
    return library


def track(library: Library, path: str | bytes = "", **values: Any) -> Track:
    """A row as a scan would leave it."""
    number = next(_numbers)
    raw = path.encode() if isinstance(path, str) else path
    title = values.pop("title", f"Track {number}")
    return Track(
        **{
            "library_id": library.id,
            "path": raw or f"{number}.mp3".encode(),
            "size": 1000,
            "mtime_ns": 0,
            "ctime_ns": 0,
            "inode": number,
            "device": 1,
            "status": TrackState.COMPLETE,
            "title": title,
            **derived({"title": title, **values}, DEFAULT_RULES.sorted_without)._asdict(),
            **values,
        }
    )


async def add_tracks(runtime: Runtime, *tracks: Track) -> list[int]:
    if not runtime.database.is_sqlite:
        for track in tracks:
            track.words = indexed(track.words or "")
    await add(runtime, *tracks)
    return [track.id for track in tracks]


async def titles(client: httpx.AsyncClient, **params: Any) -> list[str]:
    """Titles of one page."""
    answer = await client.get("/tracks", params=params)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json()["items"]]
