"""Borrows and returns under a hail of exceptions: `signals` strike the main thread, `threads` any of
four workers; also while what an earlier one began is still being put right. Then counts.

On Python 3.10 not before the earlier one is out of the pool's code: there a second one can overtake
it on its way to a lock's `__exit__`, see `two_strikes.py`.

A process of its own, since an exception may strike whatever runs. Every hundred strikes or so there
is a pause, and the pool must be whole.
"""

from __future__ import annotations

import ctypes
import gc
import random
import signal
import sys
import threading
import time

from dbapi_pool import Pool, PoolError
from dbapi_pool.testing import FakeDriver

SIZE = 3
ONE_BY_ONE = sys.version_info < (3, 11)
raising = False
until = 0.0
strikes = 0
ready: set[int] = set()  # the threads that may be struck now


def strike(*_: object) -> None:
    global strikes
    if raising and time.monotonic() < until:
        if not ONE_BY_ONE:
            strike_soon()
        strikes += 1
        raise KeyboardInterrupt


def strike_soon() -> None:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 8e-5))


def work(pool: Pool) -> None:
    with pool.connection(5.0) as conn:
        conn.execute(random.choice(["SELECT 1", "INSERT", "SET x = 1"]))
        if random.random() < 0.1:
            conn.invalidate()


def work_until(pool: Pool, end: float) -> None:
    if ONE_BY_ONE:
        if raising:
            strike_soon()
        ready.add(threading.get_ident())
    while time.monotonic() < end:
        work(pool)


def under_fire(pool: Pool, end: float) -> None:
    """Again and again, whatever strikes: in the handlers, too."""
    while time.monotonic() < end:
        try:  # a loop of its own, since the jump back of one may be struck outside of its `try`
            work_until(pool, end)
        except (KeyboardInterrupt, PoolError):
            pass


def by_signals(pool: Pool, seconds: float) -> None:
    global raising, until
    signal.signal(signal.SIGALRM, strike)
    end = time.monotonic() + seconds
    until = end - 0.02  # so that what follows is not struck
    while time.monotonic() < end:
        try:
            raising = True
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            under_fire(pool, end)
            raising = False
        except KeyboardInterrupt:
            raising = False
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def by_threads(pool: Pool, seconds: float) -> None:
    global strikes
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=under_fire, args=(pool, end)) for _ in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end - 0.05:
        victim = random.choice(threads)
        if victim.ident is not None and victim.is_alive():
            if ONE_BY_ONE and victim.ident not in ready:
                continue
            ready.discard(victim.ident)
            ident = ctypes.c_ulong(victim.ident)
            raised = ctypes.py_object(KeyboardInterrupt)
            strikes += ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, raised)
        time.sleep(random.uniform(5e-6, 8e-5))
    for thread in threads:
        thread.join(20.0)
        assert not thread.is_alive(), "a worker is stuck"


def check(pool: Pool, fake: FakeDriver) -> None:
    gc.collect()
    handles = [pool.connection(timeout=10.0) for _ in range(SIZE)]
    assert len({handle.number for handle in handles}) == SIZE
    for handle in handles:
        handle.close()
    bad = [text for text in fake.violations if "closed twice" not in text]
    assert not bad, bad


def main(place: str, how: str, seconds: float) -> None:
    sys.unraisablehook = lambda _: None  # those that strike a weak reference's callback
    threading.excepthook = lambda _: None
    # Or those who spin may leave no time to whoever strikes them.
    sys.setswitchinterval(1e-4)
    fake = FakeDriver()
    pool = Pool(fake, driver=fake.driver(local=place == "local"), max_size=SIZE)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (by_signals if how == "signals" else by_threads)(pool, min(0.5, seconds))
        check(pool, fake)
    assert pool.close(10.0), pool
    print(strikes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
