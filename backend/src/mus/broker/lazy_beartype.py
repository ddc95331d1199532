"""beartype, imported when it is called and not before.

coredis imports it for checks of arguments and for serialisers, none of which mus asks for: 358 modules, a quarter
of all that a process of mus has, for 4.5 MiB and 45 ms of each. What stands in for it here loads it at the first
call, and for whatever else of it somebody wants.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

#: What `coredis.typing` takes from it, by module: for versions before and since 0.22.
_TAKEN = {
    "beartype": ("beartype",),
    "beartype.door": ("is_bearable", "is_subhint", "infer_hint"),
    "beartype.bite": ("infer_hint",),
}


def put_off() -> None:
    """Let it be imported later, unless it is imported already or missing."""
    if "beartype" not in sys.modules and importlib.util.find_spec("beartype") is not None:
        for name, functions in _TAKEN.items():
            sys.modules[name] = _StandIn(name, functions)


class _StandIn(ModuleType):
    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        for function in functions:
            self.__dict__[function] = _later(name, function)

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version(self.__name__)
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _later(module: str, function: str) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(_real(module), function)(*arguments, **options)

    return call


def _real(name: str) -> ModuleType:
    for stand_in in _TAKEN:
        if isinstance(sys.modules.get(stand_in), _StandIn):
            del sys.modules[stand_in]
    return importlib.import_module(name)
