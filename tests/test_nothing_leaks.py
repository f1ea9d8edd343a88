"""P8: capacity survives everything."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from builds import FREE

from dbapi_pool import Pool, PoolClosed, PoolDeadlock, PoolError, PoolFull, PoolTimeout
from dbapi_pool.drivers import Driver
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


class Strange(BaseException):
    """Neither an `Exception` nor one of Python's own, like gevent's Timeout."""


ERRORS = [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, Strange]


def whole_capacity(pool: Pool, clock: VirtualClock) -> bool:
    """Whether `max_size` connections can be borrowed at the same time, at once."""
    handles = [pool.connection(timeout=5.0) for _ in range(pool.max_size)]
    different = {id(handle.driver_connection) for handle in handles}
    for handle in handles:
        handle.close()
    return len(different) == pool.max_size


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "operation", ["connect", "execute", "rollback", "reset", "close", "cursor"]
)
def test_an_exception_of_any_class_in_any_driver_call_costs_no_capacity(
    make_pool: MakePool,
    fake: FakeDriver,
    clock: VirtualClock,
    operation: str,
    error: type[BaseException],
    local: bool,
) -> None:
    pool = make_pool(max_size=2, local=local)
    fake.on(operation, error=error, times=1)
    for end in ("close", "invalidate"):
        try:
            conn = pool.connection()
            conn.execute("SET x = 1")
            getattr(conn, end)()
        except (error, PoolError):
            conn = None
        clock.advance(2.0)

    assert fake.calls[operation] >= 1
    assert whole_capacity(pool, clock)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_a_ping_that_raises_costs_no_capacity(
    make_pool: MakePool,
    fake: FakeDriver,
    clock: VirtualClock,
    error: type[BaseException],
    local: bool,
) -> None:
    pool = make_pool(max_size=1, ping_after=0, local=local)
    pool.connection().close()
    fake.on("ping", error=error, times=1)
    try:
        pool.connection(timeout=2.0).close()
    except (error, PoolTimeout):
        pass
    clock.advance(2.0)

    assert whole_capacity(pool, clock)


@pytest.mark.parametrize("local", [True, False])
def test_a_dropped_handle_gives_its_place_back_and_its_connection_is_closed(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=1, local=local)
    handle = pool.connection()
    handle.execute("INSERT")
    del handle

    with pool.connection(timeout=1.0) as conn:
        assert not conn.in_transaction
    assert pool.stats().closed == {"leaked": 1}


def test_a_waiter_gets_the_place_of_a_dropped_handle_at_once(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = [pool.connection()]
    waiting = clock.start(pool.connection, 60.0)
    clock.run()
    before = clock.monotonic()

    held.clear()
    waiting.result().close()

    assert clock.monotonic() == before


def test_a_handle_in_a_reference_cycle_gives_its_place_back_when_collected(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    cycle: dict[str, Any] = {"conn": pool.connection()}
    cycle["self"] = cycle
    del cycle
    gc.collect()

    pool.connection(timeout=1.0).close()


class Local:
    """What a variable of the borrower's function holds."""


def told(pool: Pool, timeout: float) -> tuple[type[BaseException], weakref.ref[Local]]:
    """What a borrower was told, and whether its variables are still there."""
    seen: list[weakref.ref[Local]] = []

    def borrow() -> None:
        local = Local()
        seen.append(weakref.ref(local))
        pool.connection(timeout)

    with pytest.raises(PoolError) as raised:
        borrow()
    kind = raised.type
    del raised
    return kind, seen[0]


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("at once", PoolTimeout),
        ("in time", PoolTimeout),
        ("full", PoolFull),
        ("suspended", PoolTimeout),
        ("deadlock", PoolDeadlock),
        ("closed", PoolClosed),
    ],
)
def test_an_error_keeps_nothing_of_its_borrower_once_it_was_dealt_with(
    make_pool: MakePool, clock: VirtualClock, how: str, kind: type[PoolError]
) -> None:
    # The pool learns at once of a connection that was in a variable of that function.
    pool = make_pool(max_size=1, max_waiting=0 if how == "full" else None)
    held: list[Any] = []
    if how == "deadlock":
        held.append(pool.connection())
    elif how == "suspended":
        pool.suspend()
    elif how == "closed":
        pool.close()
    else:
        held.append(clock.start(pool.connection).result())
    gc.collect()
    gc.disable()
    try:
        was_told, local = told(pool, 0 if how == "at once" else 1.0)
        assert (was_told.__mro__.count(kind), local()) == (1, None)
    finally:
        gc.enable()
        for conn in held:
            conn.close()


def test_a_thread_that_dies_with_a_connection_gives_its_place_back(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)

    def die() -> None:
        conn = pool.connection()
        conn.execute("INSERT")

    clock.start(die).result()

    pool.connection(timeout=1.0).close()


