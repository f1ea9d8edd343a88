"""Has frontrun explore the ledger, with or without a bug in it, and prints what it found.

A process of its own, since a run that fails leaves threads behind. The ledger alone, with the real
way of a returned connection (`Keeper.put`), and two or three threads: of a whole pool frontrun does
not come to an end. Arguments: scenario, bug ("" for none), most preemptions, most seconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

os.environ["FRONTRUN_ACTIVE"] = "1"

import bugs_of_order
import frontrun

from dbapi_pool.errors import PoolClosed
from dbapi_pool.keeper import Keeper
from dbapi_pool.ledger import CLOSED, OPEN, Lease, Ledger, Waiter

SEEN = ["dbapi_pool.ledger", "dbapi_pool.keeper", "__main__"]


class Event:
    """A signal made of what frontrun knows. A lock that another thread releases is none of it: who
    waits for a lock that it took itself is in a deadlock, says frontrun, whoever will release it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        came = self._event.wait(timeout)
        self._event.clear()
        return came


class Seen(deque[Any]):
    """A deque whose emptiness is looked at in a way that frontrun sees: it knows the methods of a
    deque, but of `if things:` only that list, dict and set are looked into."""

    def __bool__(self) -> bool:
        return self.__len__() > 0


class World:
    """A ledger and its borrowers."""

    def __init__(self, size: int) -> None:
        self.ledger = Ledger(threading.RLock(), 0, size, lambda ref: None)
        self.ledger.idle, self.ledger.waiters = Seen(), Seen()
        self.ledger.inline = True  # who is given an empty place opens it
        self.keeper: Any = SimpleNamespace(_ledger=self.ledger, retire_all=self.retire_all)
        self.keeper.settle = lambda: Keeper.settle(self.keeper)
        self.open = self.peak = 0
        self.served: list[str] = []
        self.failed: list[str] = []
        self.held: list[Lease] = []

    def borrow(self, who: str, patience: float | None = None) -> None:
        """As `Pool._borrow` does."""
        ledger = self.ledger
        lease = None
        if not ledger.waiters and ledger.gate is OPEN:
            try:
                lease = ledger.idle.pop()
            except IndexError:
                pass
        if lease is None:
            lease = self.wait(who, patience)
        if lease is None:
            self.failed.append(who)
            return
        if lease.member is None:
            self.fill(lease)
        self.served.append(who)
        self.give(lease)

    def wait(self, who: str, patience: float | None) -> Lease | None:
        waiter = Waiter(Event(), 0, 0.0, who)
        try:
            self.ledger.join(waiter, None)
        except PoolClosed:
            return None
        if not waiter.answered and not waiter.signal.wait(patience):
            self.ledger.leave(waiter)
        return waiter.lease

    def fill(self, lease: Lease) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        self.ledger.fill(lease, SimpleNamespace(thread=0))

    def give(self, lease: Lease) -> None:
        Keeper.put(self.keeper, lease)

    def retire_all(self, leases: list[Lease], reason: str) -> None:
        for lease in leases:
            self.open -= 1
            self.ledger.vacate(lease)

    def lend(self, count: int) -> None:
        for _ in range(count):
            lease = self.ledger._vacancy()
            assert lease is not None
            self.fill(lease)
            self.held.append(lease)

    def close(self) -> None:
        self.ledger.shut(CLOSED)
        self.ledger.fail(PoolClosed())
        self.retire_all(self.ledger.take_idle(lambda member: True), "closed")

    def resize(self, size: int) -> None:
        self.ledger.max_size = size
        self.ledger.serve()

    def check(self, asked: int, may_fail: bool) -> bool:
        """Nobody is left in line, nothing is lost, and the bound was kept."""
        ledger = self.ledger
        assert len(self.served) + len(self.failed) == asked, (self.served, self.failed)
        assert may_fail or not self.failed, f"never served: {self.failed}"
        assert self.peak <= ledger.max_size, f"{self.peak} open at once"
        assert len(ledger.waiters) == 0
        assert len({id(lease) for lease in ledger.idle}) == len(ledger.idle)
        assert len(ledger.idle) + len(self.held) == self.open
        assert all(lease.place.ref() is lease for lease in ledger.idle)
        assert ledger.gate is OPEN or self.open == 0, f"{self.open} open after close"
        return True


@dataclass(frozen=True)
class Scenario:
    size: int
    lent: int
    workers: list[Callable[[World], object]]
    asked: int
    may_fail: bool = False
    idle: bool = False

    def setup(self) -> World:
        world = World(self.size)
        world.lend(self.lent)
        if self.idle:
            while world.held:
                world.give(world.held.pop())
        return world


def uses(who: str, patience: float | None = 30.0) -> Callable[[World], object]:
    return lambda world: world.borrow(who, patience)


def gives(world: World) -> None:
    world.give(world.held.pop())


def closes(world: World) -> None:
    world.close()


def grows(world: World) -> None:
    world.resize(2)


SCENARIOS = {
    "two borrow, nothing open, room for one": Scenario(1, 0, [uses("A"), uses("B")], 2),
    "two borrow, one idle": Scenario(1, 1, [uses("A"), uses("B")], 2, idle=True),
    "a borrower gets in line, a connection comes back": Scenario(1, 1, [uses("A"), gives], 1),
    "a hand-over at the instant of the timeout": Scenario(1, 1, [uses("A", 1.0), gives], 1, True),
    "close against a borrower, one idle": Scenario(1, 1, [uses("A"), closes], 1, True, idle=True),
    "close against a connection that comes back": Scenario(1, 1, [gives, closes], 0),
    "more room against a borrower": Scenario(1, 1, [uses("A"), grows], 1),
    "two borrow while one comes back": Scenario(1, 1, [uses("A"), uses("B"), gives], 2),
}


def main(name: str, bug_name: str, bound: int, seconds: float) -> None:
    scenario = SCENARIOS[name]
    bug = next((bug for bug in bugs_of_order.BUGS if bug.name == bug_name), None)
    assert bug is not None or not bug_name
    started = time.perf_counter()
    with nullcontext() if bug is None else bugs_of_order.planted(bug):
        result = frontrun.explore(
            setup=scenario.setup,
            workers=scenario.workers,
            invariant=lambda world: world.check(scenario.asked, scenario.may_fail),
            clock="explored" if "timeout" in name else "virtual",
            preemption_bound=bound,
            detect_io=False,
            reproduce_on_failure=0,
            trace_packages=SEEN,
            total_timeout=seconds,
        )
    print(
        json.dumps(
            {
                "holds": result.property_holds,
                "runs": result.num_explored,
                "exhausted": result.exhausted,
                "kind": result.failure_kind,
                "seconds": round(time.perf_counter() - started, 1),
                "why": (result.inconclusive_reason or result.explanation or "")[:1500],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
