"""The two ways of getting a connection that the demo compares: one pool, and one each time.

Both run the same transaction with the same setup and retry what is worth retrying; they differ in
where the connection comes from, and nothing else. Must never know threads, nor what is printed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ... import Pool
from ...drivers import hookimpl, registry
from .database import Database
from .workload import Order, OutOfStock, Shop

RETRIES = 10
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class Handled:
    """What became of one order."""

    accepted: bool
    waited: float
    """Seconds from asking for a connection to having it, ready for use."""


class Contender(Protocol):
    """One way of getting a connection for each order; `handle` is called from many threads."""

    name: str

    def handle(self, order: Order) -> Handled:
        """Do all that the order does, in one transaction."""

    def opened(self) -> int:
        """Connections opened so far."""


class Stopwatch:
    """A listener that times checkouts: `start` and `read` are called in the thread that borrows."""

    def __init__(self) -> None:
        self._mine = threading.local()

    def start(self) -> None:
        self._mine.asked, self._mine.waited = time.perf_counter(), 0.0

    def read(self) -> float:
        """Seconds from `start` to the first checkout since."""
        return float(self._mine.waited)

    @hookimpl
    def dbapi_pool_checked_out(self) -> None:
        asked = getattr(self._mine, "asked", None)
        if asked is not None:
            self._mine.asked, self._mine.waited = None, time.perf_counter() - asked


class OnePool:
    """Every order borrows from one pool."""

    name = "one pool"

    def __init__(self, pool: Pool, shop: Shop, database: Database, stopwatch: Stopwatch) -> None:
        self._pool = pool
        self._shop = shop
        self._transaction = database.transaction
        self._stopwatch = stopwatch

    @classmethod
    @contextmanager
    def at(cls, database: Database, shop: Shop, max_size: int) -> Iterator[OnePool]:
        """With a pool of its own, closed at the end."""
        stopwatch = Stopwatch()
        plugins = registry.plugin_manager()
        plugins.register(stopwatch)  # before the pool is made, which looks once who listens
        try:
            with Pool(database.url, max_size=max_size, setup=database.setup) as pool:
                yield cls(pool, shop, database, stopwatch)
        finally:
            plugins.unregister(stopwatch)

    def handle(self, order: Order) -> Handled:
        def process(conn: Any) -> None:
            self._shop.process(conn, order)

        self._stopwatch.start()
        try:
            self._pool.run(process, retries=RETRIES, **self._transaction)
        except OutOfStock:
            return Handled(False, self._stopwatch.read())
        return Handled(True, self._stopwatch.read())

    def opened(self) -> int:
        return self._pool.stats().opened


class ConnectionPerOrder:
    """Every order connects, and closes what it connected: what code without a pool does."""

    name = "connection per order"

    def __init__(self, database: Database, shop: Shop) -> None:
        self._database = database
        self._shop = shop
        self._opened: list[None] = []  # its append is atomic, which `+= 1` is not

    def handle(self, order: Order) -> Handled:
        asked = time.perf_counter()
        with self._database.connection() as conn:
            waited = time.perf_counter() - asked
            self._opened.append(None)
            try:
                self._run(conn, order)
            except OutOfStock:
                return Handled(False, waited)
            return Handled(True, waited)

    def opened(self) -> int:
        return len(self._opened)

    def _run(self, conn: Any, order: Order) -> None:
        pause = FIRST_PAUSE
        for left in reversed(range(RETRIES + 1)):
            try:
                return self._transact(conn, order)
            except self._database.module.Error as exc:
                if not left or not self._database.driver.is_retryable(exc):
                    raise
            time.sleep(pause * random.random())
            pause = min(2 * pause, LONGEST_PAUSE)

    def _transact(self, conn: Any, order: Order) -> None:
        try:
            self._database.driver.begin(conn, None, None, self._database.transaction)
            self._shop.process(conn, order)
            conn.commit()
        except BaseException:
            conn.rollback()
            raise


NAMES = OnePool.name, ConnectionPerOrder.name
