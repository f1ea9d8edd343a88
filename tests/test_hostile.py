"""P2, P8 and P9 in hostile surroundings: finalizers, tracebacks, signals, no threads, fork."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbapi_pool import Pool, PooledConnection, PoolError, PoolTimeout
from dbapi_pool.drivers import Driver
from dbapi_pool.system import System
from dbapi_pool.testing import FakeConnection, FakeCursor, FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Repository:
    """Closes its connection when it is collected: too late, if both are in one reference cycle."""

    def __init__(self, pool: Pool) -> None:
        self.me = self
        self.conn = pool.connection()

    def __del__(self) -> None:
        self.conn.close()


def stream(pool: Pool, box: list[Any]) -> Iterator[PooledConnection]:
    with pool.connection() as conn:
        yield conn


# -- finalizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("local", [True, False])
def test_a_connection_closed_by_a_finalizer_in_a_cycle_is_not_lent_again(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, no_gc: None, local: bool
) -> None:
    pool = make_pool(max_size=1, local=local)
    Repository(pool)
    gc.collect()

    with pool.connection(timeout=2.0) as conn:
        clock.run()
        conn.execute("SELECT 1")
    assert pool.stats().closed == {"leaked": 1}
    assert fake.peak == 1


def test_a_generator_in_a_cycle_that_is_collected_does_not_lend_its_connection_twice(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, no_gc: None
) -> None:
    pool = make_pool(max_size=1)
    box: list[Any] = []
    box.append(stream(pool, box))
    next(box[0])
    del box
    gc.collect()

    pool.connection(timeout=2.0).close()
    assert fake.peak == 1


def test_a_finalizer_that_returns_a_connection_under_the_ledgers_lock_harms_nothing(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    kept = pool.connection()
    waiting_for = pool.connection()
    waiting = clock.start(pool.connection, 5.0)
    clock.run()

    with pool._ledger._lock:
        kept.close()  # as the garbage collector might, anywhere

    assert waiting.result() is not None
    waiting_for.close()
    waiting.result().close()


def test_when_all_wait_a_handle_in_a_reference_cycle_is_searched_for(
    make_pool: MakePool, clock: VirtualClock, no_gc: None
) -> None:
    pool = make_pool(max_size=1)
    cycle: list[Any] = [pool.connection()]
    cycle.append(cycle)
    del cycle

    clock.start(pool.connection, 10.0).result().close()


# -- tracebacks -----------------------------------------------------------------------------------


def test_the_last_connect_error_keeps_no_frame_alive(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)

    def borrow_two() -> None:
        pool.connection()
        fake.on("connect", error=fake.OperationalError("too many connections"), times=1)
        pool.connection()

    with pytest.raises(fake.OperationalError):
        borrow_two()
    gc.collect()
    clock.run()
    assert pool.stats().in_use == 0


def test_waiters_that_get_the_same_error_get_copies_of_it(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", delay=0.1, error=fake.OperationalError("access denied"))
    tasks = [clock.start(pool.connection) for _ in range(2)]
    clock.advance(1.0)

    first, second = (task.exception for task in tasks)
    assert str(first) == str(second) == "access denied"
    assert type(first) is type(second) is fake.OperationalError
    assert first is not second


def test_who_gave_a_member_away_to_be_pinged_does_not_keep_it_alive(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, ping_after=5.0)
    pool.connection().close()
    clock.advance(10.0)
    fake.on("ping", delay=1.0)
    served: list[str] = []

    def borrow_and_drop() -> None:
        pool.connection(timeout=10.0)
        served.append("first")

    def borrow() -> None:
        with pool.connection(timeout=10.0):
            served.append("second")

    for task in [clock.start(borrow_and_drop), clock.start(borrow)]:
        task.result()
    assert served == ["first", "second"]


# -- machines -------------------------------------------------------------------------------------


class NoHands(System):
    """A machine that has no thread to give for a while."""

    failing = False

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if self.failing:
            raise RuntimeError("can't start new thread")
        super().spawn(target, name)


def test_without_threads_closing_is_done_at_once_and_only_once() -> None:
    system = NoHands()
    fake = FakeDriver()
    with Pool(fake, driver=fake.driver(), max_size=1, clock=system) as pool:
        conn = pool.connection()
        system.failing = True
        conn.invalidate()
        assert fake.open == 0
        system.failing = False
        with pool.connection() as conn:
            conn.execute("SELECT 1")
            assert pool.stats().size == 1
    fake.assert_no_leak()


def test_threads_end_with_their_pool() -> None:
    def threads() -> int:
        return threading.active_count() + len(alive)

    alive: list[int] = []

    class Counting(System):
        def spawn(self, target: Callable[[], object], name: str) -> None:
            super().spawn(partial(self._count, target), name)

        def _count(self, target: Callable[[], object]) -> None:
            alive.append(1)
            try:
                target()
            finally:
                alive.pop()
                ended.set()

    ended = threading.Event()
    before = threads()
    fake = FakeDriver()
    for end in (Pool.close, lambda pool: None):
        pool = Pool(fake, driver=fake.driver(), min_size=2, clock=Counting())
        end(pool)
        del pool
        while threads() > before:
            assert ended.wait(10.0), "a thread outlives its pool"
            ended.clear()


@pytest.mark.parametrize("place", ["local", "remote"])
def test_signals_at_any_moment_cost_no_capacity(place: str) -> None:
    program = Path(__file__).parent / "programs" / "struck_by_signals.py"
    run = subprocess.run(
        [sys.executable, str(program), place, "1000"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "whole capacity" in run.stdout


# -- what a handle gives away ---------------------------------------------------------------------


class Tenant(FakeCursor):
    """A user's cursor that sends more than it is given."""

    def execute(self, sql: str, parameters: Any = ()) -> FakeCursor:
        super().execute("SET tenant = 42")
        return super().execute(sql, parameters)


