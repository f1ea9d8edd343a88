"""What happens to pools when a sub-interpreter ends (mod_wsgi's, `concurrent.interpreters`).

Python aborts the whole process if a thread is left in one, also a daemon thread. So the pools of a
sub-interpreter are closed and their threads end before. In the main interpreter nothing happens:
there daemon threads do not delay the exit.
"""

from __future__ import annotations

import _thread
import atexit
import sys
import weakref

from .system import REAL, System, threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Endable(Protocol):
        """What a pool offers here."""

        def _end_threads(self) -> None: ...


_PATIENCE = 5.0  # seconds that connects, pings and closes under way get to come back
_MOMENT = 0.5  # not longer: a thread of the program that embeds Python may have its place here
_LOOK_AGAIN = 0.001


_pools: weakref.WeakSet[Endable] = weakref.WeakSet()


def watch(pool: Endable) -> None:
    """Let the pool know before its interpreter ends."""
    _pools.add(pool)


def is_main() -> bool:
    """Whether this is the main interpreter."""
    known = getattr(_thread, "_is_main_interpreter", None)  # Python 3.12
    if known is not None:
        return bool(known())
    # Not by `_xxsubinterpreters`: its ids count, and dropping the last one ends the interpreter.
    try:
        import ctypes

        get = ctypes.PYFUNCTYPE(ctypes.c_void_p)
        current = get(("PyInterpreterState_Get", ctypes.pythonapi))
        main = get(("PyInterpreterState_Main", ctypes.pythonapi))
    except (ImportError, AttributeError):  # a Python that has no sub-interpreters
        return True
    return bool(current() == main())


def _at_end() -> None:
    if not (_pools or threads) or is_main():
        return
    System.ending = True
    for pool in tuple(_pools):
        pool._end_threads()
    # Python counts a thread in when it first runs, and out a moment after its function returned.
    _wait_until(lambda: not (threads or _thread._count()), _PATIENCE)
    _wait_until(_is_alone, _MOMENT)


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = REAL.monotonic() + seconds
    while not condition() and REAL.monotonic() < end:
        REAL.sleep(_LOOK_AGAIN)


def _is_alone() -> bool:
    """Whether no other thread is left here, as Python asks itself next; True if it cannot be told.

    From 3.13 on, where there are builds without the GIL: there a thread that is counted out is gone
    only a moment later.
    """
    if sys.version_info < (3, 13):
        return True
    try:
        import ctypes
    except ImportError:
        return True
    api = ctypes.pythonapi

    def pointer(name: str, *args: int | None) -> int | None:
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * len(args))
        found: int | None = get((name, api))(*args)
        return found

    me = pointer("PyThreadState_Get")
    first = pointer("PyInterpreterState_ThreadHead", pointer("PyInterpreterState_Get"))
    return me == first and pointer("PyThreadState_Next", me) is None


atexit.register(_at_end)
