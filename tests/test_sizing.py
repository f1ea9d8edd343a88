"""The arithmetic of sizes: against closed forms, published tables, exact fractions, and a queue."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import factorial, inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbapi_pool import sizing

sizes = st.integers(1, 400)
loads = st.floats(0.001, 500, allow_nan=False)
times = st.floats(1e-4, 1e3)
shares = st.floats(0.0, 0.9999)


def exact_b(size: int, load: Fraction) -> Fraction:
    """Erlang's B by its definition."""
    terms = [load**k / factorial(k) for k in range(size + 1)]
    return terms[-1] / sum(terms)


def exact_c(size: int, load: Fraction) -> Fraction:
    """Erlang's C by its definition."""
    last = load**size / factorial(size) * size / (size - load)
    return last / (sum(load**k / factorial(k) for k in range(size)) + last)


# -- Erlang's formulas ----------------------------------------------------------------------------


@settings(deadline=None)
@given(size=sizes, load=st.fractions(Fraction(1, 1000), 500, max_denominator=1000))
def test_erlang_b_is_the_definition_s(size: int, load: Fraction) -> None:
    assert sizing.erlang_b(size, float(load)) == pytest.approx(float(exact_b(size, load)), 1e-9)


@settings(deadline=None)
@given(size=sizes, part=st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=100))
def test_erlang_c_is_the_definition_s(size: int, part: Fraction) -> None:
    load = part * size

    assert sizing.erlang_c(size, float(load)) == pytest.approx(float(exact_c(size, load)), 1e-9)


# The traffic that as many servers carry with one call in a hundred lost, as in every table of B.
@pytest.mark.parametrize(
    ("size", "load"),
    [(1, 0.0101), (2, 0.1526), (5, 1.361), (10, 4.461), (20, 12.03), (50, 37.90), (100, 84.06)],
)
def test_erlang_b_is_that_of_the_tables(size: int, load: float) -> None:
    assert sizing.erlang_b(size, load) == pytest.approx(0.01, rel=3e-3)


@pytest.mark.parametrize(
    ("size", "load", "waiting"),
    [
        (1, 0.5, 1 / 2),
        (2, 1.0, 1 / 3),
        (3, 2.0, 4 / 9),
        (4, 3.0, 27 / 53),
        (10, 6.0, 0.1013),
        (12, 10.0, 0.4494),
    ],
)
def test_erlang_c_is_that_of_the_tables(size: int, load: float, waiting: float) -> None:
    assert sizing.erlang_c(size, load) == pytest.approx(waiting, abs=1e-4)


@settings(deadline=None)
@given(size=sizes, load=loads)
def test_more_connections_never_make_more_wait_and_more_load_never_fewer(
    size: int, load: float
) -> None:
    here = sizing.erlang_c(size, load)

    assert 0.0 <= here <= 1.0
    assert sizing.erlang_b(size, load) <= here
    assert sizing.erlang_c(size + 1, load) <= here
    assert sizing.erlang_c(size, load * 1.01) >= here * (1 - 1e-12)


@pytest.mark.parametrize("size", [500, 2_000, 20_000])
def test_hundreds_and_thousands_of_connections_overflow_nothing(size: int) -> None:
    load = size - math.sqrt(size)

    # S. Halfin and W. Whitt, Operations Research 29, 1981: this tends to 0.2234 at beta = 1.
    assert sizing.erlang_c(size, load) == pytest.approx(0.2234, abs=0.005)
    assert sizing.smallest_size(load, 1.0, 0.001) > size
    assert sizing.erlang_c(size, 1e-9) == 0.0


