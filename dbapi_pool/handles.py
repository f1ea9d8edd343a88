"""What a borrower holds: `PooledConnection`, a fence around the driver's connection.

It forwards everything to the driver's connection while the lease lasts, and nothing afterwards. It
holds its lease by a tether, a list of one, and who takes the lease off it returns the connection:
`list.pop` is atomic everywhere, while two threads may both empty one slot on free-threaded builds
(3.13, CPython issue 146270). Every later use finds the tether empty.
It notes what was done, so that the return path cleans no more than it must. It knows the pool only
as the `Desk` that its lease leads to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType, TracebackType

from .cursors import fence, pooled_cursor_class, wrap_cursor
from .errors import ConnectionReturned, for_driver
from .fences import PLAIN, failed, fence_result
from .member import CALL, Member, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    from .drivers.base import Driver
    from .ledger import Lease

    class Desk(Protocol):
        """What a handle asks of the pool that lent it."""

        @property
        def driver(self) -> Driver: ...
        def begin_work(self, member: Member) -> Work: ...
        def check_in(self, lease: Lease) -> None: ...
        def discard(self, lease: Lease, reason: str) -> None: ...
        def release(self, lease: Lease) -> Any: ...
        def failed(self, lease: Lease, exc: BaseException) -> None: ...


PEP249_ERRORS = (
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError",
    "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError",
)  # fmt: skip


class PooledConnection:
    """A borrowed connection: the driver's own, as long as it is lent.

    Attributes and methods are the driver's, writing an attribute reaches the driver, and
    `isinstance(conn, <the driver's class>)` holds. Used after it was returned it raises the
    driver's `InterfaceError` (PEP 249), `ConnectionReturned` in any case.

    As a context manager it commits on success, rolls back on an exception, and always returns.
    """

    __slots__ = ("__weakref__", "_tether")

    _tether: list[Lease]
    _gone: type[ConnectionReturned] = ConnectionReturned
    _may_be_hidden = True  # False: the borrower needs what a subclass adds (see `native`)
    _connection_class: type = object

    # -- giving back ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connection back; does nothing the second time.

        Open cursors are closed, an open transaction is rolled back, the session is cleaned as
        `reset` says. If that fails the connection is thrown away; this never raises for it.
        """
        try:
            lease = self._tether.pop()
        except IndexError:
            return
        lease.pool.check_in(lease)

    def invalidate(self) -> None:
        """Throw the connection away instead of giving it back; it is closed, not cleaned."""
        try:
            lease = self._tether.pop()
        except IndexError:
            return
        lease.pool.discard(lease, "invalidated")

    def detach(self) -> Any:
        """Take the driver's connection out of the pool and return it: it is the caller's to close.

        The pool forgets it, and may open another in its place. This handle is dead afterwards.
        """
        try:
            lease = self._tether.pop()
        except IndexError:
            _raise_returned(self)
        return lease.pool.release(lease)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, for code that checks its type in C.

        The pool cannot see what is done with it, so a full reset follows on return. Do not keep it.
        """
        lease = self._lease
        _work_of(self, lease).unseen()
        return _member_of(self, lease).conn

    def __enter__(self) -> PooledConnection:
        if not self._tether:
            _raise_returned(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._tether:
                member = _member_of(self, self._lease)
                work = member.work
                if work is not None and work.pending and _may_be_open(member, work):
                    self.commit()
        finally:
            self.close()

    # -- PEP 249 ----------------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's own kind (arguments as the driver's), dead after the return."""
        try:
            lease = self._tether[0]
        except IndexError:
            _raise_returned(self)
        # As `_work_of` and `_member_of`, written out: this is the way of every cursor.
        member: Member | None = lease.member
        if member is None:
            _raise_returned(self)
        work: Work | None = member.work
        if work is None:
            work = _work_of(self, lease)
            member = lease.member
            if member is None:
                _raise_returned(self)
        try:
            if args or kwargs or work.strange or (another := member.another_cursor) is None:
                cursor = _open_cursor(self, member, work, args, kwargs)
            else:
                cursor = another()
                cursor._handle = self
                cursor._work = work
                work.track(cursor)
        except BaseException as exc:
            failed(self, exc)
            raise
        return cursor if self._tether else _too_late(self, cursor)

    def commit(self) -> None:
        """Commit the transaction."""
        self._end(_commit)

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._end(_roll_back)

    def _end(self, act: Callable[[Member, Work], None]) -> None:
        lease = self._lease
        work = _work_of(self, lease)
        member = _member_of(self, lease)
        work.inside += CALL
        try:
            self._lease  # noqa: B018  (see `_work_of`)
            act(member, work)
        except BaseException as exc:
            failed(self, exc)
            raise
        finally:
            del work.inside[-1]
        work.pending = work.wrote = False

    @property
    def _lease(self) -> Lease:
        """Raises `_gone` if it was returned."""
        try:
            return self._tether[0]
        except IndexError:
            _raise_returned(self)

    @classmethod
    def _refusal(cls, of_cursor: bool = False) -> ConnectionReturned:
        """The error of who uses it, or a cursor of it, after the return."""
        if of_cursor:
            return cls._gone("this cursor's connection was returned to the pool; borrow another")
        return cls._gone(
            "this connection was returned to the pool; borrow another with pool.connection()"
        )

    def _as_lent(self) -> Any:
        """What the borrower knows it as."""
        return self

    # -- everything else is the driver's ----------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in ("closed", "open") and is_returned(self):
            if hasattr(self._connection_class, name):
                return name == "closed"
        lease = self._lease
        member = _member_of(self, lease)
        conn = member.conn
        value = getattr(conn, name)
        if value is conn:  # psycopg's `connection`
            return self
        known = name in member.driver.harmless
        if _is_method(conn, name, value):
            return FencedCall(self, name, known)
        if not known and not isinstance(value, PLAIN):
            _work_of(self, lease).unseen()  # whatever that is, it may reach the session
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        lease = self._lease
        _work_of(self, lease).estranged()
        setattr(_member_of(self, lease).conn, name, value)

    def __delattr__(self, name: str) -> None:
        lease = self._lease
        _work_of(self, lease).estranged()
        delattr(_member_of(self, lease).conn, name)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a borrowed connection cannot be copied or pickled")

    def __dir__(self) -> list[str]:
        names = set(dir(type(self)))  # not of `__class__`, which is the driver's
        if not is_returned(self):
            names.update(dir(self._lease.member.conn))
        return sorted(names)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The driver's, so that `isinstance` holds; `type(conn)` tells the truth."""
        return self._connection_class

    def __repr__(self) -> str:
        state = "returned" if is_returned(self) else f"lent by {self._lease.pool!r}"
        kind = self._connection_class
        return f"<pooled {kind.__module__}.{kind.__qualname__}, {state}>"


