"""Fixed sizes and `Adaptive` under the same loads: `python -m benchmarks.adaptive`.

No figure of it is measured: the pool itself runs on a virtual clock, against a database that only takes
time, more of it when more statements run than it has processors. The same seed gives the same table.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dbapi_pool import Pool
from dbapi_pool.adaptive import Adaptive
from dbapi_pool.testing import FakeDriver, VirtualClock

from . import report
from .measuring import Row

CORES = 8
CONNECT = 0.02  # seconds
TIME = 0.02  # seconds of a statement, while there are processors enough
SIZES = (4, 8, 16, 32)
MOST = 32
TRACE = Path(__file__).parent / "traces" / "demo.csv"

Request = tuple[float, float]
"""When it comes, and for how long it holds its connection while nothing is short."""


# -- the loads --------------------------------------------------------------------------------------


def _arrivals(rate: Callable[[float], float], seconds: float, seed: int) -> Iterator[Request]:
    """At random, so many a second as `rate` says of each moment."""
    chance, now, most = random.Random(seed), 0.0, max(rate(t * seconds / 1000) for t in range(1001))
    while (now := now + chance.expovariate(most)) < seconds:
        if chance.random() < rate(now) / most:
            yield now, chance.expovariate(1 / TIME)


def steady(seed: int) -> list[Request]:
    """100 a second."""
    return list(_arrivals(lambda t: 100.0, 60.0, seed))


def day(seed: int) -> list[Request]:
    """A night with 5 a second, a noon with 200, in ten minutes."""
    rate: Callable[[float], float] = lambda t: 5 + 97.5 * (1 - math.cos(2 * math.pi * t / 600))  # noqa: E731
    return list(_arrivals(rate, 600.0, seed))[::4]


def bursts(seed: int) -> list[Request]:
    """50 at once every 10 s, and 10 a second between."""
    found = list(_arrivals(lambda t: 10.0, 100.0, seed))
    for burst in range(10):
        found += [(10.0 * burst + 5.0, TIME)] * 50
    return sorted(found)


def step(seed: int) -> list[Request]:
    """20 a second, then 250, then 20."""
    return list(_arrivals(lambda t: 250.0 if 20 <= t < 30 else 20.0, 120.0, seed))


def recorded(seed: int) -> list[Request]:
    """What `dbapi-pool demo` did with SQLite: `traces/demo.csv`."""
    with TRACE.open(newline="") as file:
        return [(float(row["at"]), float(row["held"])) for row in csv.DictReader(file)]


LOADS: tuple[Callable[[int], list[Request]], ...] = (steady, day, bursts, step, recorded)


# -- one run ----------------------------------------------------------------------------------------


class Came(NamedTuple):
    """What came of one pool under one load. Seconds."""

    name: str
    took: list[float]
    """Of each request: from coming to the end of its statement."""
    open: float
    """Connections open on average."""
    opened: int
    changes: int
    """How often the limit changed."""


def simulated(size: int | None, load: list[Request], seed: int) -> Came:
    """A pool of that size; None: `Adaptive`."""
    running = 0
    took: list[float] = []

    def request(held: float) -> None:
        nonlocal running
        begin = clock.monotonic()
        with pool.connection(timeout=600.0) as conn:
            conn.execute("SELECT 1")
            running += 1
            clock.sleep(held * max(1.0, running / CORES))
            running -= 1
        took.append(clock.monotonic() - begin)

    with VirtualClock(seed=seed, patience=sys.maxsize) as clock:
        fake = FakeDriver(clock)
        fake.on("connect", delay=CONNECT)
        sizing = Adaptive(calm=20.0) if size is None else None
        pool = Pool(
            fake, driver=fake.driver(), clock=clock, max_size=size or MOST, sizing=sizing,
            idle_timeout=20.0,
        )  # fmt: skip
        watch = _Watch(pool)
        for at, held in load:
            watch.until(clock, at)
            clock.start(request, held)
        watch.until(clock, load[-1][0] + 30.0)
        assert len(took) == len(load), "some requests were not served"
        name = "Adaptive, 1 to 32" if size is None else f"fixed {size}"
        return Came(name, took, watch.mean(), fake.opened, watch.changes)


class _Watch:
    """What is open, and how often the limit changes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._limit = pool.max_size
        self._open = self._time = 0.0
        self.changes = 0
        self._begin: float | None = None

    def until(self, clock: VirtualClock, at: float) -> None:
        """Let time pass until that second of the load."""
        if self._begin is None:
            self._begin = clock.monotonic()
        while (left := self._begin + at - clock.monotonic()) > 0:
            step = min(left, 0.1)
            clock.advance(step)
            self._open += step * self._pool.stats().size
            self._time += step
            self.changes += self._limit != self._pool.max_size
            self._limit = self._pool.max_size

    def mean(self) -> float:
        """Open on average."""
        return self._open / self._time


def _row(load: str, came: Came) -> Row:
    took = sorted(came.took)
    return {
        "load": load,
        "": came.name,
        "mean": f"{statistics.fmean(took) * 1000:,.1f} ms",
        "p99": f"{took[int(0.99 * len(took))] * 1000:,.1f} ms",
        "open, on average": f"{came.open:.1f}",
        "opened": came.opened,
        "changes of the limit": came.changes,
    }


def rows(loads: Sequence[str], part: float, seed: int) -> Iterator[Row]:
    """A row for each load and size; of each load the first `part`."""
    for make in LOADS:
        if make.__name__ in loads:
            load = make(seed)
            load = load[: max(1, int(part * len(load)))]
            for size in (*SIZES, None):
                yield _row(make.__name__, simulated(size, load, seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and show or write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    names = ",".join(make.__name__ for make in LOADS)
    parser.add_argument("--only", default=names, metavar="A,B", help=f"of: {names}")
    parser.add_argument("--part", type=float, default=1.0, help="of each load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", metavar="FILE", type=Path, help="renew the table there")
    chosen = parser.parse_args(arguments)
    table = report.table(list(rows(chosen.only.split(","), chosen.part, chosen.seed)))
    print(table)
    if chosen.write:
        text = chosen.write.read_text("utf-8")
        chosen.write.write_text(report.written(text, {"adaptive": table}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
