"""Steady connections (`connect`): what is replaced and when, what is never done twice."""

from __future__ import annotations

import gc
import inspect
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dbapi_pool import PoolError, PoolSettingError
from dbapi_pool.dropin.dbutils import (
    InvalidCursorError,
    LostTransactionError,
    PooledDB,
    SteadyDBConnection,
    SteadyDBCursor,
    SteadyDBError,
    connect,
)
from dbapi_pool.dropin.dbutils import steady_db as module
from dbapi_pool.testing import FakeConnection, FakeCursor, FakeDriver, VirtualClock

Make = Callable[..., Any]


@pytest.fixture
def make(clock: VirtualClock, fake: FakeDriver) -> Iterator[Make]:
    """Makes steady connections on the fake driver; in the end all are closed, and nothing is open."""
    fake.strict = False  # between transactions a steady connection is looked at while in use
    made: list[Any] = []

    def make(*args: Any, creator: Any = None, plugin: bool = True, **kwargs: Any) -> Any:
        class OnVirtualClock(SteadyDBConnection):
            pool_settings = {"clock": clock, **({"driver": fake.driver()} if plugin else {})}

        made.append(OnVirtualClock(fake if creator is None else creator, *args, **kwargs))
        return made[-1]

    yield make
    fake.calm()
    made.clear()
    gc.collect()
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


def texts(fake: FakeDriver) -> list[str]:
    return [sql for _, sql in fake.executed]


INSERT = "INSERT INTO t VALUES (1)"


# -- the constructor ------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [connect, SteadyDBConnection])
def test_the_parameters_are_those_of_dbutils_in_their_order_with_their_defaults(made: Any) -> None:
    parameters = inspect.signature(made).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "creator", "maxusage=None", "setsession=None", "failures=None", "ping=1", "closeable=True",
        "isfatal=None", "*args", "**kwargs",
    ]  # fmt: skip


def test_it_connects_at_once_with_the_arguments_of_the_creator(
    make: Make, fake: FakeDriver
) -> None:
    con = make(None, None, None, 1, True, None, "host", user="app", min_size=3)
    assert fake.open == 1
    assert con.arguments == (("host",), {"user": "app", "min_size": 3})


def test_it_raises_the_drivers_own_error_if_it_cannot_connect(make: Make, fake: FakeDriver) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        make()


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxusage": "3"}, {"maxusage": 2.5}, {"failures": int}, {"isfatal": 1}, {"ping": (1, 2)},
        {"creator": "sqlite:///app.db"},
    ],
)  # fmt: skip
def test_what_dbutils_refuses_is_refused(make: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        make(**wrong)


def test_a_cursor_of_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="is not a SteadyDBConnection"):
        SteadyDBCursor(None)  # type: ignore[arg-type]


def test_a_driver_that_is_not_for_threads_is_served_in_the_thread_that_asks(
    make: Make, fake: FakeDriver
) -> None:
    where: list[int] = []

    def connect_here() -> Any:
        where.append(threading.get_ident())
        return fake.connect()

    creator = SimpleNamespace(connect=connect_here, threadsafety=0)
    con = make(creator=creator, plugin=False)
    con.cursor().execute("SELECT 1")
    assert con.threadsafety() == 0
    assert where == [threading.get_ident()]


def test_a_database_in_memory_is_served_by_one_connection() -> None:
    con = connect(sqlite3, database=":memory:")
    con.cursor().execute("CREATE TABLE t (n)")
    con.cursor().execute(INSERT)
    con.commit()
    assert con.cursor().execute("SELECT n FROM t").fetchall() == [(1,)]
    con.close()


def test_a_pool_gives_a_steady_connection_with_its_parameters(file: str) -> None:
    db = PooledDB(sqlite3, maxconnections=1, setsession="PRAGMA cache_size = 7", database=file)
    held, con = db.connection(), db.steady_connection()
    assert isinstance(con, SteadyDBConnection)
    assert con.cursor().execute("PRAGMA cache_size").fetchone() == (7,)
    con.close()
    held.close()
    db.close()


def test_the_module_has_what_dbutils_has() -> None:
    assert {
        "connect", "SteadyDBConnection", "SteadyDBCursor", "SteadyDBError", "InvalidCursorError",
    } <= set(module.__all__)  # fmt: skip
    assert module.__version__ == SteadyDBConnection.version == "3.2.0"


# -- between transactions a dead connection is replaced -------------------------------------------


