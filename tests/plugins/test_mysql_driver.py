"""The MySQL plugin's drivers without a pool: what they are found for, URLs, errors, liveness, cursors.

`statements.py` is tested in `test_sql.py`'s manner elsewhere; cleaning in `test_mysql_clean.py`.
"""

from __future__ import annotations

import functools
import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import dirt_mysql
import pytest
import servers
from dirt_mysql import C_EXTENSION, DRIVERS, row, run

import dbapi_pool_mysql as plugin
from dbapi_pool import Pool, PoolSettingError
from dbapi_pool.drivers import registry
from dbapi_pool_mysql import faults, urls
from dbapi_pool_mysql.contexts import SharedContext, can_share
from dbapi_pool_mysql.driver import MySQLDriver

DRIVER_OF = {
    "pymysql": "PyMySQLDriver",
    "MySQLdb": "MySQLClientDriver",
    "mysql.connector": "ConnectorDriver",
    C_EXTENSION: "ConnectorDriver",
    "mariadb": "MariaDBDriver",
}


@pytest.fixture(params=DRIVERS)
def module(request: pytest.FixtureRequest) -> str:
    dirt_mysql.load(request.param)
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def server(mariadb_server: servers.Server) -> servers.Server:
    dirt_mysql.prepare(mariadb_server)
    return mariadb_server


class Opener:
    """Opens connections as a pool does, and closes them after the test."""

    def __init__(self, server: servers.Server) -> None:
        self.server = server
        self._open: list[tuple[Any, Any]] = []

    def __call__(self, module: str, tls: bool = False, **more: Any) -> tuple[MySQLDriver, Any]:
        driver = driver_for(module)
        kwargs = {**dirt_mysql.arguments(self.server, module, tls), **more}
        _, kwargs = driver.connect_arguments((), kwargs)
        conn = dirt_mysql.load(module).connect(**kwargs)
        self._open.append((driver, conn))
        driver.connected(conn)
        return driver, conn

    def close(self) -> None:
        for driver, conn in self._open:
            try:
                driver.close(conn)
            except Exception:
                assert driver.is_closed(conn) or not driver.is_alive(conn)


@pytest.fixture
def opener(server: servers.Server) -> Iterator[Opener]:
    opener = Opener(server)
    yield opener
    opener.close()


def driver_for(module: str) -> MySQLDriver:
    found = registry.find(dirt_mysql.load(module))
    assert isinstance(found, MySQLDriver)
    return found


def wait_until_dead(driver: MySQLDriver, conn: Any) -> None:
    servers.wait_for(lambda: not driver.is_alive(conn), 5)


# -- finding the driver ---------------------------------------------------------------------------


def test_no_driver_is_imported_with_the_plugin() -> None:
    code = (
        "import sys, dbapi_pool_mysql as p; p.dbapi_pool_driver(creator=dict, root='builtins');"
        "sys.exit(bool({'pymysql', 'MySQLdb', 'mysql', 'mariadb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_found_for_module_function_class_and_partial(module: str) -> None:
    dbapi = dirt_mysql.load(module)
    expected = getattr(plugin, DRIVER_OF[module])
    base = expected(creator=dbapi).connection_class

    mine = type("Mine", (base,), {})
    for creator in (dbapi, dbapi.connect, base, mine, functools.partial(dbapi.connect, host="h")):
        driver = registry.find(creator)
        assert type(driver) is expected
        assert driver.module is dbapi


@pytest.mark.parametrize(
    ("creator", "root"), [(object(), "psycopg2"), (dict, "builtins"), ("sqlite://", "sqlite")]
)
def test_it_leaves_others_alone(creator: object, root: str) -> None:
    assert plugin.dbapi_pool_driver(creator=creator, root=root) is None


def test_it_leaves_the_asynchronous_connector_alone() -> None:
    servers.driver_module("mysql.connector")
    from mysql.connector import aio

    assert plugin.dbapi_pool_driver(creator=aio, root="mysql") is None
    assert plugin.dbapi_pool_driver(creator=aio.connect, root="mysql") is None


# -- URLs -----------------------------------------------------------------------------------------

NAMES = {
    "pymysql": ("pymysql",),
    "MySQLdb": ("mysqldb", "mysqlclient"),
    "mysql.connector": ("mysqlconnector",),
    "mariadb": ("mariadbconnector", "mariadb"),
}


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "MySQL"])
@pytest.mark.parametrize("name", NAMES)
def test_a_url_names_its_driver(scheme: str, name: str) -> None:
    dbapi = dirt_mysql.load(name)
    for spelling in NAMES[name]:
        url = f"{scheme}+{spelling}://joe:p%40ss%2Fw%25rd@h:3307/d%20b"
        driver = registry.find(url)
        assert type(driver) is getattr(plugin, DRIVER_OF[name])

        connect, args, kwargs = driver.parse_url(url)

        assert connect is dbapi.connect
        assert args == ()
        assert kwargs == {
            "host": "h", "port": 3307, "user": "joe", "password": "p@ss/w%rd", "database": "d b",
        }  # fmt: skip


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_bare_url_takes_the_first_driver_there_is(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    there = {"pymysql", "MySQLdb", "mysql", "mariadb"}
    monkeypatch.setattr(urls, "_is_installed", lambda root: root in there)
    for root in ("pymysql", "MySQLdb", "mysql", "mariadb"):
        assert urls.root_for(scheme) == root
        there.remove(root)
    assert urls.root_for(scheme) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://h/d", "PyMySQL, mysqlclient, mysql-connector-python, mariadb"),
        ("mysql+mysqldb://h/d", "mysqlclient, which is not installed"),
        ("mariadb+mariadbconnector://h/d", "needs the package mariadb"),
    ],
)
def test_without_a_driver_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    monkeypatch.setattr(urls, "_is_installed", lambda root: False)
    with pytest.raises(PoolSettingError, match=words):
        Pool(url)


