"""The workload itself, with the pool itself: on a virtual clock, with a driver that only takes time.

Requests come at random, each borrows, holds and returns; nothing is modelled but the requests and the
database's times, so what is measured is what this pool does. It must never know a server or a size's
reasons.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import fmean

from ... import Pool, PoolDeadlock, PoolTimeout
from ...testing import FakeDriver, VirtualClock
from ..quiet import quiet
from .workload import Workload

AHEAD = 16
"""Threads beyond `size`: so many stand in the pool's own line. Whoever comes when that is full stands
behind them, and is served in the same order."""

WARM_UP = 0.1
"""The part of the requests that is not counted: the first find no line and no connections."""

Progress = Callable[[int, int], object]
"""Told how many requests are done, and of how many."""


@dataclass(frozen=True)
class Experiment:
    """What is to be simulated, for each size alike: the same requests, that take the same time."""

    workload: Workload
    connect: float
    """Seconds that connecting takes."""
    requests: int
    seed: int

    def arrivals(self) -> list[float]:
        """Seconds at which they come."""
        chance, now, times = random.Random(f"arrivals {self.seed}"), 0.0, []
        for _ in range(self.requests):
            now += chance.expovariate(self.workload.rate)
            times.append(now)
        return times

    def holds(self) -> list[float]:
        """Seconds that each holds its connection."""
        chance = random.Random(f"holds {self.seed}")
        draw = _draws(chance, self.workload)
        return [draw() for _ in range(self.requests)]


def _draws(chance: random.Random, workload: Workload) -> Callable[[], float]:
    mean, variation = workload.time, workload.variation
    if workload.distribution == "constant":
        return lambda: mean
    if workload.distribution == "exponential":
        return lambda: chance.expovariate(1 / mean)
    spread = math.log(1 + variation)
    return lambda: chance.lognormvariate(math.log(mean) - spread / 2, math.sqrt(spread))


@dataclass(frozen=True)
class Simulated:
    """What came of one size. Seconds, from coming to having all connections that are needed."""

    size: int
    mean: float
    p99: float
    waited: float
    """The part of the requests that waited at all."""
    busy: float
    """Connections lent on average."""
    opened: int
    deadlock: bool
    """Whether requests came to wait for each other: it ended there, and the waits are without end."""
    waits: Sequence[float] = field(default=(), repr=False)
    """Of all requests, in the order in which they came; the first are not in the figures above."""


def simulate(
    experiment: Experiment, sizes: Sequence[int], progress: Progress = lambda done, total: None
) -> list[Simulated]:
    """One after the other. The same experiment gives the same figures, on every machine."""
    found = []
    for number, size in enumerate(sizes):
        found.append(_Run(experiment, size).result())
        progress(number + 1, len(sizes))
    return found


class _Run:
    """One size."""

    def __init__(self, experiment: Experiment, size: int) -> None:
        self._workload = experiment.workload
        self._size = size
        self._arrivals = experiment.arrivals()
        self._holds = experiment.holds()
        self._connect = experiment.connect
        self._next = iter(range(experiment.requests))
        self._waits: dict[int, float] = {}
        self._deadlock = False

    def result(self) -> Simulated:
        with quiet(), VirtualClock(start=0.0) as clock, FakeDriver(clock) as fake:
            fake.on("connect", delay=self._connect)
            # One thread, and so one step at a time: what they count needs no lock.
            with Pool(
                fake,
                driver=fake.driver(),
                max_size=self._size,
                checkout_timeout=self._for_ever(),
                clock=clock,
            ) as pool:
                for task in [clock.start(self._work, pool, clock) for _ in range(self._threads())]:
                    task.result()
                opened, seconds = pool.stats().opened, clock.monotonic()
        return self._counted(opened, seconds)

    def _threads(self) -> int:
        """As many as there are, where it matters: with one connection for each request, who waits for
        a thread waits no longer than who waits for a connection."""
        workload = self._workload
        if workload.per_task > 1 and workload.threads is not None:
            return workload.threads
        return self._size + AHEAD

    def _for_ever(self) -> float:
        """Seconds that nobody can wait unless those who hold connections wait for each other: by then
        all others have come and gone, one after the other. The pool mostly knows sooner."""
        alone = sum(self._holds) + len(self._holds) * self._workload.per_task * self._connect
        return self._arrivals[-1] + alone + 1.0

    def _work(self, pool: Pool, clock: VirtualClock) -> None:
        for request in self._next:
            if self._deadlock:
                return
            early = self._arrivals[request] - clock.monotonic()
            if early > 0:
                clock.sleep(early)
            try:
                self._serve(request, pool, clock)
            except (PoolDeadlock, PoolTimeout):
                self._deadlock = True

    def _serve(self, request: int, pool: Pool, clock: VirtualClock) -> None:
        with ExitStack() as held:
            for _ in range(self._workload.per_task):
                held.enter_context(pool.connection())
            self._waits[request] = max(0.0, clock.monotonic() - self._arrivals[request])
            clock.sleep(self._holds[request])

    def _counted(self, opened: int, seconds: float) -> Simulated:
        first = int(WARM_UP * len(self._arrivals))
        waits = [self._waits.get(request, math.inf) for request in range(len(self._arrivals))]
        counted = [math.inf] if self._deadlock else sorted(waits[first:])
        held = self._workload.per_task * sum(self._holds[request] for request in self._waits)
        return Simulated(
            size=self._size,
            mean=fmean(counted),
            p99=counted[int(0.99 * len(counted))],
            waited=sum(wait > 0 for wait in counted) / len(counted),
            busy=held / seconds,
            opened=opened,
            deadlock=self._deadlock,
            waits=waits,
        )
