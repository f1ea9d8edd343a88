"""DBUtils 3.2.0's classes for DB-API connections, on a `Pool`: its modules have the same names here.

    from dbapi_pool.dropin.dbutils.pooled_db import PooledDB  # was: from dbutils.pooled_db import ...

What they have in common is `backing` (the pool behind each), `legacy` (what parameters say about a
driver) and `handles` (what DBUtils has on every driver's connections). Here are re-exports only.
"""

from .errors import (
    InvalidConnection,
    InvalidConnectionError,
    InvalidCursor,
    InvalidCursorError,
    LostTransactionError,
    NotSupportedError,
    PersistentDBError,
    PooledDBError,
    SteadyDBError,
    TooManyConnections,
    TooManyConnectionsDeadlock,
    TooManyConnectionsError,
)
from .legacy import __version__
from .persistent_db import PersistentDB
from .pooled_db import PooledDB, PooledDedicatedDBConnection
from .steady_db import SteadyDBConnection, SteadyDBCursor, connect

__all__ = [
    "InvalidConnection",
    "InvalidConnectionError",
    "InvalidCursor",
    "InvalidCursorError",
    "LostTransactionError",
    "NotSupportedError",
    "PersistentDB",
    "PersistentDBError",
    "PooledDB",
    "PooledDBError",
    "PooledDedicatedDBConnection",
    "SteadyDBConnection",
    "SteadyDBCursor",
    "SteadyDBError",
    "TooManyConnections",
    "TooManyConnectionsDeadlock",
    "TooManyConnectionsError",
    "__version__",
    "connect",
]
