"""What a borrower holds: `PooledConnection`, a fence around the driver's connection.

It forwards everything to the driver's connection while the lease lasts, and nothing afterwards: on
return its one slot is emptied, and every later use finds that out without a check on the way.
It notes what was done, so that the return path cleans no more than it must. It knows the pool only
as the `Desk` that its lease leads to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .cursors import CursorProxy, fence, pooled_cursor_class
from .errors import ConnectionReturned, for_driver
from .fences import PLAIN, failed, fence_result
from .member import CALL, Member, Work

if TYPE_CHECKING:
    from .drivers.base import Driver
    from .ledger import Lease

PEP249_ERRORS = (
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError",
    "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError",
)  # fmt: skip


class Desk(Protocol):
    """What a handle asks of the pool that lent it."""

    @property
    def driver(self) -> Driver: ...
    def begin_work(self, member: Member) -> Work: ...
    def check_in(self, lease: Lease) -> None: ...
    def discard(self, lease: Lease, reason: str) -> None: ...
    def release(self, lease: Lease) -> Any: ...
    def failed(self, lease: Lease, exc: BaseException) -> None: ...


class PooledConnection:
    """A borrowed connection: the driver's own, as long as it is lent.

    Attributes and methods are the driver's, writing an attribute reaches the driver, and
    `isinstance(conn, <the driver's class>)` holds. Used after it was returned it raises the
    driver's `InterfaceError` (PEP 249), `ConnectionReturned` in any case.

    As a context manager it commits on success, rolls back on an exception, and always returns.
    """

    __slots__ = ("__weakref__", "_lease")

    _lease: Lease
    _gone: type[ConnectionReturned] = ConnectionReturned
    _connection_class: type = object

    # -- giving back ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connection back; does nothing the second time.

        Open cursors are closed, an open transaction is rolled back, the session is cleaned as
        `reset` says. If that fails the connection is thrown away; this never raises for it.
        """
        try:  # as `_surrender`, spelt out: this is the common path
            lease = _peek(self)
            ticket = lease.ticket
            _empty(self)
            ticket.pop()
        except (AttributeError, IndexError):
            return
        lease.pool.check_in(lease)

    def invalidate(self) -> None:
        """Throw the connection away instead of giving it back; it is closed, not cleaned."""
        lease = _surrender(self)
        if lease is not None:
            lease.pool.discard(lease, "invalidated")

    def detach(self) -> Any:
        """Take the driver's connection out of the pool and return it: it is the caller's to close.

        The pool forgets it, and may open another in its place. This handle is dead afterwards.
        """
        lease = _surrender(self)
        if lease is None:
            _raise_returned(self)
        return lease.pool.release(lease)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, for code that checks its type in C.

        The pool cannot see what is done with it, so a full reset follows on return. Do not keep it.
        """
        lease = self._lease
        _work_of(self, lease).unseen()
        return lease.member.conn

    def __enter__(self) -> PooledConnection:
        self._lease  # noqa: B018  (raises if it was returned)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not _is_returned(self):
                work = self._lease.member.work
                if work is not None and work.pending and _may_be_open(self._lease, work):
                    self.commit()
        finally:
            self.close()

    # -- PEP 249 ----------------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's own kind (arguments as the driver's), dead after the return."""
        lease = self._lease
        member = lease.member
        work = _work_of(self, lease)
        try:
            cursor = lease.pool.driver.open_cursor(member.conn, pooled_cursor_class, args, kwargs)
            if cursor is None:
                proxy = CursorProxy(self, work, member.conn.cursor(*args, **kwargs))
                return _still_lent(self, proxy)
        except BaseException as exc:
            failed(self, exc)
            raise
        cursor._handle = self
        cursor._work = work
        work.track(cursor)
        if not cursor._of_driver:
            work.unseen()
        return _still_lent(self, cursor)

    def commit(self) -> None:
        """Commit the transaction."""
        self._end(_commit)

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._end(_roll_back)

    def _end(self, act: Callable[[Lease, Work], None]) -> None:
        lease = self._lease
        work = _work_of(self, lease)
        work.inside += CALL
        try:
            self._lease  # noqa: B018  (see `_work_of`)
            act(lease, work)
        except BaseException as exc:
            failed(self, exc)
            raise
        finally:
            del work.inside[-1]
        work.pending = False

    # -- everything else is the driver's ----------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "_lease":  # the slot is empty
            _raise_returned(self)
        if name in ("closed", "open") and _is_returned(self):
            if hasattr(self._connection_class, name):
                return name == "closed"
        lease = self._lease
        conn = lease.member.conn
        value = getattr(conn, name)
        if value is conn:  # psycopg's `connection`
            return self
        known = name in lease.pool.driver.harmless
        if _is_method(conn, name, value):
            return FencedCall(self, name, known)
        if not known and not isinstance(value, PLAIN):
            _work_of(self, lease).unseen()  # whatever that is, it may reach the session
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        lease = self._lease
        _work_of(self, lease).attributes = True
        setattr(lease.member.conn, name, value)

    def __delattr__(self, name: str) -> None:
        lease = self._lease
        _work_of(self, lease).attributes = True
        delattr(lease.member.conn, name)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a borrowed connection cannot be copied or pickled")

    def __dir__(self) -> list[str]:
        names = set(dir(type(self)))  # not of `__class__`, which is the driver's
        if not _is_returned(self):
            names.update(dir(self._lease.member.conn))
        return sorted(names)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The driver's, so that `isinstance` holds; `type(conn)` tells the truth."""
        return self._connection_class

    def __repr__(self) -> str:
        state = "returned" if _is_returned(self) else f"lent by {self._lease.pool!r}"
        kind = self._connection_class
        return f"<pooled {kind.__module__}.{kind.__qualname__}, {state}>"


