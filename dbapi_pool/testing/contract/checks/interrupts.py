"""Deadline: a call that blocks can be cut from another thread."""

from __future__ import annotations

import time

from ..check import promise, require, same
from ..threads import Doing
from ..trial import Trial, Watched, run

UNDER_WAY = 0.5
"""Seconds after which the statement has begun to run."""
SOON = 2.0
"""Seconds in which the call must end once it was interrupted."""


@promise("deadline", needs=("interrupt",))
def a_blocked_call_can_be_cut(trial: Trial) -> str:
    """`Driver.interrupt` makes a call that blocks in another thread raise soon; the pool recovers."""
    slow = trial.given("slow")
    pool = trial.pool()
    conn = pool.borrow()
    blocked = Doing(lambda: run(conn, slow))
    try:
        words = _cut(pool, blocked)
    finally:
        blocked.ends()  # nobody may close a connection that a thread is inside
        conn.close()
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
    return words


def _cut(pool: Watched, blocked: Doing) -> str:
    time.sleep(UNDER_WAY)
    require(blocked.going_on, f"the statement did not take {UNDER_WAY} s: {blocked.error!r}")
    start = time.monotonic()
    require(pool.driver.interrupt(pool.raw), "interrupt says that it could do nothing")
    require(time.monotonic() - start < UNDER_WAY, "interrupt itself has blocked")
    require(blocked.ends(SOON), f"the call goes on {SOON:g} s after the interrupt")
    took = time.monotonic() - start
    require(isinstance(blocked.error, Exception), f"the call raised nothing: {blocked.error!r}")
    return f"ended after {took * 1000:.0f} ms with {type(blocked.error).__name__}"


@promise("deadline", needs=("interrupt",))
def an_idle_connection_can_be_cut(trial: Trial) -> None:
    """Interrupting a connection that does nothing hurts nobody: the next borrower can work."""
    pool = trial.pool(ping_after=0)  # as after any interrupt of the pool's own
    with pool.borrow() as conn:
        run(conn, trial.know.one)
        pool.driver.interrupt(pool.raw)
        conn.invalidate()
    with pool.borrow() as conn:
        same(run(conn, trial.know.one)[0][0], 1, "what the next borrower reads")
