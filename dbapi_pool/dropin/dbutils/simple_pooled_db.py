"""DBUtils' `SimplePooledDB`: `PooledDB` with as many connections as it is told, and no more to tell.

This module must never know a pool.
"""

from __future__ import annotations

from typing import Any

from . import pooled_db
from .errors import NotSupportedError, PooledDBError
from .legacy import __version__

__all__ = ["NotSupportedError", "PooledDB", "PooledDBError"]

_LEVELS = (1, 2, 3)  # of PEP 249, without 0


class PooledDB(pooled_db.PooledDB):
    """A pool of `maxconnections` connections, opened at once; who finds all lent waits.

    `dbapi`: a DB-API module; `args` and `kwargs` are passed to its `connect`.
    """

    version = __version__

    def __init__(self, dbapi: Any, maxconnections: int, *args: Any, **kwargs: Any) -> None:
        """Raises `NotSupportedError` for a module that does not say, or is not, for threads, and the
        driver's own error if it cannot connect."""
        level = getattr(dbapi, "threadsafety", None)
        if level not in _LEVELS:
            raise NotSupportedError(f"threadsafety={level!r}: the module must say 1, 2 or 3")
        super().__init__(
            dbapi, maxconnections, maxconnections, 0, maxconnections, True,
            None, None, True, None, 1, None, *args, **kwargs,
        )  # fmt: skip
