"""The rush itself: many threads take orders from one queue, until it is empty or they are stopped.

Must never know what an order does, nor where a connection comes from.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .contenders import Contender, Handled
from .workload import Order

TICK = 0.1
# An interrupted worker finishes its order, which may wait for SQLite's lock; longer than that it is
# left behind (a daemon thread), so that Ctrl-C always ends.
GRACE = 10.0


@dataclass(frozen=True)
class Outcome:
    """What one rush measured."""

    seconds: float
    handled: tuple[Handled, ...]
    opened: int

    @property
    def accepted(self) -> int:
        return sum(one.accepted for one in self.handled)

    @property
    def rejected(self) -> int:
        return len(self.handled) - self.accepted

    @property
    def orders_per_second(self) -> float:
        return len(self.handled) / self.seconds

    def wait_ms(self, quantile: float) -> float:
        """Milliseconds that this part of the orders waited for a connection at most."""
        waits = sorted(one.waited for one in self.handled)
        return 1000 * waits[min(int(quantile * len(waits)), len(waits) - 1)]


class Rush:
    """One contender against the queue."""

    def __init__(self, contender: Contender, orders: Sequence[Order], workers: int) -> None:
        self._contender = contender
        self._queue = deque(orders)
        self._handled: list[Handled] = []
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(min(workers, len(orders)))
        ]

    def run(self, progress: Callable[[int], object]) -> Outcome:
        """Handle all orders, telling `progress` how many are done; raises the first failure."""
        started = time.perf_counter()
        try:
            for thread in self._threads:
                thread.start()
            self._watch(progress)
        except BaseException:
            self._stop()
            raise
        seconds = time.perf_counter() - started
        if self._failures:
            raise self._failures[0]
        return Outcome(seconds, tuple(self._handled), self._contender.opened())

    def _watch(self, progress: Callable[[int], object]) -> None:
        for thread in self._threads:
            while thread.is_alive():
                thread.join(TICK)
                progress(len(self._handled))

    def _stop(self) -> None:
        self._queue.clear()
        deadline = time.monotonic() + GRACE
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while True:
            try:
                order = self._queue.popleft()
            except IndexError:
                return
            try:
                self._handled.append(self._contender.handle(order))
            except BaseException as exc:
                self._failures.append(exc)
                self._queue.clear()