# Past `__setattr__`, which is the driver's.
_tie: Callable[[PooledConnection, list[Lease]], None] = vars(PooledConnection)["_tether"].__set__


def lend(lease: Lease) -> PooledConnection:
    """A handle on a leased member."""
    kind = lease.member.handle_class
    handle: PooledConnection = kind()
    _tie(handle, [lease])
    return handle


def handle_of(conn: Any) -> PooledConnection:
    """The handle of what a pool has lent: the same, or the one behind a connection that was lent itself
    (see `native`)."""
    if isinstance(conn, PooledConnection):
        return conn
    return conn._dbapi_pool_handle  # type: ignore[no-any-return]


def is_returned(handle: PooledConnection) -> bool:
    """Whether it was given back."""
    return not handle._tether


def _raise_returned(handle: PooledConnection) -> NoReturn:
    raise type(handle)._refusal() from None


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


def _member_of(handle: PooledConnection, lease: Lease) -> Member:
    """Its member, which is gone if another thread returns it at this moment."""
    member: Member | None = lease.member
    if member is None:
        _raise_returned(handle)
    return member


def _open_cursor(
    handle: PooledConnection, member: Member, work: Work, args: Any, kwargs: Any
) -> Any:
    """A cursor of any kind; the driver is asked how."""
    driver, conn = member.driver, member.conn
    cursor = driver.open_cursor(conn, pooled_cursor_class, args, kwargs)
    if cursor is None:
        return wrap_cursor(handle, work, conn.cursor(*args, **kwargs))
    cursor._handle = handle
    cursor._work = work
    work.track(cursor)
    kind = type(cursor)
    if not kind._of_driver:
        work.unseen()
    elif not (args or kwargs or work.strange):
        member.another_cursor = driver.another_cursor(conn, kind)
    return cursor


def _too_late(handle: PooledConnection, cursor: Any) -> Any:
    """A cursor was made while another thread returned the handle: that has not seen it."""
    fence(cursor)
    _raise_returned(handle)


def _commit(member: Member, work: Work) -> None:
    work.check()
    member.driver.commit(member.conn)


def _roll_back(member: Member, work: Work) -> None:
    member.driver.rollback(member.conn)
    work.begin_anew()


def _may_be_open(member: Member, work: Work) -> bool:
    """Whether there may be a transaction to commit: in autocommit mode it would be a round trip for
    nothing."""
    if work.session or work.lost is not None:
        return True
    try:
        return member.driver.in_transaction(member.conn) is not False
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
        work = _work_of(self._handle, lease)
        conn = _member_of(self._handle, lease).conn
        work.pending = work.wrote = True
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
        handle = self._handle
        return getattr(getattr(_member_of(handle, handle._lease).conn, self._name), name)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a method of a borrowed connection cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<pooled method {self._name!r} of {self._handle!r}>"


def _fence_result(handle: PooledConnection, work: Work, result: Any) -> Any:
    if hasattr(result, "execute") and hasattr(result, "fetchone"):
        return wrap_cursor(handle, work, result)
    return fence_result(handle, work, result)


@functools.lru_cache(maxsize=256)
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
