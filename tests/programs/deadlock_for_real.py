"""Borrows while it holds, on the real machine, and prints how that ended.

`alone`: one thread. `others`: another thread runs, which has nothing to do with it. `global`: that
one could get at the connection. `passed`: it has it, and returns it.
"""

from __future__ import annotations

import sys
import threading
import time

from dbapi_pool import Pool, PoolDeadlock, PoolTimeout
from dbapi_pool.testing import FakeDriver

fake = FakeDriver()
pool = Pool(fake, driver=fake.driver(), max_size=1)
over = threading.Event()
kept = []


def other() -> None:
    over.wait(60.0)


def pass_on() -> None:
    conn = kept.pop()
    over.wait(0.5)
    conn.close()


def nested(case: str) -> str:
    conn = pool.connection()
    if case in ("global", "passed"):
        kept.append(conn)
        del conn
    if case != "alone":
        threading.Thread(target=pass_on if case == "passed" else other).start()
    begun = time.monotonic()
    try:
        pool.connection(timeout=1.5).close()
    except PoolDeadlock:
        assert time.monotonic() - begun < 1.0
        return "PoolDeadlock"
    except PoolTimeout as exc:
        return "PoolTimeout" if "a deadlock unless they were passed on" in str(exc) else str(exc)
    return "served"


print(nested(sys.argv[1]))
kept.clear()
over.set()
pool.close()
