"""The DuckDB plugin of dbapi_pool: finds its `Driver`.

Importing this imports no duckdb: entry points are loaded in programs that use another database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbapi_pool.drivers import Driver, hookimpl

if TYPE_CHECKING:
    from .driver import DuckDBDriver

__all__ = ["DuckDBDriver"]

serves = ("duckdb",)
"""The DB-API modules that it serves, for `dbapi-pool plugins`."""


def __getattr__(name: str) -> Any:
    if name == "DuckDBDriver":
        from .driver import DuckDBDriver

        return DuckDBDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def dbapi_pool_driver(creator: Any, root: str) -> Driver | None:
    """A `DuckDBDriver` for the duckdb module, its connections' class, and `duckdb:` URLs."""
    if root not in ("duckdb", "_duckdb"):  # its functions and classes are of the second
        return None
    from .driver import DuckDBDriver

    return DuckDBDriver(creator)
