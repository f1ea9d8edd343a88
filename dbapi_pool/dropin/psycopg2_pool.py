"""The classes of `psycopg2.pool`, on a `Pool`.

    from dbapi_pool.dropin.psycopg2_pool import ThreadedConnectionPool  # was: from psycopg2.pool ...

What differs, and why, is in `docs/psycopg2-pool.md`. Here are keys, and what is given back by whom.
This module must never reach behind `Pool`.
"""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from collections.abc import Hashable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar

from .. import errors
from ..errors import PoolClosed, PoolDeadlock, PoolSettingError, PoolTimeout, for_driver
from ..handles import FencedCall, PooledConnection, is_returned
from ..pool import Pool
from . import lending

try:
    from psycopg2.extensions import connection as _Native  # type: ignore[import-untyped]
    from psycopg2.pool import PoolError as _TheirError  # type: ignore[import-untyped]
except ImportError:  # whoever has another `creator` does not need it
    _Native, _TheirError = None, Exception

__all__ = [
    "AbstractConnectionPool",
    "PersistentConnectionPool",
    "PoolClosedError",
    "PoolDeadlockError",
    "PoolError",
    "PoolExhaustedError",
    "SimpleConnectionPool",
    "ThreadedConnectionPool",
]

_WORDS = (
    "here max_size is maxconn, min_size and max_idle are minconn; checkout_timeout and the others are"
    " in pool_settings, for a subclass to set"
)


class PoolError(errors.PoolError, _TheirError):  # type: ignore[misc]  # psycopg2 has no types
    """Base of the errors of these pools: the one of `psycopg2.pool`, and the driver's `Error`."""

    dbapi_base = "Error"


class PoolExhaustedError(PoolError, PoolTimeout):
    """`maxconn` are lent; or, for a pool that waits, no connection in time."""


class PoolDeadlockError(PoolExhaustedError, PoolDeadlock):
    """`maxconn` are lent, and all to threads that wait for one more, this one included."""


class PoolClosedError(PoolError, PoolClosed):
    """The pool was closed with `closeall()`."""


class Loan:
    """One connection on its way from `getconn` to `putconn`."""

    __slots__ = ("__weakref__", "inside", "key", "pid", "put")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.pid = os.getpid()
        self.inside = False  # a `with conn:` of psycopg2's own has begun
        self.put = False


class PooledPsycopg2Connection(lending.LoanedConnection):
    """A `PooledConnection` that ends as psycopg2's own does, if `getconn` gave it.

    `close()` closes it for good. As a context manager it commits or rolls back, and stays borrowed.
    """

    __slots__ = ()

    def close(self) -> None:
        """Close it for good; its place is free at once, and `putconn` then only takes note.

        One that the `Pool` itself has lent goes back to it.
        """
        if lending.loan_of(self) is None:
            super().close()
        else:
            self.invalidate()

    def __enter__(self) -> PooledConnection:
        super().__enter__()
        loan = lending.loan_of(self)
        if loan is not None and _Native is not None and isinstance(self, _Native):
            # Has psycopg2 begin a transaction in autocommit mode too, and refuse to begin two.
            FencedCall(self, "__enter__", True)()
            loan.inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loan = lending.loan_of(self)
        if loan is None:
            super().__exit__(kind, exc, trace)
        elif not is_returned(self):
            try:
                self._end_block(kind is None)
            finally:
                _leave(self, loan)
        elif kind is None and not loan.put:
            self._lease  # noqa: B018  (raises: it was closed, and nothing committed)

    def _end_block(self, good: bool) -> None:
        if good:
            self.commit()
            return
        with suppress(Exception):  # the error that ended the block is the one to tell
            self.rollback()


def _leave(handle: PooledConnection, loan: Loan) -> None:
    """Undo what `__enter__` did to the driver's connection, lest the next borrower cannot."""
    if not loan.inside:
        return
    loan.inside = False
    with suppress(Exception):  # it is lost, and will be closed
        FencedCall(handle, "__exit__", True)(Exception, None, None)  # a rollback, of nothing


