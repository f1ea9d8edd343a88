"""Many threads: who is served, how much is lost, and whether one thread's I/O holds up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..adapters import Adapter, Private, waiting, waiting_name
from ..drivers import Fake
from ..measuring import Row, Run, at_once, measure, median

SIZE = 8
HOLD = 0.0005
CROWD = (2, 8, 32, 128)
ROUND_TRIP = 0.001


def jain(served: Sequence[int]) -> float:
    """Jain's index: 1 if all got the same, 1/n if one got everything."""
    squares = sum(number * number for number in served)
    return float(sum(served) ** 2 / (len(served) * squares)) if squares else 0.0


@dataclass
class Seen:
    """What one run of a crowd has shown, by thread."""

    served: list[int]
    waited: list[list[float]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.served)

    @property
    def jain(self) -> float:
        return jain(self.served)

    @property
    def starved(self) -> int:
        """Threads that got less than a tenth of their share."""
        share = self.total / len(self.served)
        return sum(number < share / 10 for number in self.served)

    @property
    def waits(self) -> list[float]:
        return [one for each in self.waited for one in each]


def crowd(pool: Adapter, threads: int, seconds: float, hold: Callable[[Any], object]) -> Seen:
    """Let so many threads borrow, hold and give back, again at once, for so long.

    A borrowing counts for its thread if it was had in time; how long it took to get counts always,
    so that who is never served shows in the longest wait.
    """
    seen = Seen([0] * threads, [[] for _ in range(threads)])
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)

    def work(number: int) -> None:
        waits = seen.waited[number]
        clock = time.perf_counter
        while not over.is_set():
            begin = clock()
            conn = pool.borrow()
            waits.append(clock() - begin)
            if not over.is_set():
                seen.served[number] += 1
                hold(conn)
            pool.give_back(conn)

    timer.start()
    at_once(threads, work)
    timer.join()
    return seen


def _sleeps(conn: Any) -> None:
    time.sleep(HOLD)


def _row(name: str, threads: int, runs: list[Seen], ideal: float) -> Row:
    waits = [one for run in runs for one in run.waits]
    mean = sum(waits) / len(waits)
    worst = median(max(run.waits) for run in runs)
    return {
        "threads": threads,
        "pool": name,
        "of ideal": round(median(run.total for run in runs) / ideal, 2),
        "Jain": round(median(run.jain for run in runs), 3),
        "starved": round(median(run.starved for run in runs)),
        "mean wait ms": round(mean * 1e3, 2),
        "longest wait ms": round(worst * 1e3, 1),
    }


@measure("fairness", "Many threads on 8 connections")
def fairness(run: Run) -> list[Row]:
    """Threads borrow, hold for 0.5 ms, give back and borrow again at once, 0.4 s long, medians of 3
    runs by turns. *Of ideal*: borrowings, to those of as many threads, but at most 8, with a
    private connection each. *Jain*: 1 if all threads got the same, 0.25 if 8 of 32 got everything.
    *Starved*: threads with less than a tenth of their share. The mean wait is of those that were
    served: where threads starve it is low, and the longest wait is the whole run. Ideal: 1.00,
    1.000, 0. Wall time, on a machine that is not quiet: *of ideal* can be off by 0.1.
    """
    rows = []
    kinds = run.kinds(wanted=lambda kind: kind.lends_to_many())
    seconds, rounds = run.scale(0.4, 0.3, 0.05), run.scale(3, 1, 1)
    for threads in run.scale(CROWD, (32,), (10,)):
        named: list[tuple[str, type[Adapter], int]] = [("ideal", Private, min(threads, SIZE))]
        named += [(waiting_name(kind), kind, threads) for kind in kinds]
        seen: dict[str, list[Seen]] = {name: [] for name, _, _ in named}
        for _ in range(rounds):
            for name, kind, count in named:
                pool = waiting(kind, Fake(), SIZE)
                pool.warm(SIZE)
                seen[name].append(crowd(pool, count, seconds, _sleeps))
                pool.close()
        ideal = median(one.total for one in seen.pop("ideal"))
        rows += [_row(name, threads, runs, ideal) for name, runs in seen.items()]
    return rows


@measure("round trips at once", "I/O under the lock")
def input_output(run: Run) -> list[Row]:
    """8 threads, 8 connections: nobody ever needs to wait. Each borrowing leaves a transaction
    open, so the pool rolls back; that, and a ping where the pool pings, takes 1 ms. *Of ideal*:
    round trips per second that the driver saw, to those of 8 threads with a private connection
    each; so a pool is not charged for pinging, only for letting others wait while it does. Ideal:
    1.00; a pool that does its I/O under its lock ends at 1/8.
    """
    kinds = run.kinds(wanted=lambda kind: kind.ends_transactions)
    named: list[tuple[str, type[Adapter]]] = [("ideal", Private)]
    named += [(waiting_name(kind), kind) for kind in kinds]
    trips: dict[str, list[float]] = {name: [] for name, _ in named}
    leases: dict[str, list[float]] = {name: [] for name, _ in named}
    seconds = run.scale(0.5, 0.3, 0.05)
    for _ in range(run.scale(5, 1, 1)):
        for name, kind in named:
            driver = Fake(observed=True)
            pool = waiting(kind, driver, SIZE)
            pool.warm(SIZE)
            driver.round_trip = dict.fromkeys(("ping", "rollback", "session reset"), ROUND_TRIP)
            driver.seen.clear()
            begin = time.perf_counter()
            seen = crowd(pool, SIZE, seconds, _leaves_open)
            took = time.perf_counter() - begin
            counts = driver.counts()
            trips[name].append(sum(counts[what] for what in driver.round_trip) / took)
            leases[name].append(seen.total / took)
            pool.close()
    ideal = trips.pop("ideal")
    return [
        {
            "pool": name,
            "of ideal": round(median(a / b for a, b in zip(each, ideal, strict=True)), 2),
            "borrowings/s": round(median(leases[name])),
            "round trips each": round(sum(each) / sum(leases[name]), 1),
        }
        for name, each in trips.items()
    ]


def _leaves_open(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
