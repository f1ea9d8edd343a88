"""Cursor classes of these drivers, prepared for borrowed connections.

Two things are different from the driver's own class. Its `connection` is the driver's for the driver's
own code, which works with it, and the pooled one for everybody else. And when the connection comes
back, a result that was not read to the end is not read to the end then either. It must never know a
pool: it meets it only as the handle that a cursor belongs to.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dbapi_pool.errors import ConnectionReturned

FEW = 1000
"""Rows of an unread result that are read when the connection comes back. With more, opening a new
connection is cheaper: MySQL has no way to stop sending a result."""

End = Callable[[Any, Any], None]


class UnreadResult(Exception):
    """A result was left with too much unread: the connection is to be closed."""


def for_borrower(
    cls: Any, base: type, pooled: Callable[[type], type], end: End, home: ModuleType | None
) -> Any:
    """The class to make a cursor of, for `cls` the class that was asked for; None if that does not
    derive from `base`, the driver's."""
    if not (isinstance(cls, type) and issubclass(cls, base)):
        return None
    kind: Any = cls  # mypy holds that a type may not be hashable
    return pooled(prepared(kind, end, home))


@functools.lru_cache(maxsize=256)
def prepared(cls: Any, end: End, home: ModuleType | None) -> type:
    """A subclass of the driver's, or the user's, cursor class.

    `end(cursor, conn)`: called before `close` if the connection was returned; reads what little is
    unread, or raises `UnreadResult`. `home`: the driver's module of cursors, if these have a
    `connection`.
    """
    native_close = cls.close

    def close(self: Any) -> Any:
        if _is_over(self):
            raw = _raw(self)
            if raw is not None:
                end(self, raw)
        return native_close(self)

    body: dict[str, Any] = {
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,  # or it would pass for a class of the user's
        "close": functools.wraps(native_close)(close),
    }
    if home is not None:
        body["connection"] = _connection_property(getattr(cls, "connection", None), vars(home))
        body["_shows_handle"] = True
    return type(cls.__name__, (cls,), body)


def _connection_property(inherited: Any, of_driver: dict[str, Any]) -> property:
    own: Any = inherited.fget if isinstance(inherited, property) else _stored

    def connection(self: Any) -> Any:
        raw = own(self)
        # Who asks is what makes the difference: the driver's methods reach into the connection, and
        # would meet the fence; the borrower must not get past it.
        if sys._getframe(1).f_globals is of_driver:
            return raw
        try:
            return self._handle
        except AttributeError:  # within the class's own __init__
            return raw

    store = inherited.fset if isinstance(inherited, property) else _store
    return property(connection, store, doc="The pooled connection that it belongs to.")


def _store(cursor: Any, conn: Any) -> None:
    cursor.__dict__["connection"] = conn


def _stored(cursor: Any) -> Any:
    return cursor.__dict__.get("connection")


def _raw(cursor: Any) -> Any:
    """The driver's connection that a cursor works on; None if it was closed."""
    names = cursor.__dict__
    for name in ("connection", "_connection"):
        if name in names:
            conn = names[name]
            own = getattr(conn, "get_self", None)  # mysql-connector's cursors hold a weak proxy
            return conn if own is None else own()
    return None


def _is_over(cursor: Any) -> bool:
    """Whether the cursor's connection was returned."""
    try:
        cursor._handle._lease  # noqa: B018  (raises if it was)
    except ConnectionReturned:
        return True
    except AttributeError:  # not given to anybody yet
        return False
    return False
