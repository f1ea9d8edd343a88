"""What DBUtils' parameters say about a driver: `Legacy`, and `adapt`, which makes a `Driver` heed it.

ping, failures, isfatal and creator mean something for each connection, so they belong to the driver.
This module must never know a pool.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from ...drivers import Driver, registry
from ...handles import PooledConnection
from .errors import NotSupportedError, PooledDBError
from .handles import LegacyConnection, legacy_cursor_class

__version__ = "3.2.0"
"""The DBUtils whose parameters these are."""

Check = Callable[[Any], object]
Ping = int | str | Check | tuple[int | None, str | Check | None] | None
Failures = type[Exception] | tuple[type[Exception], ...] | None

_PING_ERROR = (
    "'ping' must be an integer, an SQL statement, a callable,"
    " or a tuple with an integer and one of the latter."
)


def check_maxusage(maxusage: object) -> None:
    """Raises `TypeError` as DBUtils does."""
    if maxusage is not None and not isinstance(maxusage, int):
        raise TypeError("'maxusage' must be an integer value.")


def parse_ping(ping: Ping) -> tuple[int, Check | None]:
    """When to check (the bits 1, 2 and 4), and how; no check: as the driver pings.

    Raises `TypeError` for a tuple that DBUtils refuses.
    """
    check: object = None
    when: object = ping
    if isinstance(ping, tuple):
        if len(ping) != 2:
            raise TypeError(_PING_ERROR)
        when, check = ping
    elif isinstance(ping, str) or callable(ping):
        when, check = 1, ping
    if check is not None and not isinstance(check, str) and not callable(check):
        raise TypeError(_PING_ERROR)
    found = functools.partial(_run, check) if isinstance(check, str) else check
    return when & 7 if isinstance(when, int) else 0, found


def _run(sql: str, conn: Any) -> None:
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        # Some drivers refuse to go on before it is read.
        if getattr(cursor, "description", None) is not None:
            cursor.fetchall()
    finally:
        cursor.close()


def threadsafety_of(creator: Any) -> int:
    """What a creator says before it has connected: 1 for a plain function, which says nothing."""
    sources: tuple[Any, ...] = (creator, getattr(creator, "dbapi", None))
    for source in sources:
        if hasattr(source, "threadsafety"):
            return source.threadsafety or 0
    return 0 if callable(getattr(creator, "connect", None)) else 1


def _kind(creator: Any) -> str:
    return f"an object of type {type(creator).__name__}"


class Legacy:
    """The parameters that concern the driver.

    `inline`: connections stay with one thread, which also opens and closes them.
    `for_threads`: a driver that is not made for threads is refused.
    """

    def __init__(
        self,
        creator: Any,
        ping: Ping,
        failures: Failures,
        isfatal: Check | None,
        *,
        inline: bool = False,
        for_threads: bool = True,
    ) -> None:
        """Raises `NotSupportedError` for a driver that is not for threads; `TypeError` where
        DBUtils does."""
        self.inline = inline
        self._for_threads = for_threads
        if for_threads and not threadsafety_of(creator):
            raise NotSupportedError("Database module is not thread-safe.")
        if not callable(getattr(creator, "connect", creator)):
            # Not itself, as DBUtils does: it may be a connection string with a password.
            raise TypeError(f"{_kind(creator)} is not a connection provider.")
        if failures is not None and not isinstance(failures, tuple):
            if not issubclass(failures, Exception):
                raise TypeError("'failures' must be a tuple of exceptions.")
        if isfatal is not None and not callable(isfatal):
            raise TypeError("'isfatal' must be a callable.")
        self.when, self.check = parse_ping(ping)
        self._creator = creator
        self._failures = failures
        self._isfatal = isfatal
        self._dbapi = _given_dbapi(creator)
        self._threadsafety: int | None = None

    @property
    def connect(self) -> Callable[..., Any]:
        """The function that connects."""
        return getattr(self._creator, "connect", self._creator)  # type: ignore[no-any-return]

    def driver(self) -> Driver | None:
        """The driver that the creator tells of; None: the first connection must tell."""
        # Not what `creator.dbapi` tells: that would add arguments that a creator need not take.
        return registry.find(self._creator)

    def errors(self) -> ModuleType | type | None:
        """Whatever carries the PEP 249 errors, as far as the creator tells."""
        of_creator = registry.dbapi_module(self._creator)
        return of_creator or (self._dbapi and registry.dbapi_module(self._dbapi))

    def meet(self, conn: Any) -> None:
        """Learn from a new connection. Raises `NotSupportedError` if it turns out unsafe."""
        if self._dbapi is None:
            self._dbapi = _module_behind(type(conn)) or _module_behind(_error_of(conn))
        self._threadsafety = self._level(conn)
        if self._for_threads and self._threadsafety == 0:
            raise NotSupportedError("Database module is not thread-safe.")

    def _level(self, conn: Any) -> int | None:
        for source in (self._creator, self._dbapi, conn):
            level = getattr(source, "threadsafety", None)
            if isinstance(level, int):
                return level
        return None if self._dbapi is None else 0

    def is_fatal(self, exc: BaseException, errors: Any) -> bool:
        """Whether failures and isfatal say that the connection must go."""
        if self._failures is None and self._isfatal is None:
            return False
        return self.is_failure(exc, errors)

    def is_failure(self, exc: BaseException, errors: Any) -> bool:
        """As `is_fatal`; where neither was given, the errors that DBUtils takes for failures."""
        if not isinstance(exc, self._failures or _default_failures(errors)):
            return False
        try:
            return self._isfatal is None or bool(self._isfatal(exc))
        except Exception:  # must not hide the driver's error from the borrower
            return True

    def dbapi(self) -> Any:
        """The DB-API module. Raises `AttributeError` if that could not be found."""
        if self._dbapi is None:
            raise AttributeError("Could not determine DB-API 2 module (please set creator.dbapi).")
        return self._dbapi

    def threadsafety(self) -> int:
        """What the driver says. Raises `AttributeError` if that could not be found."""
        if self._threadsafety is None:
            raise AttributeError(
                "Could not determine threadsafety"
                " (please set creator.dbapi or creator.threadsafety)."
            )
        return self._threadsafety


def _given_dbapi(creator: Any) -> Any:
    given = getattr(creator, "dbapi", None)
    if given is None and callable(getattr(creator, "connect", None)):
        return creator
    return given


def _error_of(conn: Any) -> Any:
    return getattr(conn, "OperationalError", None)


def _module_behind(kind: Any) -> ModuleType | None:
    name = getattr(kind, "__module__", None)
    while name:
        module = sys.modules.get(name)
        if callable(getattr(module, "connect", None)):
            return module
        name = name.rpartition(".")[0]
    return None


def _default_failures(errors: Any) -> tuple[type[Exception], ...]:
    names = ("OperationalError", "InterfaceError", "InternalError")
    found = (getattr(errors, name, None) for name in names)
    return tuple(kind for kind in found if isinstance(kind, type))


# -- a driver that heeds them ---------------------------------------------------------------------


class _Heeding(Driver):
    """Mixed in front of the class of the driver that was found."""

    legacy: Legacy

    remote = True
    """Whether its connections lead over a network, whoever opens them."""

    def heed(self, legacy: Legacy, handle_base: type[LegacyConnection]) -> None:
        """Heed these from now on. What the driver has for borrowed connections stays."""
        self.legacy = legacy
        self.module = self.module or legacy.errors()
        self.remote = not self.local
        if legacy.inline:
            self.local = True
        bases: tuple[Any, Any] = (self.handle_base, handle_base)
        self.handle_base = _combined(*bases)

    @classmethod
    def knows(cls, method: str) -> bool:
        """Whether the driver that was found has an answer of its own to that."""
        kinds = cls.__mro__[cls.__mro__.index(_Heeding) + 1 :]
        owner = next(kind for kind in kinds if method in vars(kind))
        return owner is not Driver

    def connected(self, conn: Any) -> None:
        super().connected(conn)
        self.legacy.meet(conn)

    def ping(self, conn: Any) -> None:
        check = self.legacy.check
        if check is not None:
            _require(check(conn), "the check that `ping` was set to")
            if self.in_transaction(conn) is not False:
                self.rollback(conn)
        elif self.knows("ping") or not _drivers_ping(conn):
            super().ping(conn)

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        return super().is_disconnect(exc, conn) or self.legacy.is_fatal(exc, self.module or conn)

    def is_transient(self, exc: BaseException) -> bool:
        # Callers of PooledDB either do not wait at all or without limit. A server that is down must
        # be told to both at once, as DBUtils does.
        return False

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        return super().open_cursor(conn, lambda cls: pooled(legacy_cursor_class(cls)), args, kwargs)


def _require(answer: object, what: str) -> None:
    if answer is not None and not answer:
        raise PooledDBError(f"{what} says that it is dead")


def _drivers_ping(conn: Any) -> bool:
    """Call the `ping` of a driver that no plugin knows; False if it has none. Raises if it is dead."""
    try:
        try:
            answer = conn.ping(False)  # where that means: do not reconnect
        except TypeError:
            answer = conn.ping()
    except (AttributeError, TypeError):
        return False
    _require(answer, "the driver's ping")
    return True


@functools.cache
def _combined(
    own: type[PooledConnection] | None, added: type[LegacyConnection]
) -> type[PooledConnection]:
    """One class for borrowed connections out of two; what the first one has wins."""
    return (
        added
        if own is None
        else type(added.__name__, (own, added), {"__slots__": (), "__doc__": added.__doc__})
    )


class _Undiscovered(_Heeding):
    """Turns into the driver that the first connection belongs to."""

    def __init__(self, module: ModuleType | type | None = None) -> None:
        super().__init__(module)
        # Guards the turning, since first connections may be opened at once and the driver found may
        # remember things about the one that it met.
        self._discovering = threading.Lock()

    def connected(self, conn: Any) -> None:
        with self._discovering:
            if isinstance(self, _Undiscovered):
                self._turn(registry.find(type(conn)) or Driver(), type(conn))
        self.connected(conn)

    def _turn(self, found: Driver, kind: type) -> None:
        legacy, base = self.legacy, self._base
        for name in ("local", "remote", "handle_base"):
            self.__dict__.pop(name, None)
        module = self.module or found.module or registry.dbapi_module(kind)
        self.__dict__.update(vars(found), module=module)
        cls: type = type(found)
        self.__class__ = _heeding(cls)  # type: ignore[assignment]
        self.heed(legacy, base)

    def heed(self, legacy: Legacy, handle_base: type[LegacyConnection]) -> None:
        self._base = handle_base
        super().heed(legacy, handle_base)


@functools.cache
def _heeding(kind: type) -> type[_Heeding]:
    return type(kind.__name__, (_Heeding, kind), {})


def adapt(driver: Driver | None, legacy: Legacy, handle_base: type[LegacyConnection]) -> Driver:
    """A driver like `driver` (None: like the one that the first connection tells of) that heeds
    `legacy`, and whose connections are lent as `handle_base`."""
    made: Any = _Undiscovered()
    if driver is not None:
        cls: type = type(driver)
        made = copy.copy(driver)
        made.__class__ = _heeding(cls)
    made.heed(legacy, handle_base)
    return made  # type: ignore[no-any-return]