def test_a_lease_that_is_lost_between_two_steps_is_found_again(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    pool.connection().close()

    pool._ledger.idle.pop()  # and an exception strikes

    assert whole_capacity(pool, clock)
    assert pool.stats().closed == {"leaked": 1}


def test_a_creator_that_returns_none_is_an_error_and_costs_nothing(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", returns=None, times=1)
    with pytest.raises(PoolError, match="returned None"):
        pool.connection(timeout=5.0)
    assert whole_capacity(pool, clock)


def test_a_creator_that_never_returns_costs_one_place_and_no_more(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, ping_timeout=3.0)
    fake.on("connect", hang=True, times=1)
    with pytest.raises(PoolTimeout):
        pool.connection(timeout=1.0)

    pool.connection(timeout=5.0).close()  # by a second opener: the first is still at it
    assert pool.stats().opening == 1
    fake.release("connect")
    clock.advance(1.0)
    assert whole_capacity(pool, clock)


def test_a_close_that_never_returns_delays_nobody_but_its_own_place(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    fake.interruptible = False
    pool = make_pool(max_size=2)
    fake.on("close", hang=True, times=1)
    start = clock.monotonic()
    pool.connection().invalidate()

    pool.connection(timeout=1.0).close()
    assert clock.monotonic() == start
    fake.release("close")


def test_a_close_that_hangs_is_cut_after_ping_timeout(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, ping_timeout=2.0)
    fake.on("close", hang=True, times=1)
    pool.connection().invalidate()

    pool.connection(timeout=10.0).close()


def test_a_failed_open_lets_the_next_waiter_try(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    tasks = [clock.start(pool.connection, 30.0) for _ in range(2)]
    clock.run()
    fake.on("connect", error=fake.OperationalError("access denied"), times=1)
    held.invalidate()
    clock.run()

    assert isinstance(tasks[0].exception, fake.OperationalError)
    assert isinstance(tasks[1].exception, fake.OperationalError) or tasks[1].done
    assert whole_capacity(pool, clock)


@pytest.mark.parametrize("local", [True, False])
def test_a_listener_that_raises_harms_no_borrower(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    from dbapi_pool.drivers import hookimpl, registry

    class Bad:
        @hookimpl
        def dbapi_pool_connected(self, pool: Any, seconds: float) -> None:
            raise ValueError("bad listener")

        @hookimpl
        def dbapi_pool_checked_in(self, pool: Any, seconds: float) -> None:
            raise ValueError("bad listener")

    bad = Bad()
    registry.plugin_manager().register(bad)
    try:
        pool = make_pool(max_size=1, local=local)
        assert whole_capacity(pool, clock)
    finally:
        registry.plugin_manager().unregister(bad)


def test_if_no_thread_can_be_started_the_borrower_is_told_and_nothing_is_lost(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    clock.spawn_error = RuntimeError("can't start new thread")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.connection(timeout=1.0)

    clock.spawn_error = None
    assert whole_capacity(pool, clock)


def test_a_pool_that_is_dropped_closes_its_idle_connections(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = Pool(fake, driver=fake.driver(), clock=clock, min_size=2)
    assert fake.open == 2
    del pool
    clock.advance(100.0)

    assert fake.open == 0
    assert clock.tasks == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("end", ["close", "invalidate"])
def test_a_cursor_that_somebody_keeps_does_not_keep_a_dropped_pool(
    fake: FakeDriver, clock: VirtualClock, known: bool, end: str
) -> None:
    driver = fake.driver() if known else Driver(fake)  # type: ignore[arg-type]
    pool = Pool(fake, driver=driver, clock=clock, min_size=1)
    conn = pool.connection()
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    getattr(conn, end)()
    del pool
    clock.advance(100.0)
    if FREE:  # what another thread dropped last dies when this one, who made it, runs on
        clock.advance(100.0)

    assert fake.open == 0
    with pytest.raises(fake.InterfaceError, match="returned to the pool"):
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("error", ERRORS)
def test_who_is_struck_while_another_is_still_in_the_driver_leaves_nothing_open(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, error: type[BaseException]
) -> None:
    pool = make_pool(max_size=1, local=True)
    conn = pool.connection()
    fake.on("execute", delay=1.0)
    busy = clock.start(conn.cursor().execute, "SELECT 1")
    clock.run()
    closing = clock.start(conn.close)
    clock.run()
    closing.throw(error())
    clock.advance(2.0)

    assert busy.done
    assert closing.done
    assert fake.open == 0
    assert pool.stats().size == 0
    assert whole_capacity(pool, clock)


class Refusing:
    """A lock that nobody may ask for."""

    def acquire(self) -> None:
        raise AssertionError("logging's lock was asked for")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        pass


def test_a_log_needs_no_lock_of_logging_that_an_exception_may_have_left_locked(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("dbapi_pool.no_lock_needed")
    log._cache.clear()  # type: ignore[attr-defined]
    make_pool(name="no.lock.needed")
    monkeypatch.setattr(logging, "_lock", Refusing())
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.isEnabledFor(level)
    monkeypatch.undo()
