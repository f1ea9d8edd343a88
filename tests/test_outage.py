"""P10 heals, and `fail_fast_after`: while the server is down, and when it is back."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from dbapi_pool import Pool, PoolClosed, PoolTimeout, PoolUnavailable
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


# -- without `fail_fast_after` ------------------------------------------------------------------------


@pytest.mark.parametrize("waiters", [1, 5, 100])
def test_attempts_while_the_server_is_down_do_not_depend_on_how_many_wait(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, waiters: int
) -> None:
    pool = make_pool(max_size=10)
    fake.down = True
    for _ in range(waiters):
        clock.start(pool.connection, 60.0)
    clock.advance(5.0)  # the intervals grow until then
    before = fake.calls["connect"]
    clock.advance(50.0)
    assert 50 <= fake.calls["connect"] - before <= 150


def test_attempts_are_not_as_regular_as_a_clock(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool()
    fake.down = True
    clock.start(pool.connection, 60.0)
    begun: list[float] = []
    for _ in range(5000):
        before = fake.calls["connect"]
        clock.advance(0.01)
        if fake.calls["connect"] > before:
            begun.append(clock.monotonic())
    pauses = {round(b - a, 2) for a, b in zip(begun[10:], begun[11:], strict=False)}
    assert len(pauses) > 10


@pytest.mark.parametrize("outage", [0.1, 1.0, 7.0, 59.0])
def test_within_a_second_after_the_server_is_back_all_are_served_and_without_a_storm(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, outage: float
) -> None:
    pool = make_pool(max_size=10)
    fake.down = True
    tasks = [clock.start(use, pool) for _ in range(40)]
    clock.advance(outage)
    fake.down = False
    before = fake.calls["connect"]
    clock.advance(1.0)
    assert all(task.done and task.exception is None for task in tasks)
    assert fake.calls["connect"] - before <= 10


def use(pool: Pool) -> None:
    pool.connection(60.0).close()


def test_a_connect_that_does_not_come_back_does_not_keep_others_from_trying_while_connects_fail(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)
    fake.down = True
    waiting = clock.start(pool.connection, 30.0)
    clock.advance(0.01)
    fake.down = False
    fake.on("connect", hang=True, times=1)
    clock.advance(1.0)
    assert fake.waiting("connect") == 1
    clock.advance(1.5)
    assert waiting.done
    waiting.result().close()


# -- with it -----------------------------------------------------------------------------------------


def test_who_waits_is_sent_away_when_connecting_has_failed_for_so_long_and_the_next_at_once(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=5.0)
    fake.down = True
    start = clock.monotonic()
    tasks = [clock.start(pool.connection, 30.0) for _ in range(3)]
    for task in tasks:
        with pytest.raises(PoolUnavailable):
            task.result()
    assert 5.0 <= clock.monotonic() - start <= 5.9

    now = clock.monotonic()
    with pytest.raises(
        PoolUnavailable, match=r"in vain for 5\.\d+ s.*fail_fast_after=5\.0"
    ) as caught:
        pool.connection()
    assert clock.monotonic() == now
    assert isinstance(caught.value, PoolTimeout)
    assert isinstance(caught.value, fake.OperationalError)
    assert isinstance(caught.value.__cause__, fake.OperationalError)
    assert pool.stats().timeouts == 4


def test_zero_sends_away_at_the_first_failure(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=0)
    fake.down = True
    start = clock.monotonic()
    first = clock.start(pool.connection, 30.0)
    clock.advance(0.5)
    with pytest.raises(PoolUnavailable):
        first.result()
    assert clock.monotonic() - start <= 0.5


def test_a_first_connect_that_takes_its_time_is_not_in_vain(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=0)
    fake.on("connect", delay=2.0)
    tasks = [clock.start(use, pool) for _ in range(20)]
    clock.advance(1.0)
    tasks += [clock.start(use, pool) for _ in range(20)]
    clock.advance(10.0)
    assert all(task.done and task.exception is None for task in tasks)


def test_it_recovers_by_itself_though_nobody_waits(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=1.0)
    fake.down = True
    with pytest.raises(PoolUnavailable):
        pool.connection()
    clock.advance(10.0)
    fake.down = False
    clock.advance(1.0)
    assert pool.stats().idle == 1
    now = clock.monotonic()
    pool.connection().close()
    assert clock.monotonic() == now


def test_while_it_sends_away_attempts_stay_few_and_end_when_nobody_asks_any_more(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=1.0)
    fake.down = True
    for _ in range(20):
        for _ in range(50):
            with pytest.raises(PoolUnavailable):
                pool.connection()
        clock.advance(1.0)
    assert 20 <= fake.calls["connect"] <= 70
    clock.advance(31.0)
    before = fake.calls["connect"]
    clock.advance(600.0)
    assert fake.calls["connect"] == before


def test_what_failed_long_ago_says_nothing_about_now(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=1.0)
    fake.down = True
    with pytest.raises(PoolUnavailable):
        pool.connection()
    clock.advance(600.0)
    fake.down = False
    pool.connection().close()


def test_an_outage_long_after_another_begins_anew(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=5.0)
    fake.down = True
    with pytest.raises(PoolTimeout):
        pool.connection(0.5)
    clock.advance(600.0)
    start = clock.monotonic()
    with pytest.raises(PoolUnavailable):
        pool.connection()
    assert clock.monotonic() - start >= 5.0


def test_who_can_be_served_by_a_return_waits(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, fail_fast_after=1.0)
    conn = pool.connection()
    fake.down = True
    waiting = clock.start(pool.connection, 30.0)
    clock.advance(10.0)
    assert not waiting.done
    conn.close()
    clock.run()
    waiting.result().close()


def test_a_black_hole_is_in_vain_too(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, fail_fast_after=1.0, ping_timeout=3.0)
    fake.on("connect", hang=True)
    start = clock.monotonic()
    with pytest.raises(PoolUnavailable):
        pool.connection()
    assert 3.0 <= clock.monotonic() - start <= 4.1
    now = clock.monotonic()
    with pytest.raises(PoolUnavailable):
        pool.connection()
    assert clock.monotonic() == now


def test_a_permanent_error_stays_the_drivers_own(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=0)
    fake.on("connect", error=fake.OperationalError("access denied"))
    for _ in range(3):
        with pytest.raises(fake.OperationalError, match="access denied") as caught:
            pool.connection()
        assert not isinstance(caught.value, PoolTimeout)
        clock.advance(10.0)


def test_it_is_logged_when_it_begins_and_when_it_ends(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(fail_fast_after=1.0)
    fake.down = True
    with caplog.at_level(logging.WARNING, "dbapi_pool"):  # of which the pool's own is a child
        for _ in range(5):
            with pytest.raises(PoolUnavailable):
                pool.connection()
            clock.advance(1.0)
        fake.down = False
        clock.advance(2.0)
    failures = pool.stats().connect_errors
    assert failures > 5
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "cannot connect: OperationalError",
        "connecting is in vain, checkouts fail at once",
        f"connecting succeeds again, after {failures} failures",
    ]


def test_a_closed_pool_tries_no_more(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=0)
    fake.down = True
    with pytest.raises(PoolUnavailable):
        pool.connection()
    pool.close()
    with pytest.raises(PoolClosed):
        pool.connection()
    before = fake.calls["connect"]
    clock.advance(60.0)
    assert fake.calls["connect"] == before


def test_in_a_suspended_pool_each_waits_for_its_own_time(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(fail_fast_after=0)
    fake.down = True
    with pytest.raises(PoolUnavailable):
        pool.connection()
    pool.suspend()
    waiting = clock.start(pool.connection, 20.0)
    clock.advance(5.0)
    assert not waiting.done
    fake.down = False
    pool.resume()
    clock.advance(1.0)
    waiting.result().close()


@pytest.mark.parametrize("suspended", [False, True])
def test_the_housekeeper_does_not_spin_while_somebody_waits(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch, suspended: bool,
) -> None:  # fmt: skip
    pool = make_pool(max_size=1, fail_fast_after=0)
    if suspended:
        fake.down = True
        with pytest.raises(PoolUnavailable):
            pool.connection()
        pool.suspend()
    else:
        conn = pool.connection()
    looks: list[float] = []
    tick = pool._keeper.tick
    monkeypatch.setattr(pool._keeper, "tick", lambda: looks.append(clock.monotonic()) or tick())
    waiting = clock.start(pool.connection, 20.0)
    clock.advance(10.0)
    assert len(looks) < 40
    fake.down = False
    pool.resume() if suspended else conn.close()
    clock.advance(1.0)
    waiting.result().close()