class AbstractConnectionPool:
    """What these pools have in common, for subclasses with a `getconn` of their own.

    minconn: connections opened at once and kept open, and idle ones kept at most
    maxconn: connections open at most
    args, kwargs: are passed to `psycopg2.connect`
    """

    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses: settings of `Pool` that win over those made from the parameters."""

    creator: ClassVar[Any] = None
    """For subclasses: what connects, a DB-API module or a function; None: psycopg2."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_connect" in vars(cls):
            raise TypeError(
                f"{cls.__name__}._connect would never be called: set `creator` to what connects, or"
                " pool_settings['setup'] to what prepares a new connection"
            )

    def __init__(self, minconn: int, maxconn: int, *args: Any, **kwargs: Any) -> None:
        """Raises `PoolSettingError` for values that cannot work, and the driver's own error if the
        first `minconn` connections cannot be opened."""
        least, most = _count("minconn", minconn, 0), _count("maxconn", maxconn, 1)
        if least > most:
            raise PoolSettingError(f"minconn={least} is more than maxconn={most}")
        self._minconn = least
        self._closed = False
        # What was lent and not put back. Who takes a loan out, puts it back.
        self._lent: weakref.WeakValueDictionary[Loan, PooledConnection]
        self._lent = weakref.WeakValueDictionary()
        # By process too: a forked child must not find a seat whose lock its parent holds.
        self._seats: dict[tuple[int, Hashable], _Seat] = {}
        settings = {
            "min_size": least,
            "max_size": most,
            "max_idle": least,
            "checkout_timeout": 0.0,
            **self.pool_settings,
        }
        creator = type(self).creator  # not self.creator: a function would become a method
        if creator is None:
            creator = importlib.import_module("psycopg2")
        self._behind = lending.make_pool(
            creator, args, kwargs, settings, PooledPsycopg2Connection, _WORDS
        )

    @property
    def minconn(self) -> int:
        """Connections kept open."""
        return self._minconn

    @property
    def maxconn(self) -> int:
        """Connections open at most."""
        return self._behind.max_size

    @property
    def closed(self) -> bool:
        """Whether `closeall()` was called."""
        return self._closed

    @property
    def pool(self) -> Pool:
        """The `Pool` behind it, for `stats()` and the like."""
        return self._behind

    # -- getconn ----------------------------------------------------------------------------------

    def _getconn(self, key: Hashable = None) -> Any:
        """Borrow a connection; with a key, the one that was borrowed with it and not put back.

        Raises `PoolError` if the pool is closed or exhausted, or the driver's own error if it cannot
        connect.
        """
        if self._closed:
            raise self._error(PoolClosedError, "connection pool is closed")
        if key is None:
            return self._lend(None)
        place = (os.getpid(), key)
        while True:
            seat = self._seats.setdefault(place, _Seat())
            # Held while it connects: who asks for the same key waits for the same connection, and
            # nobody else does.
            with seat.lock:
                if self._seats.get(place) is seat:  # else it was put back meanwhile
                    return self._sit(seat, place)

    def _sit(self, seat: _Seat, place: tuple[int, Hashable]) -> Any:
        """The connection of a key. Caller holds the seat's lock."""
        if seat.handle is not None and not is_returned(seat.handle):
            return seat.handle
        try:
            seat.handle = self._lend(place[1])
        except BaseException:
            del self._seats[place]
            raise
        return seat.handle

    def _lend(self, key: Hashable) -> Any:
        loan = Loan(key)
        try:
            handle = lending.lend(self._behind, loan)
        except PoolClosed:
            raise self._error(PoolClosedError, "connection pool is closed") from None
        except errors.PoolError as exc:
            kind = PoolDeadlockError if isinstance(exc, PoolDeadlock) else PoolExhaustedError
            raise lending.refusal(
                exc, kind, "connection pool exhausted", _WORDS, self._behind
            ) from exc.__cause__
        self._lent[loan] = handle
        return handle

    def _error(self, kind: type[PoolError], text: str) -> PoolError:
        return for_driver(kind, self._behind.driver.module)(f"{text} ({self._behind.name})")

    # -- putconn ----------------------------------------------------------------------------------

    def _putconn(self, conn: Any = None, key: Hashable = None, close: bool = False) -> None:
        """Give a connection back; without `conn`, the one that was borrowed with `key`.

        It is rolled back and cleaned; `close`: closed instead. One that was closed by hand is only
        taken note of. Raises `PoolError` if the pool is closed, or if it was not borrowed here, with
        that key, or was put back before.
        """
        if conn is None and key is not None:
            seat = self._seats.get((os.getpid(), key))
            conn = None if seat is None else seat.handle
        loan = lending.loan_of(conn)
        if self._closed:
            if loan in self._lent:
                conn.invalidate()
            raise self._error(PoolClosedError, "connection pool is closed")
        if loan not in self._lent:
            raise self._error(PoolError, "trying to put unkeyed connection: it was not borrowed here,"
                              " or was put back before")  # fmt: skip
        if key is not None and key != loan.key:
            raise self._error(PoolError, f"trying to put a connection under the key {key!r}, which was"
                              f" borrowed with {_described(loan.key)}")  # fmt: skip
        self._take_back(conn, loan, close)

    def _take_back(self, handle: Any, loan: Loan, close: bool) -> None:
        if loan.key is not None:
            self._vacate(handle, loan)
        # Of two threads that put it back at once, one finds it.
        if self._lent.pop(loan, None) is None:
            raise self._error(PoolError, "trying to put unkeyed connection: it was put back before")
        loan.put = True
        if close:
            handle.invalidate()
        else:
            _leave(handle, loan)
            PooledConnection.close(handle)

    def _vacate(self, handle: Any, loan: Loan) -> None:
        place = (loan.pid, loan.key)
        seat = self._seats.get(place)
        if seat is None or loan.pid != os.getpid():  # a parent's, and who knows who has its lock
            return
        with seat.lock:  # not while another thread finds that it was closed, and sits down anew
            if seat.handle is handle and self._seats.get(place) is seat:
                del self._seats[place]

    # -- closeall ---------------------------------------------------------------------------------

    def _closeall(self) -> None:
        """Close all connections, lent ones too. Raises `PoolError` the second time.

        Waits up to 5 seconds for those that other threads are using at this moment.
        """
        if self._closed:
            raise self._error(PoolClosedError, "connection pool is closed")
        self._closed = True
        for handle in [ref() for ref in self._lent.valuerefs()]:
            if handle is not None:
                handle.invalidate()
        self._behind.close()


