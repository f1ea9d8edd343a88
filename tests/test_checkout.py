"""P1 bound, P6 deadline, P7 fair: who gets a connection, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbapi_pool import Pool, PoolClosed, PoolFull, PoolSettingError, PoolTimeout
from dbapi_pool.drivers import hookimpl
from dbapi_pool.ledger import Ledger, Place
from dbapi_pool.testing import FakeDriver, VirtualClock

MakePool = Callable[..., Pool]


# -- P1: never more than max_size, counted until close() has returned ------------------------------


@pytest.mark.parametrize("local", [True, False])
def test_never_more_than_max_size_connections_are_open_or_opening(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=3, local=local)
    fake.on("connect", delay=0.05)

    def borrow() -> None:
        with pool.connection():
            clock.sleep(0.01)

    for task in [clock.start(borrow) for _ in range(20)]:
        task.result()

    assert fake.peak == 3


def test_a_connection_that_is_being_closed_still_takes_its_place(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("close", hang=True, times=1)
    pool.connection().invalidate()
    waiting = clock.start(pool.connection, 60.0)
    clock.run()

    assert pool.stats().closing == 1
    assert fake.peak == 1
    assert not waiting.done

    fake.release("close")
    waiting.result().close()
    assert fake.peak == 1


def test_as_many_openers_start_as_there_are_waiters_and_room(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4)
    fake.on("connect", delay=0.1)
    start = clock.monotonic()

    tasks = [clock.start(pool.connection) for _ in range(4)]
    clock.run()

    assert pool.stats().opening == 4
    handles = [task.result() for task in tasks]
    assert clock.monotonic() - start == pytest.approx(0.1)
    for handle in handles:
        handle.close()


@pytest.mark.parametrize("how", ["opened", "pinged"])
def test_what_is_on_its_way_to_a_waiter_is_not_lent_yet(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, how: str
) -> None:
    """Or both would be counted, and somebody who does not wait be refused what is free for him."""
    seen: list[tuple[int, int]] = []

    class Watcher:
        @hookimpl
        def dbapi_pool_connected(self, pool: Pool) -> None:
            seen.append((pool.stats().in_use, pool.stats().waiting))

        @hookimpl
        def dbapi_pool_pinged(self, pool: Pool) -> None:
            seen.append((pool.stats().in_use, pool.stats().waiting))

    pool = make_pool(max_size=2, ping_after=0)
    if how == "pinged":
        pool.connection().close()
        clock.advance(10.0)
    pool.register(Watcher())
    pool.connection().close()

    assert seen == [(0, 1)]


def test_a_spike_is_served_by_returns_and_drops_surplus_wishes(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    """HikariCP's spike: 5 open, 50 callers at once, connect 150 ms, query 2 ms."""
    pool = make_pool(min_size=5, max_size=50)
    fake.on("connect", delay=0.15)
    start = clock.monotonic()
    ends: list[float] = []

    def borrow() -> None:
        with pool.connection():
            clock.sleep(0.002)
        ends.append(clock.monotonic() - start)

    for task in [clock.start(borrow) for _ in range(50)]:
        task.result()

    assert max(ends) == pytest.approx(0.02)


def test_who_waits_takes_whichever_comes_first_a_return_or_a_new_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    first = pool.connection()
    fake.on("connect", delay=5.0, times=1)
    waiting = clock.start(pool.connection)
    clock.advance(1.0)

    first.close()
    clock.run()

    assert waiting.done
    waiting.result().close()
    clock.advance(10.0)
    assert pool.stats().idle == 2


# -- P6: one deadline over everything --------------------------------------------------------------


