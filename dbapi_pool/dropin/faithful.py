"""Borrowed connections that do as the driver's own: for programs that know of no pool.

`faithful` prepares a `Driver` for them. What a driver does in a way of its own is in its `Driver.bare`;
here is what is the same for all. This module must never know a driver, nor who borrows what.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, TracebackType
from typing import Any

from ..cursors import bury
from ..drivers.bare import Bare
from ..drivers.base import Driver
from ..errors import ConnectionReturned, for_driver
from ..handles import FencedCall, PooledConnection, is_returned

__all__ = ["FaithfulConnection", "Reopen", "faithful", "lent"]

Reopen = Callable[[], PooledConnection]
"""Borrows a connection like the one that was closed."""


class Closed(ConnectionReturned):
    """As `ConnectionReturned`, but nobody sees that it is not the driver's own error."""

    goes_by_that_name = True


class ClosedError(Closed):
    """Where the driver raises an `Error`."""

    dbapi_base = "Error"


class ClosedOperationalError(Closed):
    """Where the driver raises its `OperationalError`."""

    dbapi_base = "OperationalError"


class ClosedProgrammingError(Closed):
    """Where the driver raises its `ProgrammingError`."""

    dbapi_base = "ProgrammingError"


_CLOSED: dict[object, type[Closed]] = {
    kind.dbapi_base: kind
    for kind in (Closed, ClosedError, ClosedOperationalError, ClosedProgrammingError)
}


class FaithfulConnection(PooledConnection):
    """A borrowed connection that does as the driver's own does.

    `commit`, `rollback` and `with` are the driver's. `close()`, and dropping it, give it back, rolled
    back and clean. What is used after that raises what the driver raises.
    """

    # Whether a block of `with` in C has been entered and not left; how to borrow again; what the
    # driver's own handle wants to remember.
    __slots__ = ("_inside", "_note", "_reopener")

    _may_be_hidden = False
    _bare = Bare()

    # -- what a plugin's `Bare.handle_base` may say ------------------------------------------------

    def _first_note(self) -> Any:
        """What to remember about the connection as it was lent."""

    def _may_be_kept(self) -> bool:
        """Whether nobody will miss that the driver's connection is not closed."""
        return True

    # -- giving back ------------------------------------------------------------------------------

    def close(self) -> None:
        """As the driver's, but the connection goes back to the pool."""
        if is_returned(self):
            self._refuse_second_close()
        elif self._inside or not self._may_be_kept():
            self.invalidate()
        else:
            self._keep_rows()
            super().close()

    def _refuse_second_close(self) -> None:
        if self._bare.closed_twice is not None:
            name, *args = self._bare.closed_twice
            raise for_driver(_CLOSED[name], type(self))(*args)

    def _keep_rows(self) -> None:
        lease = self._lease
        work = lease.member.work if lease.member is not None else None
        if work is not None and work.cursors:
            driver = lease.pool.driver
            kept = {id(cursor) for cursor in work.open_cursors() if _keep_rows(driver, cursor)}
            if kept:
                work.cursors = [ref for ref in work.cursors if id(ref()) not in kept]

    def __del__(self) -> None:
        try:
            if not is_returned(self):
                self.close()
        except Exception:
            pass  # whoever might want to know has dropped it

    def _reopen(self) -> None:
        """After its `close()`: borrow another connection, for a driver that can connect again."""
        borrowed = self._reopener()
        self._tether.append(borrowed._tether.pop())
        _set_note(self, self._first_note())

    # -- as the driver's --------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if is_returned(self):
            method = getattr(self._connection_class, name, None)
            if inspect.isroutine(method):
                return self._refusing(method)
        return super().__getattr__(name)

    def _refusing(self, method: Any) -> Callable[..., Any]:
        """A method of the driver's connection, which after the return is still there to be called."""

        @functools.wraps(method)
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise self._refusal()

        return refuse

    def commit(self) -> None:
        """As the driver's."""
        self._end(_commit)

    def rollback(self) -> None:
        """As the driver's."""
        self._end(_roll_back)

    def __enter__(self) -> Any:
        own = _written_in_python(self._connection_class, "__enter__")
        if own is not None:
            return own(self)
        result = FencedCall(self, "__enter__", True)()
        _set_inside(self, True)
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> Any:
        own = _written_in_python(self._connection_class, "__exit__")
        if own is not None:  # which calls what it needs on this handle: commit, rollback, close
            return own(self, kind, exc, trace)
        try:
            return FencedCall(self, "__exit__", True)(kind, exc, trace)
        finally:
            _set_inside(self, False)

    @classmethod
    def _refusal(cls, of_cursor: bool = False) -> ConnectionReturned:
        bare = cls._bare
        if of_cursor and bare.cursor_closed is not None:
            return cls._gone(bare.cursor_closed)
        return cls._gone(*bare.closed[1:])