_slot = vars(PooledConnection)["_lease"]
_bind: Callable[[PooledConnection, Lease], None] = _slot.__set__
_peek: Callable[[PooledConnection], Lease] = _slot.__get__
_empty: Callable[[PooledConnection], None] = _slot.__delete__
_new = object.__new__


def lend(lease: Lease) -> PooledConnection:
    """A handle on a leased member."""
    handle: PooledConnection = _new(lease.member.handle_class)
    lease.ticket = [None]
    _bind(handle, lease)
    return handle


def _surrender(handle: PooledConnection) -> Lease | None:
    """Take the lease out of the handle; None if it is gone. One caller wins.

    That is who pops the ticket, since `list.pop` is atomic everywhere, while on free-threaded builds
    (3.13, CPython issue 146270) two threads may both empty one slot. The order makes it this
    borrowing's ticket: who finds the slot full after reading the ticket, has not read a later one.
    """
    try:
        lease = _peek(handle)
        ticket = lease.ticket
        _empty(handle)
        ticket.pop()
    except (AttributeError, IndexError):
        return None
    return lease


def _is_returned(handle: PooledConnection) -> bool:
    try:
        _peek(handle)
    except AttributeError:
        return True
    return False


def _raise_returned(handle: PooledConnection) -> NoReturn:
    gone = type(handle)._gone
    raise gone("this connection was returned to the pool; borrow another with pool.connection()")


def _work_of(handle: PooledConnection, lease: Lease) -> Work:
    """What is noted about this lease.

    Another thread may return the handle at any moment, so that the work is the next borrower's. Hence
    who calls the driver says so in `inside`, and then looks whether the handle still has its lease;
    who returns it empties the handle, and then looks whether anybody is inside.
    """
    member = lease.member
    work: Work | None = member.work if member is not None else None
    if work is not None:
        return work
    pool = lease.pool
    if member is None or pool is None:  # returned at this moment by another thread
        _raise_returned(handle)
    return pool.begin_work(member)  # type: ignore[no-any-return]