def test_a_checkout_from_an_exhausted_pool_raises_at_its_deadline(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    start = clock.monotonic()

    waiting = clock.start(pool.connection, 2.0)
    with pytest.raises(PoolTimeout):
        waiting.result()

    assert clock.monotonic() - start == pytest.approx(2.0)
    held.close()


def test_a_connect_that_never_returns_costs_the_borrower_no_more_than_its_timeout(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("connect", hang=True, times=1)
    start = clock.monotonic()

    with pytest.raises(PoolTimeout):
        pool.connection(timeout=3.0)

    assert clock.monotonic() - start == pytest.approx(3.0)
    fake.release("connect")
    clock.run()
    pool.connection(timeout=1.0).close()


def test_a_ping_that_hangs_draws_on_the_same_deadline(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, ping_after=10.0, ping_timeout=60.0, max_lifetime=None)
    with pool.connection(), pool.connection():
        pass
    clock.advance(20.0)
    fake.on("ping", hang=True)
    start = clock.monotonic()

    with pytest.raises(PoolTimeout):
        pool.connection(timeout=2.5)

    assert clock.monotonic() - start == pytest.approx(2.5)
    fake.off("ping")
    fake.release("ping")


def test_a_hung_ping_is_cut_after_ping_timeout_and_a_new_connection_is_opened(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, ping_after=10.0, ping_timeout=2.0)
    pool.connection().close()
    clock.advance(20.0)
    fake.on("ping", hang=True, times=1)
    start = clock.monotonic()

    pool.connection(timeout=30.0).close()

    assert clock.monotonic() - start <= 4.0 + 0.05
    assert pool.stats().closed == {"failed ping": 1}


def test_a_hung_ping_does_not_keep_another_borrower_from_a_good_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, ping_after=10.0)
    good = pool.connection()
    pool.connection().close()
    clock.advance(20.0)
    fake.on("ping", hang=True, times=1)
    stuck = clock.start(pool.connection, 60.0)
    clock.run()

    good.close()
    clock.run()

    assert stuck.done
    stuck.result().close()


def test_timeout_zero_does_not_wait_for_others_but_for_a_connect_that_there_is_room_for(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, checkout_timeout=0)
    fake.on("connect", delay=0.5)
    held = pool.connection()
    start = clock.monotonic()

    refused = clock.start(pool.connection)
    with pytest.raises(PoolTimeout):
        refused.result()

    assert clock.monotonic() == start
    held.close()


def test_a_deadline_at_the_instant_of_a_return_loses_nothing(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()

    def give_back() -> None:
        clock.sleep(1.0)
        held.close()

    clock.start(give_back)
    waiting = clock.start(pool.connection, 1.0)
    clock.advance(1.0)
    if waiting.exception is None:
        waiting.result().close()

    assert pool.stats().idle == 1
    pool.connection(timeout=0).close()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "3"])
