"""What DBUtils has on every driver's connections and cursors, where the driver has it not.

It knows one borrowed connection, and the parameters of its driver. It must never know a pool.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...handles import PooledConnection

if TYPE_CHECKING:
    from .legacy import Legacy


class LegacyConnection(PooledConnection):
    """A `PooledConnection` with the methods that DBUtils has on every driver's connections."""

    __slots__ = ()

    _may_be_hidden = False

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor, as the driver's; it can be used in a `with` statement."""
        cursor = super().cursor(*args, **kwargs)
        return cursor if is_native(cursor) else LegacyCursor(cursor)

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


@contextmanager
def no_failover(cursor: Any) -> Iterator[Any]:
    """A context in which no statement is run again; as none ever is, it changes nothing."""
    yield cursor


def _itself(cursor: Any) -> Any:
    return cursor


def _close(cursor: Any, *exc: object) -> None:
    cursor.close()


@functools.lru_cache(maxsize=256)
def legacy_cursor_class(cls: type) -> type:
    """A driver's cursor class with what DBUtils' cursors have besides."""
    body: dict[str, Any] = {
        "__slots__": (),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "no_failover": no_failover,
        "dbapi_cursor": property(_itself, doc="The driver's cursor: this one is."),
    }
    if not hasattr(cls, "__exit__"):
        body.update(__enter__=_itself, __exit__=_close)
    return type(cls.__name__, (cls,), body)


def is_native(cursor: Any) -> bool:
    """Whether a cursor is of a class made by `legacy_cursor_class`."""
    return hasattr(type(cursor), "no_failover")


class LegacyCursor:
    """A cursor whose class cannot be derived from, as no plugin knows it. Attributes are the
    driver's, both ways."""

    __slots__ = ("__weakref__", "_cursor")

    _cursor: Any
    no_failover = no_failover

    def __init__(self, cursor: Any) -> None:
        _set_cursor(self, cursor)  # past `__setattr__`, which is the driver's

    @property
    def dbapi_cursor(self) -> Any:
        """The driver's cursor. A full reset follows on return; do not keep it."""
        return self._cursor.driver_cursor

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._or_itself(self._cursor.execute(*args, **kwargs))

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._or_itself(self._cursor.executemany(*args, **kwargs))

    def _or_itself(self, result: Any) -> Any:
        return self if result is self._cursor else result

    def __iter__(self) -> Iterator[Any]:
        # PEP 249 says "optional" of a cursor's own.
        return iter(self._cursor.fetchone, None)

    def __next__(self) -> Any:
        return next(iter(self))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    def __repr__(self) -> str:
        return repr(self._cursor)


_set_cursor: Callable[[LegacyCursor, Any], None] = vars(LegacyCursor)["_cursor"].__set__
