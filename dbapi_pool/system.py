"""The seam to the machine: clock, locks, signals, threads, chance.

Everything in this package that waits, measures time or starts a thread does it through a `System`,
so that tests can put a virtual clock in its place (`dbapi_pool.testing.VirtualClock`).
This module must never know what a pool is.
"""

from __future__ import annotations

import _thread
import gc
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import CodeType


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

    def calls(self, ident: int) -> frozenset[CodeType]:
        """What a thread is executing now, as far as that can be known."""
        frame = sys._current_frames().get(ident)
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
        return frozenset(codes)

    def lock(self) -> AbstractContextManager[object]:
        """A mutual-exclusion lock. Use it only as `with lock:`.

        It is re-entrant: the garbage collector may run a finalizer while it is held, which returns a
        connection and so comes here again in the same thread.
        """
        return threading.RLock()

    def signal(self) -> Signal:
        """A new, unset `Signal`."""
        return Signal()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run `target` on a new daemon thread.

        Raises `RuntimeError` if the machine has no thread to give. Not by `threading.Thread`: an
        exception that strikes its `start` can leave the new thread blocked for ever.
        """
        _thread.start_new_thread(_run, (target, name))

    def sleep(self, seconds: float) -> None:
        """Do nothing for that long."""
        time.sleep(seconds)

    def collect_garbage(self) -> None:
        """Free reference cycles now."""
        gc.collect()

    def random(self) -> float:
        """A number from 0.0 up to, but not including, 1.0."""
        return random.random()


def _run(target: Callable[[], object], name: str) -> None:
    set_name = getattr(_thread, "set_name", None)  # Python 3.14
    if set_name is not None:
        set_name(name[:15])
    target()


REAL = System()
