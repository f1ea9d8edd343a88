"""`connect`: DBUtils' steady connections, and their cursors.

Between transactions a dead connection is replaced before the next statement is sent. In a transaction
none is, and no statement is ever sent twice: a loss raises. Cursors outlive the connection that they
were made on, their rows do not. When to replace is known to `renewal`; here is DBUtils' face. This
module must never reach behind `Pool`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar

from ...errors import for_driver
from ...handles import PooledConnection
from .backing import Backed
from .errors import InvalidCursor, InvalidCursorError, LostTransactionError, SteadyDBError
from .handles import no_failover
from .legacy import Check, Failures, Legacy, Ping, __version__, check_maxusage
from .renewal import REQUESTED, STATEMENT, Renewal

__all__ = [
    "InvalidCursor",
    "InvalidCursorError",
    "LostTransactionError",
    "SteadyDBConnection",
    "SteadyDBCursor",
    "SteadyDBError",
    "connect",
]


def connect(
    creator: Any,
    maxusage: int | None = None,
    setsession: Sequence[str] | None = None,
    failures: Failures = None,
    ping: Ping = 1,
    closeable: bool = True,
    isfatal: Check | None = None,
    *args: Any,
    **kwargs: Any,
) -> SteadyDBConnection:
    """A connection that is opened again when it was lost; `docs/dbutils.md` has each parameter.

    creator: a DB-API module, or a function that connects; `args` and `kwargs` are passed to it
    maxusage: statements after which it is replaced, when no transaction is open (0 or None: never)
    setsession: SQL statements that prepare each new connection; they are committed
    failures, isfatal: the errors that cost a connection, besides those that the driver is known for
    ping: when it is checked, and how
    closeable: whether `close()` closes; else it only ends what `begin()` began

    Raises `TypeError` where DBUtils does, and the driver's own error if it cannot connect.
    """
    return SteadyDBConnection(
        creator, maxusage, setsession, failures, ping, closeable, isfatal, *args, **kwargs
    )


class SteadyDBConnection:
    """What `connect` makes. It belongs to one thread at a time.

    Attributes that DBUtils has not are the driver's, both ways; those that were set are set again on
    every further connection.
    """

    __slots__ = ("__weakref__", "_closeable", "_renewal")

    _renewal: Renewal
    _closeable: bool

    version = __version__
    pool_settings: ClassVar[Mapping[str, Any]] = {}
    """For subclasses, as that of `PooledDB`."""

    def __init__(
        self,
        creator: Any,
        maxusage: int | None = None,
        setsession: Sequence[str] | None = None,
        failures: Failures = None,
        ping: Ping = 1,
        closeable: bool = True,
        isfatal: Check | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """As `connect`."""
        check_maxusage(maxusage)
        legacy = Legacy(creator, ping, failures, isfatal, inline=True, for_threads=False)
        source = Backed()
        source._back(legacy, args, kwargs, {**settings(setsession, 1), **self.pool_settings})
        self._start(source, maxusage, closeable)

    @classmethod
    def on(cls, source: Backed, maxusage: int | None, closeable: bool) -> SteadyDBConnection:
        """One whose connections come from `source`."""
        self = cls.__new__(cls)
        self._start(source, maxusage, closeable)
        return self

    def _start(self, source: Backed, maxusage: int | None, closeable: bool) -> None:
        self._closeable = closeable
        self._renewal = Renewal(source, maxusage)

    # -- DBUtils' face ----------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> SteadyDBCursor:
        """A cursor (arguments as the driver's) that outlives the connection that it is made on."""
        return SteadyDBCursor(self, *args, **kwargs)

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin a transaction, of which nothing is replaced until its end, whatever the driver says of
        it. The driver's `begin` is called if it has one. One that was lost is forgotten."""
        self._renewal.begin(*args, **kwargs)

    def commit(self) -> None:
        """Commit the transaction. Raises `LostTransactionError` if it was lost, and forgets it then."""
        self._renewal.commit()

    def rollback(self) -> None:
        """Roll the transaction back. Does nothing if it was lost: nothing of it is left. Raises if that
        turns out now, and if it did more than to read."""
        self._renewal.rollback()

    def cancel(self) -> None:
        """The driver's `cancel`, if it has one. What `begin()` began counts as ended."""
        renewal = self._renewal
        renewal.begun = False
        handle: Any = renewal.handle
        if handle is not None:
            renewal.safely(handle.cancel)

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """The driver's own. Raises `AttributeError` if it has none."""
        return self._target.ping(*args, **kwargs)

    def _ping_check(self, ping: int = REQUESTED, reconnect: bool = True) -> bool | None:
        """Whether it is alive; None if the parameter `ping` does not ask for that.

        Not in a transaction, a dead one is replaced, and True returned, unless that fails.
        """
        return self._renewal.check(ping, reconnect)

    def close(self) -> None:
        """Close it: the next use opens another one. Unless it is not `closeable`: then what `begin()`
        began is rolled back, and no more."""
        renewal = self._renewal
        if self._closeable:
            renewal.drop()
        elif renewal.lost is not None or renewal.begun:
            with suppress(Exception):
                renewal.rollback()

    def dbapi(self) -> Any:
        """The driver's DB-API module. Raises `AttributeError` if that could not be found."""
        return self._renewal.legacy.dbapi()

    def threadsafety(self) -> int:
        """The driver's PEP 249 `threadsafety`. Raises `AttributeError` if it has none."""
        return self._renewal.legacy.threadsafety()

    @property
    def dbapi_connection(self) -> Any:
        """The driver's connection, as it is now. Do not keep it."""
        self._renewal.bypass()
        return self._renewal.raw

    def __enter__(self) -> SteadyDBConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def __del__(self) -> None:
        try:
            self._renewal.drop()
        except BaseException:  # never opened, or the interpreter ends: nobody is there to be told
            pass

    # -- everything else is the driver's ----------------------------------------------------------

    @property
    def _target(self) -> Any:
        renewal = self._renewal
        return renewal.raw if renewal.handle is None else renewal.handle

    def __getattr__(self, name: str) -> Any:
        if name in SteadyDBConnection.__slots__:  # not yet there
            raise AttributeError(name)
        value = getattr(self._target, name)
        if not callable(value) or isinstance(value, type):
            return value
        return functools.partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        renewal = self._renewal
        sends = name in renewal.driver.statement_methods
        handle = renewal.ready(STATEMENT if sends else 0)
        if sends:
            renewal.note(args[0] if args else None)
        elif name in renewal.driver.harmless:
            renewal.note(None)
        else:
            renewal.bypass()
        result = renewal.safely(getattr(handle, name), *args, **kwargs)
        renewal.succeeded()
        return self if result is handle else result

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SteadyDBConnection.__slots__:
            object.__setattr__(self, name, value)
            return
        setattr(self._renewal.ready(), name, value)
        self._renewal.attributes[name] = value

    def __repr__(self) -> str:
        return f"<steady {self._renewal.handle!r}>"


class SteadyDBCursor:
    """A cursor of a steady connection. When that was replaced, the next statement has a new cursor
    made; rows that were not fetched are gone, and asking for them raises `InvalidCursorError`."""

    __slots__ = (
        "__weakref__", "_args", "_attributes", "_closed", "_con", "_cursor", "_handle", "_kwargs",
        "_renewal", "_sizes",
    )  # fmt: skip

    _con: SteadyDBConnection
    _renewal: Renewal
    _handle: PooledConnection  # the one that `_cursor` was made on
    _cursor: Any
    _closed: bool
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _attributes: dict[str, Any]  # set by the user, and to be set on every further cursor
    _sizes: list[tuple[str, tuple[Any, ...]]]  # calls that concern the next statement

    no_failover = no_failover

    def __init__(self, con: SteadyDBConnection, *args: Any, **kwargs: Any) -> None:
        """Raises `TypeError` for anything but a `SteadyDBConnection`."""
        if not isinstance(con, SteadyDBConnection):
            raise TypeError(f"{con!r} is not a SteadyDBConnection.")
        _set_con(self, con)
        _set_renewal(self, con._renewal)
        _set_args(self, args)
        _set_kwargs(self, kwargs)
        _set_attributes(self, {})
        _set_sizes(self, [])
        self._renew()

    def _renew(self) -> Any:
        """Have a cursor made on the connection that is the present one."""
        handle, cursor = self._renewal.make_cursor(self._args, self._kwargs)
        for name, value in self._attributes.items():
            setattr(cursor, name, value)
        _set_handle(self, handle)
        _set_cursor(self, cursor)
        _set_closed(self, False)
        return cursor

    def _present(self) -> Any:
        """The driver's cursor. Raises `InvalidCursorError` if it went with its connection."""
        renewal = self._renewal
        if self._handle is not renewal.handle:
            raise for_driver(InvalidCursorError, renewal.driver.module)(
                "the connection that this cursor had its rows from is gone; run the statement again"
            )
        return self._cursor

    # -- statements -------------------------------------------------------------------------------

    def _run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A method that may send a statement; once."""
        renewal = self._renewal
        handle = renewal.ready(STATEMENT)
        # In what was begun by `begin()` one that was closed stays so: errors are for the borrower.
        if handle is not self._handle or (self._closed and not renewal.begun):
            cursor = self._renew()
        else:
            cursor = self._cursor
        executes = name.startswith("execute")
        renewal.note(args[0] if executes and args else None)
        try:
            if executes and self._sizes:
                for setter, sizes in self._sizes:
                    getattr(cursor, setter)(*sizes)
            result = getattr(cursor, name)(*args, **kwargs)
        except BaseException as exc:
            renewal.failed(exc)
            raise
        if executes and self._sizes:
            self._sizes.clear()
        renewal.succeeded()
        return self if result is cursor else result

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._run("execute", *args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._run("executemany", *args, **kwargs)

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """For the next statement, whatever connection runs it."""
        self._sizes.append(("setinputsizes", (sizes,)))

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """For the next statement, whatever connection runs it."""
        self._sizes.append(("setoutputsize", (size,) if column is None else (size, column)))

    # -- results ----------------------------------------------------------------------------------

    def _fetch(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._renewal.safely(getattr(self._present(), name), *args, **kwargs)

    def fetchone(self) -> Any:
        """As the driver's."""
        cursor = self._present()
        try:
            return cursor.fetchone()
        except BaseException as exc:
            self._renewal.failed(exc)
            raise

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._fetch("fetchmany", *args, **kwargs)

    def fetchall(self) -> Any:
        """As the driver's."""
        return self._fetch("fetchall")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._present())

    def __next__(self) -> Any:
        return next(iter(self))

    # -- the rest ---------------------------------------------------------------------------------

    @property
    def dbapi_cursor(self) -> Any:
        """The driver's cursor, as it is now. Raises `InvalidCursorError` if it is gone."""
        cursor = self._present()
        self._renewal.bypass()
        return cursor.dbapi_cursor

    @property
    def connection(self) -> SteadyDBConnection:
        """The steady connection that it belongs to."""
        return self._con

    def close(self) -> None:
        """Close it; does nothing the second time. The next statement opens another one."""
        if not self._closed:
            _set_closed(self, True)
            with suppress(Exception):
                self._cursor.close()

    def __enter__(self) -> SteadyDBCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name in SteadyDBCursor.__slots__:  # not yet there
            raise AttributeError(name)
        value = getattr(self._present(), name)
        if not callable(value) or isinstance(value, type):
            return value
        sends = name not in ("nextset", "scroll", "mogrify")
        return functools.partial(self._run if sends else self._fetch, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._present(), name, value)
        self._attributes[name] = value

    def __repr__(self) -> str:
        return f"<steady {self._cursor!r}>"


# Past `__setattr__`, which is the driver's.
_slots: dict[str, Callable[[SteadyDBCursor, Any], None]] = {
    name: vars(SteadyDBCursor)[name].__set__
    for name in SteadyDBCursor.__slots__
    if name != "__weakref__"
}
_set_args, _set_attributes, _set_closed = _slots["_args"], _slots["_attributes"], _slots["_closed"]
_set_con, _set_cursor, _set_handle = _slots["_con"], _slots["_cursor"], _slots["_handle"]
_set_kwargs, _set_renewal, _set_sizes = _slots["_kwargs"], _slots["_renewal"], _slots["_sizes"]


def settings(setsession: Sequence[str] | None, most: int) -> dict[str, Any]:
    """The settings of a `Pool` of steady connections, of which nothing ever comes back."""
    return {
        "max_size": most,
        "setup": setsession or None,
        "reset": "none",
        "ping_after": None,
        "max_lifetime": None,
    }
