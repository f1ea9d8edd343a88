"""The machine that chooses the order of threads finds what it is for, and repeats what it found."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator

import interleave
import points
import pytest
from machine import Machine, Wrong


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        value = self.value
        self.value = value + 1


class Stack:
    def __init__(self) -> None:
        self.things = deque(["one"])
        self.taken: list[str] = []

    def take(self) -> None:
        if self.things:
            self.taken.append(self.things.pop())


@pytest.fixture(scope="module", autouse=True)
def _explored() -> Iterator[None]:
    module = inspect.getmodule(Counter)
    assert module is not None
    with points.tracing([module]):
        yield


def add_twice(machine: Machine) -> None:
    counter = Counter()
    machine.together({"A": counter.add, "B": counter.add})
    assert counter.value == 2, counter.value


def take_twice(machine: Machine) -> None:
    stack = Stack()
    machine.together({"A": stack.take, "B": stack.take})
    assert stack.taken == ["one"]


def add_under_a_lock(machine: Machine) -> None:
    counter, lock = Counter(), machine.lock()

    def add() -> None:
        with lock:
            counter.add()

    machine.together({"A": add, "B": add, "C": add})
    assert counter.value == 3


def embrace(machine: Machine) -> None:
    first, second = machine.lock(), machine.lock()

    def take(one: object, other: object) -> None:
        with one, other:  # type: ignore[attr-defined]
            pass

    machine.together({"A": lambda: take(first, second), "B": lambda: take(second, first)})


def wait_for_a_signal(machine: Machine) -> list[bool]:
    signal, came = machine.signal(), []
    machine.together({"A": lambda: came.append(signal.wait(5.0)), "B": signal.set})
    return came


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (add_twice, "AssertionError: 1"),
        (take_twice, "pop from an empty deque"),
        (embrace, "nobody can ever go on: judge, A, B"),
    ],
)
def test_one_preemption_shows_it_and_the_printed_schedule_repeats_it(
    body: interleave.Body, says: str
) -> None:
    assert interleave.explore(body, bound=0).wrong is None

    found = interleave.explore(body, bound=1)

    assert says in str(found.wrong)
    assert f"schedule: {found.schedule}" in str(found.wrong)
    with pytest.raises(Wrong) as again:
        interleave.run(body, found.schedule)
    assert says in str(again.value)
    assert _order(again.value) == _order(found.wrong)


def _order(wrong: Wrong | None) -> list[str]:
    """Who went on where, and the schedule: the end of the message."""
    lines = str(wrong).splitlines()
    return [line for line in lines if line.endswith("goes on") or line.startswith("schedule")]


def test_random_orders_show_it_too() -> None:
    found = interleave.explore(add_twice, bound=0, random_runs=200)

    assert "AssertionError: 1" in str(found.wrong)
    with pytest.raises(Wrong):
        interleave.run(add_twice, found.schedule)


def test_what_is_right_is_run_in_every_order_within_the_bound() -> None:
    counts = [interleave.explore(add_under_a_lock, bound) for bound in (0, 1, 2)]

    assert [found.wrong for found in counts] == [None, None, None]
    assert all(found.exhausted for found in counts)
    assert counts[0].runs == 6  # three threads, one after the other
    assert counts[0].runs < counts[1].runs < counts[2].runs


def test_a_deadline_comes_early_only_where_it_may() -> None:
    seen: set[bool] = set()

    def body(machine: Machine) -> None:
        seen.update(wait_for_a_signal(machine))

    assert interleave.explore(body, bound=2).exhausted
    assert seen == {True}
    assert interleave.explore(body, bound=2, early=frozenset({"A"})).exhausted
    assert seen == {True, False}


def test_a_wait_that_only_the_clock_ends_is_known() -> None:
    def body(machine: Machine) -> None:
        machine.together({"A": lambda: machine.signal().wait(5.0)})
        assert machine.saved == ["A"]
        assert machine.monotonic() == 1005.0

    assert interleave.explore(body, bound=1).wrong is None


def test_an_endless_thread_is_noticed() -> None:
    def body(machine: Machine) -> None:
        counter = Counter()

        def spin() -> None:
            while True:
                counter.add()

        machine.together({"A": spin})

    assert "this never ends" in str(interleave.explore(body, bound=0).wrong)
