"""What FastAPI and uvicorn import and mus has no use for: 4 MiB of all that a process has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mus.put_off import put_off


def leave_out() -> None:
    """Let it not be imported, unless it is already."""
    # FastAPI asks whether a model is one of pydantic 1, and takes an ImportError for a no.
    sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
    # For the page that shows an error to who debugs: the names of 2,000 characters, of 1.2 MiB.
    put_off("html", "escape", "unescape")
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
