"""P4 alive, P5 no lies, P10 in part: dead connections are not lent, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dbapi_pool import CommitOutcomeUnknown, Pool, PoolTimeout
from dbapi_pool.testing import (
    FakeConnection,
    FakeDriver,
    FakeDriverPlugin,
    SerializationError,
    VirtualClock,
)

MakePool = Callable[..., Pool]


@pytest.mark.parametrize("local", [True, False])
def test_a_connection_known_to_be_dead_is_not_lent(
    make_pool: MakePool, fake: FakeDriver, local: bool
) -> None:
    pool = make_pool(max_size=2, local=local)
    pool.warm_up()
    fake.kill_all()

    with pool.connection() as conn:
        assert conn.execute("SELECT 1").fetchall() == [(1,)]
    assert fake.pings == 0
    assert pool.stats().closed["dead"] >= 1


def test_a_connection_idle_longer_than_ping_after_is_pinged_and_a_fresh_one_is_not(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, ping_after=30.0)
    pool.connection().close()
    clock.advance(29.0)
    pool.connection().close()
    assert fake.pings == 0

    clock.advance(31.0)
    pool.connection().close()
    assert fake.pings == 1


@pytest.mark.parametrize("local", [True, False])
def test_ping_after_zero_pings_at_every_checkout(
    make_pool: MakePool, fake: FakeDriver, local: bool
) -> None:
    pool = make_pool(max_size=1, ping_after=0, local=local)
    for _ in range(4):
        pool.connection().close()
    assert fake.pings == 3  # not the one that was just opened


def test_ping_after_none_never_pings(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, ping_after=None)
    pool.connection().close()
    clock.advance(500.0)
    pool.connection().close()
    assert fake.pings == 0


@pytest.mark.parametrize("local", [True, False])
def test_what_fails_its_ping_is_replaced_without_the_borrower_noticing(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, local: bool
) -> None:
    fake.lie_alive = True
    pool = make_pool(max_size=3, local=local)
    pool.warm_up()
    clock.advance(60.0)
    fake.kill_all()

    with pool.connection() as conn:
        conn.execute("SELECT 1")
    assert pool.stats().closed["failed ping"] >= 1


def test_after_one_dead_connection_the_others_are_pinged_before_they_are_lent(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    fake.lie_alive = True
    pool = make_pool(max_size=3)
    pool.warm_up()
    broken = pool.connection()
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        broken.execute("SELECT 1")
    broken.close()

    with pool.connection() as conn:
        conn.execute("SELECT 1")
    assert pool.stats().closed == {"broken": 1, "failed ping": 2}


def test_a_connection_lost_in_use_fails_once_and_is_not_lent_again(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        conn.execute("SELECT 1")
    conn.close()
    clock.run()

    assert pool.stats().closed == {"broken": 1}
    with pool.connection() as conn:
        conn.execute("SELECT 1")


def test_a_call_cut_by_an_exception_of_another_kind_costs_the_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    """An interrupted conversation with a server cannot be resumed."""
    pool = make_pool(max_size=1)
    fake.on("execute", error=KeyboardInterrupt(), times=1)
    with pytest.raises(KeyboardInterrupt), pool.connection() as conn:
        conn.execute("SELECT 1")
    clock.run()
    assert pool.stats().closed == {"broken": 1}


def test_no_statement_is_run_twice_and_no_connection_is_swapped_under_a_borrower(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=2)
    conn = pool.connection()
    conn.execute("INSERT 1")
    number = conn.number
    fake.kill_all()

    for _ in range(2):
        with pytest.raises(fake.OperationalError):
            conn.execute("INSERT 2")
    with pytest.raises(fake.OperationalError):
        conn.commit()

    assert conn.number == number
    assert [sql for _, sql in fake.executed].count("INSERT 1") == 1
    conn.close()


def test_while_the_server_is_down_connects_are_few_and_spread(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=10)
    fake.down = True
    tasks = [clock.start(pool.connection, 10.0) for _ in range(50)]
    for task in tasks:
        with pytest.raises(PoolTimeout):
            task.result()

    assert 10 <= fake.calls["connect"] <= 40


def test_when_the_server_is_back_waiters_are_served_soon(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=4)
    fake.down = True
    tasks = [clock.start(pool.connection, 60.0) for _ in range(4)]
    clock.advance(20.0)
    fake.down = False
    clock.advance(1.1)

    assert all(task.done for task in tasks)
    for task in tasks:
        task.result().close()


def test_a_permanent_connect_error_is_raised_at_once_as_the_drivers_own(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)
    refused = fake.OperationalError("access denied")
    fake.on("connect", error=refused)
    start = clock.monotonic()
    tasks = [clock.start(pool.connection, 30.0) for _ in range(5)]
    for task in tasks:
        with pytest.raises(fake.OperationalError, match="access denied"):
            task.result()
    assert clock.monotonic() == start


def test_keepalive_pings_idle_connections_and_replaces_the_dead(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    fake.lie_alive = True
    pool = make_pool(min_size=2, max_size=2, keepalive=60.0)
    clock.advance(130.0)
    assert fake.pings >= 2

    fake.kill_all()
    clock.advance(130.0)
    assert pool.stats().closed["failed ping"] == 2
    assert fake.open == 2


# -- run ------------------------------------------------------------------------------------------


def test_run_tries_again_after_a_serialization_failure_and_commits_once(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    failures = [fake.SerializationError("40001"), fake.SerializationError("40001")]

    def work(conn: object) -> str:
        pool_conn = conn
        pool_conn.execute("INSERT")  # type: ignore[attr-defined]
        if failures:
            raise failures.pop()
        return "done"

    assert pool.run(work) == "done"
    assert (fake.commits, fake.rollbacks) == (1, 2)


def test_run_gives_up_after_its_retries_with_the_last_error(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    calls = []

    def work(conn: object) -> None:
        calls.append(conn)
        raise fake.SerializationError(f"try {len(calls)}")

    with pytest.raises(fake.SerializationError, match="try 3"):
        pool.run(work, retries=2)
    assert len(calls) == 3


def test_run_does_not_repeat_what_failed_for_another_reason(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    calls = []

    def work(conn: object) -> None:
        calls.append(conn)
        raise fake.IntegrityError("duplicate")

    with pytest.raises(fake.IntegrityError):
        pool.run(work)
    assert len(calls) == 1


def test_run_tries_again_when_the_connection_was_lost_before_the_commit(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    calls = []

    def work(conn: object) -> None:
        calls.append(conn)
        if len(calls) == 1:
            fake.kill_all()
        conn.execute("INSERT")  # type: ignore[attr-defined]

    pool.run(work)
    assert (len(calls), fake.commits) == (2, 1)


def test_run_never_repeats_a_commit_whose_outcome_is_unknown(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    calls = []

    def work(conn: object) -> None:
        calls.append(conn)
        conn.execute("INSERT")  # type: ignore[attr-defined]
        fake.kill_all()

    with pytest.raises(CommitOutcomeUnknown) as caught:
        pool.run(work)
    assert len(calls) == 1
    assert isinstance(caught.value, fake.OperationalError)
    assert isinstance(caught.value.__cause__, fake.OperationalError)


def test_the_pauses_of_run_grow_are_capped_and_jittered(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    times = []

    def work(conn: object) -> None:
        times.append(clock.monotonic())
        raise fake.SerializationError("again")

    with pytest.raises(fake.SerializationError):
        pool.run(work, retries=12)
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert 0 < pauses[0] <= 0.01
    assert max(pauses) <= 1.0
    assert sum(pauses[-3:]) > sum(pauses[:3])


def test_transaction_is_one_lease_and_one_transaction(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    with pool.transaction() as conn:
        assert conn.in_transaction
        conn.execute("INSERT")
    with pytest.raises(ValueError, match="stop"), pool.transaction() as conn:
        raise ValueError("stop")
    assert (fake.commits, fake.rollbacks) == (1, 1)
    assert pool.stats().in_use == 0


# -- what a driver says about an error that leaves the connection alive -----------------------------


class Telling(FakeDriverPlugin):
    """A plugin whose server says in words what has happened to it."""

    def is_failover(self, exc: BaseException, conn: FakeConnection) -> bool:
        return "read-only" in str(exc)

    def is_server_wide(self, exc: BaseException) -> bool:
        return "shutting down" in str(exc)


def fail(pool: Pool, fake: FakeDriver, text: str) -> None:
    """One lease whose statement fails with `text`."""
    with pool.connection() as conn:
        fake.on("execute", error=fake.OperationalError(text), times=1)
        with pytest.raises(fake.OperationalError, match=text):
            conn.execute("INSERT")


@pytest.mark.parametrize("local", [True, False])
def test_a_server_that_turned_read_only_costs_one_error_and_every_connection_to_it(
    make_pool: MakePool, fake: FakeDriver, local: bool
) -> None:
    pool = make_pool(max_size=3, driver=Telling(fake, local=local))
    pool.warm_up()
    other = pool.connection()
    fail(pool, fake, "read-only")
    other.close()

    assert pool.stats().closed == {"broken": 1, "failover": 2}


def test_a_failover_is_acted_upon_once_however_many_notice_it(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=3, driver=Telling(fake))
    late = pool.connection()
    fail(pool, fake, "read-only")
    pool.warm_up()  # after the failover: these are good
    with late:
        fake.on("execute", error=fake.OperationalError("read-only"), times=1)
        with pytest.raises(fake.OperationalError):
            late.execute("INSERT")

    assert pool.stats().closed == {"broken": 2}
    assert pool.stats().idle == 2


def test_a_database_in_memory_survives_what_looks_like_a_failover(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=2, driver=Telling(fake, local=True, expendable=False))
    pool.warm_up()
    fail(pool, fake, "read-only")

    assert "failover" not in pool.stats().closed


def test_a_sign_of_the_whole_server_has_the_idle_connections_pinged(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=2, driver=Telling(fake))
    pool.warm_up()
    fail(pool, fake, "constraint")
    pool.connection().close()
    assert fake.pings == 0

    fail(pool, fake, "shutting down")
    with pool.connection(), pool.connection():
        assert fake.pings == 1  # the one that failed was not idle
    assert not pool.stats().closed


def test_a_connect_that_tells_of_the_whole_server_has_the_idle_ones_pinged(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=2, driver=Telling(fake))
    pool.connection().close()
    fake.on("connect", error=fake.OperationalError("shutting down"), times=1)
    with pytest.raises(fake.OperationalError):
        pool.warm_up()

    pool.connection().close()
    assert fake.pings == 1


# -- a transaction that the server ended, on a connection that goes on --------------------------------


class Ending(FakeDriverPlugin):
    """As with MySQL: a deadlock ends the transaction, and what follows begins another."""

    def ends_transaction(self, exc: BaseException, conn: FakeConnection) -> bool:
        return isinstance(exc, SerializationError)


def swallow_a_deadlock(conn: Any, fake: FakeDriver) -> None:
    fake.on("execute", error=SerializationError("deadlock"), times=1)
    with pytest.raises(SerializationError):
        conn.execute("UPDATE")


@pytest.mark.parametrize("more", ["execute", "commit", "executemany", "nothing"])
def test_what_follows_a_lost_transaction_is_refused_with_the_error_that_ended_it(
    make_pool: MakePool, fake: FakeDriver, more: str
) -> None:
    pool = make_pool(max_size=1, driver=Ending(fake))
    acts: dict[str, Callable[[Any], object]] = {
        "execute": lambda conn: conn.execute("INSERT"),
        "executemany": lambda conn: conn.cursor().executemany("INSERT", []),
        "commit": lambda conn: conn.commit(),
        "nothing": lambda conn: None,
    }

    def work() -> None:
        with pool.transaction() as conn:
            swallow_a_deadlock(conn, fake)
            acts[more](conn)

    with pytest.raises(SerializationError, match="deadlock"):
        work()
    assert fake.commits == 0
    assert [sql for _, sql in fake.executed] == ["BEGIN"]
    with pool.transaction() as conn:  # the next borrower has nothing to do with it
        conn.execute("INSERT")
    assert (fake.commits, pool.stats().opened) == (1, 1)


def test_run_starts_over_when_its_function_swallowed_the_loss(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1, driver=Ending(fake))
    tries = []

    def work(conn: Any) -> None:
        tries.append(conn)
        if len(tries) == 1:
            swallow_a_deadlock(conn, fake)

    pool.run(work)
    assert (len(tries), fake.commits) == (2, 1)


def test_after_its_own_rollback_a_borrower_may_go_on(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1, driver=Ending(fake))
    with pool.transaction() as conn:
        swallow_a_deadlock(conn, fake)
        conn.rollback()
        conn.execute("INSERT")
    assert fake.commits == 1


def test_a_plain_borrowing_goes_on_as_the_driver_does(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1, driver=Ending(fake))
    with pool.connection() as conn:
        swallow_a_deadlock(conn, fake)
        conn.execute("INSERT")
    assert fake.commits == 1


def test_a_with_block_commits_nothing_where_no_transaction_is_open(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        conn.autocommit = True
        conn.execute("INSERT")
    assert fake.commits == 0
