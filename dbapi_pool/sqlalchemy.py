"""SQLAlchemy over a pool of ours: `create_engine(url, plugins=["dbapi_pool"])`.

SQLAlchemy prepares each new connection of the driver (its `connect` event: types, functions, your own
listeners) once, as this pool's `setup`, and then borrows prepared ones. It is SQLAlchemy that imports
this, by an entry point. It must know the pool by its public face alone.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL, CreateEnginePlugin, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool
from sqlalchemy.pool import Pool as SQLAlchemyPool

from . import Pool, PooledConnection
from .between import check_settings, outside

__all__ = ["DBAPIPool", "EnginePlugin"]

_PREFIX = "dbapi_pool_"
_ONE_THREAD = "check_same_thread"
Setup = Callable[[Any], None]


class EnginePlugin(CreateEnginePlugin):
    """Gives an engine a `DBAPIPool`.

    The pool's settings are the argument `dbapi_pool={"max_size": 20}` of `create_engine`, and keys of
    the URL's query: `?plugin=dbapi_pool&dbapi_pool_max_size=20`. A setting `creator` connects in
    place of the driver's module, with the same arguments. Raises `sqlalchemy.exc.ArgumentError` for
    `setup`, which is SQLAlchemy's `connect` event here, and for arguments that choose another pool.
    """

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        self._settings = {**_in_query(url), **kwargs.pop("dbapi_pool", {})}
        self._connect_args = dict(kwargs.get("connect_args") or {})
        for name in ("creator", "pool", "poolclass"):
            if kwargs.get(name) is not None:
                raise ArgumentError(f'{name}=: leave it out, or "dbapi_pool" from plugins=')
        if "setup" in self._settings:
            raise ArgumentError(
                "dbapi_pool: the setting 'setup' is SQLAlchemy's here; prepare connections in a"
                ' listener: @event.listens_for(engine, "connect")'
            )
        kwargs["pool"] = self._pool = DBAPIPool()

    def update_url(self, url: URL) -> URL:
        """The URL without the pool's settings."""
        return url.difference_update_query([key for key in url.query if key.startswith(_PREFIX)])

    def engine_created(self, engine: Engine) -> None:
        """Now that everything is known: make the pool."""
        dialect: Any = engine.dialect
        if dialect.is_async:
            raise ArgumentError("dbapi_pool: an asynchronous engine cannot borrow from this pool")
        args, kwargs = dialect.create_connect_args(engine.url)
        if _ONE_THREAD not in engine.url.query:  # the dialect's own idea, for databases in memory
            kwargs.pop(_ONE_THREAD, None)
        settings = dict(self._settings)
        connect = settings.pop("creator", dialect.loaded_dbapi.connect)
        check_settings(settings)
        # A partial, so that no argument of the driver is taken for a setting.
        creator = functools.partial(connect, *args, **{**kwargs, **self._connect_args})
        self._pool.start(functools.partial(Pool, creator, **settings))


def _in_query(url: URL) -> dict[str, Any]:
    keys = [key for key in url.query if key.startswith(_PREFIX)]
    return {key.removeprefix(_PREFIX): _value(str(url.query[key])) for key in keys}


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


class DBAPIPool(SQLAlchemyPool):
    """The engine's pool as SQLAlchemy sees it; `dbapi_pool` is the `Pool` behind it.

    `engine.dispose()` closes that and begins with a new one; connections that are in use are closed
    when they come back. SQLAlchemy's event `close` is not told here, since closing is the pool's.
    """

    dbapi_pool: Pool

    def __init__(self, dialect: Any = None, _dispatch: Any = None, **options: Any) -> None:
        # The pool rolls back by itself, and only where there is something to roll back.
        super().__init__(
            self._being_prepared,
            reset_on_return=None,
            dialect=dialect,
            _dispatch=_dispatch,
            **options,
        )
        self._new = threading.local()

    def start(self, make: Callable[..., Pool]) -> None:
        """`make(setup=...)` makes the pool."""
        self._make = make
        self.dbapi_pool = make(setup=_prepares(self))
        self._borrowed = _Borrowed(self)

    # -- a new connection of the driver --------------------------------------------------------------

    def prepare(self, conn: Any) -> None:
        """Have SQLAlchemy tell its listeners of a new connection."""
        self._new.conn = conn
        try:
            record: Any = self._create_connection()
        finally:
            del self._new.conn
        record.dbapi_connection = None  # it is not SQLAlchemy's to close

    def _being_prepared(self) -> Any:
        return self._new.conn

    # -- what SQLAlchemy asks of a pool ------------------------------------------------------------

    def _do_get(self) -> Any:
        return self._borrowed._do_get()

    def _do_return_conn(self, record: Any) -> None:
        self._borrowed._do_return_conn(record)

    def status(self) -> str:
        """The pool's sizes, in words."""
        return repr(self.dbapi_pool)

    def dispose(self) -> None:
        """Close the pool."""
        self.dbapi_pool.close(timeout=0)

    def recreate(self) -> DBAPIPool:
        """Another one like it."""
        new = DBAPIPool(
            dialect=self._dialect,
            _dispatch=self.dispatch,
            echo=self.echo,
            logging_name=self._orig_logging_name,
        )
        new.start(self._make)
        return new


def _prepares(pool: DBAPIPool) -> Setup:
    """`pool.prepare`, without keeping the pool alive: the threads that connect hold this."""
    ref = weakref.ref(pool)

    def setup(conn: Any) -> None:
        found = ref()
        if found is not None:
            found.prepare(conn)

    return setup


class _Borrowed(NullPool):
    """Where an engine's connections come from: each is borrowed, and given back when it is closed."""

    def __init__(self, pool: DBAPIPool) -> None:
        super().__init__(
            lambda: pool.dbapi_pool.lend(outside("sqlalchemy")),
            reset_on_return=None,
            dialect=pool._dialect,
        )
        # In place of a descriptor of SQLAlchemy, which stores it there too.
        self.__dict__["dispatch"] = _Told(pool.dispatch, self.dispatch)

    def _close_connection(self, connection: PooledConnection, *, terminate: bool = False) -> None:
        if terminate:  # SQLAlchemy has found that it is lost
            connection.invalidate()
        else:
            connection.close()


class _Told:
    """Who is told of a borrowed connection: the engine's listeners, but for those of connecting and
    closing, which it does not do."""

    def __init__(self, listeners: Any, nobody: Any) -> None:
        self._listeners: Mapping[str, Any] | Any = listeners
        self.connect, self.first_connect, self.close = (
            nobody.connect, nobody.first_connect, nobody.close
        )  # fmt: skip

    def __getattr__(self, event: str) -> Any:
        return getattr(self._listeners, event)
