"""A thousand processes when their database comes back: `python -m benchmarks.fleet`.

No figure of it is measured: real pools run on a virtual clock against a server that is only a list of
the moments at which somebody connected, so the same seed gives the same table on any machine.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dbapi_pool import Pool, outage
from dbapi_pool.testing import FakeDriver, VirtualClock

from . import report
from .measuring import Row

UP_FOR = 2.0  # seconds that pass before the server ends
WATCHED = 5.0  # seconds that are looked at after it is back
CONNECT = 0.02  # seconds that connecting takes
QUERY = 0.01  # and a request
PAUSE = 0.5  # between two tries of who has no pool, and of a pool with a fixed pause
PART = 0.1  # of a second: the finest that is looked at


@dataclass
class Fleet:
    """What is simulated."""

    processes: int = 1000
    threads: int = 4
    """Of each process: each has one request after the other."""
    down_for: float = 10.0
    seed: int = 1


@dataclass
class Seen:
    """What the server saw. Times are the clock's."""

    back: float = 0.0
    connects: list[float] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    """The first request of each process after it was back."""

    def most(self, begin: float, end: float, width: float) -> float:
        """The most that came in any `width` seconds, per second."""
        times = [one for one in self.connects if begin <= one < end]
        most = max(
            (bisect.bisect_left(times, one + width) - at for at, one in enumerate(times)), default=0
        )
        return most / width


class Way(NamedTuple):
    """How the processes reach the server."""

    name: str
    run: Callable[[Fleet, VirtualClock, FakeDriver, Seen], None]


# -- without a pool ---------------------------------------------------------------------------------


def _each_thread(fleet: Fleet, clock: VirtualClock, fake: FakeDriver, seen: Seen) -> None:
    """Each thread has a connection of its own, and connects anew when that is lost. (As one task for
    each process: its threads find that out, and try again, at the same moments.)"""

    def process(number: int) -> None:
        clock.sleep(clock.random() * PAUSE)
        while True:
            conns = None
            while conns is None:
                conns = _connected(fake, seen, clock, fleet.threads)
                if conns is None:
                    clock.sleep(PAUSE)
            _work(clock, conns, seen, number)

    for number in range(fleet.processes):
        clock.start(process, number)


def _connected(
    fake: FakeDriver, seen: Seen, clock: VirtualClock, count: int
) -> list[object] | None:
    seen.connects += [clock.monotonic()] * count
    clock.sleep(CONNECT)
    try:
        return [fake.connect() for _ in range(count)]
    except Exception:
        return None


def _work(clock: VirtualClock, conns: list[object], seen: Seen, number: int) -> None:
    while not any(conn.closed or conn.killed for conn in conns):  # type: ignore[attr-defined]
        if seen.back and number not in seen.first:
            seen.first[number] = clock.monotonic()
        clock.sleep(1.0)


# -- with pools -------------------------------------------------------------------------------------


def _pooled(fleet: Fleet, clock: VirtualClock, fake: FakeDriver, seen: Seen) -> None:
    def connect() -> object:
        seen.connects.append(clock.monotonic())
        clock.sleep(CONNECT)
        return fake.connect()

    def thread(pool: Pool, number: int) -> None:
        while True:
            with contextlib.suppress(fake.Error), pool.connection(timeout=60.0) as conn:
                clock.sleep(QUERY)
                conn.cursor().execute("SELECT 1")
                if seen.back and number not in seen.first:
                    seen.first[number] = clock.monotonic()
            # Requests are rare while all is well, or nothing but them would be simulated.
            clock.sleep(5.0 * clock.random())

    for number in range(fleet.processes):
        pool = Pool(
            connect,
            driver=fake.driver(),
            max_size=fleet.threads,
            clock=clock,
            name=f"pool {number}",
        )
        for _ in range(fleet.threads):
            clock.start(thread, pool, number)


def _fixed_pause(fleet: Fleet, clock: VirtualClock, fake: FakeDriver, seen: Seen) -> None:
    _pooled(fleet, clock, fake, seen)


WAYS = [
    Way("no pool, each thread tries every 0.5 s", _each_thread),
    Way("this pool, with a fixed pause instead", _fixed_pause),
    Way("this pool", _pooled),
]


@contextlib.contextmanager
def _backoff(way: Way) -> Iterator[None]:
    """What a pool waits between two tries to connect."""
    module: ModuleType = outage
    before = outage.BACKOFF_FIRST, outage.BACKOFF_MOST
    if way.run is _fixed_pause:
        module.BACKOFF_FIRST = module.BACKOFF_MOST = 0.05  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.BACKOFF_FIRST, module.BACKOFF_MOST = before  # type: ignore[attr-defined]


# -- one run ----------------------------------------------------------------------------------------


def simulated(way: Way, fleet: Fleet) -> tuple[Seen, float]:
    """What the server saw, and when it went down."""
    with _backoff(way), VirtualClock(seed=fleet.seed, patience=sys.maxsize) as clock:
        fake, seen = FakeDriver(clock), Seen()
        way.run(fleet, clock, fake, seen)
        clock.advance(UP_FOR)
        down = clock.monotonic()
        fake.down = True
        fake.kill_all()
        clock.advance(fleet.down_for)
        fake.down = False
        seen.back = clock.monotonic()
        clock.advance(WATCHED)
    return seen, down


def _row(way: Way, fleet: Fleet) -> Row:
    seen, down = simulated(way, fleet)
    served = sorted(seen.first.values())
    late = served[int(0.99 * len(served)) - 1] - seen.back if served else None
    while_down = [one for one in seen.connects if down <= one < seen.back]
    return {
        "": way.name,
        "connects/s while it is down": f"{len(while_down) / fleet.down_for:,.0f}",
        "most in one second": f"{seen.most(down, seen.back, 1.0):,.0f}",
        "most once it is back": f"{seen.most(seen.back, seen.back + WATCHED, 1.0):,.0f}",
        f"in {PART:.1f} s, per second": f"{seen.most(seen.back, seen.back + WATCHED, PART):,.0f}",
        "99 of 100 processes served after": None if late is None else f"{late:.2f} s",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and show or write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--processes", type=int, default=Fleet.processes)
    parser.add_argument("--threads", type=int, default=Fleet.threads, help="of each process")
    parser.add_argument("--down-for", type=float, default=Fleet.down_for, help="seconds")
    parser.add_argument("--seed", type=int, default=Fleet.seed)
    parser.add_argument("--write", metavar="FILE", type=Path, help="renew the table there")
    chosen = parser.parse_args(arguments)
    fleet = Fleet(chosen.processes, chosen.threads, chosen.down_for, chosen.seed)
    logging.disable(logging.WARNING)  # a thousand pools each say that they cannot connect
    try:
        table = report.table([_row(way, fleet) for way in WAYS])
    finally:
        logging.disable(logging.NOTSET)
    print(table)
    if chosen.write:
        text = chosen.write.read_text("utf-8")
        chosen.write.write_text(report.written(text, {"fleet": table}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
