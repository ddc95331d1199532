"""What routes share: the runtime, the caller, common parameters, and the refusal of unknown parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from mus.api.cursor import LONGEST_CURSOR
from mus.api.security import caller_of
from mus.broker.runtime import Runtime


def _runtime(request: HTTPConnection) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _caller(request: HTTPConnection) -> str:
    return caller_of(request.scope)


#: A session is opened inside the handler, never as a dependency: those live until the response is sent, and a
#: slow listener would hold one of few connections for as long as the song lasts.
RuntimeDep = Annotated[Runtime, Depends(_runtime)]
#: Address of who asks.
CallerDep = Annotated[str, Depends(_caller)]

CursorParam = Annotated[
    str | None,
    Query(
        max_length=LONGEST_CURSOR,
        description="`next_cursor` of the page before",
        # For readers of the description only: whatever is no cursor of ours gets one and the same answer.
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]
LimitParam = Annotated[int, Query(ge=1, le=500, description="Items of a page")]
LibraryParam = Annotated[str | None, Query(max_length=200, description="Name or id of a library")]
GenreParam = Annotated[
    str | None, Query(max_length=1000, description="The whole name of a genre; case and accents do not matter")
]
FormatParam = Annotated[
    str | None, Query(alias="format", max_length=16, description="As `format` in an item, for example `flac`")
]
YearParam = Annotated[int | None, Query(ge=-(2**31), le=2**31 - 1, description="Of just this year")]
TrackId = Annotated[int, Path(ge=1, le=2**63 - 1)]
JobId = Annotated[str, Path(max_length=200)]


def requested_by(caller: str) -> str:
    """What a job's row says of who asked for it."""
    return f"api {caller}"[:200]


def _query_params(dependant: Dependant) -> Iterator[Any]:
    yield from dependant.query_params
    for part in dependant.dependencies:
        yield from _query_params(part)


def refuse_unknown_query(request: HTTPConnection) -> None:
    """Answer 422 to a query parameter that the route does not have: a misspelt filter must not be ignored."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    known = {field.alias for field in _query_params(route.dependant)}
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": "", "input": None} for name in unknown]
        )
