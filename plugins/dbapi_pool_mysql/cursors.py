"""Cursor classes of these drivers, prepared for borrowed connections.

Three things are different from the driver's own class. Its `connection` is the driver's for the
driver's own code, which works with it, and the pooled one for everybody else. When the connection comes
back, a result that was not read to the end is not read to the end then either. And what is raised while
a result is read is told, as what is raised by `execute` is: a conversation that was cut short by
KeyboardInterrupt cannot be resumed. It must never know a pool: it meets it only as the handle that a
cursor belongs to.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dbapi_pool.fences import failed
from dbapi_pool.handles import is_returned

FEW = 1000
"""Rows of an unread result that are read when the connection comes back. With more, opening a new
connection is cheaper: MySQL has no way to stop sending a result."""

End = Callable[[Any, Any], None]
Shortcuts = Callable[[Any, dict[str, Any]], None]

_MEMORY = ("_executed", "_rows")
"""Attributes that let a method that was kept go on giving rows; without them, drivers refuse."""


class UnreadResult(Exception):
    """A result was left that cannot be read to its end: the connection is to be closed."""


def for_borrower(
    cls: Any,
    base: type,
    pooled: Callable[[type], type],
    end: End,
    home: ModuleType | None,
    reading: tuple[str, ...] = ("nextset",),
    shortcuts: Shortcuts | None = None,
) -> Any:
    """The class to make a cursor of, for `cls` the class that was asked for; None if that does not
    derive from `base`, the driver's."""
    if not (isinstance(cls, type) and issubclass(cls, base)):
        return None
    kind: Any = cls  # mypy holds that a type may not be hashable
    return pooled(prepared(kind, end, home, reading, shortcuts))


@functools.lru_cache(maxsize=256)
def prepared(
    cls: Any,
    end: End,
    home: ModuleType | None,
    reading: tuple[str, ...],
    shortcuts: Shortcuts | None = None,
) -> type:
    """A subclass of the driver's, or the user's, cursor class.

    `end(cursor, conn)`: called before `close` if the connection was returned; reads what little is
    unread, or raises `UnreadResult`. `home`: the driver's module of cursors, if these have a
    `connection`. `reading`: the methods, besides those that execute, that read from the server in
    Python, where an interrupt may strike in the middle. `shortcuts`: gets the class and what was made
    for it, and may put quicker methods in the place of these.
    """
    body: dict[str, Any] = {
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,  # or it would pass for a class of the user's
        "close": _closing(cls.close, end),
    }
    for name in reading:
        if hasattr(cls, name):
            body[name] = _telling(getattr(cls, name))
    if home is not None:
        finalize = getattr(cls, "__del__", None)
        if getattr(finalize, "__globals__", None) is vars(home):  # the user's own is left alone
            body["__del__"] = _last_rites(finalize)
        body["connection"] = _connection_property(getattr(cls, "connection", None), vars(home))
        if getattr(getattr(cls, "_get_db", None), "__globals__", None) is vars(home):
            body["_get_db"] = _shortcut(cls._get_db)
        body["_shows_handle"] = True
        body["__slots__"] = ("_raw_connection",)
    if shortcuts is not None:
        shortcuts(cls, body)
    return type(cls.__name__, (cls,), body)


def _closing(native: Callable[..., Any], end: End) -> Callable[..., Any]:
    telling = _telling(native)

    @functools.wraps(native)
    def close(self: Any) -> Any:
        if not is_over(self):
            return telling(self)
        raw = _raw(self)
        if raw is not None:
            end(self, raw)
        try:
            return native(self)
        finally:
            forget(self)

    return close


def forget(cursor: Any) -> None:
    """Leave nothing to be fetched."""
    names = cursor.__dict__
    for name in _MEMORY:
        if name in names:
            names[name] = None


def _telling(native: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(native)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return native(self, *args, **kwargs)
        except BaseException as exc:
            handle = getattr(self, "_handle", None)
            if handle is not None:
                failed(handle, exc)
            raise

    return method


def _last_rites(native: Any) -> Callable[..., None]:
    def __del__(self: Any) -> None:
        # It would read on, on a connection that is not this cursor's any more.
        if not is_over(self):
            native(self)

    return __del__


def _connection_property(inherited: Any, of_driver: dict[str, Any]) -> property:
    own: Any = inherited.fget if isinstance(inherited, property) else _stored

    def connection(self: Any) -> Any:
        raw = own(self)
        # Who asks is what makes the difference: the driver's methods reach into the connection, and
        # would meet the fence; the borrower must not get past it.
        if sys._getframe(1).f_globals is of_driver:
            return raw
        try:
            return self._handle._as_lent()
        except AttributeError:  # within the class's own __init__
            return raw

    store = inherited.fset if isinstance(inherited, property) else _store
    return property(connection, store, doc="The pooled connection that it belongs to.")


def _shortcut(native: Any) -> Callable[[Any], Any]:
    """The drivers' own code asks by it for the connection, several times for each statement."""

    def _get_db(self: Any) -> Any:
        conn = self._raw_connection
        return native(self) if conn is None else conn

    return _get_db


def _store(cursor: Any, conn: Any) -> None:
    cursor._raw_connection = conn


def _stored(cursor: Any) -> Any:
    return getattr(cursor, "_raw_connection", None)


def is_cut_short(cursor: Any) -> bool:
    """Whether the conversation broke off: nothing more can be read, and to try would hang."""
    return bool(cursor._work.broken)


def _raw(cursor: Any) -> Any:
    """The driver's connection that a cursor works on; None if it was closed."""
    conn = _stored(cursor)
    if conn is None:
        conn = cursor.__dict__.get("_connection")
    own = getattr(conn, "get_self", None)  # mysql-connector's cursors hold a weak proxy
    return conn if own is None else own()


def is_over(cursor: Any) -> bool:
    """Whether the cursor's connection was returned."""
    try:
        return is_returned(cursor._handle)
    except AttributeError:  # not given to anybody yet
        return False
