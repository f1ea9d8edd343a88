"""A connection pool for every Python DB-API 2.0 (PEP 249) driver.

    from dbapi_pool import Pool

    pool = Pool(sqlite3, "app.db", max_size=8)
    with pool.connection() as conn:
        conn.execute("INSERT INTO t VALUES (?)", (1,))

Names are imported when they are first used, so that importing the package costs next to nothing, and
importing `Pool` little: what only a pool at work needs is imported when the first one is made. `typing`
is never imported on the way, as it takes longer than all the rest.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .drivers.base import Driver
    from .dropin.managed import manage
    from .dropin.patching import patch
    from .errors import (
        CommitOutcomeUnknown,
        ConnectionReturned,
        PoolClosed,
        PoolDeadlock,
        PoolError,
        PoolFull,
        PoolSettingError,
        PoolTimeout,
        PoolUnavailable,
    )
    from .handles import PooledConnection
    from .health import Health
    from .holders import Holder
    from .options import Options
    from .pool import Pool
    from .process import pools
    from .stats import Histogram, PoolStats

__all__ = [
    "CommitOutcomeUnknown",
    "ConnectionReturned",
    "Driver",
    "Health",
    "Histogram",
    "Holder",
    "Options",
    "Pool",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolFull",
    "PoolSettingError",
    "PoolStats",
    "PoolTimeout",
    "PoolUnavailable",
    "PooledConnection",
    "manage",
    "patch",
    "pools",
]

_HOMES = {
    "Driver": ".drivers.base",
    "Health": ".health",
    "Histogram": ".stats",
    "Holder": ".holders",
    "Options": ".options",
    "Pool": ".pool",
    "PoolStats": ".stats",
    "PooledConnection": ".handles",
    "manage": ".dropin.managed",
    "patch": ".dropin.patching",
    "pools": ".process",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
