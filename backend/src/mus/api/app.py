"""The ASGI application of the HTTP API (DESIGN §8)."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
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
    track_router,
    trash_router,
    upload_router,
)
from mus.api.security import API_PREFIX, BEARER_SCHEME, HEALTH_PATH, Gatekeeper
from mus.api.web_page import install_web_page
from mus.broker.runtime import Runtime, opened
from mus.config import Settings
from mus.events.hub import EventHub
from mus.jobs import JOB_MODULES
from mus.library.reading_rules import ReadingRules

#: Pictures and uploads that are looked at at once: each in a process of its own.
_INSPECTIONS = 2

_ROUTERS = (
    health_router,
    library_router,
    upload_router,
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


def create_app(settings: Settings, *, runtime: Runtime | None = None) -> FastAPI:
    """The application. It opens database and broker at start-up, unless `runtime` is open already."""
    # Enqueueing checks a task's arguments, so the tasks must be registered here too.
    for name in JOB_MODULES:
        importlib.import_module(name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if runtime is None:
                _use(app, await stack.enter_async_context(opened(settings)))
            stack.push_async_callback(app.state.hub.aclose)
            stack.push_async_callback(app.state.catalogue.aclose)
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
    if runtime is not None:
        _use(app, runtime)
    app.state.hang_up = lambda _scope: None  # the server knows how
    app.state.resources = _resources()
    api = APIRouter(prefix=API_PREFIX, dependencies=[Depends(refuse_unknown_query)])
    for module in _ROUTERS:
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(metrics_router.router, dependencies=[Depends(refuse_unknown_query)])
    install_docs_page(app)
    install_web_page(app)
    install_error_handlers(app)
    app.add_middleware(Gatekeeper, settings=settings)
    app.openapi = lambda: _described(app, with_token=settings.api_token is not None)  # type: ignore[method-assign]
    return app


def _use(app: FastAPI, runtime: Runtime) -> None:
    app.state.runtime = runtime
    app.state.inspections = asyncio.Semaphore(_INSPECTIONS)
    settings = runtime.settings
    rules = ReadingRules.of(settings.tag_separators, settings.sort_articles)
    app.state.catalogue = CurrentCatalogue(runtime.database, rules)
    app.state.hub = EventHub(runtime.database, runtime.connection.url, runtime.connection.queue_name)


def _resources() -> list[tuple[re.Pattern[str], set[str]]]:
    """The methods of every address, for `Allow`: the framework would name those of one route only."""
    methods: dict[str, set[str]] = {}
    for prefix, module in [*((API_PREFIX, module) for module in _ROUTERS), ("", metrics_router)]:
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
            components["securitySchemes"] = {BEARER_SCHEME: {"type": "http", "scheme": "bearer"}}
            document["security"] = [{BEARER_SCHEME: []}]
            document["paths"][HEALTH_PATH]["get"]["security"] = [{}, {BEARER_SCHEME: []}]
        app.openapi_schema = document
    return app.openapi_schema
