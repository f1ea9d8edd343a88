"""P3 clean: the next borrower cannot tell that there was a previous one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from dbapi_pool import Pool
from dbapi_pool.drivers import Driver
from dbapi_pool.testing import FakeConnection, FakeDriver, FakeDriverPlugin, VirtualClock

MakePool = Callable[..., Pool]


def leave(pool: Pool, *statements: str) -> None:
    conn = pool.connection()
    for sql in statements:
        conn.execute(sql)
    conn.close()


def test_an_open_transaction_is_rolled_back(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1)
    leave(pool, "INSERT")

    with pool.connection() as conn:
        assert not conn.in_transaction
    assert fake.rollbacks == 1
    assert pool.stats().opened == 1


def test_a_transaction_begun_by_hand_in_autocommit_mode_is_rolled_back(
    make_pool: MakePool,
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.autocommit = True
    conn.execute("BEGIN")
    conn.close()

    with pool.connection() as conn:
        assert not conn.in_transaction
        assert conn.autocommit is False


def test_after_a_commit_nothing_is_rolled_back(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        conn.execute("INSERT")
    assert (fake.commits, fake.rollbacks, fake.resets) == (1, 0, 0)


def test_plain_work_resets_no_session_and_another_statement_does(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    leave(pool, "SELECT 1", "INSERT", "UPDATE")
    assert fake.resets == 0

    leave(pool, "SET x = 1")
    assert fake.resets == 1
    assert pool.stats().opened == 1


@pytest.mark.parametrize(
    "unseen",
    [
        lambda conn: conn.driver_connection.execute("SET x = 1"),
        lambda conn: conn.cursor().callproc("p"),
        lambda conn: conn.cursor().execute(b"SET x = 1".decode()),
    ],
    ids=["driver_connection", "callproc", "execute"],
)
def test_what_the_pool_could_not_see_is_reset(
    make_pool: MakePool, fake: FakeDriver, unseen: Callable[[Any], object]
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    unseen(conn)
    conn.close()

    assert fake.resets == 1
    fake.check()


def test_attributes_are_restored_after_the_rollback(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.execute("INSERT")
    conn.autocommit = True
    conn.note = "mine"
    conn.close()

    assert fake.rollbacks == 1
    with pool.connection() as conn:
        assert conn.autocommit is False
        assert conn.note is None
    assert pool.stats().opened == 1


def test_a_half_read_cursor_is_closed(make_pool: MakePool, fake: FakeDriver) -> None:
    fake.rows = [(1,), (2,)]
    pool = make_pool(max_size=1)
    conn = pool.connection()
    cur = conn.execute("SELECT 1")
    cur.fetchone()
    conn.close()

    with pool.connection() as conn:
        assert not conn.half_read


@pytest.mark.parametrize("operation", ["rollback", "reset"])
def test_if_cleaning_fails_the_connection_is_closed_and_the_borrower_hears_nothing(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, operation: str
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.execute("SET x = 1")
    fake.on(operation, error=fake.InternalError("no"), times=1)
    conn.close()
    clock.run()

    assert pool.stats().closed == {"failed reset": 1}
    assert fake.open == 0


def test_a_cursor_that_cannot_be_closed_costs_the_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    cur = conn.cursor()
    cur._work.cursors.append(lambda: Unclosable())
    conn.close()
    clock.run()

    assert pool.stats().closed == {"broken": 1}


class Unclosable:
    def close(self) -> None:
        raise ValueError("no")


def test_a_session_that_cannot_be_reset_costs_the_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1)
    fake.on("reset", returns=False)
    leave(pool, "SET x = 1")
    clock.run()

    assert pool.stats().closed == {"session changed": 1}
    with pool.connection() as conn:
        assert conn.session == {}


def test_setup_runs_on_every_new_connection_and_after_every_full_reset(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1, setup=["SET zone = utc", "SET lang = eo"])
    leave(pool, "SET zone = cet")

    assert fake.resets == 1
    with pool.connection() as conn:
        assert conn.session == {"zone": "utc", "lang": "eo"}


def test_setup_may_be_a_callable_on_the_drivers_connection(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    def prepare(conn: Any) -> None:
        conn.note = "prepared"
        conn.execute("SET zone = utc")

    pool = make_pool(max_size=1, setup=prepare)
    with pool.connection() as conn:
        assert (conn.note, conn.session) == ("prepared", {"zone": "utc"})
        assert not conn.in_transaction


def test_a_failing_setup_is_raised_and_leaves_nothing_open(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, setup="SET zone = utc")
    fake.on("execute", error=fake.ProgrammingError("no such zone"), times=1)

    with pytest.raises(fake.ProgrammingError):
        pool.connection()
    clock.run()
    assert fake.open == 0
    assert "zone" in pool.connection().session


def test_reset_always_resets_after_every_use_and_only_then(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1, reset="always")
    leave(pool)
    assert fake.resets == 0
    leave(pool, "SELECT 1")
    assert fake.resets == 1


def test_reset_transaction_only_rolls_back(make_pool: MakePool, fake: FakeDriver) -> None:
    fake.strict = False
    pool = make_pool(max_size=1, reset="transaction")
    leave(pool, "SET x = 1")
    assert (fake.rollbacks, fake.resets) == (1, 0)


def test_reset_none_does_nothing(make_pool: MakePool, fake: FakeDriver) -> None:
    fake.strict = False
    pool = make_pool(max_size=1, reset="none")
    leave(pool, "INSERT")
    assert (fake.rollbacks, fake.resets) == (0, 0)


def test_a_cleaning_that_hangs_is_cut_and_keeps_nobody_else(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2, ping_timeout=2.0)
    stuck = pool.connection()
    stuck.execute("INSERT")
    fake.on("rollback", hang=True, times=1)
    returning = clock.start(stuck.close)
    clock.run()

    pool.connection(timeout=0.0).close()
    clock.advance(4.0)

    assert returning.done
    assert pool.stats().closed == {"broken": 1}


@pytest.mark.parametrize("begins_at", [0.1, 1.9])
def test_it_is_cut_after_ping_timeout_whenever_the_housekeeper_looked_last(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock, begins_at: float
) -> None:
    pool = make_pool(max_size=2, ping_timeout=2.0)
    stuck = pool.connection()
    stuck.execute("INSERT")
    clock.advance(10.0 + begins_at)
    fake.on("rollback", hang=True, times=1)
    returning = clock.start(stuck.close)
    clock.advance(1.9)
    assert not returning.done
    clock.advance(0.2)

    assert returning.done


def test_a_cleaning_that_takes_too_long_is_not_waited_for_where_there_is_room(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    fake.interruptible = False
    pool = make_pool(max_size=2, ping_timeout=2.0)
    stuck = pool.connection()
    stuck.execute("INSERT")
    fake.on("rollback", hang=True, times=1)
    returning = clock.start(stuck.close)
    clock.advance(2.5)

    pool.connection(timeout=0.1).close()
    assert not returning.done
    fake.release("rollback")


def test_an_unknown_driver_whose_attribute_was_changed_costs_the_connection(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=1, driver=Driver(FakeConnection))
    with pool.connection() as conn:
        conn.autocommit = True
    with pool.connection() as conn:
        assert conn.autocommit is False
    assert pool.stats().closed == {"session changed": 1}


class Unsure(FakeDriverPlugin):
    """Its word on transactions is worth nothing after a statement that it does not understand."""

    def in_transaction(self, conn: FakeConnection) -> bool:
        return False


@pytest.mark.parametrize("reset", ["auto", "transaction"])
def test_a_no_transaction_is_not_believed_after_a_statement_that_may_do_anything(
    make_pool: MakePool, fake: FakeDriver, reset: str
) -> None:
    pool = make_pool(max_size=1, driver=Unsure(fake), reset=reset)
    leave(pool, "SELECT 1")
    assert fake.rollbacks == 0
    leave(pool, "CALL something")
    assert fake.rollbacks == 1


class Thorough(FakeDriverPlugin):
    """A plugin that commits by other means than the driver's own."""

    committed = 0

    def commit(self, conn: FakeConnection) -> None:
        self.committed += 1
        super().commit(conn)


