"""What the fake driver is told to do wrong, and the doing of it: errors, delays, hangs, lies.

This module must never know what a connection is, nor what an operation means.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..system import Signal, System

_T = TypeVar("_T")

OPERATIONS = frozenset({
    "begin", "close", "commit", "connect", "cursor", "execute", "fetch", "is_alive", "ping",
    "reset", "rollback",
})  # fmt: skip
"""What can be told to go wrong."""


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()


@dataclass(eq=False)
class Fault:
    """One instruction, see `FakeDriver.on`."""

    error: BaseException | type[BaseException] | None = None
    delay: float = 0.0
    hang: bool = False
    call: Callable[[Any], object] | None = None
    returns: Any = NOTHING
    after: bool = False
    times: int | None = None

    def strike(self, conn: Any) -> None:
        """Do the harm that is not waiting."""
        if self.call is not None:
            self.call(conn)
        if isinstance(self.error, BaseException):
            # Without the last traceback, which would keep alive what its frames hold.
            raise self.error.with_traceback(None)
        if self.error is not None:
            raise self.error()


@dataclass(eq=False)
class _Pause:
    """One call that waits now."""

    operation: str
    conn: Any
    signal: Signal


class Faults:
    """The instructions for one fake driver."""

    def __init__(self, system: System) -> None:
        self.calls: Counter[str] = Counter()
        self._system = system
        self._faults: dict[str, list[Fault]] = {}
        self._pauses: list[_Pause] = []
        # Guards calls, _faults. Re-entrant, since a finalizer may close a connection inside it.
        self._lock = threading.RLock()

    def add(self, operation: str, fault: Fault) -> None:
        """From now on `operation` suffers `fault`."""
        _check(operation)
        if operation == "connect" and fault.after:
            raise ValueError("connect has no after: a connection that nobody got would stay open")
        with self._lock:
            self._faults.setdefault(operation, []).append(fault)

    def remove(self, operation: str) -> None:
        """`operation` works again."""
        _check(operation)
        with self._lock:
            self._faults.pop(operation, None)

    def clear(self) -> None:
        """All work again, and what waits goes on."""
        with self._lock:
            self._faults.clear()
        for pause in list(self._pauses):
            pause.signal.set()

    def release(self, operation: str) -> int:
        """What waits in `operation` goes on; how many that were."""
        _check(operation)
        return self._wake(lambda pause: pause.operation == operation)

    def wake(self, conn: Any) -> int:
        """What waits on `conn` goes on; how many that were."""
        return self._wake(lambda pause: pause.conn is conn)

    def waiting(self, operation: str) -> int:
        """How many calls wait in `operation`."""
        _check(operation)
        return sum(pause.operation == operation for pause in list(self._pauses))

    def run(self, operation: str, conn: Any, effect: Callable[[], _T]) -> _T:
        """`effect()`, with whatever `operation` has to suffer."""
        fault = self._take(operation)
        if fault is None:
            return effect()
        if fault.hang or fault.delay > 0:
            self._pause(operation, conn, None if fault.hang else fault.delay)
        if fault.after:
            result = effect()
            fault.strike(conn)
            return result
        fault.strike(conn)
        if fault.returns is NOTHING:
            return effect()
        value: _T = fault.returns
        return value

    def _take(self, operation: str) -> Fault | None:
        with self._lock:
            self.calls[operation] += 1
            faults = self._faults.get(operation, [])
            for fault in faults:
                if fault.times is not None:
                    return self._use_up(fault, faults)
            return faults[-1] if faults else None

    def _use_up(self, fault: Fault, faults: list[Fault]) -> Fault:
        assert fault.times is not None
        fault.times -= 1
        if fault.times <= 0:
            faults.remove(fault)
        return fault

    def _pause(self, operation: str, conn: Any, seconds: float | None) -> None:
        pause = _Pause(operation, conn, self._system.signal())
        self._pauses.append(pause)
        try:
            pause.signal.wait(seconds)
        finally:
            self._pauses.remove(pause)

    def _wake(self, chosen: Callable[[_Pause], bool]) -> int:
        pauses = [pause for pause in list(self._pauses) if chosen(pause)]
        for pause in pauses:
            pause.signal.set()
        return len(pauses)


def _check(operation: str) -> None:
    if operation not in OPERATIONS:
        known = ", ".join(sorted(OPERATIONS))
        raise ValueError(f"no operation {operation!r}; there are: {known}")
