"""mysql.connector's pools on the fake driver: names, sizes, configurations, ends, errors, threads."""

from __future__ import annotations

import gc
import inspect
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from dbapi_pool import ConnectionReturned, PoolDeadlock, PoolSettingError, PoolTimeout
from dbapi_pool.dropin import mysql_connector_pooling as pooling
from dbapi_pool.dropin.mysql_connector_pooling import (
    MySQLConnectionPool,
    PoolArgumentError,
    PoolDeadlockError,
    PooledMySQLConnection,
    PoolError,
    PoolExhaustedError,
    generate_pool_name,
)
from dbapi_pool.testing import FakeDriver, VirtualClock

PATIENCE = 30.0  # seconds; what is waited for comes at once

Make = Callable[..., Any]


@pytest.fixture
def make(clock: VirtualClock, fake: FakeDriver) -> Iterator[Make]:
    """Makes pools on the fake driver; in the end all is closed, and nothing may be open."""
    made: list[MySQLConnectionPool] = []

    def make(
        pool_size: Any = 2,
        pool_name: Any = "shop",
        pool_reset_session: bool = True,
        settings: Any = (),
        **kwargs: Any,
    ) -> Any:
        class OnFake(MySQLConnectionPool):
            creator = fake
            pool_settings = {"clock": clock, "driver": fake.driver(), **dict(settings)}

        made.append(OnFake(pool_size, pool_name, pool_reset_session, **kwargs))
        return made[-1]

    yield make
    fake.calm()
    for pool in made:
        pool.close()
    clock.run()
    fake.assert_no_leak()


# -- the constructor ------------------------------------------------------------------------------


def test_the_parameters_are_those_of_mysql_connector_in_their_order_with_their_defaults() -> None:
    parameters = inspect.signature(MySQLConnectionPool).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "pool_size=5", "pool_name=None", "pool_reset_session=True", "**kwargs",
    ]  # fmt: skip


