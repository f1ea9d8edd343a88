"""The pluggy hooks of dbapi_pool: finding a driver, and telling what happened.

A plugin is any module or object registered under the entry point group `dbapi_pool` that has
functions of these names marked with `dbapi_pool.drivers.hookimpl`. This module is imported with the
first pool, not before (pluggy costs some 15 ms), and must never know the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .base import Driver

PROJECT = "dbapi_pool"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def dbapi_pool_driver(creator: Any, root: str) -> Driver | None:
    """The `Driver` for this creator, or None if it is not ours.

    `creator` is what the user gave (a DB-API module, a connect function, a class) or, where that
    said nothing, the class of the first connection. `root` is its root module's name
    (`"psycopg2"`), or for a database URL its scheme (`"postgresql"`, `"mysql+pymysql"`).
    Called once or twice per pool. Must not connect; imports its driver only if `root` is its own.
    """


@hookspec
def dbapi_pool_connected(pool: Any, seconds: float) -> None:
    """A driver connection was opened and set up; it took that long."""


@hookspec
def dbapi_pool_checked_out(pool: Any, connection: Any) -> None:
    """A connection was lent; `connection` is the borrower's handle: do not keep it."""


@hookspec
def dbapi_pool_checked_in(pool: Any, seconds: float) -> None:
    """A connection came back after that long."""


@hookspec
def dbapi_pool_retired(pool: Any, reason: str) -> None:
    """A driver connection is about to be closed, and why (see `docs/reference.md`, "Reasons")."""


@hookspec
def dbapi_pool_timed_out(pool: Any, seconds: float) -> None:
    """A caller got no connection after waiting that long."""