class SimpleConnectionPool(AbstractConnectionPool):
    """As `ThreadedConnectionPool`: threads may share this one too."""

    getconn = AbstractConnectionPool._getconn
    putconn = AbstractConnectionPool._putconn
    closeall = AbstractConnectionPool._closeall


class ThreadedConnectionPool(AbstractConnectionPool):
    """A pool of connections for threads to share."""

    def getconn(self, key: Hashable = None) -> Any:
        """Borrow a connection; with a key, the one that was borrowed with it and not put back."""
        return self._getconn(key)

    def putconn(self, conn: Any = None, key: Hashable = None, close: bool = False) -> None:
        """Give a connection back; `close`: have it closed."""
        self._putconn(conn, key, close)

    def closeall(self) -> None:
        """Close all connections, lent ones too."""
        self._closeall()


class PersistentConnectionPool(AbstractConnectionPool):
    """A pool where a thread that asks again gets the connection that it has (psycopg2 before 2.9).

    When a thread ends, its connection is closed and its place is free.
    """

    def __init__(self, minconn: int, maxconn: int, *args: Any, **kwargs: Any) -> None:
        """As `AbstractConnectionPool`."""
        super().__init__(minconn, maxconn, *args, **kwargs)
        self._mine = threading.local()

    def getconn(self) -> Any:
        """The connection of this thread, borrowed if it has none."""
        mine = getattr(self._mine, "handle", None)
        if mine is None or is_returned(mine) or lending.loan_of(mine).pid != os.getpid():
            self._mine.handle = mine = self._getconn()
        return mine

    def putconn(self, conn: Any = None, close: bool = False) -> None:
        """Give a connection back, without `conn` this thread's; `close`: have it closed."""
        self._putconn(getattr(self._mine, "handle", None) if conn is None else conn, None, close)

    closeall = AbstractConnectionPool._closeall


class _Seat:
    """Where the connection of one key is found again."""

    __slots__ = ("handle", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handle: Any = None


def _count(name: str, value: Any, least: int) -> int:
    try:
        count = int(value)  # as psycopg2 does, so that "10" is a number
    except (TypeError, ValueError):
        count = -1
    if count < least:
        raise PoolSettingError(f"{name}={value!r}: must be a whole number, {least} or more")
    return count


def _described(key: Hashable) -> str:
    return "none" if key is None else f"the key {key!r}"