@pytest.mark.parametrize("query", ["target_session_attrs=master", "load_balance_hosts=yes"])
def test_unknown_wishes_about_hosts_are_refused(query: str) -> None:
    servers.driver_module("pymysql")
    with pytest.raises(PoolSettingError, match=f"{query}: must be one of"):
        Pool(f"mysql+pymysql://joe:secret@h1,h2:3307/d?{query}")


def test_a_wish_without_a_host_is_refused() -> None:
    servers.driver_module("pymysql")
    with pytest.raises(
        PoolSettingError, match="names no host, which target_session_attrs is about"
    ):
        Pool("mysql+pymysql://joe:secret@/d?unix_socket=%2Fs&target_session_attrs=primary")


QUERIES = [
    ("pymysql", "connect_timeout=2.5&read_timeout=3&charset=utf8mb4&autocommit=none&ssl_ca=%2Fca"
     "&ssl_verify_cert=true&ssl_verify_identity=no&unix_socket=%2Fs&local_infile=1",
     {"connect_timeout": 2.5, "read_timeout": 3.0, "charset": "utf8mb4", "autocommit": None,
      "ssl_ca": "/ca", "ssl_verify_cert": True, "ssl_verify_identity": False, "unix_socket": "/s",
      "local_infile": True}),
    ("MySQLdb", "connect_timeout=2&ssl_ca=%2Fca&ssl_key=%2Fk&ssl_verify_cert=1&autocommit=true",
     {"connect_timeout": 2, "ssl": {"ca": "/ca", "key": "/k"}, "ssl_mode": "VERIFY_CA",
      "autocommit": True}),
    ("MySQLdb", "ssl_verify_cert=1&ssl_verify_identity=1", {"ssl_mode": "VERIFY_IDENTITY"}),
    ("MySQLdb", "ssl_disabled=1", {"ssl_mode": "DISABLED"}),
    ("MySQLdb", "ssl_mode=required", {"ssl_mode": "REQUIRED"}),
    ("mysql.connector", "connection_timeout=2&use_pure=true&tls_versions=TLSv1.2,TLSv1.3"
     "&consume_results=on&time_zone=%2B00:00",
     {"connection_timeout": 2, "use_pure": True, "tls_versions": ["TLSv1.2", "TLSv1.3"],
      "consume_results": True, "time_zone": "+00:00"}),
    ("mariadb", "connect_timeout=2&ssl=true&ssl_verify_cert=false&default_group=x",
     {"connect_timeout": 2, "ssl": True, "ssl_verify_cert": False, "default_group": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "query", "expected"), QUERIES)
def test_keys_of_a_url_have_types(name: str, query: str, expected: dict[str, Any]) -> None:
    kwargs = driver_for(name).parse_url(f"mysql://h/d?{query}")[2]

    assert kwargs == {"host": "h", "database": "d", **expected}


@pytest.mark.parametrize(
    ("query", "words"),
    [("connect_timeout=soon", "'connect_timeout'"), ("ssl_verify_cert=maybe", "'ssl_verify_cert'"),
     ("nonsense=1", "unknown key 'nonsense'")],
)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_key_is_refused_by_name(name: str, query: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        driver_for(name).parse_url(f"mysql://joe:secret@h/d?{query}")


@pytest.mark.parametrize("name", NAMES)
def test_a_url_connects(server: servers.Server, name: str, tls: bool) -> None:
    dirt_mysql.load(name)
    with Pool(server.url(NAMES[name][0], tls=tls), max_size=1) as pool, pool.connection() as conn:
        assert row(conn, "SELECT DATABASE(), CURRENT_USER()") == ("pool", "pool@%")


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mysql.connector", "mariadb"])
def test_a_pool_within_the_pool_is_refused(name: str) -> None:
    with pytest.raises(PoolSettingError, match="pool_name='x'.*max_size"):
        Pool(dirt_mysql.load(name), host="h", pool_name="x")


def test_deferred_connections_are_refused() -> None:
    with pytest.raises(PoolSettingError, match="defer_connect=True"):
        Pool(dirt_mysql.load("pymysql"), host="h", defer_connect=True)


# -- alive ----------------------------------------------------------------------------------------


def test_a_connection_is_alive_until_it_is_killed(opener: Opener, module: str, tls: bool) -> None:
    driver, conn = opener(module, tls)
    assert driver.is_alive(conn)
    driver.ping(conn)
    assert driver.is_alive(conn)

    opener.server.kill_session(driver.session_id(conn))

    if module == C_EXTENSION:  # it cannot know
        with pytest.raises(Exception, match="available|Lost"):
            driver.ping(conn)
        return
    wait_until_dead(driver, conn)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which, each driver says in its own way)
        run(conn, "SELECT 1")
    assert driver.is_disconnect(caught.value, conn)
    assert not driver.is_alive(conn)


def test_a_closed_connection_is_dead(opener: Opener, module: str) -> None:
    driver, conn = opener(module)
    conn.close()

    assert not driver.is_alive(conn)
    assert driver.is_disconnect(Exception("whatever"), conn)


def test_liveness_takes_no_round_trip_and_a_microsecond_or_two(opener: Opener) -> None:
    driver, conn = opener("pymysql", True)
    with mock.patch.object(conn, "_execute_command", side_effect=AssertionError):
        assert driver.is_alive(conn)
    started = time.perf_counter()
    for _ in range(2000):
        driver.is_alive(conn)
    assert (time.perf_counter() - started) / 2000 < 50e-6


def test_a_ping_does_not_reconnect_and_leaves_no_transaction(opener: Opener, module: str) -> None:
    driver, conn = opener(module)
    driver.ping(conn)
    assert row(conn, "SELECT @@in_transaction") == (0,)
    before = driver.session_id(conn)

    opener.server.kill_session(before)

    with pytest.raises(Exception) as caught:  # noqa: PT011
        driver.ping(conn)
    assert driver.is_disconnect(caught.value, conn)
    assert opener.server.sessions() == 0 or before not in opener.server.session_ids()


def test_a_blocked_call_can_be_interrupted(opener: Opener, module: str, tls: bool) -> None:
    if module == C_EXTENSION:
        pytest.skip("the C extension shows no descriptor")
    driver, conn = opener(module, tls)
    failures: list[BaseException] = []

    def sleep() -> None:
        try:
            run(conn, "SELECT SLEEP(60)")
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=sleep)
    thread.start()
    servers.wait_for(lambda: "SLEEP" in str(opener.server.query("SHOW PROCESSLIST")), 5)
    started = time.monotonic()
    assert driver.interrupt(conn)
    assert time.monotonic() - started < 0.5
    thread.join(5)

    assert not thread.is_alive()
    assert [driver.is_disconnect(exc, conn) for exc in failures] == [True]


