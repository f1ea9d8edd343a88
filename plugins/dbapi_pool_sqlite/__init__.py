"""The sqlite3 plugin of dbapi_pool: finds its `Driver`, and offers the `many_threads` setup.

Importing this imports no sqlite3: entry points are loaded in programs that use another database.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dbapi_pool.drivers import Driver, hookimpl

if TYPE_CHECKING:
    from .driver import SQLiteDriver
    from .profile import ManyThreads, many_threads

__all__ = ["ManyThreads", "SQLiteDriver", "many_threads"]

serves = ("sqlite3",)
"""The DB-API modules that it serves, for `dbapi-pool plugins`."""

# `sqlite+pysqlite` is what SQLAlchemy calls the sqlite3 module in its URLs.
_ROOTS = frozenset({"sqlite3", "_sqlite3", "sqlite", "sqlite+sqlite3", "sqlite+pysqlite"})

_HOMES = {"ManyThreads": ".profile", "SQLiteDriver": ".driver", "many_threads": ".profile"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def dbapi_pool_driver(creator: Any, root: str) -> Driver | None:
    """A `SQLiteDriver` for the sqlite3 module, its connections' classes, and `sqlite:` URLs."""
    if root not in _ROOTS and not _is_connection_class(creator):
        return None
    from .driver import SQLiteDriver

    return SQLiteDriver(creator=creator)


def _is_connection_class(creator: Any) -> bool:
    """Whether it is a subclass of `sqlite3.Connection` made elsewhere."""
    module = sys.modules.get("sqlite3")
    return (
        module is not None and isinstance(creator, type) and issubclass(creator, module.Connection)
    )
