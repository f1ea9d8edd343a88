"""The seam to the machine: clock, locks, signals, threads, chance.

Everything in this package that waits, measures time or starts a thread does it through a `System`,
so that tests can put a virtual clock in its place (`dbapi_pool.testing.VirtualClock`).
This module must never know what a pool is.
"""

from __future__ import annotations

import _thread
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Set
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any


class Signal:
    """A one-thread alarm: one thread waits, anybody sets.

    `set` takes no other lock and never blocks, so it may be called from a finalizer, that is from
    anywhere, and twice. A signal that was set before `wait` makes the wait return at once; each
    return of `wait` with True uses it up. Early free-threaded builds may count two that set it at
    the same instant as two: who waits must look, and wait again.
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

    ending = False
    """True when a sub-interpreter ends, which no thread may outlive: none is started any more."""

    # These two are asked at every checkout: no call of ours stands in between.
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds on a clock that never goes back."""

    @property
    def get_ident(self) -> Callable[[], int]:
        """The function that gives the calling thread's number. Green threads have a patched one, from
        some moment on: so not before a pool is made."""
        return threading.get_ident

    def is_over(self) -> bool:
        """Whether the interpreter has ended, but for finalizers: no other thread will ever run."""
        return sys.is_finalizing()

    def in_reach_of_others(self, idents: Set[int]) -> list[Any] | None:
        """What the threads other than these, and than those made by `spawn`, have at hand: of each
        its innermost frame, and what the variables of its calls hold. None: it cannot be told."""
        frames = sys._current_frames()
        present = idents <= frames.keys()
        others = [
            frame
            for ident, frame in frames.items()
            if ident not in idents and _outermost(frame).f_code is not _run.__code__
        ]
        # This call's own frame is in it: a cycle, which would keep what the calls that led here hold.
        frames.clear()
        if not present:  # greenlets, which share a thread
            return None
        if others and _without_gil():
            return None
        return [*others, *(thing for frame in others for thing in variables(frame))]

    def lock(self) -> AbstractContextManager[object]:
        """A mutual-exclusion lock. Use it only as `with lock:`.

        It is re-entrant: the garbage collector may run a finalizer while it is held, which returns a
        connection and so comes here again in the same thread.
        """
        lock = threading.RLock()
        _locks.add(weakref.ref(lock, _locks.discard))
        return lock

    def holds_lock(self) -> bool:
        """Whether the calling thread holds a lock made by `lock`: it is a finalizer that was run
        inside. It must not wait then, since whom it waits for may wait for that lock."""
        for ref in _locks.copy():  # in one step, as other threads make some
            lock = ref()
            if lock is not None and lock._is_owned():
                return True
        return False

    def signal(self) -> Signal:
        """A new, unset `Signal`."""
        return Signal()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run `target` on a new daemon thread.

        Raises `RuntimeError` if the machine has no thread to give. Not by `threading.Thread`: an
        exception that strikes its `start` can leave the new thread blocked for ever.
        """
        # Before Python 3.12 it would be started, and never run.
        if self.ending or self.is_over():
            raise RuntimeError("can't start a thread: the interpreter ends")
        token = object()
        threads.add(token)
        try:
            _thread.start_new_thread(_run, (target, name, token))
        except BaseException:
            threads.discard(token)
            raise

    def sleep(self, seconds: float) -> None:
        """Do nothing for that long."""
        time.sleep(seconds)

    def collect_garbage(self) -> None:
        """Free reference cycles now."""
        gc.collect()

    def random(self) -> float:
        """A number from 0.0 up to, but not including, 1.0."""
        # As `random.SystemRandom` does it, but to import that takes long.
        return (int.from_bytes(os.urandom(7), "big") >> 3) * 2.0**-53


threads: set[object] = set()
"""Stands for the threads that `System.spawn` has started and that have not ended."""

_locks: set[weakref.ref[Any]] = set()  # made by `System.lock`

if hasattr(os, "register_at_fork"):
    # Those that other threads held will be held for ever, and a new thread may get their numbers.
    os.register_at_fork(after_in_child=_locks.clear)


def _run(target: Callable[[], object], name: str, token: object) -> None:
    try:
        _name(name)
        target()
    finally:
        threads.discard(token)


def _name(name: str) -> None:
    set_name = getattr(_thread, "set_name", None)  # Python 3.14
    if set_name is not None:
        set_name(name[:15])


def variables(frame: FrameType | None) -> Iterator[Any]:
    """What the variables of a call, and of those that led to it, hold. Rarely to be asked: before
    Python 3.13 a call that was asked keeps what it held until it is asked again, or ends."""
    while frame is not None:
        yield from tuple(frame.f_locals.values())
        frame = frame.f_back


def _without_gil() -> bool:
    """Whether threads may run at the same time: to read the variables of a call that goes on in another
    may crash then (CPython's how-to on free threading, "Known limitations")."""
    import sysconfig  # takes long, and few pools ever get here

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _outermost(frame: FrameType) -> FrameType:
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


REAL = System()
