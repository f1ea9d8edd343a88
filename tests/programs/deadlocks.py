"""Random programs of threads that borrow while they hold, pass connections on and lose them.

`deadlocks.py <first seed> <runs> [<bug>]`: fails, naming the seed, when a thread is told of a deadlock
that is none, or one that is lasts for a moment without anybody being told. A process of its own: the
fewer objects there are, the faster the map of their references is read.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from typing import Any

from dbapi_pool import Pool, PoolDeadlock, PoolTimeout
from dbapi_pool.deadlock import Inspector
from dbapi_pool.handles import handle_class
from dbapi_pool.testing import FakeDriver, VirtualClock

STEPS = ("borrow", "borrow", "borrow", "hold", "touch", "give back", "pass on", "lose")


class World:
    """A pool, its threads, and what each of them really has."""

    def __init__(self, seed: int, clock: VirtualClock) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        self.fake = FakeDriver(clock)
        self.pool = Pool(
            self.fake,
            driver=self.fake.driver(local=self.random.random() < 0.5),
            clock=clock,
            max_size=self.random.randint(1, 3),
        )
        self.threads = range(self.random.randint(1, 4))
        self.letters: list[list[Any]] = [[] for _ in self.threads]  # passed on, not yet taken
        self.has: dict[int, int] = {}  # connection: the thread that has it, or will have
        self.lost: set[int] = set()  # connections that nobody has any more
        self.passed: set[int] = set()
        self.waiting: set[int] = set()
        self.ended: set[int] = set()
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        tasks = [self.clock.start(self.live, number) for number in self.threads]
        while not all(task.done for task in tasks):
            self.clock.advance(0.5)
            self.wait_a_moment()
            assert not self.is_deadlock(certain=True), "nobody was told"
        for task in tasks:
            task.result()
        if self.lost:
            gc.collect()
        assert self.pool.close()
        self.fake.assert_no_leak()

    def wait_a_moment(self) -> None:
        """A deadlock is proven twice where other threads live, a moment apart."""
        for _ in range(3):
            if self.is_deadlock(certain=True):
                self.clock.advance(0.06)

    def is_deadlock(self, certain: bool) -> bool:
        """Whether nobody will ever be served; `certain`: where the pool can know."""
        stats = self.pool.stats()
        if stats.in_use < stats.max_size or self.lost or not self.waiting:
            return False
        if certain and self.passed.intersection(self.has):
            return False
        return set(self.has.values()) <= self.waiting

    # -- a thread ---------------------------------------------------------------------------------

    def live(self, me: int) -> None:
        mine: list[Any] = []
        for _ in range(self.random.randint(2, 10)):
            mine += self.take_letters(me)
            self.step(me, mine, self.random.choice(STEPS))
        self.ended.add(me)
        mine += self.take_letters(me)
        while mine:
            self.give_back(mine)

    def take_letters(self, me: int) -> list[Any]:
        taken, self.letters[me] = self.letters[me], []
        return taken

    def step(self, me: int, mine: list[Any], what: str) -> None:
        if what == "hold":
            self.clock.sleep(self.random.choice((0.0, 0.3, 1.0, 2.5, 7.0)))
        elif what == "borrow":
            self.borrow(me, mine)
        elif mine and what == "touch":
            mine[-1].execute("SELECT 1")
        elif mine and what == "give back":
            self.give_back(mine)
        elif mine and what == "pass on":
            self.pass_on(me, mine)
        elif mine and what == "lose":
            self.lose(mine)

    def borrow(self, me: int, mine: list[Any]) -> None:
        self.waiting.add(me)
        try:
            mine.append(self.pool.connection(timeout=self.random.choice((0.4, 5.0, 30.0))))
        except PoolDeadlock:
            assert self.is_deadlock(certain=False), "told of a deadlock that is none"
            self.counts["deadlocks"] += 1
        except PoolTimeout:
            self.counts["timeouts"] += 1
        else:
            self.found()
            self.has[mine[-1].number] = me
        finally:
            self.waiting.discard(me)

    def found(self) -> None:
        """Somebody was served: what was lost may have been found."""
        self.lost = {number for number in self.lost if number in self.open_numbers()}

    def open_numbers(self) -> set[int]:
        return {conn.number for conn in self.fake.connections}

    def give_back(self, mine: list[Any]) -> None:
        handle = mine.pop()
        del self.has[handle.number]
        self.passed.discard(handle.number)
        handle.close()

    def pass_on(self, me: int, mine: list[Any]) -> None:
        others = [one for one in self.threads if one != me and one not in self.ended]
        if others:
            heir = self.random.choice(others)
            number = mine[-1].number
            self.has[number] = heir
            self.passed.add(number)
            self.letters[heir].append(mine.pop())
            self.counts["passed"] += 1

    def lose(self, mine: list[Any]) -> None:
        cycle = [mine.pop()]
        cycle.append(cycle)
        number = cycle[0].number
        del self.has[number]
        self.passed.discard(number)
        self.lost.add(number)
        self.counts["lost"] += 1


BUGS: dict[str, tuple[Any, str, Any]] = {
    "believes every suspicion": (Inspector, "_is_proven", lambda self, suspects: True),
    "proves nothing": (Inspector, "_is_proven", lambda self, suspects: False),
    "does not ask who else is there": (
        VirtualClock,
        "in_reach_of_others",
        lambda self, idents: [],
    ),
    "leaves the garbage": (VirtualClock, "collect_garbage", lambda self: None),
}


def main(first: int, runs: int, bug: str | None) -> None:
    if bug is not None:
        setattr(*BUGS[bug])
    counts: Counter[str] = Counter()
    gc.disable()  # so that what is lost stays lost until the pool looks for it
    for seed in range(first, first + runs):
        try:
            with VirtualClock(seed) as clock:
                world = World(seed, clock)
                world.run()
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        counts += world.counts
        del world
        handle_class.cache_clear()  # or the drivers of past runs would stay on the map
    print(*(f"{name}={count}" for name, count in sorted(counts.items())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if sys.argv[3:] else None)
