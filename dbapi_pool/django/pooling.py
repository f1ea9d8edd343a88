"""`Pooled`, what makes a backend of Django's borrow its connections, and the pools of this process.

A pool's connections are made and prepared by a wrapper of the backend's own class, which nobody else
has (`Maker`), so they come out as Django would have made them. It must not know one database from
another.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

from dbapi_pool import Driver, Pool, PoolError
from dbapi_pool.between import check_settings, outside

_OURS = ("django", "asgiref")
_OPTION = "pool"

_lock = threading.Lock()  # guards `_pools`; nothing under it does I/O


class Settled(NamedTuple):
    """What the connections of a pool were made from."""

    params: Mapping[str, Any]
    options: Mapping[str, Any]
    others: tuple[Any, ...]


_pools: dict[str, tuple[Settled, Pool]] = {}
"""By alias."""


class Maker:
    """Makes and prepares connections for a pool, in whatever thread."""

    def __init__(self, wrapper: Pooled) -> None:
        self._kind = type(wrapper)
        self._alias = wrapper.alias
        self._settings = {
            **wrapper.settings_dict,
            "OPTIONS": dict(wrapper.settings_dict["OPTIONS"]),
        }

    def connect(self, **params: Any) -> Any:
        """As Django would."""
        return self._wrapper().get_raw_connection(params)

    def prepare(self, conn: Any) -> None:
        """The pool's `setup`: what Django does with each new connection."""
        wrapper = self._wrapper()
        wrapper.connection = conn
        wrapper.set_autocommit(self._settings["AUTOCOMMIT"])
        wrapper.init_connection_state()
        wrapper.connection = None

    def _wrapper(self) -> Pooled:
        wrapper = self._kind(self._settings, self._alias)
        wrapper.prepares = True
        wrapper.get_connection_params()  # for what it notes on the way
        return wrapper


