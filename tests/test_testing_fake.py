"""The fake driver: it is a PEP 249 driver, it misbehaves when told, and it sees what pools do."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbapi_pool.drivers import Driver
from dbapi_pool.errors import PoolTimeout, for_driver
from dbapi_pool.testing import (
    FakeConnection,
    FakeCursor,
    FakeDriver,
    FakeDriverPlugin,
    SerializationError,
    VirtualClock,
)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as made:
        yield made


@pytest.fixture
def fake(clock: VirtualClock) -> FakeDriver:
    return FakeDriver(clock)


@pytest.fixture
def conn(fake: FakeDriver) -> Any:
    return fake.connect()


@pytest.fixture
def plugin(fake: FakeDriver) -> FakeDriverPlugin:
    return fake.driver()


# -- PEP 249 --------------------------------------------------------------------------------------


def test_it_has_what_a_dbapi_module_has(fake: FakeDriver) -> None:
    assert (fake.apilevel, fake.threadsafety, fake.paramstyle) == ("2.0", 1, "qmark")
    assert issubclass(fake.Warning, Exception)
    assert issubclass(fake.Error, Exception)
    for name in ("InterfaceError", "DatabaseError"):
        assert getattr(fake, name).__bases__ == (fake.Error,)
    for name in ("Data", "Operational", "Integrity", "Internal", "Programming", "NotSupported"):
        assert getattr(fake, name + "Error").__bases__ == (fake.DatabaseError,)


def test_its_connections_carry_the_errors_too(fake: FakeDriver, conn: FakeConnection) -> None:
    assert conn.OperationalError is fake.OperationalError
    assert issubclass(for_driver(PoolTimeout, FakeConnection), fake.OperationalError)


def test_a_select_has_rows_and_a_description(conn: FakeConnection) -> None:
    cursor = conn.cursor()
    cursor.execute("SELECT 1, 2")
    assert (cursor.rowcount, len(cursor.description), len(cursor.description[0])) == (1, 2, 7)
    assert cursor.fetchone() == (1, 2)
    assert cursor.fetchone() is None


def test_rows_can_be_given(fake: FakeDriver, conn: FakeConnection) -> None:
    fake.rows = [("a",), ("b",), ("c",), ("d",)]
    cursor = conn.cursor()
    cursor.execute("SELECT name FROM users WHERE id = ?", (1,))
    assert cursor.fetchmany() == [("a",)]
    cursor.arraysize = 2
    assert cursor.fetchmany() == [("b",), ("c",)]
    assert list(cursor) == [("d",)]
    assert cursor.fetchall() == []
    assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_other_statements_have_no_rows(fake: FakeDriver, conn: FakeConnection) -> None:
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        assert (cursor.rowcount, cursor.description) == (2, None)
        with pytest.raises(fake.ProgrammingError):
            cursor.fetchone()
        assert cursor.callproc("p", [1]) == [1]
        cursor.setinputsizes([1])
        cursor.setoutputsize(1)
    assert conn.executed == ["INSERT INTO t VALUES (?)", "CALL p"]
    assert fake.executed == [(1, sql) for sql in conn.executed]


def test_nonsense_is_a_programming_error(fake: FakeDriver, conn: FakeConnection) -> None:
    for sql in ("", " ; ", "SET sail"):
        with pytest.raises(fake.ProgrammingError):
            conn.execute(sql)


def test_a_closed_cursor_is_unusable(fake: FakeDriver, conn: FakeConnection) -> None:
    cursor = conn.cursor()
    cursor.close()
    cursor.close()
    for use in (cursor.fetchall, cursor.nextset, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(fake.InterfaceError, match="cursor is closed"):
            use()


def test_a_closed_connection_is_unusable_and_so_are_its_cursors(
    fake: FakeDriver, conn: FakeConnection
) -> None:
    cursor = conn.cursor()
    conn.close()
    for use in (conn.commit, conn.rollback, conn.cursor, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(fake.InterfaceError, match="connection is closed"):
            use()


def test_a_cursor_class_can_be_asked_for(conn: FakeConnection) -> None:
    class Mine(FakeCursor):
        pass

    cursor = conn.cursor(Mine)
    assert type(cursor) is Mine
    assert cursor.connection is conn


def test_connect_takes_any_arguments(fake: FakeDriver) -> None:
    assert fake.connect("db", user="app").arguments == (("db",), {"user": "app"})


# -- the server's session -------------------------------------------------------------------------


def test_anything_but_select_opens_a_transaction(conn: FakeConnection) -> None:
    conn.execute("SELECT 1")
    assert not conn.in_transaction
    for end in (conn.commit, conn.rollback, lambda: conn.execute("COMMIT")):
        conn.execute("INSERT INTO t VALUES (1)")
        assert conn.in_transaction
        end()
        assert not conn.in_transaction


def test_in_autocommit_mode_only_begin_opens_a_transaction(conn: FakeConnection) -> None:
    conn.autocommit = True
    conn.execute("INSERT INTO t VALUES (1)")
    assert not conn.in_transaction
    conn.execute("BEGIN")
    conn.execute("ROLLBACK TO SAVEPOINT s")
    assert conn.in_transaction
    conn.execute("ROLLBACK")
    assert not conn.in_transaction


def test_set_changes_the_session_and_reset_clears_it(conn: FakeConnection) -> None:
    conn.execute("SET tz = 'utc'")
    conn.execute("set role to admin;")
    assert conn.execute("SELECT SESSION").fetchall() == [("role", "admin"), ("tz", "'utc'")]
    conn.rollback()
    assert conn.session == {"role": "admin", "tz": "'utc'"}
    conn.execute("RESET")
    assert conn.session == {}


def test_a_result_is_half_read_until_it_is_read_or_its_cursor_closed_or_dropped(
    fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.rows = [(1,), (2,)]

    def half() -> Any:
        cursor = conn.execute("SELECT x")
        cursor.fetchone()
        assert conn.half_read
        return cursor

    half().fetchall()
    assert not conn.half_read
    half().close()
    assert not conn.half_read
    half()
    gc.collect()
    assert not conn.half_read


# -- counting -------------------------------------------------------------------------------------


def test_open_and_opening_and_closing_connections_are_counted(
    clock: VirtualClock, fake: FakeDriver
) -> None:
    fake.on("connect", delay=1.0)
    fake.on("close", delay=1.0)
    tasks = [clock.start(fake.connect) for _ in range(3)]
    clock.run()
    assert (fake.open, fake.opening, fake.peak) == (0, 3, 3)
    clock.advance(1.0)
    assert (fake.open, fake.opening, fake.opened) == (3, 0, 3)
    clock.start(tasks[0].result().close)
    clock.run()
    assert (fake.open, fake.closed) == (3, 0), "counted until close() has returned"
    clock.start(fake.connect)
    clock.advance(1.0)
    assert (fake.open, fake.closed, fake.peak) == (3, 1, 4)
    assert [conn.number for conn in fake.connections] == [2, 3, 4]


def test_calls_are_counted_also_in_vain_and_results_only_when_they_came_through(
    fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.on("commit", error=fake.OperationalError("disk full"), times=1)
    with pytest.raises(fake.OperationalError):
        conn.commit()
    conn.commit()
    conn.rollback()
    assert (fake.calls["commit"], fake.commits, fake.rollbacks) == (2, 1, 1)


# -- misbehaviour ---------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[FakeDriver, FakeConnection], object]] = {
    "begin": lambda fake, conn: fake.driver().begin(conn, None, None, {}),
    "close": lambda fake, conn: conn.close(),
    "commit": lambda fake, conn: conn.commit(),
    "connect": lambda fake, conn: fake.connect(),
    "cursor": lambda fake, conn: conn.cursor(),
    "execute": lambda fake, conn: conn.execute("SELECT 1"),
    "fetch": lambda fake, conn: conn.execute("SELECT 1").fetchone(),
    "is_alive": lambda fake, conn: fake.driver().is_alive(conn),
    "ping": lambda fake, conn: fake.driver().ping(conn),
    "reset": lambda fake, conn: fake.driver().reset_session(conn, {}),
    "rollback": lambda fake, conn: conn.rollback(),
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_can_fail_and_be_slow_and_hang(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection, operation: str
) -> None:
    error = fake.DataError("told to")
    fake.on(operation, error=error, delay=0.5, times=1)
    with pytest.raises(fake.DataError) as info:
        OPERATIONS[operation](fake, conn)
    assert info.value is error
    assert clock.monotonic() == 1000.5

    fake.on(operation, hang=True)
    task = clock.start(
        OPERATIONS[operation], fake, fake.connect() if operation == "close" else conn
    )
    clock.advance(3600.0)
    assert task.blocked
    assert fake.waiting(operation) == 1
    assert fake.release(operation) == 1
    task.result()


def test_counted_faults_come_first_in_their_order_then_the_last_without_a_count(
    fake: FakeDriver,
) -> None:
    fake.on("connect", returns="for ever")
    fake.on("connect", returns="one", times=1)
    fake.on("connect", returns="two", times=2)
    fake.on("connect", returns="replaced")
    got = [fake.connect() for _ in range(5)]
    assert got == ["one", "two", "two", "replaced", "replaced"]
    fake.off("connect")
    assert isinstance(fake.connect(), FakeConnection)


def test_connect_can_return_none(fake: FakeDriver) -> None:
    fake.on("connect", returns=None, times=1)
    assert fake.connect() is None
    assert (fake.open, fake.opening) == (0, 0)


def test_a_fault_can_do_anything_and_raise_any_exception(
    fake: FakeDriver, conn: FakeConnection
) -> None:
    class Interrupted(BaseException):
        pass

    seen: list[object] = []
    fake.on("rollback", call=seen.append, error=Interrupted)
    with pytest.raises(Interrupted):
        conn.rollback()
    assert seen == [conn]


def test_a_fault_can_come_after_the_work_was_done(fake: FakeDriver, conn: FakeConnection) -> None:
    fake.on("commit", error=fake.OperationalError("lost"), after=True)
    conn.execute("INSERT")
    with pytest.raises(fake.OperationalError, match="lost"):
        conn.commit()
    assert (conn.in_transaction, fake.commits) == (False, 1)
    with pytest.raises(ValueError, match="connect has no after"):
        fake.on("connect", after=True)


def test_unknown_operations_are_refused(fake: FakeDriver) -> None:
    for name in (fake.on, fake.off, fake.release, fake.waiting):
        with pytest.raises(ValueError, match="no operation 'explode'"):
            name("explode")


def test_calm_ends_all_faults_and_lets_go_what_hangs(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.down = True
    fake.on("execute", hang=True)
    task = clock.start(conn.execute, "SELECT 1")
    clock.run()
    fake.calm()
    assert task.result().fetchall() == [(1,)]
    fake.connect()


def test_a_connection_whose_close_raises_is_closed_all_the_same(
    fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.on("close", error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        conn.close()
    assert conn.closed
    fake.assert_no_leak()


def test_a_killed_connection_is_dead_but_can_be_closed(
    fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    cursor = conn.execute("SELECT 1")
    fake.kill_all()
    assert conn.killed
    assert not plugin.is_alive(conn)
    for use in (conn.commit, conn.rollback, conn.cursor, cursor.fetchone):
        with pytest.raises(fake.OperationalError, match="server closed the connection"):
            use()
    fake.lie_alive = True
    assert plugin.is_alive(conn)
    conn.close()
    fake.assert_no_leak()


def test_killing_a_connection_fails_the_call_that_hangs_on_it(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.on("execute", hang=True)
    task = clock.start(conn.execute, "SELECT 1")
    clock.run()
    fake.kill(conn)
    with pytest.raises(fake.OperationalError, match="server closed the connection"):
        task.result()


def test_a_server_that_is_down_refuses_connections(
    fake: FakeDriver, plugin: FakeDriverPlugin
) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="connection refused") as info:
        fake.connect()
    assert isinstance(info.value.__cause__, ConnectionRefusedError)
    assert plugin.is_transient(info.value)
    assert (fake.open, fake.opening, fake.peak) == (0, 0, 1)


# -- judgement ------------------------------------------------------------------------------------


def test_a_connection_in_two_threads_at_once_is_a_violation(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection
) -> None:
    fake.on("execute", hang=True, times=1)
    task = clock.start(conn.execute, "SELECT 1")
    clock.run()
    conn.rollback()
    fake.calm()
    task.result()
    assert fake.violations == ["thread 1 used connection 1 while thread 2 was inside"]
    with pytest.raises(AssertionError, match="thread 1 used connection 1"):
        fake.check()


def test_using_a_connection_from_threads_in_turn_is_no_violation(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection
) -> None:
    conn.execute("SELECT 1")
    clock.start(conn.execute, "SELECT 1").result()
    fake.check()


def test_closing_twice_is_a_violation(fake: FakeDriver, conn: FakeConnection) -> None:
    conn.close()
    with pytest.raises(fake.InterfaceError):
        conn.close()
    assert (conn.close_calls, fake.closed) == (2, 1)
    assert fake.violations == ["connection 1 was closed twice"]


@pytest.mark.parametrize(
    ("soil", "found"),
    [
        (lambda c: c.execute("INSERT"), "open transaction"),
        (lambda c: setattr(c, "kept", c.execute("SELECT 1")), "half-read result"),
        (lambda c: setattr(c, "autocommit", True), "autocommit is True, was False"),
        (lambda c: setattr(c, "note", 7), "note is 7, was None"),
        (lambda c: setattr(c, "mark", 7), "mark is 7, was NOTHING"),
        (lambda c: c.session.update(tz="utc"), "session is {'tz': 'utc'}, was {}"),
    ],
)
def test_dirt_is_named_and_handing_it_on_is_a_violation(
    fake: FakeDriver,
    conn: FakeConnection,
    plugin: FakeDriverPlugin,
    soil: Callable[[FakeConnection], object],
    found: str,
) -> None:
    fake.check_clean(conn)
    soil(conn)
    with pytest.raises(AssertionError) as info:
        fake.check_clean(conn)
    assert found in str(info.value)
    fake.strict = False
    assert plugin.is_alive(conn)
    fake.check()
    fake.strict = True
    assert plugin.is_alive(conn)
    assert len(fake.violations) == 1
    assert found in fake.violations[0]


def test_clean_means_as_at_the_snapshot(
    fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    conn.execute("SET tz = utc")
    conn.commit()
    conn.autocommit = True
    plugin.snapshot(conn)
    fake.check_clean(conn)
    plugin.reset_session(conn, {})
    with pytest.raises(AssertionError, match="session is {}"):
        fake.check_clean(conn)


def test_a_leak_is_found_at_the_end() -> None:
    with pytest.raises(AssertionError, match=r"0 opening, still open: \[<FakeConnection 1 open>\]"):
        with FakeDriver() as fake:
            fake.connect()
    with FakeDriver() as fake:
        fake.connect().close()


# -- the plugin -----------------------------------------------------------------------------------


def test_the_plugin_is_a_driver_and_takes_its_settings(fake: FakeDriver) -> None:
    plugin = fake.driver(local=True, expendable=False)
    assert isinstance(plugin, Driver)
    assert (plugin.name, plugin.local, plugin.expendable) == ("fake", True, False)
    assert getattr(plugin.module, "Error") is fake.Error  # noqa: B009


def test_the_portable_driver_works_with_the_fake(fake: FakeDriver, conn: FakeConnection) -> None:
    portable = Driver()
    portable.connected(conn)
    assert portable.is_alive(conn)
    portable.ping(conn)
    assert (fake.executed, fake.rollbacks, fake.pings) == ([(1, "SELECT 1")], 1, 0)
    portable.close(conn)
    assert portable.is_disconnect(fake.InterfaceError("closed"), conn)
    fake.assert_no_leak()


def test_interrupt_ends_a_call_that_hangs_and_the_connection(
    clock: VirtualClock, fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    fake.on("ping", hang=True)
    task = clock.start(plugin.ping, conn)
    clock.run()
    fake.interruptible = False
    assert not plugin.interrupt(conn)
    clock.run()
    assert task.blocked
    fake.interruptible = True
    assert plugin.interrupt(conn)
    with pytest.raises(fake.OperationalError, match="interrupted") as info:
        task.result()
    assert plugin.is_disconnect(info.value, conn)
    assert not plugin.is_alive(conn)
    fake.check()


def test_ping_is_counted_and_leaves_no_transaction(
    fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    plugin.ping(conn)
    assert (fake.pings, fake.executed, plugin.in_transaction(conn)) == (1, [], False)


def test_begin_speaks_of_isolation_and_refuses_what_it_does_not_know(
    conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    plugin.begin(conn, None, None, {})
    plugin.begin(conn, "SERIALIZABLE", True, {})
    plugin.begin(conn, None, False, {})
    assert conn.executed == ["BEGIN", "BEGIN SERIALIZABLE READ ONLY", "BEGIN READ WRITE"]
    assert plugin.in_transaction(conn)
    plugin.rollback(conn)
    assert not plugin.in_transaction(conn)
    with pytest.raises(ValueError, match="deferrable=True"):
        plugin.begin(conn, None, None, {"deferrable": True})


def test_restore_puts_back_what_differs_and_removes_what_was_added(
    fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    conn.note = "ours"
    before = plugin.snapshot(conn)
    conn.autocommit, conn.note, conn.mark = True, None, 1  # type: ignore[attr-defined]
    plugin.restore(conn, before)
    assert (conn.autocommit, conn.note, hasattr(conn, "mark")) == (False, "ours", False)
    fake.check_clean(conn)


def test_a_reset_can_be_done_or_refused_or_fail(
    fake: FakeDriver, conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    conn.session["tz"] = "utc"
    fake.on("reset", returns=False, times=1)
    fake.on("reset", error=fake.OperationalError, times=1)
    assert plugin.reset_session(conn, {}) is False
    with pytest.raises(fake.OperationalError):
        plugin.reset_session(conn, {})
    assert conn.session
    assert plugin.reset_session(conn, {}) is True
    assert (conn.session, fake.resets) == ({}, 1)


def test_only_plain_statements_cannot_change_the_session(plugin: FakeDriverPlugin) -> None:
    for sql in ("SELECT 1", " select\n1", "insert into t", "UPDATE t", "Delete from t"):
        assert not plugin.may_change_session(sql)
    for sql in ("", "SET x = 1", "BEGIN", "SELECTED", "CALL p", "WITH x AS"):
        assert plugin.may_change_session(sql)


def test_only_serialization_failures_are_worth_a_second_try(plugin: FakeDriverPlugin) -> None:
    assert plugin.is_retryable(SerializationError("40001"))
    assert not plugin.is_retryable(FakeDriver.OperationalError("x"))
    assert not plugin.is_transient(FakeDriver.OperationalError("access denied"))


def test_the_plugin_opens_native_cursors_of_the_pooled_class(
    conn: FakeConnection, plugin: FakeDriverPlugin
) -> None:
    class Mine(FakeCursor):
        pass

    def pooled(cls: type) -> type:
        return type("Pooled" + cls.__name__, (cls,), {})

    for args, name in (((), "PooledFakeCursor"), ((Mine,), "PooledMine")):
        cursor = plugin.open_cursor(conn, pooled, args, {})
        assert type(cursor).__name__ == name
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_without_a_clock_calls_hang_in_real_threads() -> None:
    fake = FakeDriver()
    conn = fake.connect()
    fake.on("ping", hang=True, times=1)
    failures: list[BaseException] = []

    def ping() -> None:
        try:
            fake.driver().ping(conn)
        except fake.OperationalError as exc:
            failures.append(exc)

    thread = threading.Thread(target=ping)
    thread.start()
    while not fake.waiting("ping"):
        thread.join(0.001)
    assert fake.driver().interrupt(conn)
    thread.join()
    assert [str(error) for error in failures] == ["interrupted"]
    conn.close()
    fake.assert_no_leak()