def test_all_connections_are_open_before_the_constructor_returns(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(3, host="db", user="app", driver="odbc", name="x")
    assert (fake.open, pool.pool_size, pool.pool_name, pool.reset_session) == (3, 3, "shop", True)
    kwargs = {"host": "db", "user": "app", "driver": "odbc", "name": "x"}
    assert pool.get_connection().arguments == ((), kwargs)


def test_a_subclass_may_keep_fewer_open(make: Make, fake: FakeDriver, clock: VirtualClock) -> None:
    pool = make(3, host="db", settings={"min_size": 1})
    assert fake.open == 1
    pool.set_config(host="new")
    clock.run()
    assert fake.open == 1
    held = [pool.get_connection() for _ in range(3)]
    assert fake.open == 3
    del held


def test_they_are_replaced_when_they_die(make: Make, fake: FakeDriver, clock: VirtualClock) -> None:
    pool = make(3, host="db")
    fake.kill_all()
    pool.get_connection().close()
    clock.run()
    assert fake.open == 3


def test_the_constructor_raises_the_drivers_error_if_it_cannot_connect(
    make: Make, fake: FakeDriver
) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        make(host="db")


@pytest.mark.parametrize("size", [0, -1, 33, 2.5, "3", None])
def test_a_size_that_cannot_be_is_refused_by_its_name(make: Make, size: object) -> None:
    with pytest.raises(PoolArgumentError, match=rf"^pool_size={size!r}: .* 1 to 32") as caught:
        make(size, host="db")
    assert isinstance(caught.value, (AttributeError, PoolSettingError))


def test_a_program_may_allow_more(
    make: Make, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "CNX_POOL_MAXSIZE", 40)
    make(40, host="db")
    assert fake.open == 40


@pytest.mark.parametrize(("name", "told"), [
    ("a b", "pool_name='a b': must be of letters"), ("ä", "must be of letters"),
    ("x" * 65, "must not be longer than 64"), (7, "pool_name=7: must be of letters"),
])  # fmt: skip
def test_a_name_that_cannot_be_is_refused(make: Make, name: object, told: str) -> None:
    with pytest.raises(PoolArgumentError, match=told):
        make(2, name)


def test_without_a_name_it_is_made_of_where_it_connects_to(make: Make) -> None:
    pool = make(1, None, user="app", database="shop", host="db", port=3306)
    assert pool.pool_name == pool.pool.name == "db_3306_app_shop"
    assert generate_pool_name(database="shop", user=7) == "7_shop"


def test_a_name_cannot_be_made_of_nothing(make: Make) -> None:
    with pytest.raises(PoolError, match="^Failed generating pool name; specify pool_name"):
        make(1, None, password="secret")


def test_a_setting_that_pool_refuses_is_refused_with_these_pools_words_added(make: Make) -> None:
    with pytest.raises(PoolSettingError, match="max_size and min_size are pool_size"):
        make(host="db", settings={"checkout_timeout": -1})


# -- get_connection -------------------------------------------------------------------------------


def test_one_more_than_pool_size_is_refused_at_once_with_the_names_of_its_settings(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(2, host="db")
    held = [pool.get_connection(), pool.get_connection()]
    with pytest.raises(PoolExhaustedError, match="^Failed getting connection; pool exhaus") as told:
        pool.get_connection()
    where = r"shop: .*2 of max_size=2 lent.*borrowed at .*test_dropin_mysql_connector_pooling\.py:"
    assert re.search(where, str(told.value))
    assert "max_size and min_size are pool_size" in str(told.value)
    assert "pool_settings" in str(told.value)
    assert isinstance(told.value, (PoolTimeout, fake.Error))
    there = pickle.loads(pickle.dumps(told.value))
    assert (type(there), str(there)) == (type(told.value), str(told.value))
    del held


def test_who_waits_is_served_in_the_order_of_asking(make: Make, clock: VirtualClock) -> None:
    pool = make(1, host="db", settings={"checkout_timeout": None})
    held = pool.get_connection()
    served: list[int] = []

    def wait(number: int) -> None:
        with pool.get_connection():
            served.append(number)

    tasks = []
    for number in range(5):
        tasks.append(clock.start(wait, number))
        clock.run()
    assert served == []
    held.close()
    for task in tasks:
        task.result()
    assert served == [0, 1, 2, 3, 4]


def test_a_thread_that_waits_for_itself_is_told_so(make: Make) -> None:
    pool = make(1, host="db", settings={"checkout_timeout": None})
    held = pool.get_connection()
    with pytest.raises(PoolDeadlockError, match="Return a connection before") as caught:
        pool.get_connection()
    assert isinstance(caught.value, (PoolDeadlock, PoolExhaustedError))
    del held


def test_a_server_that_is_down_is_told_at_once(make: Make, fake: FakeDriver) -> None:
    pool = make(1, host="db")
    fake.down = True
    fake.kill_all()
    with pytest.raises(fake.OperationalError, match="refused"):
        pool.get_connection()


# -- a borrowed connection ------------------------------------------------------------------------


def test_close_gives_it_back_once(make: Make, fake: FakeDriver) -> None:
    pool = make(1, host="db")
    cnx = pool.get_connection()
    cnx.close()
    cnx.close()
    other = pool.get_connection()
    cnx.close()
    assert (fake.opened, other.number) == (1, 1)
    with pytest.raises(ConnectionReturned) as caught:
        cnx.cursor()
    assert isinstance(caught.value, fake.InterfaceError)
    other.close()


def test_a_with_block_gives_it_back_and_commits_nothing_by_itself(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, host="db")
    with pool.get_connection() as cnx:
        cnx.cursor().execute("INSERT INTO t VALUES (1)")
        cnx.commit()
        cnx.cursor().execute("INSERT INTO t VALUES (2)")
    with suppress(LookupError), pool.get_connection() as cnx:
        cnx.cursor().execute("INSERT INTO t VALUES (3)")
        raise LookupError
    assert (fake.commits, fake.rollbacks, pool.pool.stats().idle) == (1, 2, 1)


def test_what_the_pool_behind_lends_by_itself_commits_at_the_end_of_its_block(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, host="db")
    with pool.pool.transaction() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (1)")
    with pool.pool.connection() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (2)")
    pool.pool.run(lambda conn: conn.cursor().execute("INSERT INTO t VALUES (3)"))
    assert (fake.commits, fake.opened) == (3, 1)


@pytest.mark.parametrize("reset", [True, False])
def test_a_session_comes_back_as_if_new_unless_that_is_switched_off(
    make: Make, fake: FakeDriver, reset: bool
) -> None:
    fake.strict = reset
    pool = make(1, "shop", reset, host="db")
    with pool.get_connection() as cnx:
        cnx.cursor().execute("SET time_zone = '+1:00'")
        cnx.cursor().execute("INSERT INTO t VALUES (1)")
    with pool.get_connection() as cnx:
        assert (bool(cnx.session), cnx.in_transaction) == (not reset, False)


def test_it_knows_its_pool_and_cannot_be_configured(make: Make) -> None:
    cnx = make(1, host="db").get_connection()
    assert isinstance(cnx, PooledMySQLConnection)
    assert cnx.pool_name == "shop"
    with pytest.raises(PoolError, match=r"use set_config\(\) of the pool"):
        cnx.config(user="other")


def test_an_attribute_that_is_set_reaches_the_driver_and_is_put_back(make: Make) -> None:
    pool = make(1, host="db")
    with pool.get_connection() as cnx:
        cnx.autocommit = True
        assert cnx.driver_connection.autocommit
    with pool.get_connection() as cnx:
        assert not cnx.autocommit


def test_a_connection_that_was_dropped_costs_no_capacity(make: Make, fake: FakeDriver) -> None:
    pool = make(1, host="db")
    for _ in range(3):
        pool.get_connection().cursor().execute("SELECT 1")
        gc.collect()
    assert fake.peak == 1


# -- set_config, add_connection, close ------------------------------------------------------------


def test_a_pool_without_a_configuration_gives_nothing(make: Make, fake: FakeDriver) -> None:
    pool = make(2)
    for act in (pool.get_connection, pool.add_connection, lambda: pool.pool):
        with pytest.raises(PoolError, match=r"configuration.*set_config\(\) \(pool shop\)"):
            act()
    assert fake.opened == 0


def test_after_set_config_it_opens_what_is_asked_for(make: Make, fake: FakeDriver) -> None:
    pool = make(2)
    pool.set_config(host="db")
    assert fake.opened == 0
    pool.add_connection()
    assert (fake.open, pool.pool.stats().idle) == (1, 1)
    cnx = [pool.get_connection(), pool.get_connection()]
    assert (fake.open, cnx[1].arguments) == (2, ((), {"host": "db"}))


def test_set_config_without_arguments_does_nothing(make: Make) -> None:
    pool = make(1, host="db")
    before = pool.pool
    pool.set_config()
    assert pool.pool is before


def test_after_another_configuration_nobody_gets_a_connection_of_before(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(3, host="old")
    lent = pool.get_connection()
    pool.set_config(host="new")
    clock.run()
    assert [cnx.arguments[1]["host"] for cnx in fake.connections if not cnx.closed] == [
        "old", "new", "new", "new",
    ]  # fmt: skip
    lent.cursor().execute("SELECT 1")
    lent.close()
    clock.run()
    assert fake.open == 3
    for cnx in [pool.get_connection() for _ in range(3)]:
        assert cnx.arguments == ((), {"host": "new"})


def test_no_more_than_pool_size_can_be_added_lent_ones_included(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(2, host="db")
    held = pool.get_connection()
    with pytest.raises(PoolError, match="^Failed adding connection; queue is full: 2 are open.*=2"):
        pool.add_connection()
    pool.close()
    pool.add_connection()
    pool.add_connection()
    with pytest.raises(PoolError, match="queue is full"):
        pool.add_connection()
    assert fake.open == 3
    held.close()


def test_a_connection_that_is_given_is_exchanged_for_one_of_the_configuration(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(2)
    pool.set_config(host="db")
    given = fake.connect(host="elsewhere")
    pool.add_connection(given)
    assert (given.closed, pool.get_connection().arguments) == (True, ((), {"host": "db"}))
    with pytest.raises(PoolError, match="cannot be added|can be added, not an object of type int"):
        pool.add_connection(7)


def test_what_cannot_connect_cannot_be_added(make: Make, fake: FakeDriver) -> None:
    pool = make(2)
    pool.set_config(host="db")
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        pool.add_connection()


@pytest.mark.parametrize("close", ["close", "_remove_connections"])
def test_close_closes_idle_ones_now_and_lent_ones_when_they_come_back(
    make: Make, fake: FakeDriver, clock: VirtualClock, close: str
) -> None:
    pool = make(3, host="db")
    lent = pool.get_connection()
    assert getattr(pool, close)() == {"close": None, "_remove_connections": 2}[close]
    assert fake.open == 1
    lent.close()
    clock.run()
    assert fake.open == 0
    pool.get_connection().close()
    assert fake.open == 1


def test_closing_the_pool_behind_it_makes_another(make: Make, fake: FakeDriver) -> None:
    pool = make(2, host="db")
    pool.pool.close()
    pool.get_connection().close()
    assert fake.open == 1


# -- connect --------------------------------------------------------------------------------------


@pytest.fixture
def named(
    clock: VirtualClock, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, MySQLConnectionPool]]:
    """The pools that `connect` makes, on the fake driver."""
    monkeypatch.setattr(MySQLConnectionPool, "creator", fake)
    settings = {"clock": clock, "driver": fake.driver()}
    monkeypatch.setattr(MySQLConnectionPool, "pool_settings", settings)
    pools: dict[str, MySQLConnectionPool] = {}
    monkeypatch.setattr(pooling, "_pools", pools)
    yield pools
    for pool in pools.values():
        pool.close()
    clock.run()
    fake.assert_no_leak()


def test_connect_makes_one_pool_for_each_name(
    named: dict[str, Any], fake: FakeDriver, clock: VirtualClock
) -> None:
    one = pooling.connect(pool_name="a", pool_size=3, host="db")
    two = pooling.connect(pool_name="a", host="ignored, as the pool is there")
    other = pooling.connect(pool_size=2, host="db", user="app")
    clock.run()
    assert [cnx.pool_name for cnx in (one, two, other)] == ["a", "a", "db_app"]
    assert (sorted(named), fake.open) == (["a", "db_app"], 5)
    assert two.arguments == ((), {"host": "db"})


def test_connect_does_not_change_a_size(named: dict[str, Any]) -> None:
    pooling.connect(pool_name="a", pool_size=3, host="db")
    with pytest.raises(PoolError, match=r"^Size can not be changed .*a has pool_size=3.* 4 was"):
        pooling.connect(pool_name="a", pool_size=4, host="db")


def test_a_pool_that_never_could_connect_is_forgotten(
    named: dict[str, Any], fake: FakeDriver, clock: VirtualClock
) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        pooling.connect(pool_name="a", host="wrong")
    assert named == {}
    fake.down = False
    assert pooling.connect(pool_name="a", host="right").arguments == ((), {"host": "right"})


def test_a_pool_whose_connections_are_all_lent_is_not_forgotten(named: dict[str, Any]) -> None:
    held = pooling.connect(pool_name="a", pool_size=1, host="db")
    with pytest.raises(PoolExhaustedError, match="a: no connection"):
        pooling.connect(pool_name="a", host="db")
    assert list(named) == ["a"]
    held.close()
    pooling.connect(pool_name="a", host="db").close()


# -- threads --------------------------------------------------------------------------------------


def test_sixteen_threads_share_four_connections_while_the_configuration_changes() -> None:
    real = FakeDriver()

    class Waiting(MySQLConnectionPool):
        creator = real
        pool_settings = {"driver": real.driver(), "checkout_timeout": PATIENCE}

    pool = Waiting(4, host="0")
    errors: list[BaseException] = []

    def work(me: int) -> None:
        try:
            for turn in range(50):
                if not me and turn % 10 == 9:
                    pool.set_config(host=str(turn))
                with pool.get_connection() as cnx:
                    cnx.cursor().execute("INSERT INTO t VALUES (1)")
                    cnx.commit()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert real.commits == 16 * 50
    pool.close()
    real.assert_no_leak()  # and nobody met another within a connection


def test_threads_that_ask_for_one_name_at_once_get_one_pool(
    named: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakeDriver()
    monkeypatch.setattr(MySQLConnectionPool, "creator", real)
    monkeypatch.setattr(MySQLConnectionPool, "pool_settings", {"driver": real.driver()})
    gate = threading.Barrier(8)
    got: list[Any] = []

    def work() -> None:
        gate.wait(PATIENCE)
        got.append(pooling.connect(pool_name="a", pool_size=8, host="db"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(got), len({id(cnx.driver_connection) for cnx in got})) == (8, 8)
    assert (list(named), real.peak) == (["a"], 8)
    for cnx in got:
        cnx.close()
