"""`PooledDB` with the parameters and the errors of DBUtils 3.2.0, on a `Pool`.

    from dbapi_pool.dropin.dbutils import PooledDB  # was: from dbutils.pooled_db import PooledDB

What differs, and why, is in `docs/dbutils.md`. Here is the translation of sizes, waiting and errors;
what concerns one connection is in `legacy`. This module must never reach behind `Pool`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import PoolDeadlock, PoolError, PoolSettingError, for_driver
from ...handles import PooledConnection
from ...pool import Pool
from .backing import UNLIMITED, Backed
from .errors import (
    InvalidConnection,
    InvalidConnectionError,
    NotSupportedError,
    PooledDBError,
    TooManyConnections,
    TooManyConnectionsDeadlock,
    TooManyConnectionsError,
)
from .handles import LegacyConnection
from .legacy import Check, Failures, Legacy, Ping, __version__, check_maxusage
from .steady_db import SteadyDBConnection

__all__ = [
    "InvalidConnection",
    "InvalidConnectionError",
    "NotSupportedError",
    "PooledDB",
    "PooledDBError",
    "PooledDedicatedDBConnection",
    "TooManyConnections",
    "TooManyConnectionsDeadlock",
    "TooManyConnectionsError",
]

_WORDS = " (for PooledDB, max_size is maxconnections and checkout_timeout is blocking)"


class PooledDedicatedDBConnection(LegacyConnection):
    """A borrowed connection. One that is dropped without `close()` is given back all the same."""

    __slots__ = ()

    _gone = InvalidConnectionError

    def __del__(self) -> None:
        try:
            if self._tether:
                self.close()
        except BaseException:  # never lent, or the interpreter ends: nobody is there to be told
            pass


class PooledDB(Backed):
    """A pool with DBUtils' parameters; `docs/dbutils.md` has each of them.

    creator: a DB-API module, or a function that connects; `args` and `kwargs` are passed to it
    mincached: connections opened at once, and kept open (None: 0)
    maxcached: idle connections kept at most (0 or None: all)
    maxshared: counts as a lower bound for maxconnections; connections are never shared
    maxconnections: connections open at most (0 or None: no limit)
    blocking: when all are lent, wait without limit, first come, first served; else raise
        `TooManyConnectionsError` at once
    maxusage: borrowings after which a connection is replaced (0 or None: never)
    setsession: SQL statements that prepare each new connection; they are committed
    reset: True: a connection comes back as if new; False or None: it is only rolled back
    failures, isfatal: the errors that cost a connection, besides those that the driver is known for
    ping: whether idle connections are checked when fetched, and how
    """

    version = __version__
    _handle_base = PooledDedicatedDBConnection
    _words = _WORDS

    def __init__(
        self,
        creator: Any,
        mincached: int | None = 0,
        maxcached: int | None = 0,
        maxshared: int | None = 0,
        maxconnections: int | None = 0,
        blocking: object = False,
        maxusage: int | None = None,
        setsession: Sequence[str] | None = None,
        reset: object = True,
        failures: Failures = None,
        ping: Ping = 1,
        isfatal: Check | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Raises `NotSupportedError` for a driver that is not for threads, `TypeError` where DBUtils
        does, `PoolSettingError` for other values that cannot work, and the driver's own error if
        the first `mincached` connections cannot be opened."""
        check_maxusage(maxusage)
        legacy = Legacy(creator, ping, failures, isfatal)
        settings = {
            **_sizes(mincached, maxcached, maxshared, maxconnections),
            "checkout_timeout": None if blocking else 0.0,
            "max_uses": _count("maxusage", maxusage) or None,
            "setup": setsession or None,
            "reset": "auto" if reset else "transaction",
            **_ping_after(legacy),
        }
        self._back(legacy, args, kwargs, settings)
        self._steady = partial(
            SteadyDBConnection, creator, maxusage, setsession, failures, ping, True, isfatal,
            *args, **kwargs,
        )  # fmt: skip
        self._pool()
        self._settings["min_size"] = 0  # after `close()` none is opened that nobody asked for

    def connection(self, shareable: bool = True) -> PooledConnection:
        """Borrow a connection; `close()` gives it back. Nobody else has it meanwhile, whatever
        `shareable` says.

        Raises `TooManyConnectionsError`, or the driver's own error if it cannot connect.
        """
        return self._lend(sys._getframe(1))

    def dedicated_connection(self) -> PooledConnection:
        """As `connection()`."""
        return self._lend(sys._getframe(1))

    def _refusal(self, exc: PoolError, pool: Pool) -> PoolError:
        kind = TooManyConnectionsError
        if isinstance(exc, PoolDeadlock):
            kind = TooManyConnectionsDeadlock
        return for_driver(kind, pool.driver.module)(f"{exc}{_WORDS}")

    def steady_connection(self) -> SteadyDBConnection:
        """A connection of its own beside the pool, with the same parameters: it is not counted, and
        its `close()` closes it. Raises the driver's own error if it cannot connect."""
        return self._steady()

    def close(self) -> None:
        """Close all connections: idle ones now, lent ones when they come back.

        Waits up to 5 seconds for those of other threads. `connection()` then opens new ones.
        """
        pool = self._present.get(None)
        if pool is not None:
            self._forget(pool)


def _sizes(
    mincached: int | None, maxcached: int | None, maxshared: int | None, maxconnections: int | None
) -> dict[str, int | None]:
    least = _count("mincached", mincached)
    idle = _count("maxcached", maxcached)
    shared = _count("maxshared", maxshared)
    most = _count("maxconnections", maxconnections)
    idle = max(idle, least) if idle else 0
    most = max(most, idle, shared) if most else UNLIMITED
    if least > most:
        raise PoolSettingError(f"mincached={least} is more than maxconnections={most}")
    return {"min_size": least, "max_idle": idle or None, "max_size": most}


def _count(name: str, value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or value < 0:
        raise PoolSettingError(f"{name}={value!r}: must be a whole number, 0 or more, or None")
    return int(value)  # True is 1


def _ping_after(legacy: Legacy) -> dict[str, float | None]:
    if not legacy.when:
        return {"ping_after": None}
    if legacy.check is not None or legacy.when > 1:  # they ask for more than the usual
        return {"ping_after": 0.0}
    return {}
