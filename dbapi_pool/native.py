"""`native=True`: what is lent is the driver's own connection, of a class derived from the driver's.

For code that checks the type of a connection in C. The class has in front of the driver's methods those
of the handle (`PooledConnection`), which notes what is done; the handle stays hidden. While nobody has
borrowed the connection it is of another class, which refuses. What the pool itself does on it, it does
inside the connection's `Fence`, where the driver's own methods are called.

While a connection is lent only its borrower keeps it alive, so that one that is dropped is found. This
module knows a pool only as whatever a lease leads to.
"""

from __future__ import annotations

import _thread
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from .drivers.base import Arguments, Driver
from .errors import PoolSettingError
from .fences import PLAIN
from .handles import PEP249_ERRORS, PooledConnection
from .member import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from .ledger import Lease

    T = TypeVar("T")

_FENCE = "_dbapi_pool_fence"  # in the `__dict__` of each connection
# To be had after the return, too.
_ALWAYS = frozenset({"close", "closed", "open", *PEP249_ERRORS})


NOT_BY_A_DROP_IN = (
    "native=True: a drop-in lends connections of its own kind; make the Pool yourself"
)


class Fence:
    """Whose a connection is, and which threads are on the pool's own errands in it: to these it is as
    the driver made it."""

    __slots__ = ("errands", "handle")

    def __init__(self) -> None:
        self.handle: Any = None  # of the present or last borrower; None: it is nobody's
        # An entry for each errand: its thread. Put in and taken out as in `Work.inside`.
        self.errands: list[int] = []

    def errand(self, act: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `act` on an errand."""
        me, errands = _thread.get_ident(), self.errands
        errands += (me,)
        try:
            return act(*args, **kwargs)
        finally:
            errands.remove(me)

    def handle_for_caller(self) -> Any:
        """The handle through which the calling thread must go; None: it may go to the driver."""
        return None if _thread.get_ident() in self.errands else self.handle


def fence_of(conn: Any) -> Fence | None:
    """The fence of a connection; None if it has none, or is no connection."""
    try:
        inner = object.__getattribute__(conn, "__dict__")
    except AttributeError:
        return None
    return inner.get(_FENCE)  # type: ignore[no-any-return]


class NativeMember(Member):
    """The record of a connection that only its borrower keeps alive."""

    __slots__ = ("_kept", "_seen")

    @property
    def conn(self) -> Any:
        """The connection; None if its borrower has dropped it."""
        return self._seen() if self._kept is None else self._kept

    @conn.setter
    def conn(self, conn: Any) -> None:
        self._kept = conn
        self._seen = weakref.ref(conn)

    @property
    def another_cursor(self) -> None:
        """What makes cursors would keep the connection alive, so nothing is remembered here."""

    @another_cursor.setter
    def another_cursor(self, make: Any) -> None:
        pass

    def let_go(self) -> None:
        """It is the borrower's now."""
        self._kept = None


class NativeHandle(PooledConnection):
    """The hidden handle of a connection that is lent itself."""

    __slots__ = ()

    def close(self) -> None:
        """Give the connection back; does nothing the second time."""
        self._give_back(lambda lease: lease.pool.check_in(lease))

    def invalidate(self) -> None:
        """Throw the connection away instead of giving it back."""
        self._give_back(lambda lease: lease.pool.discard(lease, "invalidated"))

    def _give_back(self, how: Callable[[Lease], None]) -> None:
        try:
            lease = self._tether.pop()
        except IndexError:
            return
        if not isinstance(lease.member, NativeMember):  # the parent's, in a forked child
            how(lease)
            return
        conn = lease.member.conn
        fence = fence_of(conn)
        assert fence is not None  # whoever gives it back has it
        lease.member.conn = conn  # kept from now on
        _become(conn, type(conn)._dbapi_pool_returned)
        fence.errand(how, lease)

    def detach(self) -> Any:
        """Take the connection out of the pool: it is the caller's to close."""
        conn = super().detach()
        fence = fence_of(conn)
        assert fence is not None
        fence.handle = None
        return conn

    def _as_lent(self) -> Any:
        return self._lease.member.conn


def _become(conn: Any, kind: Any) -> None:
    """Give it the other class, past `__setattr__`, which is the borrower's."""
    kind._dbapi_pool_plain.__setattr__(conn, "__class__", kind)


def lent(handle: PooledConnection) -> Any:
    """The connection itself, to be lent in the handle's stead."""
    lease = handle._lease
    member: NativeMember = lease.member
    conn = member.conn
    fence = fence_of(conn)
    assert fence is not None
    # First, and from then on only this function keeps it: what an exception ends here is found as
    # any other that is dropped. The fence leads to the lease, so a member that keeps both would not be.
    member.let_go()
    fence.handle = handle
    _become(conn, type(conn)._dbapi_pool_lent)
    return conn


# -- the driver's connection --------------------------------------------------------------------------


def adopt(conn: Any, handle_class: type, driver: Driver) -> None:
    """Make a new connection one that can be lent itself. Raises `PoolSettingError` if it cannot be."""
    base: Any = type(conn)  # mypy holds that a type may not be hashable
    kind: Any = native_class(base, handle_class, _package_of(base, driver))
    try:
        weakref.ref(conn)
        object.__getattribute__(conn, "__dict__")[_FENCE] = Fence()
        conn.__class__ = kind
    except (AttributeError, TypeError) as exc:
        name = f"{type(conn).__module__}.{type(conn).__qualname__}"
        raise PoolSettingError(
            f"native=True: the class of a {name} cannot be changed after it was made;"
            f" {driver.native_advice}"
        ) from exc


def _package_of(base: Any, driver: Driver) -> str:
    """The package of the driver's own code. It is that of its errors: the class may be the user's, from
    the same package as the borrowers. Without errors, that of the first class from which it derives."""
    known = getattr(driver.module, "Error", base.__mro__[-2])  # the last one is `object`
    return str(known.__module__).partition(".")[0]


@functools.lru_cache(maxsize=256)
def native_class(base: Any, handle_class: type, package: str) -> type:
    """A subclass of a driver's connection class for what is lent itself. `package`: the driver's."""
    meta = type(base)
    named = {"__slots__": (), "__module__": base.__module__, "__doc__": base.__doc__}
    made = meta(base.__name__, (base,), {**named, **_lent_body(base, handle_class, package)})
    returned = meta(base.__name__, (made,), {**named, "__getattribute__": _get_after_return})
    for kind in (made, returned):
        kind._dbapi_pool_plain = base
        kind._dbapi_pool_lent, kind._dbapi_pool_returned = made, returned
    return made  # type: ignore[no-any-return]


def _lent_body(base: Any, handle_class: type, package: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name in ("cursor", "commit", "rollback"):
        body[name] = _forward_method(getattr(base, name, None), name)
    for name in ("closed", "open"):
        if hasattr(inspect.getattr_static(base, name, None), "__get__"):
            body[name] = _forward_property(base, name)
    for name, value in _own_of_handles(base, handle_class):
        body.setdefault(name, value)
    for name in ("close", "invalidate", "detach"):
        body[name] = _forward_method(getattr(base, name, None), name)
    body["_dbapi_pool_handle"] = property(_hidden_handle)
    body["driver_connection"] = property(lambda self: self, doc="The connection itself.")
    body["__enter__"] = _enter
    body["__exit__"] = _forward_method(getattr(base, "__exit__", None), "__exit__")
    body["__setattr__"] = _setter(base, package)
    body["__getattribute__"] = _getter(base, package, frozenset(body))
    body["__reduce_ex__"] = _refuse_copy
    if hasattr(base, "__del__"):
        body["__del__"] = _last_rites(base.__del__)
    return {name: value for name, value in body.items() if value is not None}


def _own_of_handles(base: Any, handle_class: type) -> Iterator[tuple[str, Any]]:
    """What the plugin's handles do in a way of their own, and the errors that all of them have."""
    kinds = handle_class.__mro__[: handle_class.__mro__.index(PooledConnection)]
    for name, value in ((name, value) for kind in kinds for name, value in vars(kind).items()):
        if name in PEP249_ERRORS and not hasattr(base, name):
            yield name, value
        elif isinstance(value, FunctionType) and not name.startswith("_") and hasattr(base, name):
            yield name, _forward_method(getattr(base, name), name)


def _forward_method(own: Any, name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        fence = fence_of(self)
        handle = None if fence is None else fence.handle_for_caller()
        if fence is None or handle is None:
            return own(self, *args, **kwargs)
        if name in ("close", "invalidate", "detach", "__exit__"):  # these go to the pool
            return getattr(handle, name)(*args, **kwargs)
        result = fence.errand(getattr(handle, name), *args, **kwargs)
        return self if result is handle else result

    method.__name__ = name
    method.__doc__ = getattr(own, "__doc__", None)
    return method


def _forward_property(base: Any, name: str) -> property:
    own = inspect.getattr_static(base, name)

    def read(self: Any) -> Any:
        fence = fence_of(self)
        handle = None if fence is None else fence.handle_for_caller()
        if fence is None or handle is None:
            return own.__get__(self, type(self))
        return fence.errand(getattr, handle, name)

    # Writing comes by way of `__setattr__`, through the handle, to this.
    write = getattr(own, "__set__", None)
    return property(read, write, doc=own.__doc__)


def _hidden_handle(self: Any) -> Any:
    fence = fence_of(self)
    return None if fence is None else fence.handle


def _enter(self: Any) -> Any:
    fence = fence_of(self)
    handle = None if fence is None else fence.handle_for_caller()
    if handle is not None:
        handle.__enter__()  # raises if it was returned
    return self


def _setter(base: Any, package: str) -> Callable[[Any, str, Any], None]:
    def __setattr__(self: Any, name: str, value: Any) -> None:
        fence = fence_of(self)
        handle = None if fence is None else fence.handle_for_caller()
        if fence is None or handle is None or _called_by(package):
            base.__setattr__(self, name, value)
            return
        fence.errand(setattr, handle, name, value)

    return __setattr__


def _getter(base: Any, package: str, forwarded: frozenset[str]) -> Callable[[Any, str], Any]:
    def __getattribute__(self: Any, name: str) -> Any:
        value = base.__getattribute__(self, name)
        if name in forwarded or _is_inner(name) or _called_by(package):
            return value
        fence = fence_of(self)
        handle = None if fence is None else fence.handle_for_caller()
        if handle is not None:
            _note(handle._lease, name, value)
        return value

    return __getattribute__


def _is_inner(name: str) -> bool:
    """Whether it is Python's own or ours; of Python's own, `__dict__` leads to all the others."""
    return name.startswith(("__", "_dbapi_pool_")) and name != "__dict__"


def _called_by(package: str) -> bool:
    """Whether whoever called the caller is the driver's own Python code. (Its C code has no frame, and
    does not come by here.)"""
    return str(sys._getframe(2).f_globals.get("__name__", "")).partition(".")[0] == package


def _note(lease: Lease, name: str, value: Any) -> None:
    """The borrower gets something from the driver's connection: what is done with it is not seen."""
    member = lease.member
    if name in member.driver.harmless:
        if callable(value) and not isinstance(value, type):
            work = lease.pool.begin_work(member)
            work.pending = work.wrote = True
    elif not isinstance(value, PLAIN):
        lease.pool.begin_work(member).unseen()


def _get_after_return(self: Any, name: str) -> Any:
    if not (_is_inner(name) or name in _ALWAYS):
        fence = fence_of(self)
        handle = None if fence is None else fence.handle_for_caller()
        if handle is not None:
            raise type(handle)._refusal()
    return type(self)._dbapi_pool_plain.__getattribute__(self, name)


def _refuse_copy(self: Any, protocol: Any) -> Any:
    raise TypeError("a borrowed connection cannot be copied or pickled")


def _last_rites(own: Callable[[Any], None]) -> Callable[[Any], None]:
    def __del__(self: Any) -> None:
        fence = fence_of(self)
        if fence is None:
            own(self)
        else:
            fence.errand(own, self)

    return __del__


# -- the driver ---------------------------------------------------------------------------------------


def adapt(driver: Driver) -> Driver:
    """Make the calls of this driver, which serves one pool, the pool's own errands."""
    made: Any = driver
    base: Any = driver.handle_base
    if base is not None and not base._may_be_hidden:
        raise PoolSettingError(NOT_BY_A_DROP_IN)
    if hasattr(type(driver), "_errands"):  # of a pool that was refused after this
        return driver
    plain: Any = type(driver)
    kind: Any = _errand_class(plain)
    for name, value in vars(driver).items():  # methods of this one object
        if name in kind._errands and callable(value):
            made.__dict__[name] = _bound_errand(value, kind._errands[name])
    made.__class__ = kind
    made.handle_base = _in_front(base)
    return driver


@functools.cache
def _in_front(base: Any) -> type:
    if base is None:
        return NativeHandle
    return type(base.__name__, (NativeHandle, base), {"__slots__": (), "__doc__": base.__doc__})


@functools.cache
def _errand_class(kind: Any) -> type:
    errands: dict[str, int] = {}
    body: dict[str, Any] = {
        "_plain": kind,
        "_errands": errands,
        "_overrides": _overrides,
        "close": _close(kind),
        "connect_arguments": _connect_arguments(kind),
    }
    for name, value in inspect.getmembers(Driver, inspect.isfunction):
        parameters = list(inspect.signature(value).parameters)
        if "conn" in parameters:
            errands[name] = position = parameters.index("conn")
            body.setdefault(name, _errand(getattr(kind, name), position))
    return type(kind.__name__, (kind,), body)


def _errand(own: Callable[..., Any], position: int) -> Callable[..., Any]:
    @functools.wraps(own)
    def errand(self: Any, *args: Any, **kwargs: Any) -> Any:
        conn = args[position - 1] if len(args) >= position else kwargs.get("conn")
        fence = fence_of(conn)
        if fence is None:
            return own(self, *args, **kwargs)
        return fence.errand(own, self, *args, **kwargs)

    return errand


def _bound_errand(own: Callable[..., Any], position: int) -> Callable[..., Any]:
    errand = _errand(lambda _, *args, **kwargs: own(*args, **kwargs), position)
    return functools.partial(errand, None)


def _connect_arguments(kind: Any) -> Callable[..., Arguments]:
    def connect_arguments(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        return self.native_arguments(*kind.connect_arguments(self, args, kwargs))  # type: ignore[no-any-return]

    return connect_arguments


def _close(kind: Any) -> Callable[[Any, Any], None]:
    close = _errand(kind.close, 1)

    def close_if_there(self: Any, conn: Any) -> None:
        if conn is not None:  # who dropped it has closed it
            close(self, conn)

    return close_if_there


def _overrides(self: Any, method: str) -> bool:
    return getattr(self._plain, method) is not getattr(Driver, method)
