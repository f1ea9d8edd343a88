"""200 green threads share a pool of 5, in a patched process; some are cut short.

    python green.py LIBRARY WHEN KIND SCENARIO [PATH]

LIBRARY is `gevent` or `eventlet`, patched `before` or `after` the pool is imported (WHEN); KIND is
`remote` or `local` (the fake driver) or `sqlite`. Prints figures as JSON. Must never use pytest.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import sqlite3
import sys
import warnings
from typing import Any

LIBRARY, WHEN, KIND, SCENARIO = sys.argv[1:5]
GREENLETS = 200
SIZE = 5


class Gevent:
    def __init__(self) -> None:
        import gevent.monkey

        gevent.monkey.patch_all()
        self.spawn, self.sleep, self.Timeout = gevent.spawn, gevent.sleep, gevent.Timeout

    def join(self, greenlets: list[Any]) -> None:
        for greenlet in greenlets:
            greenlet.get()

    def kill(self, greenlet: Any) -> None:
        greenlet.kill(block=False)


class Eventlet:
    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        import eventlet

        eventlet.monkey_patch()
        self.spawn, self.sleep, self.Timeout = eventlet.spawn, eventlet.sleep, eventlet.Timeout

    def join(self, greenlets: list[Any]) -> None:
        import greenlet

        for one in greenlets:
            try:
                one.wait()
            except greenlet.GreenletExit:
                pass

    def kill(self, greenlet: Any) -> None:
        greenlet.kill()


def make_green() -> Any:
    return Gevent() if LIBRARY == "gevent" else Eventlet()


if WHEN == "before":
    green = make_green()
pool_module = importlib.import_module("dbapi_pool.pool")
testing = importlib.import_module("dbapi_pool.testing")
if WHEN == "after":
    green = make_green()

fake = testing.FakeDriver()
chance = random.Random(7)


def make_pool(**settings: Any) -> Any:
    if KIND == "sqlite":
        return pool_module.Pool(sqlite3, sys.argv[5], **settings)
    return pool_module.Pool(fake, driver=fake.driver(local=KIND == "local"), **settings)


class Ticker:
    """A green thread that must go on while others wait."""

    def __init__(self) -> None:
        self.ticks = 0
        self.going = True
        self._greenlet = green.spawn(self._tick)

    def _tick(self) -> None:
        while self.going:
            self.ticks += 1
            green.sleep(0.001)

    def stop(self) -> int:
        self.going = False
        green.join([self._greenlet])
        return self.ticks


def served(pool: Any) -> dict[str, Any]:
    """All are served, in order; none of them blocks the others."""
    if KIND == "remote":
        fake.on("connect", delay=0.05)
    order: list[int] = []

    def work(number: int) -> None:
        with pool.connection(timeout=60.0) as conn:
            order.append(number)
            conn.execute("SELECT 1").fetchone()
            green.sleep(0.005)

    green.join([green.spawn(work, number) for number in range(GREENLETS)])
    return {"served": len(order), "in order": order == sorted(order)}


def patient_ticker(pool: Any) -> dict[str, Any]:
    """All connections are lent for a while, and the rest wait: the ticker ticks."""
    held = [pool.connection() for _ in range(SIZE)]
    waiting = [green.spawn(lambda: pool.connection(timeout=60.0).close()) for _ in range(20)]
    green.sleep(0)
    ticker = Ticker()
    while ticker.ticks < 50:
        green.sleep(0.001)
    assert pool.stats().waiting == 20
    for conn in held:
        conn.close()
    green.join(waiting)
    return {"ticks while others waited": ticker.stop()}


def cut_short(pool: Any) -> dict[str, Any]:
    """The library's Timeout, a BaseException, strikes in checkout, in use, in the `with` block."""
    ends = {"served": 0, "timed out": 0}

    def work() -> None:
        try:
            with green.Timeout(chance.uniform(0.0005, 0.8)):
                with pool.connection(timeout=60.0) as conn:
                    conn.execute("CREATE TABLE IF NOT EXISTS t (n)")
                    green.sleep(0.002)
                    conn.commit()
                    green.sleep(0.002)
            ends["served"] += 1
        except green.Timeout:
            ends["timed out"] += 1

    green.join([green.spawn(work) for _ in range(GREENLETS)])
    return ends


def killed(pool: Any) -> dict[str, Any]:
    """Green threads are killed while they wait, hold, clean and open."""
    if KIND != "sqlite":
        fake.on("connect", delay=0.002)
        fake.on("rollback", delay=0.001)

    def work() -> None:
        for _ in range(5):
            with pool.connection(timeout=60.0) as conn:
                conn.execute("CREATE TABLE IF NOT EXISTS t (n)")
                green.sleep(0.001)

    greenlets = [green.spawn(work) for _ in range(GREENLETS)]
    victims = chance.sample(greenlets, GREENLETS // 2)
    for victim in victims:
        green.sleep(0.0005)
        green.kill(victim)
    green.join(greenlets)
    fake.calm()
    return {"killed": len(victims)}


def dropped(pool: Any) -> dict[str, Any]:
    """Green threads that die holding, by cycles too, while others wait."""

    def die() -> None:
        conn = pool.connection(timeout=60.0)
        box: list[Any] = [conn, conn.cursor()]
        box.append(box)
        green.sleep(0.001)

    number = SIZE + 3  # what the housekeeper finds in one search; the next comes ten seconds later
    green.join([green.spawn(die) for _ in range(number)])
    return {"died holding": number}


def storm(pool: Any) -> dict[str, Any]:
    """Finalizers that return connections run at every allocation, also under the pool's locks."""
    count = [0]

    class Leaver:
        def __init__(self) -> None:
            self.me = self
            self.conn = pool.connection(timeout=60.0)

        def __del__(self) -> None:
            count[0] += 1
            self.conn.close()
            pool.stats()

    def work() -> None:
        for _ in range(10):
            Leaver()
            gc.collect()  # or all would wait for the housekeeper's, which come ten seconds apart
            green.sleep(0)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        green.join([green.spawn(work) for _ in range(20)])
        gc.collect()
    finally:
        gc.set_threshold(*before)
    return {"finalizers": count[0]}


def leaked(pool: Any) -> dict[str, Any]:
    """All connections are in cycles, and all wait: no deadlock, the housekeeper finds them."""
    gc.disable()

    def leak(_: int) -> None:
        conn = pool.connection(timeout=60.0)
        box: list[Any] = [conn]
        box.append(box)
        del conn, box
        pool.connection(timeout=60.0).close()

    green.join([green.spawn(leak, number) for number in range(SIZE)])
    return {"leaked while each waits for another": SIZE}


def whole(pool: Any) -> bool:
    """Whether `max_size` can be borrowed at once."""
    gc.collect()
    handles = [pool.connection(timeout=20.0) for _ in range(SIZE)]
    different = {id(handle.driver_connection) for handle in handles}
    for handle in handles:
        handle.execute("SELECT 1").fetchone()
        handle.close()
    return len(different) == SIZE


def main() -> None:
    pool = make_pool(max_size=SIZE, checkout_timeout=60.0)
    figures = globals()[SCENARIO](pool)
    assert whole(pool)
    stats = pool.stats()
    assert (stats.in_use, stats.waiting, stats.opening) == (0, 0, 0), stats
    assert pool.close()
    assert not fake.violations, fake.violations
    assert fake.peak <= SIZE
    print(json.dumps(figures))


main()
