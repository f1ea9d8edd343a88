"""`PooledDB`: what DBUtils promised, on the fake driver with a virtual clock and on SQLite."""

from __future__ import annotations

import gc
import importlib
import inspect
import pickle
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dbapi_pool import (
    ConnectionReturned,
    PoolDeadlock,
    PoolError,
    PoolSettingError,
    PoolTimeout,
)
from dbapi_pool.drivers import registry
from dbapi_pool.dropin.dbutils import (
    InvalidConnection,
    InvalidConnectionError,
    NotSupportedError,
    PooledDB,
    PooledDBError,
    PooledDedicatedDBConnection,
    TooManyConnections,
    TooManyConnectionsError,
    simple_pooled_db,
)
from dbapi_pool.testing import FakeConnection, FakeCursor, FakeDriver, VirtualClock

MakeDB = Callable[..., PooledDB]


@pytest.fixture
def make_db(clock: VirtualClock, fake: FakeDriver) -> Iterator[MakeDB]:
    """Makes a `PooledDB` on the fake driver; in the end all is closed, and nothing may be open."""
    made: list[PooledDB] = []

    def make(*args: Any, creator: Any = None, plugin: bool = True, **kwargs: Any) -> PooledDB:
        class OnVirtualClock(PooledDB):
            pool_settings = {"clock": clock, **({"driver": fake.driver()} if plugin else {})}

        made.append(OnVirtualClock(fake if creator is None else creator, *args, **kwargs))
        return made[-1]

    yield make
    fake.calm()
    for db in made:
        db.close()
    clock.run()
    fake.assert_no_leak()


@pytest.fixture
def file(tmp_path: Path) -> str:
    """An SQLite database with an empty table `t`."""
    path = str(tmp_path / "app.db")
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE t (n INTEGER)")
    conn.close()
    return path


def rows(file: str) -> list[int]:
    conn = sqlite3.connect(file)
    try:
        return [n for (n,) in conn.execute("SELECT n FROM t ORDER BY n")]
    finally:
        conn.close()


def use(db: PooledDB, sql: str = "SELECT 1") -> None:
    con = db.connection()
    con.cursor().execute(sql)
    con.close()


def fail(con: Any, fake: FakeDriver, error: Exception) -> None:
    """Run a statement that raises `error`, and give the connection back."""
    fake.on("execute", error=error, times=1)
    with pytest.raises(type(error)):
        con.cursor().execute("UPDATE t SET n = 1")
    con.close()


# -- the constructor ------------------------------------------------------------------------------


def test_the_parameters_are_those_of_dbutils_in_their_order_with_their_defaults() -> None:
    parameters = inspect.signature(PooledDB).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "creator", "mincached=0", "maxcached=0", "maxshared=0", "maxconnections=0",
        "blocking=False", "maxusage=None", "setsession=None", "reset=True", "failures=None",
        "ping=1", "isfatal=None", "*args", "**kwargs",
    ]  # fmt: skip


def test_all_other_arguments_reach_the_creator(make_db: MakeDB) -> None:
    db = make_db(0, 0, 0, 0, False, None, None, True, None, 1, None, "host", user="app")
    assert db.connection().arguments == (("host",), {"user": "app"})


def test_the_creator_gets_its_arguments_also_where_pool_has_a_setting_of_that_name(
    make_db: MakeDB,
) -> None:
    db = make_db(driver="{ODBC Driver 18}", name="app", min_size=3, user="app")
    con = db.connection()
    assert con.arguments == (
        (),
        {"driver": "{ODBC Driver 18}", "name": "app", "min_size": 3, "user": "app"},
    )


@pytest.mark.parametrize("name", ["mincached", "maxcached", "maxshared", "maxconnections"])
@pytest.mark.parametrize("value", [-1, 2.5, "3"])
def test_a_number_that_is_none_is_refused_by_the_name_that_dbutils_has_for_it(
    make_db: MakeDB, name: str, value: object
) -> None:
    with pytest.raises(PoolSettingError, match=f"^{name}={value!r}: "):
        make_db(**{name: value})


