"""Modules that libraries import for what mus does not use: imported when something of them is used, not before."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


def put_off(module: str, *names: str) -> None:
    """Let `module` be imported at the first use of one of `names`, which may be imported from it until then.

    Anything else of it that somebody asks for imports it at once. A module that is there already stays.
    """
    if module not in sys.modules:
        sys.modules[module] = _StandIn(module, names)


class _StandIn(ModuleType):
    def __init__(self, module: str, names: tuple[str, ...]) -> None:
        super().__init__(module)
        self.__dict__.update({name: _Later(module, name) for name in names})
        # A module inside another has none inside it: what finds out would import the other.
        spec = None if "." in module else importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name: str) -> Any:
        # The import system asks for these.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Later:
    """Stands in for a class or a function: used like it, it is it."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _it(self) -> Any:
        return getattr(_real(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._it()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._it(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._it(),)

    def __instancecheck__(self, instance: Any) -> bool:
        # Nothing is one of a class that nobody has imported.
        return not isinstance(sys.modules.get(self._module), _StandIn) and isinstance(instance, self._it())


def _real(module: str) -> ModuleType:
    if isinstance(sys.modules.get(module), _StandIn):
        del sys.modules[module]
    return importlib.import_module(module)
