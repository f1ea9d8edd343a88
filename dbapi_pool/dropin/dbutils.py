"""`PooledDB` with the parameters and the errors of DBUtils 3.2.0, on a `Pool`.

    from dbapi_pool.dropin.dbutils import PooledDB  # was: from dbutils.pooled_db import PooledDB

What differs, and why, is in `docs/dbutils.md`. Here is the translation of sizes, waiting and errors;
what concerns one connection is in `legacy`. This module must never reach behind `Pool`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, ClassVar

from ..errors import (
    ConnectionReturned,
    PoolClosed,
    PoolDeadlock,
    PoolSettingError,
    PoolTimeout,
    for_driver,
)
from ..handles import PooledConnection
from ..pool import Pool
from .legacy import Check, Failures, Legacy, NotSupportedError, Ping, PooledDBError, adapt

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

UNLIMITED = 1_000_000
"""`max_size` where DBUtils has no limit. Room that is not used costs nothing."""

_POOL_SETTINGS = frozenset(Pool.__init__.__kwdefaults__ or ())
_WORDS = "for PooledDB, max_size is maxconnections and checkout_timeout is blocking"


class InvalidConnectionError(PooledDBError, ConnectionReturned):
    """A connection was used after its `close()`. Also the driver's `InterfaceError`."""


class TooManyConnectionsError(PooledDBError, PoolTimeout):
    """`maxconnections` are lent, and `blocking` is off. Also the driver's `OperationalError`."""


class TooManyConnectionsDeadlock(TooManyConnectionsError, PoolDeadlock):
    """`maxconnections` are lent, and all to threads that wait for one more, this one included."""


InvalidConnection = InvalidConnectionError
TooManyConnections = TooManyConnectionsError


class PooledDedicatedDBConnection(PooledConnection):
    """A `PooledConnection` with the methods that DBUtils has on every driver's connections."""

    __slots__ = ()

    _gone = InvalidConnectionError

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """The driver's `begin`, if it has one. Else nothing: PEP 249 begins by itself."""
        self._call_if_there("begin", *args, **kwargs)

    def cancel(self) -> None:
        """The driver's `cancel`, if it has one."""
        self._call_if_there("cancel")

    def _call_if_there(self, name: str, *args: Any, **kwargs: Any) -> None:
        try:
            method = self.__getattr__(name)  # the driver's, which this class hides
        except AttributeError:
            return
        method(*args, **kwargs)

    def dbapi(self) -> Any:
        """The driver's DB-API module. Raises `AttributeError` if that could not be found."""
        return self._legacy.dbapi()

    def threadsafety(self) -> int:
        """The driver's PEP 249 `threadsafety`. Raises `AttributeError` if it has none."""
        return self._legacy.threadsafety()

    @property
    def _legacy(self) -> Legacy:
        return self._lease.pool.driver.legacy  # type: ignore[no-any-return]

    @property
    def dbapi_connection(self) -> Any:
        """As `driver_connection`."""
        return self.driver_connection


class PooledDB:
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

    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of `Pool` that win over those made from the parameters."""

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
        if maxusage is not None and not isinstance(maxusage, int):
            raise TypeError("'maxusage' must be an integer value.")
        self._legacy = Legacy(creator, ping, failures, isfatal)
        self._args = args
        self._kwargs = kwargs
        self._settings = {
            **_sizes(mincached, maxcached, maxshared, maxconnections),
            "checkout_timeout": None if blocking else 0.0,
            "max_uses": _count("maxusage", maxusage) or None,
            "setup": setsession or None,
            "reset": "auto" if reset else "transaction",
            **_ping_after(self._legacy),
            **self.pool_settings,
        }
        # The present pool under the one key None; `close` puts another dict in its place. Not a lock:
        # `setdefault` is atomic too, and a fork cannot copy it half done.
        self._present: dict[None, Pool] = {}
        self._pool()
        self._settings["min_size"] = 0  # after `close()` none is opened that nobody asked for

    def _pool(self) -> Pool:
        present = self._present
        return present.get(None) or present.setdefault(None, self._make_pool())

    def _make_pool(self) -> Pool:
        connect, kwargs = self._legacy.connect, self._kwargs
        clashing = {name: kwargs[name] for name in kwargs if name in _POOL_SETTINGS}
        if clashing:
            connect = partial(connect, **clashing)
            kwargs = {name: kwargs[name] for name in kwargs if name not in clashing}
        driver = adapt(
            self.pool_settings.get("driver") or self._legacy.driver(),
            self._legacy,
            PooledDedicatedDBConnection,
        )
        try:
            return Pool(connect, *self._args, **{**self._settings, **kwargs, "driver": driver})
        except PoolSettingError as exc:
            raise PoolSettingError(f"{exc} ({_WORDS})") from exc

    def connection(self, shareable: bool = True) -> PooledConnection:
        """Borrow a connection; `close()` gives it back. Nobody else has it meanwhile, whatever
        `shareable` says.

        Raises `TooManyConnectionsError`, or the driver's own error if it cannot connect.
        """
        return self._lend(sys._getframe(1))

    def _lend(self, frame: FrameType) -> PooledConnection:
        while True:
            pool = self._pool()
            try:
                return pool.lend(frame)
            except (PoolTimeout, PoolDeadlock) as exc:
                raise _too_many(exc, pool) from exc.__cause__
            except PoolClosed:
                self._forget(pool)

    def dedicated_connection(self) -> PooledConnection:
        """As `connection()`."""
        return self._lend(sys._getframe(1))

    def close(self) -> None:
        """Close all connections: idle ones now, lent ones when they come back.

        Waits up to 5 seconds for those of other threads. `connection()` then opens new ones.
        """
        pool = self._present.get(None)
        if pool is not None:
            self._forget(pool)

    def _forget(self, pool: Pool) -> None:
        if self._present.get(None) is pool:
            self._present = {}
        pool.close()

    @property
    def pool(self) -> Pool:
        """The `Pool` behind it, for `stats()` and the like; after `close()` it is another one."""
        return self._pool()


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


def _too_many(exc: PoolTimeout | PoolDeadlock, pool: Pool) -> TooManyConnectionsError:
    kind = TooManyConnectionsError
    if isinstance(exc, PoolDeadlock):
        kind = TooManyConnectionsDeadlock
    return for_driver(kind, pool.driver.module)(f"{exc} ({_WORDS})")
