"""Borrows and returns while signals raise `KeyboardInterrupt` at ever later moments, then counts.

A process of its own, since an exception may strike whatever runs in the main thread. One that
strikes a weak reference's callback is reported on stderr and goes no further: not a hit.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable

from dbapi_pool import Pool
from dbapi_pool.testing import FakeDriver

armed = False


def strike(*_: object) -> None:
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt


def is_struck(act: Callable[[], object], after: float) -> bool:
    """Repeat `act` until a signal struck; False if nobody noticed."""
    try:
        repeat(act, after)
    except KeyboardInterrupt:
        return True
    return False


def repeat(act: Callable[[], object], after: float) -> None:
    # A function of its own: from Python 3.13 on the jump back of a loop may raise outside a `try`
    # around it.
    global armed
    armed = True
    signal.setitimer(signal.ITIMER_REAL, after)
    while armed:
        act()


def main(place: str, times: int) -> None:
    fake = FakeDriver()
    pool = Pool(fake, driver=fake.driver(local=place == "local"), max_size=3, checkout_timeout=10)

    def act() -> None:
        with pool.connection() as conn:
            conn.execute("INSERT")

    signal.signal(signal.SIGALRM, strike)
    hits = sum(is_struck(act, 5e-5 + 5e-7 * number) for number in range(times))
    assert hits > 0.8 * times, hits
    gc.collect()
    handles = [pool.connection(timeout=10.0) for _ in range(3)]
    assert len({handle.number for handle in handles}) == 3
    assert not fake.violations, fake.violations
    for handle in handles:
        handle.close()
    assert pool.close()
    print(f"{hits} hits, whole capacity")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
