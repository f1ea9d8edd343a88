"""All ways by turns, and what came of them: medians, the ratio to no pool, the size to take.

Must never know options, or how anything looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ..access import Access
from .rounds import Hung, Round, run_round
from .ways import Way

ROUNDS = 5
GOOD = 0.95
"""A size with so much of the best throughput is as good as the best."""
GAIN = 1.05
"""A ratio to no pool from which on a pool is worth a word."""
STEADY = 0.15
"""A spread from which on it is said that much of the differences may be chance."""

Progress = Callable[[int, int], object]


class Failed(Exception):
    """A way that does not work at all; the text is for people, and holds no password."""


@dataclass(frozen=True)
class Result:
    """What one way came to, over all rounds."""

    way: Way
    rounds: Sequence[Round]
    connects: int
    ratio: float
    """Requests per second, of no pool's: the median over rounds."""

    @property
    def rate(self) -> float:
        """Requests per second: the median over rounds, as the others."""
        return median(one.rate for one in self.rounds)

    @property
    def spread(self) -> float:
        """By which part the rounds' requests per second differ, the best and the worst left out."""
        rates = sorted(one.rate for one in self.rounds)
        within = rates[1:-1] or rates
        return (within[-1] - within[0]) / self.rate

    @property
    def p50(self) -> float:
        """Seconds of a request."""
        return median(one.quantile(0.5) for one in self.rounds)

    @property
    def p99(self) -> float:
        """Seconds of a request that one in 100 takes longer than."""
        return median(one.quantile(0.99) for one in self.rounds)

    @property
    def cpu(self) -> float:
        """Seconds of this process' processors for a request."""
        return median(one.cpu for one in self.rounds)

    @property
    def requests(self) -> int:
        """That succeeded."""
        return sum(len(one.taken) for one in self.rounds)

    @property
    def errors(self) -> int:
        """Requests that failed."""
        return sum(one.errors for one in self.rounds)

    @property
    def error(self) -> Exception | None:
        """What the first of them raised."""
        return next((one.error for one in self.rounds if one.error is not None), None)


@dataclass(frozen=True)
class Comparison:
    """No pool first, then the sizes from small to large."""

    results: Sequence[Result]

    @property
    def without(self) -> Result:
        """No pool."""
        return self.results[0]

    @property
    def best(self) -> Result:
        """The pool with the most requests per second."""
        return max(self.results[1:], key=lambda one: one.rate)

    @property
    def recommended(self) -> Result:
        """The smallest pool that is as good as the best."""
        return next(one for one in self.results[1:] if one.rate >= GOOD * self.best.rate)

    @property
    def spread(self) -> float:
        """By which part the rounds of a pool differ, typically: what may be chance."""
        return median(one.spread for one in self.results[1:])

    @property
    def ok(self) -> bool:
        """Whether no request failed."""
        return not any(one.errors for one in self.results)


def compare(
    access: Access, sql: str, sizes: Sequence[int], threads: int, seconds: float, progress: Progress
) -> Comparison:
    """`seconds`: for each way, over all rounds. A round of each, then the next of each, so that a
    machine that is busy for a while is so for all; and each time another one begins.

    Raises `Hung`, and `Failed` where no request of a round succeeded."""
    ways = [Way(0), *map(Way, sorted(sizes))]
    done: dict[Way, list[Round]] = {way: [] for way in ways}
    connects = dict.fromkeys(ways, 0)
    for number in range(ROUNDS):
        shift = number % len(ways)
        for way in ways[shift:] + ways[:shift]:
            measured, opened = _round(access, way, sql, threads, seconds / ROUNDS)
            done[way].append(measured)
            connects[way] += opened
            progress(sum(map(len, done.values())), ROUNDS * len(ways))
    return Comparison([_result(way, done, connects[way]) for way in ways])


def _round(access: Access, way: Way, sql: str, threads: int, seconds: float) -> tuple[Round, int]:
    """And the connections that it opened."""
    try:
        with way.running(access, sql) as running:
            return run_round(running.request, threads, seconds), running.opened()
    except Hung as exc:
        raise Hung(f"{way.name}: {exc}") from exc
    except Exception as exc:
        raise Failed(f"{way.name}: {access.complaint(exc)}") from exc


def _result(way: Way, done: dict[Way, list[Round]], connects: int) -> Result:
    pairs = zip(done[way], done[Way(0)], strict=True)
    return Result(way, done[way], connects, median(one.rate / other.rate for one, other in pairs))
