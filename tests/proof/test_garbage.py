"""Garbage: whatever is dropped is found again, in any form, and finalizers may run anywhere.

Also at every allocation inside the pool's own locked sections, where they borrow, return and look.
"""

from __future__ import annotations

import copy
import gc
import pickle
import sqlite3
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import evidence
import pytest

from dbapi_pool import Pool, PoolError, PoolTimeout
from dbapi_pool import system as system_module
from dbapi_pool.keeper import Alarm
from dbapi_pool.ledger import Ledger
from dbapi_pool.system import System
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]
SIZE = 3


def whole(pool: Pool) -> bool:
    """Whether `max_size` connections can be borrowed at the same time, at once."""
    with ExitStack() as stack:
        handles = [stack.enter_context(pool.connection(timeout=20.0)) for _ in range(pool.max_size)]
        return len({id(handle.driver_connection) for handle in handles}) == pool.max_size


# -- forms of garbage -----------------------------------------------------------------------------


def just_dropped(pool: Pool) -> None:
    pool.connection()


def by_its_cursor(pool: Pool) -> None:
    cursor = pool.connection().cursor()
    box = [cursor]
    box.append(box)  # type: ignore[arg-type]


def by_a_method(pool: Pool) -> None:
    conn = pool.connection()
    box = [conn.commit, conn.cursor().execute, conn.execute]
    box.append(box)  # type: ignore[arg-type]


def in_a_transaction(pool: Pool) -> None:
    conn = pool.transaction().__enter__()
    conn.execute("CREATE TABLE dropped (n)")


def in_a_generator(pool: Pool) -> None:
    def rows() -> Iterator[Any]:
        with pool.connection() as conn:
            yield conn, box

    box = [rows()]
    next(box[0])


def in_a_traceback(pool: Pool) -> None:
    def fail() -> None:
        conn = pool.connection()
        conn.execute("SELECT 1")
        raise ValueError

    try:
        fail()
    except ValueError as exc:
        kept = exc  # noqa: F841  (the frame keeps the error, whose traceback keeps the frame)


def in_a_cycle_with_the_pool(pool: Pool) -> None:
    conn = pool.connection()
    box = [pool, conn, pool.connection, conn.close]
    box.append(box)


class Resurrected:
    """Brings its connection back to life, once, and lets it die for good."""

    graves: list[Any] = []

    def __init__(self, pool: Pool) -> None:
        self.me = self
        self.conn = pool.connection()

    def __del__(self) -> None:
        Resurrected.graves.append(self.conn)


def resurrected(pool: Pool) -> None:
    Resurrected(pool)
    gc.collect()
    for conn in Resurrected.graves:
        conn.close()
    Resurrected.graves.clear()


def in_a_weak_dictionary(pool: Pool) -> None:
    kept = weakref.WeakValueDictionary({1: pool.connection()})
    reference = weakref.ref(pool.connection())
    gc.collect()
    assert not kept
    assert reference() is None


FORMS = [
    just_dropped, by_its_cursor, by_a_method, in_a_transaction, in_a_generator, in_a_traceback,
    in_a_cycle_with_the_pool, resurrected, in_a_weak_dictionary,
]  # fmt: skip


@pytest.fixture(params=["remote", "local", "sqlite"])
def real_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    """A pool on the real clock."""
    fake = FakeDriver()
    settings: dict[str, Any] = {"max_size": SIZE, "checkout_timeout": 20.0}
    if request.param == "sqlite":
        pool = Pool(sqlite3, tmp_path / "a.db", **settings)
    else:
        pool = Pool(fake, driver=fake.driver(local=request.param == "local"), **settings)
    yield pool
    gc.collect()
    assert pool.close()
    fake.assert_no_leak()


@pytest.mark.parametrize("form", FORMS)
def test_a_connection_that_is_dropped_is_found_again(
    real_pool: Pool, form: Callable[[Pool], None]
) -> None:
    for _ in range(2 * SIZE):
        form(real_pool)
        gc.collect()
    assert whole(real_pool)
    assert real_pool.stats().in_use == 0


