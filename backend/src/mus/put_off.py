"""Modules that libraries import for what mus does not use: imported when something of them is used, not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_put_off: dict[str, tuple[str, ...]] = {}


def put_off(module: str, *names: str) -> None:
    """Let `module` be imported at the first use of one of `names`, which may be imported from it until then.

    Anything else of it that somebody asks for imports it at once. A module that is there already stays.
    """
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    if module not in sys.modules:
        _put_off[module] = names


class _Finder:
    """Finds the stand-in of a module the first time, and nothing from then on."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _put_off or (real := PathFinder.find_spec(name, path, target)) is None:
            return None
        loader: Any = _Loader(_put_off.pop(name))  # no importlib.abc.Loader, which would bring more with it
        spec = ModuleSpec(name, loader, origin=real.origin)
        spec.submodule_search_locations = real.submodule_search_locations
        return spec


class _Loader:
    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name, self._names)

    def exec_module(self, module: ModuleType) -> None:
        """It has what it needs."""


class _StandIn(ModuleType):
    def __init__(self, module: str, names: tuple[str, ...]) -> None:
        super().__init__(module)
        self.__dict__.update({name: _Later(module, name) for name in names})

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

    def __subclasscheck__(self, kind: type) -> bool:
        return not isinstance(sys.modules.get(self._module), _StandIn) and issubclass(kind, self._it())

    def __getitem__(self, item: Any) -> Any:
        return self._it()[item]

    def __or__(self, other: Any) -> Any:
        return self._it() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._it()


def _real(module: str) -> ModuleType:
    if isinstance(sys.modules.get(module), _StandIn):
        del sys.modules[module]
    return importlib.import_module(module)
