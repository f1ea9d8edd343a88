"""The PostgreSQL plugin of dbapi_pool: finds the `Driver` for psycopg2 and psycopg (3).

Importing this imports neither: entry points are loaded in programs that use another database.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dbapi_pool.drivers import Driver, hookimpl

if TYPE_CHECKING:
    from .psycopg2_driver import Psycopg2Driver
    from .psycopg_driver import PsycopgDriver

__all__ = ["Psycopg2Driver", "PsycopgDriver"]

serves = ("psycopg2", "psycopg")
"""The DB-API modules that it serves, for `dbapi-pool plugins`; for a bare `postgresql:` URL the first
one that is installed."""

_HOMES = {"Psycopg2Driver": ".psycopg2_driver", "PsycopgDriver": ".psycopg_driver"}
_CLASSES = {"psycopg2": "Psycopg2Driver", "psycopg": "PsycopgDriver"}
_SCHEMES = frozenset({"postgresql", "postgres"})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def dbapi_pool_driver(creator: Any, root: str) -> Driver | None:
    """A driver for psycopg2, psycopg, their connections' classes, and `postgresql:` URLs."""
    if isinstance(creator, str):
        return _driver_for_scheme(root.lower())
    for module in serves:
        if root == module or _is_connection_class(creator, module):
            return _driver(module, creator)
    return None


def _driver(module: str, creator: Any) -> Driver:
    driver: Driver = __getattr__(_CLASSES[module])(creator=creator)
    return driver


def _driver_for_scheme(scheme: str) -> Driver | None:
    name, plus, module = scheme.partition("+")
    if name not in _SCHEMES or (plus and module not in serves):
        return None
    for candidate in [module] if plus else serves:
        try:
            return _driver(candidate, None)
        except ImportError:
            pass
    from .missing import MissingDriver

    return MissingDriver(module or None)


def _is_connection_class(creator: Any, module: str) -> bool:
    """Whether it is a subclass, made elsewhere, of that module's connection class."""
    if not isinstance(creator, type) or module not in sys.modules:
        return False
    extensions = sys.modules.get("psycopg2.extensions")
    found = sys.modules[module].Connection if module == "psycopg" else extensions
    base = getattr(found, "connection", None) if module == "psycopg2" else found
    return isinstance(base, type) and issubclass(creator, base)