def test_a_connection_that_died_is_replaced_before_the_statement_is_sent(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    fake.kill_all()
    assert cur.execute("SELECT 1").fetchone() == (1,)
    assert (fake.opened, fake.calls["execute"]) == (2, 1)


def test_it_is_replaced_before_a_cursor_is_made(make: Make, fake: FakeDriver) -> None:
    con = make()
    fake.kill_all()
    con.cursor()
    assert fake.opened == 2


def test_it_is_replaced_after_a_commit_and_a_rollback(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    for end in (con.commit, con.rollback):
        cur.execute(INSERT)
        end()
        fake.kill_all()
        cur.execute("SELECT 1")
        con.rollback()
    assert (fake.opened, fake.commits) == (3, 1)


def test_in_autocommit_mode_every_statement_is_between_transactions(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    con.autocommit = True
    cur = con.cursor()
    for _ in range(3):
        cur.execute(INSERT)
        fake.kill_all()
    cur.execute("SELECT 1")
    assert fake.opened == 4
    assert con.autocommit is True


@pytest.mark.parametrize(
    ("sql", "inside"),
    [
        (INSERT, False), ("select 1", False), ("BEGIN", True), ("start transaction", True),
        ("/* of mine */ SELECT 1", True), ("SET autocommit = 0", True), ("COMMIT", False),
        ("ROLLBACK TO here", True),
    ],
)  # fmt: skip
def test_without_a_plugin_a_transaction_begun_by_hand_in_autocommit_mode_counts(
    make: Make, fake: FakeDriver, sql: str, inside: bool
) -> None:
    con = make(plugin=False, failures=fake.OperationalError)
    con.autocommit = True
    cur = con.cursor()
    fake.on("execute", times=1)
    cur.execute(sql)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute(INSERT)
    with pytest.raises(LostTransactionError) if inside else nullcontext():
        cur.execute(INSERT)


def test_the_autocommit_mode_of_drivers_with_methods_for_it_is_asked(
    make: Make, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConnection, "get_autocommit", lambda self: True, raising=False)
    con = make(plugin=False, failures=fake.OperationalError)
    con.autocommit = print
    cur = con.cursor()
    cur.execute(INSERT)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute(INSERT)
    cur.execute(INSERT)
    assert fake.opened == 2


def test_a_cursor_that_could_not_be_made_is_asked_for_on_another_connection(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    fake.on("cursor", error=fake.OperationalError("lost"), times=1)
    fake.on("ping", error=fake.OperationalError("lost"), times=1)
    con.cursor().execute("SELECT 1")
    assert fake.opened == 2


def test_a_cursor_that_cannot_be_made_anywhere_raises(make: Make, fake: FakeDriver) -> None:
    con = make()
    fake.on("cursor", error=fake.OperationalError("no"))
    with pytest.raises(fake.OperationalError, match="no"):
        con.cursor()


def test_a_lost_connection_that_cannot_be_replaced_says_why_and_is_replaced_later(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    fake.kill_all()
    fake.down = True
    for _ in range(2):
        with pytest.raises(fake.OperationalError, match="refused"):
            cur.execute("SELECT 1")
    fake.down = False
    assert cur.execute("SELECT 1").fetchone() == (1,)


# -- no statement is ever sent twice --------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"isfatal": lambda exc: True}])
def test_a_statement_that_failed_is_not_sent_again(
    make: Make, fake: FakeDriver, parameters: dict[str, Any]
) -> None:
    con = make(failures=fake.OperationalError, **parameters)
    fake.on("execute", error=fake.OperationalError("lost"), times=1)
    cur = con.cursor()
    with pytest.raises(fake.OperationalError, match="lost"):
        cur.execute(INSERT)
    assert (fake.calls["execute"], fake.executed) == (1, [])


def test_after_the_first_statement_of_a_transaction_was_lost_the_next_one_begins_anew(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    fake.lie_alive = True
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute(INSERT)
    fake.lie_alive = False
    cur.execute(INSERT)
    con.commit()
    assert (fake.opened, fake.commits, texts(fake)) == (2, 1, [INSERT])


# -- in a transaction none is replaced ------------------------------------------------------------


def lose_in_transaction(con: Any, cur: Any, fake: FakeDriver) -> None:
    cur.execute(INSERT)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("INSERT INTO t VALUES (2)")


def test_a_lost_transaction_raises_until_it_is_rolled_back(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    lose_in_transaction(con, cur, fake)
    for _ in range(2):
        with pytest.raises(LostTransactionError, match=r"call rollback\(\)") as caught:
            cur.execute("INSERT INTO t VALUES (3)")
        for kind in (SteadyDBError, PoolError, fake.OperationalError):
            assert isinstance(caught.value, kind)
        assert isinstance(caught.value.__cause__, fake.OperationalError)
    with pytest.raises(LostTransactionError):
        con.cursor()
    con.rollback()
    cur.execute("INSERT INTO t VALUES (4)")
    con.commit()
    assert texts(fake) == [INSERT, "INSERT INTO t VALUES (4)"]
    assert (fake.opened, fake.commits) == (2, 1)


def test_the_commit_of_a_lost_transaction_raises_and_ends_it(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    lose_in_transaction(con, cur, fake)
    with pytest.raises(LostTransactionError):
        con.commit()
    cur.execute(INSERT)
    con.commit()
    assert (fake.opened, fake.commits) == (2, 1)


def test_a_commit_that_meets_the_loss_raises_the_drivers_error_and_ends_the_transaction(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    cur.execute(INSERT)
    fake.kill_all()
    with pytest.raises(fake.OperationalError) as caught:
        con.commit()
    assert not isinstance(caught.value, LostTransactionError)
    cur.execute("SELECT 1")
    assert (fake.opened, fake.commits) == (2, 0)


def test_a_rollback_that_meets_the_loss_raises_and_the_next_statement_begins_anew(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    cur.execute(INSERT)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        con.rollback()
    cur.execute("SELECT 1")
    assert fake.opened == 2


def test_begin_after_a_lost_transaction_begins_another(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    lose_in_transaction(con, cur, fake)
    con.begin()
    cur.execute(INSERT)
    con.commit()
    assert (fake.opened, fake.commits) == (2, 1)


def test_what_was_begun_by_begin_is_lost_with_its_first_statement(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    con.begin()
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT 1")
    with pytest.raises(LostTransactionError):
        cur.execute("SELECT 1")
    assert fake.opened == 1


def test_a_transaction_that_only_read_raises_once_as_nothing_else_was_lost(
    make: Make, fake: FakeDriver
) -> None:
    con = make(plugin=False)  # so that a SELECT begins a transaction, as far as anybody knows
    cur = con.cursor()
    cur.execute("SELECT n FROM t")
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT n FROM t")
    con.rollback()
    assert con.cursor().execute("SELECT 5").fetchone() == (5,)


@pytest.mark.parametrize("sql", ["SELECT n FROM t FOR UPDATE", "SELECT next_number(7)", INSERT])
def test_what_locks_or_may_write_is_not_taken_for_reading(
    make: Make, fake: FakeDriver, sql: str
) -> None:
    con = make(plugin=False, failures=fake.OperationalError)
    cur = con.cursor()
    cur.execute(sql)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT 1")
    with pytest.raises(LostTransactionError):
        cur.execute("SELECT 1")


def test_reading_that_was_lost_leaves_nothing_to_be_ended(make: Make, fake: FakeDriver) -> None:
    con = make(plugin=False, failures=fake.OperationalError)
    cur = con.cursor()
    cur.execute("SELECT n FROM t")
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT n FROM t")
    cur.execute("SELECT 5")
    assert fake.opened == 2


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_a_transaction_that_was_lost_leaves_no_trace_in_the_next(
    make: Make, fake: FakeDriver, end: str
) -> None:
    con = make()
    cur = con.cursor()
    cur.execute(INSERT)
    fake.kill_all()
    try:
        getattr(con, end)()
    except fake.OperationalError:
        pass
    con.commit()
    assert fake.commits == 0


def test_an_interrupt_in_the_middle_of_a_statement_costs_the_connection(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    fake.on("execute", error=KeyboardInterrupt(), times=1)
    with pytest.raises(KeyboardInterrupt):
        cur.execute("SELECT 1")
    cur.execute("SELECT 1")
    assert fake.opened == 2


# -- begin, cancel, with --------------------------------------------------------------------------


def test_begin_and_cancel_are_the_drivers_where_it_has_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    for name in ("begin", "cancel"):
        method = lambda *args, _name=name, **kwargs: called.append((_name, args[1:], kwargs))  # noqa: E731
        monkeypatch.setattr(FakeConnection, name, method, raising=False)
    con = make()
    con.begin("xid", timeout=3)
    con.cancel()
    assert called == [("begin", ("xid",), {"timeout": 3}), ("cancel", (), {})]


def test_after_cancel_a_connection_may_be_replaced(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    con.begin()
    con.cancel()
    fake.kill_all()
    cur.execute("SELECT 1")
    assert fake.opened == 2


def test_a_with_statement_commits_or_rolls_back_and_keeps_the_connection(file: str) -> None:
    con = connect(sqlite3, database=file)
    with con as same:
        assert same is con
        con.cursor().execute(INSERT)
    with suppress(ZeroDivisionError), con:
        con.cursor().execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    with con:
        con.cursor().execute("INSERT INTO t VALUES (3)")
    assert rows(file) == [1, 3]
    con.close()


def test_leaving_a_with_statement_after_a_loss_ends_the_transaction(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    with suppress(fake.OperationalError), con:
        con.cursor().execute(INSERT)
        fake.kill_all()
        con.cursor().execute(INSERT)
    with con:
        con.cursor().execute(INSERT)
    assert (fake.opened, fake.commits) == (2, 1)


# -- close ----------------------------------------------------------------------------------------


def test_close_closes_at_once_and_the_next_use_opens_another(make: Make, fake: FakeDriver) -> None:
    con = make()
    con.cursor().execute(INSERT)
    con.close()
    con.close()
    assert (fake.open, fake.commits) == (0, 0)
    con.cursor().execute("SELECT 1")
    assert fake.opened == 2


def test_what_is_not_closeable_ignores_close_but_ends_what_begin_began(
    make: Make, fake: FakeDriver
) -> None:
    con = make(closeable=False)
    con.cursor().execute(INSERT)
    con.close()
    con.commit()
    con.begin()
    con.cursor().execute(INSERT)
    con.close()
    con.commit()
    assert (fake.opened, fake.open, fake.commits, fake.rollbacks) == (1, 1, 2, 1)


def test_what_is_not_closeable_forgets_a_lost_transaction_by_close(
    make: Make, fake: FakeDriver
) -> None:
    con = make(closeable=False)
    cur = con.cursor()
    lose_in_transaction(con, cur, fake)
    con.close()
    cur.execute("SELECT 1")
    assert fake.opened == 2


def test_one_that_was_dropped_is_closed(make: Make, fake: FakeDriver, file: str) -> None:
    class Own(SteadyDBConnection):
        pool_settings = {"driver": fake.driver()}

    con = Own(fake)
    assert fake.open == 1
    del con
    gc.collect()
    assert fake.open == 0


def test_commit_and_rollback_of_nothing_do_nothing_on_a_closed_one(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    con.close()
    con.commit()
    con.rollback()
    assert fake.opened == 1


# -- maxusage, setsession, ping, failures ---------------------------------------------------------


def test_after_maxusage_statements_it_is_replaced_between_transactions(
    make: Make, fake: FakeDriver
) -> None:
    con = make(3)
    cur = con.cursor()
    for _ in range(5):
        cur.execute(INSERT)
    assert fake.opened == 1
    con.commit()
    cur.execute(INSERT)
    assert (fake.opened, fake.commits) == (2, 1)


def test_a_transaction_longer_than_maxusage_is_whole(file: str) -> None:
    con = connect(sqlite3, 2, database=file)
    cur = con.cursor()
    for n in range(5):
        cur.execute("INSERT INTO t VALUES (?)", (n,))
    con.commit()
    assert rows(file) == [0, 1, 2, 3, 4]
    con.close()


def test_setsession_prepares_every_connection_and_outlasts_a_rollback(
    make: Make, fake: FakeDriver
) -> None:
    con = make(setsession=["SET zone = mez"])
    for _ in range(2):
        con.cursor().execute(INSERT)
        con.rollback()
        assert con.session == {"zone": "mez"}
        fake.kill_all()
        con.cursor()
    assert fake.opened == 3


@pytest.mark.parametrize(
    ("ping", "at_cursor", "at_statement"),
    [(0, 0, 0), (None, 0, 0), (1, 0, 0), (2, 1, 0), (4, 0, 1), (6, 1, 1), (7, 1, 1)],
)
def test_ping_says_when_it_is_pinged(
    make: Make, fake: FakeDriver, ping: Any, at_cursor: int, at_statement: int
) -> None:
    con = make(ping=ping)
    cur = con.cursor()
    assert fake.pings == at_cursor
    cur.execute("SELECT 1")
    assert fake.pings == at_cursor + at_statement


def test_in_a_transaction_it_is_not_pinged(make: Make, fake: FakeDriver) -> None:
    con = make(ping=7)
    cur = con.cursor()
    cur.execute(INSERT)
    before = fake.pings
    con.cursor().execute(INSERT)
    assert fake.pings == before


@pytest.mark.parametrize("ping", [(4, "SELECT 7"), (4, lambda conn: None), 4])
def test_one_that_fails_its_ping_is_replaced_before_the_statement(
    make: Make, fake: FakeDriver, ping: Any
) -> None:
    con = make(ping=ping)
    cur = con.cursor()
    fake.lie_alive = True
    fake.kill_all()
    if callable(ping[1] if isinstance(ping, tuple) else None):
        fake.lie_alive = False
    assert cur.execute("SELECT 1").fetchone() == (1,)
    assert fake.opened == 2


@pytest.mark.parametrize(("ping", "alive"), [(1, True), (7, True), (2, None), (0, None)])
def test_ping_check_says_whether_it_is_alive_if_that_was_asked_for(
    make: Make, ping: int, alive: bool | None
) -> None:
    assert make(ping=ping)._ping_check() is alive


def test_ping_check_replaces_a_dead_one_but_not_in_a_transaction(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    fake.kill_all()
    assert con._ping_check(reconnect=False) is False
    assert con._ping_check() is True
    con.cursor().execute(INSERT)
    fake.kill_all()
    assert con._ping_check() is False
    fake.down = True
    con.close()
    assert con._ping_check() is False
    assert fake.opened == 2


def test_ping_is_the_drivers_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    con = make()
    with pytest.raises(AttributeError):
        con.ping()
    monkeypatch.setattr(FakeConnection, "ping", lambda self, again: again, raising=False)
    assert con.ping(False) is False


def test_without_a_plugin_an_error_of_dbutils_failures_has_the_connection_pinged_before_it_is_used(
    make: Make, fake: FakeDriver
) -> None:
    con = make(plugin=False)
    cur = con.cursor()
    fake.on("execute", error=fake.OperationalError("too slow"), times=1)
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT 1")
    cur.execute("SELECT 3")
    assert texts(fake) == ["SELECT 1", "SELECT 3"]  # the ping of a driver that has none of its own
    assert fake.opened == 1


def test_without_a_plugin_one_that_is_dead_is_replaced_after_one_error(
    make: Make, fake: FakeDriver
) -> None:
    con = make(plugin=False)
    cur = con.cursor()
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.execute("SELECT 1")
    assert cur.execute("SELECT 1").fetchone() == (1,)
    assert fake.opened == 2


def test_an_error_of_failures_costs_the_connection_and_no_other_does(
    make: Make, fake: FakeDriver
) -> None:
    con = make(failures=(fake.InternalError,))
    cur = con.cursor()
    for kind, opened in ((fake.DataError, 1), (fake.OperationalError, 1), (fake.InternalError, 2)):
        fake.on("execute", error=kind("no"), times=1)
        with pytest.raises(kind):
            cur.execute("SELECT 1")
        cur.execute("SELECT 1")
        assert fake.opened == opened


def test_isfatal_decides_about_failures(make: Make, fake: FakeDriver) -> None:
    con = make(isfatal=lambda exc: "fatal" in str(exc))
    cur = con.cursor()
    for text, opened in (("a timeout", 1), ("a fatal one", 2)):
        fake.on("execute", error=fake.OperationalError(text), times=1)
        with pytest.raises(fake.OperationalError):
            cur.execute("SELECT 1")
        cur.execute("SELECT 1")
        assert (fake.opened, fake.pings) == (opened, 0)


# -- cursors --------------------------------------------------------------------------------------


def test_a_cursor_outlives_its_connection_but_its_rows_do_not(make: Make, fake: FakeDriver) -> None:
    con = make()
    cur = con.cursor()
    cur.execute("SELECT 1")
    con.close()
    for rest in (cur.fetchone, cur.fetchall, cur.fetchmany, lambda: list(cur)):
        with pytest.raises(InvalidCursorError, match="run the statement again") as caught:
            rest()
        assert isinstance(caught.value, fake.InterfaceError)
    assert list(cur.execute("SELECT 2")) == [(2,)]


def test_a_cursor_that_was_closed_can_be_used_again_but_not_within_begin(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    cur = con.cursor()
    cur.close()
    cur.close()
    assert cur.execute("SELECT 1").fetchone() == (1,)
    con.begin()
    cur.close()
    with pytest.raises(fake.InterfaceError, match="closed"):
        cur.execute("SELECT 1")
    assert fake.opened == 1


def test_what_was_set_on_connection_and_cursor_is_set_on_the_next(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    con.note = "mine"
    cur = con.cursor()
    cur.arraysize = 7
    fake.kill_all()
    cur.execute("SELECT 1")
    assert (con.note, cur.arraysize, fake.opened) == ("mine", 7, 2)
    assert cur.dbapi_cursor.arraysize == 7


def test_a_value_that_the_driver_refuses_is_not_kept(file: str) -> None:
    con = connect(sqlite3, database=file)
    with pytest.raises(AttributeError):
        con.no_such_thing = 1
    con.close()
    con.cursor()
    con.close()


def test_sizes_are_for_the_next_statement_whatever_connection_runs_it(
    make: Make, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    for name in ("setinputsizes", "setoutputsize"):
        method = lambda self, *args, _name=name: told.append((_name, *args))  # noqa: E731
        monkeypatch.setattr(FakeCursor, name, method)
    con = make()
    cur = con.cursor()
    cur.setinputsizes([7])
    cur.setoutputsize(9)
    cur.setoutputsize(15, 3)
    con.close()
    assert told == []
    cur.execute("SELECT 1")
    cur.execute("SELECT 1")
    assert told == [("setinputsizes", [7]), ("setoutputsize", 9), ("setoutputsize", 15, 3)]


def test_other_methods_that_may_send_something_are_counted_and_noted(
    make: Make, fake: FakeDriver
) -> None:
    con = make(2)
    cur = con.cursor()
    assert cur.callproc("p") == ()
    assert cur.nextset() is None
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        cur.executemany(INSERT, [()])
    with pytest.raises(LostTransactionError):
        cur.callproc("p")
    assert not hasattr(cur, "no_such_thing")


def test_a_cursor_is_for_a_with_statement_and_knows_its_connection(make: Make) -> None:
    con = make()
    with con.cursor() as cur:
        assert cur.connection is con
        assert cur.execute("SELECT 1") is cur
        assert next(cur) == (1,)
        with cur.no_failover() as same:
            assert same is cur
    assert cur.dbapi_cursor.closed


def test_methods_of_the_connection_that_run_a_statement_are_steady_too(file: str) -> None:
    con: Any = connect(sqlite3, database=file)
    con.execute(INSERT)
    con.commit()
    con.close()
    assert con.execute("SELECT n FROM t").fetchall() == [(1,)]
    con.close()


def test_what_somebody_did_with_the_drivers_connection_is_not_looked_into(
    make: Make, fake: FakeDriver
) -> None:
    con = make()
    assert con.dbapi_connection.number == 1
    con.commit()
    calls = fake.calls["is_alive"]
    con.cursor().execute("SELECT 1")
    assert fake.calls["is_alive"] == calls


def test_it_knows_its_module_and_its_threadsafety(file: str) -> None:
    con = connect(lambda: sqlite3.connect(file, check_same_thread=False))
    assert con.dbapi() is sqlite3
    assert con.threadsafety() == sqlite3.threadsafety
    assert type(con.dbapi_connection) is sqlite3.Connection
    con.close()


# -- fork -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("pending", [False, True])
def test_a_child_gets_a_connection_of_its_own_but_not_in_the_parents_transaction(
    file: str, pending: bool
) -> None:
    con = connect(sqlite3, database=file)
    cur = con.cursor()
    if pending:
        cur.execute(INSERT)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = _in_child(con, cur, pending)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    cur.execute("INSERT INTO t VALUES (3)")
    con.commit()
    assert rows(file) == [1, 3] if pending else [2, 3]
    con.close()


def _in_child(con: Any, cur: Any, pending: bool) -> int:
    if pending:
        for use in (lambda: cur.execute("SELECT 1"), con.commit):
            try:
                use()
            except sqlite3.Error:
                continue
            return 1
        return 0
    cur.execute("INSERT INTO t VALUES (2)")
    con.commit()
    return 0


def test_a_setting_that_pool_refuses_is_refused(file: str) -> None:
    class Own(SteadyDBConnection):
        pool_settings = {"ping_timeout": -1}

    with pytest.raises(PoolSettingError, match="ping_timeout=-1"):
        Own(sqlite3, database=file)
