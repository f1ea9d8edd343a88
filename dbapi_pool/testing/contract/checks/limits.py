"""Bound, deadline, nothing leaks: what holds however borrowers behave, seen with this driver."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

from .... import PoolTimeout
from ..check import promise, raises, require, same
from ..threads import Doing, together
from ..trial import Trial, Watched, run

THREADS = 12
BORROWINGS = 10
SOON = 0.2
"""Seconds of a short timeout, and how much later it may come on a busy machine."""


class Stop(BaseException):
    """Like `KeyboardInterrupt`: no `Exception`."""


@promise("bound", read_only=True)
def there_are_never_more_sessions_than_max_size(trial: Trial) -> None:
    """Twelve threads on max_size=3 never have more than three connections open or opening."""
    pool = trial.pool(max_size=3)

    def work(number: int) -> None:
        for _ in range(BORROWINGS):
            with pool.borrow() as conn:
                run(conn, trial.know.one)

    together(THREADS, work)
    require(pool.peak <= 3, f"{pool.peak} connections were open or opening at once")
    same(pool.pool.stats().checkouts, THREADS * BORROWINGS, "checkouts")


@promise("exclusive", read_only=True)
def a_connection_has_one_borrower_at_a_time(trial: Trial) -> None:
    """Threads that meet never share a driver connection."""
    pool = trial.pool(max_size=3)
    lent: set[int] = set()
    lock = threading.Lock()

    def work(number: int) -> None:
        for _ in range(BORROWINGS):
            with pool.borrow() as conn:
                mine = id(conn.driver_connection)
                with lock:
                    require(mine not in lent, "two threads have the same driver connection")
                    lent.add(mine)
                run(conn, trial.know.one)
                with lock:
                    lent.remove(mine)

    together(THREADS // 2, work)


@promise("deadline", read_only=True)
def a_full_pool_refuses_in_time(trial: Trial) -> None:
    """With every connection lent, `timeout` ends in the driver's OperationalError, on time."""
    pool = trial.pool()
    with pool.borrow():
        start = time.monotonic()  # in another thread: one that waits for itself is told so
        waiting = Doing(lambda: pool.pool.connection(timeout=SOON))
        exc = raises(PoolTimeout, waiting.result, "borrowing one more")
        took = time.monotonic() - start
    require(SOON <= took <= 2 * SOON, f"a timeout of {SOON} s took {took:.3f} s")
    kind = trial.error("OperationalError")
    require(isinstance(exc, kind), f"{type(exc).__mro__} is no {kind.__name__}")


@promise("nothing_leaks", read_only=True)
def an_exception_in_a_with_block_returns_the_connection(trial: Trial) -> None:
    """Whatever leaves a `with` block, the connection comes back, and the exception gets out."""
    for error in (ValueError("contract"), Stop("contract"), GeneratorExit("contract")):
        pool = trial.pool()
        for _ in range(3):
            raises_through(pool, trial, error)
        has_room(pool, trial)


def raises_through(pool: Watched, trial: Trial, error: BaseException) -> None:
    """`Broken` unless the error gets out of a `with` block in which a statement ran."""
    try:
        with pool.borrow() as conn:
            run(conn, trial.know.one)
            raise error
    except (ValueError, Stop, GeneratorExit) as exc:
        require(exc is error, f"{exc!r} got out, not {error!r}")
    else:
        require(False, f"{error!r} did not get out")


def has_room(pool: Watched, trial: Trial) -> None:
    """`Broken` unless the pool of one can lend its connection, and that works."""
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
    stats = pool.pool.stats()
    same((stats.in_use, stats.size), (0, 1), "connections lent, and open")


@promise("nothing_leaks", read_only=True)
def a_dropped_connection_comes_back(trial: Trial) -> None:
    """A borrowed connection and its cursors, forgotten without close, leave their place free."""
    pool = trial.pool()

    def forget() -> None:
        cursor: Any = pool.borrow().cursor()
        cursor.execute(trial.know.one)

    for _ in range(3):
        forget()
        gc.collect()
        has_room(pool, trial)


@promise("nothing_leaks", read_only=True)
def a_thread_that_ended_leaves_its_place(trial: Trial) -> None:
    """A thread that ends without returning its connection leaves its place free."""
    pool = trial.pool()

    def work(number: int) -> None:
        run(pool.borrow(), trial.know.one)

    together(1, work)
    gc.collect()
    has_room(pool, trial)


@promise("nothing_leaks", read_only=True)
def a_closed_pool_has_no_connection_open(trial: Trial) -> None:
    """`Pool.close` ends every session."""
    pool = trial.pool(max_size=3, min_size=3)
    with pool.borrow() as conn:
        run(conn, trial.know.one)
    require(pool.pool.close(timeout=5.0), "Pool.close could not close everything in 5 s")
    same(pool.open, 0, "connections that were not closed")
    for raw in pool.connections:
        raises(Exception, lambda raw=raw: run(raw, trial.know.one), "a statement on it")  # type: ignore[misc]
