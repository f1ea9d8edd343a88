"""P11: who waits for itself is told at once, and nobody else is.

Fixed cases, each way in which a connection may be passed on among them; and random programs, in a
process of their own (tests/programs/deadlocks.py), judged by what each thread really holds.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence import depth, record

from dbapi_pool import Pool, PoolDeadlock, PooledConnection, PoolTimeout, deadlock
from dbapi_pool.system import REAL, System
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]
MOMENT = 0.06  # where other threads live it is proven twice
PROGRAMS = Path(__file__).parents[1] / "programs"


def line(marker: str) -> str:
    """`file:line` of the one line of this file that ends with the marker."""
    with open(__file__, encoding="utf-8") as source:
        numbers = [n for n, text in enumerate(source, 1) if text.rstrip().endswith(f"# {marker}")]
    return f"{__file__}:{numbers[0]}"


# -- told at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("local", [True, False])
def test_a_thread_that_holds_all_and_wants_one_more_is_told_without_waiting(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, size: int, local: bool
) -> None:
    pool = make_pool(max_size=size, local=local)
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(pool.connection())  # taken
        before = clock.monotonic()
        with pytest.raises(PoolDeadlock) as caught:
            pool.connection()  # one more
    assert clock.monotonic() == before
    assert str(caught.value).count(line("taken")) == size
    assert line("one more") in str(caught.value)
    assert isinstance(caught.value, fake.OperationalError)
    pool.connection(timeout=1.0).close()


def test_who_waits_for_room_that_a_resize_takes_away_is_told_at_once(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    told: list[float] = []

    def borrow_two() -> None:
        with pool.connection():
            fake.on("connect", delay=10.0)
            try:
                pool.connection(timeout=60.0).close()
            except PoolDeadlock:
                told.append(clock.monotonic())

    task = clock.start(borrow_two)
    clock.advance(1.0)
    now = clock.monotonic()
    pool.resize(max_size=1)
    clock.advance(MOMENT)
    assert [now] <= told <= [now + MOMENT]
    task.result()


@pytest.mark.parametrize("threads", [2, 3, 6])
def test_of_a_ring_of_threads_the_last_is_told_without_waiting_and_the_others_are_served(
    make_pool: MakePool, clock: VirtualClock, threads: int
) -> None:
    pool = make_pool(max_size=threads)
    told: list[tuple[float, str]] = []
    start = clock.monotonic()

    def borrow_two() -> None:
        with pool.connection():  # the first
            clock.sleep(0.5)
            try:
                pool.connection(timeout=60.0).close()  # the second
            except PoolDeadlock as exc:
                told.append((clock.monotonic(), str(exc)))

    for task in [clock.start(borrow_two) for _ in range(threads)]:
        task.result()
    ((when, text),) = told
    assert start + 0.5 <= when <= start + 0.5 + MOMENT
    assert text.count(line("the first")) == threads
    assert text.count(line("the second")) == threads + 1  # where all of them wait


def keep_in_attribute(conn: PooledConnection) -> Any:
    return type("Repository", (), {})(), conn


def keep_in_generator(conn: PooledConnection) -> Any:
    def generator() -> Iterator[int]:
        with conn:
            yield 1

    running = generator()
    next(running)
    return running


def keep_in_closure(conn: PooledConnection) -> Any:
    return lambda: conn


def keep_in_cursor(conn: PooledConnection) -> Any:
    return conn.cursor()


def keep_in_context(conn: PooledConnection) -> Any:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("conn")
    context = contextvars.copy_context()
    context.run(variable.set, conn)
    return context


KEEPERS = [
    keep_in_attribute,
    keep_in_generator,
    keep_in_closure,
    keep_in_cursor,
    keep_in_context,
]


@pytest.mark.parametrize("keep", KEEPERS)
def test_it_does_not_matter_what_of_its_own_a_thread_keeps_the_connection_in(
    make_pool: MakePool, clock: VirtualClock, keep: Callable[[PooledConnection], Any]
) -> None:
    pool = make_pool(max_size=1)

    def nested() -> None:
        kept = keep(pool.connection())
        try:
            pool.connection(timeout=9.0)
        finally:
            del kept

    before = clock.monotonic()
    with pytest.raises(PoolDeadlock):
        clock.start(nested).result()
    assert clock.monotonic() <= before + MOMENT


# -- passed on: not told --------------------------------------------------------------------------


class Passing:
    """A thread that borrows the only connection, passes it on and wants another."""

    def __init__(self, pool: Pool, clock: VirtualClock) -> None:
        self.pool = pool
        self.clock = clock
        self.table: list[Any] = []

    def hold(self, conn: PooledConnection) -> None:
        self.clock.sleep(20.0)
        conn.close()

    def by_argument(self) -> None:
        self.clock.start(self.hold, self.pool.connection())

    def by_list(self) -> None:
        self.table.append(self.pool.connection())
        self.clock.start(lambda: self.hold(self.table.pop()))

    def by_generator(self) -> None:
        def generator() -> Iterator[PooledConnection]:
            conn = self.pool.connection()
            yield conn
            yield conn

        running = generator()
        next(running)
        self.clock.start(lambda: self.hold(next(running)))

    def by_cursor(self) -> None:
        def hold(cursor: Any) -> None:
            self.clock.sleep(20.0)
            cursor.connection.close()

        self.clock.start(hold, self.pool.connection().cursor())

    def by_bound_method(self) -> None:
        def hold(close: Callable[[], None]) -> None:
            self.clock.sleep(20.0)
            close()

        self.clock.start(hold, self.pool.connection().close)

    def after_use(self) -> None:
        conn = self.pool.connection()
        conn.execute("SELECT 1")
        self.clock.start(self.hold, conn)
        self.clock.yield_()

    def to_one_that_keeps_it_in_its_own_way(self) -> None:
        def hold(conn: PooledConnection) -> None:
            mine = threading.local()
            mine.conn = conn
            box = {"deep": [({"deeper": mine.conn},)]}
            del conn
            self.clock.sleep(20.0)
            box["deep"][0][0]["deeper"].close()

        self.clock.start(hold, self.pool.connection())


WAYS = [name for name in vars(Passing) if name not in ("hold", "__init__") and name[0] != "_"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("begun", [True, False])
def test_a_connection_that_another_thread_has_is_no_deadlock(
    make_pool: MakePool, clock: VirtualClock, way: str, begun: bool
) -> None:
    pool = make_pool(max_size=1)
    passing = Passing(pool, clock)
    start = clock.monotonic()

    def borrow_again() -> None:
        getattr(passing, way)()
        if begun:
            clock.yield_()
        pool.connection(timeout=60.0).close()

    clock.start(borrow_again).result()
    assert clock.monotonic() == start + 20.0


def test_what_a_module_leads_to_others_may_reach_so_only_the_timeout_tells(
    make_pool: MakePool, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_size=1)
    monkeypatch.setattr(pytest, "a_global_variable", [], raising=False)

    def nested() -> PooledConnection:
        pytest.a_global_variable.append(pool.connection())  # type: ignore[attr-defined]  # kept
        return pool.connection(timeout=25.0)

    start = clock.monotonic()
    with pytest.raises(PoolTimeout, match="a deadlock unless they were passed on") as caught:
        clock.start(nested).result()
    assert clock.monotonic() == start + 25.0
    assert line("kept") in str(caught.value)


def test_a_doubt_may_be_settled_later(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=1)

    def look_at(conn: PooledConnection) -> None:
        clock.sleep(3.5)

    def nested() -> None:
        conn = pool.connection()
        clock.start(look_at, conn)
        clock.yield_()
        with conn:
            pool.connection(timeout=60.0)

    start = clock.monotonic()
    with pytest.raises(PoolDeadlock):
        clock.start(nested).result()
    assert 3.5 <= clock.monotonic() - start <= 8.0


def test_a_connection_lost_in_a_cycle_is_found_and_is_no_deadlock(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    gc.collect()
    gc.disable()
    try:
        cycle: list[Any] = [pool.connection()]
        cycle.append(cycle)
        del cycle
        pool.connection(timeout=10.0).close()
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [0.0, 3.5])
def test_to_look_for_a_deadlock_keeps_nothing_alive(
    make_pool: MakePool, clock: VirtualClock, seconds: float
) -> None:
    """Neither of the thread that looked nor of the others: what they drop later comes back at once."""
    pool = make_pool(max_size=1)
    given: list[weakref.ref[PooledConnection]] = []

    def look() -> None:
        box = [pool.connection()]
        clock.start(lose, box)  # a doubt
        clock.yield_()
        conn = pool.connection(timeout=60.0)
        given.append(weakref.ref(conn))

    def lose(box: list[PooledConnection]) -> None:
        clock.sleep(seconds)
        given.append(weakref.ref(box[0]))
        box.clear()

    gc.collect()
    gc.disable()
    try:
        clock.start(look).result()
        assert len(given) == 2
        assert [ref() for ref in given] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("system", [REAL, VirtualClock()], ids=["real", "virtual"])
def test_who_asks_what_others_have_at_hand_is_kept_by_nobody(system: System) -> None:
    class Thing:
        pass

    def ask() -> weakref.ref[Thing]:
        mine = Thing()
        assert system.in_reach_of_others({system.get_ident()}) is not None
        return weakref.ref(mine)

    gc.collect()
    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


def test_when_objects_were_frozen_nothing_is_certain(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)

    def nested() -> None:
        with pool.connection():
            pool.connection(timeout=5.0)

    gc.freeze()
    try:
        with pytest.raises(PoolTimeout):
            clock.start(nested).result()
    finally:
        gc.unfreeze()
    with pytest.raises(PoolDeadlock):
        clock.start(nested).result()


# -- real threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("alone", "PoolDeadlock"),
        ("others", "PoolDeadlock"),
        ("global", "PoolTimeout"),
        ("passed", "served"),
    ],
)
def test_on_the_real_machine(case: str, told: str) -> None:
    program = PROGRAMS / "deadlock_for_real.py"
    run = subprocess.run(
        [sys.executable, str(program), case], capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""
    if sys.version_info >= (3, 13) and not getattr(sys, "_is_gil_enabled", lambda: True)():
        told = {"others": "PoolTimeout"}.get(case, told)
    assert run.stdout.split() == [told]


# -- random programs ------------------------------------------------------------------------------


def random_runs(first: int, count: int, *how: str) -> subprocess.Popen[str]:
    program = [sys.executable, str(PROGRAMS / "deadlocks.py"), str(first), str(count), *how]
    pipe = subprocess.PIPE
    return subprocess.Popen(program, stdout=pipe, stderr=pipe, text=True)


def test_in_random_programs_nobody_is_told_wrongly_or_late() -> None:
    count = depth(100, 50_000)
    figures: Counter[str] = Counter()
    for run in [random_runs(first, count) for first in (0, count)]:
        out, err = run.communicate(timeout=3600)
        assert run.returncode == 0, out + err
        figures.update({name: int(n) for name, n in (pair.split("=") for pair in out.split())})
    assert figures["deadlocks"] > count / 10
    assert figures["passed"] > count / 10
    record("deadlocks", "random programs", runs=2 * count, **figures)


@pytest.mark.parametrize(
    "bug",
    [
        "believes every suspicion",
        "proves nothing",
        "does not ask who else is there",
        "leaves the garbage",
    ],
)
def test_the_judge_of_random_programs_finds_planted_bugs(bug: str) -> None:
    run = random_runs(0, 300, bug)
    _, err = run.communicate(timeout=600)
    assert run.returncode != 0
    assert "seed" in err


def test_the_judge_follows_references_through_anything() -> None:
    end = object.__new__(type("End", (), {}))
    start: Any = end
    for wrap in (lambda x: [x], lambda x: (x,), lambda x: {1: x}, lambda x: lambda: x):
        start = wrap(start)
    assert deadlock.leads_to([start], [end])
    other = [end]
    del start
    assert not deadlock.leads_to([object()], [end])
    del other
