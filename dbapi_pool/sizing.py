"""How many connections a workload needs: Little's law, Erlang's formulas, and the deadlock floor.

A leaf of pure arithmetic. It must never know a pool, a server, or how anything looks.

Requests come at random (Poisson), `rate` a second, and each holds a connection for `time` seconds on
average; who finds none stands in line. That is M/M/c if the times are exponential, for which the
formulas are exact (L. Kleinrock, "Queueing Systems", volume 1, 1975, chapter 3). For other times
`variation`, the square of their coefficient of variation (0: all the same, 1: exponential), stretches
the wait by (1 + variation) / 2: the approximation of Allen and Cunneen, which is exact for the mean
with one connection (the formula of Pollaczek and Khinchine).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import floor, inf, isfinite, log

__all__ = [
    "busy",
    "deadlock_floor",
    "erlang_b",
    "erlang_c",
    "mean_wait",
    "smallest_size",
    "smallest_stable_size",
    "wait_quantile",
]


def busy(rate: float, time: float) -> float:
    """Connections in use on average: Little's law (J. D. C. Little, Operations Research 9, 1961)."""
    _check(rate=rate, time=time)
    return rate * time


def smallest_stable_size(load: float) -> int:
    """The fewest connections with which the line does not grow for ever: more than are `busy`."""
    _check(load=load)
    return floor(load) + 1


def deadlock_floor(threads: int, per_task: int) -> int:
    """The fewest connections with which `threads` threads cannot deadlock that hold up to `per_task`
    at once, borrowed one by one: if each holds all but its last, one more is left for somebody."""
    _check_whole(threads=threads, per_task=per_task)
    return threads * (per_task - 1) + 1


def erlang_b(size: int, load: float) -> float:
    """The part of requests that find all connections in use, if who does goes away."""
    _check_whole(size=size)
    _check(load=load)
    return next(islice(_blocked(load), size - 1, None))


def _blocked(load: float) -> Iterator[float]:
    """`erlang_b` for 1, 2, 3, ... connections. All numbers are between 0 and 1, and nothing is
    subtracted, so that it is exact for any size, where factorials and powers overflow."""
    blocked, size = 1.0, 0
    while True:
        size += 1
        blocked = load * blocked / (size + load * blocked)
        yield blocked


def erlang_c(size: int, load: float) -> float:
    """The part of requests that wait. 1.0 if the load is too much: then all do, ever longer."""
    return _waiting(size, load, erlang_b(size, load))


def _waiting(size: int, load: float, blocked: float) -> float:
    return 1.0 if load >= size else size * blocked / (size - load + load * blocked)


def mean_wait(size: int, rate: float, time: float, variation: float = 1.0) -> float:
    """Seconds that a request waits on average, those that do not wait included; `inf` if the load is
    too much."""
    waiting, scale = _wait(size, rate, time, variation)
    return waiting * scale


def wait_quantile(
    size: int, rate: float, time: float, share: float = 0.99, variation: float = 1.0
) -> float:
    """Seconds that a `share` of all requests wait at most; `inf` if the load is too much."""
    _check_share(share)
    waiting, scale = _wait(size, rate, time, variation)
    return _quantile(waiting, scale, share)


def _wait(size: int, rate: float, time: float, variation: float) -> tuple[float, float]:
    """How many wait, and how long those do on average: their waits are exponential."""
    load = busy(rate, time)
    _check_variation(variation)
    return erlang_c(size, load), _scale(size, load, time, variation)


def _scale(size: int, load: float, time: float, variation: float) -> float:
    return inf if load >= size else time / (size - load) * (1 + variation) / 2


def _quantile(waiting: float, scale: float, share: float) -> float:
    longer = 1 - share
    return scale * log(waiting / longer) if waiting > longer else 0.0


def smallest_size(
    rate: float, time: float, wait: float, share: float = 0.99, variation: float = 1.0
) -> int:
    """The fewest connections with which a `share` of all requests wait for `wait` seconds at most."""
    load = busy(rate, time)
    _check(wait=wait)
    _check_share(share)
    _check_variation(variation)
    for size, blocked in enumerate(_blocked(load), 1):
        if size > load:
            waiting, scale = _waiting(size, load, blocked), _scale(size, load, time, variation)
            if _quantile(waiting, scale, share) <= wait:
                return size
    raise AssertionError("the generator has no end")


def _check(**values: float) -> None:
    for name, value in values.items():
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name}={value!r} must be a number above 0")


def _check_whole(**values: int) -> None:
    for name, value in values.items():
        if value < 1 or value != int(value):
            raise ValueError(f"{name}={value!r} must be a whole number, 1 or more")


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"share={share!r} must be 0 or more, and below 1")


def _check_variation(variation: float) -> None:
    if not (isfinite(variation) and variation >= 0):
        raise ValueError(f"variation={variation!r} must be a number, 0 or more")
