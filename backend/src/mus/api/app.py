"""The ASGI application of the HTTP API (DESIGN §8)."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import compile_path

import mus
from mus.api.current_catalogue import CurrentCatalogue
from mus.api.dependencies import refuse_unknown_query
from mus.api.docs_page import install_docs_page
from mus.api.problems import Problem, described, install_error_handlers
from mus.api.routers import (
    catalogue_router,
    duplicate_router,
    edit_router,
    errors_router,
    event_router,
    health_router,
    job_router,
    library_router,
    media_router,
    metrics_router,
    queue_router,
    scan_router,
    schedule_router,
    session_router,
    track_router,
    trash_router,
    upload_batch_router,
    upload_router,
)
from mus.api.security import (
    API_PREFIX,
    BEARER_SCHEME,
    HEALTH_PATH,
    SESSION_PATH,
    SESSION_SCHEME,
    Gatekeeper,
)
from mus.api.sessions import COOKIE, Sessions, WrongTokens
from mus.api.transcoder import Transcoder
from mus.api.web_page import install_web_page
from mus.broker.runtime import Runtime, opened
from mus.config import Settings
from mus.events.hub import EventHub
from mus.jobs import JOB_MODULES
from mus.library.reader_pool import ReaderPool
from mus.library.reading_rules import ReadingRules
from mus.library.transcoded_files import TranscodedFiles

#: Pictures and uploads that are looked at at once, each by a process that may crash over it and goes when idle.
_INSPECTIONS = 2
#: Uploads that come in at once; the others wait, unread. Each has a file of its own, and up to 2 MiB in memory.
_ARRIVALS = 16

_ROUTERS = (
    health_router,
    session_router,
    library_router,
    upload_router,
    upload_batch_router,
    track_router,
    catalogue_router,
    edit_router,
    duplicate_router,
    trash_router,
    media_router,
    scan_router,
    errors_router,
    job_router,
    queue_router,
    event_router,
    schedule_router,
)
_PREFIXED_ROUTERS = (*((API_PREFIX, module) for module in _ROUTERS), ("", metrics_router))


def create_app(settings: Settings, *, runtime: Runtime | None = None) -> FastAPI:
    """The application. It opens database and broker at start-up, unless it was given a `runtime`, here or by
    `use_runtime`, which is open already."""
    # Enqueueing checks a task's arguments, so the tasks must be registered here too.
    for name in JOB_MODULES:
        importlib.import_module(name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if app.state.runtime is None:
                use_runtime(app, await stack.enter_async_context(opened(settings)))
            stack.push_async_callback(app.state.hub.aclose)
            stack.push_async_callback(app.state.catalogue.aclose)
            stack.push_async_callback(app.state.transcoder.aclose)
            stack.push_async_callback(app.state.inspectors.aclose)
            yield

    app = FastAPI(
        title="mus",
        summary=mus.__doc__,
        version=mus.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # An address with a slash too many is another address, not a redirect for every client to follow.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.runtime = None
    if runtime is not None:
        use_runtime(app, runtime)
    app.state.hang_up = lambda _scope: None  # the server knows how
    app.state.resources = _resources()
    for prefix, module in _PREFIXED_ROUTERS:
        # Each on its own: a router between them and the application would have every route built once more.
        app.include_router(module.router, prefix=prefix, dependencies=[Depends(refuse_unknown_query)])
    install_docs_page(app)
    install_web_page(app)
    install_error_handlers(app)
    app.state.sessions = Sessions(settings.api_token.get_secret_value() if settings.api_token else "")
    app.state.wrong_tokens = WrongTokens()
    app.add_middleware(
        Gatekeeper, settings=settings, sessions=app.state.sessions, wrong_tokens=app.state.wrong_tokens
    )
    app.openapi = lambda: _described(app, with_token=settings.api_token is not None)  # type: ignore[method-assign]
    return app


def use_runtime(app: FastAPI, runtime: Runtime) -> None:
    """Answer from these, open ones."""
    app.state.runtime = runtime
    app.state.inspectors = ReaderPool(_INSPECTIONS)
    app.state.arrivals = asyncio.Semaphore(_ARRIVALS)
    app.state.pictures = asyncio.Semaphore(_INSPECTIONS)
    settings = runtime.settings
    rules = ReadingRules.of(settings.tag_separators, settings.sort_articles)
    app.state.catalogue = CurrentCatalogue(runtime.database, rules)
    app.state.transcoder = Transcoder(
        TranscodedFiles(settings.transcoded_dir, settings.transcode_cache_mb * 1_000_000),
        file_timeout_seconds=settings.file_timeout_seconds,
    )
    app.state.hub = EventHub(runtime.database, runtime.connection.url, runtime.connection.queue_name)


def _resources() -> list[tuple[re.Pattern[str], set[str]]]:
    """The methods of every address, for `Allow`: the framework would name those of one route only."""
    methods: dict[str, set[str]] = {}
    for prefix, module in _PREFIXED_ROUTERS:
        for route in module.router.routes:
            if not isinstance(route, APIRoute) or not route.include_in_schema:
                continue  # a WebSocket, or what is not possible
            methods.setdefault(prefix + route.path, set()).update(route.methods or ())
    return [(compile_path(path)[0], names) for path, names in methods.items()]


def _described(app: FastAPI, *, with_token: bool) -> dict[str, Any]:
    """The OpenAPI document, with the schema of problems and the token."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = document.setdefault("components", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components.setdefault("schemas", {}).update({**problem.pop("$defs"), "Problem": problem})
        for operations in document["paths"].values():
            for method, operation in operations.items():
                if method not in {"get", "head"}:
                    # What is said to a body that is too long, that does not say how long it is, or is no JSON.
                    not_json = [415] if "requestBody" in operation else []
                    operation["responses"].update(described(411, 413, *not_json))
        if with_token:
            components["securitySchemes"] = {
                BEARER_SCHEME: {"type": "http", "scheme": "bearer"},
                SESSION_SCHEME: {"type": "apiKey", "in": "cookie", "name": COOKIE},
            }
            document["security"] = [{BEARER_SCHEME: []}, {SESSION_SCHEME: []}]
            document["paths"][HEALTH_PATH]["get"]["security"] = [{}, *document["security"]]
            for operation in document["paths"][SESSION_PATH].values():
                operation["security"] = [{}, {SESSION_SCHEME: []}]
        app.openapi_schema = document
    return app.openapi_schema
