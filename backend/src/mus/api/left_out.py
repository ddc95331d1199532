"""What FastAPI and uvicorn import and mus has no use for: 7 MiB of all that a process has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mus.put_off import put_off

#: Of `fastapi.openapi.models`, by those who import it before somebody asks for the API's document.
_OPENAPI_MODELS = (
    *("APIKey", "APIKeyIn", "Example", "HTTPBase", "HTTPBearer", "OAuth2", "OAuthFlows", "OpenAPI"),
    *("OpenIdConnect", "SecurityBase"),
)
_OAUTH2 = (
    *("OAuth2", "OAuth2AuthorizationCodeBearer", "OAuth2PasswordBearer", "OAuth2PasswordRequestForm"),
    *("OAuth2PasswordRequestFormStrict", "SecurityScopes"),
)


def leave_out() -> None:
    """Let it not be imported, unless it is already."""
    # FastAPI asks whether a model is one of pydantic 1, and takes an ImportError for a no.
    sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
    # For the page that shows an error to who debugs: the names of 2,000 characters, of 1.2 MiB.
    put_off("html", "escape", "unescape")
    # The API's document as 40 models of pydantic, of 2.4 MiB; made for the first who asks for it. OAuth2 makes one.
    put_off("fastapi.openapi.models", *_OPENAPI_MODELS)
    put_off("fastapi.security.oauth2", *_OAUTH2)
    # For logs that uvicorn is to set up.
    put_off("logging.config", "dictConfig", "fileConfig")
    put_off("configparser", "RawConfigParser")
    # Its command line, with click, multiprocessing and what reloads code.
    sys.modules.setdefault("uvicorn.main", _NoCommandLine("uvicorn.main"))


class _NoCommandLine(ModuleType):
    """Stands in for `uvicorn.main`, from which the package takes what it names here."""

    def __getattr__(self, name: str) -> Any:
        if name == "Server":
            from uvicorn.server import Server

            return Server
        if name in {"main", "run"}:
            return _later(name)
        raise AttributeError(name)


def _later(name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if isinstance(sys.modules.get("uvicorn.main"), _NoCommandLine):
            del sys.modules["uvicorn.main"]
        return getattr(importlib.import_module("uvicorn.main"), name)(*arguments, **options)

    return call
