"""A pool that must open connections while borrowers wait."""

from __future__ import annotations

import time
from typing import Any

from ..adapters import Adapter, waiting, waiting_name
from ..drivers import Fake
from ..measuring import Row, Run, at_once, measure, median

SIZE = 8
BORROWERS = 32
CONNECT = 0.05
HOLD = 0.001

SPIKE_SIZE, SPIKE_WARM, SPIKE_BORROWERS = 50, 5, 50
SPIKE_CONNECT, SPIKE_HOLD = 0.15, 0.002
SLOW = 1.0
"""Seconds after which a run is not repeated."""


def _growing(run: Run) -> list[type[Adapter]]:
    return run.kinds(wanted=lambda kind: kind.grows and not kind.variant)


def rush(pool: Adapter, borrowers: int, hold: float) -> tuple[float, list[float], float]:
    """So many at once, each once: seconds until all are served, what each waited, the longest
    return.
    """
    waits = [0.0] * borrowers
    returns = [0.0] * borrowers
    gate = time.perf_counter

    def work(number: int) -> None:
        begin = gate()
        conn = pool.borrow()
        waits[number] = gate() - begin
        time.sleep(hold)
        begin = gate()
        pool.give_back(conn)
        returns[number] = gate() - begin

    return at_once(borrowers, work), sorted(waits), max(returns)


def _grow(kind: type[Adapter], warm: int, connect: float) -> tuple[float, float]:
    driver = Fake(observed=True)
    pool = waiting(kind, driver, SIZE)
    pool.warm(warm)
    driver.connect_time = connect
    took, _, longest = rush(pool, BORROWERS, HOLD)
    driver.connect_time = 0.0
    pool.close()
    return took * 1e3, longest * 1e3


@measure("growth", "Growth")
def growth(run: Run) -> list[Row]:
    """32 threads at once, each needing a connection for 1 ms; at most 8; opening one takes 50 ms.
    Milliseconds until all are served, from an empty pool and from one with one open connection;
    medians of runs by turns. *Longest return*: how long giving back took at worst, which is how
    long others' connects held it up. Ideal: 54 (a connect, then 32 borrowings of 1 ms on 8), 32
    (everybody over the one that is there), 0.
    """
    connect = run.scale(CONNECT, CONNECT, 0.001)
    kinds = _growing(run)
    seen: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(run.scale(5, 3, 1)):
        for kind in kinds:
            for warm in (0, 1):
                got = _grow(kind, warm, connect)
                seen.setdefault((waiting_name(kind), warm), []).append(got)
    return [
        {
            "pool": name,
            "empty ms": round(median(took for took, _ in seen[name, 0]), 1),
            "one open ms": round(median(took for took, _ in seen[name, 1]), 1),
            "longest return ms": round(max(back for warm in (0, 1) for _, back in seen[name, warm]), 1),
        }
        for name in map(waiting_name, kinds)
    ]  # fmt: skip


@measure("spike", "A spike")
def spike(run: Run) -> list[Row]:
    """HikariCP's test (its document "Welcome to the Jungle"): 5 connections open of at most 50,
    opening one takes 150 ms; 50 borrowers at once need one for 2 ms each. Milliseconds until all
    are served, what they waited, and how many connections were opened for it, those included that
    came too late. Ideal: 20 ms over the five that are there, and few new ones; HikariCP itself: 21
    to 34 ms, 1 new.
    """
    connect = run.scale(SPIKE_CONNECT, SPIKE_CONNECT, 0.002)
    kinds = _growing(run)
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(run.scale(5, 3, 1)):
        for kind in kinds:
            name = waiting_name(kind)
            if name in seen and seen[name][0]["all served ms"] > SLOW * 1e3:
                continue
            seen.setdefault(name, []).append(_spike(kind, connect))
    return [
        {"pool": name, **{what: round(median(one[what] for one in runs), 1) for what in runs[0]}}
        for name, runs in seen.items()
    ]


def _spike(kind: type[Adapter], connect: float) -> dict[str, Any]:
    driver = Fake(observed=True)
    pool = waiting(kind, driver, SPIKE_SIZE)
    pool.warm(SPIKE_WARM)
    before = driver.counts()["connect"]
    driver.connect_time = connect
    took, waits, _ = rush(pool, SPIKE_BORROWERS, SPIKE_HOLD)
    time.sleep(1.5 * connect)  # what was begun ends, and is not followed by more
    opened = driver.counts()["connect"] - before
    pool.close()
    return {
        "all served ms": took * 1e3,
        "median wait ms": waits[len(waits) // 2] * 1e3,
        "longest wait ms": waits[-1] * 1e3,
        "opened": opened,
    }
