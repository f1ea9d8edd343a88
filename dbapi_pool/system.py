"""The seam to the machine: clock, locks, signals, threads, chance.

Everything in this package that waits, measures time or starts a thread does it through a `System`,
so that tests can put a virtual clock in its place (`dbapi_pool.testing.VirtualClock`).
This module must never know what a pool is.
"""

from __future__ import annotations

import _thread
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager


class Signal:
    """A one-thread alarm: one thread waits, anybody sets.

    `set` takes no other lock and never blocks, so it may be called from a finalizer, that is from
    anywhere, and twice. A signal that was set before `wait` makes the wait return at once; each
    return of `wait` with True uses it up.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        # A plain lock used as a binary semaphore: held means "not set". It guards nothing.
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next one to wait."""
        try:
            self._lock.release()
        except RuntimeError:  # already set
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until set; False after `timeout` seconds (None: no limit)."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(True, min(max(timeout, 0.0), _thread.TIMEOUT_MAX))


class System:
    """The real machine."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def get_ident(self) -> int:
        """The calling thread's number."""
        return threading.get_ident()

    def lock(self) -> AbstractContextManager[object]:
        """A mutual-exclusion lock. Use it only as `with lock:`."""
        return threading.Lock()

    def signal(self) -> Signal:
        """A new, unset `Signal`."""
        return Signal()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run `target` on a new daemon thread."""
        threading.Thread(target=target, name=name, daemon=True).start()

    def sleep(self, seconds: float) -> None:
        """Do nothing for that long."""
        time.sleep(seconds)

    def random(self) -> float:
        """A number from 0.0 up to, but not including, 1.0."""
        return random.random()


REAL = System()
