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


# -- events ---------------------------------------------------------------------------------------
# A function may leave out arguments that it does not need. `pool` is the `Pool`, or None when it has
# just been dropped; `connection_id` counts a pool's connections from 1; times are seconds.


@hookspec
def dbapi_pool_started(pool: Any) -> None:
    """A pool was made. Not told by `Pool.register`, before which it happens."""


@hookspec
def dbapi_pool_ended(pool: Any) -> None:
    """`Pool.close()` was called, for the first time; lent connections are still to come back."""


@hookspec
def dbapi_pool_changed(pool: Any, what: str) -> None:
    """The pool was "drained", "resized", "suspended" or "resumed", or replaces all its connections
    since the server is not the one that it was ("failover")."""


@hookspec
def dbapi_pool_connected(pool: Any, connection_id: int, seconds: float) -> None:
    """A driver connection was opened and set up; it took that long."""


@hookspec
def dbapi_pool_connect_failed(pool: Any, error: str, seconds: float) -> None:
    """One could not be opened; `error` is the name of the error's class. Its text may hold secrets."""


@hookspec
def dbapi_pool_checked_out(pool: Any, connection_id: int, connection: Any, waited: float) -> None:
    """A connection was lent after `waited` seconds in all; `connection` is the borrower's handle: do
    not keep it."""


@hookspec
def dbapi_pool_checked_in(pool: Any, connection_id: int, seconds: float) -> None:
    """A connection came back after that long, and is clean; or it was invalidated or detached."""


@hookspec
def dbapi_pool_cleaned(pool: Any, connection_id: int, seconds: float, reason: str | None) -> None:
    """A connection that was used came back, and to clean it took that long. `reason`: why it is closed
    then (see `docs/reference.md`, "Reasons"); None: it is clean."""


@hookspec
def dbapi_pool_pinged(pool: Any, connection_id: int, seconds: float, good: bool) -> None:
    """A connection was pinged; `good` is false if it is dead, and is retired."""


@hookspec
def dbapi_pool_retired(pool: Any, connection_id: int, reason: str, age: float) -> None:
    """A driver connection is about to be closed, and why (see `docs/reference.md`, "Reasons"), that
    long after it was opened."""


@hookspec
def dbapi_pool_closed(pool: Any, connection_id: int, seconds: float) -> None:
    """The driver has closed it, which took that long; its place is free."""


@hookspec
def dbapi_pool_timed_out(pool: Any, seconds: float) -> None:
    """A caller got no connection after waiting that long."""


@hookspec
def dbapi_pool_refused(pool: Any, error: str, seconds: float) -> None:
    """A checkout ended without a connection, by a timeout or otherwise; `error` as in
    `PoolStats.refused`."""


@hookspec
def dbapi_pool_leak_suspected(
    pool: Any, connection_id: int, site: str, thread: int, seconds: float, stack: str
) -> None:
    """A connection has been lent for `seconds`, longer than `leak_after`, to that thread; `site` is
    the `file:line` of the checkout, `stack` the calls that led there, "" without `leak_stack`."""


@hookspec
def dbapi_pool_returned_late(pool: Any, connection_id: int, site: str, seconds: float) -> None:
    """One that was suspected came back after all, after `seconds`."""


@hookspec
def dbapi_pool_dropped(pool: Any, connection_id: int, site: str) -> None:
    """A handle was collected that nobody had closed; its connection is retired as "leaked"."""


@hookspec
def dbapi_pool_shared(pool: Any, connection_id: int, site: str, threads: tuple[int, int]) -> None:
    """With `detect_sharing`: two threads were inside one borrowed connection at the same time."""


@hookspec
def dbapi_pool_alert(pool: Any, level: str, before: str, reasons: tuple[str, ...]) -> None:
    """The pool's health changed to `level` ("ok", "warning", "critical"); `before`: what it was."""