# -- waits ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(part=st.floats(0.01, 0.99), time=times, share=shares)
def test_one_connection_is_the_closed_form_of_m_m_1(part: float, time: float, share: float) -> None:
    rate = part / time

    assert sizing.mean_wait(1, rate, time) == pytest.approx(part * time / (1 - part))
    longest = max(0.0, math.log(part / (1 - share)) * time / (1 - part))
    assert sizing.wait_quantile(1, rate, time, share) == pytest.approx(longest, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(part=st.floats(0.01, 0.99), time=times, variation=st.floats(0.0, 20.0))
def test_one_connection_waits_as_pollaczek_and_khinchine_say(
    part: float, time: float, variation: float
) -> None:
    expected = part * time * (1 + variation) / (2 * (1 - part))

    assert sizing.mean_wait(1, part / time, time, variation) == pytest.approx(expected)


@settings(deadline=None)
@given(size=sizes, load=loads, time=times, share=shares)
def test_whoever_has_more_connections_waits_no_longer(
    size: int, load: float, time: float, share: float
) -> None:
    rate = load / time
    waits = [sizing.wait_quantile(c, rate, time, share) for c in (size, size + 1)]
    means = [sizing.mean_wait(c, rate, time) for c in (size, size + 1)]

    for fewer, more in (*pairwise(waits), *pairwise(means)):
        assert more <= fewer * (1 + 1e-9)
    assert (means[0] == inf) == (sizing.busy(rate, time) >= size)


@settings(deadline=None)
@given(size=st.integers(1, 100), part=st.floats(0.05, 0.95), time=times, share=shares)
def test_the_quantile_is_where_the_distribution_s_tail_is_what_is_left(
    size: int, part: float, time: float, share: float
) -> None:
    """The tail of M/M/c: P(W > t) = C * exp(-(size - load) * t / time)."""
    load = part * size
    longest = sizing.wait_quantile(size, load / time, time, share)

    tail = sizing.erlang_c(size, load) * math.exp(-(size - load) * longest / time)
    if longest:
        assert tail == pytest.approx(1 - share, rel=1e-6)
    else:
        assert tail <= 1 - share


@settings(deadline=None)
@given(load=st.floats(0.01, 60), time=times, wish=st.floats(0.01, 10), variation=st.floats(0, 4))
def test_the_smallest_size_keeps_the_wish_and_one_fewer_does_not(
    load: float, time: float, wish: float, variation: float
) -> None:
    rate, wait = load / time, wish * time

    size = sizing.smallest_size(rate, time, wait, variation=variation)

    assert sizing.wait_quantile(size, rate, time, variation=variation) <= wait
    assert size >= sizing.smallest_stable_size(sizing.busy(rate, time))
    if size > 1:
        assert sizing.wait_quantile(size - 1, rate, time, variation=variation) > wait


def test_a_load_that_is_a_whole_number_needs_one_connection_more() -> None:
    assert [sizing.smallest_stable_size(load) for load in (0.1, 3.9, 4.0, 4.1)] == [1, 4, 5, 5]
    assert sizing.mean_wait(4, 200, 0.02) == sizing.wait_quantile(4, 200, 0.02) == inf


@settings(deadline=None)
@given(threads=st.integers(1, 60), per_task=st.integers(1, 6))
def test_the_deadlock_floor_is_the_fewest_that_cannot_all_be_stuck(
    threads: int, per_task: int
) -> None:
    floor = sizing.deadlock_floor(threads, per_task)

    worst = threads * (per_task - 1)  # each holds all but its last
    assert floor - worst == 1
    assert floor <= threads * per_task


# -- a queue --------------------------------------------------------------------------------------


def waits_of(
    size: int, rate: float, times: Callable[[], float], chance: Any, n: int
) -> list[float]:
    """First come, first served, by the recursion of Kiefer and Wolfowitz."""
    free, now, waits = [0.0] * size, 0.0, []
    for _ in range(n):
        now += chance.expovariate(rate)
        start = max(now, free[0])
        heapq.heapreplace(free, start + times())
        waits.append(start - now)
    return waits


@pytest.mark.parametrize(("size", "load"), [(1, 0.6), (3, 2.1), (8, 6.8), (30, 26.0)])
def test_a_simulated_queue_waits_as_long_as_the_formula_says(size: int, load: float) -> None:
    """Within five standard errors, from the means of runs that know nothing of each other."""
    means, longest = [], []
    for seed in range(30):
        chance = random.Random(seed)
        waits = waits_of(size, load, lambda c=chance: c.expovariate(1.0), chance, 12_000)[2_000:]
        means.append(statistics.fmean(waits))
        longest.append(sorted(waits)[int(0.99 * len(waits))])

    for found, expected in (
        (means, sizing.mean_wait(size, load, 1.0)),
        (longest, sizing.wait_quantile(size, load, 1.0)),
    ):
        error = statistics.stdev(found) / math.sqrt(len(found))
        assert abs(statistics.fmean(found) - expected) < 5 * error
        assert error < 0.1 * expected  # or the test would say nothing


def test_times_that_are_all_the_same_wait_half_as_long() -> None:
    chance = random.Random(7)
    waits = waits_of(1, 0.8, lambda: 1.0, chance, 200_000)[5_000:]

    assert statistics.fmean(waits) == pytest.approx(
        sizing.mean_wait(1, 0.8, 1.0, variation=0.0), rel=0.05
    )


@settings(deadline=None)
@given(rate=st.floats(0.1, 1e4), time=st.floats(1e-4, 10))
def test_littles_law(rate: float, time: float) -> None:
    assert sizing.busy(rate, time) == pytest.approx(rate * time)


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sizing.busy(0, 1), "rate=0 must be a number above 0"),
        (lambda: sizing.busy(1, -0.5), "time=-0.5 must be"),
        (lambda: sizing.busy(math.nan, 1), "rate=nan must be"),
        (lambda: sizing.busy(math.inf, 1), "rate=inf must be"),
        (lambda: sizing.erlang_b(0, 1), "size=0 must be a whole number, 1 or more"),
        (lambda: sizing.erlang_c(2.5, 1), "size=2.5 must be"),  # type: ignore[arg-type]
        (lambda: sizing.smallest_size(1, 1, 0), "wait=0 must be"),
        (lambda: sizing.wait_quantile(1, 1, 0.5, share=1.0), "share=1.0 must be 0 or more"),
        (lambda: sizing.mean_wait(1, 1, 0.5, variation=-1), "variation=-1 must be"),
        (lambda: sizing.deadlock_floor(0, 1), "threads=0 must be"),
        (lambda: sizing.deadlock_floor(1, 0), "per_task=0 must be"),
    ],
)
def test_bad_input_is_refused_with_its_name(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace(".", r"\.")):
        call()