def test_an_interrupt_of_a_closed_connection_is_not_possible(opener: Opener, module: str) -> None:
    driver, conn = opener(module)
    conn.close()

    assert driver.interrupt(conn) is False


def test_mysql_connectors_socket_is_prompt(opener: Opener) -> None:
    _, conn = opener("mysql.connector")
    sock = conn._socket.sock

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_mariadbs_reconnect_is_switched_off(opener: Opener) -> None:
    _, conn = opener("mariadb", reconnect=True)

    assert conn.auto_reconnect is False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("end", ["close", "collect", "exit"])
def test_a_child_process_does_not_end_the_parents_session(
    opener: Opener, module: str, tls: bool, end: str
) -> None:
    if module == C_EXTENSION and end != "exit":
        pytest.skip("the C extension shows no descriptor: the pool keeps it for ever")
    driver, conn = opener(module, tls)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            driver.abandon_after_fork(conn)
            if end == "close":
                try:
                    conn.close()
                except Exception:
                    pass
            if end == "collect":
                opener._open.clear()
                del conn
                gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert row(conn, "SELECT 5") == (5,)
    assert driver.is_alive(conn)


# -- transactions ---------------------------------------------------------------------------------


def test_outside_autocommit_it_goes_by_what_was_seen(opener: Opener, module: str) -> None:
    driver, conn = opener(module)

    assert driver.in_transaction(conn) is None
    run(conn, "UPDATE t SET v = v WHERE id = 1")
    assert driver.in_transaction(conn) is None


def test_in_autocommit_mode_the_flag_is_enough(opener: Opener, module: str) -> None:
    driver, conn = opener(module, autocommit=True)
    unknown = None if module == "MySQLdb" else False
    steps = {
        "SELECT * FROM t": unknown,
        "UPDATE t SET v = v WHERE id = 1": unknown,
        "START TRANSACTION": unknown if unknown is None else True,
        "SELECT 1": unknown if unknown is None else True,
        "COMMIT": unknown,
    }
    for sql, expected in steps.items():
        run(conn, sql)
        assert driver.in_transaction(conn) is expected, sql


BEGINNINGS = [
    ("READ COMMITTED", None, {}, "READ COMMITTED"),
    ("read-uncommitted", None, {}, "READ UNCOMMITTED"),
    ("repeatable_read", None, {"consistent_snapshot": True}, "REPEATABLE READ"),
    ("serializable", False, {}, "SERIALIZABLE"),
]


def levels(server: servers.Server, opened: list[tuple[Any, Any]]) -> list[str]:
    """The isolation levels of transactions, as the server sees them."""
    for _, conn in opened:
        run(conn, "SELECT * FROM t LOCK IN SHARE MODE")
    time.sleep(0.2)  # for so long that table is a cache
    found = dict(
        server.query(
            "SELECT trx_mysql_thread_id, trx_isolation_level FROM information_schema.innodb_trx"
        )
    )
    return [found[driver.session_id(conn)] for driver, conn in opened]


def test_a_transaction_has_the_isolation_asked_for_and_the_next_has_not(
    opener: Opener, module: str
) -> None:
    opened = [opener(module, autocommit=mode) for mode in (True, False) for _ in BEGINNINGS]
    asked = BEGINNINGS * 2
    for (driver, conn), (isolation, readonly, options, _) in zip(opened, asked, strict=True):
        driver.begin(conn, isolation, readonly, options)
    assert levels(opener.server, opened) == [level for *_, level in asked]
    for driver, conn in opened:
        driver.rollback(conn)
        run(conn, "BEGIN")
    assert set(levels(opener.server, opened)) == {"REPEATABLE READ"}


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_read_only_transaction_refuses_to_write_and_the_next_does_not(
    opener: Opener, module: str, autocommit: bool
) -> None:
    driver, conn = opener(module, autocommit=autocommit)
    driver.begin(conn, None, True, {})
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(conn, "UPDATE t SET v = v WHERE id = 1")
    assert faults.code_of(caught.value) == 1792
    assert not driver.is_failover(caught.value, conn)
    driver.rollback(conn)

    run(conn, "UPDATE t SET v = v WHERE id = 1")
    driver.rollback(conn)


def test_what_was_not_used_is_not_left_for_the_next(opener: Opener, module: str) -> None:
    driver, conn = opener(module)
    driver.begin(conn, "SERIALIZABLE", True, {})
    driver.commit(conn)

    run(conn, "UPDATE t SET v = v WHERE id = 1")
    driver.rollback(conn)


