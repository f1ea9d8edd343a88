"""The PostgreSQL drivers on real connections, without a pool."""

from __future__ import annotations

import importlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import servers
from relay import Relay

from dbapi_pool.drivers import registry
from dbapi_pool_postgresql import faults

MODULES = ("psycopg2", "psycopg")


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def driver(module: str) -> Any:
    return registry.find(servers.driver_module(module))


@pytest.fixture
def connect(postgresql: servers.Server, module: str) -> Iterator[Callable[..., Any]]:
    opened = []

    def connect(tls: bool = False, autocommit: bool = False, **more: Any) -> Any:
        conn = servers.driver_module(module).connect(
            **{**postgresql.arguments(module, tls=tls), **more}
        )
        conn.autocommit = autocommit
        opened.append(conn)
        return conn

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Callable[..., Any]) -> Any:
    return connect()


tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def run(conn: Any, sql: str) -> list[Any]:
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def backend(conn: Any) -> int:
    return int(conn.info.backend_pid)


def read_only_name(module: str) -> str:
    return "readonly" if module == "psycopg2" else "read_only"


# -- alive ----------------------------------------------------------------------------------------


@tls
def test_an_idle_connection_is_alive_without_a_round_trip(
    postgresql: servers.Server, module: str, driver: Any, tls: bool
) -> None:
    with Relay(postgresql.host, postgresql.port) as relay:
        arguments = {**postgresql.arguments(module, tls=tls), "port": relay.port}
        conn = servers.driver_module(module).connect(**arguments)
        run(conn, "SELECT 1")
        conn.commit()
        before = relay.round_trips
        assert all(driver.is_alive(conn) for _ in range(100))
        assert relay.round_trips == before
        conn.close()


@tls
def test_a_killed_session_is_dead_and_stays_so(
    postgresql: servers.Server, driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    for _ in range(20):
        conn = connect(tls=tls)
        postgresql.kill_session(backend(conn))
        assert [driver.is_alive(conn) for _ in range(3)] == [False] * 3


def test_an_idle_session_that_the_server_gave_up_is_dead(
    driver: Any, connect: Callable[..., Any]
) -> None:
    conn = connect(options="-c idle_session_timeout=50ms")
    assert driver.is_alive(conn)
    servers.wait_for(lambda: not driver.is_alive(conn), 10)


def test_a_closed_connection_is_dead(driver: Any, conn: Any) -> None:
    conn.close()

    assert not driver.is_alive(conn)


def test_one_in_a_transaction_is_not_ready(driver: Any, conn: Any) -> None:
    run(conn, "SELECT 1")
    assert not driver.is_alive(conn)
    driver.rollback(conn)
    assert driver.is_alive(conn)


def test_notifications_do_not_make_it_dead(driver: Any, connect: Callable[..., Any]) -> None:
    conn, other = connect(autocommit=True), connect(autocommit=True)
    run(conn, "LISTEN news")
    for payload in ("one", "two"):
        run(other, f"NOTIFY news, '{payload}'")
    servers.wait_for(lambda: _is_readable(conn), 10)

    assert driver.is_alive(conn)
    assert not _is_readable(conn)
    if hasattr(conn, "notifies") and isinstance(conn.notifies, list):
        assert conn.notifies == []


def _is_readable(conn: Any) -> bool:
    import select

    return bool(select.select([conn.fileno()], [], [], 0)[0])


def test_descriptors_beyond_1024_work(driver: Any, connect: Callable[..., Any]) -> None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        conn = connect()
        assert conn.fileno() >= 1024
        assert driver.is_alive(conn)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_where_there_is_no_poll_select_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import select

    from dbapi_pool_postgresql import wire

    monkeypatch.delattr(select, "poll")
    near, far = socket.socketpair()
    try:
        importlib.reload(wire)
        assert not wire.readable(near.fileno())
        far.close()
        assert wire.readable(near.fileno())
    finally:
        monkeypatch.undo()
        importlib.reload(wire)
        near.close()
        far.close()
    assert "poll" in wire.readable.__code__.co_names


# -- ping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_ping_leaves_no_transaction(
    postgresql: servers.Server, driver: Any, connect: Callable[..., Any], autocommit: bool
) -> None:
    conn = connect(autocommit=autocommit)

    driver.ping(conn)

    assert driver.is_alive(conn)
    assert conn.autocommit is autocommit
    state = f"SELECT state FROM pg_stat_activity WHERE pid = {backend(conn)}"
    assert postgresql.query(state) == [("idle",)]