class Pooled(BaseDatabaseWrapper):
    """The half of a backend that borrows; to be put before Django's in the bases."""

    settings_dict: Any
    connection: Any
    prepares = False
    """Whether it belongs to a `Maker`: its connection is the driver's own then."""

    # -- what each backend says ----------------------------------------------------------------------

    def pool_source(self, maker: Maker) -> tuple[Any, Driver | None]:
        """What connects, and the driver if that does not tell."""
        return maker.connect, None

    def is_poolable(self) -> bool:
        """Whether its connections may go from thread to thread."""
        return True

    def has_autocommit(self) -> bool:
        """Whether the connection is in autocommit mode. No I/O."""
        raise NotImplementedError

    # -- the pool --------------------------------------------------------------------------------------

    @property
    def dbapi_pool(self) -> Pool | None:
        """The `dbapi_pool.Pool` of this alias in this process, made when it is first needed; None if
        connections are not pooled. Raises `ImproperlyConfigured` for settings that cannot work."""
        return self._pool_for(self.get_connection_params()) if self._is_pooled() else None

    def close_pool(self) -> None:
        """Close the pool: idle connections now, those in use when they come back. The next who needs
        a connection makes another pool.

        It is called before a test database is dropped, so pools of other aliases that connect to the
        same (mirrors) are closed with it.
        """
        mine = self.get_connection_params()
        with _lock:
            gone = [alias for alias, (settled, _) in _pools.items() if settled.params == mine]
            closing = [_pools.pop(alias)[1] for alias in {*gone, self.alias} & _pools.keys()]
        for pool in closing:
            pool.close()

    def _is_pooled(self) -> bool:
        return (
            not self.prepares
            and self.alias != NO_DB_ALIAS
            and self.settings_dict["OPTIONS"].get(_OPTION) is not False
            and self.is_poolable()
        )

    def _pool_for(self, params: Mapping[str, Any]) -> Pool:
        settled = self._settled(params)
        known, pool = _pools.get(self.alias, (None, None))
        if pool is not None and known == settled:
            return pool
        options = self._pool_options()
        with _lock:
            known, old = _pools.get(self.alias, (None, None))
            if old is not None and known == settled:
                return old
            # It opens nothing yet.
            pool = self._make_pool(params, {**options, "min_size": 0})
            _pools[self.alias] = settled, pool
        if options.get("min_size"):
            pool.resize(min_size=options["min_size"])
        if old is not None:  # the settings were changed, as tests do
            old.close(timeout=0)
        return pool

    def _settled(self, params: Mapping[str, Any]) -> Settled:
        settings = self.settings_dict
        others = settings["AUTOCOMMIT"], settings["TIME_ZONE"]
        return Settled(params, dict(settings["OPTIONS"]), others)

    def _pool_options(self) -> dict[str, Any]:
        options = self.settings_dict["OPTIONS"].get(_OPTION, True)
        where = f"DATABASES[{self.alias!r}]"
        if self.settings_dict["CONN_MAX_AGE"] != 0:
            raise ImproperlyConfigured(
                f"{where}: CONN_MAX_AGE={self.settings_dict['CONN_MAX_AGE']!r} would have each thread"
                " keep a connection of the pool; leave it out (the pool's max_lifetime says how old"
                " connections get)"
            )
        if options is True:
            options = {}
        if not isinstance(options, Mapping):
            raise ImproperlyConfigured(
                f'{where}: OPTIONS["pool"]={options!r}: must be a dictionary with settings of'
                " dbapi_pool.Pool, True, or False (no pool)"
            )
        if "setup" in options:
            raise ImproperlyConfigured(
                f"{where}: the pool's setting 'setup' is Django's here; prepare connections by the"
                " options of its backend"
            )
        try:
            check_settings(options)
        except PoolError as exc:
            raise ImproperlyConfigured(f'{where}: OPTIONS["pool"]: {exc}') from exc
        defaults: dict[str, Any] = {"name": f"django-{self.alias}"}
        if self.settings_dict["CONN_HEALTH_CHECKS"]:
            defaults["ping_after"] = 0
        return {**defaults, **options}

    def _make_pool(self, params: Mapping[str, Any], options: dict[str, Any]) -> Pool:
        maker = Maker(self)
        connect, driver = self.pool_source(maker)
        options.setdefault("driver", driver)
        # A partial, so that no argument of the driver is taken for a setting.
        creator = functools.partial(connect, **params)
        return Pool(creator, setup=maker.prepare, **options)

    # -- what Django asks of a backend -------------------------------------------------------------

    def get_connection_params(self) -> dict[str, Any]:
        """As Django's, without what is for the pool."""
        given = self.settings_dict
        options = {name: value for name, value in given["OPTIONS"].items() if name != _OPTION}
        self.settings_dict = {**given, "OPTIONS": options}
        try:
            params: dict[str, Any] = super().get_connection_params()
        finally:
            self.settings_dict = given
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Borrow one."""
        if not self._is_pooled():
            return super().get_new_connection(conn_params)
        return self._pool_for(conn_params).lend(outside(*_OURS))

    def get_raw_connection(self, conn_params: dict[str, Any]) -> Any:
        """Django's own way to connect."""
        return super().get_new_connection(conn_params)

    def init_connection_state(self) -> None:
        """Nothing, for a connection of the pool, but to check the server's version once."""
        if self._is_pooled():
            BaseDatabaseWrapper.init_connection_state(self)
        else:
            super().init_connection_state()

    def _set_autocommit(self, autocommit: bool) -> None:
        """As Django's, which may take a round trip, where the connection is in the other mode."""
        with self.wrap_database_errors:
            unchanged = self.has_autocommit() == autocommit
        if not unchanged:
            super()._set_autocommit(autocommit)

    def _close(self) -> None:
        """Closing a borrowed connection gives it back."""
        BaseDatabaseWrapper._close(self)


class PooledCreation(BaseDatabaseCreation):
    """The half of a backend's `creation` that lets go of a test database before it is dropped or
    copied; to be put before Django's in the bases."""

    def _destroy_test_db(self, *args: Any, **kwargs: Any) -> Any:
        self.connection.close_pool()
        return super()._destroy_test_db(*args, **kwargs)

    def _clone_test_db(self, *args: Any, **kwargs: Any) -> Any:
        self.connection.close()
        self.connection.close_pool()
        return super()._clone_test_db(*args, **kwargs)


def _in_child() -> None:
    """After a fork, a wrapper that has a connection of the parent's pool borrows another. Not within
    a transaction, which is the parent's: there the connection says so."""
    for wrapper in connections.all(initialized_only=True):
        if isinstance(wrapper, Pooled) and not wrapper.in_atomic_block and wrapper._is_pooled():
            wrapper.connection = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
