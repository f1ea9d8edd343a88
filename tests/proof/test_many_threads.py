"""Threads that live on, several at once, over one, two or three pools: every pool keeps its promises.

The state machine of `test_state_machine.py`, widened: the steps are done by threads under the virtual
clock, each with a program, and any call into the driver may take time, so that what they do overlaps.
The threads are `support/actors.py`, the model and the judge `support/judge.py`.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from typing import Any

import pytest
from actors import ENDS, STEPS, Stage, Step
from evidence import DEEP, depth, record
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from machines import examples, run, search
from planted import BUGS, planted
from troubles import (
    FAILING,
    HANGING,
    HANGING_AT_CHECKIN,
    LOCAL,
    REMOTE,
    UNKNOWN,
    WHICH,
    Alien,
    Failed,
    Lost,
    Planted,
    Refused,
    Struck,
    pool_settings,
)

EXAMPLES = examples(depth(50, 4000))
STEPS_MOST = 16
CROWDED = 10  # threads

FIND_WITHIN = 1000  # examples; most bugs are found within 30
QUICK = (
    "a shrunk pool takes back all",
    "no rollback on return",
    "two pools share one ledger's idle members",
)

done: Counter[str] = Counter()  # examples, and steps of threads in them

# Not fetch: the pool does not see it, so nobody may return a connection on which another fetches.
SLOW = ("connect", "close", "rollback", "reset", "ping", "execute", "commit", "begin")
# A local driver's calls are quick: a few of these must fit into `actors.SLACK`.
DELAYS = (0.1, 0.01, 0.3, 0.0)
PACES = (0.05, 0.0, 0.3)  # seconds from step to step
SPANS = (0.02, 0.3, 1.0, 5.0, 40.0)

programs = st.lists(st.sampled_from(STEPS), min_size=2, max_size=9).map(tuple)
kinds = st.sampled_from((REMOTE, LOCAL, REMOTE, LOCAL, UNKNOWN))
# Each connection is pinged for whoever is given it: several waiters are served in vain at once.
pinging = pool_settings(sizes=(2, 3)).map(
    lambda options: options | {"ping_after": 0, "max_waiting": None, "checkout_timeout": None}
)
pools = st.one_of(
    st.tuples(kinds, pool_settings(sizes=(1, 1, 2, 2, 3))),
    st.tuples(st.just(REMOTE), pinging),
)

not_crowded = precondition(lambda self: len(self.stage.tasks) < CROWDED)


class ManyThreads(RuleBasedStateMachine):
    """Threads begin, are struck, and go on while servers fail and pools are closed, drained, resized
    and forgotten."""

    @initialize(
        pools=st.lists(pools, min_size=1, max_size=3),
        shared=st.booleans(),
        discreet=st.booleans(),
        slow=st.tuples(*[st.sampled_from(DELAYS)] * len(SLOW)),
        pace=st.sampled_from(PACES),
        first=st.lists(programs, min_size=2, max_size=4),
    )
    def open(
        self,
        pools: list[tuple[str, dict[str, Any]]],
        shared: bool,
        discreet: bool,
        slow: tuple[float, ...],
        pace: float,
        first: list[tuple[Step, ...]],
    ) -> None:
        self.stage = Stage(pools, shared, discreet)
        self.pace = pace
        self.steps = 0
        for operation, seconds in zip(SLOW, slow, strict=True):
            self.stage.slow(operation, seconds)
        for program in first:
            self.stage.act(program, ENDS[0])

    @invariant()
    def the_promises_hold(self) -> None:
        self.steps += 1
        self.stage.pass_time(self.pace)

    def teardown(self) -> None:
        stage = getattr(self, "stage", None)
        if stage is not None:
            done["examples"] += 1
            done["steps"] += stage.steps
            stage.end(judge=sys.exc_info()[0] is None)

    # -- threads ----------------------------------------------------------------------------------

    @not_crowded
    @rule(several=st.lists(programs, min_size=1, max_size=3), end=st.sampled_from(ENDS))
    def threads_begin(self, several: list[tuple[Step, ...]], end: str) -> None:
        for program in several:
            self.stage.act(program, end)

    @rule(which=WHICH)
    def one_is_interrupted(self, which: int) -> None:
        self.stage.interrupt(which)

    @not_crowded
    @rule(which=WHICH)
    def one_returns_what_another_holds(self, which: int) -> None:
        self.stage.close_anothers(which)

    @rule(seconds=st.sampled_from(SPANS))
    def time_passes(self, seconds: float) -> None:
        self.stage.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        self.stage.settle()

    # -- the servers, and the drivers -------------------------------------------------------------

    @rule(operation=st.sampled_from(SLOW), seconds=st.sampled_from(DELAYS))
    def slow(self, operation: str, seconds: float) -> None:
        self.stage.slow(operation, seconds)

    @rule(
        which=WHICH,
        operation=st.sampled_from(FAILING),
        error=st.sampled_from((Failed, Refused, Lost, Alien, Struck)),
        after=st.booleans(),
    )
    def fail(self, which: int, operation: str, error: type[Planted], after: bool) -> None:
        fake = self.stage.fakes[which % len(self.stage.fakes)]
        fake.on(operation, error=error, after=after and operation != "connect", times=1)

    @rule(which=WHICH, operation=st.sampled_from(HANGING + HANGING_AT_CHECKIN))
    def hang_or_give_nothing(self, which: int, operation: str) -> None:
        fake = self.stage.fakes[which % len(self.stage.fakes)]
        if all(judge.kind == REMOTE for judge in self.stage.judges if judge.fake is fake):
            fake.on(operation, hang=True, times=1)
        else:
            fake.on("connect", returns=None, times=1)

    @rule(which=WHICH, what=st.sampled_from(("down", "up", "restart", "kill")))
    def a_server_changes(self, which: int, what: str) -> None:
        fake = self.stage.fakes[which % len(self.stage.fakes)]
        connections = fake.connections
        if what == "restart":
            fake.kill_all()
        elif what == "kill" and connections:
            fake.kill(connections[which % len(connections)])
        else:
            fake.down = what == "down"
            for judge in self.stage.judges:
                judge.refused |= fake.down and judge.fake is fake

    # -- the pools' lives -------------------------------------------------------------------------

    @not_crowded
    @rule(
        which=WHICH,
        what=st.sampled_from(("drain", "resize", "warm up", "suspend", "resume", "resume")),
        count=st.integers(1, 4),
        least=st.none() | st.integers(0, 2),
    )
    def change(self, which: int, what: str, count: int, least: int | None) -> None:
        judge = self.stage.open_judge(which)
        if judge is None or judge.closed:
            return
        acts = {
            "drain": judge.drain,
            "resize": functools.partial(judge.resize, count, least),
            "warm up": functools.partial(judge.warm_up, count, float(least or 0)),
            "suspend": functools.partial(judge.open_gate, False),
            "resume": functools.partial(judge.open_gate, True),
        }
        self.stage.let(what, acts[what])

    @precondition(lambda self: self.steps > STEPS_MOST / 2)
    @rule(which=WHICH, timeout=st.sampled_from((0, 5.0)), drop=st.booleans())
    def close_or_forget(self, which: int, timeout: float, drop: bool) -> None:
        judge = self.stage.open_judge(which)
        # The last pool is left to the others, or nothing happens any more.
        if judge is None or judge is self.stage.judges[0]:
            return
        if drop:
            judge.drop()
        else:
            self.stage.let("close", judge.close, timeout)


def test_whatever_threads_do_at_once_every_pool_keeps_its_promises() -> None:
    before = done.copy()
    run(ManyThreads, EXAMPLES, STEPS_MOST)
    seen = done - before
    record("state machine", "threads and pools", examples=seen["examples"], steps=seen["steps"])


@pytest.mark.parametrize("bug", sorted(BUGS) if DEEP else QUICK)
def test_a_planted_bug_is_found(bug: str) -> None:
    before = done.copy()
    with planted(bug):
        found = search(ManyThreads, FIND_WITHIN, STEPS_MOST)
    seen = done - before
    assert found is not None, f"not found in {seen['examples']} examples"
    record("state machine, planted", bug, examples=seen["examples"])
