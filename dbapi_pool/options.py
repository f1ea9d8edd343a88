"""Every setting of a pool: name, meaning, default, unit, and what is refused at the door.

A leaf: knows nobody but `errors`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from .errors import PoolSettingError

Setup = str | Sequence[str] | Callable[[Any], object] | None
Reset = Literal["auto", "always", "transaction", "none"]

RESETS = ("auto", "always", "transaction", "none")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one pool. Times are seconds."""

    min_size: int = 0
    """Connections kept open. Opened before the constructor returns."""
    max_size: int = 10
    """Connections open or opening at most: the hard bound."""
    max_idle: int | None = None
    """Idle connections kept at most; None: `max_size`."""
    checkout_timeout: float | None = 30.0
    """How long a checkout may take in all. 0: if every connection is lent, fail at once (a connect,
    where there is room, is still waited for). None: no limit."""
    max_waiting: int | None = None
    """Callers that may wait at the same time; one more gets `PoolFull` at once. None: no limit."""
    max_lifetime: float | None = 3600.0
    """Age at which a connection is retired, less up to 10 % chance; never while it is lent."""
    idle_timeout: float | None = 600.0
    """Idle time after which a connection above `min_size` is retired."""
    max_uses: int | None = None
    """Leases after which a connection is retired."""
    ping_after: float | None = 30.0
    """A connection idle longer is pinged at checkout. 0: always. None: never."""
    ping_timeout: float = 5.0
    """How long a ping, a cleaning or a close may block before it is cut."""
    keepalive: float | None = None
    """Ping idle connections so often, in the background."""
    reset: Reset = "auto"
    """What is cleaned on return. "auto": roll back, and reset the session if a statement may have
    changed it. "always": reset after every use. "transaction": only roll back. "none": nothing."""
    setup: Setup = None
    """SQL, several, or a callable taking the driver's connection: run on every new connection and
    after every full reset, then committed."""
    leak_after: float | None = None
    """Report a connection lent longer than that, with the place where it was borrowed."""

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            check(name, getattr(self, name))
        if self.min_size > self.max_size:
            raise PoolSettingError(
                f"min_size={self.min_size!r} is more than max_size={self.max_size!r}"
            )
        if self.max_idle is not None and self.max_idle < self.min_size:
            raise PoolSettingError(
                f"max_idle={self.max_idle!r} is less than min_size={self.min_size!r}"
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


Check = Callable[[str, Any], None]


def _refuse(name: str, value: Any, allowed: str) -> None:
    raise PoolSettingError(f"{name}={value!r}: must be {allowed}")


def _whole(least: int, optional: bool = False) -> Check:
    allowed = f"a whole number, {least} or more" + (", or None" if optional else "")

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            _refuse(name, value, allowed)

    return check


def _seconds(above_zero: bool = False, optional: bool = False) -> Check:
    least = "more than 0" if above_zero else "0 or more"
    allowed = f"seconds, {least} and finite" + (", or None" if optional else "")

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(name, value, allowed)
        if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
            _refuse(name, value, allowed)

    return check


def _one_of(*choices: str) -> Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            _refuse(name, value, "one of " + ", ".join(map(repr, choices)))

    return check


def _is_setup(name: str, value: Any) -> None:
    if value is None or isinstance(value, str) or callable(value):
        return
    if isinstance(value, Sequence) and all(isinstance(sql, str) for sql in value):
        return
    _refuse(name, value, "SQL text, a list of SQL texts, a callable, or None")


CHECKS: dict[str, Check] = {
    "min_size": _whole(0),
    "max_size": _whole(1),
    "max_idle": _whole(0, optional=True),
    "checkout_timeout": _seconds(optional=True),
    "max_waiting": _whole(0, optional=True),
    "max_lifetime": _seconds(above_zero=True, optional=True),
    "idle_timeout": _seconds(above_zero=True, optional=True),
    "max_uses": _whole(1, optional=True),
    "ping_after": _seconds(optional=True),
    "ping_timeout": _seconds(above_zero=True),
    "keepalive": _seconds(above_zero=True, optional=True),
    "reset": _one_of(*RESETS),
    "setup": _is_setup,
    "leak_after": _seconds(above_zero=True, optional=True),
}


def check_timeout(value: Any) -> None:
    """Refuse a `timeout=` given to a call."""
    _seconds()("timeout", value)


def check_count(name: str, value: Any) -> None:
    """Refuse a number given to a call that is not a whole one, 0 or more."""
    _whole(0)(name, value)
