"""Whatever borrowers, servers and clocks do, in whatever order: the promises hold after every step.

A hypothesis state machine over the real `Pool`, on the fake driver under the virtual clock: one pool,
whose connections the test uses and returns, one step after the other. (Several pools and threads:
`proof/test_many_threads.py`.) The model and the judge are `support/judge.py`; here are `World`, what
the test does with its pool, and `PoolMachine`, the steps. `DBAPI_POOL_TEST_EXAMPLES` sets how many
runs each test makes, others each time.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from crowd import Crowd
from evidence import depth, record
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from judge import BACKOFF, CUT, LOOK, NOT_LENT, PATIENCE, Judge
from machines import examples, run
from troubles import (
    FAILING,
    HANGING,
    HANGING_AT_CHECKIN,
    LOCAL,
    REMOTE,
    SPANS,
    STATEMENTS,
    TIMEOUTS,
    UNKNOWN,
    WHICH,
    WORK,
    Alien,
    Failed,
    Lost,
    Planted,
    Refused,
    Struck,
    do,
    pool_settings,
)

from dbapi_pool.testing import FakeDriver

EXAMPLES = examples(depth(40, 1000))
STEPS = 40
done: Counter[str] = Counter()  # examples, and steps in them
THE_TEST = 1  # its number as a thread


class World(Crowd):
    """One pool, and what the test has of it."""

    def __init__(self, kind: str, options: dict[str, Any], rest_every: int) -> None:
        super().__init__()
        self.rest_every = rest_every
        self.steps = 0
        self.fake = FakeDriver(self.clock)
        self.fake.strict = options["reset"] in ("auto", "always")
        self.lent: list[Any] = []
        self.cursors: list[tuple[Any, list[Any]]] = []
        self.stale: list[Callable[[], Any]] = []
        self.judge = Judge(self.clock, self.fake, kind, options, self.complain)

    # -- borrowing --------------------------------------------------------------------------------

    def borrow(self, timeout: float | None, shared: bool = True) -> Any:
        """A connection. In any thread. `shared`: it goes where the test can reach it."""
        assert self.judge.pool is not None
        handle = self.judge.pool.connection(timeout)
        self.judge.received(handle.number, shared)
        return handle

    def try_to_borrow(self, timeout: float | None) -> None:
        """`borrow`, where not to get one is fine, too."""
        self.judge.attempt(lambda: self.lent.append(self.borrow(timeout)), *NOT_LENT)

    def try_to_borrow_two(self, timeout: float | None) -> None:
        """Borrow another while holding one, then forget the first."""
        self.judge.attempt(lambda: self._borrow_two(timeout), *NOT_LENT)

    def _borrow_two(self, timeout: float | None) -> None:
        one = self.borrow(timeout, shared=False)
        number = one.number
        try:
            self.lent.append(self.borrow(timeout))
        finally:  # whoever keeps an error that was raised here keeps this frame, and so the handle
            self.judge.lose(number)

    # -- giving back ------------------------------------------------------------------------------

    def part(self, which: int) -> tuple[Any, list[Any]]:
        """Take a handle from its borrower: it, and its cursors."""
        handle = self.lent.pop(which % len(self.lent))
        cursors = [cursor for owner, made in self.cursors if owner is handle for cursor in made]
        self.cursors = [pair for pair in self.cursors if pair[0] is not handle]
        return handle, cursors

    def detach(self, which: int) -> None:
        """Take it out of the pool. Its cursors stay: they are on what is the borrower's own now."""
        handle, _ = self.part(which)
        number = handle.number
        self.judge.part(number)
        self.judge.detached.append(handle.detach())
        self.judge.parted(number)
        self.stale += [handle.cursor, handle.detach]

    def drop(self, which: int) -> None:
        """Let go of it, without a word to the pool."""
        self.judge.lose(self.lent[which % len(self.lent)].number)
        self.part(which)

    def give_back(
        self, which: int, how: Callable[[Any], Any], *expected: type[BaseException]
    ) -> Any:
        """`how(handle)` returns it; whatever happens, it is returned, with all that is on it."""
        handle, cursors = self.part(which)
        number = handle.number
        self.judge.part(number)
        kept = [handle.cursor, handle.commit, handle.rollback, lambda: handle.note]
        kept.append(lambda: setattr(handle, "note", "mine"))
        for cursor in cursors:
            kept += [functools.partial(cursor.execute, "SELECT 1"), cursor.fetchone]
        result = self.judge.attempt(functools.partial(how, handle), *expected)
        assert number not in self.judge.between, "it was given back, and the pool has done nothing"
        self.stale = [*self.stale, *kept][-12:]
        with pytest.raises(self.fake.InterfaceError):
            handle.cursor()
        return result

    def use(self, which: int, work: str) -> None:
        """Use a connection, which may be dead by now, in the test's thread."""
        handle = self.lent[which % len(self.lent)]
        self.judge.handed_to(handle.number, THE_TEST)  # whoever borrowed it passed it on
        self.judge.attempt(lambda: do(handle, work, self._cursors_of(handle)), self.fake.Error)

    def _cursors_of(self, handle: Any) -> list[Any]:
        self.cursors.append((handle, []))
        return self.cursors[-1][1]

    # -- the promises -----------------------------------------------------------------------------

    def step_done(self) -> None:
        """After every step."""
        self.steps += 1
        if self.steps % self.rest_every == 0:
            self.pass_time(0.0)
        self.check()

    def check(self) -> None:
        """True at any moment."""
        super().check()
        self.fake.check()
        self.judge.check_always()
        super().check()

    def check_at_rest(self) -> None:
        """True when everybody has done what can be done at this instant."""
        self.judge.check_at_rest()
        super().check()

    def settle(self) -> None:
        """The server works, nothing is in the way, and some time passes: the pool must be well."""
        self.fake.calm()
        self.clock.advance(BACKOFF + 2 * LOOK)
        self.collect()
        self.check_at_rest()
        self.judge.check_well()

    def pass_time(self, seconds: float) -> None:
        """The clock goes on, and with it whatever has a time."""
        self.clock.advance(seconds)
        self.collect()
        self.check_at_rest()
        after = self.judge.options["idle_timeout"]
        if after is not None and seconds > 1.5 * after + CUT + BACKOFF and not self.tasks:
            stats = self.judge.stats()
            assert not stats.idle or stats.size <= stats.min_size, "idle_timeout is not kept"

    def end(self, judge: bool) -> None:
        """Close everything; nothing may stay open."""
        try:
            self.fake.calm()
            self.judge.close(timeout=0)
            self._return_all()
            self.clock.run()
            self._return_all()  # what a waiter was given just before the close
            for conn in self.judge.detached:
                conn.close()
            self.judge.detached.clear()
            if judge:
                self.clock.advance(2 * PATIENCE)
                self._judge_end()
        finally:
            self.clock.close()

    def _return_all(self) -> None:
        while self.lent:
            self.give_back(0, lambda handle: handle.close())

    def _judge_end(self) -> None:
        self.collect()
        assert not self.tasks, "somebody still waits for a closed pool"
        self.check()
        self.judge.check_end()
        self.check()
        self.fake.assert_no_leak()


