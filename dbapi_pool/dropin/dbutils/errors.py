"""The errors that DBUtils' users know, each also the pool's and the driver's.

This module must never know a pool, a driver or a connection.
"""

from __future__ import annotations

from ...errors import ConnectionReturned, PoolDeadlock, PoolError, PoolSettingError, PoolTimeout

__all__ = [
    "InvalidConnection",
    "InvalidConnectionError",
    "InvalidCursor",
    "InvalidCursorError",
    "LostTransactionError",
    "NotSupportedError",
    "PersistentDBError",
    "PooledDBError",
    "SteadyDBError",
    "TooManyConnections",
    "TooManyConnectionsDeadlock",
    "TooManyConnectionsError",
]


class PooledDBError(PoolError):
    """Base of what `PooledDB` raises."""


class PersistentDBError(PoolError):
    """Base of what `PersistentDB` raises."""


class SteadyDBError(PoolError):
    """Base of what steady connections and their cursors raise."""


class NotSupportedError(PooledDBError, PersistentDBError, PoolSettingError):
    """The driver says that threads may not even share its module (PEP 249, `threadsafety`)."""


class InvalidConnectionError(PooledDBError, ConnectionReturned):
    """A connection was used after its `close()`. Also the driver's `InterfaceError`."""


class TooManyConnectionsError(PooledDBError, PoolTimeout):
    """`maxconnections` are lent, and `blocking` is off. Also the driver's `OperationalError`."""


class TooManyConnectionsDeadlock(TooManyConnectionsError, PoolDeadlock):
    """`maxconnections` are lent, and all to threads that wait for one more, this one included."""


class InvalidCursorError(SteadyDBError, ConnectionReturned):
    """Rows were asked for that went with the connection. Also the driver's `InterfaceError`."""


class LostTransactionError(SteadyDBError):
    """The connection was lost in the middle of a transaction, which was not ended since. Also the
    driver's `OperationalError`."""

    dbapi_base = "OperationalError"


InvalidConnection = InvalidConnectionError
TooManyConnections = TooManyConnectionsError
InvalidCursor = InvalidCursorError
