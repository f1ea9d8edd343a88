"""Fences around what calls on a borrowed connection give: iterators and context managers.

Each refuses to go on once the connection was returned, and what it has suspended inside the driver is
ended on return, while the connection is still the borrower's. It knows the pool only as whatever the
handle's lease leads to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import MethodType, ModuleType

from .errors import ConnectionReturned
from .member import CALL, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .handles import PooledConnection

PLAIN = (int, float, complex, str, bytes, bool, type(None), type, ModuleType)
"""Values that nobody can change through a reference to them."""


def failed(handle: PooledConnection, exc: BaseException) -> None:
    """A call on behalf of `handle` raised. Raises nothing itself."""
    try:
        lease = handle._lease
    except ConnectionReturned:  # returned meanwhile by another thread
        return
    pool = lease.pool
    if pool is not None:
        pool.failed(lease, exc)


def fence_result(handle: PooledConnection, work: Work, result: Any) -> Any:
    """What a call gave: whatever lives on the connection must end with the lease."""
    if isinstance(result, Iterator):
        return work.keep(FencedIterator(handle, result))
    if hasattr(result, "close"):
        try:
            work.track(result)
        except TypeError:  # cannot be referred to weakly
            work.keep(result)
    elif hasattr(result, "__exit__") and not isinstance(result, memoryview):
        return work.keep(FencedContext(handle, work, result))
    return result


class FencedIterator:
    """An iterator over the driver's connection (sqlite3's `iterdump`, psycopg's `stream`)."""

    __slots__ = ("_handle", "_iterator")

    def __init__(self, handle: PooledConnection, iterator: Iterator[Any]) -> None:
        self._handle = handle
        self._iterator = iterator

    def __iter__(self) -> FencedIterator:
        return self

    def __next__(self) -> Any:
        self._handle._lease  # noqa: B018  (raises if it was returned)
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as exc:
            failed(self._handle, exc)
            raise

    def close(self) -> None:
        """End it; a generator's own clean-up runs now."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class FencedContext:
    """A context manager over the driver's connection (psycopg's `transaction()`), or what entering one
    gave (psycopg's `Copy`). Its other attributes are the driver's."""

    __slots__ = ("_context", "_entered", "_handle", "_work")

    def __init__(self, handle: PooledConnection, work: Work, context: Any) -> None:
        self._handle = handle
        self._work = work
        self._context = context
        self._entered = False

    def __enter__(self) -> Any:
        conn = self._handle._lease.member.conn
        self._entered = True
        try:
            value = self._context.__enter__()
        except BaseException as exc:
            failed(self._handle, exc)
            raise
        return self._handle if value is conn else fence_result(self._handle, self._work, value)

    def __exit__(self, *exc: Any) -> Any:
        self._handle._lease  # noqa: B018  (raises if it was returned)
        try:
            return self._context.__exit__(*exc)
        except BaseException as error:
            failed(self._handle, error)
            raise
        finally:
            self._entered = False

    def __iter__(self) -> FencedIterator:
        self._handle._lease  # noqa: B018  (raises if it was returned)
        return self._work.keep(FencedIterator(self._handle, iter(self._context)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        conn = self._handle._lease.member.conn  # raises if it was returned
        value = getattr(self._context, name)
        if value is conn:
            return self._handle
        if isinstance(value, MethodType):
            return functools.partial(self._call, value)
        if not isinstance(value, PLAIN):
            self._work.unseen()  # whatever that is, it may reach the session
        return value

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._handle._lease  # noqa: B018  (raises if it was returned)
        work = self._work
        work.pending = work.wrote = True
        work.inside += CALL
        try:
            self._handle._lease  # noqa: B018  (raises if it was returned)
            result = method(*args, **kwargs)
        except BaseException as exc:
            failed(self._handle, exc)
            raise
        finally:
            del work.inside[-1]
        return fence_result(self._handle, work, result)

    def close(self) -> None:
        """On return. Raises if it was entered and not left: then the connection is in doubt."""
        if self._entered:
            raise RuntimeError("a context manager of this connection was not left")
