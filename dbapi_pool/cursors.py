"""Cursors of a borrowed connection: the driver's own class where possible, a proxy where not.

`pooled_cursor_class` derives from the driver's cursor class: fetching and iterating stay the
driver's C code. `CursorProxy` wraps a cursor of any DB-API driver. Both note what is executed and
are dead once the connection was returned. This module must never know the pool: it meets it only
as whatever the handle's lease leads to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from .fences import failed, fence_result
from .member import CALL, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .handles import PooledConnection

_WITH_SQL = ("execute", "executemany")
_UNSEEN = ("executescript", "callproc", "copy_from", "copy_to")
_RESULT_OF_SQL = ("copy", "copy_expert", "stream")  # the first argument is the statement
_FETCH = ("fetchone", "fetchmany", "fetchall", "nextset", "scroll")
_NOT_GIVEN: Any = object()
_REFUSED = (
    *_WITH_SQL, *_UNSEEN, *_RESULT_OF_SQL, *_FETCH, "__next__", "__iter__", "__enter__"
)  # fmt: skip


def _raise_returned(handle: PooledConnection) -> NoReturn:
    raise type(handle)._refusal(of_cursor=True) from None


def _refuse_copy(cursor: Any, protocol: Any) -> NoReturn:
    raise TypeError("a cursor of a borrowed connection cannot be copied or pickled")


# -- the driver's own cursor class ----------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def pooled_cursor_class(cls: type) -> type:
    """A subclass of the driver's (or the user's) cursor class for borrowed connections."""
    slots = ("_handle", "_work") if cls.__weakrefoffset__ else ("_handle", "_work", "__weakref__")
    body: dict[str, Any] = {
        "__slots__": slots,
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__reduce_ex__": _refuse_copy,  # one would not be closed with the lease
    }
    if hasattr(cls, "__getattr__"):
        body["__getattr__"] = _missing(cls.__getattr__)
    # A plugin's class may do that itself.
    if hasattr(cls, "connection") and not hasattr(cls, "_shows_handle"):
        body["connection"] = property(_connection, doc="The pooled connection it belongs to.")
    for name in _WITH_SQL:
        if hasattr(cls, name):
            body[name] = _noting(name, getattr(cls, name))
    for name in (*_UNSEEN, *_RESULT_OF_SQL):
        if hasattr(cls, name):
            body[name] = _unseen(name, getattr(cls, name))
    made: Any = type(cls.__name__, (cls,), body)
    made._of_driver = is_of_driver(cls)
    made._returned = type(cls.__name__, (made,), _dead_body(cls))
    return made  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256)
def is_of_driver(cls: Any) -> bool:
    """Whether a cursor class is the driver's own work. A user's may send statements that nobody sees
    here, by calling what it inherited; unless it says `sends_as_given = True`."""
    if getattr(cls, "sends_as_given", False):
        return True
    roots = {base.__module__.partition(".")[0] for base in cls.__mro__}
    return len(roots - {"builtins", "abc", "typing", "collections"}) <= 1


def _connection(cursor: Any) -> Any:
    return cursor._handle._as_lent()


def _missing(inherited: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def __getattr__(self: Any, name: str) -> Any:
        if name in ("_work", "_handle"):  # an empty slot: not for the user's own method
            raise AttributeError(name)
        return inherited(self, name)

    return __getattr__


def _work_of(cursor: Any) -> Work:
    """The record of a cursor whose slot for it is empty."""
    if hasattr(cursor, "_handle"):  # `fence` was here
        _raise_returned(cursor._handle)
    # A user's `__init__` executes; `cursor()` replaces it.
    cursor._work = work = Work(lambda sql: True)
    return work


def _failed(cursor: Any, exc: BaseException) -> None:
    if hasattr(cursor, "_handle"):  # else it is being made, and whoever does that will hear of it
        failed(cursor._handle, exc)


def _noting(name: str, native: Callable[..., Any]) -> Callable[..., Any]:
    """A method that sends a statement and whose work is noted."""
    return _noting_two(native) if _takes_two(native) else _noting_any(native)


def _takes_two(native: Callable[..., Any]) -> bool:
    """Whether it takes a statement and parameters for it, by position, and nothing else."""
    # "($self, sql, parameters=(), /)", where a driver's C code says so. `inspect` reads no more of it,
    # and would be half of what it takes to import this package.
    signature = getattr(native, "__text_signature__", None)
    parameters = signature.strip("()").split(", ") if isinstance(signature, str) else []
    return len(parameters) == 4 and parameters[0] == "$self" and parameters[-1] == "/"


def _noting_two(native: Callable[..., Any]) -> Callable[..., Any]:
    # The way of every statement of sqlite3, so it is written for speed.
    @functools.wraps(native)
    def method(self: Any, sql: Any, params: Any = _NOT_GIVEN, /) -> Any:
        try:
            work: Work = self._work
        except AttributeError:
            work = _work_of(self)
        if type(sql) is str and sql in work.harmless:
            work.pending = True
        else:
            work.look(sql)
        inside = work.inside
        inside += CALL
        try:
            return native(self, sql) if params is _NOT_GIVEN else native(self, sql, params)
        except BaseException as exc:
            _failed(self, exc)
            raise
        finally:
            del inside[-1]

    return method


def _noting_any(native: Callable[..., Any]) -> Callable[..., Any]:
    # A statement that has no position is not looked at, and so may do anything. Few give more than two
    # arguments by position: passing these on as a tuple and a dictionary takes much longer.
    @functools.wraps(native)
    def method(
        self: Any, sql: Any = _NOT_GIVEN, params: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            work: Work = self._work
        except AttributeError:
            work = _work_of(self)
        if type(sql) is str and sql in work.harmless:
            work.pending = True
        elif sql is _NOT_GIVEN:
            work.unseen()
        else:
            work.look(sql)
        inside = work.inside
        inside += CALL
        try:
            if args or kwargs or sql is _NOT_GIVEN:
                given = [value for value in (sql, params, *args) if value is not _NOT_GIVEN]
                return native(self, *given, **kwargs)
            return native(self, sql) if params is _NOT_GIVEN else native(self, sql, params)
        except BaseException as exc:
            _failed(self, exc)
            raise
        finally:
            del inside[-1]

    return method


def _unseen(name: str, native: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(native)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            work: Work = self._work
        except AttributeError:
            work = _work_of(self)
        if name not in _RESULT_OF_SQL or not args or work.note(args[0]):
            work.unseen()
        work.pending = work.wrote = True
        work.inside += CALL
        try:
            result = native(self, *args, **kwargs)
        except BaseException as exc:
            _failed(self, exc)
            raise
        finally:
            del work.inside[-1]
        if result is self or not hasattr(self, "_handle"):
            return result
        return fence_result(self._handle, work, result)

    return method


def _dead_body(cls: type) -> dict[str, Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _raise_returned(self._handle)

    body: dict[str, Any] = {"__slots__": (), "__module__": cls.__module__, "__doc__": cls.__doc__}
    for name in _REFUSED:
        if hasattr(cls, name):
            body[name] = refuse
    body["close"] = lambda self: None
    return body


def bury(cursor: Any) -> None:
    """End a cursor, or anything else that has `close`, with its lease. May raise the driver's error.

    Closed by the driver, so that no row and no lock of it survives, and then made to say so itself
    in the pool's words.
    """
    try:
        (_get_cursor(cursor) if type(cursor) is CursorProxy else cursor).close()
    finally:
        fence(cursor)


def fence(cursor: Any) -> None:
    """Make a cursor refuse everything from now on, without touching the driver."""
    kind = type(cursor)
    try:
        if kind is CursorProxy:
            _del_cursor(cursor)
            _del_work(cursor)  # which leads to the pool
        else:
            cursor.__class__ = kind._returned
            del cursor._work
    except AttributeError:  # another thread was quicker, or it is no cursor
        pass


# -- a proxy for any cursor -----------------------------------------------------------------------


def wrap_cursor(handle: PooledConnection, work: Work, cursor: Any) -> CursorProxy:
    """Fence a cursor of any kind."""
    proxy = CursorProxy()
    # Past `__setattr__`, which is the driver's.
    _set_handle(proxy, handle)
    _set_work(proxy, work)
    _set_cursor(proxy, cursor)
    work.track(proxy)
    kind: Any = type(cursor)
    if not is_of_driver(kind):
        work.unseen()
    return proxy


def _noting_proxied(name: str) -> Callable[..., Any]:
    def method(
        self: Any, sql: Any = _NOT_GIVEN, params: Any = _NOT_GIVEN, /, *args: Any, **kwargs: Any
    ) -> Any:
        cursor = self._cursor
        native = getattr(cursor, name)
        work: Work = self._work
        if type(sql) is str and sql in work.harmless:
            work.pending = True
        elif sql is _NOT_GIVEN:
            work.unseen()
        else:
            work.look(sql)
        inside = work.inside
        inside += CALL
        try:
            if args or kwargs or sql is _NOT_GIVEN:
                given = [value for value in (sql, params, *args) if value is not _NOT_GIVEN]
                result = native(*given, **kwargs)
            else:
                result = native(sql) if params is _NOT_GIVEN else native(sql, params)
        except BaseException as exc:
            failed(self._handle, exc)
            raise
        finally:
            del inside[-1]
        return self if result is cursor else result

    method.__name__ = name
    method.__doc__ = "As the driver's."
    return method


class CursorProxy:
    """A cursor of any DB-API driver. Attributes are the driver's, both ways."""

    __slots__ = ("__weakref__", "_cursor", "_handle", "_work")

    _cursor: Any
    _handle: PooledConnection
    _work: Work

    @property
    def connection(self) -> Any:
        """The pooled connection that it belongs to."""
        return self._handle._as_lent()

    @property
    def driver_cursor(self) -> Any:
        """The driver's own cursor, for code that checks its type. The pool cannot see what is done with
        it, so a full reset follows on return. Do not keep it."""
        cursor = self._cursor
        self._work.unseen()
        return cursor

    execute = _noting_proxied("execute")
    executemany = _noting_proxied("executemany")

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        cursor = self._cursor
        work = self._work
        work.inside += CALL
        try:
            result = function(*args, **kwargs)
        except BaseException as exc:
            failed(self._handle, exc)
            raise
        finally:
            del work.inside[-1]
        return self if result is cursor else result

    def fetchone(self) -> Any:
        """As the driver's."""
        return self._cursor.fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._cursor.fetchmany(*args, **kwargs)

    def fetchall(self) -> Any:
        """As the driver's."""
        return self._cursor.fetchall()

    def close(self) -> None:
        """Close the cursor; does nothing once the connection was returned."""
        try:
            cursor = _get_cursor(self)
        except AttributeError:
            return
        cursor.close()

    def __iter__(self) -> Iterator[Any]:
        for row in self._cursor:
            yield row
            self._cursor  # noqa: B018  (raises if it was returned)

    def __next__(self) -> Any:
        return next(self._cursor)

    def __enter__(self) -> CursorProxy:
        self._cursor  # noqa: B018  (raises if it was returned)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name == "_cursor":  # the slot is empty
            _raise_returned(self._handle)
        value = getattr(self._cursor, name)
        if callable(value) and not isinstance(value, type):
            return functools.partial(self._other, name)
        return value

    def _other(self, name: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self._cursor, name)
        if name in _FETCH or name in ("setinputsizes", "setoutputsize"):
            return self._call(function, *args, **kwargs)
        self._work.unseen()
        result = self._call(function, *args, **kwargs)
        return result if result is self else fence_result(self._handle, self._work, result)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _refuse_copy(self, protocol)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The driver's, or the user's, so that `isinstance` holds; `type(cursor)` tells the truth."""
        try:
            return type(_get_cursor(self))
        except AttributeError:  # it was returned
            return CursorProxy

    def __repr__(self) -> str:
        return f"<pooled cursor of {self._handle!r}>"


_slot = vars(CursorProxy)
_set_handle: Callable[..., None] = _slot["_handle"].__set__
_set_work: Callable[..., None] = _slot["_work"].__set__
_set_cursor: Callable[..., None] = _slot["_cursor"].__set__
_get_cursor: Callable[..., Any] = _slot["_cursor"].__get__
_del_cursor: Callable[..., None] = _slot["_cursor"].__delete__
_del_work: Callable[..., None] = _slot["_work"].__delete__
