"""The registry: which `Driver` serves which creator. Asked once per pool, never on the hot path.

Holds the one piece of global state of the package: pluggy's plugin manager, filled from the entry
points when the first pool is made. Must never know the pool.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from .base import Driver

if TYPE_CHECKING:
    import pluggy

GROUP = "dbapi_pool"

# Guards the making of the one manager: two pools may be made at once. Entry points are loaded
# under it, so that nobody sees half of them; re-entrant, since a plugin may ask while it is loaded.
_making = threading.RLock()


@functools.cache
def _manager() -> pluggy.PluginManager:
    # Imported here because pluggy costs some 15 ms, which `import dbapi_pool` shall not.
    import pluggy

    from . import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.load_setuptools_entrypoints(GROUP)
    return manager


STANDS_FOR = "__dbapi_pool_stands_for__"
"""The attribute of a function that stands in for a driver's `connect` which has that."""


def plugin_manager() -> pluggy.PluginManager:
    """The process-wide plugin manager. Register an object with hooks to listen to every pool."""
    with _making:
        return _manager()


def listening(listeners: Iterable[object]) -> pluggy.PluginManager:
    """A plugin manager for these alone. Raises `ValueError` if one of them has no event hook, or one
    that there is not, or is there twice."""
    import pluggy

    from . import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        for listener in listeners:
            manager.register(listener)
            if not manager.get_hookcallers(listener):
                raise ValueError(
                    f"an object of type {type(listener).__name__} has no event hook: a function or"
                    " method named dbapi_pool_..., marked with dbapi_pool.drivers.hookimpl"
                )
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        raise ValueError(str(exc)) from exc
    return manager


def find(creator: Any) -> Driver | None:
    """The driver for a creator, a URL, or the class of a connection; None if nobody knows it."""
    if isinstance(creator, functools.partial):
        return find(creator.func)
    root = creator.partition(":")[0] if isinstance(creator, str) else root_module(creator)
    if not root:
        return None
    driver: Driver | None = plugin_manager().hook.dbapi_pool_driver(creator=creator, root=root)
    return driver


def root_module(creator: Any) -> str:
    """The name of the top-level module that `creator` comes from; "" if it does not say."""
    if isinstance(creator, ModuleType):
        name = creator.__name__
    else:
        name = getattr(creator, "__module__", None) or ""
    return str(name).partition(".")[0]


def dbapi_module(creator: Any) -> ModuleType | type | None:
    """Whatever carries the PEP 249 errors for a creator: itself, its module, or the top of that."""
    if hasattr(creator, "OperationalError"):
        return creator  # type: ignore[no-any-return]
    if isinstance(creator, functools.partial):
        return dbapi_module(creator.func)
    for name in (root_module(creator), getattr(creator, "__module__", None)):
        module = sys.modules.get(name or "")
        if module is not None and hasattr(module, "OperationalError"):
            return module
    return None


def installed() -> list[tuple[str, str, str]]:
    """`(plugin, distribution, version)` of every plugin that is installed, sorted."""
    # Imported here: it costs some 30 ms, and only people ask.
    from importlib import metadata

    found = metadata.entry_points(group=GROUP)
    return sorted(
        (point.name, point.dist.name, point.dist.version) for point in found if point.dist
    )


def bare_connect(connect: Any) -> Callable[..., Any]:
    """The driver's own, if `connect` stands in for it (`dbapi_pool.patch`): its connections are pooled
    already, and no driver would know them."""
    if isinstance(connect, FunctionType):
        connect = vars(connect).get(STANDS_FOR, connect)
    return connect  # type: ignore[no-any-return]