@pytest.mark.parametrize(
    ("asked", "statements"),
    [
        ((False, None, None, {}), []),
        ((True, None, None, {}), ["START TRANSACTION"]),
        ((False, "SERIALIZABLE", None, {}), ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"]),
        ((False, None, False, {}), ["START TRANSACTION READ WRITE"]),
        ((True, "READ COMMITTED", True, {"consistent_snapshot": True}),
         ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
          "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]),
    ],
)  # fmt: skip
def test_no_more_statements_are_sent_than_needed(asked: Any, statements: list[str]) -> None:
    from dbapi_pool_mysql.session import beginning

    assert beginning(*asked) == statements


@pytest.mark.parametrize(
    ("isolation", "options", "words"),
    [("SNAPSHOT", {}, "isolation='SNAPSHOT'.*'SERIALIZABLE'"),
     (None, {"deferrable": True}, "deferrable=True.*consistent_snapshot")],
)  # fmt: skip
def test_what_mysql_does_not_have_is_refused(
    opener: Opener, isolation: str | None, options: dict[str, Any], words: str
) -> None:
    driver, conn = opener("pymysql")
    with pytest.raises(ValueError, match=words):
        driver.begin(conn, isolation, None, options)


# -- errors ---------------------------------------------------------------------------------------


def error(module: str, code: int, text: str = "text", kind: str = "OperationalError") -> Exception:
    errors = getattr(dirt_mysql.load(module), kind)
    if module.startswith("mysql.connector"):
        return errors(text, errno=code)  # type: ignore[no-any-return]
    if module == "mariadb":
        made = errors(text)
        made.errno = code
        return made  # type: ignore[no-any-return]
    return errors(code, text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("code", sorted(faults.LOST))
def test_lost_connections_are_known_by_code(opener: Opener, module: str, code: int) -> None:
    driver, conn = opener(module)

    assert driver.is_disconnect(error(module, code), conn)


@pytest.mark.parametrize("code", [1045, 1062, 1146, 1205, 1213, 1317, 1792, 1969, 1290, 1040])
def test_other_errors_leave_the_connection(opener: Opener, module: str, code: int) -> None:
    driver, conn = opener(module)

    assert not driver.is_disconnect(error(module, code, "syntax"), conn)


@pytest.mark.parametrize("exc", [
    SystemError("returned a result with an exception set"),
    AttributeError("'NoneType' object has no attribute 'read'"),
], ids=lambda exc: type(exc).__name__)  # fmt: skip
def test_a_strange_error_means_what_the_connection_says(
    opener: Opener, module: str, exc: Exception
) -> None:
    driver, conn = opener(module)
    assert not driver.is_disconnect(exc, conn)
    conn.close()
    assert driver.is_disconnect(exc, conn)


@pytest.mark.parametrize("exc", [
    Exception("MySQL Connection not available"),
    Exception("Connection to MySQL is not available"),
    Exception("Already closed"),
    Exception("Packet sequence number wrong - got 5 expected 1"),
    SimpleNamespace,
    ConnectionResetError(104, "reset"),
], ids=str)  # fmt: skip
def test_text_counts_last(exc: Any) -> None:
    if exc is SimpleNamespace:  # the C extension's own error, which is none of PEP 249's
        exc = type("MySQLInterfaceError", (Exception,), {"errno": 2013})("Lost")
    assert faults.is_lost(exc)


@pytest.mark.parametrize(("code", "again"), [
    (1040, True), (1203, True), (1226, True), (1129, True), (2002, True), (2003, True),
    (2006, True), (2013, True), (1053, True), (9001, True),
    (1045, False), (1044, False), (1049, False), (1130, False), (2005, False), (1862, False),
])  # fmt: skip
def test_which_connects_are_worth_another_try(module: str, code: int, again: bool) -> None:
    assert driver_for(module).is_transient(error(module, code)) is again


def refused(opener: Opener, module: str, **more: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        opener(module, **more)
    return caught.value


def test_a_refused_connect_is_transient_and_a_bad_password_is_not(
    opener: Opener, module: str
) -> None:
    driver = driver_for(module)
    nobody = refused(opener, module, port=servers.free_port())
    assert driver.is_transient(nobody)
    assert driver.is_server_wide(nobody)
    denied = refused(opener, module, password="wrong")
    assert not driver.is_transient(denied)
    assert not driver.is_server_wide(denied)
    database = {"db": "nowhere"} if module == "MySQLdb" else {"database": "nowhere"}
    assert not driver.is_transient(refused(opener, module, **database))


@pytest.mark.parametrize("name", ["pymysql", "mysql.connector"])
def test_a_certificate_that_does_not_verify_is_told_at_once(
    opener: Opener, name: str, tmp_path: Any
) -> None:
    trustme = pytest.importorskip("trustme")
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    exc = refused(opener, name, tls=True, ssl_ca=str(other))

    assert "certificate" in str(exc).lower()
    assert not driver_for(name).is_transient(exc)


@pytest.mark.parametrize("name", ["pymysql", "mysql.connector"])
def test_an_unknown_host_is_told_at_once(opener: Opener, name: str) -> None:
    exc = refused(opener, name, host="nobody.invalid")

    assert not driver_for(name).is_transient(exc)


@pytest.mark.parametrize("code", sorted(faults.RETRYABLE))
def test_which_transactions_are_worth_another_try(module: str, code: int) -> None:
    driver = driver_for(module)
    assert driver.is_retryable(error(module, code))
    assert not driver.is_retryable(error(module, 1062))
    driver.retryable = frozenset({1062})
    assert not driver.is_retryable(error(module, code))
    assert driver.is_retryable(error(module, 1062))


READ_ONLY = "The MariaDB server is running with the --read-only option so it cannot execute this"


@pytest.mark.parametrize(("code", "text", "failover"), [
    (1290, READ_ONLY, True),
    (1290, "The MySQL server is running with the --super-read-only option so", True),
    (1290, "The MySQL server is running with the --secure-file-priv option so", False),
    (1836, "Running in read-only mode", True),
    (1792, "Cannot execute statement in a READ ONLY transaction", False),
    (1047, "WSREP has not yet prepared node for application use", True),
    (1047, "Unknown command", False),
])  # fmt: skip
def test_a_server_that_became_read_only(
    opener: Opener, module: str, code: int, text: str, failover: bool
) -> None:
    driver, conn = opener(module)
    assert driver.is_failover(error(module, code, text), conn) is failover


def test_a_real_read_only_server(opener: Opener, module: str) -> None:
    driver, conn = opener(module)
    opener.server.query("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            run(conn, "UPDATE t SET v = v WHERE id = 1")
    finally:
        opener.server.query("SET GLOBAL read_only = 0")
    assert driver.is_failover(caught.value, conn)
    assert not driver.is_disconnect(caught.value, conn)


def test_a_shutdown_is_server_wide(module: str) -> None:
    assert driver_for(module).is_server_wide(error(module, 1053))
    assert not driver_for(module).is_server_wide(error(module, 1927))


# -- facts ----------------------------------------------------------------------------------------


def test_what_the_server_says(opener: Opener, module: str, tls: bool) -> None:
    driver, conn = opener(module, tls)
    facts = driver.server(conn)

    assert facts.product == "MariaDB"
    assert facts.version == opener.server.query("SELECT VERSION()")[0][0]
    assert facts.address == f"{opener.server.host}:{opener.server.port}"
    assert bool(facts.tls) is tls
    assert facts.max_connections == 120
    assert (facts.connections or 0) >= 1
    assert facts.idle_timeout == 28800
    assert facts.lock_timeout == 50
    assert facts.statement_timeout == 0
    assert facts.idle_in_transaction_timeout == 0
    assert facts.user_connections == 0
    assert facts.database_connections is None
    assert facts.extra_connections == 1
    assert facts.cores == os.cpu_count()
    assert facts.read_only is False
    assert facts.pooler is None
    assert row(conn, "SELECT @@in_transaction") == (0,)


def test_whose_sessions_are_open_is_told_without_a_privilege(opener: Opener, module: str) -> None:
    driver, conn = opener(module, False)
    user = opener.server.user
    listed = f"SELECT count(*) FROM information_schema.processlist WHERE user <> '{user}'"

    def others() -> int:
        return int(opener.server.query(listed)[0][0])

    # Sessions of tests before may be ending still.
    servers.wait_for(
        lambda: driver.server(conn).connections_of_others == others(), servers.START_PATIENCE
    )
    assert others() >= 1  # the administrator


def test_cores_are_told_only_where_the_server_has_counted_them() -> None:
    from dbapi_pool_mysql.server import describe

    def told(origin: str) -> int | None:
        def rows(sql: str) -> list[Any]:
            return [("12", origin)] if "SYSTEM_VARIABLES" in sql else [("version", "11-MariaDB")]

        return describe(rows, "h:3306").cores

    assert (told("AUTO"), told("CONFIG")) == (12, None)


def test_the_extra_port_of_mariadb_has_sessions_of_its_own() -> None:
    from dbapi_pool_mysql.server import describe

    def extra(port: str) -> int | None:
        found = [("version", "8.4"), ("extra_port", port), ("extra_max_connections", "3")]
        return describe(lambda sql: found, "h:3306").extra_connections

    assert (extra("0"), extra("3307")) == (1, 4)


def test_a_mysql_server_behind_proxysql() -> None:
    from dbapi_pool_mysql.server import describe

    answers = {
        "VARIABLES": [("version", "8.4.2"), ("version_comment", "(ProxySQL)"),
                      ("max_execution_time", "1500"), ("super_read_only", "ON")],
        "STATUS": [("Ssl_cipher", ""), ("Ssl_version", "")],
    }  # fmt: skip
    facts = describe(lambda sql: answers[sql.split()[2]], "h:3306")

    assert (facts.product, facts.version, facts.pooler) == ("MySQL", "8.4.2", "ProxySQL")
    assert facts.statement_timeout == 1.5
    assert facts.read_only is True
    assert facts.tls == ""


# -- one SSL context ------------------------------------------------------------------------------


def connections(pool: Pool, count: int) -> list[Any]:
    handles = [pool.connection() for _ in range(count)]
    raws = [handle.driver_connection for handle in handles]
    for handle in handles:
        handle.close()
    return raws


TLS_ARGUMENTS = [
    {},
    {"ssl": {}},
    {"ssl": {"ca": "CA"}},
    {"ssl": {"ca": "CA", "check_hostname": False}},
    {"ssl_ca": "CA"},
    {"ssl_ca": "CA", "ssl_verify_cert": True},
    {"ssl_ca": "CA", "ssl_verify_cert": True, "ssl_verify_identity": True},
    {"ssl_ca": "CA", "ssl_verify_cert": False},
    {"ssl_verify_cert": False},
]


@pytest.mark.parametrize("arguments", TLS_ARGUMENTS, ids=str)
def test_pymysql_shares_one_context_that_is_its_own(
    server: servers.Server, arguments: dict[str, Any]
) -> None:
    pymysql = dirt_mysql.load("pymysql")
    given = eval(repr(arguments).replace("'CA'", repr(server.ca_file)))
    plain = {k: v for k, v in server.arguments("pymysql").items() if k != "ssl_disabled"}
    with pymysql.connect(**plain, **given) as alone:
        own = alone.ctx if alone.ssl else None
        secure = alone._secure
        flags, required = alone.client_flag, getattr(alone, "_ssl_required", None)
    with Pool(pymysql, max_size=2, **plain, **given) as pool:
        first, second = connections(pool, 2)
        assert (first.ctx if first.ssl else None) is (second.ctx if second.ssl else None)
        assert first._secure is secure
        assert first.client_flag == flags
        assert getattr(first, "_ssl_required", None) is required
        if own is not None:
            for name in ("verify_mode", "check_hostname", "verify_flags", "options"):
                assert getattr(first.ctx, name) == getattr(own, name)
            assert first.ctx.cert_store_stats() == own.cert_store_stats()


def test_pymysqls_verification_is_not_weakened(server: servers.Server, tmp_path: Any) -> None:
    pymysql = dirt_mysql.load("pymysql")
    trustme = pytest.importorskip("trustme")
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    arguments = {**server.arguments("pymysql", tls=True), "ssl_ca": str(other)}

    with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        Pool(pymysql, min_size=1, **arguments)
    wrong_name = {**server.arguments("pymysql", tls=True), "host": "ip6-localhost.invalid"}
    with mock.patch.object(socket, "create_connection", _connect_to(server)):
        with pytest.raises(pymysql.OperationalError, match="mismatch"):
            Pool(pymysql, min_size=1, **wrong_name)


def _connect_to(server: servers.Server) -> Any:
    real = socket.create_connection
    return lambda address, *args, **kwargs: real((server.host, server.port), *args, **kwargs)


@pytest.mark.parametrize("asked", ["ssl_ca", "ssl"])
def test_pymysql_takes_paths_and_notices_when_they_change(
    server: servers.Server, tmp_path: Path, asked: str
) -> None:
    pymysql = dirt_mysql.load("pymysql")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(server.ca_file).read_bytes())
    shared = SharedContext(pymysql.Connection, {asked: ca if asked == "ssl_ca" else {"ca": ca}})
    before = shared._current()
    assert shared._current() is before
    ca.write_bytes(ca.read_bytes() + b"\n")
    assert shared._current() is not before


def test_nonsense_for_ssl_is_refused_by_pymysql_itself(server: servers.Server) -> None:
    pymysql = dirt_mysql.load("pymysql")
    plain = {k: v for k, v in server.arguments("pymysql").items() if k != "ssl_disabled"}
    with pytest.raises(Exception, match="bool") as native:
        pymysql.connect(ssl=True, **plain)
    with pytest.raises(type(native.value), match=str(native.value)):
        Pool(pymysql, min_size=1, ssl=True, **plain)


def test_a_client_certificate_that_the_server_refuses_is_told_at_once(
    server: servers.Server, tmp_path: Path
) -> None:
    pymysql = dirt_mysql.load("pymysql")
    trustme = pytest.importorskip("trustme")
    mine = trustme.CA().issue_cert("client")
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    arguments = server.arguments("pymysql", tls=True)
    arguments.update(ssl_cert=str(tmp_path / "cert.pem"), ssl_key=str(tmp_path / "key.pem"))
    with Pool(pymysql, max_size=1, **arguments) as pool:
        with pytest.raises(pymysql.OperationalError, match="UNKNOWN_CA"):
            pool.connection(timeout=5)


def test_a_required_tls_is_not_done_without(server: servers.Server) -> None:
    pymysql = dirt_mysql.load("pymysql")
    arguments = server.arguments("pymysql", tls=True)
    shared = SharedContext(pymysql.Connection, arguments)
    conn = pymysql.connect(**shared.arguments(arguments))
    real = conn._get_server_information

    def without_tls() -> None:
        real()
        conn.server_capabilities &= ~0x800

    conn._get_server_information = without_tls
    with pytest.raises(pymysql.OperationalError, match="SSL is required"):
        shared.open(conn)
    preferring = SharedContext(pymysql.Connection, {"host": "h"})
    plain = {k: v for k, v in server.arguments("pymysql").items() if k != "ssl_disabled"}
    conn = pymysql.connect(**preferring.arguments(plain))
    real = conn._get_server_information
    conn._get_server_information = without_tls
    preferring.open(conn)
    assert not conn._secure
    conn.close()


def test_a_users_own_context_is_left_alone(server: servers.Server) -> None:
    pymysql = dirt_mysql.load("pymysql")
    mine = ssl.create_default_context(cafile=server.ca_file)
    plain = {k: v for k, v in server.arguments("pymysql").items() if k != "ssl_disabled"}
    with Pool(pymysql, max_size=1, ssl=mine, **plain) as pool, pool.connection() as conn:
        assert conn.driver_connection.ctx is mine


def test_nothing_is_put_into_a_partial_that_may_hold_more(server: servers.Server) -> None:
    pymysql = dirt_mysql.load("pymysql")
    mine = ssl.create_default_context(cafile=server.ca_file)
    plain = {k: v for k, v in server.arguments("pymysql").items() if k != "ssl_disabled"}
    creator = functools.partial(pymysql.connect, ssl=mine)
    with Pool(creator, max_size=1, **plain) as pool, pool.connection() as conn:
        assert conn.driver_connection.ctx is mine


@pytest.mark.parametrize("kwargs", [
    {"host": "h", "ssl_disabled": True}, {"host": "h", "read_default_file": "my.cnf"},
    {"host": "h", "defer_connect": True},
    {"host": "h", "ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
], ids=lambda kwargs: ",".join(kwargs) or "none")  # fmt: skip
def test_when_nothing_is_shared(kwargs: dict[str, Any]) -> None:
    assert not can_share(kwargs)
    # It connects later, with an end.
    later = {"defer_connect": True, **kwargs}
    assert driver_for("pymysql").connect_arguments((), kwargs) == ((), later)


def test_a_changed_certificate_file_makes_a_new_context(
    server: servers.Server, tmp_path: Any
) -> None:
    pymysql = dirt_mysql.load("pymysql")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(server.ca_file).read_bytes())
    arguments = {**server.arguments("pymysql", tls=True), "ssl_ca": str(ca)}
    with Pool(pymysql, max_size=1, **arguments) as pool:
        with pool.connection() as conn:
            before = conn.driver_connection.ctx
        pool.drain()
        with pool.connection() as conn:
            assert conn.driver_connection.ctx is before
        ca.write_bytes(ca.read_bytes() + b"\n")
        pool.drain()
        with pool.connection() as conn:
            assert conn.driver_connection.ctx is not before


@pytest.mark.parametrize("arguments", [{}, {"tls": True}], ids=["preferred", "verified"])
def test_pymysql_makes_its_context_once(opener: Opener, arguments: dict[str, Any]) -> None:
    """Loading the CA bundle into one takes more than ten times as long as all the rest."""
    if arguments:
        given = opener.server.arguments("pymysql", tls=True)
    else:
        given = opener.server.arguments("pymysql")
        del given["ssl_disabled"]
    driver = driver_for("pymysql")
    _, kwargs = driver.connect_arguments((), given)
    loads = mock.Mock(wraps=ssl.create_default_context)
    with mock.patch.object(ssl, "create_default_context", loads):
        for _ in range(5):
            conn = dirt_mysql.load("pymysql").connect(**kwargs)
            driver.connected(conn)
            conn.close()
    by_default = dirt_mysql.load("pymysql").Connection(defer_connect=True).ssl  # from version 1.2
    assert loads.call_count == (1 if arguments or by_default else 0)


def test_its_connect_function_and_a_partial_of_that_share_one_too(server: servers.Server) -> None:
    connect = dirt_mysql.load("pymysql").connect
    arguments = server.arguments("pymysql", tls=True)
    for creator in (connect, functools.partial(connect, **arguments)):
        given = arguments if creator is connect else {}
        with Pool(creator, max_size=2, **given) as pool:
            with pool.connection() as one, pool.connection() as other:
                assert one.driver_connection.ctx is other.driver_connection.ctx


# -- cursors --------------------------------------------------------------------------------------


CURSORS: dict[str, list[tuple[str, Any]]] = {
    "pymysql": [
        (name, lambda m, c, name=name: c.cursor(getattr(m.cursors, name)))
        for name in ("Cursor", "DictCursor", "SSCursor", "SSDictCursor")
    ]
    + [("Cursor", lambda m, c: c.cursor()), ("DictCursor", lambda m, c: c.cursor(
        cursor=m.cursors.DictCursor))],
    "MySQLdb": [
        (name, lambda m, c, name=name: c.cursor(getattr(m.cursors, name)))
        for name in ("Cursor", "DictCursor", "SSCursor", "SSDictCursor")
    ]
    + [("Cursor", lambda m, c: c.cursor()), ("DictCursor", lambda m, c: c.cursor(
        cursorclass=m.cursors.DictCursor))],
    "mysql.connector": [
        ("MySQLCursor", lambda m, c: c.cursor()),
        ("MySQLCursorBuffered", lambda m, c: c.cursor(buffered=True)),
        ("MySQLCursorRaw", lambda m, c: c.cursor(raw=True)),
        ("MySQLCursorBufferedRaw", lambda m, c: c.cursor(buffered=True, raw=True)),
        ("MySQLCursorDict", lambda m, c: c.cursor(dictionary=True)),
        ("MySQLCursorBufferedDict", lambda m, c: c.cursor(True, dictionary=True)),
        ("MySQLCursorPrepared", lambda m, c: c.cursor(prepared=True)),
        ("MySQLCursorPreparedDict", lambda m, c: c.cursor(prepared=True, dictionary=True)),
        ("MySQLCursorBuffered",
         lambda m, c: c.cursor(cursor_class=m.cursor.MySQLCursorBuffered)),
        ("MySQLCursor", lambda m, c: c.cursor(read_timeout=5, write_timeout=5)),
    ],
    "mariadb": [
        ("Cursor", lambda m, c: c.cursor()),
        ("Cursor", lambda m, c: c.cursor(dictionary=True)),
        ("Cursor", lambda m, c: c.cursor(named_tuple=True)),
        ("Cursor", lambda m, c: c.cursor(buffered=False)),
        ("Cursor", lambda m, c: c.cursor(prepared=True)),
        ("Cursor", lambda m, c: c.cursor(binary=True)),
        ("Cursor", lambda m, c: c.cursor(m.cursors.Cursor, dictionary=True)),
        ("Cursor", lambda m, c: c.cursor(cursorclass=m.cursors.Cursor)),
    ],
}  # fmt: skip
CURSORS[C_EXTENSION] = [(f"C{name}", make) for name, make in CURSORS["mysql.connector"][:8]]

EVERY_CURSOR = [
    pytest.param(module, name, make, id=f"{module}-{number}-{name}")
    for module, kinds in CURSORS.items()
    for number, (name, make) in enumerate(kinds)
]


@pytest.mark.parametrize(("module", "name", "make"), EVERY_CURSOR)
def test_native_cursor_classes_survive(
    server: servers.Server, module: str, name: str, make: Any
) -> None:
    dbapi = dirt_mysql.load(module)
    raw = dbapi.connect(**dirt_mysql.arguments(server, module))
    native = make(dbapi, raw)
    sql = "SELECT id, v + 1 AS w FROM t WHERE id = %s"
    native.execute(sql, (2,))
    expected = native.fetchall()
    native.close()
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        cursor = make(dbapi, conn)

        assert isinstance(cursor, type(native))
        assert type(cursor).__name__ == name == type(native).__name__
        cursor.execute(sql, (2,))
        assert cursor.fetchall() == expected
        if hasattr(native, "connection"):
            assert cursor.connection is conn
        work = conn._lease.member.work
        assert work is not None
        assert not work.session, "the driver's own code went through the fence"
        conn.close()

        with pytest.raises(dbapi.InterfaceError):
            cursor.execute(sql, (2,))
        with pool.connection() as conn:
            assert row(conn, "SELECT 1") == (1,)
    raw.close()


def test_everything_on_a_cursor_works(server: servers.Server, module: str) -> None:
    dbapi = dirt_mysql.load(module)
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        with pool.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("CREATE TEMPORARY TABLE c (x INT AUTO_INCREMENT PRIMARY KEY, y INT)")
            cursor.executemany("INSERT INTO c (y) VALUES (%s)", [(i,) for i in range(5)])
            assert cursor.rowcount == 5
            cursor.execute("SELECT y FROM c ORDER BY x")
            assert cursor.fetchone() == (0,)
            assert [tuple(r) for r in cursor.fetchmany(2)] == [(1,), (2,)]
            assert [tuple(r) for r in cursor] == [(3,), (4,)]
            cursor.execute("INSERT INTO c (y) VALUES (9)")
            last = cursor.lastrowid
            assert row(conn, "SELECT MAX(x) FROM c") == (last,)
            cursor.callproc("sets_variable")
            cursor.close()
            with conn.cursor() as cursor:
                cursor.execute("SELECT @called")
                assert list(cursor.fetchall()) == [(1,)]


def base_cursor(module: str) -> Any:
    dbapi = dirt_mysql.load(module)
    if module.startswith("mysql.connector"):
        import mysql.connector.cursor as pure

        return pure.MySQLCursor
    return dbapi.cursors.DictCursor if module in ("pymysql", "MySQLdb") else dbapi.cursors.Cursor


def test_a_users_own_cursor_class_works(server: servers.Server, module: str) -> None:
    if module == C_EXTENSION:
        pytest.skip("as the pure one")
    seen: list[Any] = []

    class Mine(base_cursor(module)):  # type: ignore[misc]
        def execute(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append((sql, getattr(self, "connection", None)))
            return super().execute(sql, *args, **kwargs)

    dbapi = dirt_mysql.load(module)
    name = "cursor_class" if module == "mysql.connector" else None
    with Pool(dbapi, max_size=1, **server.arguments(module)) as pool:
        conn = pool.connection()
        cursor = conn.cursor(**{name: Mine}) if name else conn.cursor(Mine)
        cursor.execute("SELECT 5 AS x")
        assert list(cursor.fetchall()) in ([(5,)], [{"x": 5}])
        assert isinstance(cursor, Mine)
        assert seen == [("SELECT 5 AS x", None if name else conn)]
        conn.close()


@pytest.mark.parametrize("kind", ["default", "unbuffered"])
def test_methods_and_iterators_that_were_kept_give_nothing(
    server: servers.Server, module: str, kind: str
) -> None:
    dbapi = dirt_mysql.load(module)
    args, kwargs = dirt_mysql.unbuffered(module) if kind == "unbuffered" else ((), {})
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        cursor = conn.cursor(*args, **kwargs)
        cursor.execute("SELECT id FROM many WHERE id < 20")
        cursor.fetchone()
        rows = iter(cursor)
        next(rows)
        kept = [cursor.fetchone, cursor.fetchmany, cursor.fetchall, rows.__next__]
        conn.close()

        with pool.connection() as other:
            for method in kept:
                with pytest.raises((dbapi.InterfaceError, dbapi.ProgrammingError)):
                    method()
            assert row(other, "SELECT 1") == (1,)


def test_a_users_finalizer_still_runs(server: servers.Server) -> None:
    for name in ("pymysql", "MySQLdb"):
        dbapi = dirt_mysql.load(name)
        ended: list[str] = []

        class Mine(dbapi.cursors.SSCursor):  # type: ignore[misc, name-defined]
            def __del__(self, name: str = name, ended: list[str] = ended) -> None:
                ended.append(name)

        with Pool(dbapi, max_size=1, **server.arguments(name)) as pool:
            with pool.connection() as conn:
                conn.cursor(Mine)
            cursor = None
            with pool.connection() as conn:
                cursor = conn.cursor(Mine)
            del cursor
            gc.collect()
        assert ended == [name, name]


def test_the_connections_own_cursorclass_counts(server: servers.Server) -> None:
    for name in ("pymysql", "MySQLdb"):
        dbapi = dirt_mysql.load(name)
        kwargs = {**server.arguments(name), "cursorclass": dbapi.cursors.DictCursor}
        with Pool(dbapi, max_size=1, **kwargs) as pool, pool.connection() as conn:
            with conn.cursor() as cursor:
                cursor.execute("SELECT 5 AS x")
                assert list(cursor.fetchall()) == [{"x": 5}]


def test_a_cursor_of_mysql_connector_does_not_ping(server: servers.Server) -> None:
    dbapi = dirt_mysql.load("mysql.connector")
    with Pool(dbapi, max_size=1, **server.arguments("mysql.connector")) as pool:
        with pool.connection() as conn:
            raw = conn.driver_connection
            with mock.patch.object(raw, "cmd_ping", side_effect=AssertionError):
                conn.cursor().close()


@pytest.mark.parametrize(("kwargs", "kind"), [
    ({"raw": True, "dictionary": True}, ValueError),
    ({"nonsense": 1}, TypeError),
    ({"read_timeout": -1}, Exception),
    ({"cursor_class": dict}, Exception),
], ids=str)  # fmt: skip
def test_bad_arguments_of_cursor_raise_what_the_driver_raises(
    server: servers.Server, kwargs: dict[str, Any], kind: type[Exception]
) -> None:
    dbapi = dirt_mysql.load("mysql.connector")
    raw = dbapi.connect(**server.arguments("mysql.connector"))
    with pytest.raises(kind) as native:
        raw.cursor(**kwargs)
    raw.close()
    with Pool(dbapi, max_size=1, **server.arguments("mysql.connector")) as pool:
        with pool.connection() as conn, pytest.raises(kind) as ours:
            conn.cursor(**kwargs)
    assert type(ours.value) is type(native.value)
    assert str(ours.value) == str(native.value)


# -- the handle -----------------------------------------------------------------------------------


def test_a_borrowed_connection_does_not_reconnect(server: servers.Server, module: str) -> None:
    dbapi = dirt_mysql.load(module)
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        run(conn, "UPDATE t SET v = 77 WHERE id = 1")
        conn.ping(True)
        server.kill_session(pool.driver.session_id(conn._lease.member.conn))
        with pytest.raises(dbapi.Error):
            conn.ping(True)
        if module != "MySQLdb":
            for name in ("connect", "reconnect"):
                with pytest.raises(dbapi.NotSupportedError, match="does not reconnect"):
                    getattr(conn, name)()
        conn.close()
        with pool.connection() as conn:
            assert row(conn, "SELECT v FROM t WHERE id = 1") == (10,)