def test_a_users_cursor_class_may_do_anything_so_the_session_is_reset(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        conn.cursor(Tenant).execute("SELECT 1")
    assert fake.resets == 1
    with pool.connection() as conn:
        conn.cursor().execute("SELECT 1")
    assert fake.resets == 1


class Rich(FakeConnection):
    """A driver's connection with a context manager, as psycopg's `transaction()`."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Rich]:
        yield self
        self.execute("UPDATE victim")


def test_a_context_manager_kept_over_the_return_does_not_run_on(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbapi_pool.testing.fake.FakeConnection", Rich)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    context = conn.transaction()
    assert context.__enter__() is conn
    conn.close()

    with pool.connection(), pytest.raises(fake.InterfaceError):
        context.__exit__(None, None, None)
    assert not [sql for _, sql in fake.executed if sql == "UPDATE victim"]


def test_a_value_that_can_be_called_is_the_drivers_own(tmp_path: Path) -> None:
    def row(cursor: Any, values: Any) -> dict[str, Any]:
        return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}

    with Pool(sqlite3, tmp_path / "a.db", max_size=1) as pool, pool.connection() as conn:
        before = conn.row_factory
        conn.row_factory = row
        assert conn.row_factory is row
        assert conn.execute("SELECT 1 AS a").fetchone() == {"a": 1}
        conn.row_factory = before
        assert conn.execute("SELECT 1 AS a").fetchone() == (1,)


def test_a_borrowed_connection_cannot_be_copied_or_pickled(make_pool: MakePool) -> None:
    with make_pool(max_size=1).connection() as conn:
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                act(conn)
        conn.execute("SELECT 1")


def test_a_creator_is_named_without_its_arguments() -> None:
    def connect(password: str) -> None:
        return None

    with pytest.raises(PoolError) as caught, Pool(partial(connect, "canary")) as pool:
        pool.connection()
    assert "connect" in str(caught.value)
    assert "canary" not in str(caught.value)


class Delegating:
    """A connection that hands every attribute of another on, as tracing libraries do."""

    def __init__(self, inner: FakeConnection) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_methods_that_a_connection_delegates_are_fenced_too(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    def connect() -> Any:
        return Delegating(fake.connect())

    pool = make_pool(connect, max_size=1, driver=Driver(FakeConnection))
    conn = pool.connection()
    kept = conn.cursor, conn.callproc if hasattr(conn, "callproc") else conn.execute
    cursor = conn.cursor()
    conn.close()

    for use in (kept[0], lambda: kept[1]("SELECT 1"), lambda: cursor.execute("SELECT 1")):
        with pytest.raises(fake.InterfaceError):
            use()


def test_a_suspended_generator_ends_before_the_next_borrower_comes(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dumping(FakeConnection):
        def dump(self) -> Iterator[int]:
            try:
                yield 1
            finally:
                self.execute("SELECT 'end of dump'")

    monkeypatch.setattr("dbapi_pool.testing.fake.FakeConnection", Dumping)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    rows = conn.dump()
    next(rows)
    conn.close()
    before = list(fake.executed)
    assert "SELECT 'end of dump'" in [sql for _, sql in before]

    with pool.connection(), pytest.raises(fake.InterfaceError):
        next(rows)
    del rows
    assert fake.executed == before


def test_a_context_that_was_entered_and_not_left_costs_the_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbapi_pool.testing.fake.FakeConnection", Rich)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.transaction().__enter__()
    conn.close()
    clock.run()
    assert pool.stats().closed == {"broken": 1}


def test_a_connection_returned_while_another_thread_is_inside_a_call_is_not_lent_again(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    cursor = conn.cursor()
    fake.on("execute", delay=3.0, times=1)
    inside = clock.start(cursor.execute, "SELECT 1")
    clock.run()

    conn.close()
    clock.advance(1.0)
    assert fake.open == 1  # not closed under that thread
    clock.advance(5.0)
    assert fake.open == 0
    assert pool.stats().closed == {"busy": 1}
    assert inside.done


def test_detaching_what_another_thread_returned_at_the_same_moment_takes_nothing(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.close()
    with pool.connection() as other:
        with pytest.raises(fake.InterfaceError):
            conn.detach()
        other.execute("SELECT 1")


# -- the keeper -----------------------------------------------------------------------------------


def test_the_housekeeper_survives_its_own_errors(
    make_pool: MakePool,
    fake: FakeDriver,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = make_pool(max_size=1, idle_timeout=10.0)
    with monkeypatch.context() as patch:
        patch.setattr(pool._keeper, "_retire_idle", lambda now: 1 / 0)
        pool.connection().close()
        clock.advance(5.0)
    assert "the housekeeper failed and goes on: ZeroDivisionError" in caplog.text
    clock.advance(20.0)
    assert fake.open == 0


def test_an_error_that_cannot_be_copied_is_told_all_the_same(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    class Uncopyable(fake.OperationalError):  # type: ignore[misc,name-defined]
        def __copy__(self) -> None:
            raise ValueError("no")

    pool = make_pool(max_size=1)
    fake.on("connect", error=Uncopyable("why"), times=1)
    with pytest.raises(Uncopyable, match="why"):
        pool.connection()


def test_an_interrupted_warm_up_asks_for_nothing_any_more(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4, idle_timeout=10.0)
    fake.on("connect", delay=1.0)
    warming = clock.start(pool.warm_up)
    clock.run()
    warming.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        warming.result()
    clock.advance(60.0)
    assert fake.open == 0


def test_the_last_handle_of_a_dropped_pool_closes_its_connection(
    fake: FakeDriver, clock: VirtualClock
) -> None:
    conn = Pool(fake, driver=fake.driver(), clock=clock).connection()
    assert fake.open == 1
    del conn
    clock.advance(5.0)
    assert fake.open == 0


# -- sizes that change meanwhile ------------------------------------------------------------------


@pytest.mark.parametrize("busy", ["connect", "rollback", "ping"])
def test_shrinking_reaches_what_is_being_opened_cleaned_or_checked(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, busy: str
) -> None:
    pool = make_pool(max_size=4, ping_after=5.0)
    if busy != "connect":
        pool.warm_up()
        clock.advance(10.0)
    fake.on(busy, delay=1.0)

    def work() -> None:
        with pool.connection() as conn:
            conn.execute("INSERT")
            clock.sleep(0.5)
            conn.rollback()

    tasks = [clock.start(work) for _ in range(4)]
    clock.advance(0.2 if busy != "rollback" else 1.2)
    pool.resize(max_size=1)
    for task in tasks:
        task.result()
    clock.advance(5.0)

    assert fake.open == 1


def test_closing_while_a_connect_fails_waits_no_longer_than_that(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", delay=0.2, error=fake.OperationalError("no"), times=1)
    waiting = clock.start(pool.connection)
    clock.run()
    start = clock.monotonic()

    assert pool.close(timeout=5.0)
    assert clock.monotonic() - start == pytest.approx(0.2)
    with pytest.raises(fake.Error):
        waiting.result()


def test_two_who_warm_up_at_once_do_not_wait_for_each_other(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4)
    fake.on("connect", delay=0.1)
    start = clock.monotonic()
    for task in [clock.start(pool.warm_up) for _ in range(3)]:
        task.result()
    assert clock.monotonic() - start == pytest.approx(0.1)


def test_who_does_not_want_to_wait_does_not_wait_for_resume(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    pool.suspend()
    start = clock.monotonic()
    with pytest.raises(PoolTimeout):
        pool.connection(timeout=0)
    assert clock.monotonic() == start


def test_a_liveness_check_that_raises_means_dead(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    pool.connection().close()
    fake.on("is_alive", error=OSError("bad file descriptor"), times=2)
    pool.connection(timeout=5.0).close()
    assert pool.stats().closed == {"dead": 1}


def test_a_lambda_whose_setup_fails_raises_at_once(tmp_path: Path) -> None:
    """Its first connection tells that the driver is local, while an opener is at work."""

    def fail(conn: Any) -> None:
        raise sqlite3.OperationalError("no such thing")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "a.db", check_same_thread=False)

    with Pool(connect, setup=fail, checkout_timeout=60.0) as pool:
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="no such thing"):
                pool.connection()


def test_run_tries_again_when_the_beginning_was_refused_as_busy(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    fake.on("begin", error=fake.SerializationError("busy"), times=2)
    assert pool.run(lambda conn: "done") == "done"
    fake.on("begin", error=fake.SerializationError("busy"), times=2)
    with pytest.raises(fake.SerializationError):
        pool.run(lambda conn: "done", retries=1)