# -- the steps ------------------------------------------------------------------------------------

somebody_holds = precondition(lambda self: self.world.lent)
not_closed = precondition(lambda self: not self.world.judge.closed)


def twice(handle: Any) -> None:
    """Return it twice, whatever the first time raises."""
    try:
        handle.close()
    finally:
        handle.close()
        handle.invalidate()


RETURNS: dict[str, Callable[[Any], Any]] = {
    "close": lambda handle: handle.close(),
    "close twice": twice,
    "invalidate": lambda handle: handle.invalidate(),
}
THEN = ("interrupt", "restart", "drain", "suspend", "resize")
HOW = ("close", "close", "close", "close twice", "invalidate")


class PoolMachine(RuleBasedStateMachine):
    """Everything that can happen to a pool, one at a time.

    Hypothesis leaves out some rules in each run. Where nobody borrows nothing happens, so others
    than the rules for that do it too.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.world: World

    @initialize(options=pool_settings(), rest_every=st.integers(1, 4), count=st.integers(1, 5))
    def open(self, options: dict[str, Any], rest_every: int, count: int) -> None:
        self.world = World(self.kind, options, rest_every)
        self.threads_borrow(None, count)

    @invariant()
    def the_promises_hold(self) -> None:
        self.world.step_done()

    def teardown(self) -> None:
        world = getattr(self, "world", None)
        if world is not None:
            done["examples"] += 1
            done["steps"] += world.steps
            # After a step that failed, the end would only repeat it in other words.
            world.end(judge=sys.exc_info()[0] is None)

    # -- checkout ---------------------------------------------------------------------------------

    @rule(timeout=st.sampled_from(TIMEOUTS), count=st.integers(1, 3))
    def threads_borrow(self, timeout: float | None, count: int) -> None:
        for _ in range(count):
            self.world.start(self.world.try_to_borrow, timeout)

    @rule(timeout=st.sampled_from((0, 0, 1.5)))
    def the_test_borrows(self, timeout: float) -> None:
        self.world.try_to_borrow(timeout)

    @rule(timeout=st.sampled_from(TIMEOUTS))
    def a_thread_borrows_two_and_forgets_one(self, timeout: float | None) -> None:
        self.world.start(self.world.try_to_borrow_two, timeout)

    @rule(which=WHICH)
    def a_waiter_is_interrupted(self, which: int) -> None:
        self.world.interrupt(which)

    # -- checkin ----------------------------------------------------------------------------------

    @somebody_holds
    @rule(which=WHICH, how=st.sampled_from(HOW), again=st.integers(0, 2))
    def checkin(self, which: int, how: str, again: int) -> None:
        self.world.give_back(which, RETURNS[how])
        self.threads_borrow(None, again)

    @somebody_holds
    @rule(which=WHICH, count=st.integers(1, 4), then=st.sampled_from(THEN))
    def checkin_and_something_at_the_same_instant(self, which: int, count: int, then: str) -> None:
        world = self.world
        self.threads_borrow(20.0, count)
        world.clock.run()
        if world.lent:
            world.give_back(which, RETURNS["close"])
        acts: dict[str, Callable[[], Any]] = {
            "interrupt": lambda: world.interrupt(which),
            "restart": world.fake.kill_all,
            "drain": world.judge.drain,
            "suspend": lambda: world.judge.open_gate(False),
            "resize": lambda: world.judge.resize(1, 0),
        }
        acts[then]()

    @somebody_holds
    @rule(which=WHICH, detach=st.booleans())
    def drop_or_detach(self, which: int, detach: bool) -> None:
        if detach:
            self.world.detach(which)
        else:
            self.world.drop(which)

    @precondition(lambda self: self.world.judge.detached)
    @rule()
    def close_a_detached_one(self) -> None:
        self.world.fake.off("close")  # what hangs there is the borrower's own to bear
        self.world.judge.detached.pop().close()

    @somebody_holds
    @rule(which=WHICH, sql=st.sampled_from(STATEMENTS), fails=st.booleans())
    def use_in_a_with_block(self, which: int, sql: str, fails: bool) -> None:
        def use(handle: Any) -> None:
            with handle:
                handle.cursor().execute(sql)
                if fails:
                    raise Struck

        self.world.give_back(which, use, self.world.fake.Error)

    # -- use --------------------------------------------------------------------------------------

    @somebody_holds
    @rule(which=WHICH, work=st.sampled_from(WORK))
    def use(self, which: int, work: str) -> None:
        self.world.use(which, work)

    @rule(works=st.lists(st.sampled_from(WORK), max_size=3), how=st.sampled_from(HOW))
    def a_lease_from_its_beginning_to_its_end(self, works: list[str], how: str) -> None:
        world = self.world
        before = len(world.lent)
        world.try_to_borrow(0)
        if len(world.lent) > before:
            for work in works:
                world.use(-1, work)
            world.give_back(-1, RETURNS[how])

    @precondition(lambda self: self.world.stale)
    @rule(which=WHICH)
    def use_what_was_returned(self, which: int) -> None:
        world = self.world
        before = len(world.fake.executed)
        with pytest.raises(world.fake.InterfaceError):
            world.stale[which % len(world.stale)]()
        assert len(world.fake.executed) == before

    # -- the server, and the driver ---------------------------------------------------------------

    @rule(
        operation=st.sampled_from(FAILING),
        error=st.sampled_from((Failed, Refused, Lost, Alien, Struck)),
        after=st.booleans(),
    )
    def fail(self, operation: str, error: type[Planted], after: bool) -> None:
        # A class, not an instance: that would keep its frames, and so the handles in them.
        fake = self.world.fake
        fake.on(operation, error=error, after=after and operation != "connect", times=1)

    @rule(operation=st.sampled_from(HANGING))
    def hang_or_give_nothing(self, operation: str) -> None:
        fake = self.world.fake
        if self.kind == REMOTE:
            fake.on(operation, hang=True, times=1)
        else:
            fake.on("connect", returns=None, times=1)

    @precondition(lambda self: self.kind == REMOTE and self.world.lent)
    @rule(which=WHICH, operation=st.sampled_from(HANGING_AT_CHECKIN))
    def hang_at_checkin(self, which: int, operation: str) -> None:
        self.world.fake.on(operation, hang=True)
        self.world.give_back(which, RETURNS["close"])
        self.world.fake.off(operation)

    @rule(what=st.sampled_from(("down", "up", "restart", "kill")), which=WHICH)
    def the_server_changes(self, what: str, which: int) -> None:
        world = self.world
        connections = world.fake.connections
        if what == "restart":
            world.fake.kill_all()
        elif what == "kill" and connections:
            world.fake.kill(connections[which % len(connections)])
        else:
            world.fake.down = what == "down"
            world.judge.refused |= world.fake.down

    # -- time, and the pool's life ----------------------------------------------------------------

    @rule(seconds=st.sampled_from(SPANS))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @not_closed
    @rule(
        max_size=st.integers(1, 4),
        min_size=st.none() | st.integers(0, 2),
        instead=st.sampled_from((None, "suspend", "resume", "resume", "warm up", "drain")),
    )
    def resize_or(self, max_size: int, min_size: int | None, instead: str | None) -> None:
        judge = self.world.judge
        if instead == "drain":
            judge.drain()
        elif instead == "warm up":
            judge.warm_up(max_size, float(min_size or 0))
        elif instead is not None:
            judge.open_gate(instead == "resume")
        else:
            judge.resize(max_size, min_size)

    @not_closed
    @precondition(lambda self: self.world.steps > STEPS / 2)
    @rule(timeout=st.sampled_from((0, 5.0)))
    def close(self, timeout: float) -> None:
        self.world.judge.close(timeout)


@pytest.mark.parametrize("kind", [REMOTE, LOCAL, UNKNOWN])
def test_whatever_happens_in_whatever_order_the_promises_hold(kind: str) -> None:
    before = done.copy()
    run(functools.partial(PoolMachine, kind), EXAMPLES, STEPS)
    seen = done - before
    record("state machine", f"{kind} driver", examples=seen["examples"], steps=seen["steps"])
