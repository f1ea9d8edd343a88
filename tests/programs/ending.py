"""Ends in the middle of something, to see how.

    python ending.py KIND SCENARIO [PATH]

KIND is `remote` (a fake driver whose connects and closes happen on threads of the pool) or `sqlite`
(the file PATH). Prints "at the end" as the last thing that it does. Must never use pytest.
"""

from __future__ import annotations

import atexit
import os
import signal
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbapi_pool import Pool
from dbapi_pool.testing import FakeDriver

warnings.simplefilter("ignore", ResourceWarning)  # what is dropped here is dropped on purpose
LONG = 600.0  # seconds: whoever waits that long hangs
fake = FakeDriver()
kept: list[Any] = []  # what nobody gives back


def make_pool(kind: str, path: str, **settings: Any) -> Pool:
    settings = {"max_size": 3, "checkout_timeout": LONG, **settings}
    if kind == "sqlite":
        return Pool(sqlite3, path, **settings)
    return Pool(fake, driver=fake.driver(), **settings)


def daemon(act: Callable[[], object], count: int = 1) -> None:
    for _ in range(count):
        threading.Thread(target=act, daemon=True).start()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    while not condition():
        threading.Event().wait(0.001)


def hold_all(pool: Pool) -> None:
    """Borrowed in another thread, and kept until the very last: in a module that outlives this one."""

    def hold() -> None:
        held = [pool.connection() for _ in range(3)]
        held[0].execute("CREATE TABLE held (n)")
        vars(sys)["held"] = held

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()


def at_last(act: Callable[[], object]) -> None:
    """Done when all else is over: by a finalizer, while modules are taken apart."""

    class Last:
        def __del__(self) -> None:
            print("finalizer:", said(act), flush=True)

    kept.append(Last())


def said(act: Callable[[], object]) -> object:
    try:
        return act()
    except Exception as exc:
        return type(exc).__name__


def use(pool: Pool) -> str:
    with pool.connection() as conn:
        conn.execute("SELECT 1").fetchone()
    return "served"


# -- what is going on at the end ------------------------------------------------------------------


def nothing(pool: Pool) -> None:
    """As a yardstick."""


def connections_out(pool: Pool) -> None:
    kept.extend(pool.connection() for _ in range(3))
    kept[0].execute("CREATE TABLE unfinished (n)")
    kept.append(kept[0].execute("SELECT 1"))


def connections_idle(pool: Pool) -> None:
    pool.warm_up()


def a_cycle(pool: Pool) -> None:
    conn = pool.connection()
    cursor = conn.cursor()
    box = [pool, conn, cursor, conn.commit]
    box.append(box)  # type: ignore[arg-type]


def a_pool_of_its_own(pool: Pool) -> None:
    """One that is dropped when the function returns, with a connection that outlives it."""
    kept.append(make_pool(sys.argv[1], ":memory:", max_size=1).connection())


def waiters(pool: Pool) -> None:
    hold_all(pool)
    daemon(pool.connection, 5)
    until(lambda: pool.stats().waiting == 5)


def busy_threads(pool: Pool) -> None:
    def work() -> None:
        while True:
            use(pool)

    daemon(work, 6)
    until(lambda: pool.stats().checkouts > 200)


def keepers(pool: Pool) -> None:
    mine = make_pool(sys.argv[1], sys.argv[3], min_size=1, keepalive=0.01, leak_after=LONG)
    use(mine)
    kept.append(mine)


def a_hung_connect(pool: Pool) -> None:
    fake.on("connect", hang=True)
    daemon(pool.connection, 2)
    until(lambda: fake.waiting("connect") == 2)


def a_hung_close(pool: Pool) -> None:
    conn = pool.connection()
    fake.on("close", hang=True)
    conn.invalidate()
    until(lambda: fake.waiting("close") == 1)


def a_hung_ping(pool: Pool) -> None:
    mine = make_pool("remote", "", ping_after=0, ping_timeout=LONG)
    kept.append(mine)
    use(mine)
    for member in mine._ledger.idle_members():
        member.due = 0.0  # as if it had been idle for long
    fake.on("ping", hang=True)
    daemon(mine.connection)
    until(lambda: fake.waiting("ping") == 1)


def an_executor(pool: Pool) -> None:
    executor = ThreadPoolExecutor(8)
    for _ in range(100):
        executor.submit(use, pool)


def a_thread_that_is_no_daemon(pool: Pool) -> None:
    def work() -> None:
        threading.main_thread().join()
        print(use(pool), flush=True)

    threading.Thread(target=work).start()


# -- what is done with the pool at the end --------------------------------------------------------


def at_exit_close(pool: Pool) -> None:
    pool.warm_up()
    atexit.register(lambda: print("closed:", pool.close()))


def at_exit_use(pool: Pool) -> None:
    use(pool)
    atexit.register(lambda: print(use(pool)))


def at_exit_first_use(pool: Pool) -> None:
    atexit.register(lambda: print(said(lambda: use(pool))))


def at_last_use(pool: Pool) -> None:
    use(pool)
    at_last(lambda: use(pool))


def at_last_first_use(pool: Pool) -> None:
    at_last(lambda: use(pool))


def at_last_use_of_what_threads_hold(pool: Pool) -> None:
    hold_all(pool)
    at_last(lambda: use(pool))


def at_last_close(pool: Pool) -> None:
    hold_all(pool)
    at_last(lambda: pool.close(timeout=LONG))


def at_last_warm_up(pool: Pool) -> None:
    hold_all(pool)
    at_last(lambda: pool.resize(max_size=5) or pool.warm_up())


def at_last_give_back(pool: Pool) -> None:
    conn = pool.connection()
    conn.execute("SELECT 1")
    at_last(conn.close)


# -- other ends -----------------------------------------------------------------------------------


def sys_exit(pool: Pool) -> None:
    waiters(pool)
    ready()
    sys.exit(3)


def sys_exit_in_a_thread(pool: Pool) -> None:
    def end() -> None:
        kept.append(pool.connection())
        sys.exit(5)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()


def os_exit(pool: Pool) -> None:
    waiters(pool)
    ready()
    os._exit(4)


def an_error(pool: Pool) -> None:
    waiters(pool)
    ready()
    raise ValueError("of the program's own")


def sigterm(pool: Pool) -> None:
    waiters(pool)
    ready()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(LONG)


def ctrl_c(pool: Pool) -> None:
    hold_all(pool)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if started in the background
    daemon(interrupt_when_it_waits)
    pool.connection()


def interrupt_when_it_waits() -> None:
    until(lambda: pools[0].stats().waiting == 1)
    ready()
    os.kill(os.getpid(), signal.SIGINT)


def ready() -> None:
    print("at the end", flush=True)


pools: list[Pool] = []


def main(kind: str, scenario: str, path: str) -> None:
    pools.append(make_pool(kind, path))
    globals()[scenario](pools[0])
    ready()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