def test_none_counts_as_no_limit(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(None, None, None, None)
    held = [db.connection() for _ in range(40)]
    for con in held:
        con.close()
    assert (fake.open, db.pool.stats().idle) == (40, 40)


def test_a_setting_that_pool_refuses_is_refused_with_dbutils_words_added() -> None:
    with pytest.raises(PoolSettingError, match="max_size is maxconnections"):
        PooledDB(sqlite3, database=":memory:")


def test_a_subclass_may_give_settings_of_pool_that_dbutils_has_not(fake: FakeDriver) -> None:
    class Patient(PooledDB):
        pool_settings = {"driver": fake.driver(local=True), "checkout_timeout": 0.01}

    db = Patient(fake, maxconnections=1)
    con = db.connection()
    waited = []
    thread = threading.Thread(target=lambda: waited.append(_refusal(db)))
    thread.start()
    thread.join()
    assert re.search(r"no connection after 0\.\d\d s", str(waited[0]))
    con.close()
    db.close()


def _refusal(db: PooledDB) -> Exception:
    try:
        db.connection()
    except Exception as exc:
        return exc
    raise AssertionError("a connection was lent")


# -- sizes ----------------------------------------------------------------------------------------


def test_mincached_connections_are_open_before_the_constructor_returns(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db(mincached=3)
    assert (fake.open, db.pool.stats().idle) == (3, 3)


def test_mincached_connections_are_replaced_when_they_die(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(mincached=2)
    fake.kill_all()
    use(db)
    clock.run()
    assert fake.open == 2


def test_the_constructor_raises_the_drivers_error_if_it_cannot_connect(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        make_db(mincached=1)


@pytest.mark.parametrize(("maxcached", "kept"), [(1, 1), (2, 2), (0, 3), (None, 3)])
def test_no_more_than_maxcached_connections_stay_open_unused(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock, maxcached: int | None, kept: int
) -> None:
    db = make_db(maxcached=maxcached)
    for con in [db.connection() for _ in range(3)]:
        con.close()
    clock.run()
    assert fake.open == kept


def test_maxcached_is_at_least_mincached(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(mincached=3, maxcached=1)
    for con in [db.connection() for _ in range(3)]:
        con.close()
    assert fake.open == 3


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ({"maxconnections": 2}, 2),
        ({"maxconnections": 2, "maxcached": 4}, 4),
        ({"maxconnections": 2, "maxshared": 5}, 5),
        ({"maxconnections": 2, "maxcached": 1, "mincached": 3}, 3),
    ],
)
def test_maxconnections_is_at_least_maxcached_and_maxshared(
    make_db: MakeDB, fake: FakeDriver, sizes: dict[str, int], most: int
) -> None:
    db = make_db(**sizes)
    held = [db.connection() for _ in range(most)]
    with pytest.raises(TooManyConnectionsError):
        db.connection()
    assert fake.peak == most
    del held


def test_more_mincached_than_maxconnections_is_refused_instead_of_hanging(make_db: MakeDB) -> None:
    with pytest.raises(PoolSettingError, match="mincached=3 is more than maxconnections=2"):
        make_db(mincached=3, maxconnections=2, blocking=True)


# -- when all are lent ----------------------------------------------------------------------------


def test_without_blocking_one_too_many_is_refused_at_once(
    make_db: MakeDB, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1)
    con = db.connection()
    start = clock.monotonic()
    refused = clock.start(db.connection)
    with pytest.raises(TooManyConnectionsError):
        refused.result()
    assert clock.monotonic() == start
    con.close()
    db.connection().close()


def test_too_many_connections_is_also_the_drivers_error_and_the_pools(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1)
    con = db.connection()
    refused = clock.start(db.connection)
    with pytest.raises(TooManyConnections) as caught:
        refused.result()
    for kind in (TooManyConnectionsError, PooledDBError, PoolTimeout, PoolError):
        assert isinstance(caught.value, kind)
    assert isinstance(caught.value, fake.OperationalError)
    assert not isinstance(caught.value, PoolDeadlock)
    assert "1 of max_size=1 lent" in str(caught.value)
    assert "max_size is maxconnections" in str(caught.value)
    con.close()


def test_too_many_connections_can_be_sent_to_another_process(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1)
    con = db.connection()
    refused = clock.start(db.connection)
    with pytest.raises(TooManyConnectionsError) as caught:
        refused.result()
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert again.args == caught.value.args
    con.close()


def test_with_blocking_borrowers_wait_without_limit_and_are_served_in_their_order(
    make_db: MakeDB, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1, blocking=True)
    served: list[int] = []

    def borrow(number: int) -> None:
        con = db.connection()
        served.append(number)
        con.close()

    con = db.connection()
    tasks = []
    for number in range(3):
        tasks.append(clock.start(borrow, number))
        clock.run()
    clock.advance(5_000.0)
    assert served == []
    con.close()
    for task in tasks:
        task.result()
    assert served == [0, 1, 2]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_thread_that_holds_all_of_them_itself_is_refused_instead_of_hanging(
    make_db: MakeDB, fake: FakeDriver, blocking: bool
) -> None:
    db = make_db(maxconnections=1, blocking=blocking)
    con = db.connection()
    with pytest.raises(TooManyConnectionsError) as caught:
        db.connection()
    assert isinstance(caught.value, fake.OperationalError)
    assert isinstance(caught.value, PoolDeadlock) or not blocking
    con.close()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("plugin", [True, False])
def test_a_server_that_is_down_is_told_at_once_whether_blocking_or_not(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock, blocking: bool, plugin: bool
) -> None:
    db = make_db(maxconnections=2, blocking=blocking, plugin=plugin)
    fake.down = True
    start = clock.monotonic()
    with pytest.raises(fake.OperationalError, match="refused"):
        db.connection()
    assert clock.monotonic() == start
    fake.down = False
    db.connection().close()


@pytest.mark.parametrize("shareable", [True, False])
def test_a_connection_is_never_shared(
    make_db: MakeDB, fake: FakeDriver, shareable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "threadsafety", 3, raising=False)
    db = make_db(maxshared=1)
    one, other = db.connection(shareable), db.connection(shareable)
    assert one.number != other.number


def test_a_dedicated_connection_is_one_like_any_other(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(maxconnections=1)
    con = db.dedicated_connection()
    with pytest.raises(TooManyConnectionsError):
        db.dedicated_connection()
    con.close()
    db.connection().close()
    assert fake.opened == 1


def test_a_connection_that_was_dropped_is_used_again(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(maxconnections=1)
    for _ in range(3):
        db.connection().cursor().execute("INSERT INTO t VALUES (1)")
    stats = db.pool.stats()
    assert (fake.opened, fake.rollbacks, stats.in_use, stats.closed) == (1, 3, 0, {})


def test_a_connection_lives_as_long_as_a_cursor_of_it(make_db: MakeDB) -> None:
    db = make_db(maxconnections=1)
    cur = db.connection().cursor()
    gc.collect()
    assert cur.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(TooManyConnectionsError):
        db.connection()
    del cur
    db.connection().close()


def test_one_that_was_dropped_in_a_cycle_is_closed_and_costs_no_capacity(
    make_db: MakeDB, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1)
    for _ in range(3):
        loop: list[Any] = [db.connection()]
        loop.append(loop)
        del loop
        gc.collect()
        clock.run()
    assert db.pool.stats().closed == {"leaked": 3}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_handle_that_was_never_lent_can_be_dropped() -> None:
    PooledDedicatedDBConnection()
    gc.collect()


# -- maxusage, setsession, reset ------------------------------------------------------------------


def test_a_connection_is_replaced_after_maxusage_borrowings(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(maxusage=2)
    for _ in range(5):
        use(db)
        clock.run()
    assert (fake.opened, fake.open) == (3, 1)


def test_a_borrowing_with_more_statements_than_maxusage_is_not_cut(file: str) -> None:
    db = PooledDB(sqlite3, maxusage=2, database=file)
    con = db.connection()
    cur = con.cursor()
    for n in range(5):
        cur.execute("INSERT INTO t VALUES (?)", (n,))
    con.commit()
    con.close()
    assert rows(file) == [0, 1, 2, 3, 4]
    db.close()


@pytest.mark.parametrize("maxusage", ["3", 2.5])
def test_maxusage_must_be_an_integer(make_db: MakeDB, maxusage: object) -> None:
    with pytest.raises(TypeError, match="'maxusage' must be an integer value"):
        make_db(maxusage=maxusage)


@pytest.mark.parametrize("setsession", [["SET zone = mez", "SET style = iso"], "SET zone = mez"])
def test_setsession_prepares_each_new_connection_and_outlasts_every_rollback(
    make_db: MakeDB, fake: FakeDriver, setsession: Any
) -> None:
    db = make_db(mincached=1, setsession=setsession)
    for sql in ("INSERT INTO t VALUES (1)", "SET zone = utc"):
        use(db, sql)
        assert db.connection().session["zone"] == "mez"
    assert fake.commits > 0


@pytest.mark.parametrize("reset", [True, False, None])
def test_whatever_reset_says_no_transaction_reaches_the_next_borrower(
    make_db: MakeDB, fake: FakeDriver, reset: bool | None
) -> None:
    db = make_db(reset=reset)
    use(db, "INSERT INTO t VALUES (1)")
    con = db.connection()
    assert not con.in_transaction
    assert fake.opened == 1
    con.close()


def test_by_default_a_connection_comes_back_as_if_new(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db()
    con = db.connection()
    con.cursor().execute("SET role = admin")
    con.autocommit = True
    con.close()
    con = db.connection()
    assert (con.session, con.autocommit, fake.opened) == ({}, False, 1)


def test_with_reset_off_the_session_stays_as_the_last_borrower_left_it(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    fake.strict = False
    db = make_db(reset=False)
    use(db, "SET role = admin")
    assert db.connection().session == {"role": "admin"}


# -- ping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ping", "idle", "pings"),
    [
        (1, 20.0, 0), (1, 40.0, 1),
        (0, 500.0, 0), (None, 500.0, 0), ((0, "SELECT 7"), 500.0, 0),
        (2, 2.0, 1), (4, 2.0, 1), (7, 2.0, 1),
    ],
)  # fmt: skip
def test_an_idle_connection_is_pinged_when_fetched_as_often_as_ping_says(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock, ping: Any, idle: float, pings: int
) -> None:
    db = make_db(ping=ping)
    use(db)
    clock.advance(idle)
    use(db)
    assert (fake.pings, fake.opened) == (pings, 1)


@pytest.mark.parametrize("ping", [0, 1, 7])
def test_a_connection_known_to_be_dead_is_not_lent_whatever_ping_says(
    make_db: MakeDB, fake: FakeDriver, ping: int
) -> None:
    db = make_db(ping=ping)
    use(db)
    fake.kill_all()
    use(db)
    assert fake.opened == 2


@pytest.mark.parametrize("ping", ["SELECT 7", (1, "SELECT 7"), (4, "SELECT 7")])
@pytest.mark.parametrize("plugin", [True, False])
def test_a_statement_given_as_ping_is_executed_at_every_fetch(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock, ping: Any, plugin: bool
) -> None:
    db = make_db(ping=ping, plugin=plugin)
    for _ in range(3):
        use(db, "SELECT 1")
        clock.advance(2.0)
    assert [sql for _, sql in fake.executed] == [
        "SELECT 1", "SELECT 7", "SELECT 1", "SELECT 7", "SELECT 1"
    ]  # fmt: skip


def test_a_statement_given_as_ping_leaves_no_transaction_open(
    make_db: MakeDB, clock: VirtualClock
) -> None:
    db = make_db(ping="UPDATE heartbeat SET at = NOW()")
    use(db)
    clock.advance(2.0)
    assert not db.connection().in_transaction


@pytest.mark.parametrize(("answer", "opened"), [(True, 1), (None, 1), (False, 2), (0, 2)])
def test_a_callable_given_as_ping_says_whether_the_connection_is_alive(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock, answer: object, opened: int
) -> None:
    asked: list[Any] = []

    def check(conn: FakeConnection) -> object:
        asked.append(type(conn))
        return answer

    db = make_db(ping=check)
    use(db)
    clock.advance(2.0)
    use(db)
    assert asked == [FakeConnection]
    assert fake.opened == opened


def test_a_ping_that_raises_means_dead(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    def check(conn: FakeConnection) -> object:
        raise fake.OperationalError("gone")

    db = make_db(ping=check)
    use(db)
    clock.advance(2.0)
    use(db)
    assert fake.opened == 2


@pytest.mark.parametrize("ping", [(1, 2), (1,), (1, "SELECT 1", None)])
def test_a_ping_of_any_other_shape_is_refused(make_db: MakeDB, ping: Any) -> None:
    with pytest.raises(TypeError, match="'ping' must be an integer, an SQL statement, a callable"):
        make_db(ping=ping)


# -- failures, isfatal ----------------------------------------------------------------------------


def test_a_statement_that_failed_is_not_run_again(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(failures=fake.OperationalError, isfatal=lambda exc: True)
    fail(db.connection(), fake, fake.OperationalError("lost"))
    assert (fake.calls["execute"], fake.executed) == (1, [])


def test_a_connection_lost_in_a_transaction_is_not_replaced_before_it_is_given_back(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db()
    con = db.connection()
    con.cursor().execute("UPDATE t SET n = 1")
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        con.cursor().execute("UPDATE t SET n = 2")
    with pytest.raises(fake.OperationalError):
        con.commit()
    con.close()
    use(db)
    assert fake.opened == 2


def test_an_error_of_failures_costs_the_connection_and_no_other_does(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(failures=(fake.InternalError,))
    fail(db.connection(), fake, fake.DataError("too long"))
    use(db)
    assert fake.opened == 1
    fail(db.connection(), fake, fake.InternalError("lost"))
    use(db)
    assert fake.opened == 2


def test_by_default_an_error_costs_the_connection_only_if_the_driver_says_so(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db()
    for kind in (fake.OperationalError, fake.InterfaceError, fake.InternalError):
        fail(db.connection(), fake, kind("a lock was not to be had"))
    use(db)
    assert fake.opened == 1


@pytest.mark.parametrize(("fatal", "opened"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("plugin", [True, False])
def test_isfatal_decides_about_the_errors_that_dbutils_takes_for_failures(
    make_db: MakeDB, fake: FakeDriver, fatal: bool, opened: int, plugin: bool
) -> None:
    asked: list[str] = []

    def isfatal(exc: BaseException) -> bool:
        asked.append(str(exc))
        return fatal

    db = make_db(isfatal=isfatal, plugin=plugin)
    con = db.connection()
    fake.on("execute", error=fake.IntegrityError("duplicate"), times=1)
    with pytest.raises(fake.IntegrityError):
        con.cursor().execute("UPDATE t SET n = 1")
    fail(con, fake, fake.OperationalError("lost"))
    use(db)
    assert asked == ["lost"]
    assert fake.opened == opened


def test_isfatal_cannot_keep_a_connection_that_the_driver_knows_to_be_lost(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db(isfatal=lambda exc: False)
    con = db.connection()
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        con.cursor().execute("SELECT 1")
    con.close()
    use(db)
    assert fake.opened == 2


def test_an_isfatal_that_raises_costs_the_connection_but_hides_no_error(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db(isfatal=lambda exc: exc.args[1])
    fail(db.connection(), fake, fake.OperationalError("lost"))
    use(db)
    assert fake.opened == 2


@pytest.mark.parametrize(
    "wrong", [{"failures": int}, {"failures": "Error"}, {"failures": 1}, {"isfatal": 1}]
)
def test_failures_must_be_exceptions_and_isfatal_callable(
    make_db: MakeDB, wrong: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        make_db(**wrong)


# -- the creator and its threadsafety -------------------------------------------------------------


@pytest.mark.parametrize("level", [0, None])
def test_a_module_that_is_not_for_threads_is_refused(
    fake: FakeDriver, level: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "threadsafety", level, raising=False)
    with pytest.raises(NotSupportedError, match="not thread-safe") as caught:
        PooledDB(fake)
    assert isinstance(caught.value, PooledDBError)


@pytest.mark.parametrize(
    ("creator", "accepted"),
    [
        (SimpleNamespace(connect=print), False),
        (SimpleNamespace(connect=print, threadsafety=1), True),
        (SimpleNamespace(connect=print, dbapi=SimpleNamespace(threadsafety=2)), True),
        (SimpleNamespace(connect=print, dbapi=SimpleNamespace(threadsafety=0)), False),
        (SimpleNamespace(connect=print, threadsafety=0, dbapi=sqlite3), False),
        (print, True),
    ],
)
def test_threadsafety_is_asked_of_the_creator_then_of_its_dbapi_and_not_of_a_function(
    creator: Any, accepted: bool
) -> None:
    if accepted:
        PooledDB(creator)
    else:
        with pytest.raises(NotSupportedError):
            PooledDB(creator)


def _module(name: str, monkeypatch: pytest.MonkeyPatch, **names: Any) -> type:
    """The connection class of a new driver module with these names."""
    module = ModuleType(name)
    vars(module).update(names)
    monkeypatch.setitem(__import__("sys").modules, name, module)
    return type("Connection", (FakeConnection,), {"__module__": name + ".connections"})


@pytest.mark.parametrize("names", [{"threadsafety": 0}, {}])
def test_a_function_whose_driver_turns_out_not_to_be_for_threads_is_refused_when_it_connects(
    make_db: MakeDB,
    fake: FakeDriver,
    clock: VirtualClock,
    names: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = _module("unsafe_driver", monkeypatch, connect=fake.connect, **names)

    def connect() -> Any:
        conn = fake.connect()
        conn.__class__ = made
        return conn

    db = make_db(creator=connect, plugin=False)
    with pytest.raises(NotSupportedError):
        db.connection()
    clock.run()
    assert fake.open == 0


def test_what_cannot_connect_is_refused() -> None:
    with pytest.raises(TypeError, match="is not a connection provider"):
        PooledDB("sqlite:///app.db")


def test_a_class_with_a_connect_method_is_connected_by_that(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    class Creator:
        threadsafety = 2
        connect = staticmethod(fake.connect)

    db = make_db(creator=Creator, plugin=False)
    use(db)
    assert fake.opened == 1


def test_the_dbapi_of_a_creator_tells_the_errors_before_the_first_connection(file: str) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, check_same_thread=False)

    connect.dbapi = sqlite3  # type: ignore[attr-defined]
    db = PooledDB(connect)
    assert db.pool.driver.module is sqlite3
    db.close()


def test_the_driver_of_a_lambda_is_known_from_its_first_connection_and_heeds_the_parameters(
    file: str,
) -> None:
    db = PooledDB(
        lambda: sqlite3.connect(file, check_same_thread=False), 0, 0, 0, 1, isfatal=lambda e: True
    )
    con = db.connection()
    assert isinstance(con, sqlite3.Connection)
    with pytest.raises(sqlite3.OperationalError):
        con.execute("SELECT nothing")
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.connection()
    assert isinstance(caught.value, TooManyConnectionsError)
    con.close()
    assert db.pool.stats().closed == {"broken": 1}
    db.close()


def test_first_connections_made_at_once_agree_on_the_driver(file: str) -> None:
    db = PooledDB(lambda: sqlite3.connect(file, check_same_thread=False))
    barrier = threading.Barrier(8)

    def borrow() -> None:
        barrier.wait()
        with db.connection() as con:
            con.execute("SELECT n FROM t")

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.pool.driver.name == "sqlite"
    assert db.pool.stats().closed == {}
    db.close()


# -- the connection -------------------------------------------------------------------------------


def test_a_connection_given_back_raises_dbutils_error_and_the_drivers(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    con = make_db().connection()
    con.close()
    con.close()
    with pytest.raises(InvalidConnectionError) as caught:
        con.cursor()
    for kind in (InvalidConnection, PooledDBError, ConnectionReturned, fake.InterfaceError):
        assert isinstance(caught.value, kind)


def test_a_cursor_kept_after_the_connection_was_given_back_is_dead(file: str) -> None:
    db = PooledDB(sqlite3, 0, 0, 0, 1, database=file)
    con = db.connection()
    cur = con.cursor()
    con.close()
    with db.connection() as other:
        other.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.InterfaceError):
            cur.execute("DELETE FROM t")
    assert rows(file) == [1]
    db.close()


def test_begin_and_cancel_do_nothing_where_the_driver_has_none(file: str) -> None:
    db = PooledDB(sqlite3, database=file)
    con = db.connection()
    con.begin()
    con.cursor().execute("INSERT INTO t VALUES (1)")
    con.cancel()
    con.commit()
    con.close()
    for method in (con.begin, con.cancel):
        with pytest.raises(InvalidConnectionError):
            method()
    assert rows(file) == [1]
    db.close()


def test_begin_and_cancel_are_the_drivers_where_it_has_them(
    make_db: MakeDB, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    for name in ("begin", "cancel"):
        method = lambda *args, _name=name, **kwargs: called.append((_name, args[1:], kwargs))  # noqa: E731
        monkeypatch.setattr(FakeConnection, name, method, raising=False)
    con = make_db().connection()
    con.begin("xid", timeout=3)
    con.cancel()
    assert called == [("begin", ("xid",), {"timeout": 3}), ("cancel", (), {})]


def test_ping_is_the_drivers_own(make_db: MakeDB, monkeypatch: pytest.MonkeyPatch) -> None:
    con = make_db().connection()
    with pytest.raises(AttributeError):
        con.ping()
    monkeypatch.setattr(FakeConnection, "ping", lambda self, again: again, raising=False)
    assert con.ping(False) is False


def test_a_connection_knows_its_module_its_threadsafety_and_the_drivers_connection(
    file: str,
) -> None:
    db = PooledDB(lambda: sqlite3.connect(file, check_same_thread=False))
    con = db.connection()
    assert con.dbapi() is sqlite3
    assert con.threadsafety() == sqlite3.threadsafety
    assert type(con.dbapi_connection) is sqlite3.Connection
    con.close()
    db.close()


def test_what_a_plugin_has_for_borrowed_connections_stays() -> None:
    pymysql = pytest.importorskip("pymysql")
    plugin = registry.find(pymysql).handle_base
    db = PooledDB(pymysql, host="nowhere.invalid")
    base = db.pool.driver.handle_base
    assert issubclass(base, plugin)
    assert issubclass(base, PooledDedicatedDBConnection)
    assert base.ping is plugin.ping  # which never reconnects behind one's back


@pytest.mark.parametrize("plugin", [True, False])
def test_cursors_have_what_dbutils_has_on_every_drivers_cursors(
    make_db: MakeDB, fake: FakeDriver, plugin: bool
) -> None:
    con = make_db(plugin=plugin).connection()
    with con.cursor() as cur:
        with cur.no_failover() as same:
            assert same is cur
            assert cur.execute("SELECT 1, 2") is cur
        assert isinstance(cur.dbapi_cursor, FakeCursor)
        assert list(cur) == [(1, 2)]
        cur.arraysize = 7
        assert cur.dbapi_cursor.arraysize == 7
        cur.executemany("INSERT INTO t VALUES (1)", [(), ()])
        assert (cur.rowcount, cur.connection) == (2, con)
    with pytest.raises(fake.InterfaceError):
        cur.execute("SELECT 1")


@pytest.mark.parametrize("plugin", [True, False])
def test_a_cursor_is_its_own_iterator_with_every_driver(make_db: MakeDB, plugin: bool) -> None:
    con = make_db(plugin=plugin).connection()
    cur = con.cursor()
    cur.execute("SELECT 1")
    assert next(cur) == (1,)
    with pytest.raises(StopIteration):
        next(cur)


@pytest.mark.parametrize(
    ("arguments", "answer", "opened"), [((False,), None, 1), ((), None, 1), ((False,), False, 2)]
)
def test_without_a_plugin_the_ping_of_the_driver_is_asked_as_dbutils_does(
    make_db: MakeDB,
    fake: FakeDriver,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    answer: object,
    opened: int,
) -> None:
    asked: list[Any] = []

    def ping(self: FakeConnection, *given: Any) -> object:
        if given != arguments:
            raise TypeError("takes other arguments")
        asked.append(given)
        return answer

    monkeypatch.setattr(FakeConnection, "ping", ping, raising=False)
    db = make_db(plugin=False)
    use(db, "SELECT 3")
    clock.advance(40.0)
    use(db, "SELECT 3")
    assert asked == [arguments]
    assert [sql for _, sql in fake.executed] == ["SELECT 3", "SELECT 3"]
    assert fake.opened == opened


def test_the_classes_and_modules_are_named_as_in_dbutils() -> None:
    from dbapi_pool.dropin import dbutils

    assert dbutils.__version__ == PooledDB.version == "3.2.0"
    for module, names in {
        "pooled_db": ["PooledDB", "PooledDedicatedDBConnection", "TooManyConnectionsError"],
        "persistent_db": ["PersistentDB", "PersistentDBError", "NotSupportedError"],
        "steady_db": ["connect", "SteadyDBConnection", "SteadyDBCursor", "InvalidCursorError"],
        "simple_pooled_db": ["PooledDB", "PooledDBError", "NotSupportedError"],
    }.items():
        found = importlib.import_module(f"dbapi_pool.dropin.dbutils.{module}")
        assert set(names) <= set(found.__all__)
        assert found.__version__ == "3.2.0"
    assert sorted(dbutils.__all__, key=str.lower) == sorted(set(dbutils.__all__), key=str.lower)


# -- SimplePooledDB -------------------------------------------------------------------------------


def test_the_simple_pool_opens_all_it_may_and_lets_the_next_one_wait(file: str) -> None:
    db = simple_pooled_db.PooledDB(sqlite3, 2, database=file)
    assert db.pool.stats().opened == 2
    one, other = db.connection(), db.connection()
    waiting = threading.Thread(target=lambda: db.connection().close())
    waiting.start()
    one.close()
    waiting.join()
    other.close()
    assert db.pool.stats().opened == 2
    db.close()


@pytest.mark.parametrize("level", [None, -1, 0, 4])
def test_the_simple_pool_refuses_what_is_not_for_threads(
    fake: FakeDriver, level: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "threadsafety", level, raising=False)
    with pytest.raises(NotSupportedError, match=f"threadsafety={level}"):
        simple_pooled_db.PooledDB(fake, 1)


def test_a_module_that_cannot_be_found_is_an_attribute_error(make_db: MakeDB) -> None:
    con = make_db(creator=lambda: FakeDriver().connect(), plugin=False).connection()
    for method in (con.dbapi, con.threadsafety):
        with pytest.raises(AttributeError, match="please set creator.dbapi"):
            method()


def test_a_with_statement_commits_on_success_and_rolls_back_on_an_exception(file: str) -> None:
    db = PooledDB(sqlite3, database=file)
    with db.connection() as con:
        con.cursor().execute("INSERT INTO t VALUES (1)")
    with suppress(ZeroDivisionError), db.connection() as con:
        con.cursor().execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert rows(file) == [1]
    assert db.pool.stats().in_use == 0
    db.close()


def test_work_that_is_not_committed_before_close_is_rolled_back(file: str) -> None:
    db = PooledDB(sqlite3, database=file)
    con = db.connection()
    con.cursor().execute("INSERT INTO t VALUES (1)")
    con.close()
    assert rows(file) == []
    db.close()


@pytest.mark.parametrize("factory", [(), (type("Own", (sqlite3.Cursor,), {}),)])
def test_a_with_statement_closes_a_cursor_also_where_the_driver_has_none(
    file: str, factory: tuple[type, ...]
) -> None:
    db = PooledDB(sqlite3, database=file)
    cur: Any
    with db.connection() as con:
        with con.cursor(*factory) as cur:
            assert issubclass(type(cur), (sqlite3.Cursor, *factory))
            assert cur.connection is con
            cur.execute("SELECT 1")
        with pytest.raises(sqlite3.ProgrammingError):
            cur.fetchone()
        kept = con.cursor()
    with pytest.raises(sqlite3.InterfaceError):
        kept.__enter__()
    db.close()


def test_attributes_are_the_drivers_both_ways(file: str) -> None:
    db = PooledDB(sqlite3, 0, 0, 0, 1, database=file)
    with db.connection() as con:
        con.row_factory = sqlite3.Row
        assert con.execute("SELECT 1 AS one").fetchone()["one"] == 1
    with db.connection() as con:
        assert con.row_factory is None
    db.close()


def test_sqlite_connections_pass_from_thread_to_thread_without_an_argument(file: str) -> None:
    db = PooledDB(sqlite3, 0, 0, 0, 1, database=file)
    db.connection().close()

    def insert() -> None:
        with db.connection() as con:
            con.execute("INSERT INTO t VALUES (1)")

    thread = threading.Thread(target=insert)
    thread.start()
    thread.join()
    assert rows(file) == [1]
    assert db.pool.stats().opened == 1
    db.close()


# -- closing --------------------------------------------------------------------------------------


def test_after_close_nothing_is_open_and_connection_opens_anew(
    make_db: MakeDB, fake: FakeDriver
) -> None:
    db = make_db(mincached=2)
    db.close()
    db.close()
    assert fake.open == 0
    use(db)
    assert fake.open == 1


def test_a_connection_lent_at_close_works_on_and_is_closed_when_it_comes_back(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db()
    con = db.connection()
    db.close()
    con.cursor().execute("UPDATE t SET n = 1")
    con.commit()
    con.close()
    clock.run()
    assert (fake.open, fake.commits) == (0, 1)


def test_who_waits_at_close_is_served_by_a_new_connection(
    make_db: MakeDB, fake: FakeDriver, clock: VirtualClock
) -> None:
    db = make_db(maxconnections=1, blocking=True)
    con = db.connection()
    waiting = clock.start(db.connection)
    clock.run()
    db.close()
    waiting.result().close()
    con.close()
    assert fake.opened == 2


def test_closing_the_pool_behind_it_is_closing_it(make_db: MakeDB, fake: FakeDriver) -> None:
    db = make_db(mincached=1)
    db.pool.close()
    use(db)
    assert fake.opened == 2


def test_one_that_was_dropped_closes_its_idle_connections(
    clock: VirtualClock, fake: FakeDriver
) -> None:
    class OnVirtualClock(PooledDB):
        pool_settings = {"clock": clock, "driver": fake.driver()}

    db = OnVirtualClock(fake, mincached=2)
    del db
    gc.collect()
    clock.run()
    assert fake.open == 0
