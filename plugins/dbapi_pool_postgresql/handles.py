"""What borrowed connections and cursors of both drivers need beyond the pool's own.

It must never import a driver.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from dbapi_pool.errors import ConnectionReturned
from dbapi_pool.handles import FencedCall, PooledConnection
from dbapi_pool.member import Work

__all__ = [
    "attribute_method",
    "cursor_body",
    "guarded",
    "is_returned",
    "tpc_commit",
    "work_of",
]


def work_of(handle: PooledConnection) -> Work:
    """The record of what this borrower did. Raises what a returned handle raises."""
    lease = handle._lease
    work: Work = lease.pool.begin_work(lease.member)
    return work


def is_returned(handle: PooledConnection) -> bool:
    """Whether its lease has ended, or is just being cleaned up."""
    try:
        handle._lease  # noqa: B018
    except ConnectionReturned:
        return True
    return False


def attribute_method(name: str) -> Callable[..., Any]:
    """A method of the driver's connection that changes attributes only: they are put back on return,
    and the session on the server needs no reset."""

    def method(self: PooledConnection, *args: Any, **kwargs: Any) -> Any:
        work_of(self).attributes = True
        return FencedCall(self, name, True)(*args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"As the driver's; what `{name}` changes is put back on return."
    return method


def tpc_commit(self: PooledConnection, xid: Any = None) -> None:
    """As the driver's, but raises where `commit()` does: for a transaction that has failed."""
    lease = self._lease
    if xid is None and lease.pool.driver.has_failed(lease.member.conn):
        FencedCall(self, "tpc_rollback", False)()
        raise lease.pool.driver.lost_transaction()
    FencedCall(self, "tpc_commit", False)(*([] if xid is None else [xid]))


def cursor_body(cls: type, package: str, native: Callable[[Any], Any]) -> dict[str, Any]:
    """The body of a subclass of the cursor class `cls` whose `connection` is the pooled handle, except
    for the driver's own code: that needs the connection whose insides it knows.

    `package`: the driver's; `native`: gives a cursor's own connection.
    """

    def connection(self: Any) -> Any:
        # Compiled code has no frame, so this is the Python code that called it.
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return native(self) if caller.partition(".")[0] == package else self._handle._as_lent()

    return {
        "__slots__": (),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "connection": property(connection, doc="The pooled connection it belongs to."),
        "_shows_handle": True,
    }


def guarded(name: str, native: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an object that must not reach the connection once that was returned."""

    @functools.wraps(native)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._handle._lease  # noqa: B018  (raises if it was returned)
        return native(self, *args, **kwargs)

    return method
