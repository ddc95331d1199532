"""Errors as RFC 9457 problem details: which error becomes which HTTP status, and how OpenAPI says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from mus.api.field_messages import message_of
from mus.errors import (
    BadRequestError,
    ConflictError,
    ErrorCategory,
    LibraryOfflineError,
    MusError,
    NotFoundError,
    StorageFullError,
    TemporaryError,
    UndecodableError,
    UserFixableError,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
#: With every answer, unless it has its own.
HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # Where no token is set, another site's page could show covers and play music in its own name.
    "Cross-Origin-Resource-Policy": "same-origin",
    # The pages have policies of their own. Should a browser be brought to show another answer: whatever a file or a
    # tag in it may hold, it is no page, and stands in no frame. (What a browser puts around a picture has styles.)
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

#: The first that an error is an instance of counts.
_STATUSES: tuple[tuple[type[MusError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (LibraryOfflineError, 409),
    (StorageFullError, 507),
    (UndecodableError, 422),
    (BadRequestError, 400),
    (UserFixableError, 400),
    (TemporaryError, 503),
    (MusError, 500),
)


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    location: str = Field(description="`path`, `query`, `header` or `body`")
    field: str = Field(description="Name of the field; dotted inside a body")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details, with members of our own."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(default="about:blank")
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request")
    category: ErrorCategory | None = Field(default=None, description="Who can do something about it")
    recovery_actions: list[str] = Field(default_factory=list)
    errors: list[FieldProblem] | None = Field(default=None, description="Each field that is wrong (422)")


class FieldError(BadRequestError):
    """A field of the request whose value cannot be meant, found past the schema."""

    def __init__(self, location: str, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.problem = FieldProblem(location=location, field=field, message=message)


class RateLimitedError(UserFixableError):
    """Too many requests of one caller."""

    def __init__(self, message: str, *, retry_after_seconds: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.headers = {**headers, "Retry-After": str(retry_after_seconds)}


def problem_response(
    path: str,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The response that says what went wrong; `members` are extension members."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
        **(members or {}),
    }
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these statuses; 401, 403, 422 and 503 may answer any request."""
    return {int(status): response for status, response in described(*statuses, 401, 403, 422, 503).items()}


def described(*statuses: int) -> dict[str, dict[str, Any]]:
    """How OpenAPI describes a problem with each of these statuses."""
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error with problem details, and never with a traceback."""
    app.add_exception_handler(MusError, _on_mus_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeoutError, _on_database_error)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_mus_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MusError)
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    headers: Mapping[str, str] = {}
    members: dict[str, Any] = {
        "category": error.category,
        "recovery_actions": list(error.recovery_actions),
        # Under a member of its own: what an error tells must not pose as `status` or `type`.
        **({"details": error.details} if error.details else {}),
    }
    if isinstance(error, FieldError):
        status, members["errors"] = 422, [error.problem.model_dump()]
    elif isinstance(error, RateLimitedError):
        status, headers = 429, error.headers
    elif status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    elif status == 500:
        logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return problem_response(request.url.path, status, error.user_message, headers=headers, members=members)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if _is_of_another_type(request, error):
        return problem_response(request.url.path, 415, "Send JSON, with Content-Type: application/json")
    found = [_field_problem(item) for item in error.errors()]
    detail = "; ".join(f"{item.field}: {item.message}" for item in found[:5])
    return problem_response(
        request.url.path,
        422,
        detail,
        members={
            "category": ErrorCategory.USER_FIXABLE,
            "recovery_actions": [],
            # Without the offending value: it may be anything, and need not even be UTF-8.
            "errors": [item.model_dump() for item in found],
        },
    )


def _is_of_another_type(request: Request, error: RequestValidationError) -> bool:
    """Whether a body was not read as JSON, as it did not say that it is."""
    about_body = any(tuple(item["loc"]) == ("body",) and item["type"] != "missing" for item in error.errors())
    subtype = request.headers.get("content-type", "").partition(";")[0].strip().lower().partition("/")[2]
    return about_body and subtype != "json" and not subtype.endswith("+json")


def _field_problem(item: Mapping[str, Any]) -> FieldProblem:
    where: Sequence[Any] = item["loc"]
    if item["type"] == "json_invalid":
        where = ("body",)  # without the place of the character
    elif where[0] == "query":
        where = where[:2]  # which of its values it was says nothing to whoever has read the message
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    return FieldProblem(location=str(where[0]), field=_printable(name), message=_printable(message_of(item)))


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail, headers = error.detail, dict(error.headers or {})
    if error.status_code == 400:
        # The framework's own, for a body that is not even text; JSON that is none comes as a validation error.
        not_json = {"type": "json_invalid", "loc": ("body",), "msg": ""}
        return await _on_invalid_request(request, RequestValidationError([not_json]))
    if error.status_code == 404:
        detail = f"There is nothing at {_printable(request.url.path)}"
    elif error.status_code == 405:
        detail = f"{request.method} is not possible here"
        path = request.scope["path"]
        found = [
            (pattern.groups, methods) for pattern, methods in request.app.state.resources if pattern.match(path)
        ]
        # `/tracks/upload` is no track.
        allowed = [methods for groups, methods in found if not groups] or [methods for _, methods in found]
        headers["Allow"] = ", ".join(sorted(set().union(*allowed))) or headers.get("Allow", "GET")
    return problem_response(request.url.path, error.status_code, detail, headers=headers)


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s: the database failed: %s", request.method, request.url.path, error)
    return problem_response(
        request.url.path,
        503,
        "The database does not answer",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        members={"category": ErrorCategory.TEMPORARY, "recovery_actions": []},
    )


async def _on_unexpected(request: Request, _error: Exception) -> JSONResponse:
    # Starlette raises it again once this is sent, so the server logs it with its traceback.
    return problem_response(
        request.url.path,
        500,
        "Something went wrong inside mus; its log says what",
        headers=HARMLESS,  # this answer alone is sent from outside of the gate
        members={"category": ErrorCategory.ADMIN_REQUIRED, "recovery_actions": ["Look into the log of mus"]},
    )
