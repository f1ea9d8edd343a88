"""Patching drivers that nobody has imported yet: as soon as they are.

A finder in `sys.meta_path` lets the others find a driver, and its loader load it, and then says so.
This module must never know what is done then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["when_imported"]

Then = Callable[[ModuleType], object]


def when_imported(names: Collection[str], then: Then) -> object:
    """Call `then(module)` for each of these modules: now if it was imported, else right after it is.

    What `then` raises reaches whoever imports. Ends when what it returns leaves `sys.meta_path`.
    """
    finder = _Finder(names, then)
    sys.meta_path.insert(0, finder)
    for name in names:
        module = sys.modules.get(name)
        # One that is just being imported, by another thread, would be met half made.
        if module is not None and not _is_being_imported(module):
            finder.loaded(name, module)
    return finder


def _is_being_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


class _Finder:  # of the classes of importlib.abc, which take long to import, nothing is needed
    def __init__(self, names: Collection[str], then: Then) -> None:
        self._waiting = dict.fromkeys(names)
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        spec = self._find(fullname, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = _Loader(spec.loader, lambda module: self.loaded(fullname, module))
            spec.loader = loader
        return spec

    def _find(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in tuple(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    def loaded(self, name: str, module: ModuleType) -> None:
        if name in self._waiting:
            del self._waiting[name]
            self._then(module)


class _Loader:
    """Stands for the driver's loader until that has done its work."""

    def __init__(self, loader: Any, then: Then) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