def test_a_timeout_that_is_not_seconds_is_refused_with_its_value(
    make_pool: MakePool, timeout: object
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection(), pytest.raises(PoolSettingError, match="timeout="):
        pool.connection(timeout=timeout)  # type: ignore[arg-type]


# -- P7: first come, first served ------------------------------------------------------------------


@pytest.mark.parametrize("local", [True, False])
def test_waiters_are_served_in_the_order_of_their_coming(
    make_pool: MakePool, clock: VirtualClock, local: bool
) -> None:
    pool = make_pool(max_size=2, local=local)
    held = [pool.connection(), pool.connection()]
    served: list[int] = []

    def borrow(number: int) -> None:
        with pool.connection():
            served.append(number)
            clock.sleep(0.01)

    tasks = [clock.start(borrow, number) for number in range(10)]
    clock.run()
    for handle in held:
        handle.close()
    for task in tasks:
        task.result()

    assert served == list(range(10))


def test_a_newcomer_does_not_overtake_those_who_wait(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    waiting = clock.start(pool.connection)
    clock.run()

    held.close()
    newcomer = clock.start(pool.connection, 1.0)
    clock.run()

    assert waiting.done
    assert not newcomer.done
    waiting.result().close()
    newcomer.result().close()


def test_a_waiter_whose_member_had_to_go_keeps_its_turn(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    served: list[str] = []

    def borrow(name: str) -> None:
        with pool.connection():
            served.append(name)

    tasks = [clock.start(borrow, name) for name in ("first", "second")]
    clock.run()
    fake.kill_all()
    held.close()
    for task in tasks:
        task.result()

    assert served == ["first", "second"]


def test_two_waiters_whose_members_had_to_be_pinged_keep_their_order(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, ping_after=0)
    held = [pool.connection(), pool.connection()]
    first, second = clock.start(pool.connection), clock.start(pool.connection)
    clock.run()

    fake.on("ping", delay=0.0, times=1)
    fake.on("ping", delay=3.0, times=1)
    for handle in held:
        handle.close()
    clock.run()

    assert (first.done, second.done) == (True, False)
    first.result().close()
    second.result().close()


def test_an_interrupted_waiter_passes_on_what_it_was_given(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    first = clock.start(pool.connection)
    second = clock.start(pool.connection)
    clock.run()

    held.close()  # given to the first, which has not woken yet
    first.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        first.result()

    second.result().close()
    assert pool.stats().idle == 1


@pytest.mark.parametrize(
    ("unwant", "reason"),
    [(lambda pool: pool.resize(1), "resized"), (lambda pool: pool.drain(), "drained")],
    ids=["resize", "drain"],
)
def test_what_an_interrupted_waiter_was_given_is_not_kept_if_it_became_unwanted(
    make_pool: MakePool, clock: VirtualClock, unwant: Callable[[Pool], None], reason: str
) -> None:
    pool = make_pool(max_size=2)
    held, other = pool.connection(), pool.connection()
    waiter = clock.start(pool.connection)
    clock.run()

    held.close()  # given to the waiter, which has not woken yet
    unwant(pool)
    waiter.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        waiter.result()
    clock.run()

    assert pool.stats().idle == 0
    assert pool.stats().closed == {reason: 1}
    other.close()


def test_more_waiters_than_max_waiting_are_turned_away_at_once(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, max_waiting=1)
    held = pool.connection()
    waiting = clock.start(pool.connection)
    clock.run()

    refused = clock.start(pool.connection)
    with pytest.raises(PoolFull, match="max_waiting=1") as caught:
        refused.result()

    assert isinstance(caught.value, fake.OperationalError)
    held.close()
    waiting.result().close()


def test_while_suspended_borrowers_wait_and_are_served_on_resume(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    pool.connection().close()
    pool.suspend()
    waiting = clock.start(pool.connection)
    late = clock.start(pool.connection, 1.0)
    clock.advance(2.0)

    assert not waiting.done
    assert isinstance(late.exception, PoolTimeout)
    assert "resume()" in str(late.exception)

    pool.resume()
    waiting.result().close()


def test_closing_the_pool_wakes_all_who_wait(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    held = pool.connection()
    waiting = clock.start(pool.connection)
    clock.run()

    assert pool.close(timeout=0) is False

    with pytest.raises(PoolClosed) as caught:
        waiting.result()
    assert isinstance(caught.value, fake.InterfaceError)
    held.close()
    clock.run()
    assert fake.open == 0
    with pytest.raises(PoolClosed):
        pool.connection()


# -- the look at the places, which takes them as they are ------------------------------------------


def test_a_connection_that_gets_ready_while_the_places_are_counted_is_counted_once(
    clock: VirtualClock,
) -> None:
    ledger = Ledger(clock.lock(), min_size=0, max_size=1, lost=lambda ref: None)
    ledger.inline = True
    lease = ledger._vacancy()

    class GetsReady(Place):
        """Whoever opens it is done with that right after somebody has looked."""

        @property
        def task(self) -> str | None:
            seen, self.__dict__["_task"] = self.__dict__.get("_task"), None
            return seen

        @task.setter
        def task(self, task: str | None) -> None:
            self.__dict__["_task"] = task

    place = GetsReady()
    place.ref, place.task = (lambda: lease), "opening"
    ledger.places[:] = [place]

    census = ledger.census()

    assert census.occupied == 1


def test_a_spike_opens_few_connections_and_a_lasting_crowd_twice_as_many_each_time(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=30)
    with pool.connection():
        pass
    fake.on("connect", delay=0.5)
    seen = []
    tasks = [clock.start(pool.connection, 60.0) for _ in range(30)]
    clock.run()
    for _ in range(5):
        seen.append(pool.stats().opening)
        clock.advance(0.5)
    assert seen == [1, 2, 4, 8, 14]
    for task in tasks:
        task.result().close()
    assert pool.stats().size == 30


def test_a_connect_that_hangs_does_not_keep_the_others_from_beginning(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)
    with pool.connection():
        fake.on("connect", hang=True, times=1)
        tasks = [clock.start(pool.connection, 60.0) for _ in range(2)]
        clock.advance(1.0)
        assert [task.done for task in tasks] == [True, False]
        clock.advance(pool._options.ping_timeout)
        for task in tasks:
            task.result().close()


def test_an_empty_pool_opens_for_all_who_wait(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=8)
    fake.on("connect", delay=1.0)
    tasks = [clock.start(pool.connection, 60.0) for _ in range(20)]
    clock.run()
    assert pool.stats().opening == 8
    for task in tasks:
        task.result().close()
