"""`Stage`: several pools under one clock, and `Actor`: a thread that lives on and follows a program.

A program is a tuple of steps, each a tuple of a word and what it needs; `STEPS` holds those to draw
from. Every call into the fake driver may take time, so returns, resets and closes of several threads
overlap. What is true of one pool is judged by its `Judge`; here is only what the threads see.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from crowd import Crowd
from judge import BACKOFF, CUT, LOOK, NOT_LENT, PATIENCE, Judge
from troubles import WORK, Again, Struck, do

from dbapi_pool.errors import CommitOutcomeUnknown, ConnectionReturned
from dbapi_pool.testing import FakeDriver

Step = tuple[Any, ...]

SLACK = 2.0  # seconds that the calls of a local driver may take in one checkout
POOLS = 3

_TIMEOUTS = (None, 0, 0.5, 3.0, 20.0)
_HOLDS = (0.0, 0.05, 0.4, 2.0)


class Hold:
    """What a thread has of one lease."""

    def __init__(self, judge: Judge, handle: Any, shared: bool) -> None:
        self.judge = judge
        self.handle = handle
        self.number = handle.number
        self.cursors: list[Any] = []
        self.over = False  # somebody has begun to give it back
        judge.received(self.number, shared)

    def end(self) -> bool:
        """It is given back from now on; False if it was before."""
        if self.over:
            return False
        self.over = True
        self.judge.part(self.number)
        return True

    def stale(self) -> list[Callable[[], Any]]:
        """What must not work once it was given back."""
        handle = self.handle
        kept = [handle.cursor, handle.commit, lambda: setattr(handle, "note", "mine")]
        for cursor in self.cursors:
            kept += [functools.partial(cursor.execute, "SELECT 1"), cursor.fetchone]
        return kept


def _twice(handle: Any) -> None:
    """Return it twice, whatever the first time raises."""
    try:
        handle.close()
    finally:
        handle.close()
        handle.invalidate()


RETURNS: dict[str, Callable[[Any], Any]] = {
    "close": lambda handle: handle.close(),
    "close twice": _twice,
    "invalidate": lambda handle: handle.invalidate(),
}


def _steps() -> list[Step]:
    """Every step there is; what should be common comes often."""
    borrows = [("borrow", pool, timeout) for pool in range(POOLS) for timeout in _TIMEOUTS]
    blocks = [
        (kind, pool, 3.0, WORK[fails and 4], 0.05, bool(fails))
        for kind in ("with", "transaction", "run")
        for pool in range(POOLS)
        for fails in (0, 1)
    ]
    uses = [("use", work) for work in WORK]
    holds = [("hold", seconds) for seconds in _HOLDS]
    returns = [("return", how, which) for how in RETURNS for which in (-1, 0)]
    common = [("return", "close", 0), ("pass",), ("take",), ("use", WORK[2]), ("use", WORK[4])]
    rare: list[Step] = [("drop",), ("detach",), ("use stale",), ("drain", 0), ("drain", 1)]
    rare += [("resize", pool, size) for pool in range(2) for size in (1, 2, 3)]
    rare += [("strike", which) for which in range(4)]
    return [*borrows, *borrows, *uses, *common, *common, *common, *returns, *holds, *blocks, *rare]


STEPS = _steps()
ENDS = ("return", "return", "return", "pass", "drop")


class Actor:
    """One thread, and what it holds."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.holds: list[Hold] = []
        self.kept: list[Callable[[], Any]] = []

    def follow(self, program: tuple[Step, ...], end: str) -> None:
        """Every step, whatever becomes of it; in the end nothing is held."""
        stage = self.stage
        me = stage.clock.get_ident()
        for step in program:
            stage.doing[me] = repr(step)
            self._do(step)
            stage.steps += 1
            stage.check_bounds()
        stage.doing[me] = f"its end: {end}"
        while self.holds:
            self._do(("return", "close", -1) if end == "return" else (end,))
        del stage.doing[me]

    def _do(self, step: Step) -> None:
        act = getattr(self, "_" + step[0].replace(" ", "_"))
        try:
            act(*step[1:])
        except AssertionError as exc:
            self.stage.complain(str(exc))
        except BaseException as exc:
            if not self.stage.is_explained(exc):
                self.stage.complain(f"unexpected: {exc!r}")

    # -- borrowing --------------------------------------------------------------------------------

    def _borrow(self, which: int, timeout: float | None) -> None:
        judge = self.stage.open_judge(which)
        if judge is not None and judge.pool is not None:
            pool = judge.pool
            judge.attempt(lambda: self._keep(judge, pool.connection(timeout)), *NOT_LENT)

    def _keep(self, judge: Judge, handle: Any) -> Hold:
        hold = Hold(judge, handle, not self.stage.discreet)
        self.holds.append(hold)
        return hold

    def _with(self, which: int, timeout: float | None, *body: Any) -> None:
        def block(judge: Judge) -> None:
            with judge.pool.connection(timeout) as handle:  # type: ignore[union-attr]
                self._body(judge, handle, *body)

        self._lease(which, block)

    def _transaction(self, which: int, timeout: float | None, *body: Any) -> None:
        def block(judge: Judge) -> None:
            with judge.pool.transaction(timeout=timeout) as handle:  # type: ignore[union-attr]
                self._body(judge, handle, *body)

        self._lease(which, block)

    def _run(self, which: int, timeout: float | None, *body: Any) -> None:
        def block(judge: Judge) -> None:
            tries = itertools.count()

            def once(handle: Any) -> None:
                self._body(judge, handle, *body[:-1], body[-1] and next(tries) < 2, Again)

            judge.pool.run(once, timeout=timeout)  # type: ignore[union-attr]

        self._lease(which, block)

    def _lease(self, which: int, block: Callable[[Judge], None]) -> None:
        judge = self.stage.open_judge(which)
        if judge is not None:
            driver = judge.fake
            judge.attempt(lambda: block(judge), *NOT_LENT, driver.Error, CommitOutcomeUnknown)

    def _body(
        self,
        judge: Judge,
        handle: Any,
        work: str,
        seconds: float,
        fails: bool,
        how: type[BaseException] = Struck,
    ) -> None:
        """What happens within a `with` block, which gives back by itself at its end."""
        hold = self._keep(judge, handle)
        try:
            do(handle, work, hold.cursors)
            self.stage.clock.sleep(seconds)
            if fails:
                raise how
        finally:
            if hold in self.holds:
                self.holds.remove(hold)
            hold.end()

    # -- what is not one's own --------------------------------------------------------------------

    def _drain(self, which: int) -> None:
        judge = self.stage.open_judge(which)
        if judge is not None:
            judge.drain()

    def _resize(self, which: int, size: int) -> None:
        judge = self.stage.open_judge(which)
        if judge is not None:
            judge.resize(size, None)

    def _strike(self, which: int) -> None:
        """Interrupt another: it may have been given something at this very instant."""
        self.stage.interrupt(which)

    # -- use --------------------------------------------------------------------------------------

    def _use(self, work: str) -> None:
        if not self.holds:
            return
        hold = self.holds[-1]
        try:
            do(hold.handle, work, hold.cursors)
        except ConnectionReturned:
            if not hold.over:
                self.stage.complain("what is held is gone")
        except hold.judge.fake.Error:
            pass

    def _hold(self, seconds: float) -> None:
        self.stage.clock.sleep(seconds)

    def _use_stale(self) -> None:
        for act in self.kept:
            try:
                act()
            except FakeDriver.InterfaceError:
                continue
            self.stage.complain("what was given back still works")

    # -- giving back ------------------------------------------------------------------------------

    def _return(self, how: str, which: int) -> None:
        if self.holds:
            self._give_back(self.holds.pop(which), how)

    def _give_back(self, hold: Hold, how: str) -> None:
        mine = hold.end()
        self.kept = hold.stale()
        try:
            RETURNS[how](hold.handle)  # which does nothing if another has begun to
        finally:
            if mine and hold.number in hold.judge.between:
                hold.judge.complain("it was given back, and the pool has done nothing")

    def _pass(self) -> None:
        """Lay the oldest where another may take it."""
        if self.holds:
            hold = self.holds.pop(0)
            if not hold.over:
                hold.judge.handed_to(hold.number, None)
                self.stage.table.append(hold)

    def _take(self) -> None:
        """Take what another has passed on."""
        if self.stage.table:
            hold = self.stage.table.popleft()
            hold.judge.handed_to(hold.number, self.stage.clock.get_ident())
            self.holds.append(hold)

    def _drop(self) -> None:
        """Forget it."""
        if self.holds:
            hold = self.holds.pop()
            if not hold.over:
                hold.over = True
                hold.judge.lose(hold.number)

    def _detach(self) -> None:
        if self.holds:
            hold = self.holds.pop()
            if hold.end():
                hold.judge.detached.append(hold.handle.detach())
                hold.judge.parted(hold.number)


