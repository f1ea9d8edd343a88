"""Every setting of a pool: name, meaning, default, unit, and what is refused at the door.

A leaf: knows nobody but `checks`, `errors`, and the settings of `adaptive`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from .adaptive import Adaptive
from .checks import Check, instance_of, is_flag, is_setup, one_of, seconds, whole
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
    fail_fast_after: float | None = None
    """While nothing is open, and connecting has been in vain for so long, a checkout raises
    `PoolUnavailable` at once. 0: from the first failure on. None: each waits for its own time."""
    leak_after: float | None = None
    """Report a connection lent longer than that, with the place where it was borrowed, and when it
    comes back after all. (`fetchall` of a long query takes its time too.)"""
    leak_stack: bool = False
    """Keep with each checkout the calls that led to it, for that report. Takes some 5 us."""
    detect_sharing: bool = False
    """Report a borrowed connection inside which two threads are at the same time, once for each
    borrowing."""
    sizing: Adaptive | None = None
    """Allow fewer than `max_size` while fewer will do: see `dbapi_pool.adaptive.Adaptive`."""
    native: bool = False
    """Lend the driver's own connection objects, of a class derived from theirs, for code that checks
    types in C: see docs/native.md for what that gives up."""

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


CHECKS: dict[str, Check] = {
    "min_size": whole(0),
    "max_size": whole(1),
    "max_idle": whole(0, optional=True),
    "checkout_timeout": seconds(optional=True),
    "max_waiting": whole(0, optional=True),
    "max_lifetime": seconds(above_zero=True, optional=True),
    "idle_timeout": seconds(above_zero=True, optional=True),
    "max_uses": whole(1, optional=True),
    "ping_after": seconds(optional=True),
    "ping_timeout": seconds(above_zero=True),
    "keepalive": seconds(above_zero=True, optional=True),
    "reset": one_of(*RESETS),
    "setup": is_setup,
    "fail_fast_after": seconds(optional=True),
    "leak_after": seconds(above_zero=True, optional=True),
    "leak_stack": is_flag,
    "detect_sharing": is_flag,
    "sizing": instance_of(Adaptive),
    "native": is_flag,
}