def test_a_borrowers_commit_is_the_plugins(make_pool: MakePool, fake: FakeDriver) -> None:
    plugin = Thorough(fake)
    pool = make_pool(max_size=1, driver=plugin, setup="SET x = 1")
    assert plugin.committed == 0
    with pool.connection() as conn:
        conn.execute("INSERT")
        conn.commit()
    assert plugin.committed == 2


def test_a_harmless_method_may_begin_a_transaction(make_pool: MakePool, fake: FakeDriver) -> None:
    class Plain(FakeDriverPlugin):
        harmless = FakeDriverPlugin.harmless | {"begin"}

        def in_transaction(self, conn: FakeConnection) -> None:
            return None

    class Connection(FakeConnection):
        def begin(self) -> None:
            """As PyMySQL has it."""

    pool = make_pool(max_size=1, driver=Plain(fake))
    with pool.connection() as conn:
        conn.driver_connection.__class__ = Connection
    rollbacks = fake.rollbacks
    conn = pool.connection()
    conn.begin()
    conn.close()
    assert (fake.rollbacks - rollbacks, pool.stats().opened) == (1, 1)


def test_nothing_that_is_noted_about_a_borrower_is_left_for_the_next(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1)
    records = []
    for _ in range(2):
        conn = pool.connection()
        conn.execute("SELECT 1")
        records.append(work := conn._lease.member.work)
        noted = (work.session, work.attributes, work.strange, work.broken, work.one, work.lost)
        assert noted == (False, False, False, False, False, None)
        assert len(work.cursors) == 1
        conn.rollback()
        assert not work.pending
        work.unseen()
        work.one = True
        work.lose(OSError("gone"))
        conn.close()
    assert records[0] is records[1]  # made once for each connection
    assert (fake.rollbacks, fake.resets) == (4, 2)


def test_a_pool_is_not_kept_by_what_is_noted_about_its_idle_connections(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    gc.disable()
    try:
        pool = Pool(fake, driver=fake.driver(local=True), max_size=1)
        with pool.connection() as conn:
            conn.execute("SELECT 1")
        dropped = weakref.ref(pool)
        del pool, conn
        assert dropped() is None
    finally:
        gc.enable()
