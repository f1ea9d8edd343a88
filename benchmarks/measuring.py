"""How it is measured: rounds by turns, medians, ratios within one run; and what a measure is.

Must never know a pool by name.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .adapters import ALL, Adapter

Row = dict[str, Any]
Loop = Callable[[int], None]


@dataclass
class Result:
    """What one measure found: rows of figures, and who is not among them and why."""

    name: str
    title: str
    text: str
    rows: list[Row]
    skipped: dict[str, str]
    seconds: float

    def row(self, **wanted: Any) -> Row | None:
        """The first row with these values."""
        rows = (r for r in self.rows if all(r.get(k) == v for k, v in wanted.items()))
        return next(rows, None)


@dataclass
class Run:
    """One run of the program: how long it may take and which pools take part."""

    depth: str = "full"
    """`"full"`, `"quick"`, or `"tiny"`, which measures nothing worth reading."""
    pools: Sequence[str] = ()
    """Parts of names; empty: all."""
    skipped: dict[str, str] = field(default_factory=dict)

    def scale(self, full: Any, quick: Any, tiny: Any) -> Any:
        """A size or a time for this depth."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.depth]

    def kinds(
        self, driver: str = "fake", wanted: Callable[[type[Adapter]], bool] = lambda kind: True
    ) -> list[type[Adapter]]:
        """The pools that can take part; those that are not installed are noted as skipped."""
        chosen = []
        for kind in ALL:
            named = not self.pools or any(part.lower() in kind.name.lower() for part in self.pools)
            if not (named and kind.takes(driver) and wanted(kind)):
                continue
            reason = kind.missing()
            if reason:
                self.skipped[kind.name] = reason
            else:
                chosen.append(kind)
        return chosen


@dataclass(frozen=True)
class Measure:
    """A thing that is measured. The function's docstring says what, in what unit, and what is
    ideal.
    """

    name: str
    title: str
    function: Callable[[Run], list[Row]]

    def run(self, run: Run) -> Result:
        """Measure it."""
        run.skipped = {}
        begin = time.monotonic()
        rows = self.function(run)
        text = inspect.cleandoc(self.function.__doc__ or "")
        took = time.monotonic() - begin
        return Result(self.name, self.title, text, rows, run.skipped, took)


MEASURES: dict[str, Measure] = {}
"""By name, in the order in which they are run and shown."""


def measure(name: str, title: str) -> Callable[[Callable[[Run], list[Row]]], Measure]:
    """Make a measure of a function."""

    def register(function: Callable[[Run], list[Row]]) -> Measure:
        made = MEASURES[name] = Measure(name, title, function)
        return made

    return register


# -- CPU time of loops -------------------------------------------------------------------------------


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """The garbage collector runs before, not within: it would charge one pool for another's
    garbage.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cpu_ns(loop: Loop, n: int) -> float:
    """Nanoseconds of this thread's CPU time per step of a loop."""
    begin = time.thread_time_ns()
    loop(n)
    return (time.thread_time_ns() - begin) / n


def by_turns(
    loops: Mapping[str, Loop], rounds: int, target_ns: float = 1e7
) -> dict[str, list[float]]:
    """CPU nanoseconds per step of each loop, in `rounds` rounds in which each has its turn.

    Each turn takes about `target_ns`. Turns lie close together, so that what else the machine does
    concerns all alike.
    """
    steps = {}
    for name, loop in loops.items():
        loop(20)  # specialised, cached, opened
        steps[name] = max(20, min(100_000, int(target_ns / max(cpu_ns(loop, 50), 1.0))))
    times: dict[str, list[float]] = {name: [] for name in loops}
    with no_collector():
        for _ in range(rounds):
            for name, loop in loops.items():
                times[name].append(cpu_ns(loop, steps[name]))
            gc.collect()
    return times


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def added(times: Sequence[float], floor: Sequence[float]) -> float:
    """Median of what is above the floor, round by round."""
    return median(a - b for a, b in zip(times, floor, strict=True))


# -- threads ---------------------------------------------------------------------------------------


def at_once(count: int, work: Callable[[int], None], patience: float = 120.0) -> float:
    """Run `work(number)` in so many threads that begin together; seconds until all were done.

    Raises what the first failing one raised, and `TimeoutError` if they do not end.
    """
    gate = threading.Barrier(count + 1)
    failures: list[BaseException] = []

    def body(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join(max(0.0, patience - (time.perf_counter() - begin)))
        if thread.is_alive():
            raise TimeoutError(f"threads still run after {patience} s")
    took = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return took
