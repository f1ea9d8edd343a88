"""`PersistentDB`: a steady connection for each thread, all of one `Pool`.

    from dbapi_pool.dropin.dbutils import PersistentDB  # was: from dbutils.persistent_db import ...

What makes a connection steady is in `steady_db`. This module must never reach behind `Pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import local
from typing import Any, ClassVar

from ...pool import Pool
from .backing import UNLIMITED, Backed
from .errors import NotSupportedError, PersistentDBError
from .legacy import Check, Failures, Legacy, Ping, __version__, check_maxusage
from .steady_db import SteadyDBConnection, settings

__all__ = ["NotSupportedError", "PersistentDB", "PersistentDBError"]


class PersistentDB:
    """Steady connections, one for each thread; `docs/dbutils.md` has each parameter.

    creator: a DB-API module, or a function that connects; `args` and `kwargs` are passed to it
    maxusage: statements after which one is replaced, when no transaction is open (0 or None: never)
    setsession: SQL statements that prepare each new connection; they are committed
    failures, isfatal: the errors that cost a connection, besides those that the driver is known for
    ping: when connections are checked, and how
    closeable: whether `close()` closes; else it only ends what `begin()` began
    threadlocal: what keeps each thread's connection, a class like `threading.local`

    A thread's connection is closed when the thread ends.
    """

    version = __version__
    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses, as that of `PooledDB`."""

    def __init__(
        self,
        creator: Any,
        maxusage: int | None = None,
        setsession: Sequence[str] | None = None,
        failures: Failures = None,
        ping: Ping = 1,
        closeable: bool = False,
        threadlocal: Callable[[], Any] | None = None,
        isfatal: Check | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Raises `NotSupportedError` for a driver that is not for threads, and `TypeError` where
        DBUtils does."""
        check_maxusage(maxusage)
        legacy = Legacy(creator, ping, failures, isfatal, inline=True)
        # Not this object itself: each connection knows where it comes from, and would be in a cycle.
        self._source = Backed()
        self._source._back(
            legacy, args, kwargs, {**settings(setsession, UNLIMITED), **self.pool_settings}
        )
        self._maxusage = maxusage
        self._closeable = closeable
        self.thread = (threadlocal or local)()

    def connection(self, shareable: bool = False) -> SteadyDBConnection:
        """The calling thread's connection, always the same one; `shareable` means nothing.

        A transaction that was lost, and reported, is forgotten. Raises the driver's own error if it
        cannot connect.
        """
        con: SteadyDBConnection | None = getattr(self.thread, "connection", None)
        if con is None:
            con = self.thread.connection = self.steady_connection()
        con._renewal.requested()
        return con

    def dedicated_connection(self) -> SteadyDBConnection:
        """As `connection()`."""
        return self.connection()

    def steady_connection(self) -> SteadyDBConnection:
        """A new connection, which is no thread's."""
        return SteadyDBConnection.on(self._source, self._maxusage, self._closeable)

    @property
    def pool(self) -> Pool:
        """The `Pool` behind it, for `stats()` and the like."""
        return self._source.pool
