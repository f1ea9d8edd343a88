"""Strikes every point of a scenario in turn, a fresh world for each, and counts what did not survive.

It must never judge: that is done by `struck_worlds.judge`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from injector import Injector, Point
from struck_scenarios import Scenario
from struck_worlds import CALLER, CUT_SHORT, World, judge

import dbapi_pool
from dbapi_pool import (
    ConnectionReturned,
    Pool,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolTimeout,
)

Choose = Callable[[Point], bool]
_PACKAGE = Path(dbapi_pool.__file__).parent


class Strange(BaseException):
    """Neither an `Exception` nor one of Python's own."""


def deliverable(point: Point) -> bool:
    """Where CPython can raise an asynchronous exception."""
    return point.deliverable


def is_ours(filename: str) -> bool:
    """Whether a file is of the package, without its testing tools."""
    path = Path(filename)
    return _PACKAGE in path.parents and "testing" not in path.parts


@dataclass
class Result:
    """What a campaign has shown."""

    points: int = 0
    """Strikes."""
    failing: list[str] = field(default_factory=list)
    finalized: int = 0
    """Connections that were left to their own finalizers."""

    def add(self, other: Result) -> None:
        """Both."""
        self.points += other.points
        self.failing += other.failing
        self.finalized += other.finalized


@contextlib.contextmanager
def injector(also: str = "") -> Iterator[Injector]:
    """One for our package, and the file `also`.

    Meanwhile nobody hears of exceptions in finalizers, nor of the pool's complaints, and garbage is
    collected only when a world is judged.
    """
    _load()
    found = Injector(lambda filename: filename == also or is_ours(filename))
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield found
    finally:
        found.close()
        sys.unraisablehook = hook
        logging.disable(disabled)
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _load() -> None:
    """Have everything imported and cached that the first use imports and caches."""
    for local in (True, False):
        world = World(local=local)
        world.warm()
        with world.pool.transaction() as conn:
            conn.execute("SET x = 1")
            conn.cursor().close()
        for kind in (ConnectionReturned, PoolClosed, PoolDeadlock, PoolTimeout):
            world.pool._error(kind, "")  # whose class is made once
        world.pool.close()
        world.drop()


class Campaign:
    """One scenario, one victim."""

    def __init__(
        self,
        injector: Injector,
        scenario: Scenario,
        place: str,
        victim: str = CALLER,
        make: Callable[..., Pool] = Pool,
    ) -> None:
        self._injector = injector
        self._scenario = scenario
        self._local = place == "local"
        self._victim = victim
        self._make = make
        self.name = f"{scenario.name} [{place}, {victim}]"

    def run(
        self,
        choose: Choose,
        error: type[BaseException],
        step: int = 1,
        first: int = 0,
        thorough: int = 8,
        until_found: bool = False,
    ) -> Result:
        """Strike every `step`-th of the points that `choose` is true of, from number `first` on; look
        at every `thorough`-th world more closely. `until_found`: one failing point is enough."""
        points = self._survey(choose)
        gc.collect()
        gc.freeze()  # so that collecting the garbage of one world is quick
        result = Result()
        times: Counter[int] = Counter()
        for number, point in enumerate(points):
            time = times[id(point)]
            times[id(point)] += 1
            if until_found and result.failing:
                break
            if number % step == first % step:
                self._strike(result, point, time, error, number % thorough == 0)
        return result

    def _survey(self, choose: Choose) -> list[Point]:
        """The points, as they are reached."""
        self._injector.watch(choose)
        world = self._world()
        wrong = self._act(world, KeyboardInterrupt) or judge(world, KeyboardInterrupt)
        points = list(self._injector.points)
        world.drop()
        assert wrong is None, f"{self.name} fails without any strike: {wrong}"
        return points

    def _strike(
        self, result: Result, point: Point, time: int, error: type[BaseException], thorough: bool
    ) -> None:
        self._injector.aim(point, time, error)
        world = self._world()
        wrong = self._act(world, error)
        assert self._injector.hit is point, f"{self.name}: never came to {point}"
        wrong = wrong or judge(world, error, thorough) or _lost(world, point, self._scenario)
        result.points += 1
        result.finalized += world.fake.abandoned
        try:
            world.drop()
        except AssertionError as exc:  # a task that waits for a lock, for ever
            wrong = wrong or str(exc)
        if wrong is not None:
            result.failing.append(f"{self.name}: {point}: {wrong}")

    def _world(self) -> World:
        scenario = self._scenario
        world = World(
            self._injector, self._victim, self._local, self._make, **dict(scenario.settings)
        )
        scenario.prepare(world)
        return world

    def _act(self, world: World, error: type[BaseException]) -> str | None:
        injector, mine = self._injector, self._victim == CALLER
        injector.arm()
        if mine:
            injector.enter()
        try:
            self._scenario.act(world)
        except error:
            pass
        except PoolError as exc:
            if CUT_SHORT not in str(exc):  # an opener was struck, and its borrower is told
                return f"{type(exc).__name__}: {exc}"
        finally:
            if mine:
                injector.leave()
            injector.disarm()
        return None


def _lost(world: World, point: Point, scenario: Scenario) -> str | None:
    """A connection may be left to its own finalizer where the pool did not have it yet, had given it
    away, or was closing it."""
    allowed = point.function in _IN_BETWEEN or scenario.name == "detach"
    if world.fake.abandoned <= int(allowed):
        return None
    return f"{world.fake.abandoned} connections were left to their finalizers"


_IN_BETWEEN = {
    *("source.py: open", "keeper.py: open", "ledger.py: fill"),  # it was just opened
    *("keeper.py: _close", "keeper.py: _driver", "source.py: driver", "base.py: close"),
    *("handles.py: detach", "pool.py: release", "source.py: _drop"),
}
