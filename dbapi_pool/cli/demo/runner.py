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
    """What one rush measured, or several that followed each other."""

    seconds: float
    handled: tuple[Handled, ...]
    took: tuple[float, ...]
    """Seconds from taking an order to being done with it."""

    @classmethod
    def of(cls, rounds: Sequence[Outcome]) -> Outcome:
        """All rounds together."""
        return cls(
            sum(one.seconds for one in rounds),
            tuple(handled for one in rounds for handled in one.handled),
            tuple(seconds for one in rounds for seconds in one.took),
        )

    @property
    def accepted(self) -> int:
        return sum(one.accepted for one in self.handled)

    @property
    def rejected(self) -> int:
        return len(self.handled) - self.accepted

    @property
    def orders_per_second(self) -> float:
        return len(self.handled) / self.seconds

    def waited_ms(self, part: float) -> float:
        """Milliseconds that this part of the orders waited for a connection, at most."""
        return 1000 * _quantile([one.waited for one in self.handled], part)

    def took_ms(self, part: float) -> float:
        """Milliseconds that this part of the orders took in all, at most."""
        return 1000 * _quantile(self.took, part)


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


class Rush:
    """One contender against the queue."""

    def __init__(self, contender: Contender, orders: Sequence[Order], workers: int) -> None:
        self._contender = contender
        self._queue = deque(orders)
        self._handled: list[Handled] = []
        self._took: list[float] = []
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
        return Outcome(seconds, tuple(self._handled), tuple(self._took))

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
            taken = time.perf_counter()
            try:
                self._handled.append(self._contender.handle(order))
                self._took.append(time.perf_counter() - taken)
            except BaseException as exc:
                self._failures.append(exc)
                self._queue.clear()
