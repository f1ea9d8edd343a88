"""What can go wrong in the pool itself: few errors, one for each decision a caller can take.

Each is raised as a subclass that is *also* the driver's own PEP 249 error (`for_driver`), so that
`except pymysql.OperationalError` in code that never heard of a pool still catches it.
This module knows nobody.
"""

from __future__ import annotations

import copy
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    E = TypeVar("E", bound="PoolError")

__all__ = [
    "CommitOutcomeUnknown",
    "ConnectionReturned",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolFull",
    "PoolSettingError",
    "PoolTimeout",
    "PoolUnavailable",
    "for_driver",
    "replica",
]


class PoolError(Exception):
    """Base of everything that the pool itself raises."""

    dbapi_base: str | None = None
    """The PEP 249 error that this one is besides, by name."""

    goes_by_that_name = False
    """Whether it shows itself as the driver's error, to programs that know of no pool."""


class PoolTimeout(PoolError):
    """No connection within the time allowed. Retry later, raise `max_size`, or hold leases shorter."""

    dbapi_base = "OperationalError"


class PoolUnavailable(PoolTimeout):
    """Connecting has been in vain for `fail_fast_after` seconds, so nobody waits until it succeeds
    again. Do without the database, or try later."""


class PoolFull(PoolError):
    """More callers wait than `max_waiting` allows. Shed the load."""

    dbapi_base = "OperationalError"


class PoolDeadlock(PoolError):
    """Every holder of the exhausted pool waits for it. Change the code: it borrows while it holds."""

    dbapi_base = "OperationalError"


class PoolClosed(PoolError):
    """The pool was closed (or belongs to the parent of a fork)."""

    dbapi_base = "InterfaceError"


class ConnectionReturned(PoolError):
    """A connection, cursor or iterator was used after it went back to the pool."""

    dbapi_base = "InterfaceError"


class CommitOutcomeUnknown(PoolError):
    """`pool.run` lost the connection during COMMIT. Look at the data before trying again."""

    dbapi_base = "OperationalError"


class PoolSettingError(PoolError, ValueError):
    """A setting was refused at the door; the message names it, its value and what is allowed."""


_made: dict[tuple[type[PoolError], type[BaseException]], type[PoolError]] = {}


def for_driver(error: type[E], driver_errors: ModuleType | type | None) -> type[E]:
    """The subclass of `error` that is also the driver's own error.

    `driver_errors` is whatever carries the PEP 249 names: the driver's module, or its connection
    class (PEP 249, "Connection.Error"). A driver without the name, or whose class cannot be
    combined with ours, gets plain `error`.
    """
    base = getattr(driver_errors, error.dbapi_base, None) if error.dbapi_base else None
    if not (isinstance(base, type) and issubclass(base, Exception)):
        return error
    made: Any = _made.get((error, base)) or _made.setdefault((error, base), _combine(error, base))
    return made  # type: ignore[no-any-return]


def replica(error: BaseException) -> BaseException:
    """The same error with its cause, but without the traceback, which keeps frames alive; the error
    itself if it cannot be copied."""
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    twin.__cause__ = error.__cause__
    return twin.with_traceback(None)


def _combine(error: type[PoolError], base: type[BaseException]) -> type[PoolError]:
    shown = base if error.goes_by_that_name else error
    body = {
        "__module__": shown.__module__,
        "__doc__": error.__doc__,
        "__reduce__": _reduce,
        "_portable": error,
        "_driver_error": base,
    }
    try:
        return type(shown.__name__, (error, base), body)
    except TypeError:  # two C layouts that do not mix
        return error


def _reduce(self: PoolError) -> tuple[object, ...]:
    # Its text, not its `args`: a driver's class may have made something else of these
    # (mysql-connector's: three), which it would not take back.
    kinds = self._portable, self._driver_error  # type: ignore[attr-defined]
    return _rebuild, (*kinds, (str(self),)), vars(self) or None


def _rebuild(
    error: type[PoolError], base: type[BaseException], args: tuple[object, ...]
) -> PoolError:
    return _made.setdefault((error, base), _combine(error, base))(*args)