def test_an_audit_that_finds_no_orphans_would_be_found_out(
    real_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: a ledger that does not look for places whose lease is lost."""
    adopt = Ledger.adopt
    monkeypatch.setattr(Ledger, "adopt", lambda self: [])
    for _ in range(SIZE):
        just_dropped(real_pool)
    with pytest.raises(PoolError):
        real_pool.connection(timeout=0.2)
    monkeypatch.setattr(Ledger, "adopt", adopt)


@pytest.mark.parametrize("what", ["pool", "connection", "cursor", "method", "bound"])
@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nothing_is_copied_or_pickled(
    real_pool: Pool, act: Callable[[Any], Any], what: str
) -> None:
    if (what, act) == ("bound", copy.copy):
        pytest.skip("copy.copy gives any bound method back as it is")
    with real_pool.connection() as conn:
        things = {
            "pool": real_pool, "connection": conn, "cursor": conn.cursor(),
            "method": conn.interrupt if hasattr(conn, "interrupt") else conn,
            "bound": conn.commit,
        }  # fmt: skip
        with pytest.raises(TypeError, match="copied or pickled|cannot pickle"):
            act(things[what])
    assert whole(real_pool)


def test_a_pool_says_what_to_do_instead_of_pickling_it(make_pool: MakePool) -> None:
    with pytest.raises(TypeError, match=r"let each process make its own.*or inherit one by fork"):
        pickle.dumps(make_pool())


# -- pools that are dropped -----------------------------------------------------------------------


@pytest.mark.parametrize("hung", [False, True], ids=["", "while an opener connects"])
def test_a_pool_in_a_cycle_with_its_handles_and_waiters_is_collected(
    fake: FakeDriver, clock: VirtualClock, hung: bool
) -> None:
    pool = Pool(fake, driver=fake.driver(), clock=clock, max_size=SIZE, checkout_timeout=5.0)
    gone = weakref.ref(pool)
    box: list[Any] = [pool, *(pool.connection() for _ in range(SIZE - hung))]
    box.append(box)
    if hung:
        fake.on("connect", hang=True, times=1)
    waiting = clock.start(pool.connection, 1.0)
    clock.run()
    del pool
    gc.collect()
    clock.advance(2.0)
    assert waiting.exception is not None  # its own deadline; it kept the pool as long as that
    clock._forget_failure(waiting.exception)

    del box, waiting
    fake.calm()
    for _ in range(3):
        gc.collect()
        clock.advance(100.0)
    assert gone() is None
    assert fake.open == 0
    assert clock.tasks == []


def test_a_handle_outlives_the_name_of_its_pool(fake: FakeDriver, clock: VirtualClock) -> None:
    conn = Pool(fake, driver=fake.driver(), clock=clock).connection()
    gc.collect()
    assert conn.execute("SELECT 1").fetchone() == (1,)
    conn.close()
    gc.collect()
    clock.advance(100.0)
    assert fake.open == 0


# -- millions of them -----------------------------------------------------------------------------


def sizes(pool: Pool) -> tuple[int, ...]:
    """Whatever might grow inside."""
    ledger, keeper = pool._ledger, pool._keeper
    lists = (ledger.waiters, ledger.wishes, keeper._watchers, keeper._crew._jobs)
    return (*map(len, lists), len(ledger.places), len(ledger.idle))


def test_leaks_leave_nothing_behind(real_pool: Pool) -> None:
    """1 % of the checkouts are never returned, half of those in cycles."""
    rounds = evidence.depth(6_000, 200_000)

    def leak(number: int) -> None:
        conn = real_pool.connection()
        if number % 100:
            conn.close()
        elif number % 200:
            box = [conn, conn.cursor()]
            box.append(box)
            del conn, box
            gc.collect(1)

    for number in range(rounds // 4):
        leak(number)
    gc.collect()
    assert whole(real_pool)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(rounds):
        leak(number)
    gc.collect()
    assert whole(real_pool)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert sizes(real_pool)[:4] == (0, 0, 0, 0)
    assert len(real_pool._ledger.places) <= SIZE
    assert len(real_pool._keeper._crew._hands) <= 32
    assert real_pool.stats().closed["leaked"] >= rounds // 100
    assert grown < 100_000, f"{grown} bytes more after {rounds} checkouts"
    kind = real_pool.name
    evidence.record(
        "garbage and threads", f"leaks: {kind}",
        checkouts=rounds, leaks=real_pool.stats().closed["leaked"], **{"bytes grown": max(grown, 0)},
    )  # fmt: skip


# -- finalizers under our own locks ---------------------------------------------------------------


class Stormy(System):
    """Its locks have a finalizer run whenever one is taken, and while it is held."""

    def __init__(self) -> None:
        self.strike: Callable[[], object] = lambda: None
        self.struck = 0
        self.mine = threading.local()  # of each thread: whether it is in one, and what it holds
        self.orders: set[tuple[int, int]] = set()  # the lock that was held, and the one then taken

    def lock(self) -> AbstractContextManager[object]:
        return _StormyLock(self, super().lock())


class _StormyLock:
    def __init__(self, system: Stormy, lock: AbstractContextManager[object]) -> None:
        self._system = system
        self._lock = lock

    def __enter__(self) -> None:
        held = vars(self._system.mine).setdefault("held", [])
        self._system.orders |= {(other, id(self)) for other in held if id(self) not in held}
        self._lock.__enter__()
        held.append(id(self))
        self._strike()

    def __exit__(self, *exc: Any) -> None:
        self._strike()
        vars(self._system.mine)["held"].remove(id(self))
        self._lock.__exit__(*exc)

    def _strike(self) -> None:
        mine = vars(self._system.mine)
        if mine.get("in"):
            return
        mine["in"] = True
        try:
            self._system.strike()
        finally:
            mine["in"] = False


ACTS: dict[str, Callable[[Pool, list[Any]], object]] = {
    "borrows and returns": lambda pool, spare: pool.connection(timeout=0).close(),
    "borrows and throws away": lambda pool, spare: pool.connection(timeout=0).invalidate(),
    "borrows and drops": lambda pool, spare: pool.connection(timeout=0),
    "keeps one": lambda pool, spare: spare or spare.append(pool.connection(timeout=0)),
    "looks": lambda pool, spare: pool.stats(),
    "resizes": lambda pool, spare: pool.resize(max_size=SIZE),
}


def in_any_order(system: Stormy) -> bool:
    """Whether two locks were taken in both orders, so that two threads can wait for each other."""
    return any((second, first) in system.orders for first, second in system.orders)


def stormy_pool(system: Stormy, fake: FakeDriver, local: bool) -> Pool:
    driver = fake.driver(local=local)
    return Pool(fake, driver=driver, clock=system, max_size=SIZE, checkout_timeout=20.0)


@pytest.mark.parametrize("local", [True, False], ids=["local", "remote"])
@pytest.mark.parametrize("act", ACTS)
def test_finalizers_may_do_anything_inside_every_lock_of_the_pool(act: str, local: bool) -> None:
    system, fake = Stormy(), FakeDriver()
    pool = stormy_pool(system, fake, local)
    spare: list[Any] = []

    def strike() -> None:
        system.struck += 1
        try:
            ACTS[act](pool, spare)
        except PoolError:
            pass

    def work() -> None:
        for turn in range(evidence.depth(20, 500)):
            while len(spare) > 1:  # the storm may keep one, and no more
                drop_one(spare)
            with pool.connection() as conn:
                if turn % 3:
                    conn.execute("INSERT")
                pool.stats()

    system.strike = strike
    with ThreadPoolExecutor(4) as executor:
        jobs = [executor.submit(work) for _ in range(4)]
        for job in jobs:
            job.result(timeout=50.0)
    system.strike = lambda: None
    spare.clear()
    gc.collect()
    assert system.struck > 10
    assert not in_any_order(system)
    assert whole(pool)
    assert pool.close()
    fake.assert_no_leak()
    evidence.record("garbage and threads", f"finalizers under a lock: {act}", struck=system.struck)


def test_a_pool_with_several_locks_would_be_found_out() -> None:
    """Planted: counters with a lock of their own."""
    system, fake = Stormy(), FakeDriver()
    pool = stormy_pool(system, fake, local=True)
    pool._counters._lock = system.lock()
    system.strike = pool.stats
    pool.connection().close()

    assert in_any_order(system)
    system.strike = lambda: None
    assert pool.close()


def test_a_finalizer_that_would_wait_inside_a_lock_is_told_so_at_once(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool, other = make_pool(max_size=1), make_pool(max_size=1)
    for lock in (pool._ledger._lock, other._ledger._lock, pool._source._discovering):
        for timeout in (0, 20.0, None):
            with lock, pytest.raises(PoolTimeout, match="it did not wait, since .* finalizer"):
                pool.connection(timeout)
    assert clock.monotonic() == 1000.0
    assert pool.stats().waiting == 0

    pool.connection().close()
    with pool._ledger._lock:  # what is free is lent there
        pool.connection(timeout=0).close()
    assert whole(pool)


def test_a_finalizer_may_open_inside_a_lock_what_is_opened_in_its_thread(
    make_pool: MakePool,
) -> None:
    pool = make_pool(local=True, max_size=1)
    with pool._ledger._lock, pool.connection(timeout=0) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_finalizer_that_closes_the_pool_inside_a_lock_waits_for_nobody(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool()
    pool.connection().close()
    with pool._ledger._lock:
        assert not pool.close()
    clock.run()
    assert pool.close()


def test_a_pool_that_does_not_know_what_its_thread_holds_would_be_found_out(
    make_pool: MakePool, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: no answer to whether the thread holds a lock."""
    monkeypatch.setattr(VirtualClock, "holds_lock", lambda self: False)
    pool = make_pool()
    with pool._ledger._lock, pytest.raises(AssertionError, match="waits while holding the lock"):
        pool.connection()
    clock._failures.clear()


def test_the_machine_knows_whose_lock_it_is_and_forgets_those_that_are_gone() -> None:
    machine = System()
    before = len(system_module._locks)
    lock = machine.lock()
    assert not machine.holds_lock()
    with lock, ThreadPoolExecutor(1) as executor:
        with lock:
            assert machine.holds_lock()
        assert machine.holds_lock()
        assert not executor.submit(machine.holds_lock).result()
    assert not machine.holds_lock()
    del lock
    assert len(system_module._locks) <= before


def drop_one(spare: list[Any]) -> None:
    try:
        spare.pop()
    except IndexError:  # another thread was quicker
        pass


@pytest.mark.parametrize("local", [True, False], ids=["local", "remote"])
def test_a_collection_at_every_allocation_harms_nothing(local: bool) -> None:
    fake = FakeDriver()
    pool = Pool(fake, driver=fake.driver(local=local), max_size=SIZE, checkout_timeout=20.0)
    closed = [0]
    rounds = evidence.depth(30, 2_000)

    class Leaver:
        def __init__(self) -> None:
            self.me = self
            self.conn = pool.connection()

        def __del__(self) -> None:
            closed[0] += 1
            self.conn.close()
            pool.stats()

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(rounds):
            Leaver()
            gc.collect()
            pool.connection().close()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert closed[0] == rounds
    assert whole(pool)
    assert pool.close()
    fake.assert_no_leak()
    assert isinstance(pool._ledger._lost, Alarm)