def _still_lent(handle: PooledConnection, cursor: Any) -> Any:
    """A new cursor, if the handle was not returned meanwhile: that has not seen it."""
    if _is_returned(handle):
        fence(cursor)
        _raise_returned(handle)
    return cursor


def _commit(lease: Lease, work: Work) -> None:
    work.check()
    lease.pool.driver.commit(lease.member.conn)


def _roll_back(lease: Lease, work: Work) -> None:
    lease.pool.driver.rollback(lease.member.conn)
    work.begin_anew()


def _may_be_open(lease: Lease, work: Work) -> bool:
    """Whether there may be a transaction to commit: in autocommit mode it would be a round trip for
    nothing."""
    if work.session or work.lost is not None:
        return True
    try:
        return lease.pool.driver.in_transaction(lease.member.conn) is not False
    except Exception:
        return True


def _is_method(conn: Any, name: str, value: Any) -> bool:
    """Whether an attribute is a method of the connection, or of one that it delegates to; not if it
    is a value that happens to be callable (sqlite3's `row_factory`)."""
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, (type, ModuleType)):
        return False
    return not hasattr(type(getattr(type(conn), name, None)), "__set__")


class FencedCall:
    """A method of the driver's connection that ends with the lease."""

    __slots__ = ("_handle", "_harmless", "_name")

    def __init__(self, handle: PooledConnection, name: str, harmless: bool) -> None:
        self._handle = handle
        self._name = name
        self._harmless = harmless

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        lease = self._handle._lease
        conn = lease.member.conn
        work = _work_of(self._handle, lease)
        work.pending = True
        if not self._harmless:
            work.unseen()
        work.inside += CALL
        try:
            self._handle._lease  # noqa: B018  (see `_work_of`)
            result = getattr(conn, self._name)(*args, **kwargs)
        except BaseException as exc:
            failed(self._handle, exc)
            raise
        finally:
            del work.inside[-1]
        if result is conn:
            return self._handle
        return _fence_result(self._handle, work, result)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._handle._lease.member.conn, self._name), name)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a method of a borrowed connection cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<pooled method {self._name!r} of {self._handle!r}>"


def _fence_result(handle: PooledConnection, work: Work, result: Any) -> Any:
    if hasattr(result, "execute") and hasattr(result, "fetchone"):
        return CursorProxy(handle, work, result)
    return fence_result(handle, work, result)


@functools.cache
def handle_class(
    connection_class: type,
    errors_from: ModuleType | type | None,
    statements: tuple[str, ...],
    base: Any = PooledConnection,
) -> type[PooledConnection]:
    """The handle's class for one class of driver connections."""
    source = errors_from if errors_from is not None else connection_class
    body: dict[str, Any] = {
        "__slots__": (),
        "__doc__": base.__doc__,
        "_gone": for_driver(base._gone, source),
        "_connection_class": connection_class,
    }
    for name in PEP249_ERRORS:
        # On sqlite3's connection class these are descriptors; on others, and on modules, classes.
        for owner in (source, connection_class):
            if isinstance(getattr(owner, name, None), type):
                body.setdefault(name, getattr(owner, name))
    for name in statements:
        body[name] = _statement(name)
    if "__call__" in dir(connection_class):  # not callable(): any class is
        body["__call__"] = _call
    return type(base.__name__, (base,), body)


def _statement(name: str) -> Callable[..., Any]:
    def method(self: PooledConnection, *args: Any, **kwargs: Any) -> Any:
        cursor = self.cursor()
        getattr(cursor, name)(*args, **kwargs)
        return cursor

    method.__name__ = name
    method.__doc__ = f"Run `{name}` on a new cursor and return the cursor."
    return method


def _call(self: PooledConnection, *args: Any, **kwargs: Any) -> Any:
    return FencedCall(self, "__call__", False)(*args, **kwargs)
