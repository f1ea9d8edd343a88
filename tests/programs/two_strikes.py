"""Two signals at a stand-alone lock: the second comes while the exception of the first is on its way
to the lock's `__exit__`. Prints whether the lock is left held then.

Of CPython alone: nothing of the pool is here. Both strikes are certain: the second signal arrives in
the long C call that makes the first exception, in which nobody asks for signals.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections import deque

lock = threading.RLock()
numbers: deque[int] = deque(maxlen=0)


class Struck(BaseException):
    """While it is made, the next signal comes."""

    __init__ = staticmethod(functools.partial(numbers.extend, range(3_000_000)))


def strike(*_: object) -> None:
    signal.signal(signal.SIGALRM, strike_again)
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
    raise Struck


def strike_again(*_: object) -> None:
    raise KeyboardInterrupt


def work() -> None:
    with lock:
        signal.raise_signal(signal.SIGUSR1)
        len("")  # by now it has struck


signal.signal(signal.SIGUSR1, strike)
try:
    try:
        work()
    except Struck:
        for _ in range(1000):  # the second comes only now
            len("")
except KeyboardInterrupt:
    pass
print("unlocked" not in repr(lock))