_slots = vars(FaithfulConnection)
# Past `__setattr__`, which is the driver's.
_set_inside: Callable[[FaithfulConnection, bool], None] = _slots["_inside"].__set__
_set_note: Callable[[FaithfulConnection, Any], None] = _slots["_note"].__set__
_set_reopener: Callable[[FaithfulConnection, Reopen], None] = _slots["_reopener"].__set__


def lent(handle: Any, reopener: Reopen) -> Any:
    """Complete a handle that was just borrowed."""
    _set_inside(handle, False)
    _set_reopener(handle, reopener)
    _set_note(handle, handle._first_note())
    return handle


def _commit(member: Any, work: Any) -> None:
    member.conn.commit()


def _roll_back(member: Any, work: Any) -> None:
    member.conn.rollback()
    work.begin_anew()


@functools.lru_cache(maxsize=256)
def _written_in_python(kind: type, name: str) -> Callable[..., Any] | None:
    """A method of the driver's connections that can be called on a handle. One that is written in C, or
    may call one that is by `super()`, wants the driver's own connection."""
    found = [vars(cls)[name] for cls in kind.__mro__ if name in vars(cls)]
    return found[0] if found and all(type(one) is FunctionType for one in found) else None


# -- a driver for them ----------------------------------------------------------------------------


def faithful(driver: Driver) -> Driver:
    """Have a driver, which no pool has used yet, lend connections that do as its own."""
    driver.faithful = True
    driver.handle_base = _handle_base(driver.bare)
    return driver


@functools.lru_cache(maxsize=256)
def _handle_base(bare: Bare) -> type[FaithfulConnection]:
    own = (bare.handle_base,) if bare.handle_base is not None else ()
    body = {
        "__slots__": (),
        "__doc__": FaithfulConnection.__doc__,
        "_bare": bare,
        "_gone": _CLOSED[bare.closed[0]],
    }
    for hook in ("_first_note", "_may_be_kept"):
        if hasattr(bare.handle_base, hook):
            body[hook] = getattr(bare.handle_base, hook)
    made: Any = type("PooledConnection", (FaithfulConnection, *own), body)
    return made  # type: ignore[no-any-return]


# -- rows that outlive the connection --------------------------------------------------------------


class _Kept:
    """What is left of a cursor whose connection was closed."""

    __slots__ = ("arraysize", "facts", "rows", "sequence")

    def __init__(self, cursor: Any) -> None:
        self.arraysize = getattr(cursor, "arraysize", 1)
        self.facts = {name: getattr(cursor, name, None) for name in _FACTS}
        rows = cursor.fetchall()
        self.sequence: Any = type(rows)  # a list, or a tuple
        self.rows = deque(rows)


_FACTS = ("description", "rowcount", "lastrowid", "rownumber")


def _keep_rows(driver: Driver, cursor: Any) -> bool:
    """Have what a cursor has not fetched outlive the connection, if it does with the bare driver."""
    kind = cursor.__class__
    if not hasattr(kind, "_returned") or not driver.keeps_rows(cursor):
        return False
    try:
        if cursor.description is None:
            return False
        kept = _Kept(cursor)
        bury(cursor)
        cursor.__class__ = _kept_class(kind)
        cursor._work = kept
    except Exception:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _kept_class(kind: Any) -> type:
    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "fetchone": lambda self: next(_rest(self), None),
        "fetchmany": _fetch_many,
        "fetchall": lambda self: self._work.sequence(_rest(self)),
        "__iter__": lambda self: self,
        "__next__": lambda self: next(_rest(self)),
    }
    for name in _FACTS:
        if hasattr(kind, name):
            body[name] = property(functools.partial(_fact, name))
    return type(kind.__name__, (kind._returned,), body)


def _rest(cursor: Any) -> Iterator[Any]:
    rows = cursor._work.rows
    while rows:
        yield rows.popleft()


def _fetch_many(cursor: Any, size: int | None = None) -> Any:
    kept: _Kept = cursor._work
    return kept.sequence(itertools.islice(_rest(cursor), size or kept.arraysize))


def _fact(name: str, cursor: Any) -> Any:
    return cursor._work.facts[name]
