"""A pool's life: filling, shrinking, draining, resizing, closing; the figures it gives of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from dbapi_pool import (
    Pool,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolSettingError,
    PoolTimeout,
)
from dbapi_pool.drivers import hookimpl, registry
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


@pytest.mark.parametrize("local", [True, False])
def test_min_size_connections_are_open_when_the_constructor_returns(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    fake.on("connect", delay=0.1)
    start = clock.monotonic()
    make_pool(min_size=3, local=local)

    assert fake.open == 3
    assert clock.monotonic() - start == pytest.approx(0.3 if local else 0.1, abs=0.11)


@pytest.mark.parametrize("local", [True, False])
def test_if_they_cannot_be_opened_the_constructor_raises_the_drivers_error(
    fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    fake.on("connect", error=fake.OperationalError("access denied"))
    with pytest.raises(fake.OperationalError, match="access denied"):
        Pool(fake, driver=fake.driver(local=local), clock=clock, min_size=2)
    clock.run()
    assert fake.open == 0


@pytest.mark.parametrize("local", [True, False])
def test_min_size_is_kept_up_when_connections_go(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(min_size=2, max_size=4, max_lifetime=100.0, local=local)
    clock.advance(150.0)
    assert fake.open == 2
    assert pool.stats().closed["lifetime"] >= 2


@pytest.mark.parametrize("local", [True, False])
def test_idle_connections_above_min_size_are_retired_after_idle_timeout(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(min_size=1, max_size=4, idle_timeout=60.0, local=local)
    pool.warm_up()
    clock.advance(59.0)
    assert fake.open == 4
    clock.advance(20.0)
    assert fake.open == 1
    assert pool.stats().closed == {"idle": 3}


def test_what_is_used_is_not_retired_as_idle(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    make_pool(max_size=1, idle_timeout=60.0)
    pool = make_pool(max_size=1, idle_timeout=60.0)
    for _ in range(10):
        pool.connection().close()
        clock.advance(50.0)
    assert pool.stats().opened == 1


def test_lifetimes_differ_by_up_to_a_tenth(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=8, max_lifetime=100.0, idle_timeout=None)
    pool.warm_up()
    clock.advance(89.9)
    assert pool.stats().size == 8
    clock.advance(5.0)
    assert 0 < pool.stats().size < 8
    clock.advance(5.2)
    assert pool.stats().size == 0


def test_a_lent_connection_is_not_cut_by_its_lifetime_but_retired_on_return(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, max_lifetime=100.0)
    with pool.connection() as conn:
        clock.advance(500.0)
        conn.execute("SELECT 1")
    clock.run()
    assert pool.stats().closed == {"lifetime": 1}


def test_lifetime_is_checked_at_checkout_too(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=1, max_lifetime=100.0)
    pool.connection().close()
    member = pool._ledger.idle[0].member
    member.expires = member.due = clock.monotonic()  # before the housekeeper has looked

    with pool.connection():
        assert pool.stats().closed == {"lifetime": 1}


def test_a_connection_is_retired_after_max_uses_leases_never_inside_one(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, max_uses=3)
    for _ in range(7):
        with pool.connection() as conn:
            for _ in range(5):
                conn.execute("SELECT 1")
    clock.run()
    assert pool.stats().closed == {"uses": 2}


def test_no_more_than_max_idle_are_kept(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=4, max_idle=1)
    handles = [pool.connection() for _ in range(4)]
    for handle in handles:
        handle.close()
    clock.run()
    assert pool.stats().idle == 1
    assert pool.stats().closed == {"surplus": 3}


def test_the_most_recently_used_is_lent_first_so_that_the_pool_can_shrink(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3, idle_timeout=60.0)
    pool.warm_up()
    for _ in range(10):
        pool.connection().close()
        clock.advance(10.0)
    assert pool.stats().size == 1


def test_drain_replaces_idle_connections_now_and_lent_ones_on_return(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(min_size=1, max_size=3)
    pool.warm_up()
    lent = pool.connection()
    pool.drain()
    clock.run()

    assert lent.execute("SELECT 1").fetchall() == [(1,)]
    assert pool.stats().closed == {"drained": 2}
    lent.close()
    clock.run()
    assert pool.stats().closed == {"drained": 3}
    assert pool.stats().size == 1
    with pool.connection() as conn:
        assert conn.number > 3


@pytest.mark.parametrize("local", [True, False])
def test_a_connection_whose_opening_began_before_the_drain_is_not_lent_after_it(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=1, local=local)
    fake.on("connect", delay=1.0, times=1)
    waiting = clock.start(pool.connection)
    clock.run()
    pool.drain()

    with waiting.result() as conn:
        assert conn.number == 2


@pytest.mark.parametrize("local", [True, False])
def test_a_connection_that_is_drained_while_it_is_pinged_is_not_lent(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=1, ping_after=0, local=local)
    pool.connection().close()
    clock.advance(1.0)

    fake.on("ping", delay=1.0, times=1)
    waiting = clock.start(pool.connection)
    clock.advance(0.5)
    pool.drain()

    with waiting.result() as conn:
        assert conn.number == 2


def test_growing_serves_those_who_wait(make_pool: MakePool, clock: VirtualClock) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    waiting = clock.start(pool.connection)
    clock.run()
    pool.resize(max_size=2)
    waiting.result().close()
    held.close()


def test_shrinking_closes_idle_connections_now_and_lent_ones_on_return(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4)
    lent = [pool.connection() for _ in range(3)]
    pool.warm_up()
    pool.resize(max_size=1)
    clock.run()
    assert fake.open == 3

    with pytest.raises(PoolTimeout):
        clock.start(pool.connection, 0.0).result()
    for handle in lent:
        handle.close()
    clock.run()
    assert fake.open == 1
    assert pool.stats().closed == {"resized": 3}


def test_resize_refuses_what_a_new_pool_would_refuse(make_pool: MakePool) -> None:
    pool = make_pool(min_size=2, max_size=4)
    with pytest.raises(PoolSettingError, match="max_size=0"):
        pool.resize(max_size=0)
    with pytest.raises(PoolSettingError, match="min_size=2 is more than max_size=1"):
        pool.resize(max_size=1)
    assert (pool.min_size, pool.max_size) == (2, 4)


def test_a_pool_of_size_0_lends_nothing_until_it_is_raised(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, place: str
) -> None:
    pool = make_pool(max_size=2, local=place == "local")
    pool.connection().close()
    pool.resize(max_size=0, ceiling=1)
    clock.run()
    assert (pool.occupied, pool.exhausted, fake.open) == (0, True, 0)
    with pytest.raises(PoolTimeout, match="max_size=0"):
        clock.start(pool.connection, 1.0).result()

    waiting = clock.start(pool.connection)
    clock.run()
    pool.resize(max_size=1, ceiling=2)
    held = waiting.result()
    assert (pool.occupied, pool.busy, pool.exhausted) == (1, 1, True)
    held.close()
    assert (pool.occupied, pool.busy, pool.exhausted) == (1, 0, False)


def test_below_the_ceiling_who_waits_for_itself_is_no_deadlock(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    pool.resize(max_size=1, ceiling=2)

    def twice() -> None:
        with pool.connection(), pool.connection():
            pass

    borrowing = clock.start(twice)
    clock.advance(5.0)
    pool.resize(max_size=2, ceiling=2)
    borrowing.result()
    pool.resize(max_size=1, ceiling=1)
    with pool.connection(), pytest.raises(PoolDeadlock):
        pool.connection()


def test_warm_up_opens_in_parallel_what_lacks(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=5)
    lent = pool.connection()
    fake.on("connect", delay=0.1)
    start = clock.monotonic()
    pool.warm_up()

    assert pool.stats().size == 5
    assert clock.monotonic() - start == pytest.approx(0.1)
    lent.close()
    with pytest.raises(PoolSettingError, match="count=9"):
        pool.warm_up(9)


def test_close_closes_all_and_says_so(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=3)
    pool.warm_up()
    assert pool.close() is True
    assert fake.open == 0
    assert pool.close() is True
    for use in (pool.connection, pool.suspend, pool.resume, pool.warm_up):
        with pytest.raises(PoolClosed):
            use()


def test_close_waits_for_connections_that_others_hold(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)

    def work() -> None:
        with pool.connection() as conn:
            clock.sleep(2.0)
            conn.execute("SELECT 1")

    worker = clock.start(work)
    clock.run()
    start = clock.monotonic()
    assert pool.close(timeout=5.0) is True
    assert clock.monotonic() - start == pytest.approx(2.0)
    worker.result()


def test_close_does_not_wait_for_what_the_caller_itself_holds(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    start = clock.monotonic()
    assert pool.close() is False
    assert clock.monotonic() == start

    held.execute("SELECT 1")
    held.close()
    clock.run()
    assert fake.open == 0


def test_a_pool_is_a_context_manager(fake: FakeDriver, clock: VirtualClock) -> None:
    with Pool(fake, driver=fake.driver(), clock=clock) as pool:
        pool.connection().close()
    assert pool.closed
    assert fake.open == 0


def test_an_idle_pool_has_no_threads(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3, idle_timeout=10.0)
    assert clock.tasks == []
    pool.warm_up()
    clock.advance(60.0)
    assert fake.open == 0
    assert clock.tasks == []


def test_data_that_lives_in_the_connection_is_not_retired_for_its_age(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    driver = fake.driver(local=True, expendable=False)
    pool = make_pool(max_size=1, driver=driver, max_lifetime=10.0, idle_timeout=10.0, max_uses=1)
    for _ in range(3):
        pool.connection().close()
        clock.advance(100.0)
    assert pool.stats().opened == 1


def test_draining_does_not_throw_data_away(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1, driver=fake.driver(local=True, expendable=False))
    pool.connection().close()
    with pytest.raises(PoolError, match="lose the data"):
        pool.drain()
    assert pool.stats().opened == 1


def test_what_was_opened_for_somebody_who_left_counts_for_max_idle(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4, max_idle=1, idle_timeout=20.0)
    fake.on("connect", delay=2.0)
    for _ in range(4):
        clock.start(pool.connection, 1.0)
    clock.advance(10.0)
    assert pool.stats().idle == 1


def test_after_shrinking_max_waiting_counts_those_who_wait(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3, max_waiting=2)
    lent = [pool.connection() for _ in range(3)]
    pool.resize(max_size=1)
    waiting = [clock.start(pool.connection) for _ in range(2)]
    clock.run()
    assert pool.stats().waiting == 2
    for handle in lent:
        handle.close()
    for task in waiting:
        task.result().close()


def test_a_local_driver_keeps_min_size_without_delay(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(min_size=2, max_size=2, local=True)
    pool.connection().invalidate()
    clock.run()
    assert fake.open == 2


def test_stats_are_frozen_consistent_and_ready_for_json(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(min_size=1, max_size=3)
    with pool.connection(), pool.connection():
        stats = pool.stats()
        assert (stats.size, stats.in_use, stats.idle, stats.max_size) == (2, 2, 0, 3)
    with pytest.raises(FrozenInstanceError):
        stats.size = 7  # type: ignore[misc]
    after = pool.stats()
    assert (after.checkouts, after.opened, after.state) == (2, 2, "open")
    assert json.loads(json.dumps(after.as_dict()))["in_use"] == 0


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    @hookimpl
    def dbapi_pool_connected(self, pool: Any, seconds: float) -> None:
        self.heard.append("connected")

    @hookimpl
    def dbapi_pool_checked_out(self, pool: Any, connection: Any) -> None:
        self.heard.append(f"checked out {type(connection).__name__}")

    @hookimpl
    def dbapi_pool_checked_in(self, pool: Any, seconds: float) -> None:
        self.heard.append(f"checked in after {seconds:.0f} s")

    @hookimpl
    def dbapi_pool_retired(self, pool: Any, reason: str) -> None:
        self.heard.append(f"retired: {reason}")

    @hookimpl
    def dbapi_pool_timed_out(self, pool: Any, seconds: float) -> None:
        self.heard.append(f"timed out after {seconds:.0f} s")


def test_plugins_hear_what_happens(make_pool: MakePool, clock: VirtualClock) -> None:
    listener = Listener()
    registry.plugin_manager().register(listener)
    try:
        pool = make_pool(max_size=1)
        with pool.connection():
            clock.start(pool.connection, 2.0)
            clock.advance(3.0)
        pool.close()
    finally:
        registry.plugin_manager().unregister(listener)

    assert listener.heard == [
        "connected",
        "checked out PooledConnection",
        "timed out after 2 s",
        "checked in after 3 s",
        "retired: closed",
    ]


@pytest.mark.parametrize("local", [True, False])
def test_checkouts_are_counted_while_several_connections_are_being_closed(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=3, local=local)
    for handle in [pool.connection() for _ in range(3)]:
        handle.close()

    fake.on("close", delay=1.0)
    closing = clock.start(pool.close)
    clock.advance(0.5)

    assert pool.stats().closing == 3
    assert pool.stats().checkouts == 3
    assert closing.result() is True
    assert pool.stats().checkouts == 3