class Stage(Crowd):
    """Pools, servers, and the threads that borrow."""

    def __init__(
        self, pools: list[tuple[str, dict[str, Any]]], shared: bool, discreet: bool
    ) -> None:
        """`pools`: kind and settings of each. `shared`: they have one server. `discreet`: nobody but
        a thread itself can reach what it holds, unless it passes that on; so a deadlock is certain."""
        super().__init__()
        self.discreet = discreet
        self.fakes = [FakeDriver(self.clock) for _ in pools[: 1 if shared else None]]
        self.judges = [self._judge(n, *pool) for n, pool in enumerate(pools)]
        for fake in self.fakes:
            fake.strict = all(j.options["reset"] in ("auto", "always") for j in self.judges)
        self.table: deque[Hold] = deque()
        self.actors: list[Actor] = []  # whose holds others may return
        self.delays: dict[str, float] = {}
        self.steps = 0  # of all threads together

    def _judge(self, number: int, kind: str, options: dict[str, Any]) -> Judge:
        fake = self.fakes[number % len(self.fakes)]
        fake.strict = False
        name = "ABC"[number]
        return Judge(self.clock, fake, kind, options, self.complain, slack=SLACK, name=name)

    def open_judge(self, which: int) -> Judge | None:
        """That of a pool which somebody still has."""
        judge = self.judges[which % len(self.judges)]
        return judge if judge.pool is not None else None

    def is_explained(self, exc: BaseException) -> bool:
        """Whether it comes from what the test has done."""
        return any(judge.is_explained(exc) for judge in self.judges)

    # -- what happens -----------------------------------------------------------------------------

    def act(self, program: tuple[Step, ...], end: str) -> None:
        """A thread begins."""
        actor = Actor(self)
        if not self.discreet:
            self.actors = [one for one in self.actors if one.holds][-20:] + [actor]
        self.start(actor.follow, program, end, name="actor")

    def let(self, what: str, act: Callable[..., Any], *args: Any) -> None:
        """Somebody else does that, in a thread of its own."""
        self.start(self._let, what, act, *args, name=what)

    def _let(self, what: str, act: Callable[..., Any], *args: Any) -> None:
        self.doing[self.clock.get_ident()] = what
        try:
            act(*args)
        except BaseException as exc:
            if not self.is_explained(exc):
                self.complain(f"unexpected: {exc!r}")

    def close_anothers(self, which: int) -> None:
        """A thread returns what another holds, and maybe uses at this moment."""
        holds = [hold for actor in self.actors for hold in actor.holds if not hold.over]
        if holds:
            hold = holds[which % len(holds)]
            hold.judge.shared.add(hold.number)
            self.let("close another's", Actor(self)._give_back, hold, "close")

    def slow(self, operation: str, seconds: float) -> None:
        """From now on that takes so long."""
        self.delays[operation] = seconds
        for fake in self.fakes:
            fake.on(operation, delay=seconds)

    def pass_time(self, seconds: float) -> None:
        """The clock goes on, and with it whatever has a time."""
        self.clock.advance(seconds)
        self.check()

    # -- judgement --------------------------------------------------------------------------------

    def check_bounds(self) -> None:
        """After every step of every thread."""
        for judge in self.judges:
            judge._check_bound()

    def check(self) -> None:
        """When everybody has done what can be done at this instant."""
        self.collect()
        super().check()
        for fake in self.fakes:
            fake.check()
        for judge in self.judges:
            judge.check_always()
            judge.check_at_rest()
        super().check()

    def settle(self) -> None:
        """The servers work, nothing is in the way, and some time passes: the pools must be well."""
        for fake in self.fakes:
            fake.calm()
        self.clock.advance(BACKOFF + 2 * LOOK)
        self.check()
        for judge in self.judges:
            judge.check_well()
        super().check()
        for operation, seconds in self.delays.items():
            self.slow(operation, seconds)

    def end(self, judge: bool) -> None:
        """Close everything; nothing may stay open."""
        try:
            self._end()
            if judge:
                self._check_end()
        finally:
            self.clock.close()

    def _end(self) -> None:
        for fake in self.fakes:
            fake.calm()
        self.delays.clear()
        for one in self.judges:
            self.let("close", one.close, 0)
        self.clock.advance(CUT)
        for _ in range(100):  # what lies on the table may be taken, and laid there again
            if not self.tasks and not self.table:
                break
            while self.table:
                Actor(self)._give_back(self.table.popleft(), "close")
            self.clock.advance(PATIENCE)
            self.collect()
        for one in self.judges:
            for conn in one.detached:
                if not conn.closed:
                    conn.close()

    def _check_end(self) -> None:
        assert not self.tasks, f"somebody still waits: {self.tasks}"
        self.check()
        for one in self.judges:
            one.check_end()
        super().check()
        for fake in self.fakes:
            fake.assert_no_leak()
