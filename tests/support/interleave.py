"""Runs a body in every order of its threads with few preemptions, or in random ones.

The order of a failure is printed, and `run` repeats it. The threads are those of a `Machine`, which a
body is given. This module must never know what a pool is.
"""

from __future__ import annotations

import gc
import itertools
import random
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from machine import Machine, Wrong

Deviation = tuple[int, int]
"""At which decision what was chosen, if it was not the plain choice (0)."""

_costs: dict[tuple[int, ...], int] = {}  # each kind of branch gets a number, to save memory
_KINDS = 1024


class Plan:
    """Which choices a run makes: the plain ones but for some deviations.

    `budget`: what later deviations may cost, and so which alternatives are noted on the way. With
    `dice` it deviates by itself, every `gap` steps or so.
    """

    def __init__(
        self,
        deviations: tuple[Deviation, ...] = (),
        budget: int = 0,
        dice: random.Random | None = None,
        gap: float = 1.0,
    ) -> None:
        self.deviations = dict(deviations)
        self.step = 0
        self.branches = array("L")  # where it could have deviated: step * _KINDS + kind
        self.taken: list[Deviation] = []
        self.trail: list[str] = []
        self._last = deviations[-1][0] if deviations else 0
        self._ahead = [step for step, _ in reversed(deviations)]
        self._budget = budget
        self._dice = dice
        self._gap = gap
        self.look_at = 0.0  # until that step, points need not be looked at
        self._look_ahead()

    def choose(self, costs: tuple[int, ...]) -> int:
        step = self.step
        choice = self.deviations.get(step, 0)
        if self._dice is not None:
            choice = self._throw(self._dice, costs)
        elif step > self._last and min(costs[1:]) <= self._budget:
            self.branches.append(step * _KINDS + _costs.setdefault(costs, len(_costs)))
        if choice:
            self.taken.append((step, choice))
        self._look_ahead()
        return choice

    def _throw(self, dice: random.Random, costs: tuple[int, ...]) -> int:
        if costs[1] == 0 or self.step >= self.look_at:
            return dice.randrange(len(costs))
        return 0

    def _look_ahead(self) -> None:
        """At which step it may do something else next, if all can go on there."""
        while self._ahead and self._ahead[-1] <= self.step:
            self._ahead.pop()
        if self._dice is not None:
            if self.step >= self.look_at:
                self.look_at = self.step + 1 + self._dice.expovariate(1.0 / self._gap)
        elif self._ahead:
            self.look_at = self._ahead[-1]
        else:
            self.look_at = 0.0 if self._budget else float("inf")

    def __str__(self) -> str:
        return " ".join(f"{step}.{choice}" for step, choice in self.taken)


def parse(text: str) -> tuple[Deviation, ...]:
    """The deviations of a printed schedule."""
    pairs = (word.split(".") for word in text.split())
    return tuple((int(step), int(choice)) for step, choice in pairs)


Body = Callable[[Machine], object]


@dataclass(slots=True)
class Findings:
    """What an exploration has seen."""

    runs: int = 0
    exhausted: bool = False  # every schedule within the bound was run
    deviations: int = 0  # every schedule within the bound was run that deviates so often
    longest: int = 0  # points in one run
    wrong: Wrong | None = None
    schedule: str = ""
    seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)


def run(body: Body, schedule: str = "", early: frozenset[str] = frozenset()) -> None:
    """Run `body` under one schedule, as it was printed. Raises `Wrong`."""
    _run(body, Plan(parse(schedule)), early)


def _run(body: Body, plan: Plan, early: frozenset[str]) -> None:
    machine = Machine(plan, early)
    machine.run(lambda: body(machine))


def explore(
    body: Body,
    bound: int,
    early: frozenset[str] = frozenset(),
    most: int = 1_000_000,
    random_runs: int = 0,
) -> Findings:
    """Run `body` under every schedule with at most `bound` preemptions (a deadline that comes early is
    one, too; who goes on where one stops is free), those first that deviate less often from the plain
    order, `most` of them; then under `random_runs` random ones. Ends at the first that is wrong."""
    findings = Findings()
    plans = itertools.chain(_all(findings, bound, most), _random(findings, random_runs))
    gc.disable()  # what runs in finalizers shall run by count of references only
    try:
        with suppress(Wrong):
            _run(body, Plan(), early)  # what is cached for good is in its place from now on
        for plan in plans:
            findings.runs += 1
            _try(body, plan, early, findings)
            if findings.wrong is not None:
                break
            if findings.runs % 500 == 0:
                gc.collect()
    finally:
        gc.enable()
    findings.seconds = time.perf_counter() - findings._started
    return findings


def _try(body: Body, plan: Plan, early: frozenset[str], findings: Findings) -> None:
    try:
        _run(body, plan, early)
    except Wrong as exc:
        findings.wrong, findings.schedule = exc, str(plan)
    findings.longest = max(findings.longest, plan.step)


def _all(findings: Findings, bound: int, most: int) -> Iterator[Plan]:
    """Each plan is looked at again when it has been run: where it could deviate is known then."""
    level: Iterator[tuple[tuple[Deviation, ...], int]] = iter([((), bound)])
    while True:
        run: list[tuple[Plan, tuple[Deviation, ...], int]] = []
        for deviations, budget in level:
            if findings.runs >= most:
                return
            plan = Plan(deviations, budget)
            yield plan
            if plan.branches:
                run.append((plan, deviations, budget))
        if not run:
            findings.exhausted = True
            return
        findings.deviations += 1
        level = _further(run)


def _further(
    run: list[tuple[Plan, tuple[Deviation, ...], int]],
) -> Iterator[tuple[tuple[Deviation, ...], int]]:
    """The plans that deviate once more, later, as far as their budgets allow."""
    kinds = list(_costs)
    for plan, deviations, budget in run:
        for branch in plan.branches:
            step, kind = divmod(branch, _KINDS)
            for choice, cost in enumerate(kinds[kind]):
                if choice and cost <= budget:
                    yield (*deviations, (step, choice)), budget - cost


def _random(findings: Findings, runs: int) -> Iterator[Plan]:
    for seed in range(runs):
        dice = random.Random(seed)
        # Few preemptions, wherever: most bugs need no more than three.
        gap = max(findings.longest, 1) / dice.choice((1, 2, 3, 5))
        yield Plan(dice=dice, gap=gap)
