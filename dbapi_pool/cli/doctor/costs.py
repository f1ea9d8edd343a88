"""What each act costs: medians of repeated runs. Reads only, and leaves no transaction open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from ... import Pool
from ..access import Access
from .findings import Costs

ONE = "SELECT 1"
RUNS = 200
CONNECTS = 7
BUDGET = 0.5
"""Seconds for the runs of one act: fewer are done when they are slow."""


def median(act: Callable[[], object], runs: int = RUNS, budget: float = BUDGET) -> float | None:
    """Seconds that `act()` takes; None if it raises."""
    clock = time.perf_counter
    end = clock() + budget
    taken: list[float] = []
    while len(taken) < runs and (not taken or clock() < end):
        start = clock()
        try:
            act()
        except Exception:
            return None
        taken.append(clock() - start)
    return statistics.median(taken)


def measure(access: Access, conn: Any) -> Costs:
    """`conn`: one of the access's connections, clean, and clean afterwards."""
    driver = access.driver
    return Costs(
        connect=_connects(access),
        round_trip=_round_trip(access, conn),
        ping=median(lambda: driver.ping(conn)),
        transaction=median(lambda: _transaction(access, conn)),
        reset=_reset(access, conn),
        checkout=_with_pool(access, lambda pool: pool.connection().close()),
        lease=_with_pool(access, _lease),
    )


def _reset(access: Access, conn: Any) -> float | None:
    """None if the driver cannot, and replaces the connection."""
    driver = access.driver
    snapshot = driver.snapshot(conn)

    def reset() -> bool:
        done = driver.reset_session(conn, snapshot)
        driver.restore(conn, snapshot)  # as the pool does: a reset may need another mode
        return done

    return median(reset) if reset() else None


def _connects(access: Access) -> float | None:
    opened: list[Any] = []
    try:
        return median(lambda: opened.append(access.open()), CONNECTS, 4 * BUDGET)
    finally:
        for conn in opened:
            access.driver.close(conn)


def select(conn: Any) -> None:
    """One statement, whose rows are read."""
    cursor = conn.cursor()
    try:
        cursor.execute(ONE)
        cursor.fetchall()
    finally:
        cursor.close()


def _round_trip(access: Access, conn: Any) -> float | None:
    if median(lambda: select(conn), 1) is None:  # the first may also begin a transaction
        access.driver.rollback(conn)
        return None
    try:
        return median(lambda: select(conn))
    finally:
        access.driver.rollback(conn)


def _transaction(access: Access, conn: Any) -> None:
    select(conn)
    access.driver.commit(conn)


def _lease(pool: Pool) -> None:
    with pool.connection() as conn:
        select(conn)


def _with_pool(access: Access, act: Callable[[Pool], object]) -> float | None:
    target = access.target
    with Pool(target.creator, *target.args, max_size=1, **target.kwargs) as pool:
        if median(lambda: act(pool), 1) is None:
            return None
        return median(lambda: act(pool))