def test_a_ping_is_one_round_trip(postgresql: servers.Server, module: str, driver: Any) -> None:
    with Relay(postgresql.host, postgresql.port) as relay:
        arguments = {**postgresql.arguments(module), "port": relay.port}
        conn = servers.driver_module(module).connect(**arguments)
        before = relay.round_trips
        for _ in range(10):
            driver.ping(conn)
        assert relay.round_trips == before + 10
        conn.close()


def test_a_ping_works_with_characteristics_of_transactions(
    module: str, driver: Any, conn: Any
) -> None:
    setattr(conn, read_only_name(module), True)

    driver.ping(conn)

    assert getattr(conn, read_only_name(module)) is True
    assert driver.is_alive(conn)
    assert run(conn, "SHOW default_transaction_read_only") == [("off",)]


@tls
def test_a_ping_of_a_killed_session_raises_and_never_reconnects(
    postgresql: servers.Server, driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    conn = connect(tls=tls)
    postgresql.kill_session(backend(conn))

    with pytest.raises(driver.module.OperationalError) as caught:
        driver.ping(conn)

    assert driver.is_disconnect(caught.value, conn)
    with pytest.raises(driver.module.Error):
        driver.ping(conn)


# -- interrupt ------------------------------------------------------------------------------------


@tls
def test_a_call_that_waits_can_be_cut_from_another_thread(
    driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    conn = connect(tls=tls)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            run(conn, "SELECT pg_sleep(60)")
        except Exception as exc:
            caught.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    begun = time.monotonic()
    assert driver.interrupt(conn)
    assert time.monotonic() - begun < 0.1
    thread.join(5)

    assert not thread.is_alive()
    assert driver.is_disconnect(caught[0], conn)
    assert not driver.is_alive(conn)


def test_a_ping_of_a_frozen_server_can_be_cut(
    own_postgresql: servers.Server, module: str, driver: Any
) -> None:
    conn = servers.driver_module(module).connect(**own_postgresql.arguments(module))
    own_postgresql.pause()
    try:
        timer = threading.Timer(0.3, driver.interrupt, [conn])
        timer.start()
        begun = time.monotonic()
        with pytest.raises(driver.module.OperationalError):
            driver.ping(conn)
        assert time.monotonic() - begun < 5
        timer.join()
    finally:
        own_postgresql.resume()
        conn.close()


def test_a_closed_connection_cannot_be_interrupted(driver: Any, conn: Any) -> None:
    conn.close()

    assert driver.interrupt(conn) is False


# -- fork -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@tls
def test_what_a_child_does_never_reaches_the_parents_session(
    driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    conn = connect(tls=tls)
    run(conn, "CREATE TEMP TABLE mine (n int)")
    conn.commit()
    child = os.fork()
    if not child:
        driver.abandon_after_fork(conn)
        with suppress(Exception):
            run(conn, "SELECT 1")
        with suppress(Exception):
            conn.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    assert run(conn, "SELECT count(*) FROM mine") == [(0,)]


# -- transactions ---------------------------------------------------------------------------------


def is_ready(driver: Any, conn: Any) -> bool:
    return not driver.in_transaction(conn) and driver.is_alive(conn)


def by_hand(conn: Any, *statements: str) -> None:
    for sql in statements:
        with suppress(Exception):
            run(conn, sql)


STATES = {
    "open": (False, ["SELECT 1"]),
    "failed": (False, ["SELECT 1/0"]),
    "failed later": (False, ["SELECT 1", "SELECT 1/0"]),
    "begun by hand in autocommit mode": (True, ["BEGIN"]),
    "failed in autocommit mode": (True, ["BEGIN", "SELECT 1/0"]),
    "begun twice": (False, ["BEGIN", "SELECT 1"]),
}


@pytest.mark.parametrize(("autocommit", "statements"), STATES.values(), ids=STATES)
def test_every_transaction_is_seen_and_rolled_back(
    driver: Any, connect: Callable[..., Any], autocommit: bool, statements: list[str]
) -> None:
    conn = connect(autocommit=autocommit)
    assert is_ready(driver, conn)
    by_hand(conn, *statements)
    assert driver.in_transaction(conn)

    driver.rollback(conn)

    assert is_ready(driver, conn)
    assert conn.autocommit is autocommit
    assert run(conn, "SELECT 1") == [(1,)]


def test_a_commit_typed_by_hand_does_not_leave_silent_autocommit(driver: Any, conn: Any) -> None:
    run(conn, "COMMIT")
    if driver.in_transaction(conn):  # psycopg2 thinks so
        driver.rollback(conn)

    run(conn, "CREATE TEMP TABLE silent (n int)")
    conn.rollback()

    assert run(conn, "SELECT to_regclass('silent')") == [(None,)]


def test_a_begin_before_autocommit_was_switched_off_is_rolled_back(
    driver: Any, connect: Callable[..., Any], module: str
) -> None:
    conn = connect(autocommit=True)
    run(conn, "BEGIN")
    if module == "psycopg2":  # psycopg refuses
        conn.autocommit = False

    driver.rollback(conn)

    assert is_ready(driver, conn)


@pytest.mark.parametrize("autocommit", [False, True])
def test_commit_commits_what_was_begun_by_hand(
    driver: Any, connect: Callable[..., Any], autocommit: bool
) -> None:
    conn = connect(autocommit=autocommit)
    for sql in ("BEGIN", "CREATE TEMP TABLE kept (n int)"):
        run(conn, sql)

    driver.commit(conn)

    assert is_ready(driver, conn)
    driver.rollback(conn)
    assert run(conn, "SELECT count(*) FROM kept") == [(0,)]


def test_rollback_is_free_when_there_is_nothing(
    postgresql: servers.Server, module: str, driver: Any
) -> None:
    with Relay(postgresql.host, postgresql.port) as relay:
        arguments = {**postgresql.arguments(module), "port": relay.port}
        conn = servers.driver_module(module).connect(**arguments)
        before = relay.round_trips
        driver.rollback(conn)
        driver.commit(conn)
        driver.restore(conn, driver.snapshot(conn))
        assert relay.round_trips == before
        conn.close()


def test_a_two_phase_transaction_that_is_not_prepared_is_rolled_back(
    driver: Any, conn: Any
) -> None:
    conn.tpc_begin(conn.xid(1, "begun", "x"))
    run(conn, "SELECT 1")

    driver.rollback(conn)

    assert is_ready(driver, conn)


def test_a_prepared_one_is_refused(
    postgresql: servers.Server, driver: Any, conn: Any, caplog: pytest.LogCaptureFixture
) -> None:
    conn.tpc_begin(conn.xid(1, f"refused-{driver.name}", "x"))
    run(conn, "SELECT 1")
    conn.tpc_prepare()
    assert driver.in_transaction(conn)

    with pytest.raises(driver.module.InterfaceError, match="left prepared"):
        driver.rollback(conn)

    assert "pg_prepared_xacts" in caplog.text
    conn.tpc_rollback()


def test_a_copy_that_is_open_is_refused_at_once(
    connect: Callable[..., Any], driver: Any, module: str
) -> None:
    if module == "psycopg2":
        pytest.skip("psycopg2 has no COPY that can be left open")
    conn = connect()
    copy = conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    copy.__enter__()

    assert driver.in_transaction(conn)
    with pytest.raises(driver.module.InterfaceError, match="in the middle"):
        driver.rollback(conn)


def test_a_suspended_generator_is_refused_at_once(
    connect: Callable[..., Any], driver: Any, module: str
) -> None:
    if module == "psycopg2":
        pytest.skip("psycopg2 has no generators")
    conn = connect(autocommit=True)
    run(conn, "LISTEN news")
    run(conn, "NOTIFY news")
    notifies = conn.notifies(timeout=5)
    next(notifies)

    assert driver.in_transaction(conn)
    with pytest.raises(driver.module.InterfaceError, match="in the middle"):
        driver.rollback(conn)
    notifies.close()
    assert is_ready(driver, conn)


# -- begin ----------------------------------------------------------------------------------------

LEVELS = ["SERIALIZABLE", "repeatable read", "Read Committed", "READ UNCOMMITTED"]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_begin_sets_the_isolation_level(
    driver: Any, connect: Callable[..., Any], level: str, autocommit: bool
) -> None:
    conn = connect(autocommit=autocommit)
    snapshot = driver.snapshot(conn)

    driver.begin(conn, level, None, {})

    assert run(conn, "SHOW transaction_isolation") == [(level.lower(),)]
    assert driver.in_transaction(conn)
    driver.commit(conn)
    driver.restore(conn, snapshot)
    assert is_ready(driver, conn)
    assert conn.autocommit is autocommit
    assert run(conn, "SHOW transaction_isolation") == [("read committed",)]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("readonly", [True, False, None])
def test_begin_sets_read_only_and_deferrable(
    driver: Any, connect: Callable[..., Any], readonly: bool | None, autocommit: bool
) -> None:
    conn = connect(autocommit=autocommit)

    driver.begin(conn, "serializable", readonly, {"deferrable": True})

    found = run(conn, "SELECT current_setting('transaction_read_only')")
    found += run(conn, "SHOW transaction_deferrable")
    assert found == [("on" if readonly else "off",), ("on",)]


def test_begin_costs_no_round_trip_of_its_own(
    postgresql: servers.Server, module: str, driver: Any
) -> None:
    with Relay(postgresql.host, postgresql.port) as relay:
        arguments = {**postgresql.arguments(module), "port": relay.port}
        for autocommit in (False, True):
            conn = servers.driver_module(module).connect(**arguments)
            conn.autocommit = autocommit
            snapshot = driver.snapshot(conn)
            before = relay.round_trips
            driver.begin(conn, "serializable", True, {"deferrable": True})
            assert relay.round_trips == before
            run(conn, "SELECT 1")
            conn.commit()
            assert relay.round_trips == before + 3  # BEGIN, SELECT, COMMIT
            driver.restore(conn, snapshot)
            assert relay.round_trips == before + 3
            conn.close()


@pytest.mark.parametrize(
    ("isolation", "readonly", "options", "message"),
    [
        ("SNAPSHOT", None, {}, r"transaction\(isolation='SNAPSHOT'\): must be one of SERIALIZABLE"),
        (1, None, {}, r"transaction\(isolation=1\)"),
        (None, "yes", {}, r"transaction\(readonly='yes'\): must be True, False or None"),
        (None, None, {"deferrable": 1}, r"transaction\(deferrable=1\)"),
        (None, None, {"mode": "IMMEDIATE"}, r"transaction\(mode=...\): .* only .* 'deferrable'"),
    ],
)
def test_begin_refuses_what_there_is_not(
    driver: Any, conn: Any, isolation: Any, readonly: Any, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        driver.begin(conn, isolation, readonly, options)

    assert is_ready(driver, conn)


# -- composed statements --------------------------------------------------------------------------


def test_composed_statements_are_read(driver: Any, module: str) -> None:
    sql = importlib.import_module(f"{module}.sql")
    names = sql.SQL(", ").join(map(sql.Identifier, ["a", 'b"; SET x = 1; --']))
    plain = sql.SQL("SELECT {}, {} FROM {}").format(
        names, sql.Placeholder(), sql.Identifier("s", "t")
    )
    by_function = sql.SQL("SELECT {}('a', 'b', false)").format(sql.Identifier("set_config"))

    assert not driver.may_change_session(plain)
    assert not driver.may_change_session("SELECT 1")
    for harmful in (
        sql.SQL("SET {} = 1").format(sql.Identifier("work_mem")),
        by_function,
        sql.SQL("SELECT {}").format(sql.Literal("x")),
        sql.SQL("SELECT 1") + sql.SQL("; SET x = 1"),
        b"SELECT 1",
    ):
        assert driver.may_change_session(harmful)


# -- errors ---------------------------------------------------------------------------------------

ALIVE = {
    "division": "SELECT 1/0",
    "syntax": "SELEC",
    "cancelled": "SET LOCAL statement_timeout TO 10; SELECT pg_sleep(5)",
    "read-only": "SET TRANSACTION READ ONLY; CREATE TABLE no (n int)",
    "a function that says 57P01": "DO $$ BEGIN RAISE SQLSTATE '57P01'; END $$",
    "a function that says 08006": "DO $$ BEGIN RAISE SQLSTATE '08006' USING MESSAGE ="
    " 'server closed the connection unexpectedly'; END $$",
    "no memory": "DO $$ BEGIN RAISE out_of_memory; END $$",
}


@pytest.mark.parametrize("sql", ALIVE.values(), ids=ALIVE)
def test_errors_after_which_the_connection_lives(driver: Any, conn: Any, sql: str) -> None:
    with pytest.raises(driver.module.Error) as caught:
        run(conn, sql)

    assert not driver.is_disconnect(caught.value, conn)
    assert not driver.is_failover(caught.value, conn)


KILLS = {
    "terminated": ("SELECT pg_sleep(30)", {}),
    "idle in transaction": (None, {"options": "-c idle_in_transaction_session_timeout=50ms"}),
    "idle": (None, {"options": "-c idle_session_timeout=50ms"}),
}


@tls
def test_a_session_killed_within_a_statement_is_lost(
    postgresql: servers.Server, driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    conn = connect(tls=tls)
    timer = threading.Timer(0.1, postgresql.kill_session, [backend(conn)])
    timer.start()

    with pytest.raises(driver.module.Error) as caught:
        run(conn, "SELECT pg_sleep(30)")

    timer.join()
    assert driver.is_disconnect(caught.value, conn)
    with pytest.raises(driver.module.Error) as later:
        run(conn, "SELECT 1")
    assert driver.is_disconnect(later.value, conn)


@pytest.mark.parametrize("timeout", ["idle_in_transaction_session_timeout", "idle_session_timeout"])
@tls
def test_a_session_that_idled_too_long_is_lost(
    driver: Any, connect: Callable[..., Any], tls: bool, timeout: str
) -> None:
    conn = connect(tls=tls, options=f"-c {timeout}=50ms")
    if "transaction" in timeout:
        run(conn, "SELECT 1")
    servers.wait_for(lambda: _is_readable(conn), 10)

    with pytest.raises(driver.module.Error) as caught:
        run(conn, "SELECT 1")

    assert driver.is_disconnect(caught.value, conn)


def _error_of(driver: Any, text: str, **diagnosis: str | None) -> Any:
    """An error that says nothing else, while the connection does not know yet."""
    error = driver.module.errors.AdminShutdown
    return type("Error", (error,), {"diag": SimpleNamespace(**diagnosis)})(text)


def test_an_older_libpqs_admin_shutdown_is_a_loss(driver: Any, conn: Any) -> None:
    text = "terminating connection due to administrator command"
    assert driver.is_disconnect(_error_of(driver, text, severity_nonlocalized="FATAL"), conn)
    assert not driver.is_disconnect(ValueError("server closed the connection unexpectedly"), conn)


@pytest.mark.parametrize(
    ("severity", "translated", "lost"),
    [(None, "FATAL", True), (None, "ERROR", False), ("ERROR", "FATAL", False)],
)
def test_a_poolers_fatal_is_a_loss_though_it_says_so_once(
    driver: Any, conn: Any, severity: str | None, translated: str, lost: bool
) -> None:
    exc = _error_of(
        driver, "query_wait_timeout", severity_nonlocalized=severity, severity=translated
    )
    assert driver.is_disconnect(exc, conn) is lost


@pytest.mark.parametrize(
    "text",
    [
        "server closed the connection unexpectedly\n\tThis probably",
        "SSL connection has been closed unexpectedly\n",
        "SSL SYSCALL error: EOF detected\n",
        "could not receive data from server: Connection timed out\n",
        "consuming input failed: could not receive data from server: Connection reset by peer",
        "the connection is lost",
    ],
)
def test_without_a_code_the_text_tells(driver: Any, conn: Any, text: str) -> None:
    assert driver.is_disconnect(driver.module.OperationalError(text), conn)
    assert not driver.is_disconnect(driver.module.OperationalError(f"said: {text}"), conn)


def test_a_commit_that_fails_to_serialize_is_retryable(
    driver: Any, connect: Callable[..., Any]
) -> None:
    codes = {}
    for code in ("40001", "40P01", "55P03", "23505", "57014"):
        conn = connect()
        with pytest.raises(driver.module.Error) as caught:
            run(conn, f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")
        codes[code] = driver.is_retryable(caught.value)

    assert codes == {
        "40001": True, "40P01": True, "55P03": True, "23505": False, "57014": False
    }  # fmt: skip


def test_what_is_retryable_can_be_changed(driver: Any, conn: Any) -> None:
    class Impatient(type(driver)):  # type: ignore[misc]
        retryable = frozenset({"23505"})

    with pytest.raises(driver.module.Error) as caught:
        run(conn, "DO $$ BEGIN RAISE SQLSTATE '23505'; END $$")

    assert Impatient().is_retryable(caught.value)


def test_a_read_only_transaction_that_was_asked_for_is_no_failover(
    driver: Any, module: str, connect: Callable[..., Any]
) -> None:
    def asked(conn: Any) -> None:
        setattr(conn, read_only_name(module), True)

    def typed(conn: Any) -> None:
        run(conn, "SET default_transaction_read_only TO on")
        conn.commit()

    for ask in (asked, typed):
        conn = connect()
        ask(conn)
        with pytest.raises(driver.module.Error) as caught:
            run(conn, "CREATE TABLE no (n int)")
        assert faults.code_of(caught.value) == "25006"
        assert not driver.is_failover(caught.value, conn)


def test_a_server_that_has_become_a_standby_is_a_failover(
    own_postgresql: servers.Server, driver: Any, module: str
) -> None:
    own_postgresql.stop()
    (own_postgresql.folder / "data" / "standby.signal").touch()
    own_postgresql.start()
    conn = servers.driver_module(module).connect(**own_postgresql.arguments(module))

    with pytest.raises(driver.module.Error) as caught:
        run(conn, "CREATE TABLE no (n int)")
    conn.rollback()
    assert driver.is_failover(caught.value, conn)
    assert driver.server(conn).read_only is True
    setattr(conn, read_only_name(module), True)
    assert not driver.is_failover(caught.value, conn)
    conn.close()


# -- connecting -----------------------------------------------------------------------------------


def connect_error(driver: Any, arguments: dict[str, Any]) -> BaseException:
    with pytest.raises(driver.module.Error) as caught:
        driver.module.connect(**arguments)
    return caught.value


@tls
@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "wrong"},
        {"user": "nobody"},
        {"dbname": "nowhere"},
        {"port": "many"},
        {"sslmode": "sometimes"},
        {"host": "no.such.host.invalid"},
        {"service": "no_such_service"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_will_not_work_is_not_tried_again(
    postgresql: servers.Server, driver: Any, module: str, wrong: dict[str, Any], tls: bool
) -> None:
    exc = connect_error(driver, {**postgresql.arguments(module, tls=tls), **wrong})

    assert not driver.is_transient(exc)
    assert not driver.is_server_wide(exc)


def test_a_certificate_that_does_not_fit_is_not_tried_again(
    postgresql: servers.Server, driver: Any, module: str, tmp_path: Any
) -> None:
    import trustme

    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    arguments = {**postgresql.arguments(module, tls=True), "sslrootcert": str(other)}

    assert not driver.is_transient(connect_error(driver, arguments))


def test_a_port_on_which_nobody_listens_is_tried_again(driver: Any, module: str) -> None:
    exc = connect_error(driver, {"host": "127.0.0.1", "port": servers.free_port()})

    assert driver.is_transient(exc)
    assert driver.is_server_wide(exc)


def test_a_silent_server_is_tried_again(driver: Any, module: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        exc = connect_error(driver, {"host": "127.0.0.1", "port": port, "connect_timeout": 2})

    assert driver.is_transient(exc)


def test_a_full_server_is_tried_again(postgresql: servers.Server, driver: Any, module: str) -> None:
    postgresql.query(f"CREATE ROLE crowd_{driver.name} LOGIN CONNECTION LIMIT 0 PASSWORD 'x'")
    arguments = {
        **postgresql.arguments(module), "user": f"crowd_{driver.name}", "password": "x"
    }  # fmt: skip

    exc = connect_error(driver, arguments)
    postgresql.query(f"DROP ROLE crowd_{driver.name}")

    assert "too many connections" in str(exc)
    assert driver.is_transient(exc)
    assert not driver.is_server_wide(exc)


@pytest.mark.parametrize(
    ("text", "passing", "server_wide"),
    [
        ("FATAL:  the database system is starting up\n", True, True),
        ("FATAL:  the database system is shutting down\n", True, True),
        ("FATAL:  the database system is not yet accepting connections\n", True, True),
        ("FATAL:  sorry, too many clients already\n", True, False),
        ("FATAL:  remaining connection slots are reserved for ...\n", True, False),
        ("FATAL:  no more connections allowed (max_client_conn)\n", True, False),
        ("FATAL:  client connections exceeded (max_user_client_connections)\n", True, False),
        ("FATAL:  server login has been failing, try again later (server_login_retry)\n", True, False),
        ("FATAL:  pooler is shutting down\n", True, False),
        ("FATAL:  unsupported startup parameter: options\n", False, False),
        ("FATAL:  no such database: x\n", False, False),
        ("FATAL:  password authentication failed for user \"too many\"\n", False, False),
        ("FATAL:  no pg_hba.conf entry for host \"::1\", user \"x\"\n", False, False),
        ("FATAL:  database \"x\" does not exist\n", False, False),
        ("timeout expired\n", True, False),
        ("Network is unreachable\n\tIs the server running?\n", True, False),
        ("Connection refused\n\tIs the server running?\n", True, True),
        ("session is read-only\n", True, False),
        ("could not translate host name \"x\" to address: Name or service not known\n",
         False, False),
        ("could not translate host name \"x\" to address: Temporary failure in name resolution\n",
         True, False),
        ("server does not support SSL, but SSL was required\n", False, False),
        ("no password supplied\n", False, False),
        ("server closed the connection unexpectedly\n", True, False),
    ],
)  # fmt: skip
def test_errors_of_connecting_are_read(
    driver: Any, text: str, passing: bool, server_wide: bool
) -> None:
    exc = driver.module.OperationalError(f'connection to server at "h", port 5432 failed: {text}')

    assert driver.is_transient(exc) is passing
    assert driver.is_server_wide(exc) is server_wide


def test_of_several_hosts_one_final_refusal_is_final(driver: Any) -> None:
    down = 'connection to server at "a" failed: Connection refused\n'
    starting = 'connection to server at "b" failed: FATAL:  the database system is starting up\n'
    password = 'connection to server at "c" failed: FATAL:  password authentication failed\n'

    for text, passing in ((down + starting, True), (down + password, False)):
        assert driver.is_transient(driver.module.OperationalError(text)) is passing


def test_python_errors_of_a_tunnel_are_tried_again(driver: Any) -> None:
    assert driver.is_transient(ConnectionRefusedError())
    assert not driver.is_transient(ValueError())
    assert not driver.is_server_wide(ConnectionRefusedError())


# -- for people -----------------------------------------------------------------------------------


@tls
def test_the_server_tells_about_itself(
    postgresql: servers.Server, driver: Any, connect: Callable[..., Any], tls: bool
) -> None:
    conn = connect(tls=tls, options="-c statement_timeout=1500 -c lock_timeout=2s")

    server = driver.server(conn)

    assert server.product == "PostgreSQL"
    version = postgresql.query("SHOW server_version")[0][0]
    assert server.version == version
    assert server.address == f"{postgresql.host}:{postgresql.port}"
    assert server.tls is not None
    assert server.tls.startswith("TLSv1") if tls else server.tls == ""
    assert server.pooler is None
    assert server.read_only is False
    assert server.max_connections == int(postgresql.query("SHOW max_connections")[0][0])
    assert server.reserved_connections is not None
    assert server.reserved_connections >= 3
    assert server.user_connections == 0
    assert server.connections is not None
    assert server.connections >= 1
    assert server.statement_timeout == 1.5
    assert server.lock_timeout == 2.0
    assert server.idle_timeout == 0
    assert server.idle_in_transaction_timeout == 0
    assert is_ready(driver, conn)


def test_a_roles_limit_is_told(postgresql: servers.Server, driver: Any, conn: Any) -> None:
    postgresql.query(f"ALTER ROLE {postgresql.user} CONNECTION LIMIT 50")
    try:
        assert driver.server(conn).user_connections == 50
    finally:
        postgresql.query(f"ALTER ROLE {postgresql.user} CONNECTION LIMIT -1")


def test_a_databases_limit_is_told(postgresql: servers.Server, driver: Any, conn: Any) -> None:
    postgresql.query(f"ALTER DATABASE {postgresql.database} CONNECTION LIMIT 40")
    try:
        assert driver.server(conn).database_connections == 40
    finally:
        postgresql.query(f"ALTER DATABASE {postgresql.database} CONNECTION LIMIT -1")
    assert driver.server(conn).database_connections == 0


def test_limits_of_roles_and_databases_do_not_hold_for_superusers(
    postgresql: servers.Server, driver: Any
) -> None:
    postgresql.query(f"ALTER DATABASE {postgresql.database} CONNECTION LIMIT 40")
    postgresql.query(f"ALTER ROLE {postgresql.admin_user} CONNECTION LIMIT 50")
    conn = driver.module.connect(**postgresql.arguments(driver.module.__name__, admin=True))
    try:
        facts = driver.server(conn)
    finally:
        conn.close()
        postgresql.query(f"ALTER ROLE {postgresql.admin_user} CONNECTION LIMIT -1")
        postgresql.query(f"ALTER DATABASE {postgresql.database} CONNECTION LIMIT -1")

    assert (facts.user_connections, facts.database_connections) == (0, 0)


def test_whose_sessions_are_open_is_told(
    postgresql: servers.Server, driver: Any, conn: Any
) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND "
    others = count + f"usename <> '{postgresql.user}'"
    here_too = others + f" AND datname = '{postgresql.database}'"

    def judged() -> tuple[int, int]:
        return postgresql.query(others)[0][0], postgresql.query(here_too)[0][0]

    def told() -> tuple[int | None, int | None]:
        facts = driver.server(conn)
        return facts.connections_of_others, facts.others_in_database

    arguments = postgresql.arguments(driver.module.__name__, admin=True)
    here = driver.module.connect(**arguments)
    elsewhere = driver.module.connect(**{**arguments, "dbname": "postgres"})
    try:
        # Sessions of tests before may be ending still.
        servers.wait_for(lambda: told() == judged(), servers.START_PATIENCE)
        of_others, of_others_here = told()
    finally:
        here.close()
        elsewhere.close()

    assert of_others is not None
    assert of_others_here is not None
    assert of_others > of_others_here >= 1


def test_a_pooler_in_between_is_noticed(driver: Any, conn: Any) -> None:
    from dbapi_pool_postgresql import facts

    found = facts.server(lambda sql: driver.rows(conn, sql), "h:6432", backend(conn) + 1, True)

    assert found.pooler == "PgBouncer, or one like it"
    assert found.tls == "TLS"


@pytest.mark.parametrize("pid", [-560763787, 0, 4194305, 1044204364])
def test_no_process_has_the_id_that_a_pooler_makes_up(driver: Any, conn: Any, pid: int) -> None:
    from dbapi_pool_postgresql import facts

    assert facts.is_made_up(pid)
    assert not facts.is_made_up(backend(conn))


@pytest.mark.parametrize(
    ("mine", "others", "shared"),
    [
        ([1], [2], False),
        ([1], [1], True),  # the last one used
        ([1, 3], [2, 4], True),  # by turns
        ([1, 1, 1, 5], [2], True),  # in a crowd
        ([1], [2, 2, 2, 6], True),
        ([1, 1, 1, 1, 1, 2], [3], True),
    ],
)
def test_how_a_pooler_pools_shows_in_what_two_clients_get(
    mine: list[int], others: list[int], shared: bool
) -> None:
    from dbapi_pool_postgresql import facts

    ask, ask_other = (itertools.chain(ids, itertools.repeat(ids[-1])) for ids in (mine, others))

    assert facts.share_sessions(ask.__next__, ask_other.__next__) is shared


def test_there_is_no_pooler_before_the_tests_server(
    driver: Any, conn: Any, connect: Callable[..., Any]
) -> None:
    other = connect()

    assert driver.pooling(conn, other) is None
    assert is_ready(driver, conn)
    assert is_ready(driver, other)


def test_what_is_not_postgresql_prepares_as_it_did() -> None:
    """What its process ids mean is not known."""
    servers.driver_module("psycopg")
    from dbapi_pool_postgresql import PsycopgDriver

    conn = SimpleNamespace(prepare_threshold=5, info=SimpleNamespace(vendor="CockroachDB"))

    PsycopgDriver().connected(conn)

    assert conn.prepare_threshold == 5


# -- speed ----------------------------------------------------------------------------------------


def test_the_liveness_check_takes_microseconds(driver: Any, conn: Any) -> None:
    number = 2000
    best = min(_time(lambda: [driver.is_alive(conn) for _ in range(number)]) for _ in range(5))

    assert best / number < 20e-6, sys.version  # 1 us where nothing else runs


def _time(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
