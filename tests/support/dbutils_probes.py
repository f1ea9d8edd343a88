"""Answers to what DBUtils' own tests ask of private attributes, out of what there is in their place.

So that a test that looks at `len(pool._idle_cache)` can find out whether the pool behaves as it should.
Each answer is read only and derived from the pool's own state at that moment; nothing here decides
anything. For the one process of `dbutils_stand_in`; must never be used by anything else.
"""

from __future__ import annotations

from typing import Any

from dbapi_pool.dropin.dbutils import handles, legacy, pooled_db, steady_db
from dbapi_pool.handles import is_returned

NAME = "_steady_in_pool"


class SteadyInPool:
    """Stands for the steady connection that DBUtils has around each driver connection of a pool."""

    def __init__(self, conn: Any, db: Any) -> None:
        self._con = conn
        self._maxusage = db._settings["max_uses"]
        self._setsession_sql = db._settings["setup"]
        self._isfatal = db._legacy._isfatal
        # The mock counts its own uses; those of `setsession` came before.
        self._first = conn.num_uses

    @property
    def _usage(self) -> int:
        return int(self._con.num_uses - self._first)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return steady_db.SteadyDBConnection

    def close(self) -> None:
        """As the tests break a connection."""
        self._con.close()


def steady_in_pool(conn: Any, db: Any) -> SteadyInPool:
    """Always the same one for a driver's connection."""
    found: SteadyInPool = vars(conn).setdefault(NAME, SteadyInPool(conn, db))
    return found


class Settings:
    """What a borrowed connection knows of the `PooledDB` that lent it: the parameters."""

    def __init__(self, handle: Any) -> None:
        pool = handle._lease.pool
        options = pool._options
        self._settings = {"max_uses": options.max_uses, "setup": options.setup}
        self._legacy = pool.driver.legacy


def of_lent(handle: Any) -> SteadyInPool:
    """Raises what a returned one raises."""
    return steady_in_pool(handle._lease.member.conn, Settings(handle))


def of_pooled(handle: Any) -> Any:
    """`PooledDedicatedDBConnection._con`."""
    return None if is_returned(handle) else of_lent(handle)


def idle(db: Any) -> list[SteadyInPool]:
    """`PooledDB._idle_cache`."""
    return [steady_in_pool(lease.member.conn, db) for lease in db.pool._ledger.idle]


def in_use(db: Any) -> int:
    """`PooledDB._connections`."""
    return int(db.pool.stats().in_use)


def at_most(db: Any) -> int:
    """`PooledDB._maxconnections`."""
    size = db.pool.max_size
    return 0 if size == pooled_db.UNLIMITED else size


def failures(con: Any) -> Any:
    """`SteadyDBConnection._failures`."""
    renewal = con._renewal
    errors = renewal.driver.module or renewal.raw
    return renewal.legacy._failures or legacy._default_failures(errors)


ON_POOL = {
    "_idle_cache": idle,
    "_connections": in_use,
    "_maxconnections": at_most,
    "_maxusage": lambda db: db._settings["max_uses"],
    "_setsession": lambda db: db._settings["setup"],
    "_isfatal": lambda db: db._legacy._isfatal,
    "_maxshared": lambda db: 0,  # none is ever shared
}
ON_POOLED = {
    "_con": of_pooled,
    "_usage": lambda handle: of_lent(handle)._usage,
    "_setsession_sql": lambda handle: of_lent(handle)._setsession_sql,
}
ON_PERSISTENT = {"_isfatal": lambda db: db._source._legacy._isfatal}
ON_STEADY = {
    "_con": lambda con: con._renewal.raw,
    "_transaction": lambda con: con._renewal.begun,
    "_usage": lambda con: con._renewal.usage,
    "_maxusage": lambda con: con._renewal.maxusage,
    "_setsession_sql": lambda con: con._renewal.source._settings["setup"],
    "_failures": failures,
    "_isfatal": lambda con: con._renewal.legacy._isfatal,
    "_ping": lambda con: con._renewal.legacy.when,
    "_pinger": lambda con: con._renewal.legacy.check,
    "_creator": lambda con: con._renewal.legacy.connect,
    "_args": lambda con: con._renewal.source.pool._source._args,
    # The one that connecting looks at.
    "_kwargs": lambda con: con._renewal.source.pool._source._kwargs,
    "_close": lambda con: con._renewal.drop,
}


def install() -> None:
    """Put them on our classes."""
    from dbapi_pool.dropin.dbutils import persistent_db

    for cls, probes in (
        (pooled_db.PooledDB, ON_POOL),
        (handles.LegacyConnection, ON_POOLED),
        (persistent_db.PersistentDB, ON_PERSISTENT),
        (steady_db.SteadyDBConnection, ON_STEADY),
    ):
        for name, look in probes.items():
            setattr(cls, name, property(look))
